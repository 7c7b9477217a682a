"""Whether the parts of a configuration that concern TLS make sense together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from .check_acme import acme_problems
from .expand import REDIRECT_LISTENER, SERVER_CERTIFICATE, by_scheme
from .models import Config, Listener
from .problems import Problem, hint
from .tls import Certificate, ListenerTls, TlsRules


def tls_problems(config: Config, *, stream_main: bool) -> Iterator[Problem]:
    """Every contradiction about TLS."""
    for name, certificate in config.certificates.items():
        path = f"certificates.{name}"
        if certificate.acme is None:
            yield from _certificate(path, certificate)
        else:
            yield from acme_problems(config, path, certificate, certificate.acme)
    yield from _server(config, stream_main=stream_main)
    for index, listener in enumerate(config.listeners):
        yield from _listener(f"listeners[{index}]", listener, config.certificates)
    yield from _pools(config)


def _certificate(path: str, certificate: Certificate) -> Iterator[Problem]:
    for part in ("cert", "key"):
        file, given = getattr(certificate, f"{part}_file"), getattr(certificate, part)
        if file is None and given is None:
            yield Problem(f"{path}.{part}_file", "is missing")
        elif file is not None and given is not None:
            yield Problem(f"{path}.{part}", f"is given here and in {part}_file; keep one of them")


def _server(config: Config, *, stream_main: bool) -> Iterator[Problem]:
    tls = config.server.tls
    if tls is None:
        return
    path = "server.tls"
    if config.listeners:
        yield Problem(path, "has no effect beside `listeners`; give these a `tls` of their own")
    elif stream_main and any(each.is_datagrams for each in by_scheme(config).values()):
        yield Problem(path, "works on connections only, not on udp")
    elif stream_main and tls.redirect_http is not None:
        yield Problem(f"{path}.redirect_http", "works on HTTP only; the port relays bytes here")
    if (tls.cert_file is None) != (tls.key_file is None):
        missing = "cert_file" if tls.cert_file is None else "key_file"
        yield Problem(f"{path}.{missing}", "is missing")
    if tls.cert_file is None and not tls.certificates:
        yield Problem(path, "needs cert_file and key_file, or names in certificates")
    if tls.cert_file is not None and SERVER_CERTIFICATE in config.certificates:
        text = "this name is taken by the certificate of `server.tls`"
        yield Problem(f"certificates.{SERVER_CERTIFICATE}", text)
    if tls.redirect_http is not None and any(
        REDIRECT_LISTENER in route.listeners for route in config.routes
    ):
        yield Problem(f"{path}.redirect_http", "serves no routes, but one names its listener")
    yield from _known(f"{path}.certificates", tls.certificates, config.certificates)
    yield from _rules(path, tls, http=not stream_main)


def _listener(path: str, listener: Listener, names: Collection[str]) -> Iterator[Problem]:
    if listener.redirect_https is not False:
        if listener.tls is not None:
            text = "goes with plain HTTP only; this listener speaks https itself"
            yield Problem(f"{path}.redirect_https", text)
        if listener.protocol != "http":
            yield Problem(f"{path}.redirect_https", "works on HTTP only")
    if listener.tls is None:
        return
    if listener.protocol == "udp":
        yield Problem(f"{path}.tls", "works on connections only, not on udp")
    if listener.tls.passthrough:
        yield from _passthrough(path, listener, listener.tls)
        return
    if not listener.tls.certificates:
        yield Problem(f"{path}.tls.certificates", "is missing; expected names in `certificates`")
    if listener.sni:
        text = "is for TLS that is not decrypted; this listener has certificates of its own"
        yield Problem(f"{path}.sni", text)
    yield from _known(f"{path}.tls.certificates", listener.tls.certificates, names)
    yield from _rules(f"{path}.tls", listener.tls, http=listener.protocol == "http")


def _passthrough(path: str, listener: Listener, tls: ListenerTls) -> Iterator[Problem]:
    if listener.protocol == "http":
        yield Problem(f"{path}.tls.passthrough", "is for tcp listeners, which do not decrypt")
    unused = ListenerTls(passthrough=True)
    for name in ListenerTls.model_fields:
        if getattr(tls, name) != getattr(unused, name):
            text = "has no effect with `passthrough: true`: TLS ends at the backends"
            yield Problem(f"{path}.tls.{name}", text)


def _rules(path: str, tls: TlsRules, *, http: bool) -> Iterator[Problem]:
    for at, protocol in enumerate(tls.alpn or ()):
        if http and protocol not in ("h2", "http/1.1"):
            text = f"expected h2 or http/1.1, which HTTP listeners speak, got {protocol!r}"
            yield Problem(f"{path}.alpn[{at}]", text)
    if tls.profile == "modern" and tls.min_version == "1.2":
        yield Problem(f"{path}.min_version", "the profile `modern` is TLS 1.3 only")
    proof = tls.client_auth
    if proof.mode != "off" and proof.ca_file is None:
        text = "is missing: nothing says which client certificates hold"
        yield Problem(f"{path}.client_auth.ca_file", text)
    if proof.mode == "off" and (proof.ca_file is not None or proof.crl_file is not None):
        text = "is off, so ca_file and crl_file have no effect"
        yield Problem(f"{path}.client_auth.mode", text)


def _pools(config: Config) -> Iterator[Problem]:
    for index, pool in enumerate(config.pools):
        path = f"pools[{index}].tls"
        if pool.tls is None:
            continue
        targets = by_scheme(pool)
        if targets and not any(target.is_tls for target in targets.values()):
            yield Problem(path, "has no effect: none of the backends has an https:// or tls:// URL")
        if pool.tls.alpn and "https" in targets:
            text = "is for tls:// backends; with https:// `protocol` says it"
            yield Problem(f"{path}.alpn", text)
        if not pool.tls.verify and (pool.tls.ca_file is not None or pool.tls.fingerprint):
            text = "is false, so ca_file and fingerprint would have no effect"
            yield Problem(f"{path}.verify", text)
        if pool.tls.ca_file is not None and pool.tls.fingerprint:
            text = "a pinned certificate is accepted whatever its roots; keep one of them"
            yield Problem(f"{path}.ca_file", text)
        if pool.tls.client_cert is not None:
            names = config.certificates
            yield from _known(f"{path}.client_cert", (pool.tls.client_cert,), names)


def _known(path: str, wanted: Sequence[str], names: Collection[str]) -> Iterator[Problem]:
    for at, name in enumerate(wanted):
        if name not in names:
            listed = sorted(names)
            choices = f"; there are: {', '.join(listed)}" if listed else "; there are none"
            place = path if path.endswith("client_cert") else f"{path}[{at}]"
            yield Problem(place, f"no certificate named {name!r}{hint(name, listed)}{choices}")
