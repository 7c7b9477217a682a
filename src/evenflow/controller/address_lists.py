"""Address lists in files: how large each is, and how it went when it was last read.

Reading them is `certs.material`'s matter, and when to do so that of `Certificates`, which watches all
files alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from evenflow.certs import Material

_GONE = "there is no such file any more"


@dataclass(frozen=True, slots=True)
class AddressListStatus:
    """What is known of one file."""

    file: str
    networks: int
    """Those in force."""
    read_at: float
    """Unix seconds of the last success."""
    error: str | None
    """Why the file as it is now is not in force."""
    failures: int
    """How often it was refused."""


class AddressLists:
    """Remembers what reading the lists in force came to. Used on one event loop."""

    def __init__(self, material: Callable[[], Material]) -> None:
        self._material = material
        self._errors: dict[str, str] = {}
        self._failures: Counter[str] = Counter()

    def taken(self, material: Material) -> None:
        """All lists of `material` could be read; others are forgotten."""
        self._errors.clear()
        self._failures = Counter(
            {file: count for file, count in self._failures.items() if file in material.networks}
        )

    def refused(self, reasons: Mapping[str, str]) -> None:
        """Some could not be read. Those that are not in force yet are their asker's matter."""
        known = {file: why for file, why in reasons.items() if file in self._material().networks}
        self._errors = known
        self._failures.update(known.keys())

    def statuses(self, missing: Collection[str]) -> list[AddressListStatus]:
        """All lists in force; `missing` are files that are not there now."""
        material = self._material()
        return [
            AddressListStatus(
                file,
                len(networks),
                material.networks_read_at[file],
                _GONE if file in missing else self._errors.get(file),
                self._failures[file],
            )
            for file, networks in material.networks.items()
        ]
