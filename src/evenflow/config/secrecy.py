"""Where a configuration document holds secrets, derived from the types of its models.

A setting is secret because its type is `Secret`, and a header value because of the header's name;
no list of settings is kept anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, get_args, get_origin

from pydantic import BaseModel

from .models import Config
from .reading import alternatives
from .types import SENSITIVE_FIELDS, Secret


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document: the types that its value may have."""

    kinds: tuple[object, ...]
    name: str = ""

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown."""
        classes = {kind for kind in self.kinds if isinstance(kind, type)}
        if not any(issubclass(kind, Secret) for kind in classes):
            return False
        # Text beside it is shown, unless it is the value of a header field for credentials.
        return str not in classes or self.name.lower() in SENSITIVE_FIELDS

    def below(self, key: str) -> Place:
        """The place of a member of an object."""
        return _below(self, key)

    @property
    def members(self) -> Place:
        """The place of the members of a list."""
        return _members(self)


ROOT: Final = Place((Config,))
"""A whole configuration."""


@cache
def _below(place: Place, key: str) -> Place:
    kinds: list[object] = []
    for kind in place.kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if (field := kind.model_fields.get(key)) is not None:
                kinds += alternatives(field.annotation)
        elif get_origin(kind) in (dict, Mapping):
            kinds += alternatives(get_args(kind)[1])
    return Place(tuple(kinds), key)


@cache
def _members(place: Place) -> Place:
    lists = (kind for kind in place.kinds if get_origin(kind) in (list, tuple, Sequence))
    kinds = [member for kind in lists for member in alternatives(get_args(kind)[0])]
    return Place(tuple(kinds), place.name)
