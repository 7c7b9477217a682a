"""Connections to a Redis or Valkey server, and what goes wrong with them in words.

The state store and the cluster stand on this. What is said and kept there is their matter; nothing
here tries again. `redis` is imported when a configuration has use for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evenflow.config import RedisServer, Secret

if TYPE_CHECKING:
    from redis.asyncio import Redis


class ServerError(Exception):
    """The server could not be reached or refused; the message names it, without any secret."""


def connect(server: RedisServer) -> Redis:
    """A client of the server, which connects when it is first used; the caller closes it.

    Raises ServerError where `ca_file` cannot be used.
    """
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    address = server.address
    with talking(server):
        return Redis(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.user,
            password=_password(server),
            socket_timeout=server.timeout,
            socket_connect_timeout=server.timeout,
            retry=Retry(NoBackoff(), 0),
            # RESP2, which every version of Redis and Valkey speaks.
            protocol=2,
            max_connections=8,
            client_name="evenflow",
            ssl=address.encrypted,
            ssl_ca_certs=server.ca_file,
        )


@contextmanager
def talking(server: RedisServer) -> Iterator[None]:
    """Within, whatever goes wrong with the server is raised as ServerError."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        # Servers repeat what they do not understand.
        if secret := _password(server):
            text = text.replace(secret, "***")
        raise ServerError(f"{server.address.shown}: {text}") from None


def raw(value: bytes | str) -> bytes:
    """What the client types as text too, which it never is as `connect` makes clients."""
    return value if isinstance(value, bytes) else value.encode()


def _password(server: RedisServer) -> str | None:
    given: Secret | None = server.password
    return server.address.password if given is None else given.value
