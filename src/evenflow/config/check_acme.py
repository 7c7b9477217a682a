"""Whether a certificate that is ordered can be: one source, names once, a listener that proves them."""

from __future__ import annotations

from collections.abc import Iterator

from .acme import Acme
from .expand import main_listener
from .models import Config, Listener
from .problems import Problem
from .tls import Certificate


def acme_problems(
    config: Config, path: str, certificate: Certificate, acme: Acme
) -> Iterator[Problem]:
    """Every contradiction of one certificate's `acme`."""
    for name in Certificate.model_fields:
        if name != "acme" and getattr(certificate, name):
            text = "cannot go with `acme`, which orders the certificate; keep one of them"
            yield Problem(f"{path}.{name}", text)
    below = f"{path}.acme"
    for at, domain in enumerate(acme.domains):
        if (first := acme.domains.index(domain)) < at:
            text = f"{domain!r} is given twice, first at {below}.domains[{first}]"
            yield Problem(f"{below}.domains[{at}]", text)
    if acme.staging and acme.directory is not None:
        yield Problem(f"{below}.staging", "is Let's Encrypt's; it cannot go with `directory`")
    if acme.external_account is not None and not acme.external_account.hmac_key.hidden:
        try:
            acme.external_account.mac_key()
        except ValueError as error:
            yield Problem(f"{below}.external_account.hmac_key", str(error))
    yield from _provable(config, f"{below}.challenge", acme)


def _provable(config: Config, path: str, acme: Acme) -> Iterator[Problem]:
    """A problem where no listener can answer the authority's questions."""
    listeners = config.listeners or (main_listener(config),)
    if acme.challenge == "http-01":
        server = config.server.tls
        if any(each.protocol == "http" and each.tls is None for each in listeners) or (
            not config.listeners and server is not None and server.redirect_http is not None
        ):
            return
        missing = "one for port 80" if config.listeners else "`server.tls.redirect_http: 80`"
        text = (
            "http-01 is answered on an HTTP listener without TLS, and there is none; add "
            f"{missing}, or take tls-alpn-01"
        )
        yield Problem(path, text)
    elif not any(map(answers_tls_alpn, listeners)):
        text = (
            "tls-alpn-01 is answered on an HTTP listener with TLS that does not require client "
            "certificates, and there is none; add one for port 443, or take http-01"
        )
        yield Problem(path, text)


def answers_tls_alpn(listener: Listener) -> bool:
    """Whether a listener can prove names by tls-alpn-01 (RFC 8737)."""
    tls = listener.tls
    if tls is None or tls.passthrough or tls.client_auth.mode == "required":
        return False
    # Where no protocol is negotiated otherwise, offering this one would turn others away.
    return listener.protocol == "http" or (listener.protocol == "tcp" and bool(tls.alpn))
