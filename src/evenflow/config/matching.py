"""Which requests a route takes: hosts, path patterns and conditions, each checked by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .base import Model
from .targets import PARAMETER, parse_host, parse_path_match
from .types import FieldName, Items, Network

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNKNOWN_TO_ENGINE = re.compile(r"\(\?(?:[=!]|<[=!]|P=|\(|>)|(?<!\\)(?:\\\\)*\\[1-9]")
_MAX_PATTERN = 4096


def parse_route_host(text: str) -> str:
    """A host, or `*.` and a domain for all hosts below it; ValueError for anything else."""
    if text.startswith("*."):
        return f"*.{parse_host(text.removeprefix('*.'))}"
    return parse_host(text)


def parse_regex(text: str) -> str:
    """A regular expression that the engine can match in linear time; ValueError otherwise."""
    if not text or len(text) > _MAX_PATTERN:
        raise ValueError(f"expected a regular expression of 1 to {_MAX_PATTERN} characters")
    if found := _UNKNOWN_TO_ENGINE.search(text):
        raise ValueError(
            f"look-around, back references and conditions cannot be matched in linear time, got "
            f"{found[0]!r} in {text!r}"
        )
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression, got {text!r} ({error})") from None
    return text


def parse_method(value: object) -> object:
    """A method's name in upper case; ValueError for what is no name."""
    if not isinstance(value, str):
        return value
    if not _TOKEN.fullmatch(value) or len(value) > 32:
        raise ValueError(f"expected a method such as GET, got {value!r}")
    return value.upper()


def parse_cookie_name(value: str) -> str:
    """A cookie's name; ValueError for anything else."""
    if not _TOKEN.fullmatch(value) or len(value) > 128:
        raise ValueError(f"expected a cookie's name, got {value!r}")
    return value


RouteHost = Annotated[str, AfterValidator(parse_route_host)]
PathPattern = Annotated[str, AfterValidator(parse_path_match)]
Pattern = Annotated[str, AfterValidator(parse_regex)]
Method = Annotated[str, BeforeValidator(parse_method)]
CookieName = Annotated[str, AfterValidator(parse_cookie_name)]
ParameterName = Annotated[str, Field(min_length=1, max_length=256)]


class PathRegex(Model):
    """A path compared by a regular expression, which must take all of it."""

    regex: Pattern


class ValueRule(Model):
    """How a value is compared, where it is not the very value: one of the two."""

    present: bool | None = Field(default=None, description="Any value at all, or none.")
    regex: Pattern | None = Field(default=None, description="Must take the whole value.")

    @model_validator(mode="after")
    def _one_of_them(self) -> ValueRule:
        if (self.present is None) == (self.regex is None):
            raise ValueError("expected one of present and regex")
        return self


ValueMatch = str | ValueRule


class Match(Model):
    """Which requests a route takes; absent fields take any. All that is given must hold."""

    host: RouteHost | None = Field(
        default=None, description="Without port; `*.example.org` is all hosts below it."
    )
    path: PathPattern | PathRegex | None = Field(
        default=None,
        description=(
            "`/users` is that very path, `/users/*` all below it and itself, `/users/{id}/orders` "
            "any segment in place of `{id}`, `{regex: ...}` an expression for all of the path."
        ),
    )
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(
        default=0, description="Among routes of one host and path the higher goes first."
    )
    methods: Items[Method] = Field(default=(), description="One of these.")
    headers: dict[FieldName, ValueMatch] = Field(
        default_factory=dict, description="The value, `{present: true}` or `{regex: ...}`."
    )
    query: dict[ParameterName, ValueMatch] = Field(
        default_factory=dict, description="The same for parameters of the query."
    )
    cookies: dict[CookieName, ValueMatch] = Field(
        default_factory=dict, description="The same for cookies."
    )
    client: Items[Network] = Field(
        default=(), description="The client's address is in one of these networks."
    )

    @property
    def conditions(self) -> int:
        """How many there are besides host and path."""
        values = len(self.headers) + len(self.query) + len(self.cookies)
        return bool(self.methods) + values + bool(self.client)


def path_segments(pattern: str) -> tuple[list[str], bool]:
    """The segments of a path pattern, and whether it takes all below as well."""
    bare = pattern.removesuffix("/*")
    return bare.split("/")[1:], bare != pattern


def parameters(pattern: str | PathRegex | None) -> Iterator[tuple[str, int]]:
    """The names of a template's parameters, and which segment each is."""
    if isinstance(pattern, str):
        for index, segment in enumerate(path_segments(pattern)[0]):
            if found := PARAMETER.fullmatch(segment):
                yield found[1], index
