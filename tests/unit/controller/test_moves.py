"""A file in flat form, reloaded after the API has written a part of it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from evenflow.config import Config, expand, read_document
from evenflow.controller import Kind, piece_document, pieces, three_way_merge, with_piece
from evenflow.controller.edits import Documents
from evenflow.controller.moves import followed

FLAT: dict[str, Any] = {
    "load_balancer": {"port": 9000, "host": "127.0.0.1"},
    "backends": [
        {"id": "a", "url": "http://10.0.0.1"},
        {"id": "u", "url": "http://10.0.0.2/users"},
        {"id": "b", "url": "http://10.0.0.3"},
    ],
}


def changed(config: Config, kind: Kind, name: str, **change: Any) -> Config:
    """What the API makes of `config` when it changes one piece of it."""
    shown = piece_document(name, pieces(config, kind)[name])
    return with_piece(config, kind, name, {**shown, **change})


def merged(file: Mapping[str, Any], ours: Config, base: Mapping[str, Any] = FLAT) -> Config:
    """What a reload of `file` puts in force."""
    before, read, live = (
        Documents().of(each) for each in (read_document(base), read_document(file), ours)
    )
    found = three_way_merge(*followed(before, read, live), live)
    assert not found.conflicts
    return read_document(found.document)


def members(config: Config) -> dict[str, list[str]]:
    """The ids of the backends of every pool, flat ones included."""
    return {pool.name: [each.id for each in pool.backends] for pool in expand(config).pools}


def test_a_new_backend_joins_the_pool_that_was_moved() -> None:
    ours = changed(read_document(FLAT), "pools", "default", strategy="least_connections")
    file = {**FLAT, "backends": [*FLAT["backends"], {"id": "c", "url": "http://10.0.0.4"}]}
    found = merged(file, ours)
    assert members(found) == {"default": ["a", "b", "c"], "users": ["u"]}
    (pool,) = found.pools
    assert pool.strategy == "least_connections"


def test_a_backend_that_the_file_changes_or_drops_is_found_where_it_went() -> None:
    ours = changed(read_document(FLAT), "pools", "default", slow_start="5s")
    ours = changed(ours, "pools", "users", strategy="random")
    file = {**FLAT, "backends": [{**FLAT["backends"][0], "weight": 7}]}
    found = merged(file, ours)
    assert members(found) == {"default": ["a"], "users": []}
    assert found.pools[0].backends[0].weight == 7


def test_a_new_path_makes_a_pool_of_its_own_beside_a_moved_one() -> None:
    ours = changed(read_document(FLAT), "pools", "default", strategy="random")
    file = {**FLAT, "backends": [*FLAT["backends"], {"id": "o", "url": "http://10.0.0.5/orders"}]}
    assert members(merged(file, ours)) == {"default": ["a", "b"], "users": ["u"], "orders": ["o"]}


def test_the_first_backend_joins_the_empty_pool_that_was_moved() -> None:
    ours = changed(read_document({}), "pools", "default", strategy="random")
    file = {"backends": [{"id": "a", "url": "http://10.0.0.1"}]}
    assert members(merged(file, ours, base={})) == {"default": ["a"]}


def test_another_port_in_the_file_moves_the_listener_that_was_written_out() -> None:
    ours = changed(read_document(FLAT), "listeners", "main", idle_timeout="5s")
    file = {**FLAT, "load_balancer": {"port": 9001, "host": "::1", "max_retries": 1}}
    found = merged(file, ours)
    (listener,) = found.listeners
    assert (listener.address, listener.idle_timeout) == ("[::1]:9001", 5.0)
    assert found.load_balancer.max_retries == 1


@pytest.mark.parametrize("kind", ["pools", "listeners"])
def test_a_file_with_nothing_new_changes_nothing(kind: Kind) -> None:
    for name in pieces(read_document(FLAT), kind):
        ours = changed(read_document(FLAT), kind, name)
        assert merged(FLAT, ours) == ours


def test_what_the_file_itself_writes_out_is_its_own() -> None:
    ours = read_document(FLAT)
    pool = {"name": "default", "backends": [FLAT["backends"][0]]}
    file = {**FLAT, "backends": [], "pools": [pool]}
    assert members(merged(file, ours)) == {"default": ["a"]}
