"""Every dependency may be used and passed on: its licence is on a list.

Read from what is installed and from `cargo metadata`, so it needs no network. Python packages that
only test the project are not passed on with it, and may have licences that ask for more.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import program

ROOT = Path(__file__).parents[2]
PASSED_ON = frozenset(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
FOR_TESTS = PASSED_ON | {"MPL-2.0", "LGPL-3.0-only"}

# What older packages write instead of an expression of SPDX.
CLASSIFIED = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def permits(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met with the allowed licences alone.

    Cargo's old `/` means OR. AND binds closer than OR.
    """
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)

    def any_of() -> bool:
        met = all_of()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            met = all_of() or met
        return met

    def all_of() -> bool:
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            met = any_of()
            assert tokens.pop(0) == ")", expression
            return met
        if tokens and tokens[0] == "WITH":
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allowed

    result = any_of()
    assert not tokens, f"not an expression: {expression!r}"
    return result


def expression(found: Distribution) -> str:
    """Return a Python package's licence as an expression of SPDX, as far as it tells."""
    metadata = found.metadata
    if said := metadata.get_all("License-Expression"):
        return str(said[0])
    classifiers = [
        str(line).rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if str(line).startswith("License :: ")
    ]
    known = [CLASSIFIED.get(name, name) for name in classifiers if name != "OSI Approved"]
    return " AND ".join(known or metadata.get_all("License") or ["nothing-said"])


def pinned(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line.split("==")[0] for line in lines if re.match(r"[A-Za-z0-9._\[\]-]+==", line)]


def unlicensed(file: str, allowed: frozenset[str]) -> list[str]:
    wrong = []
    for name in pinned(file):
        try:
            said = expression(distribution(name.partition("[")[0]))
        except PackageNotFoundError:
            continue  # For another system or another version of Python.
        if not permits(said, allowed):
            wrong.append(f"{name}: {said}")
    return wrong


def test_python_dependencies_are_passed_on_lawfully() -> None:
    names = pinned("requirements.txt")
    # One is for Windows, the other for Python before 3.11.3.
    installed = [name for name in names if name not in ("colorama", "async-timeout")]
    assert len(installed) >= 8
    for name in installed:
        distribution(name.partition("[")[0])
    assert unlicensed("requirements.txt", PASSED_ON) == []


def test_packages_for_tests_are_free_software() -> None:
    assert unlicensed("requirements-dev.txt", FOR_TESTS) == []


def test_rust_dependencies_are_passed_on_lawfully() -> None:
    cargo = program("cargo", "a Rust toolchain (https://rustup.rs)")
    shown = subprocess.run(
        [cargo, "metadata", "--format-version", "1", "--locked", "--all-features"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    packages = json.loads(shown.stdout)["packages"]
    assert len(packages) > 30
    wrong = [
        f"{package['name']}: {package['license']}"
        for package in packages
        if not permits(package["license"] or "nothing-said", PASSED_ON)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("said", "fine"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT/Apache-2.0", True),
        ("Apache-2.0 / MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", True),
        ("MIT OR GPL-3.0-only AND GPL-2.0-only", True),
        ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("nothing-said", False),
    ],
)
def test_expressions_are_read_as_spdx_means_them(said: str, fine: bool) -> None:
    assert permits(said, PASSED_ON) is fine
