"""A document with everything that the full form has: checked, served, and put back as printed."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evenflow.testing import EvenflowProcess, Origin, free_port, run_evenflow
from evenflow.testing.authority import Authority

DOCUMENT = """\
listeners:
  - name: web
    address: ["127.0.0.1:{port}", "unix:{folder}/web.sock"]
    protocol: http
    tls: {{certificates: [site], min_version: "1.2", client_auth: {{mode: optional, ca_file: ca.pem}}, passthrough: false}}
    http2: true
    proxy_protocol: {{accept: true, trusted: [10.0.0.0/8]}}
    filters: [edge]
    pool: null
  - {{name: plain, address: "127.0.0.1:{plain}"}}
  - {{name: database, address: "127.0.0.1:{tcp}", protocol: tcp, pool: database}}
certificates:
  site: {{cert_file: site.pem, key_file: site.key, domains: [example.org, "*.example.org"]}}
  auto: {{acme: {{domains: [example.com], email: ops@example.com, challenge: http-01, directory: "https://127.0.0.1:1/directory"}}}}
routes:
  - name: users
    match: {{host: api.example.org, path: "/users/*", methods: [GET, POST], headers: {{x-beta: "1"}}, query: {{}}, cookies: {{}}, client: []}}
    filters: [auth, limits]
    pool: users
    rewrite: {{strip_prefix: /users, host: null}}
    mirror: {{pool: shadow, share: 0.01}}
    timeout: 10s
    retries: {{max: 3, on: [connect, reset, 502, 503, 504], budget: 0.2, per_try_timeout: 2s}}
  - {{name: some, match: {{path: "/some/*"}}, split: [{{pool: users, weight: 95}}, {{pool: users-next, weight: 5}}], sticky: cookie}}
  - {{name: old, match: {{path: "/old/*"}}, redirect: {{to: "/new/", status: 308}}}}
pools:
  - name: users
    strategy: {{name: consistent_hash, key: "header:x-user", load_bound: 1.25}}
    protocol: auto
    health_check: {{kind: http, path: /ready, expect_status: [200-299], expect_body: ok, interval: 5s}}
    outlier: {{consecutive_errors: 5, base_ejection: 30s, max_ejected: 0.5}}
    breaker: {{error_rate: 0.5, window: 10s, min_requests: 20}}
    slow_start: 30s
    queue: {{max: 100, timeout: 1s}}
    sticky: {{cookie: lb, ttl: 1h}}
    panic: {{below: 0.3, mode: fail}}
    backends: [{{id: u1, url: "{origin}", weight: 100, labels: {{zone: a}}}}]
    discover: {{dns: "users.internal:8080", resolver: "127.0.0.1:1", every: 5s, timeout: 1s}}
  - {{name: users-next, strategy: round_robin, backends: [{{url: "{origin}"}}]}}
  - name: shadow
    tls: {{verify: true, ca_file: null, server_name: null, client_cert: null}}
    backends: [{{url: "https://127.0.0.1:1"}}]
  - {{name: database, backends: [{{url: "postgresql://127.0.0.1:1"}}]}}
filters:
  limits: {{rate_limit: {{key: client_ip, requests_per_second: 100, burst_size: 200, scope: fleet}}}}
  auth: {{jwt: {{jwks_url: "http://127.0.0.1:1/jwks", audience: users, claims_to_headers: {{sub: x-user}}}}}}
  edge: {{ip_blacklist: [203.0.113.0/24], headers: {{response: {{set: {{Strict-Transport-Security: "max-age=31536000"}}}}}}}}
state: {{store: sqlite, path: ./state}}
cluster: {{url: "rediss://127.0.0.1:1/0", node: auto}}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("*.example.org", file="site")
    return made


def written(folder: Path, origin: str, port: int) -> str:
    return DOCUMENT.format(
        port=port, plain=free_port(), tcp=free_port(), folder=folder, origin=origin
    )


@pytest.mark.usefixtures("authority")
def test_every_key_of_the_full_form_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text(written(tmp_path, "http://127.0.0.1:1", free_port()))
    checked = run_evenflow("check", "full.yaml", directory=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "3 listeners, 3 routes, 4 pools, 4 backends" in checked.stdout


def test_the_full_form_is_served_and_can_be_put_back(
    authority: Authority,
    tmp_path: Path,
    evenflow: Callable[..., EvenflowProcess],
    origins: Callable[..., list[Origin]],
) -> None:
    (origin,) = origins("ok")
    port, admin = free_port(), free_port()
    process = evenflow(
        f'{written(tmp_path, origin.url, port)}admin: {{listen: "127.0.0.1:{admin}"}}\n',
        port=port,
        admin_port=admin,
        hand_over_port=False,
        directory=tmp_path,
    )
    printed = process.api("GET", "/admin/config")
    assert printed["filters"]["auth"]["auth"]["jwt"]["audience"] == ["users"]
    assert process.api("PUT", "/admin/config", printed)["changes"] == []

    def ask(path: str) -> tuple[int, str | None]:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        context = authority.client_context()
        with context.wrap_socket(raw, server_hostname="api.example.org") as stream:
            connection = http.client.HTTPConnection("api.example.org")
            connection.sock = stream
            connection.request("GET", path, headers={"X-Beta": "1"})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["location"]

    assert ask("/old/7") == (308, "/new/")
    assert ask("/some/thing")[0] == 200
    # The issuer cannot be reached, so there is no key to check anybody with.
    assert ask("/users/7")[0] == 503
