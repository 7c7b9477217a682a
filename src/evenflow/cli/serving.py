"""Running a balancer as a program: logs, signals, the addresses it serves, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from evenflow import Config, ConfigError, EngineError, LoadBalancer, StateError
from evenflow.cli.common import FAILED, fail
from evenflow.cli.logs import Logs
from evenflow.cli.sources import refuse
from evenflow.lifecycle import handling_signals, settle_memory

_log = structlog.get_logger("evenflow")


async def serve_program(
    config: Config,
    *,
    read_sources: Callable[[], Config] | None = None,
    watch: Sequence[Path] = (),
    on_start: Callable[[LoadBalancer], None] | None = None,
    locate: Callable[[ConfigError], ConfigError] = lambda error: error,
) -> None:
    """Serve until a signal ends it; ends the program with code 2 where `config` is refused.

    `on_start` is called once requests are served; `locate` tells where in the sources a problem
    stands that shows only at start, such as an address that is taken.
    """
    try:
        logs = Logs(config.logging)
    except OSError as error:
        fail(f"the log cannot be opened: {error}")
    balancer = LoadBalancer(
        config,
        read_sources=read_sources,
        watch=watch,
        on_config=logs.follow,
        reopen_logs=logs.reopen,
        set_log_level=logs.set_level,
    )
    # Before the port answers: whoever sees it answer may signal at once.
    async with handling_signals(balancer):
        try:
            await balancer.start()
        except ConfigError as error:
            refuse(locate(error))
        except (StateError, EngineError) as error:
            fail(str(error), code=FAILED)
        settle_memory()
        for listener, addresses in balancer.addresses.items():
            _log.info("serving", listener=listener, addresses=addresses)
        if on_start is not None:
            on_start(balancer)
        async with logs.rotating(balancer.controller.engine.reopen_logs):
            await balancer.serve_forever()
    _log.info("stopped")
