"""The connect-only check: a backend that accepts a connection is healthy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from evenflow.config import HealthCheck
from evenflow.engine import Probe, ProbeResult
from evenflow.health.dialogue import ProxyVersion, with_port
from evenflow.health.verdict import CheckResult


def failure(result: ProbeResult, timeout_s: float) -> str:
    """Why a probe did not get through to an answer, in a few words."""
    match result["outcome"]:
        case "refused":
            return "connection refused"
        case "unreachable" | "no_socket":
            return result["detail"] or "unreachable"
        case "timeout":
            return f"no answer within {timeout_s:g} s"
        case "reset":
            return "connection reset"
        case "protocol":
            return f"not an HTTP answer: {result['detail']}" if result["detail"] else "no HTTP"
        case "ok":
            return ""


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Connects, and nothing more."""

    timeout_s: float
    port: int | None = None
    send_proxy: ProxyVersion = None

    @classmethod
    def of(cls, config: HealthCheck, send_proxy: ProxyVersion = None) -> Self:
        """The check a configuration asks for."""
        return cls(config.timeout, config.port, send_proxy)

    def probe(self, id: int, addresses: Sequence[str]) -> Probe:
        """What the engine is to do."""
        timeout_ms = max(1, round(self.timeout_s * 1000))
        return {
            "id": id,
            "addresses": [with_port(address, self.port) for address in addresses],
            "timeout_ms": timeout_ms,
            "http": None,
            "http2": False,
            "endpoint": None,
            "encrypted": False,
            "send_proxy": self.send_proxy,
        }

    def judge(self, result: ProbeResult) -> CheckResult:
        """What the probe's result means."""
        if result["outcome"] == "ok":
            return CheckResult(True, "connected")
        return CheckResult(False, failure(result, self.timeout_s))
