"""The HTTP check: one request, judged by its status and, where asked for, its body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evenflow.config import HealthCheck, Target
from evenflow.config.types import revealed
from evenflow.engine import HttpProbe, Probe, ProbeResult
from evenflow.health.dialogue import ProxyVersion, with_port
from evenflow.health.tcp import failure
from evenflow.health.verdict import CheckResult

BODY_BYTES: Final = 65_536
"""How much of an answer is searched for `expect_body`."""

_Range = tuple[int, int]


def parse_range(status: int | str) -> _Range:
    """The lowest and highest status of `204` or `200-299`."""
    low, _, high = str(status).partition("-")
    return int(low), int(high or low)


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Sends one request and expects certain statuses, perhaps a text in the body."""

    timeout_s: float
    port: int | None
    request: HttpProbe
    ranges: tuple[_Range, ...]
    expected: str
    body: str | None
    send_proxy: ProxyVersion = None
    http2: bool = False

    @classmethod
    def of(
        cls,
        config: HealthCheck,
        target: Target,
        send_proxy: ProxyVersion = None,
        *,
        http2: bool = False,
    ) -> HttpCheck:
        """The check a configuration asks for on one backend."""
        return cls(
            timeout_s=config.timeout,
            port=config.port,
            request={
                "method": config.method,
                "path": config.path,
                "host": config.host or with_port(target.host_header, config.port),
                "headers": [(name, revealed(value)) for name, value in config.headers.items()],
                "body_bytes": BODY_BYTES if config.expect_body else 0,
            },
            ranges=tuple(parse_range(status) for status in config.expect_status),
            expected=", ".join(str(status) for status in config.expect_status),
            body=config.expect_body or None,
            send_proxy=send_proxy,
            http2=http2,
        )

    def probe(self, id: int, addresses: Sequence[str]) -> Probe:
        """What the engine is to do."""
        timeout_ms = max(1, round(self.timeout_s * 1000))
        return {
            "id": id,
            "addresses": [with_port(address, self.port) for address in addresses],
            "timeout_ms": timeout_ms,
            "http": self.request,
            "http2": self.http2,
            "endpoint": None,
            "encrypted": False,
            "send_proxy": self.send_proxy,
        }

    def judge(self, result: ProbeResult) -> CheckResult:
        """What the probe's result means."""
        if result["outcome"] != "ok":
            return CheckResult(False, failure(result, self.timeout_s))
        status = result["status"]
        if status is None or not any(low <= status <= high for low, high in self.ranges):
            return CheckResult(False, f"status {status}, expected {self.expected}")
        if self.body is not None and self.body not in result["body"]:
            return CheckResult(False, f"body does not contain {self.body!r}")
        return CheckResult(True, f"status {status}")
