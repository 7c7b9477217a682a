"""`evenflow backends breaker` and `evenflow pools breaker`: show circuit breakers, hold them by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from evenflow.cli.client import Client, segment
from evenflow.cli.common import print_json, print_table, talking

_API = "/api/v1/admin"
_STATES = click.Choice(["open", "closed", "automatic"])


@click.command("breaker")
@click.argument("id")
@click.argument("state", type=_STATES, required=False)
@talking
def backend_breaker(client: Client, as_json: bool, id: str, state: str | None) -> None:
    """Print the circuit breaker of the backend ID; hold it open or closed, or let it go."""
    path = f"{_API}/backends/{segment(id)}"
    if state is None:
        found = client.get(path)
        shown = {"pool": found["pool"], "backend": id, "breaker": found["breaker"]}
    else:
        shown = client.request("PUT", f"{path}/breaker", {"state": state})
    if as_json:
        print_json(shown)
    else:
        _print([(id, shown["breaker"])])


@click.command("breaker")
@click.argument("name")
@click.argument("state", type=_STATES, required=False)
@talking
def pool_breaker(client: Client, as_json: bool, name: str, state: str | None) -> None:
    """Print the circuit breakers of the pool NAME; hold its own open or closed, or let it go."""
    path = f"{_API}/pools/{segment(name)}/breaker"
    shown = client.get(path) if state is None else client.request("PUT", path, {"state": state})
    if as_json:
        print_json(shown)
    else:
        _print([(f"pool {name}", shown["breaker"]), *shown["backends"].items()])


def _print(breakers: list[tuple[str, Mapping[str, Any] | None]]) -> None:
    print_table(["BREAKER", "STATE", "HELD", "SINCE", "UNTIL", "REASON"], list(_rows(breakers)))


def _rows(breakers: list[tuple[str, Mapping[str, Any] | None]]) -> Iterator[list[object]]:
    for name, shown in breakers:
        if shown is None:
            yield [name, "none", "", "", "", ""]
            continue
        held = "by hand" if shown["held"] else ""
        yield [name, shown["state"], held, shown["since"], shown["until"], shown["reason"]]
