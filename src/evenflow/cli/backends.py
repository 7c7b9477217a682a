"""`evenflow backends`: list, add, change, drain and remove the backends of a running balancer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import click

from evenflow.cli.breakers import backend_breaker
from evenflow.cli.client import Client, segment
from evenflow.cli.common import FAILED, fail, print_json, print_table, talking

PATH = "/api/v1/admin/backends"
MAX_WAIT_S = 660.0


@click.group()
def backends() -> None:
    """List and change the backends of a running balancer."""


@backends.command("list")
@talking
def list_backends(client: Client, as_json: bool) -> None:
    """Print every backend with its state."""
    document = client.get(PATH)
    if as_json:
        print_json(document)
        return
    print_table(
        ["ID", "POOL", "URL", "STATUS", "WEIGHT", "ACTIVE", "REQUESTS", "ERRORS", "FROM", "REASON"],
        [_row(entry) for entry in document["backends"]],
    )


@backends.command()
@click.argument("id")
@click.argument("backend_url", metavar="URL")
@click.option(
    "--weight", type=click.IntRange(1, 65535), help="Share relative to the others.  [default: 100]"
)
@click.option("--health-check-path", help="Path asked by its health check.")
@click.option("--max-connections", type=click.IntRange(0), help="Requests at once; 0 is no bound.")
@click.option("--timeout", help="Longest wait for its answer, such as 30s.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@click.option("--pool", help="The pool it joins, where there are several.")
@talking
def add(
    client: Client,
    as_json: bool,
    id: str,
    backend_url: str,
    labels: tuple[str, ...],
    **given: object,
) -> None:
    """Add the backend ID at URL; in effect when the command returns."""
    body: dict[str, object] = {"id": id, "url": backend_url}
    body |= {key: value for key, value in given.items() if value is not None}
    if labels:
        body["labels"] = _labels(labels)
    _done(client.request("POST", PATH, body), f"added {id} at {backend_url}", as_json=as_json)


@backends.command("set")
@click.argument("id")
@click.option("--weight", type=click.IntRange(1, 65535), help="Share relative to the others.")
@click.option("--max-connections", type=click.IntRange(0), help="Requests at once; 0 is no bound.")
@click.option(
    "--drain/--no-drain", default=None, help="Give it no new requests, or give it some again."
)
@talking
def change(client: Client, as_json: bool, id: str, **given: object) -> None:
    """Change weight, limit or drain of the backend ID."""
    body = {key: value for key, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("nothing to change: give --weight, --max-connections or --drain")
    answer = client.request("PATCH", f"{PATH}/{segment(id)}", body)
    text = ", ".join(f"{key} {value}" for key, value in body.items())
    _done(answer, f"changed {id}: {text}", as_json=as_json)


@backends.command()
@click.argument("id")
@click.option("--wait", metavar="DURATION", help="Wait this long until it is empty, such as 30s.")
@talking
def drain(client: Client, as_json: bool, id: str, wait: str | None) -> None:
    """Give the backend ID no new requests; fails where it is not empty after --wait."""
    query = "" if wait is None else f"?{urlencode({'wait': wait})}"
    # The balancer bounds the wait; this only must not end before it.
    answer = client.request("POST", f"{PATH}/{segment(id)}/drain{query}", timeout_s=MAX_WAIT_S)
    left = answer["active_connections"]
    if wait is not None and not answer["empty"]:
        fail(f"{id} still has {left} in flight", code=FAILED, as_json=as_json)
    state = "empty" if answer["empty"] else f"{left} in flight"
    _done(answer, f"draining {id}: {state}", as_json=as_json)


@backends.command()
@click.argument("id")
@talking
def remove(client: Client, as_json: bool, id: str) -> None:
    """Remove the backend ID; what it has in flight is finished."""
    _done(client.request("DELETE", f"{PATH}/{segment(id)}"), f"removed {id}", as_json=as_json)


backends.add_command(backend_breaker)


def _row(entry: dict[str, Any]) -> list[object]:
    keys = ("id", "pool", "url", "status", "weight", "active_connections")
    counts = [entry.get(key) for key in (*keys, "requests", "errors")]
    return [*counts, entry.get("discovered") or "configuration", entry.get("reason")]


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [label.partition("=") for label in given]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise click.BadParameter("expected KEY=VALUE", param_hint="--label")
    return {key: value for key, _, value in pairs}


def _done(answer: object, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(text)
