"""Fixtures of all suites: processes and origins that end with the test, and their last checks."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import EvenflowProcess, Origin

if TYPE_CHECKING:
    from tests.servers import RedisServers

StartEvenflow = Callable[..., EvenflowProcess]
StartOrigins = Callable[..., list[Origin]]


def program(name: str, package: str) -> str:
    """Where a program is, also where Debian keeps those of PostgreSQL; the test fails without."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, places)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.fail(f"this test needs {name}: install {package}")
    return found


@pytest.fixture
def evenflow() -> Iterator[StartEvenflow]:
    """Start balancers as processes; at the end they are stopped, and must not have crashed."""
    with contextlib.ExitStack() as stack:
        started: list[EvenflowProcess] = []

        def start(*arguments: Any, **options: Any) -> EvenflowProcess:
            process = stack.enter_context(EvenflowProcess(*arguments, **options))
            started.append(process)
            return process

        yield start
        for process in started:
            assert_no_crash(process)


@pytest.fixture
def origins() -> Iterator[StartOrigins]:
    """Start origins by name; at the end they are stopped, and must have got valid HTTP only."""
    with contextlib.ExitStack() as stack:
        started: list[Origin] = []

        def start(*names: str, **options: Any) -> list[Origin]:
            new = [stack.enter_context(Origin(name, **options)) for name in names]
            started.extend(new)
            return new

        yield start
        for origin in started:
            assert not origin.violations, origin.violations


@pytest.fixture
def redis_servers() -> Iterator[RedisServers]:
    """Start Redis servers; they end with the test."""
    from tests.servers import RedisServers

    with tempfile.TemporaryDirectory(prefix="evenflow-redis-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        # The servers run as somebody else where the tests run as root.
        root.chmod(0o777)
        servers = RedisServers(root)
        try:
            yield servers
        finally:
            servers.close()


def assert_no_crash(process: EvenflowProcess) -> None:
    """Check that nothing in the balancer's output tells of a programming error."""
    output = process.output()
    for sign in ("panicked at", "Traceback (most recent call last)", "never awaited"):
        assert sign not in output, output
