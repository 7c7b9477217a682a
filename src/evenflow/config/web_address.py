"""Addresses of pages that are read from elsewhere: key sets, lists of endpoints."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_web_address(value: str, *, example: str, without_login: str) -> str:
    """`value` as it is; ValueError where it is no http or https address, or holds a secret.

    `example` is shown for what was expected, `without_login` is said of a name or password in it.
    """
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"expected an address such as {example}, got {value!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(without_login)
    if parts.fragment or not value.isascii() or any(c <= " " or c == "\x7f" for c in value):
        raise ValueError("expected an address of visible ASCII characters without `#`")
    return value
