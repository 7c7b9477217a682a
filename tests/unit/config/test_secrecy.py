"""Every setting whose type is a secret is told as one, wherever it stands in a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from evenflow.config import Config, read_document
from evenflow.config.reading import alternatives
from evenflow.config.secrecy import ROOT
from evenflow.config.types import SENSITIVE_FIELDS, Secret
from evenflow.controller.document import differences
from evenflow.controller.edits import Documents

MARK = "pl4nted-secret"

Step = str | int
Path = tuple[Step, ...]


def secret_paths(annotation: object, path: Path = (), depth: int = 0) -> Iterator[Path]:
    """A path to every setting below a type that may hold a secret; lists by their first member."""
    if depth > 12:
        return
    for kind in alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                yield from secret_paths(field.annotation, (*path, name), depth + 1)
        elif isinstance(kind, type) and issubclass(kind, Secret):
            yield path
        elif get_origin(kind) in (dict, Mapping):
            name = "Authorization" if path and path[-1] != "users" else "somebody"
            yield from secret_paths(get_args(kind)[1], (*path, name), depth + 1)
        elif get_origin(kind) in (list, tuple, Sequence):
            yield from secret_paths(get_args(kind)[0], (*path, 0), depth + 1)


PATHS = sorted({*secret_paths(Config)}, key=str)


def planted(path: Path, value: object) -> Any:
    """A document that holds nothing but a value at a path."""
    document: Any = value
    for step in reversed(path):
        document = [{"name": "n", **document}] if step == 0 else {str(step): document}
    return document


def test_the_paths_are_those_that_there_are() -> None:
    assert ("certificates", "Authorization", "acme", "external_account", "hmac_key") in PATHS
    assert ("admin", "tokens", 0, "token") in PATHS
    assert len(PATHS) > 40


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_difference_shows_a_secret(path: Path) -> None:
    if path[-1] == "url":  # an address, of which only the password is a secret
        old, new = f"redis://me:{MARK}-1@store", f"redis://me:{MARK}-2@store"
    else:
        old, new = f"{MARK}-1", f"{MARK}-2"
    one, two = planted(path, old), planted(path, new)
    for before, after in ((one, two), ({}, one), (one, {})):
        assert MARK not in "\n".join(differences(before, after)), path


def test_a_header_for_credentials_is_a_secret_however_it_is_given() -> None:
    check = {"headers": {"Authorization": MARK, "X-Shown": "shown"}, "path": "/"}
    config = read_document({"backends": [{"url": "http://127.0.0.1:1"}], "health_check": check})
    shown = config.model_dump(mode="json", exclude_none=True)
    assert shown["health_check"]["headers"] == {"Authorization": "***", "X-Shown": "shown"}
    kept = Documents().of(config)
    assert kept["health_check"]["headers"]["Authorization"] == MARK
    assert read_document(kept) == config


def test_what_no_model_knows_is_no_secret() -> None:
    assert not ROOT.below("nothing").below("of").members.is_secret
    assert not ROOT.below("load_balancer").below("port").is_secret
    headers = ROOT.below("health_check").below("headers")
    assert all(headers.below(name).is_secret for name in SENSITIVE_FIELDS)
    assert not headers.below("accept").is_secret
