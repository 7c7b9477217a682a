"""Profiles in the gzipped protocol-buffer format that `go tool pprof` reads.

Only the encoding: stacks and their values in, bytes out. What is measured is `profiles`' matter.
The message is google/pprof's `perftools.profiles.Profile`; its few field numbers are below.
"""

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class ValueType:
    """What one of a sample's values counts, e.g. `cpu` in `nanoseconds`."""

    kind: str
    unit: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack, innermost frame first, with one value per value type of the profile."""

    stack: tuple[Frame, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole profile. Times are Unix nanoseconds and nanoseconds."""

    value_types: Sequence[ValueType]
    samples: Sequence[Sample]
    time_ns: int
    duration_ns: int = 0
    period: int = 0
    comment: str = ""


def encode(profile: Profile) -> bytes:
    """The profile as `go tool pprof` takes it from a URL or file."""
    strings = _Numbered([""])
    functions: dict[tuple[str, str], int] = {}
    locations: dict[Frame, int] = {}
    out = bytearray()
    for value_type in profile.value_types:
        _message(out, 1, _value_type(value_type, strings))
    for sample in profile.samples:
        stack = [locations.setdefault(frame, len(locations) + 1) for frame in sample.stack]
        _message(out, 2, _packed(1, stack) + _packed(2, sample.values))
    for frame, number in locations.items():
        key = (frame.function, frame.file)
        function = functions.setdefault(key, len(functions) + 1)
        line = _integer(1, function) + _integer(2, frame.line)
        _message(out, 4, _integer(1, number) + _field(4, line))
    for (name, file), number in functions.items():
        text = strings.number(name)
        body = _integer(1, number) + _integer(2, text) + _integer(3, text)
        _message(out, 5, body + _integer(4, strings.number(file)))
    out += _integer(9, profile.time_ns) + _integer(10, profile.duration_ns)
    if profile.period:
        _message(out, 11, _value_type(profile.value_types[-1], strings))
        out += _integer(12, profile.period)
    if profile.comment:
        out += _integer(13, strings.number(profile.comment))
    out += _integer(14, strings.number(profile.value_types[-1].kind))
    for text_value in strings.values():
        _message(out, 6, text_value.encode())
    return gzip.compress(bytes(out), compresslevel=6)


class _Numbered:
    """Strings by the order of their first mention."""

    def __init__(self, first: Iterable[str]) -> None:
        self._numbers = {text: number for number, text in enumerate(first)}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def values(self) -> Iterable[str]:
        return self._numbers.keys()


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as two's complement, as int64 is encoded
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _field(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _message(out: bytearray, field: int, body: bytes) -> None:
    out += _field(field, body)


def _packed(field: int, values: Iterable[int]) -> bytes:
    body = b"".join(_varint(value) for value in values)
    return _field(field, body) if body else b""


def _value_type(value_type: ValueType, strings: _Numbered) -> bytes:
    return _integer(1, strings.number(value_type.kind)) + _integer(
        2, strings.number(value_type.unit)
    )
