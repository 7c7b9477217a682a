"""`evenflow discovery`: where discovered endpoints come from, and how that is going."""

from __future__ import annotations

import click

from evenflow.cli.client import Client
from evenflow.cli.common import print_json, print_table, talking

_SHOWN = ("pool", "source", "place", "endpoints", "last_success", "next_attempt", "last_error")


@click.command()
@talking
def discovery(client: Client, as_json: bool) -> None:
    """Print the sources of discovered endpoints of a running balancer."""
    document = client.get("/api/v1/admin/discovery")
    if as_json:
        print_json(document)
        return
    head = ["POOL", "SOURCE", "PLACE", "ENDPOINTS", "LAST SUCCESS", "NEXT", "ERROR"]
    print_table(head, [[entry[key] for key in _SHOWN] for entry in document["sources"]])
    for entry in document["sources"]:
        for note in entry["notes"]:
            click.echo(f"{entry['pool']} {entry['source']}: left out: {note}")
