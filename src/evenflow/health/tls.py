"""The TLS check: a handshake completes, and where asked for, the certificate is valid."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Final

from evenflow.config import HealthCheck, Target
from evenflow.health.dialogue import CheckFailed, ProxyVersion, connected, with_port
from evenflow.health.verdict import CheckResult

_CLOSE_TIMEOUT_S: Final = 1.0
"""For the server's part of closing."""


@dataclass(frozen=True, slots=True)
class TlsCheck:
    """Handshakes, and says nothing inside."""

    timeout_s: float
    port: int | None
    server_name: str
    context: ssl.SSLContext = field(compare=False)
    send_proxy: ProxyVersion = None

    @classmethod
    def of(cls, config: HealthCheck, target: Target, send_proxy: ProxyVersion = None) -> TlsCheck:
        """The check a configuration asks for on one backend."""
        context = ssl.create_default_context()
        if not config.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        name = config.server_name or target.host
        return cls(config.timeout, config.port, name, context, send_proxy)

    async def run(self, address: str) -> CheckResult:
        """Hold the handshake."""
        name = self.server_name or "localhost"
        try:
            async with connected(with_port(address, self.port), self.send_proxy) as wire:
                writer = wire.writer
                try:
                    # A connection opened with TLS at once would be lost, and stay open, when the
                    # time is up during its handshake.
                    await writer.start_tls(self.context, server_hostname=name)
                    version = writer.get_extra_info("ssl_object").version()
                    # In order, or the server would log a reset connection for every check.
                    writer.close()
                    with contextlib.suppress(OSError, TimeoutError):
                        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                            await writer.wait_closed()
                finally:
                    writer.transport.abort()
        except ssl.SSLCertVerificationError as error:
            raise CheckFailed(f"certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            reason = (error.reason or "not TLS").replace("_", " ").lower()
            raise CheckFailed(f"no TLS handshake: {reason}") from None
        return CheckResult(True, f"{version} handshake")
