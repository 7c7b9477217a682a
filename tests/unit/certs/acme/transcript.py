"""An authority made of prepared answers, for procedures that send nothing themselves."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from evenflow.certs.acme.jws import Key, new_key
from evenflow.certs.acme.messages import Call, Pause, Reply, Show, Steps
from evenflow.certs.acme.session import Session

T = TypeVar("T")

CA = "https://ca.test"
DIRECTORY = {
    "newNonce": f"{CA}/nonce",
    "newAccount": f"{CA}/account",
    "newOrder": f"{CA}/order",
}


def session(key: Key | None = None) -> Session:
    """An account that is open, with nonces enough."""
    made = Session(key or new_key(), f"{CA}/account/1", DIRECTORY)
    made.nonces.extend(f"nonce{number}" for number in range(16))
    return made


def reply(document: object = None, status: int = 200, **fields: str) -> Reply:
    """An answer in JSON; `retry_after` becomes `retry-after`."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    body = b"" if document is None else json.dumps(document).encode()
    return Reply(status, {"replay-nonce": "fresh", **named}, body)


def problem(kind: str, detail: str = "", status: int = 400, **fields: str) -> Reply:
    """An error as ACME tells it."""
    document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}
    return reply(document, status, **fields)


def payload(call: Call) -> Any:
    """What a signed request says; None where it only reads."""
    text = json.loads(call.body)["payload"]
    return json.loads(base64.urlsafe_b64decode(text + "===")) if text else None


def header(call: Call) -> Any:
    """The protected header of a signed request."""
    return json.loads(base64.urlsafe_b64decode(json.loads(call.body)["protected"] + "==="))


def run(
    steps: Steps[T],
    answers: Iterator[Reply] | Callable[[Call], Reply],
    asked: list[Call | Show | Pause] | None = None,
) -> tuple[T, list[Call | Show | Pause]]:
    """Carry a procedure through; its result and what it asked for, which is added to `asked`."""
    asked = [] if asked is None else asked
    answer: Reply | None = None
    while True:
        try:
            wanted = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result, asked
        asked.append(wanted)
        answer = None
        if isinstance(wanted, Call):
            answer = answers(wanted) if callable(answers) else next(answers)
