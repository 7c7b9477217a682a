"""`evenflow token`: tokens for the admin API and for clients, and hashes of passwords."""

from __future__ import annotations

import json
import secrets
import sys

import click

from evenflow.cli.common import WRONG, fail, json_option, print_json

_BYTES = 32


@click.group()
def token() -> None:
    """Make tokens and hashes for the configuration."""


@token.command()
@click.option("--name", default="ops", show_default=True, help="Who will use it.")
@click.option(
    "--role",
    type=click.Choice(["read", "operate", "admin"]),
    default="read",
    show_default=True,
    help="What it may do.",
)
@json_option
def create(name: str, role: str, as_json: bool) -> None:
    """Print a new token, and the hash that goes into `admin.tokens`."""
    from evenflow.config.hashes import hash_token

    made = secrets.token_urlsafe(_BYTES)
    hashed = hash_token(made)
    if as_json:
        print_json({"name": name, "role": role, "token": made, "hash": hashed})
        return
    entry = f"{{name: {json.dumps(name)}, role: {role}, token: {json.dumps(hashed)}}}"
    click.echo(f"token: {made}")
    click.echo(f"hash:  {hashed}")
    click.echo("The token is shown only now. Into the configuration goes its hash:")
    click.echo(f"admin:\n  tokens:\n    - {entry}")


@token.command("hash")
@click.option(
    "--method",
    type=click.Choice(["argon2", "sha256"]),
    default="argon2",
    show_default=True,
    help="sha256 only for long random tokens.",
)
@json_option
def hash_secret(method: str, as_json: bool) -> None:
    """Read a password or token from standard input and print its hash."""
    from evenflow.config.hashes import hash_token
    from evenflow.engine import hash_password

    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        fail("expected a password on standard input", code=WRONG, as_json=as_json)
    hashed = hash_token(given) if method == "sha256" else hash_password(given.encode())
    if as_json:
        print_json({"hash": hashed})
    else:
        click.echo(hashed)
