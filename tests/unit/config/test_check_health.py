"""What is refused in health checks that speak a protocol."""

from __future__ import annotations

from typing import Any

import pytest

from evenflow.config import ConfigError, expand, read_document

PG = {"id": "a", "url": "postgresql://127.0.0.1"}
WEB = {"id": "b", "url": "http://127.0.0.1/users"}


def problems(document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as refused:
        read_document(document)
    return [(problem.path, problem.message) for problem in refused.value.errors]


def test_what_no_backend_has_a_use_for_is_refused() -> None:
    (found,) = problems({"backends": [WEB], "health_check": {"user": "x"}})
    assert found == (
        "health_check.user",
        "is for checks of kind postgresql, mysql and redis; no backend is checked so",
    )


def test_what_this_backend_has_no_use_for_is_refused() -> None:
    (found,) = problems({"backends": [{**WEB, "health_check": {"verify": True}}]})
    assert found[0] == "backends[0].health_check.verify"
    assert found[1].endswith("http://127.0.0.1/users is checked by http")


def test_a_role_of_postgresql_needs_a_user() -> None:
    (found,) = problems({"backends": [PG], "health_check": {"role": "primary"}})
    assert found[0] == "health_check.role"
    assert "needs `user`" in found[1]


def test_a_unix_socket_has_no_other_port() -> None:
    (found,) = problems({"backends": [{"url": "unix:/run/a"}], "health_check": {"port": 80}})
    assert found == ("health_check.port", "unix:/run/a has no port")


def test_what_is_given_for_all_stays_where_it_is_of_use_when_expanded() -> None:
    document = {
        "listeners": [
            {"name": "db", "address": "127.0.0.1:1", "protocol": "tcp", "pool": "db"},
            {"name": "web", "address": "127.0.0.1:2"},
        ],
        "pools": [{"name": "db", "backends": [PG]}, {"name": "web", "backends": [WEB]}],
        "routes": [{"name": "web", "pool": "web"}],
        "health_check": {"user": "x", "role": "primary"},
    }
    expanded = expand(read_document(document))
    checks = [pool.health_check for pool in expanded.pools]
    assert [(check.user, check.role) for check in checks if check] == [
        ("x", "primary"),
        (None, None),
    ]
    assert read_document(expanded.model_dump(mode="json")) == expanded
