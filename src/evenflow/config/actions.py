"""What a route does with a request besides handing it to one pool as it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .base import Model
from .matching import CookieName, Pattern, RouteHost, ValueMatch
from .types import (
    AddedFields,
    Duration,
    FieldName,
    FieldValue,
    Items,
    Name,
    RequestKeyText,
    Share,
    parse_request_key,
)


def parse_sticky(value: str) -> str:
    """What a split goes by: a request key, or `cookie` for one that the balancer sets."""
    return value if value == "cookie" else parse_request_key(value)


FinalStatus = Annotated[int, Field(ge=200, le=599)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]


class Redirect(Model):
    """The answer that names another place."""

    to: Place = Field(
        description="A path or address; `{host}`, `{path}`, `{rest}`, `{id}`, `{1}` are filled in."
    )
    status: Literal[301, 302, 303, 307, 308] = 308
    keep_path: bool = Field(
        default=False, description="What the path has beyond the route's prefix is appended."
    )
    keep_query: bool = Field(default=True, description="The query is appended.")


class Respond(Model):
    """A fixed answer."""

    status: FinalStatus = 200
    content_type: FieldValue = "text/plain; charset=utf-8"
    headers: AddedFields = Field(default_factory=dict)
    body: Annotated[str, Field(max_length=1024 * 1024)] = ""


class When(Model):
    """Requests that go one way of a split whatever the weights; all that is given must hold."""

    headers: dict[FieldName, ValueMatch] = Field(default_factory=dict)
    query: dict[str, ValueMatch] = Field(default_factory=dict)
    cookies: dict[CookieName, ValueMatch] = Field(default_factory=dict)


class Arm(Model):
    """One way of a split."""

    pool: Name
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1, description="Its share of the sum of all weights."
    )
    when: When | None = Field(
        default=None, description="Requests that go this way whatever the weights."
    )


StickyKey = Annotated[RequestKeyText | str, AfterValidator(parse_sticky)]


class Rewrite(Model):
    """What a backend is asked for instead of what the client asked. The query stays."""

    strip_prefix: Place | None = Field(
        default=None, description="Taken off the path; the beginning of `match.path`."
    )
    path: Place | None = Field(
        default=None, description="The path; `{rest}`, `{id}`, `{1}` and others are filled in."
    )
    regex: Pattern | None = Field(
        default=None, description="For all of the path; `{1}` in `path` are its groups."
    )
    host: RouteHost | None = Field(default=None, description="Sent as `Host`.")

    @model_validator(mode="after")
    def _fits(self) -> Rewrite:
        if self.strip_prefix is not None and self.path is not None:
            raise ValueError("strip_prefix and path exclude each other; `{rest}` does both")
        if self.regex is not None and self.path is None:
            raise ValueError("regex needs path, which says what becomes of it")
        if self.strip_prefix is None and self.path is None and self.host is None:
            raise ValueError("expected strip_prefix, path or host")
        return self


class Mirror(Model):
    """A copy of some requests for a pool whose answers nobody sees."""

    pool: Name
    share: Share = Field(default=1.0, description="Of the requests.")
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="Copies under way at once in one worker; more are left out."
    )
    timeout: Annotated[Duration, Field(ge=0.001)] = Field(default=30.0, description="Of one copy.")


Percentile = Annotated[str, Field(pattern=r"^p[0-9]{1,2}(\.[0-9]{1,2})?$")]


class Hedge(Model):
    """A slow request is sent to another backend as well; the first good answer wins."""

    after: Annotated[Duration, Field(ge=0.001, le=3600)] | Percentile = Field(
        description="How long the response head is waited for before each further try: a time, or "
        "a percentile of what it took of late, such as p95."
    )
    max: Annotated[int, Field(ge=0, le=5)] = Field(
        default=1, description="Further tries of one request."
    )
    budget: Share = Field(
        default=0.1, description="Further tries as a share of the requests that may have one."
    )


class Delay(Model):
    """A wait put in on purpose."""

    duration: Annotated[Duration, Field(ge=0.001, le=60)]
    share: Share = 1.0


class Abort(Model):
    """An error put in on purpose."""

    status: FinalStatus = 503
    share: Share = 1.0


class Fault(Model):
    """Faults put in on purpose, to see how those who call bear them."""

    delay: Delay | None = None
    abort: Abort | None = None


class Sticky(Model):
    """Sessions stay with a backend by a cookie that only the balancer can make."""

    cookie: CookieName = "lb"
    ttl: Annotated[Duration, Field(le=400 * 86400)] = Field(
        default=0.0, description="From the first answer; 0 is until the browser closes."
    )


Arms = Annotated[Items[Arm], Field(min_length=1, max_length=64)]
