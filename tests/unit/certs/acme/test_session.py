"""Accounts and nonces: what is sent, and what is made of each answer."""

from __future__ import annotations

import pytest

from evenflow.certs.acme.jws import new_key
from evenflow.certs.acme.messages import AcmeError, Call, Reply
from evenflow.certs.acme.session import TRIES, AccountGone, Session, open_account
from evenflow.config.acme import Acme, ExternalAccount
from evenflow.config.types import Secret
from tests.unit.certs.acme.transcript import (
    CA,
    DIRECTORY,
    header,
    payload,
    problem,
    reply,
    run,
    session,
)

ACME = Acme(domains=("a.test",), directory=f"{CA}/dir", email="ops@a.test")
TERMS = {**DIRECTORY, "meta": {"termsOfService": f"{CA}/terms"}}


def test_an_account_is_opened_by_its_key_and_has_an_address_afterwards() -> None:
    new = Session(new_key())
    answers = iter(
        [reply(TERMS), reply(replay_nonce="first"), reply({}, 201, location=f"{CA}/account/7")]
    )
    terms, asked = run(open_account(new, ACME, f"{CA}/dir"), answers)
    assert (terms, new.kid) == (f"{CA}/terms", f"{CA}/account/7")
    directory, nonce, account = asked
    assert directory == Call("GET", f"{CA}/dir")
    assert nonce == Call("HEAD", f"{CA}/nonce")
    assert isinstance(account, Call)
    assert header(account)["nonce"] == "first"
    assert "jwk" in header(account)
    assert payload(account) == {"termsOfServiceAgreed": True, "contact": ["mailto:ops@a.test"]}
    # Known by now: only the directory is asked for.
    assert run(open_account(new, ACME, f"{CA}/dir"), iter([reply(TERMS)])) == (
        None,
        [Call("GET", f"{CA}/dir")],
    )


def test_an_external_account_is_bound() -> None:
    external = ExternalAccount(key_id="kid-1", hmac_key=Secret("c2VjcmV0"))
    acme = ACME.model_copy(update={"external_account": external})
    directory = {**DIRECTORY, "meta": {"externalAccountRequired": True}}
    answers = iter([reply(directory), reply(), reply({}, 201, location=f"{CA}/account/7")])
    _, asked = run(open_account(Session(new_key()), acme, f"{CA}/dir"), answers)
    account = asked[-1]
    assert isinstance(account, Call)
    assert payload(account)["externalAccountBinding"].keys() == {
        "protected",
        "payload",
        "signature",
    }
    with pytest.raises(AcmeError, match="external_account"):
        run(open_account(Session(new_key()), ACME, f"{CA}/dir"), iter([reply(directory)]))


def test_terms_that_are_not_agreed_to_open_no_account() -> None:
    acme = ACME.model_copy(update={"terms_agreed": False})
    with pytest.raises(AcmeError, match=f"terms_agreed.*{CA}/terms"):
        run(open_account(Session(new_key()), acme, f"{CA}/dir"), iter([reply(TERMS)]))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(200, {}, b"<html>"), "expected a JSON object"),
        (Reply(200, {}, b"[" * 100_000), "expected a JSON object"),
        (Reply(503, {}, b"down"), "status 503"),
        (reply({**DIRECTORY, "newOrder": "http://ca.test/order"}), "newOrder"),
        (reply({**DIRECTORY, "newOrder": "https://ca.test:x/"}), "newOrder"),
        (reply({"newNonce": f"{CA}/nonce"}), "newAccount"),
    ],
)
def test_a_directory_that_is_none_is_told(answer: Reply, said: str) -> None:
    with pytest.raises(AcmeError, match=said):
        run(open_account(Session(new_key()), ACME, f"{CA}/dir"), iter([answer]))


def test_a_refused_nonce_is_replaced_by_the_one_that_came_with_the_refusal() -> None:
    used = session()
    used.nonces.clear()
    used.nonces.append("old")
    answers = iter([problem("badNonce", replay_nonce="new"), reply({"a": 1}, replay_nonce="next")])
    result, asked = run(used.post(f"{CA}/order", {}), answers)
    assert result.document() == {"a": 1}
    assert [header(call)["nonce"] for call in asked if isinstance(call, Call)] == ["old", "new"]
    assert list(used.nonces) == ["next"]


def test_refusals_of_nonces_have_an_end() -> None:
    with pytest.raises(AcmeError, match="every nonce") as caught:
        run(session().post(f"{CA}/order", {}), lambda _: problem("badNonce"))
    assert caught.value.kind == "badNonce"
    assert TRIES < 10


@pytest.mark.parametrize("nonce", ["", "a b", "x" * 1000, "a\r\nb"])
def test_what_is_no_nonce_is_not_sent(nonce: str) -> None:
    used = session()
    used.nonces.clear()
    with pytest.raises(AcmeError, match="gave no nonce") as caught:
        run(used.post(f"{CA}/order", {}), iter([reply(replay_nonce=nonce, retry_after="60")]))
    assert caught.value.retry_after_s == 60


def test_a_refusal_is_told_with_its_parts_and_when_to_come_back() -> None:
    document = {
        "type": "urn:ietf:params:acme:error:rateLimited",
        "detail": "too many\ncertificates",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "no",
                "identifier": {"type": "dns", "value": "a.test"},
            }
        ],
    }
    with pytest.raises(AcmeError) as caught:
        run(session().post(f"{CA}/order", {}), iter([reply(document, 429, retry_after="3600")]))
    assert str(caught.value) == (
        "rateLimited: too many certificates; a.test: rejectedIdentifier: no"
    )
    assert (caught.value.kind, caught.value.retry_after_s) == ("rateLimited", 3600)


def test_an_account_that_is_gone_is_told_apart() -> None:
    with pytest.raises(AccountGone):
        run(session().post(f"{CA}/order", {}), iter([problem("accountDoesNotExist")]))
