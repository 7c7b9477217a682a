"""TLS towards backends: whom to trust, what to show, and health checks the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Origin, document
from evenflow.testing.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


def balanced(
    evenflow: StartEvenflow, origin: Origin, tls: dict[str, Any] | None, **more: Any
) -> EvenflowProcess:
    pool: dict[str, Any] = {"name": "p", "backends": [{"id": "a", "url": origin.url}]}
    if tls is not None:
        pool["tls"] = tls
    more.setdefault("health_check", {"enabled": False})
    routes = [{"name": "r", "pool": "p"}]
    return evenflow(document(pools=[pool], routes=routes, **more))


def test_a_backend_is_verified_by_root_and_name(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    (origin,) = origins("a", tls=context)
    balancer = balanced(evenflow, origin, {"ca_file": str(authority.ca)}, server={"workers": 1})
    assert balancer.tally(5) == {"a": 5}
    # One connection served them all.
    assert origin.connections == 1


@pytest.mark.parametrize("wrong", ["root", "name", "fingerprint", "system"])
def test_a_backend_that_proves_nothing_gets_nothing(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path, wrong: str
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("127.0.0.1", file="origin")
    (origin,) = origins("a", tls=authority.server_context(identity))
    tls = {
        "root": {"ca_file": str(Authority(tmp_path, "strangers").ca)},
        "name": {"ca_file": str(authority.ca), "server_name": "other.test"},
        "fingerprint": {"fingerprint": "0" * 64},
        "system": None,
    }[wrong]
    balancer = balanced(evenflow, origin, tls)
    answer = balancer.request(headers=[("Accept", "application/json")])
    assert answer.status == 502, answer.body
    assert answer.json()["error"] == "upstream_tls"
    assert origin.requests == []


def test_a_pinned_certificate_needs_no_root(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("elsewhere.test")
    (origin,) = origins("a", tls=authority.server_context(identity))
    shown = ":".join(identity.fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    assert balanced(evenflow, origin, {"fingerprint": shown}).tally(2) == {"a": 2}


def test_verification_can_be_turned_off_loudly(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    (origin,) = origins("a", tls=authority.server_context(authority.issue("elsewhere.test")))
    balancer = balanced(evenflow, origin, {"verify": False})
    assert balancer.tally(2) == {"a": 2}
    assert "tls.verify is false" in balancer.output()


def test_a_backend_may_ask_for_a_certificate(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("127.0.0.1", file="origin")
    own = authority.issue("balancer.test")
    (origin,) = origins("a", tls=authority.server_context(identity, clients=authority))
    balancer = balanced(
        evenflow,
        origin,
        {"ca_file": str(authority.ca), "client_cert": "own"},
        certificates={"own": {"cert_file": str(own.cert), "key_file": str(own.key)}},
        health_check={"enabled": True, "interval": "100ms"},
    )
    assert balancer.tally(2) == {"a": 2}
    # Health checks go the same way.
    balancer.wait_for_status("a", "healthy")
    assert origin.health_checks


def test_a_backend_with_a_wrong_certificate_is_unhealthy(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    (origin,) = origins("a", tls=authority.server_context(authority.issue("other.test")))
    balancer = balanced(
        evenflow,
        origin,
        {"ca_file": str(authority.ca)},
        health_check={"enabled": True, "interval": "100ms", "unhealthy_threshold": 1},
    )
    balancer.wait_for_status("a", "unhealthy")
    assert "another name" in str(balancer.api("GET", "/admin/backends"))
    assert origin.requests == []


def test_large_bodies_pass_both_ways(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    from evenflow.testing.behaviours import respond

    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    body = bytes(range(256)) * 4 * 1024 * 3
    (origin,) = origins("a", tls=context)
    origin.default = respond(200, body)
    balancer = balanced(evenflow, origin, {"ca_file": str(authority.ca)})
    answer = balancer.request("POST", body=body)
    assert answer.status == 200
    assert answer.body == body
    assert origin.requests[-1].body == body


def test_a_mirror_encrypts_as_its_pool_says(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    (plain,) = origins("main")
    (shadow,) = origins("shadow", tls=context)
    tls = {"ca_file": str(authority.ca)}
    backends = [[{"id": origin.name, "url": origin.url}] for origin in (plain, shadow)]
    balancer = evenflow(
        document(
            pools=[
                {"name": "main", "backends": backends[0]},
                {"name": "shadow", "backends": backends[1], "tls": tls},
            ],
            routes=[{"name": "r", "pool": "main", "mirror": {"pool": "shadow"}}],
            health_check={"enabled": False},
        )
    )
    assert balancer.request(target="/copied").status == 200
    balancer.wait_for_metric('evenflow_mirrored_total{route="r",result="answered"}', 1)
    assert [request.target for request in shadow.requests] == ["/copied"]
