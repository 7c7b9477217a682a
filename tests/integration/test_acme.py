"""Certificates by ACME, from a real authority: ordered, proven both ways, kept, renewed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evenflow.testing import EvenflowProcess, document, free_port, run_evenflow, wait_for
from tests.conftest import StartEvenflow, StartOrigins
from tests.integration.acme import Pebble, pebble
from tests.integration.test_tls import ask, connect


def configuration(
    backend: str, authority: Pebble, acme: dict[str, Any], **more: Any
) -> dict[str, object]:
    """A plain and an encrypted listener where the authority looks for proofs."""
    return document(
        {"id": "a", "url": backend},
        listeners=[
            {
                "name": "plain",
                "address": f"127.0.0.1:{authority.http_port}",
                "redirect_https": authority.tls_port,
            },
            {
                "name": "web",
                "address": f"127.0.0.1:{authority.tls_port}",
                "tls": {"certificates": ["auto"]},
            },
        ],
        certificates={"auto": {"acme": acme}},
        **{"state": {"store": "sqlite", "path": "state"}, **more},
    )


def status(balancer: EvenflowProcess) -> dict[str, Any]:
    found: dict[str, Any] = balancer.api("GET", "/admin/certificates/auto")
    return found


def issued(balancer: EvenflowProcess) -> dict[str, Any]:
    """Wait for an issued certificate."""
    wait_for(
        lambda: status(balancer)["acme"]["state"] == "issued",
        "a certificate",
        describe=balancer.output,
    )
    return status(balancer)


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_certificate_is_ordered_and_serves(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path, challenge: str
) -> None:
    (a,) = origins("a")
    with pebble(tmp_path / "pebble") as authority:
        acme = authority.acme("site.test", "www.site.test", challenge=challenge)
        balancer = evenflow(
            configuration(a.url, authority, acme), port=authority.http_port, hand_over_port=False
        )
        found = issued(balancer)
        assert set(found["domains"]) == {"site.test", "www.site.test"}
        trusted = authority.root()
        for name in found["domains"]:
            with connect(authority.tls_port, name, trusted) as stream:
                assert ask(stream)[2] == b"a\n"


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Pebble]:
    with pebble(tmp_path / "pebble") as running:
        yield running


@pytest.fixture
def start(evenflow: StartEvenflow, origins: StartOrigins) -> Any:
    """Start a balancer behind which one origin answers with `a`."""

    def start(authority: Pebble, acme: dict[str, Any], **more: Any) -> EvenflowProcess:
        (a,) = origins("a")
        return evenflow(
            configuration(a.url, authority, acme, **more),
            port=authority.http_port,
            hand_over_port=False,
        )

    return start


def shown(authority: Pebble) -> str:
    """The fingerprint of what is shown, whoever vouches for it."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with connect(authority.tls_port, "site.test", anyone) as stream:
        return hashlib.sha256(stream.getpeercert(binary_form=True) or b"").hexdigest()


def private(folder: Path) -> None:
    """What is kept is for its owner only, and whole."""
    files = list(folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}, files
    assert not [file for file in files if file.name.endswith(".new")]


def test_a_restart_takes_what_was_kept_and_orders_nothing(authority: Pebble, start: Any) -> None:
    balancer = start(authority, authority.acme("site.test"))
    before = issued(balancer)
    private(balancer.directory / "state" / "acme")
    # Nobody there to be asked, and nobody is.
    authority.stop()
    balancer.restart()
    after = status(balancer)
    assert after["fingerprint"] == before["fingerprint"] == shown(authority)
    assert after["acme"]["state"] == "issued"
    assert after["acme"]["failures"] == 0
    assert not after["acme"]["ordering"]
    # Two thirds of its life are still to come.
    assert after["acme"]["next_attempt"] > after["not_before"]
    key = json.loads((balancer.directory / "state/acme/certificate-auto.json").read_text())[
        "key_pem"
    ]
    assert key.splitlines()[1] not in balancer.output()


def test_a_renewed_certificate_closes_no_connection(authority: Pebble, start: Any) -> None:
    balancer = start(authority, authority.acme("site.test"))
    before = issued(balancer)
    trusted = authority.root()
    with connect(authority.tls_port, "site.test", trusted) as stream:
        assert ask(stream)[2] == b"a\n"
        ran = run_evenflow(
            *("cert", "renew", "auto", "--wait", "30s", "--json"),
            env={"EVENFLOW_URL": balancer.url},
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        after = json.loads(ran.stdout)
        assert after["fingerprint"] != before["fingerprint"]
        assert ask(stream)[2] == b"a\n"
    assert shown(authority) == after["fingerprint"]
    entries = balancer.api("GET", "/admin/audit")["entries"]
    assert any(each["action"].endswith("/certificates/{name}/renew") for each in entries)
    # Certificates are no new configuration.
    assert len(balancer.api("GET", "/admin/config/history")["history"]) == 1
    listed = run_evenflow("cert", "list", env={"EVENFLOW_URL": balancer.url})
    assert "site.test" in listed.stdout, listed.stdout + listed.stderr
    assert "next at" in listed.stdout
    metrics = balancer.metrics()
    assert metrics['evenflow_acme_issued{name="auto"}'] == 1
    assert metrics['evenflow_acme_orders_total{name="auto",result="ok"}'] == 2


def test_a_failing_order_says_why_and_is_tried_again(
    authority: Pebble, start: Any, origins: StartOrigins
) -> None:
    # The authority looks for the proof where somebody else answers.
    (other,) = origins("other", port=authority.http_port)
    wrong = dataclasses.replace(authority, http_port=free_port())
    balancer = start(wrong, authority.acme("site.test"))
    wait_for(
        lambda: status(balancer)["acme"]["failures"] >= 2,
        "a second attempt",
        describe=balancer.output,
    )
    found = status(balancer)
    assert found["acme"]["state"] == "stand_in"
    assert found["subject"] == found["issuer"] == "CN=site.test"
    assert "site.test: unauthorized: " in found["acme"]["last_error"], found
    assert "certificate not issued" in balancer.output()
    assert "stand-in certificate serves" in balancer.output()
    metrics = balancer.metrics()
    assert metrics['evenflow_acme_issued{name="auto"}'] == 0
    assert metrics['evenflow_acme_orders_total{name="auto",result="failed"}'] >= 2
    # The stand-in serves meanwhile, and nothing of the proof is left.
    assert shown(authority) == found["fingerprint"]
    asked = {request.line.target for request in other.requests}
    assert asked
    wait_for(
        lambda: all(balancer.request(target=each).status == 308 for each in asked),
        "the proofs being taken back",
        describe=balancer.output,
    )
