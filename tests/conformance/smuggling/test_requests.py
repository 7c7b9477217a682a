"""No request hides in another: what real origins saw is exactly what the balancer decided.

The cases are in `requests/`. Each is sent through evenflow to servers with parsers of their own; a
marker request afterwards shows that nothing of the case was left over in any connection. Outcomes:

- `refused 400`: answered with this status and closed; no origin understood a whole request.
- `forwarded METHOD TARGET`: one request with exactly this body (none without `body`), answered
  with its own answer. Details: `body`, `length` for long bodies, `field name: value`, `no name`.
- `closes`: the connection ends after the answers; otherwise it must stay open.
- `unfinished`: the client ends its half within the case; nothing of it is understood as a request.
- `origin NAME STATUS`: this origin refuses, by itself, what was forwarded.
- `not NAME`: this origin cannot be asked, for the reason in the comment above.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Client, TranscriptError
from evenflow.testing.cases import Case, Outcome, literal, read_cases

if TYPE_CHECKING:
    from tests.conformance.smuggling.conftest import Path2Origin, Record

CASES = read_cases(Path(__file__).parent / "requests")
KINDS = {"refused", "forwarded", "closes", "unfinished", "origin", "not"}


def test_the_corpus_is_as_large_as_promised_and_well_written() -> None:
    assert len(CASES) >= 150
    for case in CASES:
        assert {outcome.kind for outcome in case.outcomes} <= KINDS, case
        decisions = case.all("refused") + case.all("forwarded") + case.all("unfinished")
        assert decisions, f"{case} decides nothing"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_origin_sees_what_was_decided(real: Path2Origin, case: Case) -> None:
    check(real, case, piecewise=False)


@pytest.mark.parametrize("real", ["strict", "node"], indirect=True, scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_does_not_matter_in_which_pieces_bytes_arrive(real: Path2Origin, case: Case) -> None:
    check(real, case, piecewise=True)


def check(real: Path2Origin, case: Case, *, piecewise: bool) -> None:
    name = real.origin.name
    if any(name in outcome.words for outcome in case.all("not")):
        return
    by_itself = [o.words[1] for o in case.all("origin") if o.words[0] == name]
    real.origin.take()
    with real.balancer.client() as client:
        converse(client, case, by_itself[0] if by_itself else None, piecewise=piecewise)
    marker(real)
    seen = real.origin.take()
    shown = "\n".join(str(record) for record in seen)
    assert seen, "the marker did not arrive"
    assert (seen[-1].method, seen[-1].target) == ("GET", "/marker"), shown
    expected = [] if by_itself else case.all("forwarded")
    assert len(seen) == len(expected) + 1, (
        f"{len(seen) - 1} requests, not {len(expected)}:\n{shown}"
    )
    for outcome, record in zip(expected, seen, strict=False):
        compare(outcome, record, name)
    if expected and not case.all("refused") and not case.all("unfinished"):
        # Anything left over would have been answered, and the connection not been used again.
        assert seen[-1].connection == seen[-2].connection, f"another connection:\n{shown}"


def converse(client: Client, case: Case, by_itself: str | None, *, piecewise: bool) -> None:
    """Send the case and check the answers."""
    interim: list[int] = []
    for step in case.steps:
        if isinstance(step, int):
            client.expect_interim(step)
            interim.append(step)
        elif piecewise and len(step) < 2_000:
            for at in range(len(step)):
                # A refusal may come before everything was said.
                if not client.send_quietly(step[at : at + 1]):
                    break
        else:
            client.send_quietly(step)
    if case.all("unfinished"):
        client.half_close()
        said = client.read_to_end()
        assert said[:12] in (b"", b"HTTP/1.1 400"), said
        return
    for outcome in case.outcomes:
        if outcome.kind == "forwarded" and by_itself:
            try:
                client.expect(int(by_itself), method=outcome.words[0])
            except TranscriptError as error:
                # An origin that refuses a head and closes may reset the connection under its own answer,
                # which is then not whole for the client either.
                if f"HTTP/1.1 {by_itself} " not in str(error):
                    raise
        elif outcome.kind == "forwarded":
            method, target = outcome.words
            client.expect(200, method=method, headers={"x-echo": f"{method} {target}"})
        elif outcome.kind == "refused":
            client.expect(int(outcome.words[0]), headers={"connection": "close"})
            client.expect_closed()
    if case.all("closes"):
        client.expect_closed()
    elif not case.all("refused") and not by_itself:
        client.expect_open()


def marker(real: Path2Origin) -> None:
    with real.balancer.client() as client:
        client.send(b"GET /marker HTTP/1.1\r\nHost: marker.test\r\n\r\n")
        client.expect(200, headers={"x-echo": "GET /marker"})


def compare(outcome: Outcome, record: Record, name: str) -> None:
    """Check one understood request against what was decided."""
    assert [record.method, record.target] == list(outcome.words)
    lengths: list[Any] = outcome.all("length")
    if lengths:
        assert len(record.body) == int(lengths[0])
    else:
        assert record.body == b"".join(literal(text) for text in outcome.all("body"))
    for field in outcome.all("field"):
        wanted, _, value = field.partition(": ")
        assert record.all(wanted) == [literal(value).decode("latin-1")], f"{name}: {record.fields}"
    for absent in outcome.all("no"):
        assert record.all(absent) == [], f"{name}: {record.fields}"
