"""`evenflow pools|routes|listeners|filters`: the full form of a running balancer, piece by piece."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from evenflow.cli.breakers import pool_breaker
from evenflow.cli.client import Client, segment
from evenflow.cli.common import WRONG, fail, print_json, print_table, talking

Row = Callable[[Mapping[str, Any]], list[object]]

_API = "/api/v1/admin"


def _listener(entry: Mapping[str, Any]) -> list[object]:
    address = entry["address"]
    shown = address if isinstance(address, str) else ", ".join(address)
    return [shown, entry["protocol"], entry.get("pool"), _listed(entry["filters"])]


def _route(entry: Mapping[str, Any]) -> list[object]:
    match = ", ".join(f"{key} {_value(value)}" for key, value in entry["match"].items() if value)
    return [match or "everything", entry.get("pool"), _listed(entry["filters"])]


def _pool(entry: Mapping[str, Any]) -> list[object]:
    strategy = entry.get("strategy")
    name = strategy["name"] if isinstance(strategy, dict) else strategy
    return [name, len(entry["backends"])]


def _filter(entry: Mapping[str, Any]) -> list[object]:
    return [_listed(key for key, value in entry.items() if key != "name" and value)]


def _listed(values: Any) -> str:
    return ", ".join(values)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _Listing(click.Group):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of arguments that name no command."""
        named = args and (not args[0].startswith("-") or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if named or ctx.resilient_parsing else ["list", *args])


def _group(kind: str, head: list[str], row: Row) -> click.Group:
    """The commands of one kind."""
    path, single = f"{_API}/{kind}", kind.removesuffix("s")

    group = _Listing(kind, help=f"List, show, set and remove the {kind} of a running balancer.")

    @group.command("list", help=f"Print the {kind}, those of the flat form included.")
    @talking
    def list_pieces(client: Client, as_json: bool) -> None:
        document = client.get(path)
        if as_json:
            print_json(document)
            return
        print_table(["NAME", *head], [[each["name"], *row(each)] for each in document[kind]])

    @group.command("show", help=f"Print the {single} NAME as `set` takes it.")
    @click.argument("name")
    @talking
    def show(client: Client, as_json: bool, name: str) -> None:
        document = client.get(f"{path}/{segment(name)}")
        if as_json:
            print_json(document)
            return
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)

    @group.command(
        "set",
        help=f"Add or replace the {single} NAME by what FILE (YAML, TOML, JSON; - is standard "
        "input) says; in effect when the command returns.",
    )
    @click.argument("name")
    @click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
    @talking
    def put(client: Client, as_json: bool, name: str, file: Path) -> None:
        answer = client.request("PUT", f"{path}/{segment(name)}", _read(file, as_json=as_json))
        _done(answer, f"set {single} {name}", as_json=as_json)

    @group.command("remove", help=f"Remove the {single} NAME; refused while something needs it.")
    @click.argument("name")
    @talking
    def remove(client: Client, as_json: bool, name: str) -> None:
        answer = client.request("DELETE", f"{path}/{segment(name)}")
        _done(answer, f"removed {single} {name}", as_json=as_json)

    return group


def _read(file: Path, *, as_json: bool) -> dict[str, Any]:
    from evenflow.config import ConfigError
    from evenflow.config.documents import decode_yaml, read_file

    try:
        if str(file) == "-":
            return decode_yaml(sys.stdin.read(), "standard input").data
        return read_file(file).data
    except ConfigError as error:
        problems = [{"path": p.path, "message": p.message} for p in error.errors]
        fail(f"{file} cannot be used", code=WRONG, problems=problems, as_json=as_json)


def _done(answer: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    click.echo(text)
    for warning in answer["warnings"]:
        click.echo(f"  warning: {warning}")


listeners = _group("listeners", ["ADDRESS", "PROTOCOL", "POOL", "FILTERS"], _listener)
routes = _group("routes", ["TAKES", "POOL", "FILTERS"], _route)
pools = _group("pools", ["STRATEGY", "BACKENDS"], _pool)
pools.add_command(pool_breaker)
filters = _group("filters", ["DOES"], _filter)
