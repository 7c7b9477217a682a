"""The sections of the configuration that know nothing of each other.

Models are frozen and refuse unknown keys. A field here always has an effect: what the engine
cannot do has no field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .base import Model
from .hashes import PasswordHash, TokenSecret
from .jwt import JwtAuth, Realm
from .targets import parse_listen
from .tls import ServerTls
from .types import (
    AddedName,
    AddedTexts,
    Duration,
    EscapedSlashes,
    FieldName,
    Fields,
    FieldValue,
    Items,
    Listed,
    Name,
    Network,
    OnClientClose,
    RequestKeyText,
    Secret,
    SetFields,
    Share,
    Size,
)


def parse_status_range(value: object) -> int | str:
    """A status or a range such as `200-299`; ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    elif isinstance(value, str):
        first, _, last = value.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or value.endswith("-"):
            raise ValueError(f"expected a status or a range such as 200-299, got {value!r}")
        low, high = int(first), int(last or first)
    else:
        raise ValueError(f"expected a status or a range such as 200-299, got {value!r}")
    if not 100 <= low <= high <= 599:
        raise ValueError(f"expected statuses from 100 to 599, got {value!r}")
    return value


StatusRange = Annotated[int | str, BeforeValidator(parse_status_range)]
ListenAddress = Annotated[str, AfterValidator(parse_listen)]
UrlPath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=4096)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Timeout = Annotated[Duration, Field(ge=0.001)]
CheckKind = Literal["auto", "http", "tcp", "tls", "dns", "postgresql", "mysql", "redis"]
CredentialText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
Prefix = Annotated[int, Field(ge=1, le=128)]
ExposedGroup = Literal["health", "metrics", "docs", "api", "debug", "dashboard"]


def parse_log_level(value: object) -> object:
    """Levels in any case, and `warning` for `warn`."""
    if not isinstance(value, str):
        return value
    return {"warning": "warn"}.get(value.lower(), value.lower())


LogLevel = Annotated[Literal["debug", "info", "warn", "error"], BeforeValidator(parse_log_level)]


class HealthCheck(Model):
    """How backends are probed. A pool or backend overrides single fields of it."""

    enabled: bool = Field(default=True, description="Without probes a backend counts as healthy.")
    kind: CheckKind = Field(
        default="auto",
        description="auto: tls, postgresql, mysql and redis for backends of these schemes, none for udp, "
        "tcp (connects only) for other streams, http for all others.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Checked instead of the backend's own port."
    )
    interval: Annotated[Duration, Field(ge=0.05)] = Field(
        default=30.0, description="From check to check."
    )
    timeout: Timeout = Field(default=5.0, description="Of one check.")
    healthy_threshold: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=2, description="Successes in a row that bring a backend back."
    )
    unhealthy_threshold: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3, description="Failures in a row that take a backend out."
    )
    path: UrlPath = Field(default="/health", description="The target of the request.")
    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"
    host: FieldValue | None = Field(
        default=None, description="`Host`; the backend's own when absent."
    )
    headers: Fields = Field(default_factory=dict)
    expect_status: Items[StatusRange] = Field(
        default=("200-299",), description="Statuses and ranges that count as healthy."
    )
    expect_body: str | None = Field(default=None, description="Text the body must contain.")
    user: CredentialText | None = Field(
        default=None, description="For postgresql, mysql and redis: log in as this user."
    )
    password: Secret | None = Field(default=None, description="For postgresql and redis.")
    database: CredentialText | None = Field(
        default=None, description="For postgresql; the user's name when absent."
    )
    role: Literal["primary", "replica"] | None = Field(
        default=None,
        description="For postgresql (needs `user`) and redis: only servers of this role are healthy.",
    )
    server_name: FieldValue | None = Field(
        default=None,
        description="For tls and dns: the name asked for; the backend's host, or the root.",
    )
    verify: bool = Field(
        default=False, description="For tls: the certificate must be valid for the name."
    )


class HealthCheckOverride(Model):
    """Single fields of a `HealthCheck`; absent ones keep the wider setting."""

    enabled: bool | None = None
    kind: CheckKind | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    interval: Annotated[Duration, Field(ge=0.05)] | None = None
    timeout: Timeout | None = None
    healthy_threshold: Annotated[int, Field(ge=1, le=1000)] | None = None
    unhealthy_threshold: Annotated[int, Field(ge=1, le=1000)] | None = None
    path: UrlPath | None = None
    method: Literal["GET", "HEAD", "OPTIONS"] | None = None
    host: FieldValue | None = None
    headers: Fields | None = None
    expect_status: Items[StatusRange] | None = None
    expect_body: str | None = None
    user: CredentialText | None = None
    password: Secret | None = None
    database: CredentialText | None = None
    role: Literal["primary", "replica"] | None = None
    server_name: FieldValue | None = None
    verify: bool | None = None

    def onto(self, wider: HealthCheck) -> HealthCheck:
        """`wider` with the fields given here."""
        given = {
            name: value
            for name in self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        return wider.model_copy(update=given) if given else wider


class Outlier(Model):
    """Passive health: a backend that keeps failing is ejected for a growing time."""

    enabled: bool = True
    consecutive_errors: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=5, description="Failures in a row: connect errors, resets, timeouts, 5xx."
    )
    base_ejection: Annotated[Duration, Field(ge=0.1)] = Field(
        default=30.0, description="The first."
    )
    max_ejection: Annotated[Duration, Field(ge=0.1)] = Field(
        default=300.0, description="The longest."
    )
    max_ejected: Share = Field(default=0.5, description="The share of the pool ejected at once.")
    unejected_by_check: bool = Field(
        default=True, description="A passed health check ends the ejection early."
    )


class BreakerConfig(Model):
    """Circuit breakers: nothing is sent where too much goes wrong, until probes go well again."""

    enabled: bool = True
    scope: Literal["endpoint", "pool", "both"] = Field(
        default="endpoint",
        description="One for each backend, one for the pool as a whole, or both.",
    )
    error_rate: Share = Field(
        default=0.5,
        description="Opens at this share of failed requests (as for `outlier`); 0: at none.",
    )
    latency: Duration = Field(
        default=0.0, description="An answer whose head takes longer is slow; 0: none is."
    )
    slow_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.5, description="Opens at this share of slow answers."
    )
    window: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        default=10.0, description="The time that is looked at, once a second."
    )
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="With fewer in the window no share is looked at."
    )
    consecutive_errors: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="Failures in a row that open it at once; 0: none."
    )
    pool_consecutive_errors: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=0,
        description="With `scope: both`: failures in a row, whichever backend's, that open the "
        "pool's own at once; 0: none.",
    )
    open_for: Annotated[Duration, Field(ge=0.1)] = Field(
        default=30.0, description="The first time; up to a fifth shorter at random."
    )
    max_open_for: Annotated[Duration, Field(ge=0.1)] = Field(
        default=300.0, description="The longest; each time in a row is twice as long."
    )
    half_open_requests: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=5,
        description="Requests let through afterwards. All went well: closed; one did not: open.",
    )


class QueueConfig(Model):
    """Requests that wait while every backend is full."""

    max: Count = Field(default=100, description="How many may wait; over it 503.")
    timeout: Duration = Field(default=1.0, description="How long one may wait; over it 503.")


class Panic(Model):
    """What happens while too few of a pool's backends are usable, or none."""

    below: Share = Field(
        default=0.0,
        description="The share of usable backends under which `mode` applies; 0: when none is.",
    )
    mode: Literal["fail", "use_all"] = Field(
        default="fail", description="fail: 503. use_all: all that are not draining get requests."
    )


class Upgrade(Model):
    """Connections that switch to another protocol, such as WebSocket."""

    enabled: bool = Field(default=True, description="Off, no wish to switch reaches a backend.")
    idle_timeout: Duration = Field(
        default=3600.0, description="Without a byte either way; 0 is no bound."
    )
    max_lifetime: Duration = Field(default=0.0, description="From the switch; 0 is no bound.")


class Connections(Model):
    """Upstream connections of one worker to one backend."""

    max_idle: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="Maximum number of idle connections kept. Without a value, evenflow keeps as many "
        "as were in use at once within `idle_timeout`, and at most half of the process's file "
        "descriptors for all backends.",
    )
    idle_timeout: Duration = Field(default=50.0, description="How long an idle one is kept.")
    tcp_keepalive: Duration = Field(
        default=30.0,
        description="After this time without a packet, and then as often again, the kernel probes "
        "whether the backend's host is still there; three probes without an answer end the "
        "connection. 0s is off.",
    )
    ping_interval: Duration = Field(
        default=0.0,
        description="HTTP/2: after this time without a byte from the backend, evenflow sends a PING, "
        "at a granularity of 1s. 0s is off: some servers, gRPC's among them, close connections "
        "whose PINGs come more often than every 5 minutes.",
    )
    ping_timeout: Timeout = Field(
        default=10.0,
        description="HTTP/2: the connection is closed when nothing came for this time after a PING.",
    )


class StrategyConfig(Model):
    """A strategy with its parameters; which ones it takes depends on the strategy."""

    name: str = Field(description="A strategy's name, or `package.module:function`.")
    key: RequestKeyText | None = Field(
        default=None, description="client_ip, header:NAME, cookie:NAME, query:NAME, path."
    )
    load_bound: Annotated[float, Field(ge=1.0, le=1000, allow_inf_nan=False)] | None = Field(
        default=None, description="At most this many times the average requests in flight."
    )
    choices: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="How many random backends are compared; 0 compares all of up to 64, and 32 of more.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of a strategy of your own."
    )


class RateLimit(Model):
    """At most so many requests per key; over it 429."""

    key: RequestKeyText = "client_ip"
    requests_per_second: Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
    burst_size: Annotated[int, Field(ge=1, le=2**28)] | None = Field(
        default=None, description="How many may come at once; one second's worth when absent."
    )
    max_keys: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="Keys remembered at once."
    )
    dry_run: bool = Field(default=False, description="Only count what would have been refused.")
    ipv6_prefix: Prefix = Field(
        default=64, description="Bits of an IPv6 address that make one client."
    )
    headers: bool = Field(
        default=True, description="Tell clients where they stand: RateLimit, RateLimit-Policy."
    )
    scope: Literal["node", "fleet"] = Field(
        default="node",
        description="Whether it holds for this balancer, or for all nodes of the `cluster` together.",
    )


class Concurrency(Model):
    """At most so many requests of one key in flight at once; over it 429."""

    key: RequestKeyText = "client_ip"
    max_requests: Annotated[int, Field(ge=1, le=2**31 - 1)]
    dry_run: bool = Field(default=False, description="Only count what would have been refused.")
    ipv6_prefix: Prefix = Field(
        default=64, description="Bits of an IPv6 address that make one client."
    )


class BasicAuth(Model):
    """A name and a password (RFC 7617); without the right ones 401."""

    users: Annotated[
        dict[Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]{1,255}$")], PasswordHash],
        Field(min_length=1),
    ] = Field(description="Names and the hashes of their passwords.")
    realm: Realm = "evenflow"
    user_header: AddedName | None = Field(
        default=None, description="The field that tells the backend who it is."
    )
    forward: bool = Field(default=True, description="Backends get to see the credentials.")


class BearerToken(Model):
    """A token and whom it stands for."""

    name: Name
    token: TokenSecret


class BearerAuth(Model):
    """A fixed token (RFC 6750); without a right one 401."""

    tokens: Annotated[Items[BearerToken], Field(min_length=1)]
    realm: Realm = "evenflow"
    user_header: AddedName | None = Field(
        default=None, description="The field that tells the backend who it is."
    )
    forward: bool = Field(default=True, description="Backends get to see the credentials.")


class ExternalAuth(Model):
    """Another service is asked: 2xx lets a request pass, 401 and 403 go to the client."""

    pool: Name
    path: UrlPath = Field(default="/", description="The target of the question.")
    request_headers: Items[FieldName] = Field(
        default=("authorization", "cookie"), description="Copied to the question."
    )
    response_headers: Items[AddedName] = Field(
        default=(), description="Copied from a positive answer to the request."
    )
    user_header: FieldName | None = Field(
        default=None, description="The field of a positive answer that names the user, for the log."
    )
    timeout: Timeout = 5.0
    on_failure: Literal["deny", "allow"] = Field(
        default="deny", description="What happens while there is no answer: deny is 503."
    )


class Auth(Model):
    """Who may come in; exactly one kind."""

    basic: BasicAuth | None = None
    bearer: BearerAuth | None = None
    jwt: JwtAuth | None = None
    external: ExternalAuth | None = None


class Cors(Model):
    """Cross-origin resource sharing; preflight requests are answered by the balancer."""

    allow_origins: Annotated[Items[FieldValue], Field(min_length=1)]
    allow_methods: Items[FieldName] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    allow_headers: Items[FieldName] = Field(
        default=(), description="Empty allows what is asked for."
    )
    expose_headers: Items[FieldName] = ()
    allow_credentials: bool = False
    max_age: Annotated[Duration, Field(le=86400)] = 600.0


class HeaderEdit(Model):
    """Header edits, applied in the order remove, set, add, default.

    A value may be `${NAME}` or `file:/path`, and is then never shown.
    """

    remove: Items[AddedName] = ()
    set: SetFields = Field(default_factory=dict)
    add: AddedTexts = Field(default_factory=dict)
    default: AddedTexts = Field(
        default_factory=dict, description="Added where the message has none."
    )


class HeaderRules(Model):
    """Edits of the request before it is forwarded and of every response."""

    request: HeaderEdit | None = None
    response: HeaderEdit | None = None


class FilterChain(Model):
    """Filters for a listener or a route; each key is one filter.

    Keys have no order: see "Order of filters" in docs/security.md.
    """

    ip_whitelist: Items[Listed] = Field(
        default=(),
        description="When given, only these pass; else 403. Networks, addresses, and "
        "`file:/path` of a list of them, a line each.",
    )
    ip_blacklist: Items[Listed] = Field(default=(), description="These never pass: 403.")
    rate_limit: RateLimit | None = None
    concurrency: Concurrency | None = None
    auth: Auth | None = None
    jwt: JwtAuth | None = Field(default=None, description="The same as `auth: {jwt: …}`.")
    security_headers: bool | SetFields = Field(
        default_factory=dict, description="Set on every response; true sets sound ones."
    )
    headers: HeaderRules | None = None
    cors: Cors | None = None
    max_request_size: Size | None = Field(default=None, description="Larger bodies: 413.")

    @model_validator(mode="before")
    @classmethod
    def _one_place_for_tokens(cls, given: Any) -> Any:
        """Moves `jwt` to `auth.jwt`, so that everybody else knows one place only."""
        if not isinstance(given, Mapping) or given.get("jwt") is None:
            return given
        if given.get("auth") is not None:
            raise ValueError("`jwt` is short for `auth: {jwt: …}`; give one of the two")
        rest = {name: value for name, value in given.items() if name != "jwt"}
        return {**rest, "auth": {"jwt": given["jwt"]}}


Security = FilterChain


class MetricsConfig(Model):
    """The metrics page."""

    enabled: bool = True
    path: UrlPath = "/metrics"


class AdminToken(Model):
    """A bearer token of the control plane."""

    name: Name
    role: Literal["read", "operate", "admin"] = "read"
    token: TokenSecret


class AuditConfig(Model):
    """The record of every change, `audit.jsonl` in the state folder."""

    max_size: Annotated[Size, Field(ge=4096)] = Field(
        default=16 * 1024 * 1024, description="A larger file is put aside."
    )
    max_files: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=16, description="Files kept, the one in use included."
    )


class AdminConfig(Model):
    """The balancer's own HTTP interface."""

    enabled: bool = Field(default=True, description="Without it only health and metrics remain.")
    expose: bool | Items[ExposedGroup] = Field(
        default=True,
        description="What is served on the listeners of the traffic: all, nothing, or groups.",
    )
    listen: ListenAddress | None = Field(default=None, description="A listener of its own.")
    tokens: Items[AdminToken] = ()
    audit: AuditConfig = AuditConfig()


class LogRotation(Model):
    """When a log file is put aside, and how many old ones are kept."""

    max_size: Annotated[Size, Field(ge=4096)] = 100 * 1024 * 1024
    max_age: Duration = Field(default=0.0, description="Older files are removed; 0 keeps them.")
    max_files: Annotated[int, Field(ge=0, le=10_000)] = 10
    compress: bool = False


class AccessLogConfig(Model):
    """One line for each request."""

    enabled: bool = True
    format: Literal["json", "combined"] = "json"
    output: Annotated[str, Field(min_length=1)] = Field(
        default="stdout", description="stdout, stderr or a file's path."
    )
    sample: Share = Field(
        default=1.0, description="The share recorded; failed requests always are."
    )


class LoggingConfig(Model):
    """The program's log and the access log."""

    level: LogLevel = "info"
    format: Literal["json", "text"] = "json"
    output: Annotated[str, Field(min_length=1)] = Field(
        default="stdout", description="stdout, stderr or a file's path."
    )
    rotation: LogRotation = LogRotation()
    access: AccessLogConfig = AccessLogConfig()


class Limits(Model):
    """Bounds on what one client may send."""

    max_head_size: Annotated[Size, Field(ge=1024, le=1024 * 1024)] = Field(
        default=32 * 1024, description="Request line and headers; over it 431."
    )
    max_headers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=100, description="Over it 431."
    )
    max_target: Annotated[Size, Field(ge=16, le=1024 * 1024)] = Field(
        default=8 * 1024, description="Path and query; over it 414."
    )
    max_body_size: Size = Field(default=0, description="Over it 413; 0 is no bound.")
    max_streams: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=128, description="Requests at once on one HTTP/2 connection."
    )
    max_connections: Count = Field(default=0, description="Open at once; 0 is no bound.")
    max_connections_per_client: Count = Field(
        default=0,
        description="Open at once by one address (IPv6: one /64), trusted proxies excepted; those "
        "over it are closed; 0 is no bound.",
    )


class ServerConfig(Model):
    """The process, and the defaults of every listener."""

    name: Annotated[str, Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}$")] = Field(
        default="evenflow", description="In `Via` and in answers of the balancer itself."
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default="auto", description="Threads; auto is one per core."
    )
    read_timeout: Timeout = Field(
        default=30.0,
        description="A request's head, and between two reads of its body; over it 408.",
    )
    write_timeout: Timeout = Field(
        default=30.0, description="Between two writes of a response that make progress."
    )
    idle_timeout: Timeout = Field(default=60.0, description="A connection between two requests.")
    min_body_rate: Count = Field(
        default=240,
        description="Bytes per second at which a body must come, and an answer be taken.",
    )
    shutdown_timeout: Duration = Field(
        default=30.0, description="For what is in flight at the end."
    )
    stream_drain_timeout: Duration | None = Field(
        default=None,
        description="For tunnels (WebSocket) and tcp and udp sessions at the end, where it is "
        "shorter; as long as shutdown_timeout when absent. Also for tunnels whose route, listener "
        "or backend is removed.",
    )
    trusted_proxies: Items[Network] = Field(
        default=(), description="Networks whose forwarding headers are believed."
    )
    forwarded: bool = Field(default=False, description="Also send RFC 7239 `Forwarded`.")
    trace: bool = Field(
        default=False, description="Forward TRACE requests; else they are answered with 405."
    )
    escaped_slashes: EscapedSlashes = Field(
        default="auto",
        description="Paths that backends may read in several ways (`%2f`, `\\`, `..;`): auto answers "
        "400 where a reading leads out of the route; reject does so for every escaped slash or "
        "backslash; decode makes slashes of them first; keep forwards them unchecked.",
    )
    on_client_close: OnClientClose = Field(
        default="abort",
        description="What becomes of a request whose client closes the connection: abort ends it "
        "wherever it waits and sends nothing further to a backend; finish lets the backend's request "
        "run to its end. A client that closes only its sending side counts as gone.",
    )
    http2: bool = Field(
        default=True,
        description="Serve HTTP/2: over TLS where clients ask for it, in the clear to those that "
        "begin with it.",
    )
    memory: Annotated[Size, Field(ge=1024 * 1024)] | None = Field(
        default=None,
        description="What buffers of bodies and heads may hold in all; from half of it they become "
        "smaller, from three quarters new requests get 503. Default: a quarter of the machine's "
        "memory or of the control group's limit, at least 64 MiB.",
    )
    limits: Limits = Limits()
    tls: ServerTls | None = Field(default=None, description="Encryption of the flat form's port.")


class ProxyProtocol(Model):
    """PROXY headers of a balancer before this one, versions 1 and 2."""

    accept: bool = Field(default=False, description="Read them.")
    trusted: Items[Network] = Field(
        default=(),
        description="Connections from here (and over Unix sockets) must begin with one; all others "
        "begin without.",
    )
