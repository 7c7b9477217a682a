"""`evenflow cert`: certificates of a running balancer, and some for trying things out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from evenflow.cli.client import Client, segment
from evenflow.cli.common import FAILED, json_option, print_json, print_table, talking

_API = "/api/v1/admin/certificates"
_HEAD = ("NAME", "DOMAINS", "UNTIL", "ISSUER", "ORDER")


@click.group()
def cert() -> None:
    """Make certificates, list those of a running balancer, have them ordered anew."""


@cert.command("self-signed")
@click.argument("names", nargs=-1, required=True)
@click.option("--cert", "cert_file", type=click.Path(path_type=Path), help="Default: NAME.pem.")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Default: NAME.key.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
@click.option("--kind", type=click.Choice(["ecdsa", "rsa"]), default="ecdsa", show_default=True)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@json_option
def self_signed(
    names: tuple[str, ...],
    cert_file: Path | None,
    key_file: Path | None,
    days: int,
    kind: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write a certificate for the host NAMES and addresses that vouches for itself, and its key.

    Clients trust it only when told to (`curl --cacert`), so it is for trying things out.
    """
    from evenflow.certs import self_signed as make

    stem = names[0].replace("*", "_").replace(":", "_")
    files = (cert_file or Path(f"{stem}.pem"), key_file or Path(f"{stem}.key"))
    for file in files:
        if file.exists() and not force:
            raise click.UsageError(f"{file} exists; --force overwrites it")
    certificate, key = make(names, days=days, kind=kind)
    for file, text, mode in zip(files, (certificate, key), (0o644, 0o600), strict=True):
        try:
            _write(file, text, mode)
        except OSError as error:
            raise click.ClickException(f"cannot write {file}: {error.strerror}") from None
    if as_json:
        print_json({"cert_file": str(files[0]), "key_file": str(files[1]), "names": list(names)})
    else:
        click.echo(f"{files[0]} and {files[1]}, for {', '.join(names)}, {days} days")


@cert.command("list")
@talking
def list_(client: Client, as_json: bool) -> None:
    """Print the certificates of a running balancer, and how the orders of some of them go."""
    found = client.get(_API)
    if as_json:
        print_json(found)
        return
    print_table(_HEAD, [_row(each) for each in found["certificates"]])


@cert.command("renew")
@click.argument("name")
@click.option("--wait", metavar="DURATION", help="Wait this long for its end, such as 60s.")
@talking
def renew(client: Client, as_json: bool, name: str, wait: str | None) -> None:
    """Have the certificate NAME ordered anew that comes from an authority (`acme`).

    With --wait, fails where the order did or is not over. It is tried again by itself.
    """
    query = "" if wait is None else f"?{urlencode({'wait': wait})}"
    # The balancer bounds the wait; this only must not end before it.
    shown = client.request("POST", f"{_API}/{segment(name)}/renew{query}", timeout_s=300)
    if as_json:
        print_json(shown)
    else:
        print_table(_HEAD, [_row(shown)])
    acme = shown["acme"]
    if wait is not None and (acme["ordering"] or acme["failures"]):
        raise SystemExit(FAILED)


def _row(shown: Mapping[str, Any]) -> list[object]:
    acme = shown["acme"]
    if acme is None:
        order = ""
    elif acme["ordering"]:
        order = "under way"
    elif acme["last_error"]:
        order = f"failed: {acme['last_error']}; again at {acme['next_attempt'] or 'once'}"
    else:
        order = f"next at {acme['next_attempt'] or 'once'}"
    issuer = "stand-in" if acme and acme["state"] == "stand_in" else shown["issuer"]
    return [shown["name"], ",".join(shown["domains"]), shown["not_after"], issuer, order]


def _write(file: Path, text: str, mode: int) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
