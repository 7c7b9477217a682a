"""A pool of the expanded configuration as the plan's pool: endpoints, and the strategy's picker."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar, cast

from evenflow.certs import Material
from evenflow.config import (
    Backend,
    BreakerConfig,
    ConfigError,
    HttpVersion,
    Pool,
    Problem,
    StrategyConfig,
    http_version,
)
from evenflow.filters import request_key
from evenflow.strategies import Cycle, Hash, Least, Picker, Strategy, resolve
from evenflow.strategies import Endpoint as Candidate

from . import document
from .tls import pool_tls

Value = TypeVar("Value")

_NO_BOUND_MS = 10 * 365 * 86_400_000
_MAX_TABLE = 1 << 20
_LEAST_RAMP = 0.001
_STRATEGY = "strategy"
_DRAIN = attrgetter("drain")


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """What is known of a backend while it runs.

    `up` is its health, and `ramp` the share (0 to 1) of its weight that slow start has reached;
    `ejected` is passive health and the backend's breaker, which the engine looks after by itself. A
    backend without a state counts as up and at its full weight.
    """

    up: bool = True
    ramp: float = 1.0
    ejected: bool = False


States = Mapping[tuple[str, str], RuntimeState]
"""By the names of pool and backend."""

Addresses = Mapping[str, Sequence[str]]
"""By `Target.address`: where to connect, `ip:port`; empty or absent while it does not resolve."""

_UP = RuntimeState()


def compile_pool(
    pool: Pool,
    state: States,
    addresses: Addresses,
    strategy_path: str = _STRATEGY,
    *,
    sticky_key: bytes = b"",
    material: Material,
) -> document.Pool:
    """The plan's pool; raises `ConfigError` where the strategy cannot be found or fails."""
    outlier, queue = given(pool.outlier), given(pool.queue)
    connections = given(pool.connections)
    return {
        "name": pool.name,
        "picker": compile_picker(pool, state, addresses, strategy_path),
        "endpoints": compile_endpoints(pool, pool.backends, state, addresses, sticky_key),
        "use_all": uses_all(pool),
        "panic": panic_of(pool, state, addresses),
        "queue": {"max": queue.max, "timeout_ms": milliseconds(queue.timeout)},
        "outlier": {
            "consecutive_errors": outlier.consecutive_errors,
            "base_ejection_ms": milliseconds(outlier.base_ejection),
            "max_ejection_ms": milliseconds(outlier.max_ejection),
            "max_ejected": outlier.max_ejected,
        }
        if outlier.enabled
        else None,
        "breaker": _breaker(pool.breaker),
        "sticky": {"cookie": pool.sticky.cookie, "max_age_s": round(pool.sticky.ttl)}
        if pool.sticky is not None
        else None,
        "connections": {
            "max_idle": connections.max_idle,
            "idle_ms": milliseconds(connections.idle_timeout),
            "tcp_keepalive_ms": milliseconds(connections.tcp_keepalive),
            "ping_ms": milliseconds(connections.ping_interval),
            "ping_timeout_ms": milliseconds(connections.ping_timeout),
        },
        "retry_budget": given(pool.retry_budget),
        "retry_floor": given(pool.retry_floor),
        "tls": pool_tls(pool, material),
        "send_proxy": pool.send_proxy,
    }


def compile_pool_update(pool: Pool, state: States, addresses: Addresses) -> document.PoolUpdate:
    """The picker anew, after health or slow start changed; the endpoints must be as they were."""
    return {
        "pool": pool.name,
        "picker": compile_picker(pool, state, addresses),
        "use_all": uses_all(pool),
        "panic": panic_of(pool, state, addresses),
    }


def panic_of(pool: Pool, state: States, addresses: Addresses) -> document.Panic | None:
    """What is done because too few backends are usable; `None` while enough are.

    Draining backends count neither among the usable nor among all.
    """
    panic, name = given(pool.panic), pool.name
    if not panic.below:
        return None
    wanted = [backend for backend in pool.backends if not backend.drain]
    if not wanted:
        return None
    usable = sum(
        (known := state.get((name, backend.id), _UP)).up
        and not known.ejected
        and (backend.target.resolved or bool(addresses.get(backend.target.address)))
        for backend in wanted
    )
    return panic.mode if usable < panic.below * len(wanted) else None


def compile_picker(
    pool: Pool, state: States, addresses: Addresses, strategy_path: str = _STRATEGY
) -> document.Picker:
    """What the pool's strategy makes of the endpoints in rotation.

    In rotation are those that are up and not draining; if there are none, or so few that all are
    used, those not draining; if there are none of these either, all. Raises `ConfigError`, with `strategy_path` as its path,
    where the strategy cannot be found or fails.
    """
    if not pool.backends:
        return {"cycle": {"table": []}}
    everyone = panic_of(pool, state, addresses) == "use_all"
    indices, candidates = _in_rotation(pool, state, everyone=everyone)
    strategy = find_strategy(pool, strategy_path)
    try:
        picker = strategy(candidates)
        return _picker_document(picker, candidates, indices, len(pool.backends))
    except Exception as error:  # A strategy may be the user's code, which may raise anything.
        text = f"strategy {_strategy_name(pool)} failed: {error}"
        raise ConfigError([Problem(strategy_path, text)]) from error


def find_strategy(pool: Pool, strategy_path: str = _STRATEGY) -> Strategy:
    """The pool's strategy with its parameters; raises `ConfigError` where there is none."""
    chosen = pool.strategy
    parameters: dict[str, object] = {}
    if isinstance(chosen, StrategyConfig):
        parameters = {
            name: value
            for name in ("key", "load_bound", "choices")
            if (value := getattr(chosen, name)) is not None
        } | chosen.options
    try:
        return resolve(_strategy_name(pool), **parameters)
    except ValueError as error:
        raise ConfigError([Problem(strategy_path, str(error))]) from error


def effective_weight(backend: Backend, ramp: float) -> int:
    """The endpoint's weight at this point of slow start, at least 1."""
    return backend.weight if ramp >= 1 else max(1, round(backend.weight * ramp))


def milliseconds(seconds: float) -> int:
    """A duration as the plan counts it."""
    return round(seconds * 1000)


def given(value: Value | None) -> Value:
    """A value that expansion has filled in."""
    assert value is not None, "not expanded"
    return value


def _strategy_name(pool: Pool) -> str:
    match pool.strategy:
        case StrategyConfig(name=name) | str(name):
            return name
        case None:
            raise AssertionError("not expanded")


def uses_all(pool: Pool) -> bool:
    """Whether all that are not draining are used while none is usable."""
    return given(pool.panic).mode == "use_all"


def _in_rotation(pool: Pool, state: States, *, everyone: bool) -> tuple[list[int], list[Candidate]]:
    # Most backends have no state of note, and then nothing is looked up for them.
    noted = {id: known for (name, id), known in state.items() if name == pool.name}
    backends: Sequence[Backend] = pool.backends
    left_out = () if everyone else {id for id, known in noted.items() if not known.up}
    indices = list(range(len(backends)))
    if left_out or any(map(_DRAIN, backends)):
        kept = [at for at in indices if not backends[at].drain]
        up = [at for at in kept if backends[at].id not in left_out]
        indices = up or kept or indices
    if not noted:
        return indices, [_candidate(backends[at], 1.0) for at in indices]
    chosen = [backends[at] for at in indices]
    return indices, [_candidate(each, noted.get(each.id, _UP).ramp) for each in chosen]


def _candidate(backend: Backend, ramp: float) -> Candidate:
    memo = backend.memo
    if ramp >= 1 and (known := memo.get("candidate")) is not None:
        return cast(Candidate, known)
    ramp = min(1.0, max(_LEAST_RAMP, ramp))
    candidate = Candidate(
        backend.id,
        backend.weight * ramp if ramp < 1 else backend.weight,
        backend.max_connections,
        backend.labels,
        backend.url,
        ramp,
    )
    if ramp >= 1:
        memo["candidate"] = candidate
    return candidate


def _picker_document(
    picker: Picker, candidates: list[Candidate], indices: list[int], members: int
) -> document.Picker:
    match picker:
        case Cycle(table, of):
            return {"cycle": {"table": _in_plan(table, of, candidates, indices, members)}}
        case Hash(key, table, load_bound, of):
            return {
                "hash": {
                    "key": request_key(key),
                    "table": _in_plan(table, of, candidates, indices, members),
                    "load_bound": load_bound,
                }
            }
        case Least(score, choices):
            return {"least": {"score": score, "choices": choices}}
    raise TypeError(f"expected Cycle, Hash or Least, got {picker!r}")


def _in_plan(
    table: Sequence[int],
    of: Sequence[Candidate] | None,
    candidates: list[Candidate],
    indices: list[int],
    members: int,
) -> list[int]:
    """The table with the plan's indices in place of those into `of`, or into the candidates."""
    if not table:
        raise ValueError("the table is empty")
    if len(table) > _MAX_TABLE:
        raise ValueError(f"the table has {len(table)} slots, more than {_MAX_TABLE}")
    known = len(candidates if of is None else of)
    if min(table) < 0 or max(table) >= known:
        raise ValueError(f"the table has an index outside 0 to {known - 1}")
    if of is not None and of is not candidates:
        by_id = {each.id: index for each, index in zip(candidates, indices, strict=True)}
        indices = [by_id[each.id] for each in of]
    elif len(indices) == members:
        return list(table)
    return [indices[index] for index in table]


def compile_endpoints(
    pool: Pool,
    backends: Sequence[Backend],
    state: States,
    addresses: Addresses,
    sticky_key: bytes = b"",
) -> list[document.Endpoint]:
    """Backends of a pool as the plan's endpoints."""
    name = pool.name
    timeouts = (
        milliseconds(given(pool.connect_timeout)),
        _bound(given(pool.timeout)),
        _bound(given(pool.idle_timeout)),
    )
    protocol = pool.protocol or "auto"
    endpoints: list[document.Endpoint] = []
    for backend in backends:
        known = state.get((name, backend.id), _UP)
        target = backend.target
        where = None if target.resolved else addresses.get(target.address, ())
        token = "" if pool.sticky is None else _token(sticky_key, name, backend.id)
        made_from = (known, timeouts, where, token, protocol)
        # Most backends are as they were in the plan before: their endpoints are used again.
        kept = backend.memo.get("endpoint")
        if kept is None or kept.made_from != made_from:
            kept = KeptEndpoint(_endpoint(backend, known, timeouts, where, token, protocol))
            kept.made_from = made_from
            backend.memo["endpoint"] = kept
        endpoints.append(cast(document.Endpoint, kept))
    return endpoints


class KeptEndpoint(dict[str, Any]):
    """An endpoint of the plan that later plans share, with its JSON text once it was written."""

    __slots__ = ("made_from", "text")
    made_from: object
    text: str

    def dump(self) -> str:
        """The endpoint as JSON."""
        try:
            return self.text
        except AttributeError:
            self.text = json.dumps(self, separators=(",", ":"))
            return self.text


def _endpoint(
    backend: Backend,
    known: RuntimeState,
    timeouts: tuple[int, int, int],
    where: Sequence[str] | None,
    token: str,
    protocol: HttpVersion,
) -> document.Endpoint:
    connect, first_byte, idle = timeouts
    address = backend.target.address
    return {
        "id": backend.id,
        "target": address,
        "addresses": [address] if where is None else list(where),
        "token": token,
        "weight": effective_weight(backend, known.ramp),
        "max_connections": backend.max_connections,
        "up": known.up,
        "drain": backend.drain,
        "connect_timeout_ms": _own(backend.connect_timeout, connect),
        "first_byte_timeout_ms": _own(backend.timeout, first_byte),
        "idle_timeout_ms": _own(backend.idle_timeout, idle),
        "tls_name": backend.target.host if backend.target.is_tls else None,
        "http": http_version(protocol, backend.target),
    }


def _breaker(rules: BreakerConfig | None) -> document.Breaker | None:
    if rules is None or not rules.enabled:
        return None
    return {
        "endpoints": rules.scope != "pool",
        "whole": rules.scope != "endpoint",
        "consecutive_errors": rules.consecutive_errors,
        # A pool's own breaker alone is what `consecutive_errors` speaks of.
        "pool_consecutive_errors": rules.consecutive_errors
        if rules.scope == "pool"
        else rules.pool_consecutive_errors,
        "slow_ms": milliseconds(rules.latency),
    }


def _token(key: bytes, pool: str, backend: str) -> str:
    """What a client's cookie names a backend by: nobody without the key can make it."""
    text = f"{pool}\0{backend}".encode()
    return hmac.digest(key, text, hashlib.sha256).hex()[:32]


def _own(timeout: float | None, default: int) -> int:
    return default if timeout is None else _bound(timeout)


def _bound(seconds: float) -> int:
    """A timeout of an endpoint, where no bound is written as a very long one."""
    return milliseconds(seconds) or _NO_BOUND_MS
