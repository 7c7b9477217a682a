"""The TLS check: a handshake completes, and where asked for, the certificate is valid."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from evenflow.config import HealthCheck, Target
from evenflow.health.dialogue import CheckFailed, split, with_port
from evenflow.health.verdict import CheckResult


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
        try:
            if address.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(
                    address.removeprefix("unix:"),
                    ssl=self.context,
                    server_hostname=self.server_name or "localhost",
                )
            else:
                host, port = split(with_port(address, self.port))
                _, writer = await asyncio.open_connection(
                    host, port, ssl=self.context, server_hostname=self.server_name
                )
        except ssl.SSLCertVerificationError as error:
            raise CheckFailed(f"certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            reason = (error.reason or "not TLS").replace("_", " ").lower()
            raise CheckFailed(f"no TLS handshake: {reason}") from None
        version = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
        return CheckResult(True, f"{version} handshake")
