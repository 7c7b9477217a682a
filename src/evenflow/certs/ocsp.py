"""An OCSP response: whether it is one for this certificate, and until when it may be stapled.

Its signature is left to the clients, who know the roots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .moment import day

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509 import ocsp

_LATE = 0.75
"""The part of a response's time after which a new one is overdue."""
_AHEAD_S = 300.0
"""How far the responder's clock may be ahead."""


@dataclass(frozen=True, slots=True)
class Staple:
    """A response for one certificate. Times are Unix seconds."""

    response: bytes
    since: float
    until: float
    """Infinite where the response names no end."""
    problem: str | None = None
    """Why it is not stapled, whatever the time."""

    def fault(self, now: float) -> str | None:
        """Why it is not stapled now."""
        if self.problem is not None:
            return self.problem
        if now >= self.until:
            return f"the OCSP response held until {day(self.until)}"
        if now < self.since - _AHEAD_S:
            return f"the OCSP response holds from {day(self.since)} only"
        return None

    def late(self, now: float) -> bool:
        """Whether a new one should have come by now."""
        return now >= self.since + (self.until - self.since) * _LATE


def read_staple(response: bytes, leaf: x509.Certificate) -> Staple:
    """Reads a response in DER; ValueError where it is none, or no successful one."""
    from cryptography.x509 import ocsp

    try:
        read = ocsp.load_der_ocsp_response(response)
    except ValueError:
        raise ValueError("is no OCSP response in DER") from None
    if read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(f"says {read.response_status.name.lower()}")
    single = next((each for each in read.responses if _about(each, leaf)), None)
    if single is None:
        text = "the OCSP response is for another certificate"
        return Staple(response, 0.0, math.inf, text)
    end = single.next_update_utc
    return Staple(
        response,
        single.this_update_utc.timestamp(),
        end.timestamp() if end is not None else math.inf,
        None
        if single.certificate_status is ocsp.OCSPCertStatus.GOOD
        else f"the OCSP response says {single.certificate_status.name.lower()}",
    )


def _about(single: ocsp.OCSPSingleResponse, leaf: x509.Certificate) -> bool:
    from cryptography.hazmat.primitives import hashes

    if single.serial_number != leaf.serial_number:
        return False
    digest = hashes.Hash(single.hash_algorithm)
    digest.update(leaf.issuer.public_bytes())
    return digest.finalize() == single.issuer_name_hash
