"""`python -m bench.streams`: what relayed bytes and connections cost, beside HAProxy in `mode tcp`.

- CPU seconds per GB while 64 clients fetch bodies of 1 MiB and of 10 KiB from the same origin;
- CPU microseconds per small message there and back, on connections that stay;
- CPU microseconds per connection: opened, one small message there and back, closed.
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench import install, measure
from bench.measure import Placement
from bench.profiles import PROFILES
from bench.proxies import PROXIES
from bench.steady import RESULTS, WORK, evenflow, origin, show

_ROUNDS = 5
_PROXIES = {"haproxy": "", "haproxy_splice": "  option splice-auto\n"}


def main() -> None:
    """Measure and write `bench/results/streams.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="of each load run")
    parser.add_argument("--connections", type=int, default=2000, help="opened in a round")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    install.ensure_tools()
    found: dict[str, dict[str, list[float]]] = {}
    with origin() as port, ExitStack() as stack:
        relays = {name: stack.enter_context(relay) for name, relay in _relays(port)}
        for _ in range(_ROUNDS):
            for name, (entry, pid) in relays.items():
                figures = found.setdefault(name, {})
                for profile in ("1mb", "10kb"):
                    cost = _cpu_s_per_gb(entry, pid, profile, options.seconds)
                    figures.setdefault(f"cpu_s_per_gb_{profile}", []).append(cost)
                cost = _cpu_us_per_message(entry, pid, options.seconds)
                figures.setdefault("cpu_us_per_message", []).append(cost)
                cost = _cpu_us_per_connection(entry, pid, options.connections)
                figures.setdefault("cpu_us_per_connection", []).append(cost)
    result = {
        name: {figure: median(values) for figure, values in figures.items()}
        for name, figures in found.items()
    }
    for name, figures in found.items():
        if name != "evenflow":
            for figure, values in figures.items():
                pairs = zip(found["evenflow"][figure], values, strict=True)
                ratio = median(mine / its for mine, its in pairs)
                result["evenflow"][f"{figure}_to_{name}"] = ratio
    for name, figures_of in result.items():
        show(name, figures_of)
    (RESULTS / "streams.json").write_text(json.dumps(result, indent=1) + "\n")


@contextmanager
def _evenflow(origin_port: int) -> Iterator[tuple[int, int]]:
    port = measure.free_ports(1)[0]
    document = {
        "listeners": [
            {"name": "bytes", "address": f"127.0.0.1:{port}", "protocol": "tcp", "pool": "tcp"},
        ],
        "pools": [{"name": "tcp", "backends": [{"url": f"tcp://127.0.0.1:{origin_port}"}]}],
        "admin": {"listen": f"127.0.0.1:{measure.free_ports(1)[0]}"},
    }
    with evenflow(document, "streams", listens_on=port) as (_, process, _):
        yield port, process.pid


@contextmanager
def _haproxy(origin_port: int, name: str) -> Iterator[tuple[int, int]]:
    program = PROXIES["haproxy"].find()
    assert program is not None
    port = measure.free_ports(1)[0]
    directory = WORK / f"streams-{name}"
    directory.mkdir(exist_ok=True)
    file = directory / "haproxy.cfg"
    file.write_text(
        f"""\
global
  nbthread 1
  maxconn 4096
  tune.bufsize 65536
  tune.pipesize 262144
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
{_PROXIES[name]}listen bytes
  bind 127.0.0.1:{port}
  server origin 127.0.0.1:{origin_port}
"""
    )
    log = directory / "output.log"
    command = [program, "-db", "-f", str(file)]
    with measure.running(command, log=log, cores=Placement.choose(1).proxy) as process:
        measure.wait_until_serving(port, process, log)
        yield port, process.pid


def _relays(origin_port: int) -> Iterator[tuple[str, AbstractContextManager[tuple[int, int]]]]:
    yield "evenflow", _evenflow(origin_port)
    if PROXIES["haproxy"].find():
        for name in _PROXIES:
            yield name, _haproxy(origin_port, name)


def _cpu_s_per_gb(port: int, pid: int, profile: str, seconds: float) -> float:
    requests = PROFILES[profile].write(WORK)
    before = measure.cpu_s(pid)
    run = measure.peak(port, requests, seconds, Placement.choose(1).others)
    return float((measure.cpu_s(pid) - before) / (run["bytes"] / 1e9))


def _cpu_us_per_message(port: int, pid: int, seconds: float) -> float:
    requests: Path = PROFILES["100b"].write(WORK)
    before = measure.cpu_s(pid)
    run = measure.peak(port, requests, seconds, Placement.choose(1).others)
    return float((measure.cpu_s(pid) - before) * 1e6 / run["requests"])


def _cpu_us_per_connection(port: int, pid: int, count: int) -> float:
    before = measure.cpu_s(pid)
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /100b HTTP/1.1\r\nHost: bench.example.org\r\n\r\n")
            received = b""
            while not received.endswith(b"x" * 100):
                received += connection.recv(4096)
    return (measure.cpu_s(pid) - before) * 1e6 / count


if __name__ == "__main__":
    main()
