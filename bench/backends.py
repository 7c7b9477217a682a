"""`python -m bench.backends`: what many backends, connections and changes cost evenflow.

Prints start-up time, idle memory, memory per idle connection (beside nginx), CPU time per request
with one and with many backends, and the time of single and full changes over the API. All traffic
is on loopback; every step is bounded.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import install, measure
from bench.measure import Placement
from bench.profiles import PROFILES
from bench.proxies import PROXIES, Setting
from bench.steady import RESULTS, WORK, cpu_us, evenflow, origin, show

API = "/api/v1/admin"
_AT_REST = 0.25
"""Of one core: more than that is still the round of first checks."""


def main() -> None:
    """Measure everything and write `bench/results/backends.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.backends", description=__doc__)
    parser.add_argument("--backends", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5, help="of each load run")
    parser.add_argument("--connections", type=int, default=4000, help="idle ones, for memory")
    parser.add_argument("--only", choices=["start", "idle", "scale"], help="one part alone")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    WORK.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    install.ensure_tools()
    result: dict[str, Any] = {"backends": options.backends, "open_files": [soft, hard]}
    with origin() as port:
        if options.only in (None, "start"):
            result["start"] = _shown("start", _start(port))
        if options.only in (None, "idle"):
            result["idle_connections"] = _shown(
                "idle connections", _idle_connections(port, options.connections)
            )
            result["idle_tls_connections"] = _shown(
                "idle TLS 1.3 connections",
                _idle_connections(port, options.connections // 2, measure.certificate(WORK)),
            )
        if options.only in (None, "scale"):
            result["scale"] = _shown("scale", _scale(port, options.backends, options.seconds))
    if options.only is None:
        (RESULTS / "backends.json").write_text(json.dumps(result, indent=1) + "\n")


def _shown(name: str, values: dict[str, Any]) -> dict[str, Any]:
    show(name, values)
    return values


def _requests() -> Path:
    return PROFILES["100b"].write(WORK)


def _backends(origin: int, count: int, *, checked: bool = True) -> dict[str, object]:
    backends = [
        {"id": f"b{index}", "url": f"http://127.0.0.1:{origin}", "health_check_path": "/100b"}
        for index in range(count)
    ]
    return {"backends": backends, "health_check": {"enabled": checked}}


def _start(origin: int) -> dict[str, Any]:
    took, resident = list[float](), list[int]()
    for _ in range(5):
        with evenflow(_backends(origin, 2)) as (_, process, seconds):
            took.append(seconds)
            time.sleep(1)
            resident.append(measure.resident_bytes(process.pid))
    return {"first_answer_s": median(took), "idle_resident_mib": median(resident) / 2**20}


def _idle_connections(origin: int, count: int, pem: Path | None = None) -> dict[str, Any]:
    """What each idle connection costs; with `pem`, a certificate and its key, over TLS."""
    result: dict[str, Any] = {"connections": count}
    tls = pem is not None
    document = _backends(origin, 2)
    if pem is not None:
        pair = {"cert_file": str(pem.resolve()), "key_file": str(pem.resolve())}
        document["server"] = {"tls": pair}
    with evenflow(document, tls=tls) as (port, process, _):
        result["evenflow_bytes_each"] = _memory_of_idle(port, process.pid, count, tls=tls)
    program = PROXIES["nginx"].find()
    if program:
        directory = (WORK / "nginx").resolve()
        directory.mkdir(exist_ok=True)
        port = measure.free_ports(1)[0]
        setting = Setting(port, [origin], 1, directory, pem.resolve() if pem else None)
        launch = PROXIES["nginx"].prepare(setting, program)
        log = directory / "output.log"
        with measure.running(launch.command, log=log) as process:
            measure.wait_until_serving(port, process, log, tls=tls)
            result["nginx_bytes_each"] = _memory_of_idle(port, process.pid, count, tls=tls)
    return result


def _memory_of_idle(port: int, pid: int, count: int, *, tls: bool) -> float:
    """Resident bytes that each connection adds which has made a request and then waits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as stack:

        def use(times: int) -> None:
            for _ in range(times):
                connection = socket.create_connection(("127.0.0.1", port), 5)
                if tls:
                    connection = context.wrap_socket(connection)
                _use(stack.enter_context(connection))

        # What the first connections allocate once is not the price of each.
        use(100)
        before = measure.resident_bytes(pid)
        use(count)
        time.sleep(0.5)
        return (measure.resident_bytes(pid) - before) / count


def _use(connection: socket.socket) -> None:
    connection.sendall(b"GET /100b HTTP/1.1\r\nHost: bench.example.org\r\n\r\n")
    received = b""
    while not received.endswith(b"x" * 100):
        data = connection.recv(4096)
        if not data:
            raise RuntimeError("the proxy closed a connection")
        received += data


def _scale(origin: int, count: int, seconds: float) -> dict[str, Any]:
    result: dict[str, Any] = _growth(origin, count, seconds)
    with evenflow(_backends(origin, count)) as (port, process, took):
        result["first_answer_s"] = took
        result["resident_mib"] = measure.resident_bytes(process.pid) / 2**20
        _wait_until_checked(port, process.pid)
        result["idle_cpu_share"] = _cpu_share(process.pid, 5)
        result |= _changes(port, origin, seconds)
    return result


def _growth(origin: int, count: int, seconds: float) -> dict[str, float]:
    """What a request costs with 10 and with many backends, in turn; the same for nginx."""

    def balancer(stack: ExitStack, backends: int, *, checked: bool) -> tuple[int, int]:
        document = _backends(origin, backends, checked=checked)
        port, process, _ = stack.enter_context(evenflow(document, f"backends-{backends}"))
        if checked:
            _wait_until_checked(port, process.pid)
        return port, process.pid

    figures = dict[str, float]()
    for name in ("unchecked", "checked", "nginx"):
        # One pair at a time: each of the many keeps a connection of the origin's.
        with ExitStack() as stack:
            if name != "nginx":
                pair = [balancer(stack, n, checked=name == "checked") for n in (10, count)]
            elif PROXIES["nginx"].find():
                pair = [stack.enter_context(_nginx(origin, servers)) for servers in (10, count)]
            else:
                continue
            few, many = _in_turn(pair, seconds)
        figures[f"{name}_cpu_us_10"] = median(few)
        figures[f"{name}_cpu_us_many"] = median(many)
        ratios = (more / less for more, less in zip(many, few, strict=True))
        figures[f"{name}_growth"] = median(ratios) - 1
    return figures


def _in_turn(balancers: Sequence[tuple[int, int]], seconds: float) -> list[list[float]]:
    """CPU microseconds per request of each, round after round."""
    requests = _requests()
    for port, _ in balancers:
        # Long enough that every backend has a connection kept alive.
        measure.peak(port, requests, 5, Placement.choose(1).others)
    rounds = [[cpu_us(port, pid, requests, seconds) for port, pid in balancers] for _ in range(5)]
    return [list(values) for values in zip(*rounds, strict=True)]


def _wait_until_checked(port: int, pid: int, limit_s: float = 120) -> None:
    """Wait until the round of first checks, which come close together, is over and paid for."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        _, listed = _timed(port, "GET", f"{API}/backends")
        if all(backend["status"] != "unknown" for backend in listed["backends"]):
            break
        time.sleep(2)
    # What the last look itself cost, and the checks that came with it, are no part of rest.
    while time.monotonic() < give_up:
        if _cpu_share(pid, 1) < _AT_REST:
            return
    raise RuntimeError(f"backends are still unchecked after {limit_s} s")


def _cpu_share(pid: int, seconds: float) -> float:
    """What the process takes of one core; without requests, for checks and housekeeping."""
    before = measure.cpu_s(pid)
    time.sleep(seconds)
    return (measure.cpu_s(pid) - before) / seconds


@contextmanager
def _nginx(origin: int, servers: int) -> Iterator[tuple[int, int]]:
    """The same backends behind nginx: its port and process."""
    program = PROXIES["nginx"].find()
    assert program is not None
    directory = (WORK / f"nginx-{servers}").resolve()
    directory.mkdir(exist_ok=True)
    port = measure.free_ports(1)[0]
    launch = PROXIES["nginx"].prepare(Setting(port, [origin] * servers, 1, directory), program)
    file = directory / "nginx.conf"
    text = file.read_text().replace("keepalive 256;", f"keepalive {max(256, servers)};")
    text = text.replace("worker_connections 4096", "worker_connections 16384")
    file.write_text(text)
    log = directory / "output.log"
    cores = Placement.choose(1).proxy
    with measure.running(launch.command, log=log, cores=cores) as process:
        measure.wait_until_serving(port, process, log)
        yield port, process.pid


def _changes(port: int, origin: int, seconds: float) -> dict[str, Any]:
    """Changes over the API while requests run: how long each took, and how many requests failed."""
    pace = measure.compiled("pace", WORK)
    load = subprocess.Popen(
        [str(pace), str(port), "2000", f"{max(seconds, 15):g}", "16", str(_requests())],
        stdout=subprocess.PIPE,
    )
    add, patch, remove = list[float](), list[float](), list[float]()
    for index in range(10):
        body = {"id": f"new{index}", "url": f"http://127.0.0.1:{origin}"}
        add.append(_timed(port, "POST", f"{API}/backends", body)[0])
        patch.append(_timed(port, "PATCH", f"{API}/backends/new{index}", {"weight": 50})[0])
    for index in range(10):
        remove.append(_timed(port, "DELETE", f"{API}/backends/new{index}")[0])
    get_s, config = _timed(port, "GET", f"{API}/config")
    config["load_balancer"]["strategy"] = "weighted"
    for backend in config["backends"]:
        backend["weight"] = 90
    put_s, _ = _timed(port, "PUT", f"{API}/config", config)
    output, _ = load.communicate(timeout=120)
    run = json.loads(output)
    return {
        "add_one_ms": median(add) * 1e3,
        "add_one_worst_ms": max(add) * 1e3,
        "change_one_ms": median(patch) * 1e3,
        "remove_one_ms": median(remove) * 1e3,
        "get_config_s": get_s,
        "full_apply_s": put_s,
        "requests_meanwhile": run["requests"],
        "failed_meanwhile": run["errors"],
        "p99_us_meanwhile": run["p99_us"],
    }


def _timed(port: int, method: str, path: str, body: object = None) -> tuple[float, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = None if body is None else json.dumps(body)
    begin = time.monotonic()
    connection.request(method, path, data, {"content-type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    took = time.monotonic() - begin
    connection.close()
    if response.status >= 400:
        raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
    return took, json.loads(content) if content else None


if __name__ == "__main__":
    main()
