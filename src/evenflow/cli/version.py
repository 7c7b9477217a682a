"""`evenflow version`: which versions run here."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version as version_of

import click

from evenflow.cli.common import json_option, print_json


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the versions of evenflow, Python and the platform."""
    facts = {
        "evenflow": version_of("evenflow"),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    if as_json:
        print_json(facts)
    else:
        click.echo(f"evenflow {facts['evenflow']} (Python {facts['python']}, {facts['platform']})")
