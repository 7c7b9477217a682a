"""Proofs for who is to issue a certificate: on which listeners, and how."""

from __future__ import annotations

from typing import Any

from evenflow.certs import Material
from evenflow.certs.acme.proofs import HttpProof, TlsProof
from evenflow.config import read_document
from evenflow.plan import compile_plan
from evenflow.plan.document import Plan

PAGE = HttpProof("site.test", "token", "token.thumbprint")
SHOWN = TlsProof("site.test", "chain", "key")
MUTUAL = {"mode": "required", "ca_file": "ca.pem"}


def plan(*proofs: HttpProof | TlsProof, **more: Any) -> Plan:
    tls = {"certificates": ["site"]}
    stream = {"protocol": "tcp", "pool": "p", "tls": tls}
    config = read_document(
        {
            "listeners": [
                {"name": "plain", "address": "127.0.0.1:80", "redirect_https": True},
                {"name": "web", "address": "127.0.0.1:443", "tls": tls},
                {
                    "name": "mutual",
                    "address": "127.0.0.1:444",
                    "tls": tls | {"client_auth": MUTUAL},
                },
                {"name": "silent", "address": "127.0.0.1:445", **stream},
                {"name": "db", "address": "127.0.0.1:446", **stream, "tls": tls | {"alpn": ["x"]}},
            ],
            "certificates": {"site": {"cert_file": "a.pem", "key_file": "a.key"}},
            "pools": [{"name": "p", "backends": [{"url": "tcp://192.0.2.1:1"}]}],
            "admin": {"listen": "127.0.0.1:9000"},
            **more,
        }
    )
    return compile_plan(config, revision=1, admin_socket="/a", material=Material(proofs=proofs))


def test_a_page_is_shown_in_the_clear_before_anything_else() -> None:
    (route,) = (each for each in plan(PAGE)["routes"] if "acme" in each["name"])
    assert (route["internal"], route["listeners"]) == (True, ["plain"])
    assert route["match"]["path"] == {"exact": "/.well-known/acme-challenge/token"}
    assert route["action"] == {
        "respond": {
            "status": 200,
            "content_type": "application/octet-stream",
            "headers": [],
            "body": "token.thumbprint",
        }
    }


def test_the_same_page_for_two_names_is_one_route() -> None:
    twice = plan(PAGE, HttpProof("www.site.test", "token", "token.thumbprint"))
    assert len([each for each in twice["routes"] if "acme" in each["name"]]) == 1


def test_a_certificate_is_shown_where_nobody_is_turned_away_by_it() -> None:
    found = {
        each["name"]: [proof["domain"] for proof in each["tls"]["proofs"]]
        for each in plan(SHOWN)["listeners"]
        if each["tls"] is not None
    }
    assert found == {"web": ["site.test"], "mutual": [], "silent": [], "db": ["site.test"]}


def test_without_proofs_nothing_is_shown() -> None:
    made = plan()
    assert not [each for each in made["routes"] if "acme" in each["name"]]
    assert all(not each["tls"]["proofs"] for each in made["listeners"] if each["tls"])
