"""Whether the parts of a configuration make sense together: names, contradictions, ambiguity.

Each rule below yields the problems it finds; what one value may be by itself is the models'
matter.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from .ambiguity import ambiguous_routes, claimed_paths
from .check_cluster import cluster_problems
from .check_datagrams import datagram_problems
from .check_discovery import discovery_problems
from .check_health import health_problems
from .check_http2 import http2_problems
from .check_jwt import jwt_problems
from .check_routes import contradictions, named_pools
from .expand import (
    MAIN_LISTENER,
    SECURITY_CHAIN,
    all_routes,
    by_scheme,
    flat_pools,
    is_stream,
    main_address,
    main_is_stream,
    redirect_address,
)
from .hashes import is_slow
from .models import (
    Config,
    LoadBalancerConfig,
    Pool,
    Route,
    SniRule,
    Strategy,
    StreamRetries,
)
from .names import STRATEGY_PARAMETERS, strategy_names
from .paths import exposed_paths, own_paths
from .problems import Problem, hint
from .sections import Auth, BreakerConfig, FilterChain, HealthCheck, Outlier
from .targets import HTTP_SCHEMES

_ID = attrgetter("id")
_ORIGIN = re.compile(r"[A-Za-z0-9+.-]+://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_ALWAYS_RETRIED = ("connect", "reset")


@dataclass(frozen=True, slots=True)
class _View:
    """What several rules look at, made once: thousands of backends are gone through for it."""

    config: Config
    flat: tuple[Pool, ...]
    """The pools that the backends at the top make."""
    routes: tuple[Route, ...]
    """The configured routes, then those of flat pools."""
    streams: dict[str, bool]
    """For every pool whether its backends are streams."""
    main_is_stream: bool


def problems_in(config: Config) -> list[Problem]:
    """Every contradiction in the configuration."""
    flat = flat_pools(config)
    view = _View(
        config,
        flat,
        all_routes(config, flat),
        {pool.name: is_stream(pool) for pool in (*flat, *config.pools)},
        main_is_stream(config),
    )
    return [problem for rule in _RULES for problem in rule(view)]


def _unique(values: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    """A problem for each path whose value another path had before."""
    first: dict[str, str] = {}
    for path, value in values:
        if value in first:
            yield Problem(path, f"{what} {value!r} is used twice, first at {first[value]}")
        else:
            first[value] = path


def _known(path: str, name: str, names: Collection[str], what: str) -> Iterator[Problem]:
    if name not in names:
        listed = sorted(names)
        choices = f"; there are: {', '.join(listed)}" if listed else "; there are none"
        yield Problem(path, f"no {what} named {name!r}{hint(name, listed)}{choices}")


def _backend_lists(config: Config) -> Iterator[tuple[str, Pool | Config]]:
    """The path of each list of backends, and what it is a part of."""
    yield "backends", config
    for index, pool in enumerate(config.pools):
        yield f"pools[{index}].backends", pool


def _names(view: _View) -> Iterator[Problem]:
    config = view.config
    ids = [
        *map(
            _ID, itertools.chain.from_iterable(each.backends for _, each in _backend_lists(config))
        )
    ]
    if len(set(ids)) < len(ids):
        yield from _unique(
            (
                (f"{path}[{index}].id", backend.id)
                for path, place in _backend_lists(config)
                for index, backend in enumerate(place.backends)
            ),
            "id",
        )
    pools = (
        [("backends", pool.name) for pool in view.flat]
        if config.backends or config.discover
        else []
    )
    pools += [(f"pools[{index}].name", pool.name) for index, pool in enumerate(config.pools)]
    yield from _unique(pools, "pool")
    routes = [(f"routes[{index}].name", route.name) for index, route in enumerate(config.routes)]
    made = view.routes[len(config.routes) :]
    yield from _unique([*routes, *(("backends", route.name) for route in made)], "route")
    yield from _unique(
        ((f"listeners[{index}].name", each.name) for index, each in enumerate(config.listeners)),
        "listener",
    )
    tokens = config.admin.tokens
    yield from _unique(
        ((f"admin.tokens[{index}].name", token.name) for index, token in enumerate(tokens)),
        "token",
    )
    if config.security is not None and SECURITY_CHAIN in config.filters:
        yield Problem(f"filters.{SECURITY_CHAIN}", "this name is taken by the section `security`")


def _addresses(view: _View) -> Iterator[Problem]:
    config = view.config
    load_balancer = config.load_balancer
    addresses = [
        (f"listeners[{index}].address", address)
        for index, listener in enumerate(config.listeners)
        for address in listener.addresses
        # Datagrams and connections have ports of their own.
        if listener.protocol != "udp"
    ]
    datagrams = [
        (f"listeners[{index}].address", address)
        for index, listener in enumerate(config.listeners)
        for address in listener.addresses
        if listener.protocol == "udp" and not address.endswith(":0")
    ]
    yield from _unique(datagrams, "address")
    if not config.listeners:
        addresses.append(("load_balancer.port", main_address(config)))
        tls = config.server.tls
        if tls is not None and tls.redirect_http is not None:
            redirect = redirect_address(config, tls.redirect_http)
            addresses.append(("server.tls.redirect_http", redirect))
    if config.admin.listen is not None:
        addresses.append(("admin.listen", config.admin.listen))
    fixed = [(path, address) for path, address in addresses if not address.endswith(":0")]
    yield from _unique(fixed, "address")
    defaults = LoadBalancerConfig()
    for name in ("host", "port") if config.listeners else ():
        if getattr(load_balancer, name) != getattr(defaults, name):
            yield Problem(
                f"load_balancer.{name}", "has no effect beside `listeners`; remove one of them"
            )


def _kinds(view: _View) -> Iterator[Problem]:
    """HTTP backends behind HTTP, streams behind TCP or UDP, and no pool of both."""
    config = view.config
    yield from datagram_problems(config, list(_backend_lists(config)), view.flat)
    yield from http2_problems(config)
    for path, held_by in _backend_lists(config):
        targets = by_scheme(held_by).values()
        if len({target.is_stream for target in targets if not target.is_unix}) > 1:
            yield Problem(path, "holds HTTP and stream backends; give each kind a pool of its own")
    kinds = view.streams
    http = {
        pool.name
        for pool in (*view.flat, *config.pools)
        if not by_scheme(pool).keys().isdisjoint(HTTP_SCHEMES)
    }
    for index, listener in enumerate(config.listeners):
        path = f"listeners[{index}].pool"
        if listener.protocol == "http":
            if listener.pool is not None:
                yield Problem(path, "an HTTP listener has no pool; routes name the pools")
            if listener.sni:
                text = "is for tcp listeners, which do not decrypt; routes match the host"
                yield Problem(f"listeners[{index}].sni", text)
            if listener.retries != StreamRetries():
                text = "is for tcp and udp listeners; HTTP's retries stand at the routes"
                yield Problem(f"listeners[{index}].retries", text)
            continue
        if listener.pool is None and not listener.sni:
            yield Problem(path, f"a {listener.protocol} listener needs the name of its pool")
        used = [(path, listener.pool)] if listener.pool is not None else []
        used += [
            (f"listeners[{index}].sni[{at}].pool", rule.pool)
            for at, rule in enumerate(listener.sni)
        ]
        for place, name in used:
            if name in http:
                scheme = listener.protocol
                text = f"pool {name!r} holds HTTP backends; write their URLs with {scheme}://"
                yield Problem(place, text)
            else:
                yield from _known(place, name, kinds, "pool")
        yield from _ambiguous_names(f"listeners[{index}].sni", listener.sni)
    for index, route in enumerate(config.routes):
        for below, name in named_pools(route):
            if kinds.get(name):
                text = f"pool {name!r} holds stream backends, which need a tcp or udp listener"
                yield Problem(f"routes[{index}].{below}", text)
    only_http = config.listeners and all(each.protocol == "http" for each in config.listeners)
    if is_stream(config) and (only_http or config.routes):
        yield Problem("backends", "stream backends need a listener with protocol tcp or udp")


def _ambiguous_names(path: str, rules: Sequence[SniRule]) -> Iterator[Problem]:
    """Two rules for the very same clients."""
    seen: dict[tuple[str, str], int] = {}
    for index, rule in enumerate(rules):
        for name in rule.server_names or ("*",):
            for protocol in rule.alpn or ("",):
                first = seen.setdefault((name, protocol), index)
                if first != index or len(set(rule.server_names)) < len(rule.server_names):
                    what = f"{name!r}" + (f" with {protocol!r}" if protocol else "")
                    yield Problem(f"{path}[{index}]", f"{what} is taken by {path}[{first}] already")
                    return


def _proxies(view: _View) -> Iterator[Problem]:
    for index, listener in enumerate(view.config.listeners):
        proxies, path = listener.proxy_protocol, f"listeners[{index}].proxy_protocol"
        only_unix = all(address.startswith("unix:") for address in listener.addresses)
        if proxies.accept and not proxies.trusted and not only_unix:
            text = "name the networks whose headers are believed: whoever sends one chooses its address"
            yield Problem(f"{path}.trusted", text)
        if proxies.trusted and not proxies.accept:
            yield Problem(f"{path}.trusted", "has no effect without `accept: true`")


def _references(view: _View) -> Iterator[Problem]:
    config = view.config
    pools = view.streams
    http = {each.name for each in config.listeners if each.protocol == "http"}
    if not config.listeners:
        http = set() if view.main_is_stream else {MAIN_LISTENER}
    for index, route in enumerate(config.routes):
        for below, name in named_pools(route):
            yield from _known(f"routes[{index}].{below}", name, pools, "pool")
        for below, text in contradictions(route):
            yield Problem(f"routes[{index}]{below}", text)
        for at, name in enumerate(route.listeners):
            yield from _known(f"routes[{index}].listeners[{at}]", name, http, "HTTP listener")
        if not http:
            yield Problem(f"routes[{index}]", "there is no HTTP listener for it")
    chains = [
        *((f"listeners[{i}]", each.filters) for i, each in enumerate(config.listeners)),
        *((f"routes[{i}]", each.filters) for i, each in enumerate(config.routes)),
    ]
    for path, names in chains:
        for at, name in enumerate(names):
            yield from _known(f"{path}.filters[{at}]", name, config.filters, "filter")
        yield from _unique(
            ((f"{path}.filters[{at}]", name) for at, name in enumerate(names)), "filter"
        )


def _ambiguous_routes(view: _View) -> Iterator[Problem]:
    config = view.config
    http = [each.name for each in config.listeners if each.protocol == "http"] or [MAIN_LISTENER]
    configured = len(config.routes)
    placed = [
        (f"routes[{index}].match" if index < configured else "backends", route)
        for index, route in enumerate(view.routes)
    ]
    yield from claimed_paths(placed, exposed_paths(config))
    yield from ambiguous_routes(placed, http)


def _tls(view: _View) -> Iterator[Problem]:
    from .check_tls import tls_problems

    return tls_problems(view.config, stream_main=view.main_is_stream)


def _filters(view: _View) -> Iterator[Problem]:
    config = view.config
    if config.security is not None:
        yield from _chain("security", config.security)
        if not config.listeners and view.main_is_stream:
            yield from _for_streams("security", config.security)
    for name, chain in config.filters.items():
        yield from _chain(f"filters.{name}", chain)
    named = [
        ("security", config.security),
        *((f"filters.{n}", c) for n, c in config.filters.items()),
    ]
    for path, each in named:
        if each is not None and each.auth is not None and (asked := each.auth.external) is not None:
            at = f"{path}.auth.external.pool"
            yield from _known(at, asked.pool, view.streams, "pool")
            if view.streams.get(asked.pool):
                yield Problem(at, f"pool {asked.pool!r} holds stream backends")
    for index, listener in enumerate(config.listeners):
        if listener.protocol != "http":
            chains = [config.filters.get(name) for name in listener.filters]
            for used in (config.security, *chains):
                if used is not None:
                    yield from _for_streams(f"listeners[{index}].filters", used)


def _chain(path: str, chain: FilterChain) -> Iterator[Problem]:
    for network in sorted(set(chain.ip_whitelist) & set(chain.ip_blacklist)):
        yield Problem(path, f"{network} is in both ip_whitelist and ip_blacklist")
    if chain.auth is not None:
        yield from _auth(f"{path}.auth", chain.auth)
    cors = chain.cors
    if cors is None:
        return
    if cors.allow_credentials and "*" in cors.allow_origins:
        yield Problem(
            f"{path}.cors",
            "allow_credentials cannot go with the origin `*`; name the origins",
        )
    if "*" in cors.allow_origins and len(cors.allow_origins) > 1:
        yield Problem(f"{path}.cors.allow_origins", "`*` allows all others already")
    if cors.allow_credentials and "*" in cors.expose_headers:
        text = "with allow_credentials, `*` is no wildcard; name the headers"
        yield Problem(f"{path}.cors.expose_headers", text)
    for index, origin in enumerate(cors.allow_origins):
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            text = f"expected `*` or an origin such as https://app.example.org, got {origin!r}"
            yield Problem(f"{path}.cors.allow_origins[{index}]", text)


def _auth(path: str, auth: Auth) -> Iterator[Problem]:
    given = [name for name in type(auth).model_fields if getattr(auth, name) is not None]
    if len(given) != 1:
        yield Problem(path, f"expected one of basic, bearer, jwt, external, got {len(given)}")
    if auth.jwt is not None:
        yield from jwt_problems(f"{path}.jwt", auth.jwt)
    if auth.bearer is not None:
        tokens = auth.bearer.tokens
        yield from _unique(
            ((f"{path}.bearer.tokens[{at}].name", each.name) for at, each in enumerate(tokens)),
            "token",
        )
        for at, each in enumerate(tokens):
            if not each.token.hidden and is_slow(each.token.value):
                text = "expected a token or its sha256: hash; a password's hash is too slow here"
                yield Problem(f"{path}.bearer.tokens[{at}].token", text)


def _for_streams(path: str, chain: FilterChain) -> Iterator[Problem]:
    given = [
        name
        for name in ("security_headers", "headers", "cors", "max_request_size", "auth")
        if getattr(chain, name)
    ]
    if given:
        text = f"{', '.join(given)} work on HTTP only; a tcp listener takes address lists and rate limits"
        yield Problem(path, text)
    limit = chain.rate_limit
    if limit is not None and limit.key not in ("client_ip", "all"):
        yield Problem(path, f"rate_limit: a connection has no {limit.key}; use client_ip or all")
    if chain.concurrency is not None and chain.concurrency.key not in ("client_ip", "all"):
        yield Problem(f"{path}.concurrency.key", "a tcp listener knows only client_ip and all")


def _strategies(view: _View) -> Iterator[Problem]:
    config = view.config
    kinds = view.streams
    yield from _strategy("load_balancer.strategy", config.load_balancer.strategy, is_stream(config))
    for index, pool in enumerate(config.pools):
        if pool.strategy is not None:
            yield from _strategy(f"pools[{index}].strategy", pool.strategy, kinds[pool.name])


def _strategy(path: str, strategy: Strategy, stream: bool) -> Iterator[Problem]:
    name = strategy if isinstance(strategy, str) else strategy.name
    place = path if isinstance(strategy, str) else f"{path}.name"
    if name not in STRATEGY_PARAMETERS:
        if ":" in name:
            module, _, function = name.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), function)):
                text = f"expected a strategy's name or package.module:function, got {name!r}"
                yield Problem(place, text)
        elif name not in (names := strategy_names()):
            text = f"expected one of {', '.join(names)}, or package.module:function, got {name!r}"
            yield Problem(place, text + hint(name, names))
        return
    if isinstance(strategy, str):
        return
    allowed = STRATEGY_PARAMETERS[name]
    takes = f"strategy {name} takes {' and '.join(allowed) or 'no parameters'}"
    for parameter in ("key", "load_bound", "choices"):
        if getattr(strategy, parameter) is not None and parameter not in allowed:
            yield Problem(f"{path}.{parameter}", takes)
    if strategy.options:
        yield Problem(f"{path}.options", takes)
    if strategy.key in ("all", "route"):
        yield Problem(f"{path}.key", f"`{strategy.key}` would send every request to one backend")
    if stream and strategy.key not in (None, "client_ip"):
        yield Problem(f"{path}.key", "stream backends know only client_ip")


def _numbers(view: _View) -> Iterator[Problem]:
    config = view.config
    base = config.load_balancer
    if base.health_check is not None and config.health_check != HealthCheck():
        text = "is given here and in `health_check`; keep one of them"
        yield Problem("load_balancer.health_check", text)
    yield from _outlier("load_balancer.outlier", base.outlier)
    yield from _breaker("load_balancer.breaker", base.breaker)
    for index, pool in enumerate(config.pools):
        yield from _breaker(f"pools[{index}].breaker", pool.breaker)
        if pool.outlier is not None:
            yield from _outlier(f"pools[{index}].outlier", pool.outlier)
    lists = [("load_balancer.retry_on", base.retry_on)]
    lists += [
        (f"routes[{index}].retries.on", route.retries.on)
        for index, route in enumerate(config.routes)
        if route.retries.on is not None
    ]
    for path, on in lists:
        missing = [name for name in _ALWAYS_RETRIED if name not in on]
        if missing:
            text = f"{' and '.join(missing)} cannot be left out; retries are turned off by allowing none"
            yield Problem(path, text)
    metrics = f"{config.metrics.path.rstrip('/')}/*"
    if config.metrics.enabled and (
        metrics == "/*" or metrics in own_paths() or metrics[:-2] in own_paths()
    ):
        yield Problem("metrics.path", f"{config.metrics.path} is taken by the balancer itself")


def _breaker(path: str, breaker: BreakerConfig | None) -> Iterator[Problem]:
    if breaker is None or not breaker.enabled:
        return
    if breaker.open_for > breaker.max_open_for:
        yield Problem(f"{path}.open_for", "is longer than max_open_for")
    if breaker.pool_consecutive_errors and breaker.scope != "both":
        text = "is for `scope: both`; with one kind of breaker consecutive_errors is its own"
        yield Problem(f"{path}.pool_consecutive_errors", text)
    if not (breaker.error_rate or breaker.latency or breaker.consecutive_errors):
        text = "nothing opens it: give error_rate, latency or consecutive_errors, or enabled: false"
        yield Problem(path, text)


def _outlier(path: str, outlier: Outlier) -> Iterator[Problem]:
    if outlier.base_ejection > outlier.max_ejection:
        yield Problem(f"{path}.base_ejection", "is longer than max_ejection")


def _hedges(view: _View) -> Iterator[Problem]:
    sticky = {pool.name for pool in view.config.pools if pool.sticky is not None}
    for index, route in enumerate(view.config.routes):
        if route.hedge is not None and (names := sticky.intersection(route.pools)):
            text = f"the sessions of pool {min(names)} stay with one backend each (`sticky`)"
            yield Problem(f"routes[{index}].hedge", text)


def _health_checks(view: _View) -> Iterator[Problem]:
    yield from health_problems(view.config, view.flat)


def _discovery(view: _View) -> Iterator[Problem]:
    return discovery_problems(view.config)


def _cluster(view: _View) -> Iterator[Problem]:
    yield from cluster_problems(view.config)


_RULES: tuple[Callable[[_View], Iterable[Problem]], ...] = (
    _names,
    _addresses,
    _kinds,
    _references,
    _proxies,
    _ambiguous_routes,
    _filters,
    _tls,
    _strategies,
    _numbers,
    _hedges,
    _health_checks,
    _discovery,
    _cluster,
)
