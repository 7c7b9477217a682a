"""The TLS check: a handshake completes, and where asked for, the certificate is valid."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Final

from evenflow.config import HealthCheck, Target
from evenflow.health.dialogue import CheckFailed, split, with_port
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

    @classmethod
    def of(cls, config: HealthCheck, target: Target) -> TlsCheck:
        """The check a configuration asks for on one backend."""
        context = ssl.create_default_context()
        if not config.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        name = config.server_name or target.host
        return cls(config.timeout, config.port, name, context)

    async def run(self, address: str) -> CheckResult:
        """Hold the handshake."""
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            _, writer = await asyncio.open_unix_connection(path)
        else:
            host, port = split(with_port(address, self.port))
            _, writer = await asyncio.open_connection(host, port)
        # A connection opened with TLS at once would be lost, and stay open, when the time is up
        # during its handshake.
        plain = writer.transport
        try:
            await writer.start_tls(self.context, server_hostname=self.server_name or "localhost")
            version = writer.get_extra_info("ssl_object").version()
            # In order, or the server would log a reset connection for every check.
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await writer.wait_closed()
        except ssl.SSLCertVerificationError as error:
            raise CheckFailed(f"certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            reason = (error.reason or "not TLS").replace("_", " ").lower()
            raise CheckFailed(f"no TLS handshake: {reason}") from None
        finally:
            writer.transport.abort()
            plain.abort()
        return CheckResult(True, f"{version} handshake")
