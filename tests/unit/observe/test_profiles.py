"""Profiles: what they say, and the form they are written in."""

from __future__ import annotations

import asyncio
import gzip
import threading

from evenflow.observe.pprof import Frame, Profile, Sample, ValueType, encode
from evenflow.observe.process import process_usage
from evenflow.observe.profiles import as_text, cpu, heap, tasks


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """A protocol-buffer message as its fields."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            found.append((key >> 3, data[at : at + value]))
            at += value
        else:
            assert key & 7 == 0
            found.append((key >> 3, value))
    return found


def test_a_profile_is_encoded_field_by_field() -> None:
    inner, outer = Frame("work", "w.py", 300), Frame("main", "w.py", 5)
    profile = Profile(
        (ValueType("samples", "count"), ValueType("cpu", "nanoseconds")),
        (Sample((inner, outer), (1, 1 << 40)), Sample((outer,), (2, 0))),
        time_ns=1_754_233_480_683_000_000,
        duration_ns=10**9,
        period=10**7,
        comment="a comment",
    )
    message = fields(gzip.decompress(encode(profile)))
    strings = [
        value.decode() for number, value in message if number == 6 and isinstance(value, bytes)
    ]
    assert strings[0] == ""
    assert {"samples", "cpu", "nanoseconds", "work", "main", "w.py", "a comment"} <= set(strings)
    samples = [
        fields(value) for number, value in message if number == 2 and isinstance(value, bytes)
    ]
    assert samples[0][0] == (1, bytes([1, 2]))
    assert samples[0][1] == (2, bytes([1]) + b"\x80\x80\x80\x80\x80\x20")
    assert samples[1][0] == (1, bytes([2]))
    assert (9, 1_754_233_480_683_000_000) in message
    assert [number for number, _ in message].count(4) == 2
    assert [number for number, _ in message].count(5) == 2


async def test_the_cpu_profile_charges_who_works_and_not_who_waits() -> None:
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))

    def wait() -> None:
        stop.wait(30)

    threads = [threading.Thread(target=burn), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    try:
        profile = await cpu(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    spent = {
        name: sum(
            sample.values[1]
            for sample in profile.samples
            if any(frame.function.endswith(name) for frame in sample.stack)
        )
        for name in ("burn", "wait")
    }
    assert spent["burn"] > 10 * spent["wait"], as_text(profile)
    assert spent["burn"] > 50_000_000


async def test_the_heap_is_told_by_type_or_by_stack() -> None:
    kept = [object() for _ in range(3)]
    by_type = await heap(None)
    functions = {sample.stack[0].function for sample in by_type.samples}
    assert "builtins.dict" in functions
    growing = asyncio.create_task(_grow())
    by_stack = await heap(0.2)
    assert len(await growing) == 1000
    assert any(frame.file == __file__ for sample in by_stack.samples for frame in sample.stack), (
        as_text(by_stack)
    )
    assert kept


async def _grow() -> list[bytearray]:
    await asyncio.sleep(0.01)
    held = [bytearray(1000) for _ in range(1000)]
    await asyncio.sleep(0.5)
    return held


async def test_a_task_is_shown_with_the_chain_it_waits_in() -> None:
    reached = asyncio.Event()

    async def inner() -> None:
        reached.set()
        await asyncio.sleep(30)

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer())
    await reached.wait()
    text = as_text(tasks())
    task.cancel()
    inside, outside = text.index(".<locals>.inner"), text.index(".<locals>.outer")
    assert inside < outside


def test_the_process_knows_what_it_uses() -> None:
    usage = process_usage()
    assert usage.cpu_s > 0
    assert usage.resident_bytes is None or usage.resident_bytes > 1 << 20
    assert usage.open_fds is None or usage.open_fds >= 3
    assert 1.5e9 < usage.started_at < 1e10
