"""OCSP responses made by `openssl ocsp`, as `openssl s_client` sees them stapled."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from evenflow.testing import document, free_port, wait_for
from evenflow.testing.authority import Authority, Issued
from tests.conftest import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow, StartOrigins


def openssl(*arguments: str) -> str:
    done = subprocess.run(
        [program("openssl", "openssl"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=arguments[0] == "ocsp",
    )
    return done.stdout


def answer(authority: Authority, folder: Path, about: Issued, *, revoked: bool = False) -> bytes:
    """What a responder over the authority's index says of a certificate, for a day."""
    serial = f"{about.certificate.serial_number:040X}"
    state, when = ("R", "250101000000Z") if revoked else ("V", "")
    index = folder / "index.txt"
    index.write_text(f"{state}\t490101000000Z\t{when}\t{serial}\tunknown\t/CN=x\n")
    signer = authority.issue("responder.test")
    request, response, ca = folder / "request.der", folder / "response.der", str(authority.ca)
    openssl("ocsp", "-issuer", ca, "-cert", str(about.cert), "-reqout", str(request))
    signed = ("-CA", ca, "-rsigner", str(signer.cert), "-rkey", str(signer.key))
    asked = ("-reqin", str(request), "-respout", str(response), "-ndays", "1")
    openssl("ocsp", "-index", str(index), *signed, *asked)
    return response.read_bytes()


def stapled(port: int) -> str | None:
    """The status that a client is shown with the certificate; None where it is shown none."""
    said = openssl(
        *("s_client", "-connect", f"127.0.0.1:{port}", "-servername", "site.test", "-status")
    )
    if "OCSP response: no response sent" in said:
        return None
    assert "OCSP Response Status: successful" in said, said
    (status,) = (line for line in said.splitlines() if "Cert Status:" in line)
    return status.rpartition(" ")[2]


def test_openssl_sees_what_openssl_answered(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    site, other = authority.issue("site.test"), authority.issue("other.test")
    (origin,) = origins("a")
    plain, port = free_port(), free_port()
    file = authority.staple(site, for_s=-60)
    text = document(
        {"id": "a", "url": origin.url},
        listeners=[
            {"name": "plain", "address": f"127.0.0.1:{plain}"},
            {"name": "web", "address": f"127.0.0.1:{port}", "tls": {"certificates": ["site"]}},
        ],
        certificates={
            "site": {"cert_file": str(site.cert), "key_file": str(site.key), "ocsp_file": str(file)}
        },
    )
    balancer = evenflow(text, port=plain, hand_over_port=False)
    assert stapled(port) is None
    assert "nothing is stapled" in balancer.output()

    file.write_bytes(answer(authority, tmp_path, site))
    wait_for(lambda: stapled(port) == "good", "the response to be taken up")

    # What says nothing of this certificate, or ill of it, is refused; the old one is shown on.
    file.write_bytes(answer(authority, tmp_path, other))
    wait_for(lambda: "is for another certificate" in balancer.output(), "the refusal")
    assert stapled(port) == "good"
    file.write_bytes(answer(authority, tmp_path, site, revoked=True))
    wait_for(lambda: "says that it is revoked" in balancer.output(), "the second refusal")
    assert stapled(port) == "good"
