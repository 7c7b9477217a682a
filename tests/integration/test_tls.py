"""TLS towards clients: certificates by name, versions, client certificates, resumption, renewal."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509.oid import NameOID

from evenflow.testing import Load, document, free_port, wait_for
from evenflow.testing.authority import Authority, Issued
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


def connect(
    port: int, name: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise


def ask(
    stream: ssl.SSLSocket, host: str = "site.test", *headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Makes one request on an open connection."""
    lines = ["GET / HTTP/1.1", f"Host: {host}", *headers, "", ""]
    stream.sendall("\r\n".join(lines).encode())
    answer = HTTPResponse(stream)
    answer.begin()
    return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()


def shown(port: int, name: str, context: ssl.SSLContext) -> str:
    """The fingerprint of the certificate shown for a name."""
    with connect(port, name, context) as stream:
        certificate = stream.getpeercert(binary_form=True)
        assert certificate is not None
        return hashlib.sha256(certificate).hexdigest()


def encrypted(
    backend: str,
    plain: int,
    port: int,
    certificates: dict[str, Issued],
    tls: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, object]:
    """A configuration with a plain listener for the API, and one with TLS."""
    return document(
        {"id": "a", "url": backend},
        listeners=[
            {"name": "plain", "address": f"127.0.0.1:{plain}"},
            {
                "name": "web",
                "address": f"127.0.0.1:{port}",
                "tls": {"certificates": list(certificates), **(tls or {})},
            },
        ],
        certificates={
            name: {"cert_file": str(each.cert), "key_file": str(each.key)}
            for name, each in certificates.items()
        },
        **more,
    )


class Running:
    """A balancer with a TLS listener."""

    def __init__(self, balancer: EvenflowProcess, port: int) -> None:
        self.balancer = balancer
        self.port = port

    def handshakes(self, result: str) -> float:
        name = f'evenflow_tls_handshakes_total{{listener="web",result="{result}"}}'
        return self.balancer.metrics().get(name, 0)


@pytest.fixture
def start(evenflow: StartEvenflow, origins: StartOrigins) -> Any:
    def start(
        certificates: dict[str, Issued], tls: dict[str, Any] | None = None, **more: Any
    ) -> Running:
        (origin,) = origins("a")
        plain, port = free_port(), free_port()
        text = encrypted(origin.url, plain, port, certificates, tls, **more)
        running = Running(evenflow(text, port=plain, hand_over_port=False), port)
        running.origin = origin  # type: ignore[attr-defined]
        return running

    return start


@contextmanager
def refused() -> Iterator[None]:
    """The handshake fails, or (TLS 1.3) the first read after it."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        yield


def test_the_certificate_is_chosen_by_name(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site = authority.issue("site.test", "www.site.test")
    wild = authority.issue("*.wild.test")
    running = start({"site": site, "wild": wild})
    anyone = authority.client_context()
    anyone.check_hostname = False
    for name, expected in (
        ("site.test", site),
        ("WWW.site.test", site),
        ("a.wild.test", wild),
        ("a.b.wild.test", site),
        ("other.test", site),
    ):
        assert shown(running.port, name, anyone) == expected.fingerprint, name
    with connect(running.port, "site.test", authority.client_context()) as stream:
        assert ask(stream)[0] == 200
        assert ask(stream)[2] == b"a\n"
    (request, *_) = running.origin.requests
    assert request.head.all("x-forwarded-proto") == ["https"]


def test_cookies_set_over_tls_never_travel_without_it(
    start: Any, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    (origin,) = origins("b")
    backends = [{"id": "b", "url": origin.url}]
    running = start(
        {"site": authority.issue("site.test")},
        pools=[{"name": "p", "sticky": {"cookie": "lb"}, "backends": backends}],
        routes=[
            {
                "name": "r",
                "match": {"host": "site.test"},
                "split": [{"pool": "p", "weight": 1}],
                "sticky": "cookie",
            }
        ],
        server={"trusted_proxies": ["127.0.0.2"]},
    )

    def cookies(stream: socket.socket, more: bytes = b"") -> list[str]:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\n" + more + b"\r\n")
        answer = HTTPResponse(stream)
        answer.begin()
        return answer.headers.get_all("set-cookie", [])

    with connect(running.port, "site.test", authority.client_context()) as stream:
        over_tls = cookies(stream)
    with socket.create_connection(("127.0.0.1", running.balancer.port), timeout=10) as plain:
        in_clear = cookies(plain)
        claimed = cookies(plain, b"X-Forwarded-Proto: https\r\n")
    port = running.balancer.port
    with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)) as proxy:
        behind_proxy = cookies(proxy, b"X-Forwarded-Proto: https\r\n")
    assert len(over_tls) == len(in_clear) == len(claimed) == len(behind_proxy) == 2
    assert ["; Secure" in line for line in behind_proxy] == [True, True], behind_proxy
    assert ["; Secure" in line for line in claimed] == [False, False], claimed
    assert ["; Secure" in line for line in over_tls] == [True, True], over_tls
    assert ["; Secure" in line for line in in_clear] == [False, False], in_clear


def test_rsa_and_ecdsa_of_one_name_serve_together(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    rsa = authority.issue("site.test", file="rsa", kind="rsa")
    ecdsa = authority.issue("site.test", file="ecdsa")
    running = start({"rsa": rsa, "ecdsa": ecdsa})
    for ciphers, expected in (("ECDHE-RSA-AES128-GCM-SHA256", rsa), ("ECDHE+ECDSA", ecdsa)):
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        assert shown(running.port, "site.test", context) == expected.fingerprint
    assert shown(running.port, "site.test", authority.client_context()) == ecdsa.fingerprint


def test_versions_below_the_lowest_are_refused(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")}, {"profile": "modern"})
    old = authority.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with refused():
        connect(running.port, "site.test", old)
    new = authority.client_context()
    new.set_alpn_protocols(["h2", "http/1.1"])
    with connect(running.port, "site.test", new) as stream:
        assert stream.version() == "TLSv1.3"
        assert stream.selected_alpn_protocol() == "h2"
    wait_for(lambda: running.handshakes("version") == 1, "the refusal in the metrics")
    assert running.handshakes("full") >= 1


def test_sessions_go_on_whichever_worker_takes_them(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")}, server={"workers": 2})
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.client_context()
        context.minimum_version = context.maximum_version = version
        with connect(running.port, "site.test", context) as stream:
            ask(stream)
            session = stream.session
        resumed = 0
        for _ in range(12):
            with connect(running.port, "site.test", context, session) as stream:
                resumed += bool(stream.session_reused)
                ask(stream)
                session = stream.session
        assert resumed == 12, version


def test_a_renewed_certificate_is_taken_up_without_a_failed_request(
    start: Any, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    site = authority.issue("site.test")
    running = start({"site": site})
    context = authority.client_context()
    with (
        Load(running.port, connections=2, tls=context, host="site.test") as kept,
        Load(
            running.port, connections=2, tls=context, host="site.test", requests_per_connection=3
        ) as renewed,
    ):
        for _ in range(3):
            site = authority.issue("site.test")
            wait_for(
                lambda s=site: shown(running.port, "site.test", context) == s.fingerprint,  # type: ignore[misc]
                "the new certificate being shown",
            )
            renewed.wait_for_more(5)
        kept.wait_for_more(5)
    kept.expect_no_failure()
    renewed.expect_no_failure()
    (status,) = running.balancer.api("GET", "/admin/certificates")["certificates"]
    assert status["fingerprint"] == site.fingerprint
    assert status["domains"] == ["site.test"]


def test_a_broken_pair_is_refused_and_the_old_one_serves_on(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site = authority.issue("site.test")
    running = start({"site": site})
    context = authority.client_context()
    good = site.key.read_bytes()
    authority.issue("site.test", file="another")
    site.key.write_bytes((tmp_path / "another.key").read_bytes())
    said = f"{site.key}: does not belong to the certificate"
    wait_for(lambda: said in running.balancer.output(), "the refusal in the log")
    assert shown(running.port, "site.test", context) == site.fingerprint
    site.key.write_bytes(good)
    for problem, days in (("expired", -1.0), ("", 5.0)):
        site = authority.issue("site.test", days=days)
        if problem:
            wait_for(lambda: "the certificate expired at" in running.balancer.output(), problem)
            assert shown(running.port, "site.test", context) != site.fingerprint
        else:
            wait_for(
                lambda s=site: shown(running.port, "site.test", context) == s.fingerprint,  # type: ignore[misc]
                "the good certificate",
            )
    # A warning, since it has but five days left.
    wait_for(lambda: "certificate expires soon" in running.balancer.output(), "the warning")
    private = site.key.read_text().splitlines()[1]
    assert private not in running.balancer.output()
    assert private not in str(running.balancer.api("GET", "/admin/config"))
    metrics = running.balancer.metrics()
    expiry = metrics['evenflow_certificate_expiry_timestamp_seconds{name="site"}']
    assert expiry == site.certificate.not_valid_after_utc.timestamp()


def test_client_certificates_are_asked_for_and_told_to_backends(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    clients = Authority(tmp_path, "clients")
    subject = ((NameOID.ORGANIZATION_NAME, "Käse, Inc."), (NameOID.COMMON_NAME, "alice"))
    alice = clients.issue("alice", subject=subject)
    mallory = clients.issue("mallory")
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    crl = clients.revoke(mallory)
    running = start(
        {"site": authority.issue("site.test")},
        {"client_auth": {"mode": "required", "ca_file": str(clients.ca), "crl_file": str(crl)}},
    )
    forged = ("X-Client-Cert-Subject: CN=admin", "x-client-cert-fingerprint: 00")
    with connect(running.port, "site.test", authority.client_context(alice)) as stream:
        assert ask(stream, "site.test", *forged)[0] == 200
    head = running.origin.requests[-1].head
    assert head.all("x-client-cert-subject") == ["CN=alice,O=K\\C3\\A4se\\, Inc."]
    assert head.all("x-client-cert-fingerprint") == [alice.fingerprint]
    for identity, result in (
        (None, "certificate_missing"),
        (mallory, "certificate_refused"),
        (stranger, "certificate_refused"),
    ):
        before = running.handshakes(result)
        with refused(), connect(running.port, "site.test", authority.client_context(identity)) as s:
            ask(s)
        wait_for(lambda r=result, b=before: running.handshakes(r) == b + 1, result)  # type: ignore[misc]
    # In the clear, and without a certificate, nobody can claim to be someone.
    assert running.balancer.request(headers=[("X-Client-Cert-Subject", "CN=admin")]).status == 200
    assert running.origin.requests[-1].head.all("x-client-cert-subject") == []


def test_a_revocation_list_that_becomes_overdue_is_told(start: Any, tmp_path: Path) -> None:
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    due = time.time() + 4
    crl = clients.revoke(due_in_days=4 / 86400)
    proof = {"mode": "optional", "ca_file": str(clients.ca), "crl_file": str(crl)}
    running = start({"site": authority.issue("site.test")}, {"client_auth": proof})
    name = (
        "evenflow_crl_next_update_timestamp_seconds"
        f'{{file="{crl}",issuer="CN=evenflow tests clients"}}'
    )
    assert abs(running.balancer.metrics()[name] - due) < 2

    def told() -> list[str]:
        found = running.balancer.api("GET", "/admin/decisions?kind=certificate")["decisions"]
        return [each["reason"] for each in found if each["event"] == "revocation list overdue"]

    wait_for(told, "the warning", describe=running.balancer.output)
    assert "a new list of CN=evenflow tests clients was due on" in told()[0]
    clients.revoke(due_in_days=3)
    running.balancer.wait_for_metric(name, due + 86400)
    assert len(told()) == 1


def test_an_optional_certificate_must_hold_if_there_is_one(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    alice = authority.issue("alice")
    running = start(
        {"site": authority.issue("site.test")},
        {"client_auth": {"mode": "optional", "ca_file": str(authority.ca)}},
    )
    for identity, subject in ((None, []), (alice, ["CN=alice"])):
        with connect(running.port, "site.test", authority.client_context(identity)) as stream:
            assert ask(stream)[0] == 200
        assert running.origin.requests[-1].head.all("x-client-cert-subject") == subject
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    with refused(), connect(running.port, "site.test", authority.client_context(stranger)) as s:
        ask(s)


def test_strict_transport_security_is_said_over_tls_only(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    field = "strict-transport-security"
    running = start(
        {"site": authority.issue("site.test")},
        security={"security_headers": {field: "max-age=60", "X-Frame-Options": "DENY"}},
    )
    with connect(running.port, "site.test", authority.client_context()) as stream:
        assert ask(stream)[1][field] == "max-age=60"
    plain = running.balancer.request()
    assert plain.head.all(field) == []
    assert plain.head.all("x-frame-options") == ["DENY"]


def test_large_bodies_pass_both_ways(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")})
    body = bytes(range(256)) * 4 * 1024 * 3
    running.origin.default = respond(200, body)
    with connect(running.port, "site.test", authority.client_context()) as stream:
        head = f"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {len(body)}\r\n\r\n"
        stream.sendall(head.encode() + body)
        answer = HTTPResponse(stream)
        answer.begin()
        assert answer.read() == body
    assert running.origin.requests[-1].body == body


def test_plain_http_on_a_tls_port_is_told_so(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")})
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
        answer = HTTPResponse(stream)
        answer.begin()
        assert answer.status == 400
        assert b"HTTPS" in answer.read()
    wait_for(lambda: running.handshakes("plain_text") == 1, "it being counted")


def test_a_handshake_has_to_be_over_in_time(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")}, server={"read_timeout": "300ms"})
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as stream:
        stream.sendall(b"\x16\x03\x01")
        assert stream.recv(10) == b""
    wait_for(lambda: running.handshakes("timeout") == 1, "it being counted")


def test_openssl_and_curl_agree(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")})
    at = f"127.0.0.1:{running.port}"
    shown = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            at,
            "-servername",
            "site.test",
            "-CAfile",
            str(authority.ca),
            "-verify_return_error",
            "-verify_hostname",
            "site.test",
        ],
        input=b"",
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert b"Verify return code: 0 (ok)" in shown.stdout
    fetched = subprocess.run(
        [
            "curl",
            "-sS",
            "--fail",
            "--cacert",
            str(authority.ca),
            "--resolve",
            f"site.test:{running.port}:127.0.0.1",
            f"https://site.test:{running.port}/",
        ],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert fetched.stdout == b"a\n"


def test_the_flat_form_encrypts_and_redirects(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    site = authority.issue("site.test")
    (a,) = origins("a")
    plain = free_port()
    context = authority.client_context()
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            server={
                "tls": {
                    "cert_file": str(site.cert),
                    "key_file": str(site.key),
                    "redirect_http": plain,
                }
            },
        ),
        ready=lambda: _answers(plain),
    )
    with connect(balancer.port, "site.test", context) as stream:
        assert ask(stream)[2] == b"a\n"
    with socket.create_connection(("127.0.0.1", plain), timeout=10) as raw:
        raw.sendall(b"POST /a?b=c HTTP/1.1\r\nHost: site.test:81\r\nContent-Length: 0\r\n\r\n")
        answer = HTTPResponse(raw)
        answer.begin()
        answer.read()
        assert answer.status == 308
        assert answer.getheader("location") == f"https://site.test:{balancer.port}/a?b=c"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_a_pair_that_does_not_fit_is_refused_at_the_start(
    evenflow: StartEvenflow, tmp_path: Path
) -> None:
    from evenflow.testing import run_evenflow

    authority = Authority(tmp_path)
    site, other = authority.issue("site.test"), authority.issue("other.test")
    file = tmp_path / "evenflow.json"
    text = encrypted(
        "http://127.0.0.1:1", 0, 0, {"site": Issued(site.cert, other.key, site.certificate)}
    )
    import json

    file.write_text(json.dumps(text))
    result = run_evenflow("check", str(file))
    assert result.returncode == 2
    said = result.stdout + result.stderr
    assert f"certificates.site.key_file: {other.key}: does not belong to the certificate" in said


def test_a_self_signed_certificate_for_trying_things_out(tmp_path: Path) -> None:
    from evenflow.testing import run_evenflow

    cert, key = tmp_path / "site.pem", tmp_path / "site.key"
    command = [
        "cert",
        "self-signed",
        "site.test",
        "127.0.0.1",
        "--cert",
        str(cert),
        "--key",
        str(key),
    ]
    assert run_evenflow(*command).returncode == 0
    assert key.stat().st_mode & 0o777 == 0o600
    ssl.create_default_context(cafile=str(cert)).load_cert_chain(cert, key)
    again = run_evenflow(*command)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_a_pair_put_over_the_api_is_shown_at_once(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site = authority.issue("site.test")
    running = start({"site": site})
    context = authority.client_context()
    new, other = authority.issue("site.test", file="new"), authority.issue("x.test", file="x")
    path = "/admin/certificates/site"
    wrong = {"cert": new.cert.read_text(), "key": other.key.read_text()}
    answer = running.balancer.api("PUT", path, wrong, expect=400)
    assert "does not belong" in str(answer)
    assert shown(running.port, "site.test", context) == site.fingerprint
    pair = {"cert": new.cert.read_text(), "key": new.key.read_text()}
    applied = running.balancer.api("PUT", path, pair)
    assert applied["certificate"]["fingerprint"] == new.fingerprint
    assert shown(running.port, "site.test", context) == new.fingerprint
    assert pair["key"].splitlines()[1] not in running.balancer.output()
    # What was acknowledged is on disk, and can be taken back.
    kept = running.balancer.api("GET", "/admin/config")["certificates"]["site"]
    assert Path(kept["key_file"]).stat().st_mode & 0o777 == 0o600
    running.balancer.api("POST", "/admin/config/rollback", {"revision": applied["revision"] - 1})
    assert shown(running.port, "site.test", context) == site.fingerprint


def test_a_certificate_is_added_used_and_removed_over_the_api(start: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = start({"site": authority.issue("site.test")})
    second = authority.issue("second.test")
    api = running.balancer.api
    pair = {"name": "second", "cert": second.cert.read_text(), "key": second.key.read_text()}
    added = api("POST", "/admin/certificates", pair, expect=201)
    assert added["certificate"]["fingerprint"] == second.fingerprint
    again = api("POST", "/admin/certificates", pair, expect=409)
    assert again["errors"][0]["path"] == "name"
    assert api("POST", "/admin/certificates", {"cert": "", "key": ""}, expect=400)
    listener = api("GET", "/admin/listeners/web")
    listener["tls"]["certificates"] = ["site", "second"]
    api("PUT", "/admin/listeners/web", listener)
    context = authority.client_context()
    assert shown(running.port, "second.test", context) == second.fingerprint

    used = api("DELETE", "/admin/certificates/second", expect=409)
    assert used["errors"][0]["path"] == "listeners[1].tls.certificates[1]"
    assert shown(running.port, "second.test", context) == second.fingerprint
    listener["tls"]["certificates"] = ["site"]
    api("PUT", "/admin/listeners/web", listener)
    removed = api("DELETE", "/admin/certificates/second")
    assert api("DELETE", "/admin/certificates/second", expect=404)
    names = [each["name"] for each in api("GET", "/admin/certificates")["certificates"]]
    assert names == ["site"]
    # The way back needs its files, which are still there.
    api("POST", "/admin/config/rollback", {"revision": removed["revision"] - 2})
    assert shown(running.port, "second.test", context) == second.fingerprint


def test_the_certificate_of_server_tls_is_not_removed_by_its_name(
    evenflow: StartEvenflow, tmp_path: Path
) -> None:
    Authority(tmp_path).issue("site.test", file="site")
    port, admin = free_port(), free_port()
    balancer = evenflow(
        {
            "server": {"tls": {"cert_file": "site.pem", "key_file": "site.key"}},
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "state": {"store": "memory"},
        },
        port=port,
        admin_port=admin,
        directory=tmp_path,
    )
    refused = balancer.api("DELETE", "/admin/certificates/server.tls", expect=409)
    assert refused["errors"][0]["path"] == "server.tls"
