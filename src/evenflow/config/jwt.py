"""`auth.jwt`: signed tokens, and where the keys come from that they are checked with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from .base import Model
from .types import AddedName, Duration, Items
from .web_address import check_web_address

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Text = Annotated[str, Field(min_length=1, max_length=2048)]
CookieName = Annotated[str, Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$")]
Realm = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{1,200}$")]


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


OneOrMore = Annotated[
    Items[Text],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


def parse_key_url(value: str) -> str:
    """The address of a key set; ValueError where it is none, or holds a secret."""
    return check_web_address(
        value,
        example="https://id.example.org/jwks",
        without_login="key sets are public: expected an address without name and password",
    )


class JwtAuth(Model):
    """A JSON Web Token (RFC 7519) with a public key's signature; without a valid one 401.

    The keys come from exactly one of `jwks_url`, `jwks_file`, `public_key` and `public_key_file`.
    """

    jwks_url: Annotated[str, AfterValidator(parse_key_url)] | None = Field(
        default=None, description="The issuer's key set (RFC 7517), fetched again and again."
    )
    jwks_file: Text | None = Field(
        default=None, description="A file with a key set, read again when it changes."
    )
    public_key: Text | None = Field(default=None, description="One public key in PEM.")
    public_key_file: Text | None = Field(
        default=None, description="A file with one public key in PEM, read again when it changes."
    )
    ca_file: Text | None = Field(
        default=None, description="Roots for an https `jwks_url`; the system's when absent."
    )
    refresh_interval: Annotated[Duration, Field(ge=1)] = Field(
        default=300.0, description="From one fetch of `jwks_url` to the next."
    )
    refresh_timeout: Annotated[Duration, Field(ge=0.1, le=60)] = Field(
        default=5.0, description="Of one fetch as a whole."
    )
    refresh_after_unknown: Annotated[Duration, Field(ge=1)] = Field(
        default=10.0,
        description="A token with an unknown `kid` asks for a fetch, so often at most.",
    )
    algorithms: Items[Algorithm] = Field(
        default=("RS256", "ES256", "EdDSA"), description="Keys for others are not used."
    )
    issuer: OneOrMore = Field(default=(), description="Accepted `iss`; empty takes any.")
    audience: OneOrMore = Field(
        default=(), description="Accepted `aud`, one of which must be there; empty takes any."
    )
    leeway: Annotated[Duration, Field(le=3600)] = Field(
        default=30.0, description="How far the clocks may be apart, for `exp` and `nbf`."
    )
    required_claims: Items[Text] = Field(
        default=(), description="Claims that must be there besides `exp`: names or JSON Pointers."
    )
    claims_to_headers: dict[Text, AddedName] = Field(
        default_factory=dict,
        description="Claims (names or JSON Pointers) and the fields that tell backends of them.",
    )
    user_claim: Text = Field(default="sub", description="Who it is, for the access log.")
    header: AddedName | None = Field(
        default=None, description="The field with the bare token, instead of `Authorization`."
    )
    cookie: CookieName | None = Field(
        default=None, description="The cookie with the token, instead of `Authorization`."
    )
    forward: bool = Field(default=True, description="Backends get to see the token.")
    realm: Realm = "evenflow"


SOURCES = ("jwks_url", "jwks_file", "public_key", "public_key_file")
"""Where keys can come from, of which a filter names one."""
