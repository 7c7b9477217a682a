"""One answer over HTTP, bounded in time and size: for key sets, and for those who issue certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenflow.http_client import HttpError, request


class FetchError(Exception):
    """Why there is no answer, for people to read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of fields are in lower case, of several the last counts."""

    status: int
    fields: Mapping[str, str]
    body: bytes


async def fetch(url: str, *, timeout_s: float, max_bytes: int, ca_file: str | None = None) -> bytes:
    """What `url` answers with 200; raises `FetchError`. Follows no redirect."""
    accept = [("Accept", "application/jwk-set+json, application/json")]
    answer = await ask(
        "GET", url, fields=accept, timeout_s=timeout_s, max_bytes=max_bytes, ca_file=ca_file
    )
    if answer.status != 200:
        raise FetchError(f"expected status 200, got {answer.status}")
    return answer.body


async def ask(
    method: str,
    url: str,
    *,
    fields: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    timeout_s: float,
    max_bytes: int,
    ca_file: str | None = None,
) -> Answer:
    """What is answered, whatever its status; raises `FetchError`. Follows no redirect."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            request(url, fields, method=method, body=body, ca_file=ca_file) as response,
        ):
            content = await response.read(max_bytes)
            return Answer(response.status, response.headers, content)
    except TimeoutError:
        raise FetchError(f"no complete answer within {timeout_s:g} s") from None
    except HttpError as error:
        raise FetchError(str(error)) from None
