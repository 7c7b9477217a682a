"""`evenflow audit`: who changed what, and whether the record is whole."""

from __future__ import annotations

from pathlib import Path

import click

from evenflow.cli.client import Client
from evenflow.cli.common import FAILED, fail, json_option, print_json, talking


@click.group()
def audit() -> None:
    """Read and check the record of all changes."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@talking
def list_entries(client: Client, as_json: bool, limit: int) -> None:
    """Print the newest changes of a running balancer, newest first."""
    document = client.get(f"/api/v1/admin/audit?limit={limit}")
    if as_json:
        print_json(document)
        return
    for entry in document["entries"]:
        status = "" if entry["status"] is None else f"  {entry['status']}"
        click.echo(f"{entry['seq']:>6}  {entry['time']}  {entry['who']}  {entry['action']}{status}")
        for change in entry["changes"]:
            click.echo(f"        {change}")


@audit.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Check the chain of hashes of the audit log in a state FOLDER."""
    from evenflow.state.audit import verify as verify_folder

    found = verify_folder(folder)
    if found.problems:
        problems = [{"path": "", "message": problem} for problem in found.problems]
        fail("the audit log was tampered with", code=FAILED, problems=problems, as_json=as_json)
    if as_json:
        print_json({"entries": found.entries, "first": found.first, "hash": found.last_hash})
    else:
        click.echo(f"{found.entries} entries from {found.first} on, unbroken")
        click.echo(f"newest hash: {found.last_hash or '-'}")
