"""Whatever an authority answers, a procedure ends with a result or with a reason."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from evenflow.certs.acme.jws import new_key
from evenflow.certs.acme.messages import AcmeError, Call, Reply, Show, Steps
from evenflow.certs.acme.order import Wanted, obtain
from evenflow.certs.acme.session import Session, open_account
from evenflow.config.acme import Acme
from tests.unit.certs.acme.transcript import CA, DIRECTORY, run, session

# Made once: what is drawn is the answers.
KEY = new_key()
ACME = Acme(domains=("a.test",), directory=f"{CA}/dir")
MEMBERS = [
    "status",
    "authorizations",
    "finalize",
    "certificate",
    "identifier",
    "challenges",
    "type",
    "url",
    "token",
    "value",
    "error",
    "detail",
    "meta",
    *DIRECTORY,
]
TEXTS = st.sampled_from(
    ["pending", "ready", "valid", "processing", "invalid", "http-01", "a.test", f"{CA}/x", "T0k"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6)
    ),
    max_leaves=20,
)
# Likely documents, so that a run goes further than one step.
AUTHORIZATION = st.fixed_dictionaries(
    {
        "status": TEXTS,
        "identifier": st.just({"type": "dns", "value": "a.test"}) | VALUES,
        "challenges": st.lists(
            st.fixed_dictionaries(
                {"type": TEXTS, "url": TEXTS, "token": TEXTS | VALUES, "error": VALUES}
            ),
            max_size=2,
        )
        | VALUES,
    }
)
ORDER = st.fixed_dictionaries(
    {
        "status": TEXTS,
        "authorizations": st.lists(TEXTS, min_size=1, max_size=2) | VALUES,
        "finalize": TEXTS,
        "certificate": TEXTS,
    }
)
ANSWERS = st.builds(
    lambda status, document, location, again: Reply(
        status,
        {"replay-nonce": "fresh", "location": location, "retry-after": again},
        json.dumps(document).encode(),
    ),
    st.sampled_from([200, 200, 200, 200, 201, 400, 500]),
    ORDER | AUTHORIZATION | VALUES,
    st.sampled_from([f"{CA}/order/1", "", "/x"]),
    st.sampled_from(["", "0", "5", "soon"]),
)


class Enough(Exception):
    """No more answers."""


def settled(steps: Steps[Any], answers: list[Reply]) -> None:
    waiting = iter(answers)
    asked: list[Any] = []

    def answer(_: Call) -> Reply:
        found = next(waiting, None)
        if found is None:
            raise Enough
        return found

    with contextlib.suppress(AcmeError, Enough):
        run(steps, answer, asked)
    for each in asked:
        if isinstance(each, Call):
            assert each.url.startswith("https://")
        if isinstance(each, Show):
            assert {proof.domain for proof in each.proofs} == {"a.test"}


@settings(max_examples=100, deadline=None)
@given(st.lists(ANSWERS, max_size=12))
def test_an_order_ends_whatever_is_answered(answers: list[Reply]) -> None:
    settled(obtain(session(KEY), Wanted(("a.test",), "http-01")), answers)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANSWERS, max_size=4))
def test_an_account_is_opened_or_not_whatever_is_answered(answers: list[Reply]) -> None:
    settled(open_account(Session(KEY), ACME, f"{CA}/dir"), answers)
