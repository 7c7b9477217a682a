"""Files decoded into plain data, with the line of every value.

YAML (scalars as in YAML 1.2's core schema), TOML and JSON. Decoding refuses what a reader could
take in two ways: duplicate keys, tags, keys that are not text.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from .problems import ConfigError, Problem, join_path

_MAX_VALUES = 2_000_000
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TEXT_TAG = "tag:yaml.org,2002:str"
_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", _TEXT_TAG}
_TOML_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_TOML_KEY = re.compile(r"\s*([A-Za-z0-9_.\-\"']+(?:\s*\.\s*[A-Za-z0-9_\-\"']+)*)\s*=")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's data, and the line (from 1) of each path that is known."""

    data: dict[str, Any]
    lines: dict[str, int]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either one
    """Composes nodes without guessing types: all scalars stay text, marked plain or quoted."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def read_file(path: Path, list_key: str | None = None) -> Decoded:
    """Decodes a file by its suffix: .toml, .json, else YAML; raises `ConfigError`.

    With `list_key`, a file that is a list is read as if the list stood under this key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem("", "expected UTF-8 text", file=str(path))]) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Problem("", f"cannot be read: {reason}", file=str(path))]) from None
    match path.suffix.lower():
        case ".toml":
            return decode_toml(text, str(path))
        case ".json":
            return decode_json(text, str(path), list_key)
        case _:
            return decode_yaml(text, str(path), list_key)


def decode_yaml(text: str, file: str | None = None, list_key: str | None = None) -> Decoded:
    """Decodes YAML; raises `ConfigError`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else None
        raise ConfigError([Problem("", f"not valid YAML: {what}", line, file)]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([Problem("", f"not valid YAML: {error}", None, file)]) from None
    finally:
        loader.dispose()
    if node is None:
        return Decoded({}, {})
    reader = _YamlReader(file)
    try:
        data = reader.value(node, ())
    except RecursionError:
        raise ConfigError([Problem("", "nested too deeply", None, file)]) from None
    return _whole(data, reader.lines, reader.problems, file, list_key)


def decode_toml(text: str, file: str | None = None) -> Decoded:
    """Decodes TOML; raises `ConfigError`. Lines are known for keys at the start of a line."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        message = re.sub(r" \(at .*\)", "", str(error))
        line = int(found[1]) if found else None
        raise ConfigError([Problem("", f"not valid TOML: {message}", line, file)]) from None
    return Decoded(data, dict(_toml_lines(text)))


def decode_json(text: str, file: str | None = None, list_key: str | None = None) -> Decoded:
    """Decodes JSON; raises `ConfigError`."""
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                twice.append(key)
            found[key] = value
        return found

    try:
        data = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(
            [Problem("", f"not valid JSON: {error.msg}", error.lineno, file)]
        ) from None
    except RecursionError:
        raise ConfigError([Problem("", "nested too deeply", None, file)]) from None
    try:
        # JSON is YAML too, which gives the lines; only odd white space keeps it from being so.
        as_yaml = decode_yaml(text, file, list_key)
    except ConfigError as error:
        if twice:
            known = [problem for problem in error.errors if "twice" in problem.message]
            raise ConfigError(
                known or [Problem("", f"key {key!r} is given twice", None, file) for key in twice]
            ) from None
        return _whole(data, {}, [], file, list_key)
    return as_yaml if list_key else _whole(data, as_yaml.lines, [], file)


def _whole(
    data: object,
    lines: dict[str, int],
    problems: list[Problem],
    file: str | None,
    list_key: str | None = None,
) -> Decoded:
    if list_key is not None and isinstance(data, list):
        data = {list_key: data}
        lines = {f"{list_key}{path}": line for path, line in lines.items()}
    if not problems and not isinstance(data, dict):
        problems = [Problem("", "expected keys and values at the top", 1, file)]
    if problems:
        raise ConfigError(problems)
    assert isinstance(data, dict)
    return Decoded(data, lines)


class _YamlReader:
    """Turns nodes into data, noting lines and problems by the way."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._values = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: tuple[str | int, ...]) -> object:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise ConfigError([Problem("", f"more than {_MAX_VALUES} values", None, self.file)])
        self.lines[join_path(path)] = node.start_mark.line + 1
        if node.tag not in _TAGS:
            self._problem(path, node, f"tags such as {node.tag!r} are not supported")
            return None
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            self._problem(path, node, "an alias that contains itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, at)) for at, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, object]:
        found: dict[str, object] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, key_node, "expected a key that is text")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in found:
                text = f"given twice, first in line {seen[key]}"
                self._problem((*path, key), key_node, text)
                continue
            found[key] = self.value(value_node, (*path, key))
            # The line of a block is that of its key, where a reader looks for it.
            self.lines[join_path((*path, key))] = seen[key] = line
        return found

    def _problem(self, path: tuple[str | int, ...], node: yaml.Node, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(join_path(path), message, line, self.file))


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    return text if node.style else plain_scalar(text)


def plain_scalar(text: str) -> object:
    """The value of unquoted text: null, a boolean, a number, or the text itself."""
    match text:
        case "" | "~" | "null" | "Null" | "NULL":
            return None
        case "true" | "True" | "TRUE":
            return True
        case "false" | "False" | "FALSE":
            return False
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _toml_lines(text: str) -> Iterator[tuple[str, int]]:
    """The lines of tables and of keys at the start of a line, outside multi-line strings."""
    prefix: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    quotes: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if quotes is None:
            if table := _TOML_TABLE.fullmatch(line):
                prefix = _toml_path(table[2])
                if table[1] == "[[":
                    name = join_path(prefix)
                    counts[name] = counts.get(name, -1) + 1
                    prefix = (*prefix, counts[name])
                yield join_path(prefix), number
            elif key := _TOML_KEY.match(line):
                yield join_path((*prefix, *_toml_path(key[1]))), number
        for mark in ('"""', "'''"):
            if quotes in (None, mark) and line.count(mark) % 2:
                quotes = mark if quotes is None else None


def _toml_path(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
