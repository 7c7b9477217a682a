"""What the controller refuses because it is not there."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.config import Problem


class BackendNotFound(KeyError):
    """No backend has this id."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"no backend has the id {self.id!r}"


class BackendDiscovered(Exception):
    """A backend that is not configured but discovered, and cannot be changed here."""

    def __init__(self, id: str, pool: str, source: str) -> None:
        super().__init__(
            f"backend {id!r} was discovered by the source {source!r} of pool {pool!r}; "
            "change it there"
        )


class RevisionNotFound(KeyError):
    """This revision was never in force, or is forgotten."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision

    def __str__(self) -> str:
        return f"revision {self.revision} is not kept"


class RevisionConflict(Exception):
    """A change was asked for on another revision than the one in force; nothing changed."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the configuration is at revision {revision} by now")
        self.revision = revision
        """The revision in force."""


class NotOrdered(Exception):
    """A certificate of this name is not one that is ordered from an authority."""

    def __init__(self, name: str) -> None:
        super().__init__(f"certificate {name!r} is not ordered from an authority: it has no `acme`")


class PieceNotFound(KeyError):
    """No pool, route, listener, filter or certificate has this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"no {self.kind.removesuffix('s')} is named {self.name!r}"


class PieceTaken(Exception):
    """A pool, route, listener, filter or certificate has this name already."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"a {kind.removesuffix('s')} is named {name!r} already")


class PieceInUse(Exception):
    """A pool, route, listener, filter or certificate cannot go; `errors` say who refers to it."""

    def __init__(self, kind: str, name: str, errors: Sequence[Problem]) -> None:
        super().__init__(f"{kind.removesuffix('s')} {name!r} is in use: {errors[0]}")
        self.errors = errors
