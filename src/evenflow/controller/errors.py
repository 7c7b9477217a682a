"""What the controller refuses because it is not there."""

from __future__ import annotations


class BackendNotFound(KeyError):
    """No backend has this id."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"no backend has the id {self.id!r}"


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
