# ruff: noqa: D101 - the fields are explained once, in plan.rs
"""The filter primitives of the plan, field for field those of the engine's `plan.rs`."""

from __future__ import annotations

from typing import Literal, TypedDict


class HeaderKey(TypedDict):
    header: str


class CookieKey(TypedDict):
    cookie: str


class QueryKey(TypedDict):
    query: str


RequestKey = (
    Literal["client_ip", "path", "random", "all", "route"] | HeaderKey | CookieKey | QueryKey
)


class IpSetFilter(TypedDict):
    allow: list[str]
    deny: list[str]


class LimitFilter(TypedDict):
    name: str
    key: RequestKey
    requests_per_second: float
    burst: int
    max_keys: int
    dry_run: bool
    ipv6_prefix: int
    headers: bool
    fleet_seed: list[int] | None


class ConcurrencyFilter(TypedDict):
    name: str
    key: RequestKey
    max: int
    ipv6_prefix: int
    dry_run: bool


class BasicFilter(TypedDict):
    realm: str
    users: list[tuple[str, str]]
    user_header: str | None
    forward: bool


class BearerFilter(TypedDict):
    realm: str
    tokens: list[tuple[str, str]]
    user_header: str | None
    forward: bool


class JwtKey(TypedDict):
    kid: str | None
    alg: str
    key: list[int]


class JwtFilter(TypedDict):
    name: str
    realm: str
    keys: list[JwtKey]
    issuers: list[str]
    audiences: list[str]
    leeway_s: int
    required_claims: list[str]
    user_claim: str
    claims_to_headers: list[tuple[str, str]]
    header: str | None
    cookie: str | None
    forward: bool


class ExternalFilter(TypedDict):
    pool: str
    path: str
    request_headers: list[str]
    response_headers: list[str]
    user_header: str | None
    timeout_ms: int
    fail_open: bool


class HeaderEdit(TypedDict):
    remove: list[str]
    set: list[tuple[str, str]]
    add: list[tuple[str, str]]
    default: list[tuple[str, str]]


class BodyLimit(TypedDict):
    bytes: int


class Cors(TypedDict):
    allow_origins: list[str]
    allow_methods: list[str]
    allow_headers: list[str]
    expose_headers: list[str]
    allow_credentials: bool
    max_age_s: int


class IpSetStep(TypedDict):
    ip_set: IpSetFilter


class LimitStep(TypedDict):
    limit: LimitFilter


class ConcurrencyStep(TypedDict):
    concurrency: ConcurrencyFilter


class BasicStep(TypedDict):
    basic: BasicFilter


class BearerStep(TypedDict):
    bearer: BearerFilter


class JwtStep(TypedDict):
    jwt: JwtFilter


class ExternalStep(TypedDict):
    external: ExternalFilter


class RequestHeadersStep(TypedDict):
    request_headers: HeaderEdit


class ResponseHeadersStep(TypedDict):
    response_headers: HeaderEdit


class BodyLimitStep(TypedDict):
    body_limit: BodyLimit


class CorsStep(TypedDict):
    cors: Cors


Filter = (
    IpSetStep
    | LimitStep
    | ConcurrencyStep
    | RequestHeadersStep
    | ResponseHeadersStep
    | BodyLimitStep
    | CorsStep
    | BasicStep
    | BearerStep
    | JwtStep
    | ExternalStep
)
