"""Answers that the balancer makes itself: small, in the form asked for, and telling no secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evenflow.testing.behaviours import hang_up

if TYPE_CHECKING:
    from evenflow.testing import Response
    from tests.conformance.conftest import Proxy


def bad_gateway(proxy: Proxy, accept: str | None) -> Response:
    """Provoke a 502."""
    proxy.origin.default = hang_up()
    headers = [("Accept", accept)] if accept else []
    answer = proxy.request("POST", "/secret-path", headers=headers, body=b"x")
    assert answer.status == 502
    return answer


@pytest.mark.parametrize(
    "accept",
    ["application/json", "text/html;q=0.5, application/json", "application/problem+json"],
)
def test_a_client_that_accepts_json_gets_json(proxy: Proxy, accept: str) -> None:
    answer = bad_gateway(proxy, accept)
    assert "json" in (answer.header("content-type") or "")
    document = answer.json()
    assert document["status"] == 502
    assert document["request_id"]


@pytest.mark.parametrize("accept", ["text/plain", "text/html", None])
def test_other_clients_get_text_with_the_request_id(proxy: Proxy, accept: str | None) -> None:
    answer = bad_gateway(proxy, accept)
    assert (answer.header("content-type") or "").startswith("text/plain")
    request_id = proxy.origin.requests[-1].header("x-request-id")
    assert request_id
    assert request_id in answer.text


def test_the_request_id_of_an_error_is_the_one_the_origin_saw(proxy: Proxy) -> None:
    answer = bad_gateway(proxy, "application/json")
    assert answer.json()["request_id"] == proxy.origin.requests[-1].header("x-request-id")


@pytest.mark.parametrize("accept", ["application/json", "text/plain"])
def test_an_error_tells_no_internals(proxy: Proxy, accept: str) -> None:
    answer = bad_gateway(proxy, accept)
    said = answer.head.raw + answer.body
    for secret in (str(proxy.origin.port), "127.0.0.1", "backend-1", ".rs", "tokio", "os error"):
        assert secret.encode() not in said, said
    assert len(answer.body) < 1000


def test_an_error_in_answer_to_head_has_no_body(proxy: Proxy) -> None:
    proxy.origin.default = hang_up()
    with proxy.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect(502, method="HEAD")
        proxy.origin.forget()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200)


def test_a_refusal_names_no_more_than_its_status(proxy: Proxy) -> None:
    answer = proxy.expect_refused(
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX Y: <script>\r\n\r\n"
    )
    assert b"script" not in answer.body
    assert answer.header("connection") == "close"


def test_a_json_error_is_valid_whatever_the_request_id_holds(proxy: Proxy) -> None:
    proxy.origin.default = hang_up()
    answer = proxy.request(
        "POST",
        headers=[("Accept", "application/json"), ("X-Request-ID", 'a"b\\c')],
        body=b"x",
        source=proxy.trusted,
    )
    assert answer.status == 502
    assert json.loads(answer.body)["status"] == 502
