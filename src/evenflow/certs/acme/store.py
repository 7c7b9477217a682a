"""Accounts and issued pairs, kept in the state folder: one file each, for its owner only.

Certificate and key are in one file, so that no crash can leave one without the other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evenflow.certs.store import write_private
from evenflow.config.acme import Acme


@dataclass(frozen=True, slots=True)
class Account:
    """An account with an authority."""

    directory: str
    email: str | None
    key_id: str | None
    """Of the external account that it is bound to."""
    key_pem: str = field(repr=False)
    url: str | None = None
    """None while the authority has not been told of it."""

    @property
    def file(self) -> str:
        """The name of its file."""
        return account_file(self.directory, self.email, self.key_id)


@dataclass(frozen=True, slots=True)
class Held:
    """An issued certificate with its key, and what was asked for."""

    directory: str
    domains: tuple[str, ...]
    chain_pem: str
    key_pem: str = field(repr=False)

    def fits(self, acme: Acme) -> bool:
        """Whether it is what is wanted."""
        same_names = set(self.domains) == set(acme.domains)
        return same_names and self.directory == acme.directory_url


def account_file(directory: str, email: str | None, key_id: str | None) -> str:
    """The name of the file of the account with these."""
    parts = json.dumps([directory, email, key_id])
    return f"account-{hashlib.sha256(parts.encode()).hexdigest()[:32]}.json"


def load_account(folder: Path, acme: Acme) -> Account | None:
    """The account that `acme` uses; None where there is none. Raises ValueError or OSError."""
    external = acme.external_account
    key_id = external.key_id if external is not None else None
    file = folder / account_file(acme.directory_url, acme.email, key_id)
    if (found := _read(file)) is None:
        return None
    key, url = _text(file, found, "key_pem"), found.get("url")
    return Account(
        acme.directory_url, acme.email, key_id, key, url if isinstance(url, str) else None
    )


def save_account(folder: Path, account: Account) -> None:
    """Keeps an account; raises OSError."""
    _write(folder / account.file, asdict(account))


def load_held(folder: Path, name: str) -> Held | None:
    """The pair of this name; None where there is none. Raises ValueError or OSError."""
    file = folder / f"certificate-{name}.json"
    if (found := _read(file)) is None:
        return None
    domains = found.get("domains")
    return Held(
        _text(file, found, "directory"),
        tuple(map(str, domains)) if isinstance(domains, list) else (),
        _text(file, found, "chain_pem"),
        _text(file, found, "key_pem"),
    )


def save_held(folder: Path, name: str, held: Held) -> None:
    """Keeps a pair; raises OSError."""
    _write(folder / f"certificate-{name}.json", asdict(held))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{file} is damaged") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged")
    return found


def _text(file: Path, found: dict[str, Any], member: str) -> str:
    text = found.get(member)
    if not isinstance(text, str):
        raise ValueError(f"{file} is damaged: {member} is missing")
    return text


def _write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(file, json.dumps(document, indent=1) + "\n")
