"""Ways in which a test origin answers: ordinary, slow, broken and hostile ones."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

from evenflow.testing.wire import Field, encode_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenflow.testing.exchange import Behaviour, Exchange
    from evenflow.testing.gate import Gate

Framing = Literal["length", "chunked", "close", "none"]
"""How a body's end is told; `none` sends neither field nor body."""
Afterwards = Literal["keep", "close", "reset"]
"""What becomes of the connection."""

READ_PIECE = 262_144
"""Bytes of a large body made or compared at once."""

_BLOCK = random.Random(9112).randbytes((1 << 20) - 3)  # noqa: S311 - no secret
_TWICE = _BLOCK * 2


def pattern(offset: int, length: int) -> bytes:
    """Return bytes `offset` to `offset + length` of an endless pattern, at most 1,048,573 long.

    Its period is no power of two, so bytes lost or doubled at a buffer's edge are noticed.
    """
    start = offset % len(_BLOCK)
    return _TWICE[start : start + length]


def respond(
    status: int = 200,
    body: bytes = b"",
    headers: Sequence[Field] = (),
    *,
    reason: str = "",
    framing: Framing = "length",
    trailers: Sequence[Field] = (),
    informational: Sequence[tuple[int, Sequence[Field]]] = (),
    before: Gate | None = None,
    midway: Gate | None = None,
    then: Afterwards = "keep",
) -> Behaviour:
    """Read the request whole, then answer.

    `informational` are interim responses sent first; `before` holds the head and `midway` the
    second half of the body until the gate is opened. A chunked body is sent in two chunks.
    """

    async def behave(exchange: Exchange) -> None:
        if exchange.expects_continue:
            await exchange.send_head(100, [], "Continue")
        await exchange.read_body()
        for interim, fields in informational:
            await exchange.send_head(interim, list(fields))
        if before is not None:
            await before.passed()
        bodiless = status in (204, 304) or framing == "none"
        fields = [*headers, *([] if bodiless else _framing_fields(framing, len(body), trailers))]
        if then != "keep":
            fields.append(("Connection", "close"))
        has_body = exchange.request.method != "HEAD" and not bodiless
        if has_body and framing == "length" and midway is None:
            # In one write, as servers send small answers: killed, they have sent all or nothing.
            await exchange.send_whole(status, fields, reason, body)
        else:
            await exchange.send_head(status, fields, reason)
        if has_body and not (framing == "length" and midway is None):
            await _send_body(exchange, body, framing, tuple(trailers), midway)
        _finish(exchange, "close" if framing == "close" else then)

    return behave


def early(
    status: int = 200, body: bytes = b"", *, then: Afterwards = "keep", drain: bool = True
) -> Behaviour:
    """Answer as soon as the head is there, before the request's body; then read it if `drain`."""

    async def behave(exchange: Exchange) -> None:
        fields = [("Content-Length", str(len(body)))]
        if then != "keep":
            fields.append(("Connection", "close"))
        await exchange.send_head(status, fields)
        await exchange.send(body)
        if drain:
            await exchange.discard_body()
        _finish(exchange, then)

    return behave


def echo() -> Behaviour:
    """Answer with exactly the bytes of the request's head, followed by its decoded body."""

    async def behave(exchange: Exchange) -> None:
        if exchange.expects_continue:
            await exchange.send_head(100, [], "Continue")
        body = exchange.request.head.raw + await exchange.read_body()
        await exchange.send_head(
            200,
            [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))],
            "OK",
        )
        await exchange.send(b"" if exchange.request.method == "HEAD" else body)

    return behave


def raw(data: bytes, *, then: Afterwards = "close") -> Behaviour:
    """Read the request whole, then send exactly `data`."""

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(data)
        _finish(exchange, then)

    return behave


def hang_up(*, after_head: bytes = b"", then: Afterwards = "close") -> Behaviour:
    """Read the request whole, send `after_head` if any, and end without (the rest of) an answer."""

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        if after_head:
            await exchange.send(after_head)
        _finish(exchange, then)

    return behave


def silent(gate: Gate) -> Behaviour:
    """Read the request whole and say nothing until the gate opens, then close."""

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        await gate.passed()
        exchange.close()

    return behave


def stream(length: int, *, framing: Framing = "length", piece: int = READ_PIECE) -> Behaviour:
    """Answer with `length` bytes of `pattern`, never holding more than one piece of it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.discard_body()
        await exchange.send_head(200, _framing_fields(framing, length, ()), "OK")
        for offset in range(0, length, piece):
            data = pattern(offset, min(piece, length - offset))
            await exchange.send(
                b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data
            )
        if framing == "chunked":
            await exchange.send(b"0\r\n\r\n")
        _finish(exchange, "close" if framing == "close" else "keep")

    return behave


def check_pattern() -> Behaviour:
    """Compare the request's body with `pattern`; answer its length, or 400 and the first fault."""

    async def behave(exchange: Exchange) -> None:
        offset, fault = 0, -1
        while data := await exchange.read_some():
            for start in range(0, len(data), READ_PIECE):
                part = data[start : start + READ_PIECE]
                if fault < 0 and part != pattern(offset + start, len(part)):
                    fault = offset + start
            offset += len(data)
        body = str(offset if fault < 0 else fault).encode()
        await exchange.send_head(200 if fault < 0 else 400, [("Content-Length", str(len(body)))])
        await exchange.send(body)

    return behave


def _framing_fields(framing: Framing, length: int, trailers: Sequence[Field]) -> list[Field]:
    match framing:
        case "length":
            return [("Content-Length", str(length))]
        case "chunked":
            names = ", ".join(name for name, _ in trailers)
            announced = [("Trailer", names)] if names else []
            return [("Transfer-Encoding", "chunked"), *announced]
        case "close" | "none":
            return []


async def _send_body(
    exchange: Exchange,
    body: bytes,
    framing: Framing,
    trailers: tuple[Field, ...],
    midway: Gate | None,
) -> None:
    half = len(body) // 2
    first, second = body[:half], body[half:]
    chunked = framing == "chunked"
    await exchange.send(_chunk(first) if chunked else first)
    if midway is not None:
        await midway.passed()
    await exchange.send(encode_chunks([second], trailers) if chunked else second)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _finish(exchange: Exchange, then: Afterwards) -> None:
    match then:
        case "close":
            exchange.close()
        case "reset":
            exchange.reset()
        case "keep":
            pass
