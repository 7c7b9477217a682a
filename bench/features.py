"""`python -m bench.features`: what routes, filters and TLS handshakes cost, beside nginx.

- CPU time per request with 10 and with many routes, requests spread over all of them;
- CPU time per request of all filters together: a rate limit, 10,000 networks and the security
  headers, with and without, in turn;
- full and resumed TLS 1.3 handshakes per CPU second.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench import install, measure
from bench.measure import Placement
from bench.proxies import PROXIES, Setting
from bench.steady import RESULTS, WORK, cpu_us, evenflow, origin, show

Figures = dict[str, float]
_ROUNDS = 5
_WARM_UP_S = 2.0


def main() -> None:
    """Measure what is asked for and write `bench/results/features.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.features", description=__doc__)
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3, help="of each load run")
    parser.add_argument("--handshakes", type=int, default=1500, help="of each kind in a round")
    parser.add_argument("--only", default="routes,filters,handshakes", help="of: %(default)s")
    options = parser.parse_args()
    wanted = options.only.split(",")
    WORK.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    install.ensure_tools()
    file = RESULTS / "features.json"
    result: dict[str, Figures] = json.loads(file.read_text()) if file.exists() else {}
    with origin() as port:
        if "routes" in wanted:
            result["routes"] = _routes(port, options.routes, options.seconds)
            show(f"10 and {options.routes} routes", result["routes"])
        if "filters" in wanted:
            result["filters"] = _filters(port, options.seconds)
            show("all filters", result["filters"])
        if "handshakes" in wanted:
            result["handshakes"] = _handshakes(port, options.handshakes)
            show("TLS 1.3 handshakes", result["handshakes"])
    file.write_text(json.dumps(result, indent=1) + "\n")


def _routes(origin_port: int, count: int, seconds: float) -> Figures:
    requests = {routes: _spread_requests(routes) for routes in (10, count)}
    with ExitStack() as stack:
        balancers = {
            f"evenflow_cpu_us_{routes}": (*_routed_evenflow(stack, origin_port, routes), routes)
            for routes in (10, count)
        }
        nginx = PROXIES["nginx"].find()
        if nginx:
            balancers |= {
                f"nginx_cpu_us_{routes}": (
                    *_routed_nginx(stack, nginx, origin_port, routes),
                    routes,
                )
                for routes in (10, count)
            }
        found: dict[str, list[float]] = {name: [] for name in balancers}
        for port, _, routes in balancers.values():
            measure.peak(port, requests[routes], _WARM_UP_S, Placement.choose(1).others)
        for _ in range(_ROUNDS):
            for name, (port, pid, routes) in balancers.items():
                found[name].append(cpu_us(port, pid, requests[routes], seconds))
    figures = {name: median(values) for name, values in found.items()}
    for proxy in ("evenflow", "nginx") if nginx else ("evenflow",):
        few, many = found[f"{proxy}_cpu_us_10"], found[f"{proxy}_cpu_us_{count}"]
        pairs = zip(many, few, strict=True)
        figures[f"{proxy}_growth"] = median(more / less for more, less in pairs) - 1
    return figures


def _spread_requests(routes: int) -> Path:
    """1,024 requests for random ones of these routes."""
    chance = random.Random(7)
    file = WORK / f"routes-{routes}.requests"
    messages = [
        f"GET /service-{chance.randrange(routes)}/items/7 HTTP/1.1\r\n"
        "Host: bench.example.org\r\n\r\n".encode()
        for _ in range(1024)
    ]
    file.write_bytes(b"".join(b"%d\n%s" % (len(data), data) for data in messages))
    return file


def _routed_evenflow(stack: ExitStack, origin_port: int, routes: int) -> tuple[int, int]:
    listed: list[dict[str, object]] = [
        {"name": f"r{index}", "match": {"path": f"/service-{index}/*"}, "pool": "app"}
        for index in range(routes)
    ]
    listed.append({"name": "rest", "pool": "app"})
    document = {
        "routes": listed,
        "pools": [{"name": "app", "backends": [{"url": f"http://127.0.0.1:{origin_port}"}]}],
    }
    port, process, _ = stack.enter_context(evenflow(document, f"routes-{routes}"))
    return port, process.pid


def _routed_nginx(stack: ExitStack, program: str, origin_port: int, routes: int) -> tuple[int, int]:
    """The same routes as prefix locations, each of which nginx finds through a tree as well."""
    directory = (WORK / f"nginx-routes-{routes}").resolve()
    directory.mkdir(exist_ok=True)
    port = measure.free_ports(1)[0]
    launch = PROXIES["nginx"].prepare(Setting(port, [origin_port], 1, directory), program)
    file = directory / "nginx.conf"
    text = file.read_text()
    begin = text.index("    location / {")
    end = text.index("    }\n", begin) + len("    }\n")
    block = text[begin:end]
    blocks = [
        block.replace("location /", f"location /service-{index}/", 1) for index in range(routes)
    ]
    file.write_text(text[:end] + "".join(blocks) + text[end:])
    log = directory / "output.log"
    process = stack.enter_context(
        measure.running(launch.command, log=log, cores=Placement.choose(1).proxy)
    )
    measure.wait_until_serving(port, process, log)
    return port, process.pid


def _filters(origin_port: int, seconds: float) -> Figures:
    networks = [f"10.{index >> 8 & 255}.{index & 255}.0/25" for index in range(10_000)]
    security = {
        "rate_limit": {"requests_per_second": 10_000_000, "burst_size": 10_000_000},
        "ip_blacklist": networks,
        "security_headers": True,
    }
    backends = [{"url": f"http://127.0.0.1:{origin_port}", "health_check_path": "/100b"}]
    requests = WORK / "filters.requests"
    data = b"GET /100b HTTP/1.1\r\nHost: bench.example.org\r\n\r\n"
    requests.write_bytes(b"%d\n%s" % (len(data), data))
    with (
        evenflow({"backends": backends}, "filters-none") as (bare, bare_process, _),
        evenflow({"backends": backends, "security": security}, "filters-all") as (
            port,
            process,
            _,
        ),
    ):
        for each in (bare, port):
            measure.peak(each, requests, _WARM_UP_S, Placement.choose(1).others)
        without, with_all = list[float](), list[float]()
        for _ in range(_ROUNDS * 2):
            without.append(cpu_us(bare, bare_process.pid, requests, seconds))
            with_all.append(cpu_us(port, process.pid, requests, seconds))
    differences = [more - less for more, less in zip(with_all, without, strict=True)]
    return {
        "cpu_us_without": median(without),
        "cpu_us_with_all": median(with_all),
        "cost_us": median(differences),
    }


def _handshakes(origin_port: int, count: int) -> Figures:
    pem = measure.certificate(WORK)
    with ExitStack() as stack:
        served = {
            name: stack.enter_context(_encrypted(name, origin_port, pem))
            for name in ("evenflow", "nginx", "haproxy")
            if PROXIES[name].find()
        }
        figures = Figures()
        for kind, resumed in (("full", False), ("resumed", True)):
            found: dict[str, list[float]] = {name: [] for name in served}
            for _ in range(_ROUNDS):
                for name, (port, pid) in served.items():
                    found[name].append(_handshakes_per_cpu_s(port, pid, count, resumed=resumed))
            for name, rates in found.items():
                figures[f"{name}_{kind}_per_cpu_s"] = median(rates)
                if name != "evenflow":
                    pairs = zip(found["evenflow"], rates, strict=True)
                    figures[f"{kind}_ratio_to_{name}"] = median(mine / its for mine, its in pairs)
    return figures


@contextmanager
def _encrypted(name: str, origin_port: int, pem: Path) -> Iterator[tuple[int, int]]:
    directory = (WORK / f"tls-{name}").resolve()
    directory.mkdir(exist_ok=True)
    program = PROXIES[name].find()
    assert program is not None
    port = measure.free_ports(1)[0]
    setting = Setting(port, [origin_port], 1, directory, pem=pem)
    launch = PROXIES[name].prepare(setting, program)
    log = directory / "output.log"
    cores, environment = Placement.choose(1).proxy, launch.environment
    with measure.running(launch.command, log=log, cores=cores, environment=environment) as process:
        measure.wait_until_serving(port, process, log, tls=True)
        yield port, process.pid


def _handshakes_per_cpu_s(port: int, pid: int, count: int, *, resumed: bool) -> float:
    """Connections made, encrypted and closed, over the CPU seconds they cost the proxy.

    Raises:
        RuntimeError: Too few of those that should were resumed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    session = _ticket(context, port) if resumed else None
    before = measure.cpu_s(pid)
    reused = 0
    for _ in range(count):
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, session=session) as encrypted,
        ):
            reused += bool(encrypted.session_reused)
    time.sleep(0.05)
    if resumed and reused < count * 0.99:
        raise RuntimeError(f"only {reused} of {count} handshakes were resumed")
    return count / (measure.cpu_s(pid) - before)


def _ticket(context: ssl.SSLContext, port: int) -> ssl.SSLSession:
    """A session to go on with; TLS 1.3 servers send it beside the first answer."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        encrypted.sendall(b"GET /100b HTTP/1.1\r\nHost: bench.example.org\r\n\r\n")
        received = b""
        while not received.endswith(b"x" * 100):
            received += encrypted.recv(4096)
        session = encrypted.session
    assert session is not None
    return session


if __name__ == "__main__":
    main()
