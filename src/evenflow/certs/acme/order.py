"""An order from its first request to the certificate (RFC 8555 §7.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from evenflow.certs.pair import PairError, read_pair

from .jws import Key, base64url, key_authorization, key_pem, new_key
from .messages import (
    AcmeError,
    Pause,
    Reply,
    Show,
    Steps,
    checked_url,
    plain,
    problem_kind,
    problem_text,
    url_in,
)
from .proofs import HttpProof, Proof, tls_proof
from .session import Session

PATIENCE_S: Final = 300.0
"""How long an authority may take to look at proofs, and again to issue."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CHAIN: Final = "application/pem-certificate-chain"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate to be ordered."""

    domains: tuple[str, ...]
    challenge: Literal["http-01", "tls-alpn-01"]


def obtain(session: Session, wanted: Wanted) -> Steps[tuple[str, str]]:
    """Chain and key, in PEM, of a new certificate; raises `AcmeError`. The account must be open.

    Proofs that were asked to be shown are of no more use once this ends, however it ends.
    """
    identifiers = [{"type": "dns", "value": domain} for domain in wanted.domains]
    reply = yield from session.post(session.address("newOrder"), {"identifiers": identifiers})
    order_url = checked_url(reply.fields.get("location"), "location")
    order = reply.document()
    if order.get("status") == "pending":
        yield from _prove(session, wanted, order)
        order = yield from _settled(session, order_url, unlike=("pending",))
    key = new_key()
    if order.get("status") == "ready":
        csr = base64url(_request(key, wanted.domains))
        reply = yield from session.post(url_in(order, "finalize"), {"csr": csr})
        order = yield from _settled(session, order_url, unlike=("ready", "processing"), reply=reply)
    if order.get("status") != "valid":
        raise _failed("the order", order)
    reply = yield from session.read(url_in(order, "certificate"), accept=_CHAIN)
    return _checked(reply, key, wanted.domains), key_pem(key)


def _prove(session: Session, wanted: Wanted, order: Mapping[str, Any]) -> Steps[None]:
    """Show every proof that the authority still wants, and wait until it has looked."""
    listed = order.get("authorizations")
    if not isinstance(listed, list) or not 1 <= len(listed) <= 2 * len(wanted.domains):
        raise AcmeError("the authority's order names no authorizations that fit it")
    open_ones: dict[str, str] = {}
    proofs = list[Proof]()
    challenges = list[str]()
    for each in listed:
        url = checked_url(each, "authorizations")
        found = (yield from session.read(url)).document()
        domain = _domain(found, wanted)
        if found.get("status") == "valid":
            continue
        if found.get("status") != "pending":
            raise _failed(domain, found)
        challenge = _chosen(found, wanted, domain)
        open_ones[url] = domain
        proofs.append(_proof(session, wanted, domain, challenge))
        challenges.append(url_in(challenge, "url"))
    if proofs:
        yield Show(tuple(proofs))
    for challenge_url in challenges:
        yield from session.post(challenge_url, {})
    for url, domain in open_ones.items():
        found = yield from _settled(session, url, unlike=("pending",))
        if found.get("status") != "valid":
            raise _failed(domain, found)


def _domain(authorization: Mapping[str, Any], wanted: Wanted) -> str:
    identifier = authorization.get("identifier")
    name = identifier.get("value") if isinstance(identifier, dict) else None
    if not isinstance(name, str) or name.lower() not in wanted.domains:
        raise AcmeError("the authority wants a name proven that was not asked for")
    return name.lower()


def _chosen(authorization: Mapping[str, Any], wanted: Wanted, domain: str) -> Mapping[str, Any]:
    listed = authorization.get("challenges")
    offered = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    for each in offered:
        if each.get("type") == wanted.challenge:
            return each
    kinds = ", ".join(str(each.get("type")) for each in offered) or "nothing"
    text = f"{domain}: the authority does not offer {wanted.challenge}, only {kinds}"
    raise AcmeError(plain(text))


def _proof(session: Session, wanted: Wanted, domain: str, challenge: Mapping[str, Any]) -> Proof:
    token = challenge.get("token")
    # It becomes a path of ours, so nothing but what RFC 8555 §8.3 allows is taken.
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise AcmeError(f"{domain}: the authority's token is not one")
    answer = key_authorization(token, session.key)
    if wanted.challenge == "http-01":
        return HttpProof(domain, token, answer)
    return tls_proof(domain, answer)


def _settled(
    session: Session, url: str, *, unlike: tuple[str, ...], reply: Reply | None = None
) -> Steps[dict[str, Any]]:
    """An order or authorization once its status is another than these; raises `AcmeError`."""
    waited, pause = 0.0, FIRST_PAUSE_S
    while True:
        if reply is None:
            reply = yield from session.read(url)
        found = reply.document()
        if found.get("status") not in unlike:
            return found
        if waited >= PATIENCE_S:
            raise AcmeError(f"the authority came to no verdict within {PATIENCE_S:g} s")
        asked = reply.retry_after_s()
        seconds = min(pause if asked is None else max(asked, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        yield Pause(seconds)
        waited, pause, reply = waited + seconds, pause * 2, None


def _failed(what: str, found: Mapping[str, Any]) -> AcmeError:
    """Why an order or authorization is of no use."""
    problems = [found.get("error")]
    listed = found.get("challenges")
    if isinstance(listed, list):
        problems += [each.get("error") for each in listed if isinstance(each, dict)]
    for problem in problems:
        if text := problem_text(problem):
            return AcmeError(plain(f"{what}: {text}"), kind=problem_kind(problem))
    return AcmeError(plain(f"{what} is {found.get('status')}"))


def _request(key: Key, domains: tuple[str, ...]) -> bytes:
    """A request to certify the key for these names, in DER; the first is the subject's."""
    names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
    common = [x509.NameAttribute(x509.NameOID.COMMON_NAME, each) for each in domains[:1]]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(common if len(domains[0]) <= 64 else []))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def _checked(reply: Reply, key: Key, domains: tuple[str, ...]) -> str:
    """The chain, if it certifies the key for the names; raises `AcmeError`."""
    try:
        pair = read_pair("new", reply.body, key_pem(key))
    except PairError as error:
        raise AcmeError(f"the authority's certificate {error}") from None
    if missing := [domain for domain in domains if domain not in pair.domains]:
        raise AcmeError(f"the authority's certificate is not for {', '.join(missing)}")
    return pair.chain_pem
