"""TLS in the plan: what was read from files, as listeners and pools need it."""

from __future__ import annotations

from evenflow.certs import Material
from evenflow.certs.acme.proofs import TlsProof
from evenflow.config import Config, Listener, Pool
from evenflow.config.check_acme import answers_tls_alpn

from . import document

_OFFERED = {"auto": ("h2", "http/1.1"), "h1": ("http/1.1",), "h2": ("h2",)}
"""To https backends, by the pool's protocol."""


def certificates(config: Config, material: Material) -> list[document.Certificate]:
    """The certificates that listeners show; those only shown to backends are in their pools."""
    shown = {
        name
        for listener in config.listeners
        if listener.tls is not None
        for name in listener.tls.certificates
    }
    return [
        {
            "name": name,
            "domains": list(pair.domains),
            "chain_pem": pair.chain_pem,
            "key_pem": pair.key_pem,
            "ocsp": list(material.stapled[name]) if name in material.stapled else None,
        }
        for name, pair in material.pairs.items()
        if name in shown
    ]


def listener_tls(listener: Listener, material: Material) -> document.ListenerTls | None:
    """A listener's TLS."""
    tls = listener.tls
    if tls is None or tls.passthrough:
        return None
    proof = tls.client_auth
    asked: document.ClientAuth | None = None
    if proof.mode != "off" and proof.ca_file is not None:
        asked = {
            "required": proof.mode == "required",
            "ca_pem": material.texts.get(proof.ca_file, ""),
            "crl_pem": material.texts.get(proof.crl_file, "") if proof.crl_file else "",
        }
    return {
        "certificates": list(tls.certificates),
        "min_version": tls.lowest_version,
        "alpn": list(tls.alpn or _spoken(listener)),
        "client_auth": asked,
        "proofs": [
            {"domain": proof.domain, "chain_pem": proof.chain_pem, "key_pem": proof.key_pem}
            for proof in material.proofs
            if isinstance(proof, TlsProof) and answers_tls_alpn(listener)
        ],
    }


def _spoken(listener: Listener) -> tuple[str, ...]:
    if listener.protocol != "http":
        return ()
    return ("h2", "http/1.1") if listener.http2 else ("http/1.1",)


def passthrough(listener: Listener) -> list[document.Passthrough]:
    """The pools of TLS clients that are not decrypted."""
    rules: list[document.Passthrough] = [
        {
            "server_names": list(rule.server_names) or ["*"],
            "alpn": list(rule.alpn),
            "pool": rule.pool,
        }
        for rule in listener.sni
    ]
    if not rules and listener.tls is not None and listener.tls.passthrough and listener.pool:
        # A look at what every client asks for, which must be TLS.
        rules.append({"server_names": ["*"], "alpn": [], "pool": listener.pool})
    return rules


def pool_tls(pool: Pool, material: Material) -> document.UpstreamTls | None:
    """How a pool's backends are encrypted to; None where none is."""
    if not any(backend.target.is_tls for backend in pool.backends):
        return None
    tls = pool.tls
    https = any(backend.target.scheme == "https" for backend in pool.backends)
    versions = _OFFERED[pool.protocol or "auto"]
    if tls is None:
        return {
            "verify": True,
            "ca_pem": None,
            "fingerprints": [],
            "server_name": None,
            "min_version": "1.2",
            "alpn": list(versions) if https else [],
            "client_cert": None,
        }
    shown = material.pairs.get(tls.client_cert) if tls.client_cert else None
    return {
        "verify": tls.verify,
        "ca_pem": material.texts.get(tls.ca_file, "") if tls.ca_file else None,
        "fingerprints": list(tls.fingerprint),
        "server_name": tls.server_name,
        "min_version": tls.min_version,
        "alpn": list(versions if https else tls.alpn),
        "client_cert": {"chain_pem": shown.chain_pem, "key_pem": shown.key_pem}
        if shown is not None
        else None,
    }
