"""`evenflow config`: effective settings and their origin, and the history of a running balancer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evenflow.cli.client import Client
from evenflow.cli.common import json_option, print_json, print_table, talking
from evenflow.cli.sources import load_or_fail, overrides, source_options

if TYPE_CHECKING:
    from evenflow.config import Loaded

PATH = "/api/v1/admin/config"


@click.group()
def config() -> None:
    """Show, compare and take back configurations."""


@config.command()
@source_options
@click.option("--expanded", is_flag=True, help="The full form: what the flat form stands for.")
@click.option(
    "--running", is_flag=True, help="Ask the balancer at --url instead of file and environment."
)
@click.option("--url", envvar="EVENFLOW_URL", show_envvar=True, help="The balancer, for --running.")
@click.option("--token", envvar="EVENFLOW_TOKEN", show_envvar=True, help="A token, for --running.")
@click.option(
    "--ca-file", envvar="EVENFLOW_CA_FILE", show_envvar=True, help="Roots, for --running."
)
@json_option
def show(
    file: Path | None,
    expanded: bool,
    running: bool,
    url: str | None,
    token: str | None,
    ca_file: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Print the settings that file, environment and flags give, and where each comes from."""
    if running:
        _show_running(url=url, token=token, ca_file=ca_file, expanded=expanded, as_json=as_json)
        return
    loaded = load_or_fail(file, overrides(**flags), as_json=as_json)
    if expanded:
        from evenflow.config import expand

        document = expand(loaded.config).model_dump(mode="json", exclude_none=True)
        _print_document(document, as_json=as_json)
    elif as_json:
        document = loaded.config.model_dump(mode="json", exclude_none=True)
        print_json({"config": document, "origins": loaded.origins})
    else:
        _print_settings(loaded)


@talking
def _show_running(client: Client, as_json: bool, expanded: bool) -> None:
    document = client.get(f"{PATH}?expanded=true" if expanded else PATH)
    _print_document(document, as_json=as_json)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@talking
def diff(client: Client, as_json: bool, file: Path) -> None:
    """Print what applying FILE (with the environment) to the running balancer would change."""
    loaded = load_or_fail(file, as_json=as_json)
    document = loaded.config.model_dump(mode="json", exclude_none=True)
    answer = client.request("POST", f"{PATH}/diff", document)
    if as_json:
        print_json(answer)
        return
    for change in answer["changes"]:
        click.echo(change)
    if not answer["changes"]:
        click.echo(f"no difference to revision {answer['revision']}")


@config.command()
@talking
def history(client: Client, as_json: bool) -> None:
    """List the revisions that were in force, newest first."""
    answer = client.get(f"{PATH}/history")
    if as_json:
        print_json(answer)
        return
    print_table(
        ["REVISION", "WHEN", "SOURCE", "CHANGES"],
        [
            [entry["revision"], entry["timestamp"], entry["source"], "; ".join(entry["changes"])]
            for entry in answer["history"]
        ],
    )


@config.command()
@click.argument("revision", type=click.IntRange(1), required=False)
@talking
def rollback(client: Client, as_json: bool, revision: int | None) -> None:
    """Put an earlier REVISION in force again; without one, that before the present."""
    body = {} if revision is None else {"revision": revision}
    answer = client.request("POST", f"{PATH}/rollback", body)
    if as_json:
        print_json(answer)
        return
    click.echo(f"revision {answer['revision']} is in force")
    for change in answer["changes"]:
        click.echo(f"  {change}")


def _print_settings(loaded: Loaded) -> None:
    from evenflow.config import leaves

    document = loaded.config.model_dump(mode="json", exclude_none=True)
    origins = loaded.origins
    print_table(
        ["SETTING", "VALUE", "FROM"],
        [[path, _shown(value), origins.get(path, "default")] for path, value in leaves(document)],
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else _compact(value)


def _compact(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _print_document(document: object, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
