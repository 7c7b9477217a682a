from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from evenflow.config import FilterChain
from evenflow.filters import compile_chain, request_key

CHAIN = TypeAdapter(FilterChain)


def _steps(**keys: object) -> list[object]:
    return list(compile_chain("chain", CHAIN.validate_python(keys)))


def test_an_empty_chain_has_no_steps() -> None:
    assert _steps() == []


def test_address_lists_are_one_step() -> None:
    assert _steps(ip_whitelist=["10.0.0.0/8"], ip_blacklist=["10.1.1.1"]) == [
        {"ip_set": {"allow": ["10.0.0.0/8"], "deny": ["10.1.1.1/32"]}}
    ]


@pytest.mark.parametrize(("rate", "burst"), [(100, 100), (2.5, 3), (0.1, 1)])
def test_a_burst_is_a_second_s_worth_unless_given(rate: float, burst: int) -> None:
    (step,) = _steps(rate_limit={"requests_per_second": rate})
    assert step == {
        "limit": {
            "name": "chain",
            "key": "client_ip",
            "requests_per_second": rate,
            "burst": burst,
            "max_keys": 100_000,
            "dry_run": False,
            "ipv6_prefix": 64,
            "headers": True,
            "fleet_seed": None,
        }
    }


def test_a_limit_of_the_fleet_alone_gets_its_secret() -> None:
    seed = bytes(range(16))
    for scope, expected in (("node", None), ("fleet", list(seed))):
        limit = {"requests_per_second": 1, "scope": scope}
        chain = CHAIN.validate_python({"rate_limit": limit})
        step: Any
        (step,) = compile_chain("chain", chain, fleet_seed=seed)
        assert step["limit"]["fleet_seed"] == expected


def test_security_headers_are_set_on_responses() -> None:
    (step,) = _steps(security_headers={"X-Frame-Options": "DENY"})
    assert step == {
        "response_headers": {
            "remove": [],
            "set": [("X-Frame-Options", "DENY")],
            "add": [],
            "default": [],
        }
    }


def test_header_rules_edit_requests_and_responses() -> None:
    steps = _steps(
        headers={
            "request": {"remove": ["A"], "default": {"B": "1"}},
            "response": {"add": {"C": "2"}},
        }
    )
    assert steps == [
        {"response_headers": {"remove": [], "set": [], "add": [("C", "2")], "default": []}},
        {"request_headers": {"remove": ["A"], "set": [], "add": [], "default": [("B", "1")]}},
    ]


def test_cors_has_usual_defaults() -> None:
    (step,) = _steps(cors={"allow_origins": ["https://a.example"], "max_age": "1h"})
    assert step == {
        "cors": {
            "allow_origins": ["https://a.example"],
            "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            "allow_headers": [],
            "expose_headers": [],
            "allow_credentials": False,
            "max_age_s": 3600,
        }
    }


def test_a_body_limit_is_in_bytes() -> None:
    assert _steps(max_request_size="10MiB") == [{"body_limit": {"bytes": 10 * 1024 * 1024}}]


def test_request_keys_have_the_plan_s_form() -> None:
    assert request_key("client_ip") == "client_ip"
    assert request_key("header:x-user") == {"header": "x-user"}
    assert request_key("cookie:a:b") == {"cookie": "a:b"}
