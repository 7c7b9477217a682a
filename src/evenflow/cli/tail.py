"""`evenflow tail`: what a running balancer decides, as it happens."""

from __future__ import annotations

import json

import click

from evenflow.cli.client import Client
from evenflow.cli.common import talking


@click.command()
@talking
def tail(client: Client, as_json: bool) -> None:
    """Follow the balancer's events (health, ejections, configuration) until interrupted."""
    for name, data in client.events("/api/v1/admin/events"):
        click.echo(data if as_json else _line(name, data))


def _line(name: str, data: str) -> str:
    try:
        event = json.loads(data)
    except ValueError:
        return f"{name}  {data}"
    if not isinstance(event, dict):
        return f"{name}  {event}"
    fields = "  ".join(f"{key}={value}" for key, value in event.items())
    return f"{name}  {fields}"
