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
from evenflow.testing.authority import Authority
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


@pytest.fixture(scope="module")
def pebbles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as running:
        yield running


@pytest.fixture
def authority(pebbles: Pebble) -> Pebble:
    """One authority for all, started again where a test ended it."""
    if pebbles.stopped:
        pebbles.start()
    return pebbles


@pytest.fixture
def start(evenflow: StartEvenflow, origins: StartOrigins) -> Any:
    """Start a balancer behind which one origin answers with `a`."""

    def start(
        authority: Pebble, acme: dict[str, Any], admin_port: int | None = None, **more: Any
    ) -> EvenflowProcess:
        (a,) = origins("a")
        return evenflow(
            configuration(a.url, authority, acme, **more),
            port=authority.http_port,
            admin_port=admin_port,
            hand_over_port=False,
        )

    return start


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_certificate_is_ordered_and_serves(authority: Pebble, start: Any, challenge: str) -> None:
    balancer = start(authority, authority.acme("site.test", "www.site.test", challenge=challenge))
    found = issued(balancer)
    assert set(found["domains"]) == {"site.test", "www.site.test"}
    assert found["acme"]["challenge"] == challenge
    trusted = authority.root()
    for name in found["domains"]:
        with connect(authority.tls_port, name, trusted) as stream:
            assert ask(stream)[2] == b"a\n"
    proven = balancer.metrics().get(
        'evenflow_tls_handshakes_total{listener="web",result="proof"}', 0
    )
    assert (proven >= 2) == (challenge == "tls-alpn-01")


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


def test_the_flat_form_orders_as_well_and_all_workers_show_it(
    authority: Pebble, evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    config = document(
        {"id": "a", "url": a.url},
        load_balancer={"port": authority.tls_port},
        server={
            "workers": 3,
            "tls": {"certificates": ["auto"], "redirect_http": authority.http_port},
        },
        certificates={"auto": {"acme": authority.acme("flat.test")}},
    )
    balancer = evenflow(config, port=authority.http_port, hand_over_port=False)
    issued(balancer)
    # Kept in memory only, which is told.
    assert "every start orders a new one" in balancer.output()
    trusted = authority.root()
    for _ in range(20):
        with connect(authority.tls_port, "flat.test", trusted) as stream:
            assert ask(stream)[2] == b"a\n"


def test_an_external_account_is_bound_and_refused_nonces_are_replaced(
    tmp_path: Path, start: Any
) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    rejecting = {"PEBBLE_WFE_NONCEREJECT": "40"}
    with pebble(tmp_path / "pebble", accounts={"kid-1": key}, env=rejecting) as authority:
        account = {"key_id": "kid-1", "hmac_key": key}
        # Whom the listener serves is no matter of the authority's: it comes from anywhere.
        admin = free_port()
        balancer = start(
            authority,
            authority.acme("site.test", external_account=account),
            admin={"listen": f"127.0.0.1:{admin}"},
            security={"ip_whitelist": ["192.0.2.0/24"]},
            admin_port=admin,
        )
        assert issued(balancer)["acme"]["last_error"] is None
        assert balancer.request().status == 403
        assert key not in balancer.output()
        assert key not in str(balancer.api("GET", "/admin/config"))
        # Another authority's accounts are no use, and it says so.
        wrong = authority.acme("site.test", external_account={**account, "key_id": "kid-2"})
        change = {"certificates": {"auto": {"acme": wrong}}}
        balancer.api("PATCH", "/admin/config", change)
        # What was issued fits still, so nothing is ordered unless it is asked for.
        assert status(balancer)["acme"]["last_error"] is None
        path = "/admin/certificates/auto/renew?wait=20s"
        refused = balancer.api("POST", path, expect=202)["acme"]
        assert "unauthorized" in refused["last_error"], refused
        assert refused["state"] == "issued"


def test_an_authority_that_forgot_the_account_gets_a_new_one_and_work_ends_with_the_certificate(
    authority: Pebble, start: Any, tmp_path: Path
) -> None:
    balancer = start(authority, authority.acme("site.test"))
    before = issued(balancer)
    authority.stop()
    path = "/admin/certificates/auto/renew"
    failed = balancer.api("POST", f"{path}?wait=20s", expect=202)
    assert "cannot be reached" in failed["acme"]["last_error"]
    assert failed["fingerprint"] == before["fingerprint"] == shown(authority)
    authority.start()
    renewed = balancer.api("POST", f"{path}?wait=20s", expect=202)
    assert (renewed["acme"]["last_error"], renewed["acme"]["failures"]) == (None, 0)
    assert renewed["fingerprint"] != before["fingerprint"]
    with connect(authority.tls_port, "site.test", authority.root()) as stream:
        assert ask(stream)[2] == b"a\n"
    assert balancer.output().count("account opened") == 2
    # Whom nobody vouches for is told nothing.
    doubted = {"certificates": {"auto": {"acme": {"ca_file": None}}}}
    balancer.api("PATCH", "/admin/config", doubted)
    failed = balancer.api("POST", f"{path}?wait=20s", expect=202)
    assert "/dir: certificate: " in failed["acme"]["last_error"]
    # A pair of one's own takes the place of one that is ordered.
    own = Authority(tmp_path).issue("site.test")
    pair = {"cert": own.cert.read_text(), "key": own.key.read_text()}
    put = balancer.api("PUT", "/admin/certificates/auto", pair)["certificate"]
    assert (put["fingerprint"], put["acme"]) == (own.fingerprint, None)
    assert shown(authority) == own.fingerprint
    balancer.api("POST", path, expect=409)
    plain = {"name": "plain", "address": f"127.0.0.1:{authority.http_port}"}
    gone = {"listeners": [plain], "certificates": {"auto": None}}
    balancer.api("PATCH", "/admin/config", gone)
    balancer.api("POST", path, expect=404)
    assert not [name for name in balancer.metrics() if name.startswith("evenflow_acme")]


def test_only_certificates_that_are_ordered_can_be_ordered_anew(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    issued_elsewhere = Authority(tmp_path).issue("site.test")
    files = {"cert_file": str(issued_elsewhere.cert), "key_file": str(issued_elsewhere.key)}
    balancer = evenflow(document({"id": "a", "url": a.url}, certificates={"site": files}))
    refusal = balancer.api("POST", "/admin/certificates/site/renew", expect=409)
    assert "has no `acme`" in refusal["detail"]
    ran = run_evenflow("cert", "renew", "site", env={"EVENFLOW_URL": balancer.url})
    assert (ran.returncode, "has no `acme`" in ran.stderr) == (2, True), ran.stderr
