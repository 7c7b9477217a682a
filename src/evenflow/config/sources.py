"""All sources of the configuration together: flags over environment over file over defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .documents import Decoded, read_file
from .environment import CONFIG_FILE, from_environment, set_path, value_of
from .models import Config
from .problems import ConfigError, Problem, join_path
from .reading import as_written, located, read_document

Place = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, the document it was read from, and where each value came from."""

    config: Config
    document: dict[str, Any]
    """File, environment and flags merged; secrets stand in it as they were written."""
    places: dict[str, Place]
    """For each path that was given: file and line, variable or flag."""
    file: Path | None

    @property
    def origins(self) -> dict[str, str]:
        """For each scalar of the configuration: `file:line`, `env VAR`, `flag` or `default`."""
        dumped = self.config.model_dump(mode="json", exclude_none=True)
        return {path: self.origin(path) for path, _ in leaves(dumped)}

    def origin(self, path: str) -> str:
        """Where the value at `path` came from."""
        place = self.places.get(path) or self.places.get(path.replace(".auth.jwt", ".jwt", 1))
        file, line = place or (None, None)
        if file is None:
            return "default"
        return file if line is None else f"{file}:{line}"

    def locate(self, error: ConfigError) -> ConfigError:
        """The error with the file and line of each path."""
        return ConfigError(located(as_written(error.errors, self.document), self.places))


def load(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """Reads the file (else that of LB_CONFIG, if any), the environment and `overrides`.

    `environ` is the process's environment unless given. `overrides` are flags: values by dotted
    path, where text is read as in a variable. Raises `ConfigError` with every problem found.
    """
    environ = os.environ if environ is None else environ
    chosen = path if path is not None else environ.get(CONFIG_FILE) or None
    file = Path(chosen) if chosen is not None else None
    decoded = read_file(file) if file is not None else Decoded({}, {})
    places: dict[str, Place] = {
        at: (str(file), decoded.lines.get(at)) for at, _ in _paths(decoded.data)
    }
    document = deepcopy(decoded.data)
    for at, (variable, value) in from_environment(environ).items():
        _layer(document, places, at, value, f"env {variable}")
    for at, value in (overrides or {}).items():
        _layer(
            document, places, at, value_of(at, value) if isinstance(value, str) else value, "flag"
        )
    try:
        config = read_document(document, environ=environ)
    except ConfigError as error:
        raise ConfigError(located(error.errors, places)) from None
    return Loaded(config, document, places, file)


def leaves(document: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every scalar and empty container with its path."""
    return ((at, value) for at, value in _paths(document, path) if not (value and _below(value)))


def _layer(
    document: dict[str, Any], places: dict[str, Place], at: str, value: object, source: str
) -> None:
    for old in [old for old in places if old == at or old.startswith((f"{at}.", f"{at}["))]:
        del places[old]
    set_path(document, at, value)
    for below, _ in _paths(value, at):
        places[below] = source, None


def _paths(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if path:
        yield path, value
    for part, below in _below(value):
        yield from _paths(
            below,
            f"{path}{join_path((part,))}"
            if isinstance(part, int)
            else (f"{path}.{part}" if path else str(part)),
        )


def _below(value: object) -> list[tuple[str | int, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return []


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors."""
    schema = Config.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "evenflow configuration",
    }


__all__ = ["Loaded", "Problem", "json_schema", "leaves", "load"]
