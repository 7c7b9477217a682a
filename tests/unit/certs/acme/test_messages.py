"""Answers of an authority, whatever they hold."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.certs.acme.messages import AcmeError, Reply, checked_url, problem_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "detail", "subproblems", "identifier"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Wed, 25 Nov 2026 22:00:30 GMT", 30.0),
        ("Wed, 25 Nov 2026 21:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("9" * 40, None),
        ("²", None),
    ],
)
def test_retry_after_is_understood_in_both_forms(text: str, seconds: float | None) -> None:
    now = 1_795_644_000.0
    assert Reply(429, {"retry-after": text}).retry_after_s(now) == seconds


@given(JSON)
def test_any_problem_becomes_one_short_line(document: object) -> None:
    told = problem_text(document)
    assert len(told) <= 500
    assert told.isprintable() or not any(ord(char) < 32 for char in told)
    error = Reply(400, {}, json.dumps(document).encode()).error()
    assert str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_error(body: bytes) -> None:
    with contextlib.suppress(AcmeError):
        assert isinstance(Reply(200, {}, body).document(), dict)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "/order",
        "http://ca.test/",
        "https:///x",
        "https://ca.test:99999/",
        "https://a b/",
        "https://ca.test/\r\nX: y",
        "https://[::1",
        "https://ca.test/" + "x" * 3000,
    ],
)
def test_only_https_addresses_are_followed(text: object) -> None:
    with pytest.raises(AcmeError, match="'finalize'"):
        checked_url(text, "finalize")


def test_an_https_address_is_taken_as_it_is() -> None:
    assert checked_url("https://ca.test:14000/a?b=c", "x") == "https://ca.test:14000/a?b=c"
