"""Merge patches, readable differences, secrets."""

from __future__ import annotations

import pytest

from evenflow.controller.document import MASK, differences, keep_secrets, merge_patch


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_examples_of_rfc_7396(
    document: dict[str, object], patch: dict[str, object], expected: dict[str, object]
) -> None:
    assert merge_patch(document, patch) == expected


def test_differences_name_paths_and_values() -> None:
    old = {
        "load_balancer": {"port": 1, "strategy": "round_robin"},
        "backends": [{"id": "a", "w": 1}],
    }
    new = {
        "load_balancer": {"port": 2, "strategy": "round_robin"},
        "backends": [{"id": "a", "w": 5}, {"id": "b", "url": "http://b:80"}],
    }
    assert differences(old, new) == [
        "load_balancer.port: 1 → 2",
        "backends[a].w: 1 → 5",
        "backends[b]: added http://b:80",
    ]
    assert differences(new, old)[-1] == "backends[b]: removed"


def test_differences_never_show_a_secret() -> None:
    old = {"admin": {"tokens": [{"name": "ops", "token": "first"}]}}
    new = {"admin": {"tokens": [{"name": "ops", "token": "second"}, {"name": "x", "token": "3rd"}]}}
    text = "\n".join(differences(old, new))
    assert "admin.tokens[ops].token: changed" in text
    assert not any(secret in text for secret in ("first", "second", "3rd"))


def test_many_differences_are_counted() -> None:
    lines = differences({}, {f"key{number}": number for number in range(1000)})
    assert len(lines) == 201
    assert lines[-1] == "and 800 more changes"


def test_differences_show_an_address_without_who_logs_in() -> None:
    old: dict[str, object] = {"cluster": {"url": "redis://store"}}
    new = {"cluster": {"url": "redis://me:pass@store"}, "state": {"url": "redis://:pass@store/1"}}
    assert differences(old, new) == [
        "cluster.url: 'redis://store' → 'redis://***@store'",
        "state: added redis://***@store/1",
    ]


def test_a_masked_secret_keeps_the_known_one() -> None:
    known = {"admin": {"tokens": [{"name": "ops", "token": "s3cret"}, {"name": "b", "token": "t"}]}}
    given = {"admin": {"tokens": [{"name": "b", "token": MASK}, {"name": "new", "token": MASK}]}}
    assert keep_secrets(given, known) == {
        "admin": {"tokens": [{"name": "b", "token": "t"}, {"name": "new", "token": MASK}]}
    }
