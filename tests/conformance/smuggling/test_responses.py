"""No answer hides in another: what a hostile or broken origin sends reaches the client whole or not at all.

The cases are in `responses/`: what the origin answers, and what the client gets. Outcomes:

- `request METHOD [VERSION]`: what is asked; GET and HTTP/1.1 without it.
- `origin closes`: the origin closes behind its bytes.
- `relayed STATUS`: a whole answer. Details: `body`, `field name: value`, `no name`, `interim STATUS`.
- `refused 502`: the balancer answers in the origin's place.
- `broken`: the client can tell: it gets 502, or a beginning whose end is missing.
- `closes`: the client's connection ends after the answer; otherwise it must stay open.

After each case the same connection and another one ask again, and get their own answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Client, EvenflowProcess, Origin, WireError, document
from evenflow.testing.behaviours import raw
from evenflow.testing.cases import Case, Outcome, literal, read_cases
from evenflow.testing.wire import parse_status_line, response_body, take_head

if TYPE_CHECKING:
    from evenflow.testing import Exchange, Response

CASES = read_cases(Path(__file__).parent / "responses")
KINDS = {"request", "origin", "relayed", "refused", "broken", "closes"}


class Pair:
    """A balancer and its hostile origin."""

    def __init__(self, origin: Origin, balancer: EvenflowProcess) -> None:
        self.origin = origin
        self.balancer = balancer


async def echo(exchange: Exchange) -> None:
    """Answer with the target."""
    await exchange.read_body()
    fields = [("X-Echo", exchange.request.target), ("Content-Length", "4")]
    await exchange.send_whole(200, fields, "OK", b"good")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A balancer that tries once, so that each case is answered as it is."""
    with Origin(default=echo) as origin:
        configuration = document(
            origin.url, load_balancer={"max_retries": 0, "outlier": {"enabled": False}}
        )
        with EvenflowProcess(configuration) as balancer:
            yield Pair(origin, balancer)
            assert "panicked at" not in balancer.output(), balancer.output()
        assert not origin.violations, origin.violations


def test_the_corpus_is_well_written() -> None:
    assert len(CASES) >= 50
    for case in CASES:
        assert {outcome.kind for outcome in case.outcomes} <= KINDS, case
        assert len(case.all("relayed") + case.all("refused") + case.all("broken")) == 1, case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_client_gets_the_answer_to_its_own_request(pair: Pair, case: Case) -> None:
    (answer,) = (step for step in case.steps if isinstance(step, bytes))
    asked = [outcome.words for outcome in case.all("request")] or [("GET",)]
    method, version = (*asked[0], "HTTP/1.1")[:2]
    pair.origin.enqueue(raw(answer, then="close" if case.all("origin") else "keep"))
    with pair.balancer.client() as client:
        client.send(f"{method} /case {version}\r\nHost: a\r\n\r\n".encode())
        if case.all("broken"):
            said = read(client)
            assert is_refusal(said) or not is_whole(said, method), said
        else:
            check(case, client.read_response(method=method))
            if case.all("closes"):
                client.expect_closed()
            else:
                ask(client, "/same")
    with pair.balancer.client() as client:
        ask(client, "/other")
    pair.origin.forget()
    pair.origin.default = echo


def read(client: Client) -> bytes:
    """Read a refusal's first line, or everything up to the end of the connection."""
    said = client.read_until(b"\r\n")
    return said if is_refusal(said) else said + client.read_to_end()


def is_refusal(said: bytes) -> bool:
    """Whether the balancer answered in the origin's place."""
    return said.startswith(b"HTTP/1.1 502 ")


def is_whole(said: bytes, method: str) -> bool:
    """Whether a client would take these bytes for a whole answer."""
    buffer = bytearray(said)
    head = take_head(buffer)
    if head is None:
        return False
    body = response_body(head, parse_status_line(head).status, method)
    try:
        body.feed(buffer)
        body.feed_eof()
    except WireError:
        return False
    return True


def ask(client: Client, target: str) -> None:
    """Make an ordinary request, which must get its own answer."""
    client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.expect(200, body=b"good", headers={"x-echo": target})


def check(case: Case, got: Response) -> None:
    """Compare an answer with what the case says."""
    if refused := case.all("refused"):
        assert got.status == int(refused[0].words[0]), got.head.raw
        assert b"poison" not in got.head.raw + got.body
        return
    (relayed,) = case.all("relayed")
    assert got.status == int(relayed.words[0]), got.head.raw
    assert got.body == b"".join(literal(text) for text in relayed.all("body"))
    assert [line.status for line, _ in got.interim] == [int(s) for s in relayed.all("interim")]
    fields(relayed, got)


def fields(relayed: Outcome, got: Response) -> None:
    """Check the fields that the case names."""
    for field in relayed.all("field"):
        name, _, value = field.partition(": ")
        assert got.head.all(name) == [literal(value).decode("latin-1")], got.head.raw
    for name in relayed.all("no"):
        assert got.head.all(name) == [], got.head.raw
