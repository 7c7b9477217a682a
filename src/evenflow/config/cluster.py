"""Redis and Valkey servers: how one is reached, state that is kept there, and fleets of balancers.

Whether these sections go with the rest of the configuration is judged in `check_cluster`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from .base import Model
from .tls import FilePath
from .types import HIDDEN_SECRET, Duration, Name, Secret, revealed, serialize_revealable

_SCHEMES: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""Each scheme, and whether it is encrypted."""
_EXPECTED: Final = (
    "expected redis://HOST:PORT/DATABASE, or rediss:// for an encrypted connection (also valkey://, "
    "valkeys://), with `USER:PASSWORD@` before the host where it takes one"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A server's URL, parsed."""

    host: str
    port: int
    database: int
    encrypted: bool
    user: str | None
    password: str | None

    @property
    def shown(self) -> str:
        """The URL without who logs in."""
        scheme = "rediss" if self.encrypted else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}"


def parse_redis_url(url: str) -> RedisAddress:
    """The parts of a URL; ValueError, which does not repeat the URL, where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if any(not "!" <= char <= "~" for char in url) or not _is_plain(parts):
        raise ValueError(_EXPECTED)
    return RedisAddress(
        host=parts.hostname or "",
        port=6379 if port is None else port,
        database=int(parts.path[1:] or "0"),
        encrypted=_SCHEMES[parts.scheme],
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _is_plain(parts: SplitResult) -> bool:
    database = parts.path[1:]
    return (
        parts.scheme in _SCHEMES
        and bool(parts.hostname)
        and parts.port != 0
        and not parts.query
        and not parts.fragment
        and (not database or (database.isdigit() and len(database) <= 5))
    )


class UrlSecret(Secret):
    """A server's URL that holds a password or was given by reference, and is never shown."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object, info: ValidationInfo) -> str | Secret:
        """A URL: as it is, or hidden where it has a password or is `${NAME}` or `file:/path`."""
        if isinstance(value, cls):
            return value
        secret = Secret.parse(value, info)
        if secret.value == HIDDEN_SECRET and secret.reference is None:
            return cls(HIDDEN_SECRET)
        address = parse_redis_url(secret.value)
        if secret.reference is None and address.password is None:
            return secret.value
        return cls(secret.value, secret.reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls.read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                serialize_revealable, info_arg=True, when_used="json"
            ),
        )


class _AsRedisUrl:
    """Reads URLs as `UrlSecret.read` does."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return handler.generate_schema(UrlSecret)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return UrlSecret.__get_pydantic_json_schema__(schema, handler)


RedisUrl = Annotated[str | Secret, _AsRedisUrl()]


class RedisServer(Model):
    """How a Redis or Valkey server is reached."""

    url: RedisUrl = Field(
        description="redis://HOST:PORT/DATABASE, or rediss:// for TLS; one with a password is never "
        "shown."
    )
    password: Secret | None = Field(default=None, description="Instead of one in the URL.")
    ca_file: FilePath | None = Field(
        default=None,
        description="The roots to trust for rediss://, in PEM; those of the system when absent.",
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")] = Field(
        default="evenflow", description="What all keys and channels begin with."
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=60)] = Field(
        default=2.0, description="Of connecting, and of each answer."
    )

    @property
    def address(self) -> RedisAddress:
        """The URL, parsed."""
        return parse_redis_url(revealed(self.url))


class StateConfig(Model):
    """Where what the API changed is kept, and certificates that were ordered."""

    store: Literal["memory", "sqlite", "redis"] = Field(
        default="sqlite",
        description="memory forgets at the end, sqlite keeps a file, redis keeps it in a Redis or "
        "Valkey server.",
    )
    path: Annotated[str, Field(min_length=1)] = Field(
        default="./state",
        description="The state folder; for redis it holds what is not the configuration: the audit "
        "log, keys, certificates.",
    )
    url: RedisUrl | None = Field(
        default=None,
        description="For redis: redis://HOST:PORT/DATABASE, or rediss:// for TLS; one with a "
        "password is never shown.",
    )
    password: Secret | None = Field(
        default=None, description="For redis: instead of one in the URL."
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="For rediss://: the roots to trust, in PEM; those of the system when absent.",
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")] = Field(
        default="evenflow",
        description="For redis: what all keys begin with; each balancer needs one of its own.",
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=60)] = Field(
        default=2.0, description="For redis: of connecting, and of each answer."
    )
    lease: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        default=10.0,
        description="For redis: how long after its last sign of life a balancer is still the one "
        "that may write.",
    )
    wait_replicas: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="For redis: a change counts as kept once so many replicas have it too.",
    )

    @property
    def server(self) -> RedisServer | None:
        """The server of the `redis` store."""
        if self.store != "redis" or self.url is None:
            return None
        return RedisServer(
            url=self.url,
            password=self.password,
            ca_file=self.ca_file,
            prefix=self.prefix,
            timeout=self.timeout,
        )


class ClusterConfig(RedisServer):
    """Balancers that know of each other, through a Redis or Valkey server."""

    node: Name = Field(
        default="auto",
        description="This balancer's name among them; auto makes one and keeps it in the state "
        "folder.",
    )
    sync_interval: Annotated[Duration, Field(ge=0.01, le=10)] = Field(
        default=0.1,
        description="How often nodes tell each other what passed their limits of scope fleet.",
    )
