"""Lists of networks that are kept in files: one network or address a line."""

from __future__ import annotations

from typing import Final

from evenflow.config.types import parse_network

MAX_BYTES: Final = 32 * 1024 * 1024
MAX_LINES: Final = 1_000_000


def read_networks(content: bytes) -> tuple[str, ...]:
    """The networks of a list, each once; blank lines and what follows `#` or `;` are passed over.

    ValueError says what is wrong, with the number of the line.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, got {len(content)}")
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8 ({error.reason})") from None
    if len(lines) > MAX_LINES:
        raise ValueError(f"expected at most {MAX_LINES} lines, got {len(lines)}")
    found = dict[str, None]()
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].partition(";")[0].strip()
        if not entry:
            continue
        try:
            found[parse_network(entry)] = None
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return tuple(found)
