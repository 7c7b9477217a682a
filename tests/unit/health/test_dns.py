"""The DNS check's question and what it makes of answers."""

from __future__ import annotations

import pytest

from evenflow.health.dialogue import CheckFailed
from evenflow.health.dns import judge, question

HEADER = b"\x12\x34\x84%c\0\1\0\0\0\0\0\0"


def test_a_question_names_labels_and_asks_for_soa() -> None:
    assert question(0x1234, "www.example.org") == (
        b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\6\0\1"
    )
    assert question(1, ".").endswith(b"\0\0\0\6\0\1")


@pytest.mark.parametrize(("code", "said"), [(0, "NOERROR"), (3, "NXDOMAIN"), (5, "REFUSED")])
def test_whoever_answers_works(code: int, said: str) -> None:
    result = judge(HEADER % code)
    assert result.passed
    assert said in result.reason


def test_a_server_that_fails_is_not_healthy() -> None:
    with pytest.raises(CheckFailed, match="SERVFAIL"):
        judge(HEADER % 2)
