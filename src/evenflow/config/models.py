"""The configuration as a whole: backends, listeners, routes and pools, in flat and full form.

The flat form (`load_balancer`, `backends`, `security`) is sugar that `expand` writes as the full
one. What several fields mean together is judged in `check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from .actions import Arms, Fault, Hedge, Mirror, Redirect, Respond, Rewrite, Sticky, StickyKey
from .base import Model
from .cluster import ClusterConfig, StateConfig
from .discovery import Discover, Discovers, ImportPath
from .matching import Match, PathRegex, ValueRule
from .sections import (
    AdminConfig,
    BreakerConfig,
    Connections,
    Count,
    FilterChain,
    HealthCheck,
    HealthCheckOverride,
    Limits,
    ListenAddress,
    LoggingConfig,
    MetricsConfig,
    Outlier,
    Panic,
    ProxyProtocol,
    QueueConfig,
    ServerConfig,
    StrategyConfig,
    Timeout,
    Upgrade,
    UrlPath,
)
from .targets import Target, check_address, check_url, parse_server_name, parse_url
from .tls import Certificate, ListenerTls, PoolTls
from .types import (
    Duration,
    EscapedSlashes,
    Items,
    Name,
    Network,
    OnClientClose,
    Port,
    Share,
    parse_name,
)

Url = Annotated[str, AfterValidator(check_url)]
Weight = Annotated[int, Field(ge=1, le=65535)]
ServerName = Annotated[str, AfterValidator(parse_server_name)]
Strategy = str | StrategyConfig
_ID = attrgetter("id")
HttpVersion = Literal["auto", "h1", "h2"]
RetryOn = Literal["connect", "reset", "timeout"] | Annotated[int, Field(ge=500, le=599)]


def number_backends(backends: Sequence[Backend], prefix: str) -> tuple[Backend, ...]:
    """Gives `prefix-1`, `prefix-2`, ... to backends without an id, skipping ids in use."""
    if all(map(_ID, backends)):
        return tuple(backends)
    taken = {backend.id for backend in backends}
    numbers = (name for n in count(1) if (name := f"{prefix}-{n}") not in taken)
    return tuple(
        backend if backend.id else backend.model_copy(update={"id": next(numbers)})
        for backend in backends
    )


def sources_in(discover: Discovers) -> tuple[Discover, ...]:
    """The sources, of which one may stand by itself."""
    return (discover,) if isinstance(discover, Discover) else tuple(discover)


def _number_flat(backends: Sequence[Backend]) -> tuple[Backend, ...]:
    return number_backends(backends, "backend")


def _number_in_pool(backends: Sequence[Backend], info: ValidationInfo) -> tuple[Backend, ...]:
    return number_backends(backends, info.data.get("name", "pool"))


def _backend_id(value: str) -> str:
    return parse_name(value) if value else value


class LoadBalancerConfig(Model):
    """The flat form's listener, and the defaults of every route and pool."""

    host: Annotated[str, AfterValidator(check_address)] = Field(
        default="0.0.0.0",  # noqa: S104 - a balancer serves everyone unless told otherwise
        description="The address to listen on: 0.0.0.0, ::, 127.0.0.1.",
    )
    port: Port = Field(default=8080, description="0 takes a free one.")
    strategy: Strategy = "round_robin"
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    retry_delay: Annotated[Duration, Field(le=60)] = 0.0
    retry_on: Items[RetryOn] = Field(
        default=("connect", "reset"),
        description="connect and reset always; also timeout and statuses such as 503.",
    )
    per_try_timeout: Duration = Field(default=0.0, description="Of one attempt; 0 is no own bound.")
    retry_budget: Share = Field(
        default=0.2, description="Retries as a share of live requests and sessions ..."
    )
    retry_floor: Count = Field(default=10, description="... or this many per second, if more.")
    timeout: Duration = Field(
        default=30.0, description="Until a backend's response head; 0 is no bound."
    )
    connect_timeout: Timeout = 5.0
    idle_timeout: Duration | None = Field(
        default=None, description="Between two reads of a response; 60s for http, 1h for streams."
    )
    health_check: HealthCheck | None = Field(
        default=None, description="The same as `health_check` at the top."
    )
    slow_start: Duration = Field(
        default=0.0, description="Ramp of a backend that is new or came back."
    )
    outlier: Outlier = Outlier()
    breaker: BreakerConfig | None = Field(
        default=None, description="Circuit breakers; null has none."
    )
    queue: QueueConfig = QueueConfig()
    panic: Panic = Panic()
    connections: Connections = Connections()
    protocol: HttpVersion = Field(
        default="auto",
        description="HTTP to backends: h1, h2 (without TLS by prior knowledge), or auto: with "
        "https:// what both sides speak, with h2c:// h2, else h1.",
    )
    upgrade: Upgrade = Field(
        default=Upgrade(), description="WebSocket and other protocols that HTTP/1.1 switches to."
    )


class Backend(Model):
    """One server behind the balancer."""

    id: Annotated[str, AfterValidator(_backend_id)] = Field(
        default="", description="Unique; `backend-1` and so on when absent."
    )
    url: Url = Field(
        description="http://, https://, h2c://, tcp://, tls://, udp://, postgresql://, mysql://, redis:// "
        "or unix:."
    )
    weight: Weight = 100
    health_check_path: UrlPath | None = None
    max_connections: Count = Field(default=0, description="Requests at once; 0 is no bound.")
    timeout: Duration | None = Field(default=None, description="Until the response head.")
    connect_timeout: Timeout | None = None
    idle_timeout: Duration | None = Field(
        default=None, description="Between two reads of a response."
    )
    labels: dict[str, str] = Field(default_factory=dict)
    drain: bool = Field(default=False, description="Takes no new requests.")
    health_check: HealthCheckOverride | None = None

    @cached_property
    def target(self) -> Target:
        """The URL, parsed."""
        return parse_url(self.url)

    @cached_property
    def unresolved(self) -> str:
        """The name to resolve before it can be connected to; empty where there is none."""
        return "" if self.target.resolved else self.target.address

    @cached_property
    def memo(self) -> dict[str, Any]:
        """Room for what others derive from this very backend, so that it is derived once."""
        return {}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with `update`, unchecked; what was derived from the old one is left behind."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in ("target", "unresolved", "memo"):
            copied.__dict__.pop(derived, None)
        return copied


class SniRule(Model):
    """Encrypted connections that a pool serves, undecrypted. The most specific rule takes one."""

    server_names: Items[ServerName] = Field(
        default=(), description="`a.example.org` or `*.example.org`; empty takes any, and none."
    )
    alpn: Items[Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]] = Field(
        default=(), description="Protocols such as h2, of which the client offers one."
    )
    pool: Name


class StreamRetries(Model):
    """Further backends for a session that reached none. What is absent comes from `load_balancer`."""

    max: Annotated[int, Field(ge=0, le=10)] | None = Field(
        default=None, description="Attempts after the first."
    )
    delay: Annotated[Duration, Field(le=60)] | None = Field(
        default=None, description="Waited before each; for tcp."
    )


class Listener(Model):
    """One or more sockets. What is absent comes from `server`."""

    name: Name
    address: ListenAddress | Annotated[Items[ListenAddress], Field(min_length=1)]
    protocol: Literal["http", "tcp", "udp"] = "http"
    filters: Items[Name] = Field(
        default=(), description="Names in `filters`, run in this order, before those of the route."
    )
    pool: Name | None = Field(default=None, description="For tcp and udp: the pool that serves it.")
    answers: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="For udp: how many datagrams answer one, after which a session is over; 0: "
        "any number, until `idle_timeout`.",
    )
    limits: Limits | None = None
    read_timeout: Timeout | None = None
    write_timeout: Timeout | None = None
    idle_timeout: Timeout | None = None
    trusted_proxies: Items[Network] | None = None
    forwarded: bool | None = None
    escaped_slashes: EscapedSlashes | None = None
    trace: bool | None = None
    http2: bool | None = None
    tls: ListenerTls | None = None
    redirect_https: bool | Annotated[int, Field(ge=1, le=65535)] = Field(
        default=False,
        description="Redirect all requests to https: true to port 443, or a port.",
    )
    sni: Items[SniRule] = Field(
        default=(),
        description="For tcp: pools by the server name and protocol that TLS clients ask for; "
        "`pool` takes the others.",
    )
    proxy_protocol: ProxyProtocol = ProxyProtocol()
    retries: StreamRetries = Field(
        default=StreamRetries(), description="For tcp and udp; HTTP's stand at the routes."
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses."""
        return (self.address,) if isinstance(self.address, str) else tuple(self.address)


class Retries(Model):
    """Further attempts at another backend. What is absent comes from `load_balancer`."""

    max: Annotated[int, Field(ge=0, le=10)] | None = None
    delay: Annotated[Duration, Field(le=60)] | None = None
    on: Items[RetryOn] | None = Field(
        default=None, description="connect and reset always; also timeout and statuses such as 503."
    )
    per_try_timeout: Duration | None = None
    budget: Share | None = Field(
        default=None,
        description="At most this share of the route's live requests, beside the pool's budget; "
        "null has no bound of its own.",
    )


class Route(Model):
    """Which requests go to which pool."""

    name: Name
    listeners: Items[Name] = Field(default=(), description="Empty: all HTTP listeners.")
    match: Match = Match()
    filters: Items[Name] = Field(
        default=(), description="Names in `filters`, run in this order, after the listener's."
    )
    pool: Name | None = Field(default=None, description="One of pool, split, redirect, respond.")
    split: Arms | None = Field(default=None, description="Shares of several pools.")
    sticky: StickyKey | None = Field(
        default=None,
        description="The same way of a split for the same client_ip, header:NAME, cookie:NAME, "
        "query:NAME; `cookie` sets one.",
    )
    redirect: Redirect | None = None
    respond: Respond | None = None
    fallback: Name | None = Field(
        default=None, description="The pool that serves while the other has no usable backend."
    )
    rewrite: Rewrite | None = None
    mirror: Mirror | None = None
    fault: Fault | None = None
    timeout: Duration = Field(
        default=0.0, description="The whole exchange; over it 504. 0 is no bound."
    )
    retries: Retries = Retries()
    hedge: Hedge | None = None
    upgrade: Upgrade | None = Field(default=None, description="As in `load_balancer` when absent.")
    on_client_close: OnClientClose | None = Field(
        default=None, description="As in `server` when absent."
    )

    @property
    def pools(self) -> tuple[str, ...]:
        """All pools that serve it, each once."""
        split = [arm.pool for arm in self.split or ()]
        names = [self.pool, *split, self.fallback]
        return tuple(dict.fromkeys(name for name in names if name is not None))


class Pool(Model):
    """Backends that serve the same thing. What is absent comes from `load_balancer`."""

    name: Name
    strategy: Strategy | None = None
    timeout: Duration | None = None
    connect_timeout: Timeout | None = None
    idle_timeout: Duration | None = None
    retry_budget: Share | None = None
    retry_floor: Count | None = None
    health_check: HealthCheckOverride | None = None
    slow_start: Duration | None = None
    outlier: Outlier | None = None
    breaker: BreakerConfig | None = None
    queue: QueueConfig | None = None
    panic: Panic | None = None
    connections: Connections | None = None
    protocol: HttpVersion | None = None
    sticky: Sticky | None = None
    tls: PoolTls | None = Field(default=None, description="For `https` backends.")
    send_proxy: Literal["v1", "v2"] | None = Field(
        default=None,
        description="Begin connections, health checks' too, with a PROXY header of this version.",
    )
    backends: Annotated[Items[Backend], AfterValidator(_number_in_pool)] = ()
    discover: Discovers = Field(default=(), description="Further backends, from elsewhere.")

    @property
    def sources(self) -> tuple[Discover, ...]:
        """All sources of further backends."""
        return sources_in(self.discover)


class Config(Model):
    """The whole configuration."""

    load_balancer: LoadBalancerConfig = LoadBalancerConfig()
    backends: Annotated[Items[Backend], AfterValidator(_number_flat)] = ()
    discover: Discovers = Field(
        default=(), description="Further backends of the pool `default`, from elsewhere."
    )
    health_check: HealthCheck = HealthCheck()
    security: FilterChain | None = None
    metrics: MetricsConfig = MetricsConfig()
    admin: AdminConfig = AdminConfig()
    logging: LoggingConfig = LoggingConfig()
    server: ServerConfig = ServerConfig()
    listeners: Items[Listener] = ()
    routes: Items[Route] = ()
    pools: Items[Pool] = ()
    filters: dict[Name, FilterChain] = Field(default_factory=dict)
    certificates: dict[Name, Certificate] = Field(default_factory=dict)
    state: StateConfig = StateConfig()
    cluster: ClusterConfig | None = Field(
        default=None, description="Balancers that know of each other."
    )
    extensions: Items[ImportPath] = Field(
        default=(),
        description="Functions (`package.module:function`) that changes over the API may name as"
        " strategy or in `discover.use`. Can be set in the file only.",
    )

    @property
    def sources(self) -> tuple[Discover, ...]:
        """All sources of further backends of the pool `default`."""
        return sources_in(self.discover)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        """Refuses contradictions; the error's context carries every problem with its path."""
        from .check import problems_in

        if problems := problems_in(self):
            text = "; ".join(str(problem) for problem in problems)
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": text, "problems": tuple(problems)}
            )
        return self


__all__ = [
    "AdminConfig",
    "Backend",
    "BreakerConfig",
    "ClusterConfig",
    "Config",
    "Connections",
    "Discover",
    "FilterChain",
    "HealthCheck",
    "HealthCheckOverride",
    "Limits",
    "Listener",
    "LoadBalancerConfig",
    "LoggingConfig",
    "Match",
    "MetricsConfig",
    "Model",
    "Outlier",
    "Panic",
    "PathRegex",
    "Pool",
    "QueueConfig",
    "Retries",
    "Route",
    "ServerConfig",
    "StateConfig",
    "Strategy",
    "StrategyConfig",
    "StreamRetries",
    "Upgrade",
    "ValueRule",
    "number_backends",
]
