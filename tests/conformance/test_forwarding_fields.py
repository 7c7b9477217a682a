"""Who the client is: what the balancer tells origins, and whom it believes about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy
    from tests.conftest import StartEvenflow, StartOrigins

START = b"GET / HTTP/1.1\r\nHost: a.test:81\r\n"
CLAIMS = (
    b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other.test\r\n"
    b"X-Real-IP: 203.0.113.9\r\nX-Request-ID: mine-1\r\n"
)


def test_an_origin_learns_who_asked_and_how(proxy: Proxy) -> None:
    got = proxy.forwarded(START + b"\r\n")
    assert got.header("x-forwarded-for") == "127.0.0.1"
    assert got.header("x-real-ip") == "127.0.0.1"
    assert got.header("x-forwarded-proto") == "http"
    assert got.header("x-forwarded-host") == "a.test:81"
    assert got.header("forwarded") is None


def test_the_balancer_adds_itself_to_via(proxy: Proxy) -> None:
    assert proxy.forwarded(START + b"\r\n").header("via") == "1.1 evenflow"


def test_the_balancer_comes_after_the_proxies_before_it_in_via(proxy: Proxy) -> None:
    got = proxy.forwarded(START + b"Via: 1.0 before\r\n\r\n")
    assert got.header("via") == "1.0 before, 1.1 evenflow"


def test_claims_of_an_untrusted_client_are_replaced(proxy: Proxy) -> None:
    got = proxy.forwarded(START + CLAIMS + b"Forwarded: for=203.0.113.9\r\n\r\n")
    assert got.header("x-forwarded-for") == "127.0.0.1"
    assert got.header("x-real-ip") == "127.0.0.1"
    assert got.header("x-forwarded-proto") == "http"
    assert got.header("x-forwarded-host") == "a.test:81"
    assert got.header("x-request-id") not in (None, "mine-1")
    assert got.header("forwarded") is None


def test_claims_of_a_trusted_proxy_are_kept_and_continued(proxy: Proxy) -> None:
    got = proxy.forwarded(START + CLAIMS + b"\r\n", source=proxy.trusted)
    assert got.header("x-forwarded-for") == f"203.0.113.9, {proxy.trusted}"
    assert got.header("x-forwarded-proto") == "https"
    assert got.header("x-forwarded-host") == "other.test"
    assert got.header("x-request-id") == "mine-1"


def test_the_client_of_a_trusted_proxy_is_the_last_untrusted_one(proxy: Proxy) -> None:
    chain = b"X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\nX-Forwarded-For: 127.0.0.2\r\n"
    got = proxy.forwarded(START + chain + b"\r\n", source=proxy.trusted)
    assert got.header("x-real-ip") == "203.0.113.9"
    assert got.header("x-forwarded-for") == "198.51.100.1, 203.0.113.9, 127.0.0.2, 127.0.0.2"


def test_nonsense_in_a_trusted_chain_does_not_become_the_client(proxy: Proxy) -> None:
    got = proxy.forwarded(START + b"X-Forwarded-For: not-an-address\r\n\r\n", source=proxy.trusted)
    assert got.header("x-real-ip") == proxy.trusted


def test_request_ids_differ_from_request_to_request(proxy: Proxy) -> None:
    with proxy.client() as client:
        for _ in range(20):
            client.send(START + b"\r\n").expect(200)
    assert len({r.header("x-request-id") for r in proxy.origin.requests}) == 20


@pytest.mark.parametrize("value", [""])
def test_a_trusted_request_id_that_is_unfit_is_replaced(proxy: Proxy, value: str) -> None:
    got = proxy.forwarded(START + f"X-Request-ID: {value}\r\n\r\n".encode(), source=proxy.trusted)
    assert got.header("x-request-id") not in (None, value, value.strip())


@pytest.mark.parametrize("name", ["Evenflow-Client", "evenflow-scheme", "EVENFLOW-LISTENER"])
def test_the_balancers_own_fields_cannot_be_sent_by_a_client(proxy: Proxy, name: str) -> None:
    got = proxy.forwarded(START + f"{name}: 127.0.0.1\r\n\r\n".encode(), source=proxy.trusted)
    assert got.header(name) is None


def test_forwarded_is_sent_when_configured(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"forwarded": True}))
    assert balancer.request(headers=[("Host", "a.test"), ("Forwarded", "for=evil")]).status == 200
    (got,) = origin.requests
    parts = {part.strip().lower() for part in (got.header("forwarded") or "").split(";")}
    assert parts >= {"for=127.0.0.1", "proto=http"}
    assert "evil" not in (got.header("forwarded") or "")
