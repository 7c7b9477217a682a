"""`evenflow serve`: the balancer, configured by file, environment and flags."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from evenflow.cli.sources import load_or_fail, overrides, source_options


@click.command()
@source_options
def serve(file: Path | None, **flags: Any) -> None:
    """Serve until SIGTERM or SIGINT (the default command).

    Settings come from flags, over environment variables (LB_PORT, LB_BACKENDS, ...), over the
    file, over defaults. SIGHUP reloads, SIGUSR1 reopens the log files.
    """
    given = overrides(**flags)
    loaded = load_or_fail(file, given)
    from evenflow.cli.serving import serve_program
    from evenflow.config import Config, load

    def read_again() -> Config:
        return load(file, None, given).config

    watched = [loaded.file] if loaded.file else []
    asyncio.run(
        serve_program(loaded.config, read_sources=read_again, watch=watched, locate=loaded.locate)
    )
