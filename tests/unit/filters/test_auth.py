"""Authentication, bounds in flight and standard headers, as steps of a plan; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from evenflow.config import ConfigError, read_document
from evenflow.config.hashes import hash_token
from evenflow.filters import compile_chain

BASE: dict[str, Any] = {"backends": [{"url": "http://127.0.0.1:8081"}]}


def steps(security: dict[str, Any]) -> list[Any]:
    """The steps that the section `security` becomes."""
    chain = read_document({**BASE, "security": security}).security
    assert chain is not None
    return compile_chain("security", chain)


def problems(security: dict[str, Any]) -> str:
    """What is wrong with the section `security`."""
    with pytest.raises(ConfigError) as caught:
        read_document({**BASE, "security": security})
    return "\n".join(str(problem) for problem in caught.value.errors)


def test_who_asks_is_judged_after_addresses_and_limits() -> None:
    compiled = steps(
        {
            "auth": {"bearer": {"tokens": [{"name": "ci", "token": "plain"}]}},
            "concurrency": {"max_requests": 3},
            "rate_limit": {"key": "route", "requests_per_second": 5},
            "ip_blacklist": ["192.0.2.0/24"],
        }
    )
    assert [next(iter(step)) for step in compiled] == ["ip_set", "limit", "concurrency", "bearer"]
    assert compiled[1]["limit"]["key"] == "route"
    assert compiled[3]["bearer"]["tokens"] == [("ci", hash_token("plain"))]


def test_the_standard_headers_leave_the_backend_its_own() -> None:
    ((step,),) = (steps({"security_headers": True}),)
    edit = step["response_headers"]
    assert edit["set"] == [("X-Content-Type-Options", "nosniff")]
    assert "Strict-Transport-Security" in dict(edit["default"])
    assert steps({"security_headers": False}) == []


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ({}, "security.auth: expected one of basic, bearer, jwt, external"),
        ({"basic": {"users": {"a": "secret"}}}, "not the password"),
        ({"basic": {"users": {"a": "$2b$99$x"}}}, "looks like a hash"),
        ({"basic": {"users": {"a:b": "sha256:" + "0" * 64}}}, "security.auth.basic"),
        ({"external": {"pool": "none"}}, "no pool named 'none'"),
        (
            {
                "bearer": {
                    "tokens": [
                        {
                            "name": "a",
                            "token": "$argon2id$v=19$m=64,t=1,p=1$" + "a" * 22 + "$" + "b" * 43,
                        }
                    ]
                }
            },
            "too slow here",
        ),
    ],
)
def test_what_cannot_work_is_refused(auth: dict[str, Any], text: str) -> None:
    assert text in problems({"auth": auth})


def test_a_route_is_no_key_to_choose_a_backend_by() -> None:
    strategy = {"name": "consistent_hash", "key": "route"}
    with pytest.raises(ConfigError, match="one backend"):
        read_document({**BASE, "load_balancer": {"strategy": strategy}})
