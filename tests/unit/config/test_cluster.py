"""Redis servers in the configuration: addresses, secrets in them, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config import ConfigError, RedisServer, read_document
from evenflow.config.cluster import RedisAddress, parse_redis_url

BASE = {"backends": [{"url": "http://10.0.0.1:8080"}]}
LIMIT = {"requests_per_second": 5, "scope": "fleet"}
PASSWORD = "c4nary-51b6"


def problems(**sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read_document({**BASE, **sections})
    return [str(problem) for problem in refused.value.errors]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://store", RedisAddress("store", 6379, 0, False, None, None)),
        ("redis://store:6380/", RedisAddress("store", 6380, 0, False, None, None)),
        ("valkeys://s:1/15", RedisAddress("s", 1, 15, True, None, None)),
        ("rediss://[fd00::1]:7/2", RedisAddress("fd00::1", 7, 2, True, None, None)),
        ("redis://:p%40ss@s", RedisAddress("s", 6379, 0, False, None, "p@ss")),
        ("redis://me:pass@s", RedisAddress("s", 6379, 0, False, "me", "pass")),
        ("redis://me@s", RedisAddress("s", 6379, 0, False, "me", None)),
    ],
)
def test_an_address_is_read(url: str, expected: RedisAddress) -> None:
    assert parse_redis_url(url) == expected
    again = parse_redis_url(expected.shown)
    assert (again.host, again.port, again.database) == (
        expected.host,
        expected.port,
        expected.database,
    )
    assert again.encrypted == expected.encrypted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store:6379",
        "http://store",
        "redis://",
        "redis://store:0",
        "redis://store:port",
        "redis://store:70000",
        "redis://store/one",
        "redis://store/0?timeout=1",
        "redis://store/0#x",
        "redis://st ore",
        "redis://[fd00::1",
    ],
)
def test_what_is_no_address_is_refused_with_its_path_and_without_the_text(url: str) -> None:
    (problem,) = problems(cluster={"url": url.replace("store", f"me:{PASSWORD}@store")})
    assert problem.startswith("cluster.url: expected ")
    assert PASSWORD not in problem


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        found = parse_redis_url(text)
    except ValueError as error:
        assert str(error).startswith("expected redis://")  # noqa: PT017 - it may be none
    else:
        assert found.host


def test_an_address_with_a_password_is_never_shown_and_one_without_always() -> None:
    environ = {"STORE": f"redis://:{PASSWORD}@store"}
    shown = {
        f"redis://:{PASSWORD}@store": "***",
        "${STORE}": "${STORE}",
        "redis://store": "redis://store",
    }
    for url, expected in shown.items():
        config = read_document({**BASE, "cluster": {"url": url}}, environ=environ)
        assert config.model_dump(mode="json")["cluster"]["url"] == expected
        assert PASSWORD not in repr(config)
        assert PASSWORD not in str(config)
        assert config.cluster is not None
        assert config.cluster.address.host == "store"
        kept = config.model_dump(mode="json", context={"secrets": True})["cluster"]["url"]
        assert kept == url


def test_the_sections_of_the_documentation_are_read() -> None:
    config = read_document(
        {
            **BASE,
            "state": {"store": "redis", "url": "redis://store:6379/1", "wait_replicas": 1},
            "cluster": {"url": "rediss://store:6379/0", "node": "auto"},
            "filters": {"limits": {"rate_limit": LIMIT}},
            "security": {"rate_limit": LIMIT},
        }
    )
    assert config.state.server == RedisServer(url="redis://store:6379/1")
    assert config.cluster is not None
    assert config.cluster.address.encrypted


def test_what_does_not_go_together_is_told_with_its_path() -> None:
    assert problems(
        security={"rate_limit": LIMIT},
        filters={"a": {"rate_limit": {**LIMIT, "key": "route"}}},
        state={"store": "redis"},
    ) == [
        "state.url: is missing; the store redis needs one: redis://HOST:PORT/0",
        "security.rate_limit.scope: fleet needs a `cluster` section, through which nodes tell each "
        "other",
        "filters.a.rate_limit.scope: fleet needs a `cluster` section, through which nodes tell each "
        "other",
        "filters.a.rate_limit.key: limits of scope fleet do not tell routes apart; give each route a "
        "filter of its own",
    ]
    assert problems(state={"url": "redis://store", "lease": "5s"}) == [
        "state.url: is for the store redis; it is sqlite",
        "state.lease: is for the store redis; it is sqlite",
    ]
    assert problems(
        cluster={"url": "redis://:one@store", "password": "two", "ca_file": "ca.pem"},
        state={"store": "redis", "url": "redis://:one@store", "password": "two"},
    ) == [
        "state.password: the URL has a password already; keep one of them",
        "cluster.password: the URL has a password already; keep one of them",
        "cluster.ca_file: has no effect on an address with redis://",
    ]
