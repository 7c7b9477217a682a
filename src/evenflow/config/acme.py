"""Certificates ordered from an authority by ACME (RFC 8555): whose, for which names, proven how.

What an authority answers and when a certificate is renewed is not known here.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .base import Model
from .targets import parse_host
from .types import Duration, Items, Secret

PRODUCTION: Final = "https://acme-v02.api.letsencrypt.org/directory"
STAGING: Final = "https://acme-staging-v02.api.letsencrypt.org/directory"
MAX_DOMAINS: Final = 100
"""More names than this no authority puts into one certificate."""


def parse_proven_domain(text: str) -> str:
    """A host name that can be proven here, in lower case; ValueError otherwise."""
    if "*" in text:
        raise ValueError(
            f"expected a name such as example.org, got {text!r}: wildcards have to be proven by "
            "dns-01, which is not offered; name the hosts, or give cert_file and key_file"
        )
    try:
        host = parse_host(text)
    except ValueError:
        raise ValueError(f"expected a name such as example.org, got {text!r}") from None
    if _is_address(host) or "_" in host or host.rpartition(".")[2].isdigit():
        raise ValueError(f"expected a name such as example.org, got {text!r}")
    return host


def parse_directory(text: str) -> str:
    """The address of an ACME directory; ValueError for what is not https."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in text or "#" in text or not all("!" <= char <= "~" for char in text):
        raise ValueError(f"expected an address such as https://ca.example.org/acme, got {text!r}")
    return text


def parse_email(text: str) -> str:
    """A mail address, as far as that can be told without sending one; ValueError otherwise."""
    local, _, domain = text.rpartition("@")
    if not local or not domain or not all("!" <= char <= "~" for char in text) or "," in text:
        raise ValueError(f"expected an address such as ops@example.org, got {text!r}")
    return text


def _some_domains(domains: Sequence[str]) -> Sequence[str]:
    # Not by bounds of the list, which would tell of a wrong name as well that there is none.
    if not 1 <= len(domains) <= MAX_DOMAINS:
        raise ValueError(f"expected 1 to {MAX_DOMAINS} names, got {len(domains)}")
    return domains


class ExternalAccount(Model):
    """An account with the authority that new ACME accounts are bound to (RFC 8555 §7.3.4)."""

    key_id: Annotated[str, Field(pattern=r"^[!-~]{1,512}$")] = Field(
        description="As the authority gave it."
    )
    hmac_key: Secret = Field(description="As the authority gave it, in base64url.")

    def mac_key(self) -> bytes:
        """The key's bytes; ValueError where it is not base64url."""
        text = self.hmac_key.value.rstrip("=")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise ValueError("expected the key in base64url") from None
        if not key:
            raise ValueError("expected the key in base64url")
        return key


class Acme(Model):
    """A certificate that is ordered, proven and renewed by itself."""

    domains: Annotated[
        Items[Annotated[str, AfterValidator(parse_proven_domain)]],
        AfterValidator(_some_domains),
    ] = Field(description="The names in the certificate; no wildcards.")
    email: Annotated[str, AfterValidator(parse_email)] | None = Field(
        default=None, description="Whom the authority tells of trouble."
    )
    challenge: Literal["http-01", "tls-alpn-01"] = Field(
        default="http-01",
        description="How the names are proven: http-01 needs port 80 of each name to lead to an "
        "HTTP listener without TLS; tls-alpn-01 port 443 to an HTTP listener with TLS.",
    )
    staging: bool = Field(
        default=False,
        description="Let's Encrypt's authority for trying things out, whose certificates nobody "
        "trusts.",
    )
    directory: Annotated[str, AfterValidator(parse_directory)] | None = Field(
        default=None, description="Another authority's directory; Let's Encrypt's when absent."
    )
    ca_file: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The roots that the authority's own https is verified by, in PEM; those of "
        "the system when absent.",
    )
    external_account: ExternalAccount | None = Field(
        default=None, description="For authorities that have accounts of their own."
    )
    terms_agreed: bool = Field(
        default=True,
        description="The authority's terms of service are agreed to; false orders nothing where "
        "there are any.",
    )
    retry_after: Annotated[Duration, Field(ge=1, le=86_400)] = Field(
        default=120.0,
        description="Waited after an order that failed; twice as long after each further one, up "
        "to six hours.",
    )

    @property
    def directory_url(self) -> str:
        """The directory that is asked."""
        return self.directory or (STAGING if self.staging else PRODUCTION)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
