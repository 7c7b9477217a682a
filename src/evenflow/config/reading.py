"""Plain data read into the typed `Config`, every mistake told in the reader's terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .models import Config
from .problems import ConfigError, Problem, hint, join_path

Path = tuple[str | int, ...]

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "of at most"),
}


def read_document(
    document: Mapping[str, Any], *, environ: Mapping[str, str] | None = None
) -> Config:
    """The configuration that `document` describes; raises `ConfigError` with every problem.

    Values may be models already, which are taken as they are. `environ` is where `${NAME}` is
    looked up, by default the process's environment.
    """
    try:
        return Config.model_validate(
            document, context=None if environ is None else {"environ": environ}
        )
    except ValidationError as error:
        raise ConfigError(problems_of(error, document)) from None


def problems_of(error: ValidationError, document: object) -> list[Problem]:
    """A validation error as problems, one for each place."""
    found: dict[Path, list[ErrorDetails]] = {}
    problems: list[Problem] = []
    for details in error.errors(include_url=False):
        if details["type"] == "contradiction":
            problems.extend(as_written(details["ctx"]["problems"], document))
        else:
            found.setdefault(_place(details, document), []).append(details)
    for path, several in found.items():
        # Where a value may be text or keys and values, an error inside says more than one about
        # the other choice.
        inner = any(len(other) > len(path) and other[: len(path)] == path for other in found)
        if inner and all(details["type"] in _EXPECTED for details in several):
            continue
        problems.append(Problem(join_path(path), _message(path, several)))
    return problems


def as_written(problems: Iterable[Problem], document: object) -> list[Problem]:
    """The problems with `auth.jwt` as `jwt` wherever the document has it so."""

    def path(problem: Problem) -> str:
        chain, long, rest = problem.path.partition(".auth.jwt")
        return f"{chain}.jwt{rest}" if long and _chain_has_jwt(document, chain) else problem.path

    return [replace(problem, path=path(problem)) for problem in problems]


def _chain_has_jwt(document: Any, path: str) -> bool:
    section, _, name = path.partition(".")
    here = document.get(section) if isinstance(document, Mapping) else None
    if name:
        here = here.get(name) if isinstance(here, Mapping) else None
    return isinstance(here, Mapping) and here.get("jwt") is not None


def _place(details: ErrorDetails, document: object) -> Path:
    """The path in the document, without the names that pydantic adds for unions and keys."""
    path: list[str | int] = []
    here: Any = document
    location = details["loc"]
    for position, part in enumerate(location):
        if isinstance(here, BaseModel):
            here = here.__dict__
        last = position == len(location) - 1
        if _holds(here, part):
            here = here[part]
        elif not (last and details["type"] == "missing"):
            continue
        path.append(part)
    return tuple(path)


def _holds(container: Any, part: str | int) -> bool:
    if isinstance(container, (list, tuple)):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, Mapping) and part in container


def _message(path: Path, several: list[ErrorDetails]) -> str:
    first = several[0]
    value = first["input"]
    kinds = [
        expected for details in several if (expected := _EXPECTED.get(details["type"])) is not None
    ]
    allowed = [choice for details in several for choice in _choices(details)]
    if allowed:
        kinds += [bound for details in several if (bound := _bound(details)) is not None]
        text = (
            f"expected one of {', '.join(allowed)}"
            if len(allowed) > 1
            else (f"expected {allowed[0]}")
        )
        text += "".join(f" or {kind}" for kind in dict.fromkeys(kinds))
        return f"{text}, got {_shown(value)}{hint(str(value), allowed)}"
    others = [details for details in several if details["type"] not in _EXPECTED]
    if kinds and not others:
        return f"expected {' or '.join(dict.fromkeys(kinds))}, got {_shown(value)}"
    details = others[0]
    kind = details["type"]
    if kind == "extra_forbidden":
        names = sorted(_keys_at(path[:-1]))
        name = str(path[-1])
        return f"unknown key{hint(name, names)}; allowed: {', '.join(names)}"
    if kind == "missing":
        return "required, but not given"
    if (bound := _bound(details)) is not None:
        return f"expected {bound}, got {_shown(value)}"
    if kind in ("too_short", "string_too_short"):
        return "expected something, got nothing"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        return f"expected text like {details['ctx']['pattern']}, got {_shown(value)}"
    message = details["msg"]
    return f"{message[:1].lower()}{message[1:]}, got {_shown(value)}"


def _bound(details: ErrorDetails) -> str | None:
    if details["type"] not in _BOUNDS:
        return None
    key, words = _BOUNDS[details["type"]]
    return f"a number {words} {details['ctx'][key]:g}"


def _choices(details: ErrorDetails) -> list[str]:
    if details["type"] != "literal_error":
        return []
    text: str = details["ctx"]["expected"]
    return [choice.strip().strip("'") for choice in text.replace(" or ", ", ").split(",")]


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "keys and values"
        case list() | tuple():
            return "a list"
        case str() if len(value) > 80:
            return repr(value[:77] + "...")
        case _:
            return repr(value)


def _keys_at(path: Path) -> set[str]:
    annotations: list[object] = [Config]
    for part in path:
        annotations = [below for each in annotations for below in step(each, part)]
    return {
        name
        for annotation in annotations
        for model in models_in(annotation)
        for name in model.model_fields
    }


def step(annotation: object, part: str | int) -> Iterator[object]:
    """The annotations of what stands under `part` of a value of this annotation."""
    for model in models_in(annotation):
        if field := model.model_fields.get(str(part)):
            yield field.annotation
    for container in containers_in(annotation):
        yield get_args(container)[-1]


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a value of this annotation may be."""
    for plain in alternatives(annotation):
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            yield plain


def containers_in(annotation: object) -> Iterator[object]:
    """The lists and maps that a value of this annotation may be."""
    for plain in alternatives(annotation):
        if get_args(plain) and get_origin(plain) is not Literal:
            yield plain


def alternatives(annotation: object) -> Iterator[object]:
    """The members of unions, without what `Annotated` adds."""
    if hasattr(annotation, "__metadata__"):
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation


def located(
    problems: Iterable[Problem], places: Mapping[str, tuple[str, int | None]]
) -> list[Problem]:
    """The problems with file and line from the nearest path that has a place."""
    found = []
    for problem in problems:
        path = problem.path
        while path not in places and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        file, line = places.get(path, (None, None))
        found.append(
            Problem(problem.path, problem.message, problem.line or line, problem.file or file)
        )
    return found
