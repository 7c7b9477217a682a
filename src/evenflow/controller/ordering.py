"""Carries out what ACME's procedures ask for: sends, waits, has proofs shown. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from evenflow.certs.acme.messages import MAX_BYTES, AcmeError, Call, Pause, Reply, Show, Steps
from evenflow.certs.acme.proofs import Proof
from evenflow.config.acme import Acme
from evenflow.controller.fetch import FetchError, ask

ANSWER_TIMEOUT_S: Final = 30.0

T = TypeVar("T")

ShowProofs = Callable[[tuple[Proof, ...]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Issued:
    """What came of an order."""

    chain_pem: str
    key_pem: str


async def carry_out(steps: Steps[T], acme: Acme, show: ShowProofs) -> T:
    """What a procedure comes to; raises `AcmeError`, also where nobody could be reached."""
    reply: Reply | None = None
    while True:
        try:
            wanted = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        reply = None
        match wanted:
            case Call():
                reply = await _send(wanted, acme)
            case Show(proofs):
                await show(proofs)
            case Pause(seconds):
                await asyncio.sleep(seconds)


async def _send(call: Call, acme: Acme) -> Reply:
    fields = [("Accept", call.accept)]
    if call.body:
        fields.append(("Content-Type", "application/jose+json"))
    try:
        answer = await ask(
            call.method,
            call.url,
            fields=fields,
            body=call.body,
            timeout_s=ANSWER_TIMEOUT_S,
            max_bytes=MAX_BYTES,
            ca_file=acme.ca_file,
        )
    except FetchError as error:
        raise AcmeError(f"{call.url}: {error}") from None
    return Reply(answer.status, answer.fields, answer.body)
