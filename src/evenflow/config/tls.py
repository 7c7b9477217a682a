"""TLS in the configuration: certificates, listeners that encrypt, pools that are encrypted to.

Files are named here and read elsewhere (`evenflow.certs`): a configuration is right or wrong by
itself, whatever is on disk.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .acme import Acme
from .base import Model
from .targets import parse_host
from .types import Items, Name, Secret

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

MinVersion = Literal["1.2", "1.3"]
Alpn = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
FilePath = Annotated[str, Field(min_length=1)]


def parse_domain(text: str) -> str:
    """`example.org` or `*.example.org` in lower case; ValueError otherwise."""
    bare = text.removeprefix("*.")
    try:
        host = parse_host(bare)
    except ValueError:
        raise ValueError(
            f"expected a name such as example.org or *.example.org, got {text!r}"
        ) from None
    return f"*.{host}" if bare != text else host


def parse_fingerprint(text: str) -> str:
    """SHA-256 in hexadecimal digits, colons taken out; ValueError otherwise."""
    digits = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(f"expected SHA-256 as 64 hexadecimal digits, got {text!r}")
    return digits


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Domain = Annotated[str, AfterValidator(parse_domain)]
Fingerprint = Annotated[str, AfterValidator(parse_fingerprint)]


class Certificate(Model):
    """A certificate with its key: from files, from references, or ordered from an authority."""

    cert_file: FilePath | None = Field(
        default=None, description="The certificate and those that link it to a root, in PEM."
    )
    key_file: FilePath | None = Field(default=None, description="Its private key, in PEM.")
    cert: Secret | None = Field(
        default=None, description="In place of cert_file: PEM by `${NAME}` or `file:/path`."
    )
    key: Secret | None = Field(
        default=None, description="In place of key_file: PEM by `${NAME}` or `file:/path`."
    )
    ocsp_file: FilePath | None = Field(
        default=None, description="An OCSP response to staple, in DER."
    )
    domains: Items[Domain] = Field(
        default=(), description="Names it is shown for; those in the certificate when absent."
    )
    acme: Acme | None = Field(
        default=None, description="In place of all others: ordered from an authority, and renewed."
    )


class ClientAuth(Model):
    """Certificates asked of clients."""

    mode: Literal["off", "optional", "required"] = Field(
        default="required", description="optional: one that is shown must hold."
    )
    ca_file: FilePath | None = Field(
        default=None, description="The roots that client certificates lead to, in PEM."
    )
    crl_file: FilePath | None = Field(
        default=None, description="Revocation lists, in PEM: one for each issuer."
    )


class TlsRules(Model):
    """What a listener negotiates."""

    min_version: MinVersion | None = Field(
        default=None, description="1.2, or 1.3 with the profile `modern`."
    )
    profile: Literal["modern", "intermediate"] = Field(
        default="intermediate",
        description="intermediate: TLS 1.2 with forward secrecy, and 1.3. modern: 1.3 only.",
    )
    alpn: Annotated[Items[Alpn], Field(min_length=1)] | None = Field(
        default=None,
        description="Application protocols offered: h2 and http/1.1 on HTTP listeners, the first "
        "where `http2` is on; on tcp listeners what the backends speak, such as postgresql, or "
        "none when absent.",
    )
    client_auth: ClientAuth = ClientAuth(mode="off")

    @property
    def lowest_version(self) -> MinVersion:
        """The lowest version spoken."""
        return self.min_version or ("1.3" if self.profile == "modern" else "1.2")


class ListenerTls(TlsRules):
    """TLS on a listener."""

    certificates: Items[Name] = Field(
        default=(),
        description="Names in `certificates`; the first is shown to clients that ask for no other.",
    )
    passthrough: bool = Field(
        default=False,
        description="For tcp, in place of certificates: TLS is not decrypted, and what is not TLS "
        "is closed.",
    )


class ServerTls(TlsRules):
    """TLS on the flat form's listener, with one certificate."""

    cert_file: FilePath | None = Field(
        default=None, description="The certificate and those that link it to a root, in PEM."
    )
    key_file: FilePath | None = Field(default=None, description="Its private key, in PEM.")
    ocsp_file: FilePath | None = Field(
        default=None, description="An OCSP response to staple, in DER."
    )
    certificates: Items[Name] = Field(
        default=(), description="Names in `certificates`, instead of or beside the files above."
    )
    redirect_http: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="A port on which plain HTTP is redirected to https."
    )


class PoolTls(Model):
    """How `https` and `tls` backends prove who they are."""

    verify: bool = Field(
        default=True, description="false trusts anyone on the way; logged as a warning."
    )
    ca_file: FilePath | None = Field(
        default=None, description="The roots to trust, in PEM; those of the system when absent."
    )
    fingerprint: Annotated[Items[Fingerprint], BeforeValidator(_one_or_more)] = Field(
        default=(),
        description="SHA-256 of the only certificates accepted, whatever their names and roots.",
    )
    server_name: Annotated[str, AfterValidator(parse_host)] | None = Field(
        default=None, description="The name asked for and verified; the URL's host when absent."
    )
    client_cert: Name | None = Field(
        default=None, description="A name in `certificates`, shown to backends that ask."
    )
    min_version: MinVersion = "1.2"
    alpn: Items[Alpn] = Field(
        default=(), description="For tls:// backends: application protocols asked for."
    )


__all__ = [
    "Certificate",
    "ClientAuth",
    "ListenerTls",
    "PoolTls",
    "ServerTls",
    "TlsRules",
]
