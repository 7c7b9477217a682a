"""The conformance suite h2spec against a listener, in the clear and over TLS.

h2spec is built from the versions that `tests/h2spec/go.mod` pins; they build with Go 1.19 and newer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from evenflow.testing import document, free_port
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import respond
from tests.conftest import program
from tests.http2_peers import listens

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

MODULE = Path(__file__).parent.parent / "h2spec"
CASES = 146
"""How many cases h2spec 2.2.1 has with `--strict`; fewer would mean that it did not run them all."""
BY_PORT_OF_BOTH_VERSIONS = {("http2/3.5", "Sends invalid connection preface")}
"""In the clear, HTTP/1.1 is served at the same port. What does not begin with the preface of HTTP/2
is a request of HTTP/1.1, and a malformed one is answered by HTTP/1.1's 400 and a close (RFC 9112
§2.2); h2spec takes the bytes of that answer for a frame."""


@pytest.fixture(scope="session")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build h2spec; the test fails where Go or the sources are missing."""
    built = tmp_path_factory.mktemp("h2spec") / "h2spec"
    done = subprocess.run(
        [
            program("go", "golang"),
            "build",
            "-o",
            str(built),
            "github.com/summerwind/h2spec/cmd/h2spec",
        ],
        cwd=MODULE,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "on"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"h2spec could not be built: {done.stderr}")
    return built


def failures(h2spec: Path, port: int, report: Path, *options: str) -> set[tuple[str, str]]:
    """Run every case; which ones did not pass, by section and description."""
    subprocess.run(
        [
            str(h2spec),
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "--strict",
            "-o",
            "5",
            "-j",
            str(report),
            *options,
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    cases = list(ET.parse(report).getroot().iter("testcase"))
    assert len(cases) == CASES
    return {
        (case.attrib["package"], case.attrib["classname"])
        for case in cases
        if case.find("failure") is not None
        or case.find("error") is not None
        or case.find("skipped") is not None
    }


def test_h2spec_in_the_clear(
    evenflow: StartEvenflow, origins: StartOrigins, h2spec: Path, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    origin.default = respond(200, bytes(1000))
    balancer = evenflow(document(origin.url))
    failed = failures(h2spec, balancer.port, tmp_path / "report.xml")
    assert failed == BY_PORT_OF_BOTH_VERSIONS


def test_h2spec_over_tls(
    evenflow: StartEvenflow, origins: StartOrigins, h2spec: Path, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    origin.default = respond(200, bytes(1000))
    issued = Authority(tmp_path).issue("site.test", file="site")
    port = free_port()
    evenflow(
        document(
            origin.url,
            listeners=[
                {"name": "tls", "address": f"127.0.0.1:{port}", "tls": {"certificates": ["site"]}}
            ],
            certificates={"site": {"cert_file": str(issued.cert), "key_file": str(issued.key)}},
        ),
        hand_over_port=False,
        ready=lambda: listens(port),
    )
    assert failures(h2spec, port, tmp_path / "report.xml", "-t", "-k") == set()
