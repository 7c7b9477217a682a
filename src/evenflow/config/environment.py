"""Environment variables: the five short names, and one for every other scalar by its path.

`LB_SERVER__WORKERS=2` sets `server.workers`: the path in capitals, its parts joined by two
underscores. A list of text is written with commas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from .documents import plain_scalar
from .models import Config
from .problems import ConfigError, Problem, hint
from .reading import alternatives
from .types import Secret

PREFIX = "LB_"
CONFIG_FILE = "LB_CONFIG"
SHORT_NAMES = {
    "LB_PORT": "load_balancer.port",
    "LB_STRATEGY": "load_balancer.strategy",
    "LB_LOG_LEVEL": "logging.level",
    "LB_BACKENDS": "backends",
    "LB_HEALTH_CHECK_PATH": "health_check.path",
}
Kinds = frozenset[type]


def from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, object]]:
    """The variable and value for each path that the environment sets.

    A variable that is set but empty counts as not set. Raises `ConfigError` for unknown variables
    with the prefix `LB_`.
    """
    found: dict[str, tuple[str, object]] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE or not environ[variable]:
            continue
        path = variables().get(variable)
        if path is None:
            known = [*variables(), CONFIG_FILE]
            text = f"unknown environment variable{hint(variable, known)}"
            problems.append(Problem("", text, file=variable))
        elif path in found:
            text = f"the environment sets this twice, by {found[path][0]} and {variable}"
            problems.append(Problem(path, text, file=variable))
        else:
            found[path] = variable, value_of(path, environ[variable])
    if problems:
        raise ConfigError(problems)
    return found


def value_of(path: str, text: str) -> object:
    """The text of a variable or flag as the value that the scalar at `path` takes."""
    if path == "backends":
        return [{"url": url.strip()} for url in text.split(",") if url.strip()]
    kinds = scalars().get(path, frozenset((str,)))
    value = plain_scalar(text)
    if tuple in kinds and type(value) not in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    if value is None and type(None) in kinds:
        return None
    if type(value) in kinds or (type(value) is int and float in kinds):
        return value
    return text


@cache
def variables() -> dict[str, str]:
    """Every variable's path."""
    long_names = {PREFIX + path.upper().replace(".", "__"): path for path in scalars()}
    return {**SHORT_NAMES, **long_names}


@cache
def scalars() -> dict[str, Kinds]:
    """The types that each scalar, or list of text, at a fixed path takes."""
    return dict(_scalars_of(Config, ""))


def _scalars_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Kinds]]:
    for name, field in model.model_fields.items():
        path = prefix + name
        kinds: set[type] = set()
        for plain in alternatives(field.annotation):
            if isinstance(plain, type) and issubclass(plain, BaseModel):
                yield from _scalars_of(plain, f"{path}.")
            elif isinstance(plain, type):
                kinds.add(str if plain is Secret else plain)
            elif get_origin(plain) is Literal:
                kinds.update(type(choice) for choice in get_args(plain))
            elif get_origin(plain) is Sequence and _is_text(get_args(plain)[0]):
                kinds.add(tuple)
        if kinds - {type(None)}:
            yield path, frozenset(kinds)


def _is_text(annotation: object) -> bool:
    return any(
        plain is str or (get_origin(plain) is Literal and isinstance(get_args(plain)[0], str))
        for plain in alternatives(annotation)
    )


def set_path(document: dict[str, Any], path: str, value: object) -> None:
    """Sets the value at a dotted path, making the sections on the way."""
    *sections, last = path.split(".")
    for section in sections:
        below = document.get(section)
        if not isinstance(below, dict):
            below = document[section] = {}
        document = below
    document[last] = value
