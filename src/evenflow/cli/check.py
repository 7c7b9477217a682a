"""`evenflow check` and `evenflow schema`: is a configuration right, and what may stand in one."""

from __future__ import annotations

from pathlib import Path

import click

from evenflow.cli.common import json_option, print_json
from evenflow.cli.sources import load_or_fail, refuse


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say what is wrong with the configuration FILE, together with the environment; starts nothing."""
    from evenflow.certs import needs_material, read_material
    from evenflow.config import ConfigError, expand
    from evenflow.plan import compile_plan

    loaded = load_or_fail(file, as_json=as_json)
    try:
        # Whether strategies can be found and do their work shows only here.
        full = expand(loaded.config)
        material = read_material(full) if needs_material(full) else None
        compile_plan(loaded.config, revision=1, admin_socket="", material=material)
    except ConfigError as error:
        refuse(loaded.locate(error), as_json=as_json)
    counts = {
        "listeners": len(full.listeners),
        "routes": len(full.routes),
        "pools": len(full.pools),
        "backends": sum(len(pool.backends) for pool in full.pools),
    }
    if as_json:
        print_json({"valid": True, **counts})
    else:
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        click.echo(f"{file} is fine: {text}")


@click.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from evenflow.config import json_schema

    del as_json  # It is JSON in any case; the option is there because every command has it.
    print_json(json_schema())
