"""`LoadBalancer`: the whole balancer inside any asyncio program.

It composes the engine, the controller, health checks, the state store and the admin app, and owns
them from `start` to `stop`. The command line uses this class and nothing else. It sets no signal
handlers and configures no logging unless asked to.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from evenflow.certs import stamp
from evenflow.config import Backend, Config, StrategyConfig
from evenflow.controller import Applied, BackendStatus, Controller, StateStore
from evenflow.controller.controller import IN_PROCESS, ReadSources
from evenflow.discovery import Discovery
from evenflow.engine import (
    DrainReport,
    Engine,
    EngineError,
    ExplainRequest,
    Explanation,
    open_engine,
)
from evenflow.health import HealthMonitor
from evenflow.lifecycle import handling_signals, settle_memory, watch_files
from evenflow.private_socket import private_socket
from evenflow.resolve import Lookup, system_lookup

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from evenflow.cluster import Cluster
    from evenflow.state.audit import AuditLog, AuditPolicy

_DRAIN_SLICE_S: Final = 0.25
"""A drain waits in slices, between which it can be told to hurry."""
_POLL_S: Final = 0.05

_log = structlog.get_logger("evenflow.balancer")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to explain: `Request("GET", "/users/7", client="192.0.2.1")`."""

    method: str
    target: str
    client: str = "127.0.0.1"
    """The client's IP address."""
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)
    listener: str | None = None
    """The listener it comes in on; the first HTTP listener when absent."""

    def document(self) -> ExplainRequest:
        """As the engine takes it."""
        pairs = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        return {
            "listener": self.listener,
            "method": self.method,
            "target": self.target,
            "headers": [(name.lower(), value) for name, value in pairs],
            "client": self.client,
        }


class LoadBalancer:
    """A load balancer; serves from `start` (or `async with`) to `stop`.

    Changes are in effect, and kept in the state store, when their call returns. Without a `store`,
    a configuration that names one in its `state` section gets that one, as does a configuration
    that comes from files; any other is kept in memory only.

    `read_sources` reads the configuration's sources again for `reload`, and `watch` names files
    whose change calls for one. `on_config` is called with the configuration after each change.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: StateStore | None = None,
        read_sources: ReadSources | None = None,
        watch: Sequence[Path] = (),
        on_config: Callable[[Config], None] | None = None,
        reopen_logs: Callable[[], None] | None = None,
        set_log_level: Callable[[str], None] | None = None,
        admin_hosts: Collection[str] = (),
        engine: Engine | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._initial = config
        self._given_store = store
        self._read_sources = read_sources
        self._watch = tuple(watch)
        # From before the start, which takes its time: no change is missed.
        self._stamps = [stamp(path) for path in self._watch]
        self._on_config = on_config
        self._reopen_program_logs = reopen_logs
        self._set_log_level = set_log_level
        self._admin_hosts = admin_hosts
        self._given_engine = engine
        self._lookup = lookup
        self._running: AsyncExitStack | None = None
        self._controller: Controller | None = None
        self._stop_requested = asyncio.Event()
        self._started = asyncio.Event()
        self._drain_deadline_s: float | None = None
        self._drain_until = math.inf
        self._end_streams: Callable[[], None] = _nothing

    # Life.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind, serve, and begin to check backends.

        Raises `ConfigError` (also for an address that cannot be bound), `StateError` or
        `EngineError`; then nothing is left running.
        """
        if self._running is not None:
            raise RuntimeError("the load balancer is running already")
        self._end_streams = _nothing
        self._drain_deadline_s, self._drain_until = None, math.inf
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._running = stack.pop_all()
        self._started.set()

    async def _start(self, stack: AsyncExitStack) -> None:
        config = self._initial
        engine = self._given_engine or open_engine(_workers(config))
        stack.push_async_callback(asyncio.to_thread, engine.close)
        listener = stack.enter_context(private_socket())
        from evenflow.state import node_name, session_key

        folder = self._state_folder(config)
        name = await asyncio.to_thread(node_name, folder)
        store = self._given_store or _store_for(config, folder, name)
        stack.push_async_callback(store.close)
        controller = Controller(
            engine,
            store,
            admin_socket=listener.getsockname(),
            sticky_key=session_key(folder),
            read_sources=self._read_sources,
            lookup=self._lookup,
            folder=None if folder is None else folder.absolute() / "acme",
        )
        stack.push_async_callback(controller.close)
        discovery = Discovery(controller)
        stack.push_async_callback(discovery.close)
        if self._on_config is not None:
            controller.on_config(self._on_config)
        audit_log = _audit_log(config, folder)
        stack.push_async_callback(asyncio.to_thread, audit_log.close)
        await audit_log.open()
        controller.on_revision(audit_log.record_revision)
        controller.on_config(lambda new: setattr(audit_log, "policy", _audit_policy(new)))
        await controller.start(config)
        self._controller = controller
        stack.callback(self._forget_controller)
        controller.start_background()
        discovery.start()
        monitor = HealthMonitor(controller)
        stack.callback(monitor.close)
        monitor.start()
        from evenflow.cluster import Cluster

        cluster = Cluster(controller, name)
        stack.push_async_callback(cluster.close)
        cluster.start()
        # Only now that traffic is served: importing the admin app takes a while.
        app = await asyncio.to_thread(self._admin_app, controller, audit_log, cluster)
        from evenflow.admin.server import serving

        await stack.enter_async_context(serving(app, listener))
        self._end_streams = app.state.context.closing.set

    async def stop(self) -> None:
        """Drain for at most `server.shutdown_timeout`, then close; harmless when not running."""
        running, self._running = self._running, None
        if running is None:
            return
        async with running:
            # Streams of events never end by themselves and would hold up the drain.
            self._end_streams()
            await self.drain(self._drain_deadline_s)
        self._started.clear()
        self._stop_requested.clear()

    async def serve_forever(self, *, handle_signals: bool = False) -> None:
        """Serve until `request_stop`, then drain and stop.

        Watches the files given to the constructor. With `handle_signals`, SIGTERM and SIGINT ask
        for the stop (a second one skips the drain), SIGHUP reloads and SIGUSR1 reopens the logs.
        """
        async with AsyncExitStack() as stack:
            # Entered before the port answers, since whoever sees it answer may signal at once; and
            # left last, since a second signal must reach a drain that takes long.
            if handle_signals:
                await stack.enter_async_context(handling_signals(self))
            if self._running is None:
                await self.start()
            if handle_signals:
                settle_memory()
            stack.push_async_callback(self.stop)
            if self._watch:
                watching = watch_files(self._watch, self._reload_for_file, known=self._stamps)
                await stack.enter_async_context(watching)
            await self._stop_requested.wait()

    def request_stop(self, *, deadline_s: float | None = None) -> None:
        """Make `serve_forever` end; `deadline_s` replaces `server.shutdown_timeout`.

        A drain that is under way is shortened by it.
        """
        if deadline_s is not None:
            self._drain_deadline_s = deadline_s
            self._drain_until = min(self._drain_until, time.monotonic() + deadline_s)
        self._stop_requested.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop_requested.is_set()

    async def drain(self, deadline_s: float | None = None) -> DrainReport:
        """Take no new connection, and wait until nothing is in flight or the deadline."""
        controller = self.controller
        if deadline_s is None:
            deadline_s = controller.config.server.shutdown_timeout
        controller.decisions.record("drain", "draining", f"at most {deadline_s:g} s")
        await asyncio.to_thread(controller.engine.stop_accepting)
        self._drain_until = time.monotonic() + deadline_s
        while True:
            left = max(0.0, self._drain_until - time.monotonic())
            report = await asyncio.to_thread(controller.engine.drain, min(left, _DRAIN_SLICE_S))
            if report["clean"] or time.monotonic() >= self._drain_until:
                break
        reason = "nothing was in flight" if report["clean"] else f"{report['aborted']} cut off"
        controller.decisions.record(
            "drain", "drained", reason, level="info" if report["clean"] else "warning"
        )
        return report

    # What is wanted.

    async def add_backend(self, backend: Backend, *, pool: str | None = None) -> Applied:
        """Add a backend; raises `ConfigError`, also when its id is taken."""
        return await self.controller.add_backend(backend, pool=pool, source=IN_PROCESS)

    async def update_backend(self, id: str, **change: Any) -> Applied:
        """Change fields of a backend: `update_backend("a", weight=50)`."""
        return await self.controller.update_backend(id, change, source=IN_PROCESS)

    async def remove_backend(self, id: str) -> Applied:
        """Remove a backend; its requests in flight are finished.

        Raises `BackendNotFound`, or `BackendDiscovered` for one that is not configured.
        """
        return await self.controller.remove_backend(id, source=IN_PROCESS)

    async def drain_backend(self, id: str, *, timeout_s: float = 30.0) -> bool:
        """Give a backend no new requests and wait until it is empty; whether it became so."""
        await self.controller.update_backend(id, {"drain": True}, source=IN_PROCESS)
        try:
            async with asyncio.timeout(timeout_s):
                # The engine counts what is in flight and does not tell when that changes.
                while any(b.active_connections for b in self.backends if b.id == id):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        return True

    async def set_strategy(self, strategy: str | StrategyConfig) -> Applied:
        """Change the strategy of every pool that has none of its own."""
        given = strategy if isinstance(strategy, str) else strategy.model_dump(mode="json")
        return await self.controller.patch(
            {"load_balancer": {"strategy": given}}, source=IN_PROCESS
        )

    async def apply(self, config: Config) -> Applied:
        """Put a whole configuration in force."""
        return await self.controller.apply(config, source=IN_PROCESS)

    async def reload(self) -> Applied:
        """Read the sources again and apply what changed in them; raises `ConfigError`."""
        return await self.controller.reload(source=IN_PROCESS)

    def reopen_logs(self) -> None:
        """Reopen the files of the access log and of the program log, after they were moved."""
        self.controller.engine.reopen_logs()
        if self._reopen_program_logs is not None:
            self._reopen_program_logs()

    # What is.

    @property
    def controller(self) -> Controller:
        """The controller of the running balancer."""
        if self._controller is None:
            raise RuntimeError("the load balancer is not running")
        return self._controller

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.controller.config

    @property
    def addresses(self) -> Mapping[str, list[str]]:
        """The addresses really bound, by listener."""
        return self.controller.listening

    @property
    def backends(self) -> list[BackendStatus]:
        """All backends."""
        return self.controller.backends()

    @property
    def healthy_backends(self) -> list[BackendStatus]:
        """The backends that get requests as far as their health goes."""
        return [backend for backend in self.backends if backend.healthy]

    def stats(self) -> dict[str, Any]:
        """Requests, errors, times and rates, in all and for each backend."""
        return self.controller.stats()

    def explain(self, request: Request) -> Explanation:
        """Where a request would go now, and why; nothing is sent and nothing changes."""
        return self.controller.explain(request.document())

    def select_backend(self, request: Request) -> BackendStatus | None:
        """The backend a request would go to now, if any."""
        found = self.explain(request)
        for backend in self.backends:
            if backend.id == found["backend"] and backend.pool == found["pool"]:
                return backend
        return None

    # Parts.

    def _state_folder(self, config: Config) -> Path | None:
        """Where files are kept; None where nothing is."""
        chosen = "state" in config.model_fields_set or self._read_sources is not None
        kept = chosen and config.state.store != "memory" and self._given_store is None
        return Path(config.state.path) if kept else None

    def _admin_app(
        self, controller: Controller, audit_log: AuditLog, cluster: Cluster
    ) -> Starlette:
        from evenflow.admin.app import create_app

        return create_app(
            controller,
            set_log_level=self._set_log_level,
            hosts=self._admin_hosts,
            audit_log=audit_log,
            cluster=cluster,
        )

    def _forget_controller(self) -> None:
        self._controller = None

    async def _reload_for_file(self) -> None:
        await self.reload_quietly("file")

    async def reload_quietly(self, source: str) -> None:
        """Reload; a failure is logged and kept in `last_reload_error`, the old goes on."""
        from evenflow.config import ConfigError
        from evenflow.controller import StateError

        # A signal may come while the first configuration is still being put in force.
        await self._started.wait()
        try:
            await self.controller.reload(source=source)
        except (ConfigError, StateError, EngineError) as error:
            _log.warning("still serving the configuration of before", reason=str(error))


def _nothing() -> None:
    pass


def _store_for(config: Config, folder: Path | None, name: str) -> StateStore:
    from evenflow.state import MemoryStore, RedisPolicy, RedisStore, SqliteStore

    if folder is None:
        return MemoryStore()
    if (server := config.state.server) is None:
        return SqliteStore(folder)
    policy = RedisPolicy(config.state.lease, config.state.wait_replicas)
    return RedisStore(server, folder, identity=name, policy=policy)


def _audit_log(config: Config, folder: Path | None) -> AuditLog:
    from evenflow.state.audit import AuditLog

    return AuditLog(folder, _audit_policy(config))


def _audit_policy(config: Config) -> AuditPolicy:
    from evenflow.state.audit import AuditPolicy

    kept = config.admin.audit
    return AuditPolicy(kept.max_size, kept.max_files)


def _workers(config: Config) -> int:
    workers = config.server.workers
    if workers != "auto":
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
