"""The configuration compiled into the plan, the document that the engine carries out.

Pure: what names resolve to and how backends are doing comes in as arguments. Everything is
compiled from the expanded form, so the flat form has no way of its own.
"""

from __future__ import annotations

import json

from evenflow.certs import Material
from evenflow.config import Config, Limits, Listener, Route, expand
from evenflow.filters import compile_chain

from . import document
from .actions import compile_action, compile_fault, compile_hedge, compile_mirror, compile_rewrite
from .control_plane import CONTROL_LISTENER, control_pool, control_routes, proof_routes
from .keys import signing_keys
from .matching import compile_match
from .pools import Addresses, KeptEndpoint, States, compile_pool, given, milliseconds
from .tls import certificates, listener_tls, passthrough

_BASE_STRATEGY = "load_balancer.strategy"
_HTTPS = 443
_UDP_SESSIONS = 10_000
_CONTROL_BODY_BYTES = 64 * 1024 * 1024


def compile_plan(
    config: Config,
    *,
    revision: int,
    state: States | None = None,
    addresses: Addresses | None = None,
    admin_socket: str,
    sticky_key: bytes = b"",
    material: Material | None = None,
    fleet_seed: bytes = b"",
    buffer_bytes: int = 1024**3,
) -> document.Plan:
    """The plan for `config`, flat or expanded.

    `state` holds what is known of backends by pool and id, `addresses` what their names resolve
    to by `Target.address`, `admin_socket` the path of the control plane's Unix socket,
    `material` what the files of TLS hold, `fleet_seed` the secret of limits of scope fleet,
    `buffer_bytes` the memory for buffers where `server.memory` is absent. Raises `ConfigError` where a strategy cannot be found or fails. Plans share the endpoints of backends
    that stay as they are, so these must not be changed.
    """
    paths = _strategy_paths(config)
    config = expand(config)
    material = material or Material()
    listeners = [_listener(config, listener, material) for listener in config.listeners]
    http = [listener["name"] for listener in listeners if listener["protocol"] == "http"]
    pools = [
        compile_pool(
            pool,
            state or {},
            addresses or {},
            paths.get(pool.name, _BASE_STRATEGY),
            sticky_key=sticky_key,
            material=material,
        )
        for pool in config.pools
    ]
    proofs = proof_routes(material.proofs, listeners)
    internal = control_routes(config, http)
    if config.admin.listen is not None:
        listeners.append(_control_listener(config, config.admin.listen))
    if internal:
        pools.append(control_pool(admin_socket))
    access = config.logging.access
    return {
        "version": document.VERSION,
        "revision": revision,
        "access_log": {
            "format": access.format,
            "output": access.output,
            "sample": access.sample,
        }
        if access.enabled
        else None,
        "server_name": config.server.name,
        "buffer_bytes": config.server.memory or buffer_bytes,
        "certificates": certificates(config, material),
        "listeners": listeners,
        "filters": [
            {
                "name": name,
                "steps": compile_chain(
                    name,
                    chain,
                    signing_keys(name, chain, material),
                    material.networks,
                    fleet_seed,
                ),
            }
            for name, chain in config.filters.items()
        ],
        "routes": [*(_route(config, route, http) for route in config.routes), *proofs, *internal],
        "pools": pools,
    }


def dump_plan(plan: document.Plan) -> bytes:
    """The plan as the engine reads it; equal to its JSON, but quicker for what plans share."""
    rest = _json({name: value for name, value in plan.items() if name != "pools"})
    pools = ",".join(map(_dump_pool, plan["pools"]))
    return f'{rest[:-1]},"pools":[{pools}]}}'.encode()


def _dump_pool(pool: document.Pool) -> str:
    """A pool's JSON; endpoints that were in an earlier plan are not written out anew."""
    rest = _json({name: value for name, value in pool.items() if name != "endpoints"})
    endpoints = ",".join(
        endpoint.dump() if isinstance(endpoint, KeptEndpoint) else _json(endpoint)
        for endpoint in pool["endpoints"]
    )
    return f'{rest[:-1]},"endpoints":[{endpoints}]}}'


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _strategy_paths(config: Config) -> dict[str, str]:
    """Where each pool's own strategy stands in the configuration."""
    return {
        pool.name: f"pools[{index}].strategy"
        for index, pool in enumerate(config.pools)
        if pool.strategy is not None
    }


def _redirect_port(listener: Listener) -> int | None:
    """The port of `redirect_https`; true is the usual one."""
    match listener.redirect_https:
        case False:
            return None
        case True:
            return _HTTPS
        case port:
            return port


def _listener(config: Config, listener: Listener, material: Material) -> document.Listener:
    proxies = listener.proxy_protocol
    return {
        "name": listener.name,
        "addresses": list(listener.addresses),
        "protocol": listener.protocol,
        "http2": listener.protocol == "http" and bool(listener.http2),
        "filters": list(listener.filters),
        "pool": listener.pool,
        "limits": _limits(given(listener.limits), datagrams=listener.protocol == "udp"),
        "timeouts": {
            "head_ms": milliseconds(given(listener.read_timeout)),
            "body_ms": milliseconds(given(listener.read_timeout)),
            "write_ms": milliseconds(given(listener.write_timeout)),
            "idle_ms": milliseconds(given(listener.idle_timeout)),
            "drain_ms": _stream_drain_ms(config),
            "min_body_rate": config.server.min_body_rate,
        },
        "trusted_proxies": list(given(listener.trusted_proxies)),
        "forwarded": given(listener.forwarded),
        "trace": given(listener.trace),
        "escaped_slashes": given(listener.escaped_slashes),
        "tls": listener_tls(listener, material),
        "redirect_https": _redirect_port(listener),
        "passthrough": passthrough(listener),
        "answers": listener.answers,
        "retries": {
            "max": listener.retries.max or 0,
            "delay_ms": milliseconds(listener.retries.delay or 0.0),
        },
        "proxy_protocol": {"trusted": list(proxies.trusted)} if proxies.accept else None,
    }


def _stream_drain_ms(config: Config) -> int:
    """How long tunnels and sessions may go on; the end of the process cuts them off besides."""
    own = config.server.stream_drain_timeout
    return milliseconds(config.server.shutdown_timeout if own is None else own)


def _limits(limits: Limits, *, datagrams: bool) -> document.Limits:
    # Whoever sends datagrams can make up addresses, and each of them is a session.
    least = _UDP_SESSIONS if datagrams else 0
    return {
        "head_bytes": limits.max_head_size,
        "headers": limits.max_headers,
        "streams": limits.max_streams,
        "target_bytes": limits.max_target,
        "body_bytes": limits.max_body_size,
        "connections": limits.max_connections or least,
        "client_connections": limits.max_connections_per_client,
    }


def _control_listener(config: Config, address: str) -> document.Listener:
    server = config.server
    own = Listener(
        name="control",
        address=address,
        limits=server.limits.model_copy(
            # Whoever runs the balancer is not kept out by what holds clients back.
            update={"max_body_size": _CONTROL_BODY_BYTES, "max_connections_per_client": 0}
        ),
        read_timeout=server.read_timeout,
        write_timeout=server.write_timeout,
        idle_timeout=server.idle_timeout,
        trusted_proxies=server.trusted_proxies,
        forwarded=False,
        escaped_slashes=server.escaped_slashes,
        trace=False,
        http2=server.http2,
    )
    return _listener(config, own, Material()) | {"name": CONTROL_LISTENER}


def _route(config: Config, route: Route, http_listeners: list[str]) -> document.Route:
    retries = route.retries
    on = given(retries.on)
    upgrade = given(route.upgrade)
    return {
        "name": route.name,
        "listeners": list(route.listeners) or http_listeners,
        "match": compile_match(route.match),
        "filters": list(route.filters),
        "action": compile_action(route),
        "fallback": route.fallback,
        "rewrite": compile_rewrite(route.rewrite, route.match),
        "mirror": compile_mirror(route.mirror),
        "fault": compile_fault(route.fault),
        "internal": False,
        "timeout_ms": milliseconds(route.timeout),
        "on_client_close": route.on_client_close or config.server.on_client_close,
        "retries": {
            "max": given(retries.max),
            "delay_ms": milliseconds(given(retries.delay)),
            "per_try_timeout_ms": milliseconds(given(retries.per_try_timeout)),
            "statuses": [status for status in on if isinstance(status, int)],
            "on_timeout": "timeout" in on,
            "budget": retries.budget,
        },
        "hedge": compile_hedge(route.hedge),
        "upgrade": {
            "idle_ms": milliseconds(upgrade.idle_timeout),
            "max_ms": milliseconds(upgrade.max_lifetime),
            "drain_ms": _stream_drain_ms(config),
        }
        if upgrade.enabled
        else None,
    }
