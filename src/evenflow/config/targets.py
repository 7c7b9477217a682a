"""What a backend's URL says: what is spoken to it, where it is, and under which path."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A segment of a path pattern that stands for any segment."""

HTTP_SCHEMES = ("http", "https", "h2c")
STREAM_PORTS: dict[str, int | None] = {
    "tcp": None,
    "tls": None,
    "udp": None,
    "postgresql": 5432,
    "mysql": 3306,
    "redis": 6379,
}
SCHEMES = (*HTTP_SCHEMES, *STREAM_PORTS, "unix")


@dataclass(frozen=True, slots=True)
class Target:
    """A backend's place, parsed from its URL.

    `address` is what is resolved and connected to: `host:port`, `[v6]:port` or `unix:/path`.
    `path` is a path prefix without its last slash, or empty. `resolved` says that `address` can
    be connected to as it is, without asking for a name's addresses.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: str
    resolved: bool

    @property
    def is_stream(self) -> bool:
        """Whether bytes are relayed to it without a look inside."""
        return self.scheme in STREAM_PORTS

    @property
    def is_datagrams(self) -> bool:
        """Whether datagrams are relayed to it."""
        return self.scheme == "udp"

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket, which serves HTTP and stream pools alike."""
        return self.scheme == "unix"

    @property
    def host_header(self) -> str:
        """What a health check sends as `Host`."""
        if self.is_unix:
            return "localhost"
        usual = {"http": ":80", "https": ":443", "h2c": ":80"}.get(self.scheme, "")
        return self.address.removesuffix(usual)

    @property
    def is_tls(self) -> bool:
        """Whether what is sent to it is encrypted."""
        return self.scheme in ("https", "tls")


@lru_cache(maxsize=32_768)
def parse_url(text: str) -> Target:
    """Parses a backend's URL; ValueError says what was expected."""
    expected = "expected a URL such as http://10.0.0.1:8080"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"expected unix:/absolute/path, got {text!r}")
        if len(path.encode()) > 100:
            raise ValueError("expected a socket path of at most 100 bytes, got " + repr(text))
        return Target("unix", "", 0, "", f"unix:{path}", resolved=True)
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ValueError(f"{expected}, got {text!r}")
    if scheme not in SCHEMES:
        raise ValueError(f"expected a scheme of {', '.join(SCHEMES)}, got {text!r}")
    if any(char <= " " or char == "\x7f" for char in text):
        raise ValueError(f"{expected} without spaces, got {text!r}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{expected}, got {text!r} ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected a URL without user or password")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError(f"expected a URL without query and fragment, got {text!r}")
    host = parts.hostname or ""
    if not host:
        raise ValueError(f"expected a host in the URL, got {text!r}")
    if scheme in STREAM_PORTS:
        if parts.path not in ("", "/"):
            raise ValueError(f"a {scheme} backend has no path, got {text!r}")
        port = port if port is not None else STREAM_PORTS[scheme]
        if port is None:
            raise ValueError(f"expected a port, as in {scheme}://10.0.0.1:5432, got {text!r}")
    if port is None:
        port = 443 if scheme == "https" else 80
    if port == 0:
        raise ValueError(f"expected a port from 1 to 65535, got {text!r}")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    if path:
        if "{" in path or "}" in path:
            raise ValueError(f"expected a path without parameters, got {text!r}")
        parse_path_match(f"{path}/*")
    return Target(scheme, host, port, path, f"{shown}:{port}", resolved=_is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    # A zone (fe80::1%eth0) is a name that the system resolves.
    return "%" not in host


def check_url(text: str) -> str:
    """`text` when it is a backend's URL, else ValueError."""
    parse_url(text)
    return text


def check_address(text: str) -> str:
    """`text` when it is an IP address or localhost, else ValueError."""
    if text != "localhost" and not _is_address(text):
        raise ValueError(f"expected an address such as 0.0.0.0 or ::, got {text!r}")
    return text


def parse_listen(text: str) -> str:
    """`ip:port`, `[v6]:port` or `unix:/path` to listen on; ValueError otherwise."""
    if text.startswith("unix:"):
        if not text.startswith("unix:/"):
            raise ValueError(f"expected unix:/absolute/path, got {text!r}")
        return text
    expected = f"expected an address such as 0.0.0.0:8080, [::]:8080 or unix:/path, got {text!r}"
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(expected)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address("127.0.0.1" if bare == "localhost" else bare)
    except ValueError:
        raise ValueError(expected) from None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def parse_host(text: str) -> str:
    """A host to match, in lower case; ValueError for ports, wildcards and anything else."""
    host = text.lower().rstrip(".")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        return f"[{address}]" if address.version == 6 else str(address)
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,62})", x) for x in labels):
        raise ValueError(f"expected a host name without port or wildcard, got {text!r}")
    return host


def parse_server_name(text: str) -> str:
    """A name TLS clients ask for, perhaps with a wildcard as its first label; else ValueError."""
    name = parse_host(text.removeprefix("*."))
    if name.startswith("[") or name.replace(".", "").isdigit():
        raise ValueError(f"TLS clients ask for names, not for addresses, got {text!r}")
    return f"*.{name}" if text.startswith("*.") else name


def parse_path_match(text: str) -> str:
    """A path to match; ValueError for anything else.

    It is exact (`/users`), a template (`/users/{id}/orders`), or either with all below it
    (`/users/*`).
    """
    if not re.fullmatch(r"/[!-~]*", text) or "?" in text or "#" in text:
        raise ValueError(f"expected a path such as /users or /users/*, got {text!r}")
    path = text.removesuffix("/*")
    if "*" in path:
        raise ValueError(f"`*` stands only at the end, as in /users/*, got {text!r}")
    segments = path.split("/")[1:]
    if any(segment in (".", "..") for segment in segments) or "" in segments[:-1]:
        raise ValueError(f"expected a path without `//`, `/./` and `/../`, got {text!r}")
    if len(segments) > 32:
        raise ValueError("expected a path of at most 32 segments")
    names = list[str]()
    for segment in segments:
        if found := PARAMETER.fullmatch(segment):
            names.append(found[1])
        elif "{" in segment or "}" in segment:
            raise ValueError(f"a parameter is a whole segment, as in /users/{{id}}, got {text!r}")
    if len(set(names)) < len(names) or "rest" in names:
        raise ValueError(f"expected each parameter once, and none called `rest`, got {text!r}")
    return text
