"""The project itself: import arrows, licences, the files that must agree with each other."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from evenflow.config import Config, load

ROOT = Path(__file__).parents[2]
SKIPPED = {".git", ".venv", "target", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def test_imports_point_downwards() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [str(linter), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_the_compiled_engine_is_imported_in_two_places_only() -> None:
    importers = {
        str(file.relative_to(ROOT / "src" / "evenflow"))
        for file in (ROOT / "src").rglob("*.py")
        if re.search(
            r"^\s*(from evenflow\._engine|from evenflow import .*_engine)",
            file.read_text(),
            re.MULTILINE,
        )
    }
    assert importers == {"engine.py", "strategies/_table.py"}


def test_every_dependency_is_pinned_with_hashes_and_names_no_registry() -> None:
    for file in sorted(ROOT.glob("requirements*.txt")):
        text = file.read_text()
        assert "--hash=sha256:" in text, file
        assert not re.search(r"https?://|--index-url|--find-links|--extra-index", text), file
        for line in text.splitlines():
            if line and not line.startswith((" ", "#")):
                assert "==" in line, f"{file.name}: {line}"


def test_direct_dependencies_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    )
    assert {re.split(r"[<>=!\[; ]", name)[0] for name in project["dependencies"]} <= pinned


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert project["version"] == workspace["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_direct_dependencies_are_described() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text().lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=!\[; ]", name)[0] for name in project["dependencies"]]
    for manifest in ROOT.glob("crates/*/Cargo.toml"):
        names += [
            n for n in tomllib.loads(manifest.read_text())["dependencies"] if "evenflow" not in n
        ]
    assert [name for name in names if name.lower() not in text] == []


def test_nothing_is_left_unfinished_or_names_a_machine() -> None:
    marks = r"\b(TODO|FIXME|XXX|todo!\(|unimplemented!\()"
    homes = r"(?<![\w.])/(root|home|Users)/"
    wrong = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in _sources()
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if re.search(f"{marks}|{homes}", line)
    ]
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_configuration_reference_is_what_the_models_say() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_configurations_in_examples_and_documents_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("ACME_HMAC_KEY", "OPS_TOKEN", "PG_CHECK_PASSWORD", "STORE_PASSWORD", "UPSTREAM_KEY")
    secrets = dict.fromkeys(names, "for-the-example")
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for file in (ROOT / "examples").glob("*.yaml"):
        load(file, {})
    for page, number, text in _configurations():
        file = tmp_path / f"{page.stem}-{number}.yaml"
        file.write_text(text)
        load(file, secrets)


def test_files_for_deployment_parse() -> None:
    for file in (ROOT / "deploy").rglob("*"):
        match file.suffix:
            case ".yml" | ".yaml":
                assert list(yaml.safe_load_all(file.read_text())), file
            case ".json":
                assert json.loads(file.read_text()), file
            case ".sh":
                subprocess.run(["bash", "-n", str(file)], check=True, timeout=10)


def _configurations() -> Iterator[tuple[Path, int, str]]:
    """The YAML blocks of the documents that are configurations of evenflow."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for number, block in enumerate(blocks):
            # Others are for other programs, such as Prometheus.
            if set(yaml.safe_load(block)) & set(Config.model_fields):
                yield page, number, block


def _sources() -> Iterator[Path]:
    suffixes = {".py", ".pyi", ".rs", ".md", ".toml", ".yaml", ".yml", ".sh", ".txt", ".c", ".lua"}
    for file in ROOT.rglob("*"):
        inside = file.relative_to(ROOT).parts
        if SKIPPED & set(inside) or inside[:2] == ("bench", ".work") or not file.is_file():
            continue
        if file.suffix in suffixes or file.name in ("Makefile", "run", "Dockerfile"):
            yield file


def test_documents_name_only_tests_that_are_there() -> None:
    tests = ROOT / "tests"
    code = "\n".join(file.read_text() for file in tests.rglob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)\(", code, re.MULTILINE))
    corpus = {file.name for file in (tests / "conformance" / "smuggling").rglob("*.txt")}
    for page in (ROOT / "SECURITY.md", ROOT / "docs" / "http.md"):
        named = set(re.findall(r"`(test_\w+|\w+\.txt)`", page.read_text()))
        assert len(named) > 10, page
        assert named - defined - corpus == set(), page
