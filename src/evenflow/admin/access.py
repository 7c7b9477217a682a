"""Who may use the balancer's own endpoints.

Pure rules, no I/O: the facts of one request and the configured tokens in, a verdict out. Liveness
pages are open to all and never come here. Everything else needs a role, which a request gets from
a bearer token or, without one, from being local. Local means that the address of the TCP peer can
be trusted to be the one who asks: nothing between (a proxy on this machine makes every stranger a
loopback client) and no web page that merely makes the user's browser ask.
"""

import hmac
import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from evenflow.config.hashes import SHA256, is_slow


class Role(IntEnum):
    """What a caller may do; a higher role includes the lower ones."""

    READ = 1
    """See everything except secrets."""
    OPERATE = 2
    """Change backends, reload, profile."""
    ADMIN = 3
    """Change the configuration."""

    @property
    def label(self) -> str:
        """As the configuration writes it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; only a digest of the secret is kept."""

    name: str
    role: Role
    hashed: str
    """As the configuration keeps it: `sha256:...` or a password's hash."""
    digest: bytes | None
    """SHA-256 of the secret; `None` while only a password's hash of it is known."""

    @classmethod
    def of(cls, name: str, role: str, hashed: str) -> "Token":
        """A token from its configuration."""
        digest = None if is_slow(hashed) else bytes.fromhex(hashed.removeprefix(SHA256))
        return cls(name, Role[role.upper()], hashed, digest)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may go on."""

    who: str
    """The token's name, or `loopback` or `private network`."""
    role: Role


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is answered with `status` (401 or 403)."""

    status: int
    reason: str
    guessed: bool = False
    """Whether a credential was presented that is none."""
    who: Allowed | None = None
    """Who asked, where that is known and it is the role that does not suffice."""


CLIENT_HEADER = "evenflow-client"
"""Set by the engine alone: the peer's address, or `unix` for a peer on a Unix socket."""

_FORWARDING = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-host",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "x-envoy-external-address",
        "cdn-loop",
    }
)

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)

# Nobody can register a public name below these, so no stranger's page can be served under one.
_UNREGISTRABLE = (".localhost", ".local", ".internal", ".home.arpa")


def decide(
    needed: Role,
    headers: Iterable[tuple[str, str]],
    *,
    tokens: Sequence[Token] = (),
    hosts: Collection[str] = (),
) -> Allowed | Refused:
    """Say whether a request with these header fields (names in lower case) has role `needed`.

    `hosts` are further DNS names under which local callers may address the balancer.
    A token that is sent is what counts: a wrong one is refused even from loopback.
    """
    fields = list(headers)
    presented = [value for name, value in fields if name == "authorization"]
    verdict = _by_token(presented, tokens) if presented else _by_place(fields, hosts)
    if isinstance(verdict, Allowed) and verdict.role < needed:
        return Refused(
            403 if presented else 401,
            f"this needs role {needed.label}; {verdict.who} has {verdict.role.label}",
            who=verdict if presented else None,
        )
    return verdict


def _by_token(presented: list[str], tokens: Sequence[Token]) -> Allowed | Refused:
    scheme, _, secret = presented[0].partition(" ")
    if len(presented) != 1 or scheme.lower() != "bearer":
        text = "expected one Authorization field of the form: Bearer <token>"
        return Refused(401, text, guessed=True)
    digest = sha256(secret.strip().encode()).digest()
    found: Token | None = None
    for token in tokens:  # all of them, so that the time taken does not tell which one matched
        if token.digest is not None and hmac.compare_digest(token.digest, digest):
            found = token
    if found is None:
        return Refused(401, "unknown token", guessed=True)
    return Allowed(found.name, found.role)


def _by_place(fields: list[tuple[str, str]], hosts: Collection[str]) -> Allowed | Refused:
    place = _place([value for name, value in fields if name == CLIENT_HEADER])
    if place is None:
        return Refused(401, "callers from outside private networks need a token")
    reason = not_local(fields, hosts)
    if reason is not None:
        return Refused(401, f"this request does not count as local ({reason}) and has no token")
    return place


def client_of(fields: Iterable[tuple[str, str]]) -> str:
    """The peer's address as the engine tells it; empty when it does not."""
    named = [value for name, value in fields if name == CLIENT_HEADER]
    return named[0] if len(named) == 1 else ""


def _place(clients: list[str]) -> Allowed | None:
    """The role that the peer's address alone gives."""
    if len(clients) != 1:
        return None
    if clients[0] == "unix":
        return Allowed("loopback", Role.ADMIN)
    try:
        address = ipaddress.ip_address(clients[0].partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return Allowed("loopback", Role.ADMIN)
    if any(address in network for network in _PRIVATE):
        return Allowed("private network", Role.READ)
    return None


def not_local(fields: list[tuple[str, str]], hosts: Collection[str] = ()) -> str | None:
    """Why the peer may not be the one who asks; `None` when nothing speaks against it."""
    for name, value in fields:
        if name in _FORWARDING or name.startswith("x-forwarded-"):
            return f"it carries {name}"
        # Browsers tell where a request comes from; "none" is the address bar.
        if name == "sec-fetch-site" and value.strip().lower() not in ("same-origin", "none"):
            return "another site's page sent it"
    named = [value.strip().lower() for name, value in fields if name == "host"]
    host = named[0] if len(named) == 1 else None
    if len(named) > 1:
        return "it has several Host fields"
    for name, value in fields:
        if name == "origin" and not _same_origin(value.strip().lower(), host):
            return "its Origin is another one"
    if host is not None and not _trustworthy_name(host, hosts):
        return "its Host is a DNS name that anyone could point here"
    return None


def _same_origin(origin: str, host: str | None) -> bool:
    scheme, separator, authority = origin.partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    if not separator or default is None or not host:
        return False
    return authority.removesuffix(default) == host.removesuffix(default)


def _trustworthy_name(host: str, hosts: Collection[str]) -> bool:
    """Whether no stranger can make `host` resolve to this balancer (DNS rebinding).

    An address, a name of one label (no public zone serves those) and names in zones that cannot
    be registered are safe; any other DNS name only when it is configured.
    """
    name = _without_port(host)
    if name is None:
        return False
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        name = name.removesuffix(".")
        return bool(name) and (
            "." not in name or name.endswith(_UNREGISTRABLE) or name in {h.lower() for h in hosts}
        )
    return True


def _without_port(host: str) -> str | None:
    """`host` without `:port`; `None` when it is not a host at all."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        if not bracket or (rest and not _is_port(rest)):
            return None
        return f"{name}]"
    name, colon, port = host.partition(":")
    if (colon and not _is_port(f":{port}")) or not name or set(name) & set("@/\\ ?#"):
        return None
    return name


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()
