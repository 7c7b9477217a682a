"""OCSP responses, made by openssl and seen by openssl: stapled while they hold, never after."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp

from evenflow.testing import document, free_port, wait_for
from evenflow.testing.authority import Authority, Issued
from tests.conftest import program

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

_EXPIRY = 'evenflow_certificate_ocsp_expiry_timestamp_seconds{name="site"}'


class Responder:
    """`openssl ocsp` over the index of an authority."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._authority = authority
        self._folder = folder
        self.signer = authority.issue("responder.test")

    def answer(self, about: Issued, *, revoked: bool = False) -> bytes:
        """A response that holds for a day."""
        serial = f"{about.certificate.serial_number:X}"
        serial = serial.rjust(len(serial) + len(serial) % 2, "0")
        state, when = ("R", "250101000000Z") if revoked else ("V", "")
        index = self._folder / "index.txt"
        index.write_text(f"{state}\t490101000000Z\t{when}\t{serial}\tunknown\t/CN=x\n")
        request, response = self._folder / "request.der", self._folder / "response.der"
        ca = str(self._authority.ca)
        self._openssl("-issuer", ca, "-cert", str(about.cert), "-reqout", str(request))
        signed = ("-rsigner", str(self.signer.cert), "-rkey", str(self.signer.key))
        asked = ("-reqin", str(request), "-respout", str(response), "-ndays", "1")
        self._openssl("-index", str(index), "-CA", ca, *signed, *asked)
        return response.read_bytes()

    def short(self, about: Issued, seconds: int) -> bytes:
        """One that holds for seconds, which openssl cannot say."""
        root = x509.load_pem_x509_certificate(self._authority.ca.read_bytes())
        now = datetime.now(UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about.certificate,
            issuer=root,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + timedelta(seconds=seconds),
            revocation_time=None,
            revocation_reason=None,
        )
        key = load_pem_private_key(self.signer.key.read_bytes(), None)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, self.signer.certificate)
        return builder.sign(key, hashes.SHA256()).public_bytes(  # type: ignore[arg-type]
            Encoding.DER
        )

    def _openssl(self, *arguments: str) -> None:
        command = [program("openssl", "openssl"), "ocsp", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=20)


def seen(port: int) -> str | None:
    """The status that openssl finds stapled; None where nothing is."""
    command = [program("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}"]
    command += ["-servername", "site.test", "-status"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
    )
    if "OCSP response: no response sent" in done.stdout:
        return None
    assert "OCSP Response Status: successful" in done.stdout, done.stdout
    (status,) = (line for line in done.stdout.splitlines() if "Cert Status:" in line)
    return status.rpartition(" ")[2]


def shown(balancer: EvenflowProcess) -> dict[str, Any]:
    """What the API says of the certificate."""
    found: dict[str, Any] = balancer.api("GET", "/admin/certificates/site")
    return found


def test_ocsp_responses_are_stapled_while_they_hold(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    responder = Responder(authority, tmp_path)
    site, other = authority.issue("site.test"), authority.issue("other.test")
    file = tmp_path / "site.ocsp"
    file.write_bytes(responder.answer(site))
    (origin,) = origins("a")
    plain, port = free_port(), free_port()
    text = document(
        {"id": "a", "url": origin.url},
        listeners=[
            {"name": "plain", "address": f"127.0.0.1:{plain}"},
            {"name": "web", "address": f"127.0.0.1:{port}", "tls": {"certificates": ["site"]}},
        ],
        certificates={
            "site": {
                "cert_file": str(site.cert),
                "key_file": str(site.key),
                "ocsp_file": str(file),
            }
        },
    )
    balancer = evenflow(text, port=plain, hand_over_port=False)

    def put(response: bytes) -> None:
        draft = tmp_path / "draft"
        draft.write_bytes(response)
        draft.replace(file)

    assert seen(port) == "good"
    assert shown(balancer)["ocsp_problem"] is None
    assert shown(balancer)["ocsp_until"] is not None
    assert balancer.metrics()[_EXPIRY] > datetime.now(UTC).timestamp()

    # Another certificate's answer, and one that would turn every client away.
    put(responder.answer(other))
    wait_for(lambda: seen(port) is None, "the other's response to be left out")
    assert "another certificate" in shown(balancer)["ocsp_problem"]
    assert _EXPIRY not in balancer.metrics()
    put(responder.answer(site, revoked=True))
    wait_for(lambda: "revoked" in (shown(balancer)["ocsp_problem"] or ""), "the revocation")
    assert seen(port) is None

    # It ends while it is in force: there is a warning before, and then it is gone by itself.
    put(responder.short(site, 6))
    wait_for(lambda: seen(port) == "good", "the short response")
    wait_for(lambda: "OCSP response ends soon" in balancer.output(), "the warning")
    wait_for(lambda: seen(port) is None, "the end of the response")
    assert "held until" in shown(balancer)["ocsp_problem"]
    assert "nothing is stapled" in balancer.output()

    # What is no response at all is refused; a good one is taken up again.
    put(b"none")
    wait_for(lambda: "is no OCSP response in DER" in balancer.output(), "the refusal")
    put(responder.answer(site))
    wait_for(lambda: seen(port) == "good", "the new response")
