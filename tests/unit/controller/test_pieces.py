"""The full form piece by piece: what is shown can be put back, and what is needed cannot go."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from evenflow.config import Config, ConfigError, read_document
from evenflow.controller import (
    Kind,
    PieceInUse,
    PieceNotFound,
    PieceTaken,
    piece_document,
    pieces,
    with_new_piece,
    with_piece,
    without_piece,
)
from evenflow.plan import compile_plan

KINDS: tuple[Kind, ...] = get_args(Kind)
A = {"id": "a", "url": "http://192.0.2.1:80"}
USERS = {"id": "u", "url": "http://192.0.2.2:80/users"}
FLAT = {
    "load_balancer": {"port": 9000, "strategy": "weighted", "max_retries": 1},
    "backends": [A, USERS],
    "security": {"ip_blacklist": ["203.0.113.0/24"]},
}
FULL: dict[str, Any] = {
    "listeners": [
        {"name": "web", "address": "127.0.0.1:9001", "filters": ["edge"]},
        {"name": "raw", "address": "127.0.0.1:9002", "protocol": "tcp", "pool": "db"},
    ],
    "routes": [{"name": "all", "pool": "web", "filters": ["limits"], "timeout": "10s"}],
    "pools": [
        {"name": "web", "strategy": {"name": "consistent_hash", "key": "path"}, "backends": [A]},
        {"name": "db", "backends": [{"id": "d", "url": "tcp://192.0.2.3:5432"}]},
    ],
    "filters": {
        "edge": {"max_request_size": "1MiB"},
        "limits": {"rate_limit": {"requests_per_second": 5}},
    },
}
STREAMS = {"backends": [{"id": "d", "url": "postgresql://192.0.2.3:5432"}]}
GOLDEN = Path(__file__).parents[2] / "seam" / "golden"


def configurations() -> list[Config]:
    """Those above, and the inputs of the golden plans that are valid."""
    found = [read_document(each) for each in ({}, FLAT, FULL, STREAMS)]
    for file in sorted(GOLDEN.glob("*.txt")):
        text = file.read_text().split("\n---")[0]
        try:
            found.append(read_document(yaml.safe_load(text) or {}))
        except (ConfigError, yaml.YAMLError, AttributeError):
            continue
    assert len(found) > 6
    return found


def carried_out(config: Config) -> dict[str, Any]:
    """What the engine would do, in an order of its own."""
    try:
        plan: Any = compile_plan(config, revision=1, admin_socket="/run/admin.sock")
    except ConfigError as error:  # a strategy that is not there
        return {"error": str(error)}
    for section in ("listeners", "routes", "pools", "filters"):
        plan[section] = sorted(plan[section], key=lambda each: str(each["name"]))
    return dict(plan)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_can_be_put_back_and_changes_nothing_the_engine_does(kind: Kind) -> None:
    for config in configurations():
        for name, piece in pieces(config, kind).items():
            again = with_piece(config, kind, name, piece_document(name, piece))
            assert carried_out(again) == carried_out(config), name
            assert pieces(again, kind).keys() == pieces(config, kind).keys()


def test_all_pieces_of_the_flat_form_can_be_written_out_one_after_the_other() -> None:
    config = again = read_document(FLAT)
    for kind in KINDS:
        for name, piece in pieces(config, kind).items():
            again = with_piece(again, kind, name, piece_document(name, piece))
    assert again.backends == ()
    assert {pool.name for pool in again.pools} == {"users", "default"}
    assert (again.load_balancer.port, again.load_balancer.max_retries) == (8080, 1)
    assert [listener.address for listener in again.listeners] == ["0.0.0.0:9000"]
    assert carried_out(again) == carried_out(config)


def test_a_new_pool_leaves_flat_backends_where_they_are() -> None:
    config = with_new_piece(read_document(FLAT), "pools", {"name": "more", "backends": []})
    assert [backend.id for backend in config.backends] == ["a", "u"]
    assert pieces(config, "pools").keys() == {"default", "users", "more"}


def test_changing_the_pool_that_flat_backends_make_moves_only_them() -> None:
    config = with_piece(read_document(FLAT), "pools", "users", {"backends": [USERS], "timeout": 3})
    assert [backend.id for backend in config.backends] == ["a"]
    (pool,), (route,) = config.pools, config.routes
    assert (pool.name, pool.timeout, route.match.path) == ("users", 3, "/users/*")


def test_a_second_listener_leaves_the_first_one_where_it_listens() -> None:
    document = {"name": "more", "address": "127.0.0.1:9009"}
    config = with_new_piece(read_document(FLAT), "listeners", document)
    assert [listener.address for listener in config.listeners] == ["0.0.0.0:9000", "127.0.0.1:9009"]
    config = without_piece(config, "listeners", "main")
    assert [listener.name for listener in config.listeners] == ["more"]
    with pytest.raises(PieceInUse, match="last listener"):
        without_piece(config, "listeners", "more")


def test_the_security_section_stays_one() -> None:
    config = with_piece(read_document(FLAT), "filters", "security", {"ip_blacklist": []})
    assert config.security is not None
    assert (config.security.ip_blacklist, config.filters) == ((), {})
    assert without_piece(config, "filters", "security").security is None


@pytest.mark.parametrize(
    ("kind", "name", "paths"),
    [
        ("pools", "web", ["routes[0].pool"]),
        ("pools", "db", ["listeners[1].pool"]),
        ("filters", "limits", ["routes[0].filters[0]"]),
        ("filters", "edge", ["listeners[0].filters[0]"]),
    ],
)
def test_what_something_refers_to_cannot_be_removed(
    kind: Kind, name: str, paths: list[str]
) -> None:
    with pytest.raises(PieceInUse) as refused:
        without_piece(read_document(FULL), kind, name)
    assert [problem.path for problem in refused.value.errors] == paths


@pytest.mark.parametrize(
    ("kind", "name", "document", "path"),
    [
        ("pools", "web", {"strategy": "best"}, "strategy"),
        ("pools", "new", {"backends": [{"id": "x", "url": "nonsense"}]}, "backends[0].url"),
        ("pools", "web", {"name": "other"}, "name"),
        ("routes", "all", {"pool": "absent"}, "pool"),
        ("routes", "second", {"pool": "web"}, "match"),
        ("listeners", "web", {"address": "127.0.0.1:9002"}, "listeners[1].address"),
        ("filters", "limits", {"rate_limt": {}}, "rate_limt"),
    ],
)
def test_a_mistake_is_told_where_it_stands_in_the_piece(
    kind: Kind, name: str, document: dict[str, Any], path: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        with_piece(read_document(FULL), kind, name, document)
    assert [problem.path for problem in refused.value.errors] == [path]


def test_names_are_taken_once_and_unknown_ones_are_not_found() -> None:
    config = read_document(FULL)
    with pytest.raises(PieceTaken, match="'web'"):
        with_new_piece(config, "pools", {"name": "web"})
    with pytest.raises(PieceNotFound, match="no route is named 'web'"):
        without_piece(config, "routes", "web")
    with pytest.raises(ConfigError, match="name"):
        with_new_piece(config, "pools", {})


def test_sources_of_the_flat_form_move_with_its_pool() -> None:
    config = read_document(
        {
            "backends": [{"url": "http://10.0.0.1"}, {"url": "http://10.0.0.2/users"}],
            "discover": {"dns": "app.internal:80"},
        }
    )
    shown = piece_document("default", pieces(config, "pools")["default"])
    other = piece_document("users", pieces(config, "pools")["users"])
    assert shown["discover"]["dns"] == "app.internal:80"
    users_moved = with_piece(config, "pools", "users", other)
    assert [each.kind for each in users_moved.sources] == ["dns"]
    moved = with_piece(users_moved, "pools", "default", {**shown, "slow_start": "5s"})
    assert moved.sources == ()
    assert {pool.name: len(pool.sources) for pool in moved.pools} == {"users": 0, "default": 1}
