"""Contradictions about TLS: each is told with its path."""

from __future__ import annotations

from typing import Any

import pytest

from evenflow.config import ConfigError, expand, read_document

WEB = {"name": "web", "address": "127.0.0.1:443"}
SITE = {"site": {"cert_file": "a.pem", "key_file": "a.key"}}
PLAIN: dict[str, Any] = {"name": "p", "backends": [{"url": "http://a"}]}


def _listener(**tls: Any) -> dict[str, Any]:
    return {
        "listeners": [{**WEB, "tls": {"certificates": ["site"], **tls}}],
        "certificates": SITE,
        "backends": [{"url": "http://a"}],
    }


def _tcp(**more: Any) -> dict[str, Any]:
    """A listener that ends TLS before a pool of streams."""
    listener = {**WEB, "protocol": "tcp", "pool": "p", "tls": {"certificates": ["site"]}}
    return {
        "listeners": [listener | more],
        "certificates": SITE,
        "pools": [{"name": "p", "backends": [{"url": "tcp://a:1"}]}],
    }


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        ({"certificates": {"a": {"cert_file": "a"}}}, "certificates.a.key_file", "missing"),
        ({"server": {"tls": {"cert_file": "a"}}}, "server.tls.key_file", "missing"),
        ({"server": {"tls": {}}}, "server.tls", "needs cert_file"),
        (
            {"server": {"tls": {"certificates": ["sit"]}}, "certificates": SITE},
            "server.tls.certificates[0]",
            "did you mean",
        ),
        (
            _listener(profile="modern", min_version="1.2"),
            "listeners[0].tls.min_version",
            "1.3 only",
        ),
        (_listener(client_auth={"mode": "required"}), "listeners[0].tls.client_auth.ca_file", ""),
        (
            _listener(client_auth={"mode": "off", "ca_file": "a"}),
            "listeners[0].tls.client_auth.mode",
            "no effect",
        ),
        (
            {
                "listeners": [{**WEB, "tls": {"certificates": ["x"]}}],
                "backends": [{"url": "http://a"}],
            },
            "listeners[0].tls.certificates[0]",
            "no certificate named 'x'",
        ),
        (
            {**_listener(), "server": {"tls": {"cert_file": "a", "key_file": "b"}}},
            "server.tls",
            "beside `listeners`",
        ),
        (_listener(alpn=["h3"]), "listeners[0].tls.alpn[0]", "expected h2 or http/1.1"),
        (_tcp(protocol="udp"), "listeners[0].tls", "not on udp"),
        (
            {
                "backends": [{"url": "udp://a:1"}],
                "server": {"tls": {"cert_file": "a", "key_file": "b"}},
            },
            "server.tls",
            "not on udp",
        ),
        (_listener(certificates=[]), "listeners[0].tls.certificates", "missing"),
        (_listener(passthrough=True), "listeners[0].tls.passthrough", "tcp listeners"),
        (
            _tcp(tls={"certificates": ["site"], "passthrough": True}),
            "listeners[0].tls.certificates",
            "no effect",
        ),
        (
            _tcp(tls={"min_version": "1.3", "passthrough": True}),
            "listeners[0].tls.min_version",
            "no effect",
        ),
        (_tcp(sni=[{"pool": "p"}]), "listeners[0].sni", "not decrypted"),
        (
            {
                "backends": [{"url": "tcp://a:1"}],
                "server": {"tls": {"cert_file": "a", "key_file": "b", "redirect_http": 1}},
            },
            "server.tls.redirect_http",
            "HTTP only",
        ),
        ({"pools": [{**PLAIN, "tls": {}}]}, "pools[0].tls", "https://"),
        (
            {"pools": [{"name": "p", "backends": [{"url": "https://a"}], "tls": {"alpn": ["x"]}}]},
            "pools[0].tls.alpn",
            "tls://",
        ),
        (
            {"pools": [{"name": "p", "backends": [{"url": "tls://a"}]}]},
            "pools[0].backends[0].url",
            "expected a port",
        ),
        (
            {
                "pools": [
                    {
                        "name": "p",
                        "backends": [{"url": "https://a"}],
                        "tls": {"verify": False, "ca_file": "x"},
                    }
                ]
            },
            "pools[0].tls.verify",
            "no effect",
        ),
        (
            {"pools": [{"name": "p", "tls": {"fingerprint": "12:34"}}]},
            "pools[0].tls.fingerprint",
            "64 hexadecimal",
        ),
    ],
)
def test_contradictions_are_told_with_their_path(
    document: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    problems = {problem.path: problem.message for problem in caught.value.errors}
    assert said in problems[path], problems


def test_the_flat_form_stands_for_a_certificate_and_a_redirect() -> None:
    config = read_document(
        {
            "load_balancer": {"port": 8443},
            "backends": [{"url": "https://a"}],
            "server": {"tls": {"cert_file": "a", "key_file": "b", "redirect_http": 8080}},
        }
    )
    full = expand(config)
    assert expand(full) == full
    main, redirect = full.listeners
    assert main.tls is not None
    assert main.tls.certificates == ("server.tls",)
    assert full.certificates["server.tls"].key_file == "b"
    assert (redirect.address, redirect.redirect_https) == ("0.0.0.0:8080", 8443)
    assert full.pools[0].backends[0].target.address == "a:443"


def test_a_stream_port_may_be_encrypted_and_offer_any_protocol() -> None:
    tls = {"cert_file": "a", "key_file": "b", "alpn": ["postgresql"]}
    flat = read_document({"backends": [{"url": "tcp://a:1"}], "server": {"tls": tls}})
    (main,) = expand(flat).listeners
    assert main.protocol == "tcp"
    assert main.tls is not None
    assert main.tls.alpn == ("postgresql",)
    assert read_document(_tcp()).listeners[0].tls is not None
