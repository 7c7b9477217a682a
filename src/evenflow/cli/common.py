"""What the commands share: the options of the talking ones, output for people or programs, errors.

Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from evenflow.cli.client import Client, Refused, Unreachable

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 1
WRONG = 2


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--json`: print one JSON document instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def talking(command: Callable[..., R]) -> Callable[..., R]:
    """Make a command that asks a running balancer: it gets `client` and `as_json`."""

    @wraps(command)
    def asking(url: str | None, token: str | None, ca_file: str | None, **options: Any) -> R:
        client = Client(url or default_url(os.environ), token or None, ca_file=ca_file or None)
        with reported(as_json=bool(options["as_json"])):
            return command(client=client, **options)

    wrapper: Callable[..., R] = asking
    for option in (
        json_option,
        click.option(
            "--ca-file",
            envvar="EVENFLOW_CA_FILE",
            show_envvar=True,
            help="For https://: the roots to trust, in PEM.  [default: the system's]",
        ),
        click.option(
            "--token", envvar="EVENFLOW_TOKEN", show_envvar=True, help="A token of the admin API."
        ),
        click.option(
            "--url",
            envvar="EVENFLOW_URL",
            show_envvar=True,
            help="The balancer to ask: http://host:port, https://… or unix:/path.  "
            "[default: this machine, LB_PORT or 8080]",
        ),
    ):
        wrapper = option(wrapper)
    return wrapper


def default_url(environ: Mapping[str, str]) -> str:
    """The balancer on this machine, on the port the environment would give it."""
    return f"http://127.0.0.1:{environ.get('LB_PORT') or 8080}"


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn what the balancer refused, or that it is not there, into a message and an exit code."""
    try:
        yield
    except Unreachable as error:
        fail(str(error), as_json=as_json)
    except Refused as error:
        code = WRONG if error.is_configuration else FAILED
        problems = [{"path": p.path, "message": p.message} for p in error.problems]
        fail(error.detail, code=code, problems=problems, as_json=as_json)


def fail(
    message: str,
    *,
    code: int = FAILED,
    problems: Sequence[Mapping[str, Any]] = (),
    as_json: bool = False,
) -> NoReturn:
    """Say what is wrong and end with `code`: text on standard error, or JSON on standard output."""
    if as_json:
        print_json({"error": message, "errors": list(problems)})
    else:
        click.echo(f"evenflow: {message}", err=True)
        for problem in problems:
            where = f"{problem['path']}: " if problem.get("path") else ""
            click.echo(f"  {where}{problem['message']}", err=True)
    raise SystemExit(code)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their content; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        for index in range(len(head))
    ]
    for line in (list(head), *cells):
        text = "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        click.echo(text.rstrip())


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
