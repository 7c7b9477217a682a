"""Certificates that are ordered: what is taken, and each mistake with its path."""

from __future__ import annotations

from typing import Any

import pytest

from evenflow.config import ConfigError, expand, read_document
from evenflow.config.acme import PRODUCTION, STAGING, Acme

PLAIN = {"name": "plain", "address": "0.0.0.0:80"}
WEB: dict[str, Any] = {
    "name": "web",
    "address": "0.0.0.0:443",
    "tls": {"certificates": ["auto"]},
}
TLS_ALPN = {"challenge": "tls-alpn-01"}


def document(*listeners: dict[str, Any], **acme: Any) -> dict[str, Any]:
    """The full form; PLAIN and WEB unless others are given."""
    return {
        "listeners": list(listeners or (PLAIN, WEB)),
        "certificates": {"auto": {"acme": {"domains": ["example.com"], **acme}}},
        "backends": [{"url": "http://a"}],
    }


def ordered(document: dict[str, Any]) -> Acme:
    found = expand(read_document(document)).certificates["auto"].acme
    assert found is not None
    return found


def test_the_short_form_orders_from_lets_encrypt() -> None:
    found = ordered(document(email="ops@example.com", challenge="http-01"))
    assert (found.domains, found.directory_url) == (("example.com",), PRODUCTION)
    assert ordered(document(staging=True)).directory_url == STAGING
    own = "https://ca.example.org/acme/dir"
    assert ordered(document(directory=own)).directory_url == own
    assert ordered(document(domains=["Example.COM."])).domains == ("example.com",)


def test_the_flat_form_names_it_too() -> None:
    flat = {
        "backends": [{"url": "http://a"}],
        "load_balancer": {"port": 443},
        "server": {"tls": {"certificates": ["auto"], "redirect_http": 80}},
        "certificates": {"auto": {"acme": {"domains": ["example.com"]}}},
    }
    listeners = expand(read_document(flat)).listeners
    assert [each.tls.certificates if each.tls else None for each in listeners] == [
        ("auto",),
        None,
    ]


def test_the_key_of_an_external_account_does_not_come_back_out() -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    config = read_document(document(external_account={"key_id": "kid-1", "hmac_key": key}))
    assert key not in str(config.model_dump(mode="json"))
    assert key not in repr(config)
    external = expand(config).certificates["auto"].acme
    assert external is not None
    assert external.external_account is not None
    assert len(external.external_account.mac_key()) == 48


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        (document(domains=["*.example.com"]), "acme.domains[0]", "dns-01, which is not offered"),
        (document(domains=["192.0.2.1"]), "acme.domains[0]", "a name such as"),
        (document(domains=["[::1]"]), "acme.domains[0]", "a name such as"),
        (document(domains=["a_b.test"]), "acme.domains[0]", "a name such as"),
        (document(domains=["a.test:80"]), "acme.domains[0]", "a name such as"),
        (document(domains=[]), "acme.domains", "expected 1 to 100 names"),
        (document(domains=["a.test", "A.test"]), "acme.domains[1]", "given twice"),
        (document(email="ops"), "acme.email", "ops@example.org"),
        (document(email="a@b\nc"), "acme.email", "ops@example.org"),
        (document(directory="http://ca.test"), "acme.directory", "https://"),
        (document(directory="https://u:p@ca.test"), "acme.directory", "https://"),
        (document(directory="https://"), "acme.directory", "https://"),
        (document(challenge="dns-01"), "acme.challenge", "http-01, tls-alpn-01"),
        (document(staging=True, directory="https://ca.test"), "acme.staging", "directory"),
        (document(retry_after="1ms"), "acme.retry_after", "at least 1"),
        (document(external_account={"key_id": "a"}), "acme.external_account.hmac_key", "required"),
        (
            document(external_account={"key_id": "a", "hmac_key": "!"}),
            "acme.external_account.hmac_key",
            "base64url",
        ),
        (document(domain="a"), "acme.domain", "did you mean `domains`"),
        # Nobody could answer the authority.
        (document(WEB), "acme.challenge", "without TLS, and there is none"),
        (document(PLAIN, **TLS_ALPN), "acme.challenge", "with TLS that does not require"),
        (
            document(
                {
                    **WEB,
                    "tls": {
                        "certificates": ["auto"],
                        "client_auth": {"mode": "required", "ca_file": "ca.pem"},
                    },
                },
                **TLS_ALPN,
            ),
            "acme.challenge",
            "does not require client certificates",
        ),
        (
            {
                **document(),
                "listeners": [],
                "load_balancer": {"port": 443},
                "server": {"tls": {"certificates": ["auto"]}},
            },
            "acme.challenge",
            "server.tls.redirect_http: 80",
        ),
    ],
)
def test_what_cannot_be_ordered_is_refused(document: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    found = [(problem.path, problem.message) for problem in caught.value.errors]
    assert [each for each, _ in found] == [f"certificates.auto.{path}"], found
    assert said in found[0][1]


@pytest.mark.parametrize(
    "other",
    [
        {"cert_file": "a.pem"},
        {"key_file": "a.key"},
        {"cert": "${HOME}"},
        {"ocsp_file": "a.ocsp"},
        {"domains": ["a.test"]},
    ],
)
def test_a_certificate_has_one_source(other: dict[str, Any]) -> None:
    given = document()
    given["certificates"]["auto"] |= other
    with pytest.raises(ConfigError, match="cannot go with `acme`") as caught:
        read_document(given)
    (name,) = other
    assert [each.path for each in caught.value.errors] == [f"certificates.auto.{name}"]


def test_tls_alpn_is_answered_on_streams_that_negotiate_a_protocol() -> None:
    stream = {**WEB, "protocol": "tcp", "pool": "p"}
    given = document(**TLS_ALPN)
    given["pools"] = [{"name": "p", "backends": [{"url": "tcp://a:1"}]}]
    del given["backends"]
    given["listeners"] = [stream]
    with pytest.raises(ConfigError, match=r"acme\.challenge"):
        read_document(given)
    stream["tls"] = {**WEB["tls"], "alpn": ["postgresql"]}
    assert ordered(given).challenge == "tls-alpn-01"
