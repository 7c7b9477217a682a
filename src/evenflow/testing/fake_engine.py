"""An engine without sockets, for tests of what Python decides.

It follows the `Engine` protocol as the Rust engine does: it refuses the plans that one refuses,
joins endpoint state by identity over applies, answers probes from a table the test writes, and
wakes its descriptor while events wait. It carries no traffic: a test that needs some uses the real
engine. Counters change only through `count`.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evenflow.engine import (
    ApplyReport,
    BreakerUpdate,
    Candidate,
    DrainReport,
    EndpointSnapshot,
    EndpointUpdate,
    EngineError,
    Event,
    ExplainRequest,
    Explanation,
    HedgeUpdate,
    Histogram,
    MembersChange,
    Outcome,
    Outcomes,
    Plan,
    PoolUpdate,
    Probe,
    ProbeResult,
    Snapshot,
    Totals,
)

BOUNDS_S = [0.001, 0.01, 0.1, 1.0, 10.0]
_MAX_EVENTS = 65_536


def engine_error(code: str, path: str, message: str) -> EngineError:
    """An `EngineError` as the engine raises it."""
    error = EngineError(message)
    error.code, error.path, error.message = code, path, message
    return error


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probed address answers."""

    outcome: Outcome = "ok"
    status: int = 200
    body: str = ""
    detail: str = ""


@dataclass(slots=True)
class FakeEndpoint:
    """One endpoint as the engine knows it; tests may change the counters."""

    pool: str
    document: dict[str, Any]
    requests: int = 0
    in_flight: int = 0
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    status_5xx: int = 0
    ejected_until: float = 0.0

    @property
    def identity(self) -> tuple[str, str, str]:
        """What joins its state over applies."""
        return self.pool, self.document["id"], self.document["target"]

    @property
    def refusal(self) -> str:
        """Why it would get no request; empty when it would."""
        if not self.document["addresses"]:
            return "unresolved"
        if not self.document["up"]:
            return "down"
        if self.document["drain"]:
            return "draining"
        if self.ejected_until > time.monotonic():
            return "ejected"
        bound = self.document["max_connections"]
        return "full" if bound and self.in_flight >= bound else ""


@dataclass
class FakeEngine:
    """The protocol in memory.

    `answers` maps an address to what a probe of it finds; an address that is not there refuses the
    connection. With `hold_probes`, results come only on `answer`.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    hold_probes: bool = False
    before_apply: Callable[[Plan], None] | None = None
    """Called with every plan before it is looked at; raise to refuse it."""

    plans: list[Plan] = field(default_factory=list)
    """Every plan that was put in force, oldest first."""
    member_changes: list[MembersChange] = field(default_factory=list)
    pool_updates: list[PoolUpdate] = field(default_factory=list)
    endpoint_updates: list[EndpointUpdate] = field(default_factory=list)
    hedge_updates: list[HedgeUpdate] = field(default_factory=list)
    breaker_updates: list[BreakerUpdate] = field(default_factory=list)
    seen: list[Outcomes] = field(default_factory=list)
    """What `outcomes` tells."""
    probes: list[Probe] = field(default_factory=list)
    """Every probe submitted, oldest first."""
    explanation: Explanation | None = None
    """What `explain` says instead of its own finding."""
    passed: bytes = b""
    """What `take_passed` tells next."""
    charged: list[bytes] = field(default_factory=list)
    """Everything that was charged, oldest first."""
    logs_reopened: int = 0
    accepting: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        self._endpoints: dict[tuple[str, str], FakeEndpoint] = {}
        self._events: list[Event] = []
        self._worker_restarts = 0
        self._held: list[Probe] = []
        self._pickers: dict[str, PoolUpdate] = {}
        self._readable, self._wake = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._wake, False)
        self._started = time.monotonic()
        # `apply` comes from a thread while the event loop goes on, as with the real engine.
        self._lock = threading.RLock()

    # What the protocol asks for.

    def apply(self, plan: Plan) -> ApplyReport:
        """Put a plan in force after the checks the Rust engine makes."""
        with self._lock:
            self._check_open()
            if self.before_apply is not None:
                self.before_apply(plan)
            check_plan(plan)
            old = {endpoint.identity: endpoint for endpoint in self._endpoints.values()}
            new: dict[tuple[str, str], FakeEndpoint] = {}
            for pool in plan["pools"]:
                for document in pool["endpoints"]:
                    endpoint = FakeEndpoint(pool["name"], copy.deepcopy(dict(document)))
                    if (kept := old.pop(endpoint.identity, None)) is not None:
                        kept.document = endpoint.document
                        endpoint = kept
                    new[pool["name"], document["id"]] = endpoint
            added = sum(1 for key in new if key not in self._endpoints)
            self._endpoints = new
            self._pickers = {}
            self.plans.append(plan)
            self.accepting = True
            return {
                "revision": plan["revision"],
                "listeners": {
                    listener["name"]: [_bound(address) for address in listener["addresses"]]
                    for listener in plan["listeners"]
                },
                "endpoints_added": added,
                "endpoints_removed": len(old),
            }

    def change_members(self, change: MembersChange) -> ApplyReport:
        """Put the plan in force that differs by one pool's members."""
        with self._lock:
            self._check_open()
            old = self._pool(change["pool"])
            if len(old["endpoints"]) != change["members"]:
                raise engine_error("plan", "members", f"there are {len(old['endpoints'])}")
            endpoints = list(old["endpoints"])
            endpoints[change["at"] : change["at"] + change["remove"]] = change["insert"]
            new: Any = {**old, "endpoints": endpoints}
            new |= {key: change[key] for key in ("picker", "use_all", "panic")}
            pools = [new if pool is old else pool for pool in self.plan["pools"]]
            # What was told of endpoints since the plan came is theirs until the plan tells anew.
            told = {key: endpoint.document for key, endpoint in self._endpoints.items()}
            report = self.apply({**self.plan, "revision": change["revision"], "pools": pools})
            touched = {endpoint["id"] for endpoint in change["insert"]}
            for key, document in told.items():
                if key in self._endpoints and (key[0] != change["pool"] or key[1] not in touched):
                    self._endpoints[key].document = document
            self.member_changes.append(change)
            return report

    def update_pool(self, update: PoolUpdate) -> None:
        """Replace one pool's picker."""
        with self._lock:
            self._check_open()
            pool = self._pool(update["pool"])
            _check_picker("picker", update["picker"], len(pool["endpoints"]))
            self._pickers[update["pool"]] = update
            self.pool_updates.append(update)

    def set_endpoint(self, update: EndpointUpdate) -> None:
        """Change one endpoint's state."""
        with self._lock:
            self._check_open()
            endpoint = self.endpoint(update["pool"], update["id"])
            for key, value in update.items():
                if key not in {"pool", "id"}:
                    if key not in endpoint.document:
                        raise engine_error("plan", key, f"unknown field `{key}`")
                    endpoint.document[key] = value
            self.endpoint_updates.append(update)

    def clear_ejection(self, pool: str, id: str) -> None:
        """End an ejection now."""
        self._check_open()
        self.endpoint(pool, id).ejected_until = 0.0

    def set_breaker(self, update: BreakerUpdate) -> None:
        """Note a breaker's state."""
        with self._lock:
            self._check_open()
            if update["id"] is None:
                self._pool(update["pool"])
            else:
                self.endpoint(update["pool"], update["id"])
            self.breaker_updates.append(update)

    def set_hedge(self, update: HedgeUpdate) -> None:
        """Note a route's delay."""
        self._check_open()
        self.hedge_updates.append(update)

    def outcomes(self) -> list[Outcomes]:
        """Tell what the test set."""
        self._check_open()
        return list(self.seen)

    def snapshot(self) -> Snapshot:
        """Read all counters."""
        with self._lock:
            self._check_open()
            plan = self.plans[-1] if self.plans else None
            endpoints = list(self._endpoints.values())
            return {
                "revision": plan["revision"] if plan else 0,
                "uptime_s": time.monotonic() - self._started,
                "bounds_s": BOUNDS_S,
                "workers": [{"id": 0, "busy_s": 0.0, "restarts": 0, "panics": 0}],
                "listeners": [
                    {
                        "name": listener["name"],
                        "connections": 0,
                        "accepted": 0,
                        "rejected": 0,
                        "handshakes": {},
                    }
                    for listener in (plan["listeners"] if plan else [])
                ],
                "requests": [
                    {
                        "route": "default",
                        "pool": endpoint.pool,
                        "backend": endpoint.document["id"],
                        "status": 200,
                        "count": endpoint.requests,
                    }
                    for endpoint in endpoints
                    if endpoint.requests
                ],
                "methods": [
                    {"method": "GET", "status": 200, "count": self.totals()["requests"]},
                ],
                "routes": [],
                "route_events": [],
                "endpoints": [_endpoint_snapshot(endpoint) for endpoint in endpoints],
                "pools": [
                    {
                        "name": pool["name"],
                        "queue_length": 0,
                        "queue_timeouts": 0,
                        "queue_rejected": 0,
                        "ejections": 0,
                        "retries": {"connect": 0, "reset": 0, "timeout": 0, "status": 0},
                        "retries_over_budget": 0,
                        "breaker_refused": 0,
                    }
                    for pool in (plan["pools"] if plan else [])
                ],
                "filters": [],
                "errors": [],
                "access_log": {"written": 0, "dropped": 0},
                "memory": {
                    "held_bytes": 0,
                    "limit_bytes": plan["buffer_bytes"] if plan else 0,
                },
            }

    def totals(self) -> Totals:
        """Count all requests."""
        self._check_open()
        counts = (endpoint.requests for endpoint in tuple(self._endpoints.values()))
        return {
            "uptime_s": time.monotonic() - self._started,
            "requests": sum(counts),
            "worker_restarts": self._worker_restarts,
            "worker_panics": 0,
        }

    def take_passed(self) -> tuple[bytes, int]:
        """Tell what the test set, once."""
        self._check_open()
        passed, self.passed = self.passed, b""
        return passed, 0

    def charge(self, passed: bytes) -> None:
        """Note what is charged."""
        self._check_open()
        self.charged.append(passed)

    def endpoint_snapshot(self, pool: str, id: str) -> EndpointSnapshot:
        """Read one endpoint."""
        with self._lock:
            self._check_open()
            return _endpoint_snapshot(self.endpoint(pool, id))

    def explain(self, request: ExplainRequest) -> Explanation:
        """Name the first usable endpoint of the first route's pool, or what the test set."""
        self._check_open()
        if self.explanation is not None:
            return self.explanation
        plan = self.plans[-1]
        route = next((route for route in plan["routes"] if not route["internal"]), None)
        candidates: list[Candidate] = [
            {
                "id": endpoint.document["id"],
                "usable": not endpoint.refusal,
                "reason": endpoint.refusal,  # type: ignore[typeddict-item]  # one of its literals
            }
            for endpoint in self._endpoints.values()
            if route is not None and endpoint.pool == _pool_of(route)
        ]
        chosen = next((candidate["id"] for candidate in candidates if candidate["usable"]), None)
        return {
            "listener": request["listener"] or plan["listeners"][0]["name"],
            "route": route and route["name"],
            "passed_over": [],
            "split": None,
            "target": None,
            "filters": [],
            "pool": route and _pool_of(route),
            "picker": "cycle",
            "backend": chosen,
            "reason": "first usable" if chosen else "no backend is usable",
            "candidates": candidates,
        }

    def submit_probes(self, probes: Sequence[Probe]) -> None:
        """Answer probes from the table, or keep them for `answer`."""
        with self._lock:
            self._check_open()
            self.probes.extend(probes)
            self._held.extend(probes)
            if not self.hold_probes:
                self.answer()

    def take_events(self) -> list[Event]:
        """Take all waiting events."""
        with self._lock:
            self._check_open()
            events, self._events = self._events, []
            while self._readable_bytes():
                pass
            return events

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""
        return self._readable

    def reopen_logs(self) -> None:
        """Count the request."""
        self.logs_reopened += 1

    def stop_accepting(self) -> None:
        """Note it."""
        self._check_open()
        self.accepting = False

    def drain(self, deadline_s: float) -> DrainReport:
        """Wait until the test has set every `in_flight` to 0, or the deadline."""
        until = time.monotonic() + deadline_s
        while True:
            self._check_open()
            left = sum(endpoint.in_flight for endpoint in tuple(self._endpoints.values()))
            if not left or time.monotonic() >= until:
                return {"clean": not left, "aborted": left}
            time.sleep(0.005)

    def close(self) -> None:
        """Refuse everything from now on."""
        with self._lock:
            if not self.closed:
                self.closed = True
                os.close(self._readable)
                os.close(self._wake)

    # What tests use.

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.plans[-1]

    def picker(self, pool: str) -> Mapping[str, Any]:
        """The picker in force: the last update's, or the plan's."""
        if (update := self._pickers.get(pool)) is not None:
            return update["picker"]
        picker: Mapping[str, Any] = self._pool(pool)["picker"]
        return picker

    def uses_all(self, pool: str) -> bool:
        """Whether the pool falls back on all endpoints while none is usable."""
        update = self._pickers.get(pool)
        return bool(update["use_all"] if update is not None else self._pool(pool)["use_all"])

    def endpoint(self, pool: str, id: str) -> FakeEndpoint:
        """One endpoint of the plan in force."""
        try:
            return self._endpoints[pool, id]
        except KeyError:
            raise engine_error("plan", "id", f"no endpoint {id!r} in pool {pool!r}") from None

    def count(self, pool: str, id: str, *, requests: int, status_5xx: int = 0) -> None:
        """Pretend that an endpoint served requests."""
        endpoint = self.endpoint(pool, id)
        endpoint.requests += requests
        endpoint.status_5xx += status_5xx

    def eject(self, pool: str, id: str, reason: str, for_s: float) -> None:
        """Pretend that passive health ejected an endpoint."""
        self.endpoint(pool, id).ejected_until = time.monotonic() + for_s
        self.emit(
            {"kind": "ejected", "pool": pool, "backend": id, "reason": reason, "for_s": for_s}
        )

    def answer(self) -> None:
        """Answer all probes held so far."""
        with self._lock:
            held, self._held = self._held, []
            for probe in held:
                self.emit(self._result(probe))

    def emit(self, event: Event) -> None:
        """Queue one event."""
        with self._lock:
            self._events.append(event)
            self._worker_restarts += event["kind"] == "worker_restarted"
            del self._events[:-_MAX_EVENTS]
            if len(self._events) == 1:
                os.write(self._wake, b"\0")

    def _result(self, probe: Probe) -> ProbeResult:
        answer = self.answers.get(
            probe["addresses"][0], Answer(outcome="refused", detail="refused")
        )
        http = probe["http"]
        answered = http is not None and answer.outcome == "ok"
        return {
            "kind": "probe",
            "id": probe["id"],
            "outcome": answer.outcome,
            "detail": answer.detail,
            "status": answer.status if answered else None,
            "body": answer.body[: http["body_bytes"]] if http is not None and answered else "",
            "elapsed_s": 0.001,
        }

    def _pool(self, name: str) -> Any:
        for pool in self.plans[-1]["pools"] if self.plans else []:
            if pool["name"] == name:
                return pool
        raise engine_error("plan", "pool", f"no pool {name!r}")

    def _readable_bytes(self) -> bytes:
        try:
            return os.read(self._readable, 4096)
        except BlockingIOError:
            return b""

    def _check_open(self) -> None:
        if self.closed:
            raise engine_error("closed", "", "the engine is closed")


def check_plan(plan: Plan) -> None:
    """Refuse what the Rust engine refuses: wrong version, doubled names, references to nothing."""
    if plan["version"] != 1:
        raise engine_error("plan", "version", f"expected 1, got {plan['version']}")
    names: dict[str, set[str]] = {}
    sections: dict[str, Sequence[Mapping[str, Any]]] = {
        "listeners": plan["listeners"],
        "filters": plan["filters"],
        "routes": plan["routes"],
        "pools": plan["pools"],
    }
    for section, members in sections.items():
        names[section] = set()
        for index, member in enumerate(members):
            if member["name"] in names[section]:
                path = f"{section}[{index}].name"
                raise engine_error("plan", path, f"{member['name']!r} is there twice")
            names[section].add(member["name"])
    for section in ("listeners", "routes"):
        for index, member in enumerate(sections[section]):
            path = f"{section}[{index}]"
            for chain in member["filters"]:
                if chain not in names["filters"]:
                    raise engine_error("plan", f"{path}.filters", f"no filter chain {chain!r}")
            pool = member["pool"] if section == "listeners" else _pool_of(member)
            if pool and pool not in names["pools"]:
                raise engine_error("plan", f"{path}.pool", f"no pool {pool!r}")
    for index, pool in enumerate(plan["pools"]):
        path = f"pools[{index}]"
        ids = [endpoint["id"] for endpoint in pool["endpoints"]]
        if len(set(ids)) != len(ids):
            raise engine_error("plan", f"{path}.endpoints", "an id is there twice")
        _check_picker(f"{path}.picker", pool["picker"], len(ids))


def _check_picker(path: str, picker: Mapping[str, Any], endpoints: int) -> None:
    if len(picker) != 1 or next(iter(picker)) not in {"cycle", "hash", "least"}:
        raise engine_error("plan", path, "expected one of `cycle`, `hash`, `least`")
    ((kind, body),) = picker.items()
    for index in body.get("table", []):
        if not 0 <= index < endpoints:
            raise engine_error("plan", f"{path}.{kind}.table", f"no endpoint {index}")


def _bound(address: str) -> str:
    host, separator, port = address.rpartition(":")
    return f"{host}:40000" if separator and port == "0" else address


def _no_times() -> Histogram:
    return {"counts": [0] * (len(BOUNDS_S) + 1), "sum_s": 0.0}


def _endpoint_snapshot(endpoint: FakeEndpoint) -> EndpointSnapshot:
    document = endpoint.document
    total = _no_times()
    total["counts"][1] = endpoint.requests
    total["sum_s"] = endpoint.requests * 0.005
    return {
        "pool": endpoint.pool,
        "id": document["id"],
        "target": document["target"],
        "up": document["up"],
        "drain": document["drain"],
        "usable": not endpoint.refusal,
        "ejected_for_s": max(0.0, endpoint.ejected_until - time.monotonic()),
        "weight": document["weight"],
        "in_flight": endpoint.in_flight,
        "idle_connections": 0,
        "latency_s": 0.005 if endpoint.requests else 0.0,
        "requests": endpoint.requests,
        "errors": {
            "connect": 0,
            "reset": 0,
            "timeout": 0,
            "protocol": 0,
            "status_5xx": endpoint.status_5xx,
        },
        "connects": 0,
        "tls_failures": {},
        "bytes_sent": 0,
        "bytes_received": 0,
        "connect": _no_times(),
        "first_byte": {"counts": list(endpoint.first_byte), "sum_s": 0.0},
        "total": total,
    }


def _pool_of(route: Mapping[str, Any]) -> str:
    """The first pool of a route; empty where the balancer answers by itself."""
    match route["action"]:
        case {"pool": name}:
            return str(name)
        case {"split": {"arms": [{"pool": name}, *_]}}:
            return str(name)
    return ""
