"""`evenflow explain`: what would happen to a request, and why. Sends nothing to a backend."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from evenflow.cli.client import Client
from evenflow.cli.common import print_json, print_table, talking


@click.command()
@click.argument("method")
@click.argument("target", metavar="URL")
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="A header field; repeatable.",
)
@click.option(
    "--from",
    "--client",
    "client_ip",
    default="127.0.0.1",
    show_default=True,
    metavar="IP",
    help="The client's address.",
)
@click.option("--listener", help="The listener it arrives on, where there are several.")
@talking
def explain(
    client: Client,
    as_json: bool,
    method: str,
    target: str,
    headers: tuple[str, ...],
    client_ip: str,
    listener: str | None,
) -> None:
    """Say which route, filters and backend a METHOD request for URL would meet, and why.

    URL is a path, or a whole address whose host becomes the Host field.
    """
    body: dict[str, object] = {
        "method": method.upper(),
        "target": _target(target),
        "headers": _headers(target, headers),
        "client": client_ip,
    }
    if listener is not None:
        body["listener"] = listener
    answer = client.request("POST", "/api/v1/admin/explain", body)
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: dict[str, Any]) -> None:
    click.echo(f"listener  {answer.get('listener') or '-'}")
    click.echo(f"route     {answer.get('route') or 'none matches'}")
    for passed in answer.get("passed_over") or ():
        click.echo(f"  not     {passed['route']}: {passed['reason']}")
    for step in answer.get("filters") or ():
        match step["verdict"]:
            case "refused":
                outcome = f"refused with {step['status']}: {step['reason']}"
            case "answered":
                outcome = f"answered with {step['status']}"
            case "undecided":
                outcome = f"undecided: {step['reason']}"
            case _:
                outcome = f"pass, user {step['user']}" if step.get("user") else "pass"
        click.echo(f"filter    {step['filter']} ({step['check']}): {outcome}")
    if answer.get("target"):
        click.echo(f"target    {answer['target']}")
    split = f" (split: {answer['split']})" if answer.get("split") else ""
    click.echo(f"pool      {answer.get('pool') or '-'}{split}")
    picker = f" ({answer['picker']})" if answer.get("picker") else ""
    source = f" (discovered by {answer['discovered']})" if answer.get("discovered") else ""
    backend = f"{answer.get('backend') or 'none'}{source}"
    click.echo(f"backend   {backend}: {answer.get('reason') or ''}{picker}")
    candidates = answer.get("candidates") or ()
    if candidates:
        click.echo()
        print_table(
            ["CANDIDATE", "USABLE", "WHY NOT"],
            [[entry["id"], entry["usable"], entry.get("reason") or ""] for entry in candidates],
        )


def _target(url: str) -> str:
    parts = urlsplit(url)
    target = parts.path or "/"
    return f"{target}?{parts.query}" if parts.query else target


def _headers(url: str, given: tuple[str, ...]) -> list[list[str]]:
    fields = list[list[str]]()
    for text in given:
        name, colon, value = text.partition(":")
        if not name.strip() or not colon:
            raise click.BadParameter(f"expected NAME:VALUE, got {text!r}", param_hint="--header")
        fields.append([name.strip().lower(), value.strip()])
    if all(name != "host" for name, _ in fields):
        fields.insert(0, ["host", urlsplit(url).netloc or "localhost"])
    return fields
