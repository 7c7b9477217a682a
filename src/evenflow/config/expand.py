"""The flat form written as the full form: listeners, routes, pools and filters, all spelled out.

The plan is compiled from the expanded form only, so there is one way from a configuration to
what the engine does. Expanding what is expanded changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

from .models import (
    Backend,
    Config,
    HttpVersion,
    Listener,
    LoadBalancerConfig,
    Match,
    Pool,
    Retries,
    Route,
    StreamRetries,
)
from .sections import HealthCheck, HealthCheckOverride
from .targets import Target, parse_listen
from .tls import Certificate, ListenerTls

_PATH = attrgetter("target.path")
_SCHEME_AND_TARGET = attrgetter("target.scheme", "target")
_MANY = 256
# Judging one configuration asks about the same long lists a dozen times.
_asked_of_late: deque[tuple[Sequence[Backend], dict[str, Target]]] = deque(maxlen=8)
DEFAULT = "default"
MAIN_LISTENER = "main"
SECURITY_CHAIN = "security"
_SPOKEN = ("tls", "postgresql", "mysql", "redis")
"""Schemes whose protocol a health check speaks."""
CHECK_FIELDS = {
    "port": ("http", "tcp", "tls", "dns", "postgresql", "mysql", "redis"),
    "user": ("postgresql", "mysql", "redis"),
    "password": ("postgresql", "redis"),
    "database": ("postgresql",),
    "role": ("postgresql", "redis"),
    "server_name": ("tls", "dns"),
    "verify": ("tls",),
}
"""What only some kinds of health check take, and which ones."""
SERVER_CERTIFICATE = "server.tls"
"""The certificate that `server.tls` names by its files."""
REDIRECT_LISTENER = "redirect"
_HTTP_IDLE = 60.0
_STREAM_IDLE = 3600.0


def expand(config: Config) -> Config:
    """`config` in its full form; the `Backend` objects in it are the very same ones."""
    flat = flat_pools(config)
    pools = tuple(_full_pool(config, pool) for pool in (*flat, *config.pools))
    listeners = _listeners(config)
    listen = config.admin.listen
    if listen is None and all(listener.protocol != "http" for listener in listeners):
        listen = _next_port(listeners[0].addresses[0])
    filters = dict(config.filters)
    if config.security is not None:
        filters[SECURITY_CHAIN] = config.security
    return config.model_copy(
        update={
            "load_balancer": LoadBalancerConfig(),
            "backends": (),
            "discover": (),
            "health_check": HealthCheck(),
            "security": None,
            "admin": config.admin.model_copy(update={"listen": listen}),
            "listeners": listeners,
            "routes": tuple(_full_route(config, route) for route in all_routes(config, flat)),
            "pools": pools,
            "filters": filters,
            "certificates": {**config.certificates, **_server_certificate(config)},
            "server": config.server.model_copy(update={"tls": None}),
        }
    )


def effective_health_check(config: Config, pool: Pool, backend: Backend) -> HealthCheck:
    """How `backend` is probed, all overrides applied and `auto` resolved."""
    check = config.load_balancer.health_check or config.health_check
    for override in (pool.health_check, backend.health_check):
        if override is not None:
            check = override.onto(check)
    update: dict[str, object] = {}
    if backend.health_check_path is not None:
        update["path"] = backend.health_check_path
    if check.kind == "auto":
        target = backend.target
        stream = target.is_stream or (target.is_unix and is_stream(pool))
        spoken = target.scheme if target.scheme in _SPOKEN else "tcp"
        update["kind"] = spoken if stream else "http"
        if target.is_datagrams and check.port is None:
            # Nothing can be asked of an unknown protocol; a closed port is noticed in passing.
            update["enabled"] = False
    return check.model_copy(update=update) if update else check


def given_check_fields(check: HealthCheck | HealthCheckOverride | None) -> set[str]:
    """Which of `CHECK_FIELDS` are given."""
    if check is None:
        return set()
    return {name for name in CHECK_FIELDS if getattr(check, name)}


def has_fleet_limits(config: Config) -> bool:
    """Whether some limit holds over all nodes of the cluster together."""
    chains = [*config.filters.values(), *([config.security] if config.security else [])]
    return any(
        chain.rate_limit is not None and chain.rate_limit.scope == "fleet" for chain in chains
    )


def http_version(protocol: HttpVersion, target: Target) -> HttpVersion:
    """What is spoken to a backend of a pool with this `protocol`; `auto` is for TLS to agree on."""
    if target.is_stream:
        return "h1"
    if protocol != "auto":
        return protocol
    match target.scheme:
        case "https":
            return "auto"
        case "h2c":
            return "h2"
        case _:
            return "h1"


def is_stream(place: Pool | Config) -> bool:
    """Whether bytes are relayed to its backends: some are streams and none is HTTP."""
    targets = by_scheme(place).values()
    return any(target.is_stream for target in targets) and all(
        target.is_stream or target.is_unix for target in targets
    )


def by_scheme(place: Pool | Config) -> dict[str, Target]:
    """One target of each scheme among a pool's backends, or among those at the top.

    What is still to be discovered counts, too.
    """
    found = _by_scheme(place.backends)
    if not place.discover:
        return found
    return {each.scheme: each.target for each in place.sources} | found


def stand_ins(place: Pool | Config) -> tuple[Backend, ...]:
    """A backend for each source of further ones, such as it will find."""
    return tuple(
        Backend(id="discovered", url=f"{each.scheme}://{each.target.address}")
        for each in place.sources
    )


def _by_scheme(backends: Sequence[Backend]) -> dict[str, Target]:
    """Quick for thousands of them."""
    for asked, answer in tuple(_asked_of_late):
        if asked is backends:
            return answer
    found = dict(map(_SCHEME_AND_TARGET, backends))
    if isinstance(backends, tuple) and len(backends) >= _MANY:
        _asked_of_late.append((backends, found))
    return found


def flat_pools(config: Config) -> tuple[Pool, ...]:
    """The pools that the backends at the top make: `default`, and one for each URL path."""
    groups: dict[str, Sequence[Backend]] = {}
    paths = set(map(_PATH, config.backends))
    if len(paths) == 1:
        groups[paths.pop()] = config.backends
    elif paths:
        by_path: dict[str, list[Backend]] = {}
        for backend in config.backends:
            by_path.setdefault(backend.target.path, []).append(backend)
        groups |= by_path
    if config.discover or (not groups and not config.pools):
        groups.setdefault("", [])
    return tuple(
        Pool(name=path_name(path), backends=members, discover=() if path else config.discover)
        for path, members in sorted(groups.items())
    )


def path_name(path: str) -> str:
    """The name of the pool and route of a URL path: `/users/v2` gives `users-v2`."""
    text = "".join(char if char.isalnum() or char in "._-" else "-" for char in path.strip("/"))
    return text.lstrip(".-") or DEFAULT


def all_routes(config: Config, flat: Sequence[Pool]) -> tuple[Route, ...]:
    """The configured routes, and one for each flat pool that nothing leads to yet."""
    if config.listeners and all(listener.protocol != "http" for listener in config.listeners):
        return tuple(config.routes)
    if not config.listeners and main_is_stream(config):
        return tuple(config.routes)
    used = {name for route in config.routes for name in route.pools}
    used |= {route.mirror.pool for route in config.routes if route.mirror is not None}
    routes = list(config.routes)
    for pool in flat:
        if pool.name not in used:
            path = pool.backends[0].target.path if pool.backends else ""
            match = Match(path=f"{path}/*") if path else Match()
            routes.append(Route(name=pool.name, match=match, pool=pool.name))
    return tuple(routes)


def main_address(config: Config) -> str:
    """Where the flat form listens."""
    host = config.load_balancer.host
    shown = f"[{host}]" if ":" in host else host
    return parse_listen(f"{shown}:{config.load_balancer.port}")


def main_is_stream(config: Config) -> bool:
    """Whether the flat form's listener relays bytes."""
    return not config.routes and is_stream(config)


def _stream_protocol(config: Config) -> Literal["tcp", "udp"]:
    datagrams = any(target.is_datagrams for target in by_scheme(config).values())
    return "udp" if datagrams else "tcp"


def main_listener(config: Config) -> Listener:
    """The flat form's listener."""
    stream = main_is_stream(config)
    return Listener(
        name=MAIN_LISTENER,
        address=main_address(config),
        protocol=_stream_protocol(config) if stream else "http",
        pool=DEFAULT if stream else None,
        tls=_main_tls(config),
    )


def _listeners(config: Config) -> tuple[Listener, ...]:
    server = config.server
    full = []
    for listener in config.listeners or (main_listener(config), *_redirect_listener(config)):
        update: dict[str, object] = {
            name: getattr(server, name)
            for name in (
                "limits",
                "read_timeout",
                "write_timeout",
                "idle_timeout",
                "trusted_proxies",
                "forwarded",
                "escaped_slashes",
                "trace",
            )
            if getattr(listener, name) is None
        }
        if listener.protocol != "http":
            update["retries"] = _stream_retries(config.load_balancer, listener)
        if listener.protocol == "http" and listener.http2 is None:
            update["http2"] = server.http2
        if config.security is not None:
            update["filters"] = (SECURITY_CHAIN, *listener.filters)
        full.append(listener.model_copy(update=update))
    return tuple(full)


def _stream_retries(base: LoadBalancerConfig, listener: Listener) -> StreamRetries:
    retries = listener.retries
    delay = base.retry_delay if retries.delay is None else retries.delay
    return StreamRetries(
        max=base.max_retries if retries.max is None else retries.max,
        # A datagram does not wait.
        delay=None if listener.protocol == "udp" else delay,
    )


def _server_certificate(config: Config) -> dict[str, Certificate]:
    tls = config.server.tls
    if tls is None or tls.cert_file is None:
        return {}
    certificate = Certificate(
        cert_file=tls.cert_file, key_file=tls.key_file, ocsp_file=tls.ocsp_file
    )
    return {SERVER_CERTIFICATE: certificate}


def _main_tls(config: Config) -> ListenerTls | None:
    tls = config.server.tls
    if tls is None:
        return None
    return ListenerTls(
        certificates=(*_server_certificate(config), *tls.certificates),
        min_version=tls.min_version,
        profile=tls.profile,
        alpn=tls.alpn,
        client_auth=tls.client_auth,
    )


def _redirect_listener(config: Config) -> tuple[Listener, ...]:
    tls = config.server.tls
    if tls is None or tls.redirect_http is None:
        return ()
    return (
        Listener(
            name=REDIRECT_LISTENER,
            address=redirect_address(config, tls.redirect_http),
            redirect_https=config.load_balancer.port or True,
        ),
    )


def redirect_address(config: Config, port: int) -> str:
    """Where the flat form listens for plain HTTP beside its encrypted port."""
    host, _, _ = main_address(config).rpartition(":")
    return f"{host}:{port}"


def _full_route(config: Config, route: Route) -> Route:
    base = config.load_balancer
    retries = route.retries
    full = Retries(
        max=base.max_retries if retries.max is None else retries.max,
        delay=base.retry_delay if retries.delay is None else retries.delay,
        on=base.retry_on if retries.on is None else retries.on,
        per_try_timeout=(
            base.per_try_timeout if retries.per_try_timeout is None else retries.per_try_timeout
        ),
        budget=retries.budget,
    )
    upgrade = base.upgrade if route.upgrade is None else route.upgrade
    return route.model_copy(update={"retries": full, "upgrade": upgrade})


def _full_pool(config: Config, pool: Pool) -> Pool:
    base = config.load_balancer
    update: dict[str, object] = {
        name: getattr(base, name)
        for name in (
            "strategy",
            "timeout",
            "connect_timeout",
            "idle_timeout",
            "retry_budget",
            "retry_floor",
            "slow_start",
            "outlier",
            "breaker",
            "queue",
            "panic",
            "connections",
        )
        if getattr(pool, name) is None
    }
    if update.get("idle_timeout", pool.idle_timeout) is None:
        update["idle_timeout"] = _STREAM_IDLE if is_stream(pool) else _HTTP_IDLE
    if pool.protocol is None and not is_stream(pool):
        update["protocol"] = base.protocol
    check = base.health_check or config.health_check
    if pool.health_check is not None:
        check = pool.health_check.onto(check)
    members = (*pool.backends, *stand_ins(pool)) if pool.discover else pool.backends
    if members and (given := given_check_fields(check)):
        # What is given for all pools stays only where a backend has a use for it.
        kinds = {effective_health_check(config, pool, backend).kind for backend in members}
        useless = [name for name in given if not kinds.intersection(CHECK_FIELDS[name])]
        neutral = {name: HealthCheck.model_fields[name].default for name in useless}
        check = check.model_copy(update=neutral)
    update["health_check"] = HealthCheckOverride.model_construct(
        _fields_set=set(HealthCheck.model_fields),
        **{name: getattr(check, name) for name in HealthCheck.model_fields},
    )
    return pool.model_copy(update=update)


def _next_port(address: str) -> str:
    """The control plane's own address beside a listener that only relays bytes."""
    _, _, port = address.rpartition(":")
    if not port.isdigit():
        return "127.0.0.1:0"
    number = int(port)
    return f"127.0.0.1:{number + 1 if 0 < number < 65535 else 0}"
