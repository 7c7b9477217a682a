"""An order's decisions, as transcripts: what was answered, and what is done next."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from evenflow.certs import read_pair
from evenflow.certs.acme.jws import key_authorization
from evenflow.certs.acme.messages import AcmeError, Call, Pause, Reply, Show
from evenflow.certs.acme.order import LONGEST_PAUSE_S, PATIENCE_S, Wanted, obtain
from evenflow.certs.acme.proofs import HttpProof, TlsProof
from evenflow.certs.acme.session import Session
from tests.unit.certs.acme.transcript import CA, payload, problem, reply, run, session

TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"


class Authority:
    """Answers as RFC 8555 has it; a test changes what it is about."""

    def __init__(self, *domains: str, authorized: str = "pending") -> None:
        self.domains = domains
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.status = "pending" if authorized == "pending" else "ready"
        self.authorized = dict.fromkeys(domains, authorized)
        self.chain = b""
        self.challenges: list[dict[str, Any]] = [
            {"type": kind, "url": f"{CA}/challenge/{kind}", "token": TOKEN, "status": "pending"}
            for kind in ("dns-01", "http-01", "tls-alpn-01")
        ]
        self.looks: Callable[[str], str] = lambda _: "valid"
        self.waits = 0
        self.changes: dict[str, Reply] = {}

    def __call__(self, call: Call) -> Reply:
        path = call.url.removeprefix(CA)
        if path in self.changes:
            return self.changes[path]
        match path.split("/")[1:]:
            case ["order"]:
                return reply(self.order(), 201, location=f"{CA}/order/1")
            case ["order", _]:
                if self.waits and self.status == "valid":
                    self.waits -= 1
                    return reply({**self.order(), "status": "processing"}, retry_after="3")
                return reply(self.order())
            case ["authorization", domain]:
                return reply(self.authorization(domain))
            case ["challenge", kind]:
                assert payload(call) == {}
                for domain in self.domains:
                    self.authorized[domain] = self.looks(domain)
                if set(self.authorized.values()) == {"valid"}:
                    self.status = "ready"
                return reply({"type": kind, "status": "processing"})
            case ["finalize", _]:
                self.issue(payload(call)["csr"])
                self.status = "valid"
                return reply({**self.order(), "status": "processing" if self.waits else "valid"})
            case ["certificate", _]:
                assert call.accept == "application/pem-certificate-chain"
                return Reply(200, {"replay-nonce": "fresh"}, self.chain)
            case _:
                raise AssertionError(path)

    def order(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "authorizations": [f"{CA}/authorization/{domain}" for domain in self.domains],
            "finalize": f"{CA}/finalize/1",
            "certificate": f"{CA}/certificate/1",
        }

    def authorization(self, domain: str) -> dict[str, Any]:
        identifier = {"type": "dns", "value": domain}
        status = self.authorized[domain]
        return {"identifier": identifier, "status": status, "challenges": self.challenges}

    def issue(self, csr: str) -> None:
        request = x509.load_der_x509_csr(base64.urlsafe_b64decode(csr + "==="))
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(names.get_values_for_type(x509.DNSName)) == set(self.domains)
        now = datetime.now(UTC)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(issuer)
            .public_key(request.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=90))
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.chain = certificate.public_bytes(Encoding.PEM)


def order(
    authority: Authority,
    *domains: str,
    challenge: Literal["http-01", "tls-alpn-01"] = "http-01",
    by: Session | None = None,
) -> tuple[tuple[str, str], list[Call | Show | Pause]]:
    return run(obtain(by or session(), Wanted(domains or ("a.test",), challenge)), authority)


def paths(asked: list[Call | Show | Pause]) -> list[str]:
    """What was done, in words."""
    return [
        each.url.removeprefix(CA) if isinstance(each, Call) else type(each).__name__.lower()
        for each in asked
    ]


def test_an_order_is_proven_finalized_and_fetched() -> None:
    (chain, key), asked = order(Authority("a.test", "b.test"), "a.test", "b.test")
    assert paths(asked) == [
        "/order",
        "/authorization/a.test",
        "/authorization/b.test",
        "show",
        "/challenge/http-01",
        "/challenge/http-01",
        "/authorization/a.test",
        "/authorization/b.test",
        "/order/1",
        "/finalize/1",
        "/certificate/1",
    ]
    assert read_pair("a", chain, key).domains == ("a.test", "b.test")


def test_what_is_proven_already_needs_no_proof() -> None:
    _, asked = order(Authority("a.test", authorized="valid"))
    assert paths(asked) == ["/order", "/finalize/1", "/certificate/1"]
    half = Authority("a.test", "b.test")
    half.authorized["a.test"] = "valid"
    _, asked = order(half, "a.test", "b.test")
    (shown,) = (each for each in asked if isinstance(each, Show))
    assert [proof.domain for proof in shown.proofs] == ["b.test"]


def test_a_page_shows_token_and_key() -> None:
    by = session()
    _, asked = order(Authority("a.test"), by=by)
    (shown,) = (each for each in asked if isinstance(each, Show))
    assert shown.proofs == (HttpProof("a.test", TOKEN, key_authorization(TOKEN, by.key)),)
    (proof,) = shown.proofs
    assert isinstance(proof, HttpProof)
    assert proof.path == f"/.well-known/acme-challenge/{TOKEN}"


def test_a_certificate_carries_the_hash_of_the_answer() -> None:
    by = session()
    _, asked = order(Authority("a.test"), challenge="tls-alpn-01", by=by)
    (shown,) = (each for each in asked if isinstance(each, Show))
    (proof,) = shown.proofs
    assert isinstance(proof, TlsProof)
    found = x509.load_pem_x509_certificate(proof.chain_pem.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test"]
    # RFC 8737 §3: critical, the SHA-256 as an octet string.
    identifier = found.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert identifier.critical
    assert isinstance(identifier.value, x509.UnrecognizedExtension)
    digest = hashlib.sha256(key_authorization(TOKEN, by.key).encode()).digest()
    assert identifier.value.value == b"\x04\x20" + digest
    assert proof.key_pem not in repr(proof)


def test_an_authority_that_takes_its_time_is_waited_for() -> None:
    slow = Authority("a.test")
    slow.waits = 2
    _, asked = order(slow)
    pauses = [each.seconds for each in asked if isinstance(each, Pause)]
    # As long as `Retry-After` asks.
    assert 3.0 in pauses


def test_an_authority_that_never_decides_is_given_up() -> None:
    stuck = Authority("a.test")
    stuck.looks = lambda _: "pending"
    asked: list[Call | Show | Pause] = []
    with pytest.raises(AcmeError, match="no verdict within"):
        run(obtain(session(), Wanted(("a.test",), "http-01")), stuck, asked)
    pauses = [each.seconds for each in asked if isinstance(each, Pause)]
    assert max(pauses) <= LONGEST_PAUSE_S
    assert PATIENCE_S <= sum(pauses) <= PATIENCE_S + LONGEST_PAUSE_S


def test_a_proof_that_was_not_found_is_told_in_the_authoritys_words() -> None:
    sceptic = Authority("a.test", "b.test")
    sceptic.looks = lambda domain: "invalid" if domain == "b.test" else "valid"
    sceptic.challenges[1]["error"] = {
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "Connection refused",
    }
    with pytest.raises(AcmeError) as caught:
        order(sceptic, "a.test", "b.test")
    assert str(caught.value) == "b.test: connection: Connection refused"
    assert caught.value.kind == "connection"


def _wrong(path: str, **members: Any) -> Authority:
    made = Authority("a.test")
    document = made.order() if path.startswith("/order") else made.authorization("a.test")
    made.changes[path] = reply({**document, **members}, location=f"{CA}/order/1")
    return made


def _challenges(**members: Any) -> list[dict[str, Any]]:
    return [{"type": "http-01", "url": f"{CA}/challenge/http-01", "token": TOKEN} | members]


@pytest.mark.parametrize(
    ("authority", "said"),
    [
        (_wrong("/order", status="invalid"), "the order is invalid"),
        (_wrong("/order", authorizations=[]), "no authorizations"),
        (_wrong("/order", authorizations=[f"{CA}/x"] * 9), "no authorizations"),
        (_wrong("/order", authorizations=["http://ca.test/x"]), "no https address"),
        (_wrong("/authorization/a.test", identifier={"value": "x.test"}), "not asked for"),
        (_wrong("/authorization/a.test", status="expired"), "a.test is expired"),
        (_wrong("/authorization/a.test", challenges=[]), "does not offer http-01, only nothing"),
        (
            _wrong("/authorization/a.test", challenges=_challenges(type="dns-01")),
            "a.test: the authority does not offer http-01, only dns-01",
        ),
        # A token becomes a path and part of a page.
        (_wrong("/authorization/a.test", challenges=_challenges(token="../a")), "token"),
        (_wrong("/authorization/a.test", challenges=_challenges(token="a\r\nb")), "token"),
        (_wrong("/authorization/a.test", challenges=_challenges(token=None)), "token"),
        (_wrong("/authorization/a.test", challenges=_challenges(url="file:///x")), "https"),
    ],
)
def test_answers_that_make_no_sense_end_the_order(authority: Authority, said: str) -> None:
    with pytest.raises(AcmeError, match=said):
        order(authority)


def test_a_certificate_for_something_else_is_not_taken() -> None:
    other = Authority("a.test", authorized="valid")

    def for_another_key(csr: str) -> None:
        (chain, _), _ = order(Authority("a.test", authorized="valid"))
        other.chain = chain.encode()

    other.issue = for_another_key  # type: ignore[method-assign]
    with pytest.raises(AcmeError, match="does not belong"):
        order(other)
    nothing = Authority("a.test", authorized="valid")
    nothing.issue = lambda csr: None  # type: ignore[method-assign]
    with pytest.raises(AcmeError, match="holds no certificate"):
        order(nothing)


def test_a_refused_order_is_told() -> None:
    refused = Authority("a.test")
    refused.changes["/order"] = problem("rejectedIdentifier", "forbidden by policy", 403)
    with pytest.raises(AcmeError, match="rejectedIdentifier: forbidden by policy"):
        order(refused)
