"""What the control plane is doing: CPU, memory, tasks and threads, as profiles.

CPU is measured by looking at every Python thread's stack many times a second and charging it with
the CPU time the system says the thread used since the last look; threads of the engine, which have
no Python stack, are charged as a whole. So idle time is not counted as work. Where the system does
not tell a thread's CPU time (anything but Linux), the time that passed is charged instead.
"""

import asyncio
import gc
import os
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from evenflow.observe.pprof import Frame, Profile, Sample, ValueType

_INTERVAL_S = 0.01
_DEPTH = 64

_Key = tuple[tuple[CodeType, int], ...]


async def cpu(seconds: float) -> Profile:
    """Sample for `seconds`; the event loop goes on meanwhile."""
    return await asyncio.to_thread(_sample, seconds)


def _sample(seconds: float) -> Profile:
    started_ns = time.time_ns()
    begun = last = time.monotonic()
    used = _thread_cpu_ns()
    at_start = dict(used)
    seen: dict[_Key, list[int]] = {}
    own = threading.get_ident()
    while (now := time.monotonic()) - begun < seconds:
        time.sleep(min(_INTERVAL_S, seconds - (now - begun)))
        now = time.monotonic()
        current = _thread_cpu_ns()
        ids = {thread.ident: thread.native_id for thread in threading.enumerate()}
        for ident, top in _stacks().items():
            native = ids.get(ident)
            if ident == own or native is None:
                continue
            spent = current[native] - used.get(native, 0) if native in current else 0
            if not current:
                spent = int((now - last) * 1e9)
            if spent > 0:
                entry = seen.setdefault(_walk(top), [0, 0])
                entry[0] += 1
                entry[1] += spent
        used, last = current, now
    samples = [
        Sample(_frames(key), (count, spent)) for key, (count, spent) in seen.items() if spent
    ]
    python = {thread.native_id for thread in threading.enumerate()}
    samples += [
        Sample((Frame(f"[{_thread_name(native)}]", "engine", 0),), (0, total - at_start[native]))
        for native, total in used.items()
        if native not in python and total > at_start.get(native, total)
    ]
    return Profile(
        value_types=(ValueType("samples", "count"), ValueType("cpu", "nanoseconds")),
        samples=samples,
        time_ns=started_ns,
        duration_ns=int((last - begun) * 1e9),
        period=int(_INTERVAL_S * 1e9),
    )


def _stacks() -> dict[int, FrameType]:
    """The innermost frame of every Python thread, by the thread's identity."""
    return sys._current_frames()  # noqa: SLF001 - documented, for this very use


def _thread_cpu_ns() -> dict[int, int]:
    """CPU time of each thread by the system's number; empty where the system does not tell."""
    used: dict[int, int] = {}
    try:
        directories = list(os.scandir("/proc/self/task"))
    except OSError:
        return used
    for directory in directories:
        try:
            spent = Path(f"{directory.path}/schedstat").read_bytes().split()[0]
            used[int(directory.name)] = int(spent)
        except (OSError, IndexError, ValueError):
            continue  # the thread ended meanwhile
    return used


def _thread_name(native: int) -> str:
    try:
        return Path(f"/proc/self/task/{native}/comm").read_text().strip()
    except OSError:
        return f"thread {native}"


def _walk(frame: FrameType | None) -> _Key:
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < _DEPTH:
        stack.append((frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(stack)


def _frames(key: _Key) -> tuple[Frame, ...]:
    return tuple(_frame(code, line) for code, line in key)


def _frame(code: CodeType, line: int) -> Frame:
    module = code.co_filename.rpartition("/")[2].removesuffix(".py")
    return Frame(f"{module}.{code.co_qualname}", code.co_filename, line)


async def heap(seconds: float | None) -> Profile:
    """What the Python side holds in memory.

    With `seconds`, allocations are traced for that long and those still held at the end are told
    with the stack that made them. Without, everything held is told: by stack if the process was
    started with PYTHONTRACEMALLOC, otherwise by type, because nobody recorded the stacks.
    """
    if seconds is None:
        return _traced("") if tracemalloc.is_tracing() else _by_type()
    if tracemalloc.is_tracing():
        return _traced("")
    tracemalloc.start(16)
    try:
        await asyncio.sleep(seconds)
        return _traced(f"only what was allocated within {seconds:g} s")
    finally:
        tracemalloc.stop()


_HEAP_TYPES = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))


def _traced(comment: str) -> Profile:
    samples = [
        Sample(
            tuple(
                Frame(f"{f.filename.rpartition('/')[2]}:{f.lineno}", f.filename, f.lineno)
                for f in reversed(statistic.traceback)
            ),
            (statistic.count, statistic.size),
        )
        for statistic in tracemalloc.take_snapshot().statistics("traceback")
    ]
    return Profile(_HEAP_TYPES, samples, time.time_ns(), comment=comment)


def _by_type() -> Profile:
    count: Counter[type] = Counter()
    size: Counter[type] = Counter()
    for item in gc.get_objects():
        kind = type(item)
        count[kind] += 1
        size[kind] += sys.getsizeof(item, 0)
    samples = [
        Sample(
            # Compiled extensions have types whose module or name is no text.
            (Frame(f"{kind.__module__!s}.{kind.__qualname__!s}", str(kind.__module__), 0),),
            (number, size[kind]),
        )
        for kind, number in count.items()
    ]
    comment = "by type; start with PYTHONTRACEMALLOC=16, or ask for ?seconds=10, for stacks"
    return Profile(_HEAP_TYPES, samples, time.time_ns(), comment=comment)


def tasks() -> Profile:
    """Every asyncio task and every thread with its stack, as a Go program shows goroutines."""
    seen: Counter[_Key] = Counter()
    for task in asyncio.all_tasks():
        seen[_awaiting(task)] += 1
    for frame in _stacks().values():
        seen[_walk(frame)] += 1
    samples = [Sample(_frames(key), (number,)) for key, number in seen.items() if key]
    return Profile((ValueType("goroutine", "count"),), samples, time.time_ns())


def _awaiting(task: "asyncio.Task[object]") -> _Key:
    """The chain of coroutines a task waits in, innermost first."""
    chain: list[tuple[CodeType, int]] = []
    waiting: object = task.get_coro()
    while waiting is not None and len(chain) < _DEPTH:
        code: CodeType | None = None
        frame: FrameType | None = None
        following: object = None
        for prefix in ("cr", "gi", "ag"):  # coroutine, generator, asynchronous generator
            if hasattr(waiting, f"{prefix}_code"):
                code = getattr(waiting, f"{prefix}_code")
                frame = getattr(waiting, f"{prefix}_frame")
                onward = "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await"
                following = getattr(waiting, onward)
                break
        if code is not None:
            chain.append((code, frame.f_lineno if frame is not None else 0))
        waiting = following
    return tuple(reversed(chain))


def as_text(profile: Profile) -> str:
    """The profile for a reader: the largest values first, each with its stack."""
    names = ", ".join(f"{v.kind}/{v.unit}" for v in profile.value_types)
    lines = [f"# {names}; {len(profile.samples)} stacks"]
    if profile.comment:
        lines.append(f"# {profile.comment}")
    for sample in sorted(profile.samples, key=lambda s: s.values[-1], reverse=True):
        lines.append("")
        lines.append(" ".join(str(value) for value in sample.values))
        lines += [f"    {f.function}  {f.file}:{f.line}" for f in sample.stack]
    return "\n".join(lines) + "\n"
