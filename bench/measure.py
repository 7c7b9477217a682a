"""Running programs and reading what they cost: CPU time, memory, and the clients' reports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Placement:
    """On which cores the proxy under test runs, and on which everything else."""

    proxy: frozenset[int] | None
    others: frozenset[int] | None

    @staticmethod
    def choose(workers: int) -> Placement:
        """Keep the proxy and its load apart where one core is left for each; else do not pin."""
        cores = sorted(os.sched_getaffinity(0))
        if workers >= len(cores):
            return Placement(None, None)
        return Placement(frozenset(cores[:workers]), frozenset(cores[workers:]))


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    cores: frozenset[int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            _pinned(command, cores),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until_serving(
    port: int,
    process: subprocess.Popen[bytes],
    log: Path,
    path: str = "/100b",
    limit_s: float = 30,
    *,
    tls: bool = False,
) -> float:
    """Wait for a 200 on `path`; the seconds it took."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended at once:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = (
                # The benchmark's own certificate, made a moment ago.
                http.client.HTTPSConnection(
                    "127.0.0.1",
                    port,
                    timeout=1,
                    context=ssl._create_unverified_context(),  # noqa: SLF001
                )
                if tls
                else http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            )
            connection.request("GET", path, headers={"Host": "bench.example.org"})
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status == 200:
                return time.monotonic() - start
        time.sleep(0.01)
    raise RuntimeError(f"nothing serves port {port} after {limit_s} s:\n{log.read_text()[-2000:]}")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [pid]
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its descendants have used, user and system together."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text())
            total += int(found[1]) * 1024 if found else 0
    return total


def certificate(directory: Path) -> Path:
    """A self-signed P-256 certificate and its key, in one file."""
    file = directory.resolve() / "bench.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "30", "-subj", "/CN=bench.example.org"),
            *("-addext", "subjectAltName=DNS:bench.example.org,IP:127.0.0.1"),
            *("-keyout", str(file), "-out", str(directory / "bench.crt")),
        ],
        check=True,
        capture_output=True,
    )
    with file.open("a") as out:
        out.write((directory / "bench.crt").read_text())
    return file


def compiled(name: str, directory: Path) -> Path:
    """The program built from the C source of that name beside this file."""
    source, program = HERE / f"{name}.c", directory / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def _pinned(command: Sequence[str], cores: frozenset[int] | None) -> list[str]:
    if not cores:
        return list(command)
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]


def peak(
    port: int,
    requests: Path,
    seconds: float,
    cores: frozenset[int] | None,
    *,
    connections: int = 64,
    threads: int = 1,
    tls: bool = False,
) -> dict[str, Any]:
    """As many requests as go through, with wrk; counts, and latencies in microseconds."""
    scheme = "https" if tls else "http"
    command = [
        *(
            "wrk",
            f"-t{threads}",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
        ),
        *("-s", str(HERE / "wrk.lua"), f"{scheme}://127.0.0.1:{port}", "--", str(requests)),
    ]
    output = subprocess.run(
        _pinned(command, cores), check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    found = re.search(r"^RESULT (\{.*\})$", output, re.MULTILINE)
    if not found:
        raise RuntimeError(f"wrk said nothing of use:\n{output}")
    result: dict[str, Any] = json.loads(found[1])
    return result


def http2(
    port: int,
    path: str,
    seconds: float,
    cores: frozenset[int] | None,
    *,
    connections: int = 16,
    streams: int = 32,
) -> dict[str, Any]:
    """As many requests as go through by HTTP/2 over TLS, with h2load; as `peak` reports them."""
    command = [
        *("h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{max(1, round(seconds))}"),
        *("-H", ":authority: bench.example.org", f"https://127.0.0.1:{port}{path}"),
    ]
    with tempfile.NamedTemporaryFile(mode="r", prefix="h2load-") as log:
        output = subprocess.run(
            _pinned([*command, f"--log-file={log.name}"], cores),
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        ).stdout
        took = sorted(int(line.split("\t")[2]) for line in log)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if not counts or not took:
        raise RuntimeError(f"h2load said nothing of use:\n{output}")
    done, succeeded = int(counts[1]), int(counts[2])
    return {
        "requests": succeeded,
        "duration_us": int(max(1, round(seconds)) * 1e6),
        "errors": done - succeeded,
        **{
            name: took[min(len(took) - 1, int(len(took) * share))]
            for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))
        },
    }


def paced(
    pace: Path,
    port: int,
    requests: Path,
    rate: float,
    seconds: float,
    cores: frozenset[int] | None,
    *,
    connections: int = 64,
) -> dict[str, Any]:
    """A fixed rate of requests; latencies from when each was due, in microseconds."""
    command = [str(pace), str(port), f"{rate:.0f}", f"{seconds:g}", str(connections), str(requests)]
    output = subprocess.run(
        _pinned(command, cores), check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    result: dict[str, Any] = json.loads(output)
    return result
