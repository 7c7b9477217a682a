"""Revocation lists (RFC 5280 section 5): whose they are, and when the next ones are due.

What they revoke is the engine's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .moment import day

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list of a file."""

    issuer: str
    """The name (RFC 4514) of who revokes."""
    due: float | None
    """When the next one is due, in Unix seconds, where this one says so."""

    def overdue(self, now: float) -> bool:
        """Whether there should be a newer one by now."""
        return self.due is not None and self.due <= now

    def __str__(self) -> str:
        until = "" if self.due is None else f" was due on {day(self.due)}"
        return f"a new list of {self.issuer}{until}"


def read_revocation_lists(content: bytes) -> tuple[RevocationList, ...]:
    """All lists of a file; ValueError where there is none in PEM, or one of them cannot be read."""
    found = tuple(_lists(content))
    if not found:
        raise ValueError("holds no revocation list in PEM")
    return found


def _lists(content: bytes) -> Iterator[RevocationList]:
    from cryptography import x509

    for number, block in enumerate(_BLOCK.findall(content), 1):
        try:
            read = x509.load_pem_x509_crl(block)
            issuer = read.issuer.rfc4514_string()
        except ValueError as error:
            raise ValueError(f"revocation list {number} cannot be read ({error})") from None
        due = read.next_update_utc
        yield RevocationList(issuer, due.timestamp() if due is not None else None)
