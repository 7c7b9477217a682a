"""The DNS check: the server answers a question over UDP (RFC 1035)."""

from __future__ import annotations

import asyncio
import secrets
import struct
from dataclasses import dataclass
from typing import Final

from evenflow.config import HealthCheck
from evenflow.health.dialogue import CheckFailed, split, with_port
from evenflow.health.verdict import CheckResult

_TRIES: Final = 3
"""Datagrams may get lost: the question is put so often within one check."""

_CODES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
}
_SOA: Final = 6


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """Asks for the SOA record of a name. Any answer but SERVFAIL is that of a server that works."""

    timeout_s: float
    port: int | None
    name: str

    @classmethod
    def of(cls, config: HealthCheck) -> DnsCheck:
        """The check a configuration asks for."""
        return cls(config.timeout, config.port, config.server_name or ".")

    async def run(self, address: str) -> CheckResult:
        """Ask, again after a while without an answer."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        place = split(with_port(address, self.port))
        number = secrets.randbelow(2**16)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Answers(answers), remote_addr=place
        )
        try:
            for _ in range(_TRIES):
                transport.sendto(question(number, self.name))
                try:
                    async with asyncio.timeout(self.timeout_s / _TRIES):
                        return judge(await _answer(answers, number))
                except TimeoutError:
                    continue
            raise TimeoutError
        finally:
            transport.close()


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, answers: asyncio.Queue[bytes | OSError]) -> None:
        self._answers = answers

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._answers.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self._answers.put_nowait(exc if isinstance(exc, OSError) else OSError(str(exc)))


async def _answer(answers: asyncio.Queue[bytes | OSError], number: int) -> bytes:
    """The next answer to this question; what is for others is passed over."""
    while True:
        data = await answers.get()
        if isinstance(data, OSError):
            raise data
        if len(data) >= 12 and data[:2] == struct.pack(">H", number) and data[2] & 0x80:
            return data


def question(number: int, name: str) -> bytes:
    """A query for the SOA record of `name`, recursion desired."""
    labels = [label.encode("idna") for label in name.strip(".").split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + encoded + struct.pack(">2H", _SOA, 1)


def judge(answer: bytes) -> CheckResult:
    """What an answer's response code says; `answer` has a whole header."""
    code = answer[3] & 0x0F
    said = _CODES.get(code, f"code {code}")
    if code == 2:
        raise CheckFailed(f"answers {said}")
    return CheckResult(True, f"answers {said}")
