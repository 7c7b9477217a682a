"""`discover`: where a pool's endpoints come from when they come from elsewhere.

Only what is asked for and how often; who asks, and what becomes of the answers, is in
`evenflow.discovery`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .base import Model
from .targets import STREAM_PORTS, Target, parse_host, parse_url
from .types import Duration, Fields, Items, Name, Secret
from .web_address import check_web_address

SOURCES: Final = ("dns", "srv", "file", "http", "consul", "kubernetes", "docker", "use")
"""Of these an entry names exactly one."""
MAX_ENDPOINTS: Final = 10_000

Text = Annotated[str, Field(min_length=1, max_length=2048)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Scheme = Literal["http", "https", "h2c", "tcp", "tls", "udp", "postgresql", "mysql", "redis"]
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_IN_PATH = re.compile(r"[A-Za-z0-9._~-]{1,253}")


def split_name(value: str) -> tuple[str, int | None]:
    """Host and port of `users.internal:8080`; ValueError for anything else."""
    host, colon, port = value.rpartition(":")
    if not colon:
        host, port = value, ""
    if colon and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"expected a name and a port such as users.internal:8080, got {value!r}")
    return parse_host(host), int(port) if port else None


def _dns_name(value: str) -> str:
    split_name(value)
    return value


def _srv_name(value: str) -> str:
    if not value.startswith("_"):
        raise ValueError(f"expected a name such as _http._tcp.users.internal, got {value!r}")
    return parse_host(value)


def _resolver(value: str) -> str:
    split_resolver(value)
    return value


def split_resolver(value: str) -> tuple[str, int]:
    """Address and port of a DNS server; ValueError for anything else."""
    text = value if value.startswith("[") or value.count(":") < 2 else f"[{value}]"
    try:
        target = parse_url(
            f"udp://{text}" if re.search(r"(\]|[^:]):\d+$", text) else f"udp://{text}:53"
        )
    except ValueError:
        target = None
    if target is None or not target.resolved:
        raise ValueError(
            f"expected a server's address such as 10.0.0.2 or 10.0.0.2:5353, got {value!r}"
        )
    return target.host, target.port


def _web_address(value: str) -> str:
    return check_web_address(
        value,
        example="https://registry.example.org",
        without_login="expected an address without name and password; use `headers`",
    )


def _docker_host(value: str) -> str:
    if value.startswith("unix:///") and len(value) <= 107:
        return value
    if value.startswith("tcp://"):
        _web_address("http" + value.removeprefix("tcp"))
        return value
    try:
        return _web_address(value)
    except ValueError:
        text = "expected unix:///var/run/docker.sock, tcp://HOST:PORT or an https:// address"
        raise ValueError(f"{text}, got {value!r}") from None


def _in_path(value: str) -> str:
    if not _IN_PATH.fullmatch(value):
        raise ValueError(f"expected a name of letters, digits and ._~-, got {value!r}")
    return value


def _function(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise ValueError(f"expected package.module:function, got {value!r}")
    return value


ImportPath = Annotated[str, AfterValidator(_function)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PathName = Annotated[str, AfterValidator(_in_path)]


class HttpSource(Model):
    """A list over HTTP, with what the server wants to see."""

    url: WebAddress
    headers: Fields = Field(
        default_factory=dict, description="Sent with every request; secrets by reference."
    )
    ca_file: Text | None = Field(
        default=None, description="Roots for https; the system's when absent."
    )


class ConsulSource(Model):
    """The healthy instances of a service in Consul."""

    service: PathName
    url: WebAddress = "http://127.0.0.1:8500"
    token: Secret | None = None
    datacenter: PathName | None = None
    tag: Text | None = Field(default=None, description="Only instances that have it.")
    ca_file: Text | None = None


_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubernetesSource(Model):
    """The endpoints of a service, from its EndpointSlices."""

    service: PathName
    namespace: PathName | None = Field(default=None, description="The pod's own when absent.")
    port: PortNumber | Text | None = Field(
        default=None, description="Name or number, where the service has several."
    )
    url: WebAddress | None = Field(
        default=None, description="The API server; that of the cluster the pod is in when absent."
    )
    token: Secret | None = Field(default=None, description="Instead of `token_file`.")
    token_file: Text = Field(default=f"{_ACCOUNT}/token", description="Read for every request.")
    ca_file: Text = f"{_ACCOUNT}/ca.crt"
    namespace_file: Text = f"{_ACCOUNT}/namespace"


class DockerSource(Model):
    """The running containers of a Docker daemon that have all of these labels."""

    host: Annotated[str, AfterValidator(_docker_host)] = "unix:///var/run/docker.sock"
    labels: dict[Text, str] = Field(default_factory=dict, description="An empty value takes any.")
    port_label: Text = Field(
        default="evenflow.port", description="The label that tells a container's port."
    )
    network: Text | None = Field(
        default=None, description="The network whose addresses are used, where there are several."
    )
    ca_file: Text | None = None


class Discover(Model):
    """One source of endpoints: exactly one of dns, srv, file, http, consul, kubernetes, docker, use."""

    name: Name = Field(default="", description="In metrics and messages; the source's kind.")
    dns: Annotated[str, AfterValidator(_dns_name)] | None = Field(
        default=None, description="A and AAAA records: `users.internal:8080`."
    )
    srv: Annotated[str, AfterValidator(_srv_name)] | None = Field(
        default=None, description="SRV records: `_http._tcp.users.internal`."
    )
    file: Text | None = Field(default=None, description="A list in YAML, JSON or TOML.")
    http: WebAddress | HttpSource | None = Field(default=None, description="A list in JSON.")
    consul: ConsulSource | None = None
    kubernetes: KubernetesSource | None = None
    docker: DockerSource | None = None
    use: ImportPath | None = Field(
        default=None, description="A function of your own: `package.module:function`."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of `use`.")
    every: Annotated[Duration, Field(ge=0.1, le=86_400)] = Field(
        default=30.0, description="The longest time from one look to the next."
    )
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = Field(
        default=5.0, description="Of one look; a change that names a new source waits so long."
    )
    weight: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=100, description="Of endpoints whose source tells none."
    )
    scheme: Scheme = Field(default="http", description="Of endpoints given without a URL.")
    port: PortNumber | None = Field(
        default=None, description="Of endpoints given without one; the scheme's own when absent."
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Of all its endpoints; what the source tells goes first."
    )
    max_connections: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        default=0, description="Of each endpoint; 0 is no bound."
    )
    max_endpoints: Annotated[int, Field(ge=1, le=MAX_ENDPOINTS)] = Field(
        default=MAX_ENDPOINTS, description="More in one answer refuse it."
    )
    allow_empty: bool = Field(
        default=False, description="An answer without endpoints counts; else the last ones stay."
    )
    resolver: Annotated[str, AfterValidator(_resolver)] | None = Field(
        default=None, description="For dns and srv: the server to ask; the system's when absent."
    )
    family: Literal["any", "ipv4", "ipv6"] = Field(
        default="any", description="For dns and srv: which addresses are asked for."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not value.get("name"):
            kinds = [kind for kind in SOURCES if value.get(kind) is not None]
            return {**value, "name": kinds[0]} if kinds else value
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [kind for kind in SOURCES if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of {', '.join(SOURCES)}, got {found}")
        return self

    @property
    def kind(self) -> str:
        """Which of `SOURCES` it is."""
        return next(kind for kind in SOURCES if getattr(self, kind) is not None)

    @property
    def place(self) -> str:
        """Where it looks, for people to read; holds no secret."""
        match self.kind:
            case "http":
                return self.http_source.url.partition("?")[0]
            case "consul" | "kubernetes":
                return str(getattr(self, self.kind).service)
            case "docker" if self.docker is not None:
                return self.docker.host
            case kind:
                return str(getattr(self, kind))

    @property
    def http_source(self) -> HttpSource:
        """`http` with its address alone spelled out."""
        assert self.http is not None
        return HttpSource(url=self.http) if isinstance(self.http, str) else self.http

    @property
    def default_port(self) -> int | None:
        """The port of endpoints whose source tells none; None where a scheme has none."""
        if self.port is not None:
            return self.port
        if self.scheme in STREAM_PORTS:
            return STREAM_PORTS[self.scheme]
        return 443 if self.scheme == "https" else 80

    @cached_property
    def target(self) -> Target:
        """What its endpoints are like."""
        return parse_url(f"{self.scheme}://192.0.2.1:1")


Discovers = Discover | Items[Discover]
"""One source, or several."""
