"""`evenflow cert`: certificates for trying things out."""

from __future__ import annotations

import os
from pathlib import Path

import click

from evenflow.cli.common import json_option, print_json


@click.group()
def cert() -> None:
    """Make certificates."""


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


def _write(file: Path, text: str, mode: int) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
