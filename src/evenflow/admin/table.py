"""The route table of the HTTP interface."""

from typing import Any

from evenflow.admin import shapes
from evenflow.admin.access import Role
from evenflow.admin.handlers import (
    audit,
    backends,
    breakers,
    certificates,
    config,
    debug,
    discovery,
    docs,
    health,
    keys,
    metrics,
    operate,
    stats,
)
from evenflow.admin.operations import Answer, Operation, Parameter
from evenflow.admin.pieces import operations_of
from evenflow.config import Backend, Config
from evenflow.controller import MODELS

_ADMIN = "/api/v1/admin"

_IF_MATCH = Parameter(
    "If-Match",
    "The `ETag` of what was read; 412 if the configuration has changed since.",
    {"type": "string", "example": '"7"'},
    "header",
)
_DURATION = {"type": "string", "example": "30s"}
_WHOLE = {"type": "integer", "minimum": 0}
_DEBUG = Parameter("debug", "`1` answers text for a reader.", {"type": "string", "enum": ["1"]})
_SECONDS = Parameter("seconds", "How long to look, at most 120.", _DURATION)
_PROFILE = {200: Answer("The profile, gzipped.", media_type="application/octet-stream")}

METRICS = Operation(
    "GET",
    "/metrics",
    metrics.metrics,
    "The metrics page",
    "metrics",
    Role.READ,
    {200: Answer("Prometheus text, or OpenMetrics by `Accept`.", media_type="text/plain")},
    description="The path is `metrics.path` of the configuration.",
)

_HEALTH = (
    Operation(
        "GET",
        "/health",
        health.health,
        "Whether requests can be served",
        "health",
        None,
        {
            200: Answer("At least one backend is usable.", shapes.Health),
            503: Answer("No backend is usable.", shapes.Health),
        },
    ),
    Operation(
        "GET",
        "/health/live",
        health.live,
        "Whether the process answers",
        "health",
        None,
        {200: Answer("It does.", shapes.Live)},
    ),
    Operation(
        "GET",
        "/health/ready",
        health.ready,
        "Whether the balancer should be given traffic",
        "health",
        None,
        {200: Answer("It should.", shapes.Ready), 503: Answer("Not now.", shapes.Ready)},
    ),
    Operation(
        "GET",
        "/api/v1/health",
        health.detailed,
        "Health with traffic and every backend",
        "health",
        Role.READ,
        {
            200: Answer("At least one backend is usable.", shapes.DetailedHealth),
            503: Answer("No backend is usable.", shapes.DetailedHealth),
        },
    ),
)

_BACKENDS = (
    Operation(
        "GET",
        f"{_ADMIN}/backends",
        backends.list_backends,
        "List all backends",
        "api",
        Role.READ,
        {200: Answer("The backends.", shapes.BackendList)},
    ),
    Operation(
        "POST",
        f"{_ADMIN}/backends",
        backends.add_backend,
        "Add a backend",
        "api",
        Role.OPERATE,
        {201: Answer("It is in effect.", shapes.AppliedBackend)},
        description="Besides a backend's fields, `pool` names the pool it joins.",
        body=Backend,
        parameters=(_IF_MATCH,),
        errors=(409,),
    ),
    Operation(
        "POST",
        f"{_ADMIN}/backends/restore",
        backends.restore_backends,
        "Replace all backends",
        "api",
        Role.OPERATE,
        {200: Answer("They are in effect.", shapes.Restored)},
        description="Takes what `GET /api/v1/admin/backends` printed.",
        body=shapes.Restore,
        parameters=(_IF_MATCH,),
    ),
    Operation(
        "GET",
        f"{_ADMIN}/backends/{{id}}",
        backends.get_backend,
        "Show a backend",
        "api",
        Role.READ,
        {200: Answer("The backend.", shapes.BackendView)},
        errors=(404,),
    ),
    Operation(
        "PATCH",
        f"{_ADMIN}/backends/{{id}}",
        backends.update_backend,
        "Change a backend",
        "api",
        Role.OPERATE,
        {200: Answer("The change is in effect.", shapes.AppliedBackend)},
        description="A merge patch (RFC 7396): weight, drain, limits, …",
        body=dict[str, Any],
        parameters=(_IF_MATCH,),
        errors=(404,),
    ),
    Operation(
        "DELETE",
        f"{_ADMIN}/backends/{{id}}",
        backends.remove_backend,
        "Remove a backend",
        "api",
        Role.OPERATE,
        {200: Answer("It gets no more requests.", shapes.Applied)},
        parameters=(_IF_MATCH,),
        errors=(404,),
    ),
    Operation(
        "POST",
        f"{_ADMIN}/backends/{{id}}/drain",
        backends.drain_backend,
        "Drain a backend",
        "api",
        Role.OPERATE,
        {200: Answer("It gets no more requests.", shapes.Drain)},
        description='Undo with `PATCH` and `{"drain": false}`.',
        parameters=(
            _IF_MATCH,
            Parameter("wait", "Wait this long, at most 240s, until it is empty.", _DURATION),
        ),
        errors=(404,),
    ),
)

_HOLD = "`open` and `closed` hold it so until `automatic`, over a restart too."
_BREAKERS = (
    Operation(
        "PUT",
        f"{_ADMIN}/backends/{{id}}/breaker",
        breakers.put_backend_breaker,
        "Hold a backend's circuit breaker open or closed",
        "api",
        Role.OPERATE,
        {200: Answer("It is so.", shapes.BackendBreaker)},
        description=_HOLD,
        body=shapes.SetBreaker,
        errors=(404, 409),
    ),
    Operation(
        "GET",
        f"{_ADMIN}/pools/{{name}}/breaker",
        breakers.get_pool_breaker,
        "Show a pool's circuit breakers",
        "api",
        Role.READ,
        {200: Answer("The pool's own and those of its backends.", shapes.PoolBreaker)},
        errors=(404,),
    ),
    Operation(
        "PUT",
        f"{_ADMIN}/pools/{{name}}/breaker",
        breakers.put_pool_breaker,
        "Hold a pool's own circuit breaker open or closed",
        "api",
        Role.OPERATE,
        {200: Answer("It is so.", shapes.PoolBreaker)},
        description=_HOLD,
        body=shapes.SetBreaker,
        errors=(404, 409),
    ),
)

_CONFIG = (
    Operation(
        "GET",
        f"{_ADMIN}/config",
        config.get_config,
        "Show the configuration",
        "api",
        Role.READ,
        {200: Answer("The configuration, secrets as `***`.", Config), 304: Answer("Unchanged.")},
        parameters=(
            Parameter("expanded", "`true` prints the full form.", {"type": "boolean"}),
            Parameter("If-None-Match", "An `ETag`.", {"type": "string"}, "header"),
        ),
    ),
    Operation(
        "PUT",
        f"{_ADMIN}/config",
        config.put_config,
        "Replace the configuration, or merge a part of one",
        "api",
        Role.ADMIN,
        {200: Answer("It is in effect.", shapes.Applied)},
        description="A document with all the sections `GET` prints replaces the configuration; "
        "any other is merged into it (RFC 7396). `***` keeps a secret.",
        body=Config,
        parameters=(_IF_MATCH,),
    ),
    Operation(
        "PATCH",
        f"{_ADMIN}/config",
        config.patch_config,
        "Merge into the configuration",
        "api",
        Role.ADMIN,
        {200: Answer("It is in effect.", shapes.Applied)},
        description="A merge patch (RFC 7396): `null` takes a setting back to its default.",
        body=dict[str, Any],
        parameters=(_IF_MATCH,),
    ),
    Operation(
        "POST",
        f"{_ADMIN}/config/diff",
        config.diff_config,
        "What `PUT` of this document would change",
        "api",
        Role.OPERATE,
        {200: Answer("The differences; nothing was changed.", shapes.Diff)},
        body=Config,
        dry=True,
    ),
    Operation(
        "GET",
        f"{_ADMIN}/config/history",
        config.get_history,
        "The revisions that are kept",
        "api",
        Role.READ,
        {200: Answer("Newest first.", shapes.History)},
    ),
    Operation(
        "POST",
        f"{_ADMIN}/config/rollback",
        config.rollback_config,
        "Go back to an earlier revision",
        "api",
        Role.ADMIN,
        {200: Answer("It is in effect, as a new revision.", shapes.Applied)},
        description="Without a body, to the one before.",
        body=shapes.Rollback,
        parameters=(_IF_MATCH,),
        errors=(404,),
    ),
)

_PIECES = tuple(operation for kind in MODELS for operation in operations_of(kind, _IF_MATCH))

_OPERATE = (
    Operation(
        "GET",
        f"{_ADMIN}/stats",
        stats.get_stats,
        "Numbers since the start",
        "api",
        Role.READ,
        {200: Answer("The numbers.", shapes.Stats)},
    ),
    Operation(
        "GET",
        f"{_ADMIN}/decisions",
        stats.get_decisions,
        "The last decisions and their reasons",
        "api",
        Role.READ,
        {200: Answer("Oldest first.", shapes.DecisionList)},
        parameters=(
            Parameter("limit", "At most so many of the newest; 100 when absent.", _WHOLE),
            Parameter("since", "Only those after this id.", _WHOLE),
            Parameter("kind", "Only this kind.", {"type": "string", "example": "health"}),
        ),
    ),
    Operation(
        "GET",
        f"{_ADMIN}/audit",
        audit.get_audit,
        "Every change and who made it",
        "api",
        Role.READ,
        {200: Answer("Newest first.", shapes.AuditPage)},
        parameters=(
            Parameter("limit", "At most so many, 1 to 1000; 100 when absent.", _WHOLE),
            Parameter("before", "Only those before this number.", _WHOLE),
        ),
    ),
    Operation(
        "GET",
        f"{_ADMIN}/events",
        stats.stream_events,
        "Decisions as they are made",
        "api",
        Role.READ,
        {200: Answer("Server-sent events without end.", media_type="text/event-stream")},
        parameters=(
            Parameter("since", "First those after this id; 0 is all that are kept.", _WHOLE),
            Parameter("Last-Event-ID", "The same.", {"type": "string"}, "header"),
        ),
    ),
    Operation(
        "POST",
        f"{_ADMIN}/explain",
        operate.explain,
        "Where a request would go, and why",
        "api",
        Role.READ,
        {200: Answer("The explanation; nothing was sent.", shapes.ExplanationView)},
        body=shapes.ExplainBody,
    ),
    Operation(
        "POST",
        f"{_ADMIN}/reload",
        operate.reload,
        "Read file and environment again",
        "api",
        Role.OPERATE,
        {200: Answer("What changed there is in effect.", shapes.Applied)},
        parameters=(_IF_MATCH,),
    ),
    Operation(
        "GET",
        f"{_ADMIN}/log-level",
        operate.get_log_level,
        "The log level",
        "api",
        Role.READ,
        {200: Answer("The level.", shapes.LogLevel)},
    ),
    Operation(
        "PUT",
        f"{_ADMIN}/log-level",
        operate.put_log_level,
        "Change the log level",
        "api",
        Role.OPERATE,
        {200: Answer("It is in effect.", shapes.LogLevel)},
        body=shapes.LogLevel,
        parameters=(_IF_MATCH,),
    ),
)

_DOCS = (
    Operation(
        "GET",
        "/openapi.json",
        docs.openapi,
        "This document",
        "docs",
        Role.READ,
        {200: Answer("OpenAPI 3.0.3.", dict[str, Any])},
    ),
    Operation(
        "GET",
        "/docs/",
        docs.page,
        "This document as a page",
        "docs",
        Role.READ,
        {200: Answer("Swagger UI.", media_type="text/html")},
    ),
    Operation(
        "GET",
        "/docs/{name}",
        docs.page,
        "A file of the page",
        "docs",
        Role.READ,
        {200: Answer("The file.", media_type="text/javascript")},
        errors=(404,),
    ),
    Operation(
        "GET",
        "/docs",
        docs.redirect,
        "Leads to `/docs/`",
        "docs",
        Role.READ,
        {308: Answer("To `/docs/`.", media_type="text/plain")},
    ),
)

_DEBUGGING = (
    Operation(
        "GET",
        "/debug/pprof/",
        debug.index,
        "Which profiles there are",
        "debug",
        Role.OPERATE,
        {200: Answer("A list.", media_type="text/plain")},
    ),
    Operation(
        "GET",
        "/debug/pprof/profile",
        debug.cpu,
        "CPU time by stack",
        "debug",
        Role.OPERATE,
        _PROFILE,
        parameters=(_SECONDS, _DEBUG),
        errors=(409,),
    ),
    Operation(
        "GET",
        "/debug/pprof/heap",
        debug.heap,
        "Memory in use",
        "debug",
        Role.OPERATE,
        _PROFILE,
        description="By type; with `seconds`, by the stacks that allocated meanwhile.",
        parameters=(_SECONDS, _DEBUG),
    ),
    Operation(
        "GET",
        "/debug/pprof/goroutine",
        debug.tasks,
        "Tasks and threads",
        "debug",
        Role.OPERATE,
        _PROFILE,
        parameters=(_DEBUG,),
    ),
    Operation(
        "GET",
        "/debug/pprof/tasks",
        debug.tasks,
        "Tasks and threads, by their own name",
        "debug",
        Role.OPERATE,
        _PROFILE,
        parameters=(_DEBUG,),
    ),
)

_KEYS = (
    Operation(
        "GET",
        f"{_ADMIN}/filters/{{name}}/keys",
        keys.get_filter_keys,
        "Show the keys of a filter for tokens",
        "api",
        Role.READ,
        {200: Answer("The keys in use, and how the last refresh went.", shapes.FilterKeys)},
        errors=(404,),
    ),
)

_DISCOVERY = (
    Operation(
        "GET",
        f"{_ADMIN}/discovery",
        discovery.list_sources,
        "List the sources of discovered endpoints",
        "api",
        Role.READ,
        {200: Answer("All sources and how they are.", shapes.DiscoveryList)},
    ),
)

_CERTIFICATES = (
    Operation(
        "GET",
        f"{_ADMIN}/certificates",
        certificates.list_certificates,
        "List the certificates",
        "api",
        Role.READ,
        {200: Answer("Those in force, without their keys.", shapes.CertificateList)},
    ),
    Operation(
        "GET",
        f"{_ADMIN}/certificates/{{name}}",
        certificates.get_certificate,
        "Show a certificate",
        "api",
        Role.READ,
        {200: Answer("The certificate, without its key.", shapes.CertificateView)},
        errors=(404,),
    ),
    Operation(
        "PUT",
        f"{_ADMIN}/certificates/{{name}}",
        certificates.put_certificate,
        "Add or renew a certificate",
        "api",
        Role.ADMIN,
        {
            200: Answer("The new pair is shown from now on.", shapes.AppliedCertificate),
            201: Answer("There is such a certificate now.", shapes.AppliedCertificate),
        },
        description="The pair is kept in the state folder; the configuration names its files.",
        body=shapes.PutCertificate,
        parameters=(_IF_MATCH,),
    ),
    Operation(
        "POST",
        f"{_ADMIN}/certificates/{{name}}/renew",
        certificates.renew_certificate,
        "Order a certificate anew",
        "api",
        Role.OPERATE,
        {202: Answer("It is ordered, or was while this waited.", shapes.CertificateView)},
        description="For certificates with `acme`. An order under way is waited for, not doubled.",
        parameters=(
            Parameter("wait", "Wait this long, at most 240s, for the end of the order.", _DURATION),
        ),
        errors=(404, 409),
    ),
)

OPERATIONS = (
    *_HEALTH,
    METRICS,
    *_BACKENDS,
    *_BREAKERS,
    *_CONFIG,
    *_PIECES,
    *_KEYS,
    *_DISCOVERY,
    *_CERTIFICATES,
    *_OPERATE,
    *_DOCS,
    *_DEBUGGING,
)
