"""The Redis check: the server answers `PING`, and where asked for, plays a role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evenflow.config import HealthCheck
from evenflow.health.dialogue import CheckFailed, ProxyVersion, Wire, connected, with_port
from evenflow.health.verdict import CheckResult

Role = Literal["primary", "replica"]


@dataclass(frozen=True, slots=True)
class RedisCheck:
    """Speaks RESP2, which every version of Redis and Valkey does."""

    timeout_s: float
    port: int | None
    credentials: tuple[str, ...]
    """User and password, or the password alone; empty where none is needed."""
    role: Role | None
    send_proxy: ProxyVersion = None

    @classmethod
    def of(cls, config: HealthCheck, send_proxy: ProxyVersion = None) -> RedisCheck:
        """The check a configuration asks for."""
        credentials: tuple[str, ...] = ()
        if config.password is not None:
            credentials = (config.password.value,)
            if config.user is not None:
                credentials = (config.user, *credentials)
        return cls(config.timeout, config.port, credentials, config.role, send_proxy)

    async def run(self, address: str) -> CheckResult:
        """Hold the conversation."""
        async with connected(with_port(address, self.port), self.send_proxy) as wire:
            if self.credentials:
                await _ask(wire, "AUTH", *self.credentials)
            if self.role is None:
                return await self._ping(wire)
            await wire.send(command("ROLE"))
            role = await _role(wire)
        # The server itself says what it is: no need to wait for it to say so again.
        if role != self.role:
            return CheckResult(False, f"is a {role}, expected a {self.role}", certain=True)
        return CheckResult(True, f"is a {role}", certain=True)

    async def _ping(self, wire: Wire) -> CheckResult:
        await wire.send(command("PING"))
        answer = await wire.line()
        if answer == b"+PONG":
            return CheckResult(True, "answers PING")
        if answer.startswith(b"-NOAUTH") and not self.credentials:
            return CheckResult(True, "answers; it asks for a password")
        raise CheckFailed(_error(answer))


def command(*words: str) -> bytes:
    """A command as an array of strings."""
    encoded = [word.encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)


async def _ask(wire: Wire, *words: str) -> None:
    await wire.send(command(*words))
    answer = await wire.line()
    if answer != b"+OK":
        raise CheckFailed(_error(answer))


async def _role(wire: Wire) -> Role:
    answer = await wire.line()
    if not answer.startswith(b"*"):
        raise CheckFailed(_error(answer))
    await wire.line()
    match await wire.line():
        case b"master":
            return "primary"
        case b"slave":
            return "replica"
        case other:
            raise CheckFailed(f"plays the role {other.decode('ascii', 'replace')[:40]!r}")


def _error(answer: bytes) -> str:
    if not answer.startswith(b"-"):
        return "not a Redis answer"
    return answer[1:].decode("utf-8", "replace")[:200]
