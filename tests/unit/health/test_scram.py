"""SCRAM-SHA-256: the RFC's exchange, and servers that do not keep to it."""

from __future__ import annotations

import pytest

from evenflow.health.scram import Scram, ScramError

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)


def test_the_exchange_of_rfc_7677() -> None:
    scram = Scram("pencil", user="user", nonce=NONCE)
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.final(SERVER_FIRST).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize(
    "message",
    [
        b"r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"4096", b"0"),
        SERVER_FIRST.replace(b"4096", b"100000000"),
        SERVER_FIRST.replace(b"W22Z", b"????"),
        b"\xff",
        b"",
    ],
)
def test_a_first_message_that_is_not_of_this_exchange_is_refused(message: bytes) -> None:
    with pytest.raises(ScramError):
        Scram("pencil", user="user", nonce=NONCE).final(message)


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    scram = Scram("pencil", user="user", nonce=NONCE)
    scram.final(SERVER_FIRST)
    with pytest.raises(ScramError, match="does not know"):
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")
