from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from evenflow.config import (
    Backend,
    Config,
    ConfigError,
    FilterChain,
    HealthCheck,
    HealthCheckOverride,
    JwtAuth,
    LoadBalancerConfig,
    Pool,
    effective_health_check,
    expand,
    read_document,
)


def test_what_is_printed_reads_back() -> None:
    config = read_document(
        {
            "load_balancer": {"port": 0, "slow_start": "1m30s", "strategy": {"name": "p2c_ewma"}},
            "backends": [{"url": "http://a", "labels": {"zone": "a"}, "timeout": "100ms"}],
            "security": {"max_request_size": "10MB", "cors": {"allow_origins": ["*"]}},
            "server": {"limits": {"max_head_size": "64KiB"}},
            "pools": [{"name": "p", "health_check": {"expect_status": ["200-399", 404]}}],
        }
    )
    assert read_document(config.model_dump(mode="json", exclude_none=True)) == config


def test_configurations_are_checked_when_python_makes_them() -> None:
    with pytest.raises(ValidationError, match="used twice"):
        Config(backends=[Backend(id="a", url="http://a"), Backend(id="a", url="http://b")])


def test_models_cannot_be_changed() -> None:
    config = Config(backends=[Backend(url="http://a")])
    assert isinstance(config.backends, tuple)
    with pytest.raises(ValidationError, match="frozen"):
        config.backends[0].weight = 3


def test_backends_are_taken_over_as_they_are() -> None:
    backend = Backend(id="a", url="http://a")
    config = Config(backends=[backend])
    assert config.backends[0] is backend
    assert expand(config).pools[0].backends[0] is backend


def test_ids_in_a_pool_carry_its_name() -> None:
    pool = Pool(name="users", backends=[Backend(url="http://a"), Backend(url="http://b")])
    assert [backend.id for backend in pool.backends] == ["users-1", "users-2"]


def test_health_checks_are_overridden_field_by_field() -> None:
    backend = Backend(
        id="a",
        url="http://a",
        health_check_path="/a",
        health_check=HealthCheckOverride(timeout=1.0),
    )
    pool = Pool(name="p", health_check=HealthCheckOverride(interval=7.0), backends=[backend])
    config = Config(health_check=HealthCheck(unhealthy_threshold=9), pools=[pool])
    expected = HealthCheck(kind="http", interval=7.0, timeout=1.0, path="/a", unhealthy_threshold=9)
    assert effective_health_check(config, pool, backend) == expected
    full = expand(config)
    assert effective_health_check(full, full.pools[0], backend) == expected


def test_health_checks_may_stand_in_load_balancer() -> None:
    config = Config(
        load_balancer=LoadBalancerConfig(health_check=HealthCheck(path="/x")),
        backends=[Backend(url="tcp://a:1")],
    )
    full = expand(config)
    check = effective_health_check(full, full.pools[0], full.pools[0].backends[0])
    assert (check.kind, check.path) == ("tcp", "/x")


def test_a_unix_socket_is_what_its_pool_is() -> None:
    for other, kind in (("http://a", "http"), ("tcp://a:1", "tcp")):
        full = expand(Config(backends=[Backend(url="unix:/x"), Backend(url=other)]))
        pool = full.pools[0]
        assert effective_health_check(full, pool, pool.backends[0]).kind == kind


def test_streams_move_the_control_plane_to_the_next_port() -> None:
    full = expand(Config(backends=[Backend(url="redis://a")]))
    assert full.listeners[0].protocol == "tcp"
    assert full.admin.listen == "127.0.0.1:8081"
    assert full.routes == ()


def test_paths_make_pools_and_routes_of_their_own() -> None:
    full = expand(
        Config(backends=[Backend(url=f"http://{host}") for host in ("a/u", "b/u/", "c/o/v2", "d")])
    )
    routes = {route.name: (route.match.path, route.pool) for route in full.routes}
    assert routes == {
        "default": (None, "default"),
        "o-v2": ("/o/v2/*", "o-v2"),
        "u": ("/u/*", "u"),
    }
    assert {pool.name: len(pool.backends) for pool in full.pools} == {
        "default": 1,
        "o-v2": 1,
        "u": 2,
    }


def test_flat_backends_get_no_route_where_one_leads_to_them() -> None:
    config = read_document(
        {
            "backends": [{"url": "http://a"}],
            "routes": [{"name": "only", "match": {"host": "a.example"}, "pool": "default"}],
        }
    )
    assert [route.name for route in expand(config).routes] == ["only"]


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        (
            {"security": {"security_headers": {"Connection": "close"}}},
            "security.security_headers.Connection",
            "cannot be edited",
        ),
        (
            {"security": {"security_headers": {"X-A": "1", "x-a": "2"}}},
            "security.security_headers",
            "each header once",
        ),
        (
            {"filters": {"f": {"headers": {"request": {"remove": ["Host"]}}}}},
            "filters.f.headers.request.remove[0]",
            "can be set",
        ),
        (
            {"security": {"cors": {"allow_origins": ["*", "null"]}}},
            "security.cors.allow_origins",
            "allows all others",
        ),
        (
            {"backends": [{"url": "http://a/x"}], "routes": [{"name": "r", "pool": "y"}]},
            "routes[0].pool",
            "no pool named 'y'",
        ),
        (
            {"backends": [{"url": "tcp://a:1"}], "security": {"max_request_size": 1}},
            "security",
            "HTTP only",
        ),
        ({"metrics": {"path": "/health"}}, "metrics.path", "taken by the balancer"),
        ({"admin": {"listen": "0.0.0.0:8080"}}, "admin.listen", "used twice"),
        ({"filters": {"security": {}}, "security": {}}, "filters.security", "taken by the section"),
        (
            {
                "backends": [{"url": "tcp://a:1"}],
                "load_balancer": {"strategy": {"name": "consistent_hash", "key": "path"}},
            },
            "load_balancer.strategy.key",
            "client_ip",
        ),
        (
            {"load_balancer": {"strategy": "a b:c"}},
            "load_balancer.strategy",
            "package.module:function",
        ),
        (
            {"admin": {"tokens": [{"name": "a", "token": "x"}, {"name": "a", "token": "y"}]}},
            "admin.tokens[1].name",
            "used twice",
        ),
        (
            {
                "pools": [{"name": "p", "backends": [{"url": "tcp://a:1"}]}],
                "routes": [{"name": "r", "pool": "p"}],
            },
            "routes[0].pool",
            "udp listener",
        ),
    ],
)
def test_contradictions_are_refused(document: dict[str, object], path: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    assert any(
        problem.path == path and said in problem.message for problem in caught.value.errors
    ), str(caught.value)


SHORT = {"public_key": "PEM", "issuer": "a"}


def test_tokens_have_a_short_form_that_means_the_same() -> None:
    short = read_document({"security": {"jwt": SHORT}, "filters": {"auth": {"jwt": SHORT}}})
    long = read_document(
        {
            "security": {"auth": {"jwt": SHORT}},
            "filters": {"auth": {"auth": {"jwt": SHORT}}},
        }
    )
    assert short == long
    assert short.model_dump(exclude_none=True) == long.model_dump(exclude_none=True)
    assert FilterChain(jwt=JwtAuth(public_key="PEM", issuer="a")) == short.security


def test_the_short_and_the_long_form_of_tokens_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"^filters\.a: `jwt` is short for `auth: \{jwt: …\}`"):
        read_document({"filters": {"a": {"jwt": SHORT, "auth": {"jwt": SHORT}}}})


@pytest.mark.parametrize(
    ("jwt", "told"),
    [
        ({"public_key": "PEM", "issuers": "a"}, "filters.auth.jwt.issuers: unknown key"),
        ({"issuer": "a"}, "filters.auth.jwt: expected one of jwks_url, jwks_file"),
        ({"public_key": "PEM", "algorithms": []}, "filters.auth.jwt.algorithms: expected at least"),
    ],
)
def test_mistakes_are_told_by_the_path_that_was_written(jwt: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        read_document({"filters": {"auth": {"jwt": jwt}}})
    with pytest.raises(ConfigError, match=re.escape(told.replace("jwt", "auth.jwt", 1))):
        read_document({"filters": {"auth": {"auth": {"jwt": jwt}}}})
