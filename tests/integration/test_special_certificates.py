"""Certificates that vouch for themselves, and client certificates of X.509 version 1."""

from __future__ import annotations

import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from evenflow.certs import self_signed
from evenflow.testing import document, free_port, wait_for
from evenflow.testing.authority import Authority
from tests.conftest import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

Pair = tuple["Path", "Path"]


def own(folder: Path, name: str, *, days: int = 365) -> Pair:
    """The files of a certificate that vouches for itself."""
    cert, key = self_signed([name], days=days)
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_text(cert)
    files[1].write_text(key)
    return files


def openssl(*arguments: object) -> None:
    command = [program("openssl", "openssl"), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def version_1(folder: Path, ca: Pair, name: str = "old", days: int = 10) -> Pair:
    """The files of a certificate without extensions, signed by this authority."""
    key, asked, cert = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", asked)  # fmt: skip
    openssl("x509", "-req", "-in", asked, "-CA", ca[0], "-CAkey", ca[1], "-set_serial", "77",
            "-days", days, "-out", cert)  # fmt: skip
    read = x509.load_pem_x509_certificate(cert.read_bytes())
    if read.version is not x509.Version.v1:
        pytest.skip("this openssl makes no version 1 certificates")
    return cert, key


def authority(folder: Path) -> Pair:
    """The files of a root that signs with openssl."""
    key, cert = folder / "root.key", folder / "root.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=old root", "-days", "9",
            "-keyout", key, "-out", cert)  # fmt: skip
    return cert, key


def asking(
    evenflow: StartEvenflow, url: str, folder: Path, **proof: Any
) -> tuple[EvenflowProcess, Callable[..., bool]]:
    """A balancer that asks for client certificates, and whether it serves who shows one."""
    site = Authority(folder, "site")
    issued = site.issue("site.test", file="server")
    port = free_port()
    auth = {"mode": "required", **proof}
    tls = {"certificates": ["site"], "client_auth": auth}
    balancer = evenflow(
        document(
            url,
            listeners=[{"name": "tls", "address": f"127.0.0.1:{port}", "tls": tls}],
            certificates={"site": {"cert_file": str(issued.cert), "key_file": str(issued.key)}},
            logging={"level": "debug"},
        ),
        port=port,
        hand_over_port=False,
        ready=lambda: _listening(port),
    )

    def served(pair: Pair, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bool:
        context = site.client_context()
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(*pair)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
                context.wrap_socket(raw, server_hostname="site.test") as stream,
            ):
                stream.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
                return stream.recv(100).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    return balancer, served


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_backend_may_show_the_very_certificate_that_is_trusted(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    cert, key = own(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    (origin,) = origins("a", tls=context)
    pool = {
        "name": "p",
        "backends": [{"id": "a", "url": origin.url}],
        "tls": {"ca_file": str(cert)},
        "health_check": {"interval": "100ms"},
    }
    routes = [{"name": "r", "pool": "p"}]
    balancer = evenflow(document(pools=[pool], routes=routes))
    assert balancer.tally(3) == {"a": 3}
    up = 'evenflow_backend_up{pool="p",backend="a"}'
    wait_for(lambda: balancer.metrics()[up] == 1, "the health check")


@pytest.mark.parametrize("wrong", ["name", "another", "expired"])
def test_what_is_trusted_must_still_hold(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path, wrong: str
) -> None:
    name = "other.test" if wrong == "name" else "127.0.0.1"
    cert, key = own(tmp_path, name, days=0 if wrong == "expired" else 10)
    if wrong == "expired":
        _expire(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if wrong == "another":
        (tmp_path / "second").mkdir()
        cert, _ = own(tmp_path / "second", name)
    (origin,) = origins("a", tls=context)
    pool = {
        "name": "p",
        "backends": [{"id": "a", "url": origin.url}],
        "tls": {"ca_file": str(cert)},
    }
    routes = [{"name": "r", "pool": "p"}]
    off, debug = {"enabled": False}, {"level": "debug"}
    given = document(pools=[pool], routes=routes, health_check=off, logging=debug)
    balancer = evenflow(given)
    assert balancer.request().status == 502
    assert origin.requests == []
    reason = {"name": "name", "another": "certificate_refused", "expired": "expired"}[wrong]
    wait_for(lambda: "tls handshake failed" in balancer.output(), "the line in the log")
    line = next(text for text in balancer.output().splitlines() if "handshake failed" in text)
    assert f'"reason":"{reason}"' in line, line
    counter = f'evenflow_backend_tls_failures_total{{pool="p",backend="a",reason="{reason}"}}'
    assert balancer.metrics()[counter] >= 1


def _expire(cert: Path, key: Path) -> None:
    """Sign a certificate anew that ended yesterday."""
    old = x509.load_pem_x509_certificate(cert.read_bytes())
    private: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, private.public_key(), 5, yesterday - timedelta(days=9), yesterday
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    cert.write_bytes(
        builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )


def test_a_client_may_show_the_very_certificate_that_is_trusted(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    pair = own(tmp_path, "alice.test")
    balancer, served = asking(evenflow, origin.url, tmp_path, ca_file=str(pair[0]))
    assert served(pair), balancer.output()
    assert served(pair, ssl.TLSVersion.TLSv1_2)
    assert origin.requests[-1].header("x-client-cert-subject") == "CN=alice.test"
    (tmp_path / "second").mkdir()
    assert not served(own(tmp_path / "second", "alice.test"))


def test_a_version_1_client_certificate_is_taken_from_who_the_root_signed_it_for(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    root = authority(tmp_path)
    old = version_1(tmp_path, root)
    balancer, served = asking(evenflow, origin.url, tmp_path, ca_file=str(root[0]))
    assert served(old), balancer.output()
    assert served(old, ssl.TLSVersion.TLSv1_2)
    assert origin.requests[-1].header("x-client-cert-subject") == "CN=old"
    before = len(origin.requests)
    # Of an authority of the same name, expired, and issued by a version 1 certificate.
    second = tmp_path / "second"
    second.mkdir()
    assert not served(version_1(second, authority(second)))
    refused = '"reason":"certificate_refused"'
    wait_for(lambda: refused in balancer.output(), "the line in the log")
    (line,) = (text for text in balancer.output().splitlines() if refused in text)
    for part in ("tls handshake failed", '"listener":"tls"', '"peer":"127.0.0.1"', '"detail":'):
        assert part in line, line
    assert not served(version_1(second, root, "past", days=-1))
    below = version_1(second, old, "below")
    chain = second / "chain.pem"
    chain.write_bytes(below[0].read_bytes() + old[0].read_bytes())
    assert not served((chain, below[1]))
    assert len(origin.requests) == before


def test_a_revoked_version_1_certificate_is_refused(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    root = authority(tmp_path)
    revoked = version_1(tmp_path, root)
    signer: Any = serialization.load_pem_private_key(root[1].read_bytes(), None)
    issuer = x509.load_pem_x509_certificate(root[0].read_bytes())

    def listed(serial: int) -> str:
        now = datetime.now(UTC)
        entry = x509.RevokedCertificateBuilder(serial, now).build()
        built = (
            x509.CertificateRevocationListBuilder(issuer.subject, now, now + timedelta(days=1))
            .add_revoked_certificate(entry)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )
        file = tmp_path / f"{serial}.crl"
        file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        return str(file)

    for serial, expected in ((77, False), (78, True)):
        _, served = asking(
            evenflow, origin.url, tmp_path, ca_file=str(root[0]), crl_file=listed(serial)
        )
        assert served(revoked) is expected
