"""`evenflow nodes`: the balancers of the cluster."""

from __future__ import annotations

import click

from evenflow.cli.client import Client
from evenflow.cli.common import FAILED, print_json, print_table, talking


@click.command()
@talking
def nodes(client: Client, as_json: bool) -> None:
    """Print the nodes of the cluster; fails where there is none, or its server is away."""
    found = client.get("/api/v1/admin/nodes")
    if as_json:
        print_json(found)
    elif not found["enabled"]:
        click.echo("the configuration has no `cluster` section", err=True)
    else:
        print_table(
            ["NODE", "HOST", "VERSION", "REVISION", "REQUESTS/S", "STARTED", "SEEN"],
            [
                [
                    f"{node['name']} *" if node["name"] == found["node"] else node["name"],
                    node["host"],
                    node["version"],
                    node["revision"],
                    node["requests_per_second"],
                    node["started_at"],
                    f"{node['age_s']:.1f} s ago",
                ]
                for node in found["nodes"]
            ],
        )
        if found["error"] is not None:
            click.echo(f"cluster: {found['error']}", err=True)
    if not found["up"]:
        raise SystemExit(FAILED)
