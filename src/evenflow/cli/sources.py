"""Reading the configuration for a command: its file and flags, and what to say when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from evenflow.cli.common import WRONG, fail

if TYPE_CHECKING:
    from evenflow.config import ConfigError, Loaded

R = TypeVar("R")

FLAGS = {
    "port": "load_balancer.port",
    "strategy": "load_balancer.strategy",
    "log_level": "logging.level",
    "workers": "server.workers",
    "health_check_path": "health_check.path",
}
"""The options that have a name of their own, and the setting that each gives."""


def source_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the file and the flags that stand over environment and file."""
    for option in reversed(
        (
            click.option(
                "-c",
                "--config",
                "file",
                type=click.Path(path_type=Path),
                help="The configuration file: YAML, TOML or JSON.  [env var: LB_CONFIG]",
            ),
            click.option("-p", "--port", type=click.IntRange(0, 65535), help="The main port."),
            click.option(
                "-b",
                "--backend",
                "backends",
                multiple=True,
                metavar="URL",
                help="A backend; repeatable, replaces those of environment and file.",
            ),
            click.option("--strategy", help="How a backend is chosen."),
            click.option("--log-level", help="debug, info, warn or error."),
            click.option("--workers", help="Engine threads, or auto for one per core."),
            click.option("--health-check-path", help="The path that health checks ask for."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="PATH=VALUE",
                help="Any other setting by its path, such as load_balancer.timeout=10s; repeatable.",
            ),
        )
    ):
        command = option(command)
    return command


def overrides(
    backends: tuple[str, ...] = (), settings: tuple[str, ...] = (), **named: object
) -> dict[str, object]:
    """Flags as values by dotted path; text is read as in an environment variable."""
    given: dict[str, object] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not path or not equals:
            raise click.BadParameter(f"expected PATH=VALUE, got {setting!r}", param_hint="--set")
        given[path] = value
    given |= {FLAGS[name]: value for name, value in named.items() if value is not None}
    if backends:
        given["backends"] = ",".join(backends)
    return given


def load_or_fail(
    file: Path | None, given: dict[str, object] | None = None, *, as_json: bool = False
) -> Loaded:
    """Read all sources; where they are refused, print every problem and end with code 2."""
    from evenflow.config import ConfigError, load

    try:
        return load(file, None, given)
    except ConfigError as error:
        refuse(error, as_json=as_json)


def refuse(error: ConfigError, *, as_json: bool = False) -> NoReturn:
    """Print every problem of a configuration and end with code 2."""
    problems = [
        {"path": p.path, "message": p.message, "line": p.line, "file": p.file} for p in error.errors
    ]
    if as_json:
        fail("the configuration is refused", code=WRONG, problems=problems, as_json=True)
    for problem in error.errors:
        click.echo(f"evenflow: {problem}", err=True)
    raise SystemExit(WRONG)
