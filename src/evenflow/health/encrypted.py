"""The check of `tls://` backends: the handshake that connections to them make."""

from __future__ import annotations

from evenflow.config import HealthCheck, Target
from evenflow.engine import ProbeResult
from evenflow.health.tcp import TcpCheck, failure
from evenflow.health.verdict import CheckResult


class EncryptedCheck(TcpCheck):
    """Handshakes as connections to the backend do, by its pool's rules, and nothing more."""

    @staticmethod
    def serves(config: HealthCheck, target: Target) -> bool:
        """Whether the check asks for nothing but what the pool's rules say."""
        own = config.verify or config.server_name is not None or config.port is not None
        return target.scheme == "tls" and not own

    def judge(self, result: ProbeResult) -> CheckResult:
        """What the probe's result means."""
        if result["outcome"] == "ok":
            return CheckResult(True, "TLS handshake")
        if result["outcome"] == "protocol":
            return CheckResult(False, f"no TLS handshake: {result['detail']}")
        return CheckResult(False, failure(result, self.timeout_s))
