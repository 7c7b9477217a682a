"""`evenflow status`: how a running balancer and its backends are."""

from __future__ import annotations

import click

from evenflow.cli.client import Client
from evenflow.cli.common import FAILED, print_json, print_table, talking


@click.command()
@talking
def status(client: Client, as_json: bool) -> None:
    """Print health and traffic of a running balancer; fails where no backend is usable."""
    health = client.health()
    if as_json:
        print_json(health)
    else:
        print_table(
            ["STATUS", "BACKENDS", "HEALTHY", "REQUESTS", "ERRORS", "SUCCESS %"],
            [
                [
                    health.get("status"),
                    health.get("total_backends"),
                    health.get("healthy_backends"),
                    health.get("total_requests"),
                    health.get("total_errors"),
                    health.get("success_rate"),
                ]
            ],
        )
        click.echo()
        print_table(
            ["BACKEND", "URL", "STATUS", "ACTIVE", "REASON"],
            [
                [entry.get(key) for key in ("id", "url", "status", "active_connections", "reason")]
                for entry in health.get("backends") or ()
            ],
        )
    if not health.get("healthy_backends"):
        raise SystemExit(FAILED)
