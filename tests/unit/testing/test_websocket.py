from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.testing import Client, Origin, TranscriptError, WebSocket, WireError, echo_websocket
from evenflow.testing.websocket import Frame, accept_key, encode_frame, take_frame


def test_the_accepted_key_is_that_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.integers(0, 15), st.binary(max_size=300), st.booleans(), st.integers(1, 400))
def test_a_frame_reads_back_whole_however_it_is_cut(
    opcode: int, payload: bytes, masked: bool, cut: int
) -> None:
    frame = Frame(opcode, payload)
    sent = encode_frame(frame, masked=masked)
    buffer = bytearray(sent[:cut])
    if cut < len(sent):
        assert take_frame(buffer, masked=masked) is None
        buffer += sent[cut:]
    buffer += b"\x81"
    assert take_frame(buffer, masked=masked) == frame
    assert buffer == b"\x81"


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 200_000])
def test_every_length_has_its_form(size: int) -> None:
    frame = Frame(2, bytes(size))
    assert take_frame(bytearray(encode_frame(frame, masked=False)), masked=False) == frame


def test_a_client_that_does_not_mask_is_refused() -> None:
    with pytest.raises(WireError):
        take_frame(bytearray(encode_frame(Frame(1, b"x"), masked=False)), masked=True)


def test_both_ends_understand_each_other() -> None:
    with Origin("echo", default=echo_websocket()) as origin:
        with WebSocket(Client(origin.port)) as socket:
            socket.say("hello")
            socket.say("x" * 100_000)
            socket.close()
        origin.default = echo_websocket()
        with Client(origin.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(426)


def test_a_client_insists_on_the_switch() -> None:
    with Origin("plain") as origin, pytest.raises(TranscriptError):
        WebSocket(Client(origin.port))
