"""The wheel in a clean environment gives a working `evenflow` command."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_installs_and_runs_in_a_clean_environment(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    maturin = scripts / "maturin"
    run(str(maturin), "build", "--release", "--locked", "--out", str(tmp_path / "dist"), cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "cp311-abi3" in wheel.name

    clean = tmp_path / "clean"
    venv.create(clean, with_pip=True)
    python = clean / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--no-index", "--no-deps", str(wheel))
    # The dependencies come from the environment of the tests, so that nothing is downloaded; the
    # program itself stands before it on the path.
    site = sysconfig.get_path("purelib", vars={"base": str(clean), "platbase": str(clean)})
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    evenflow = clean / "bin" / "evenflow"
    assert "evenflow" in run(str(evenflow), "version", cwd=tmp_path)
    assert "is fine" in run(
        str(evenflow), "check", str(ROOT / "examples" / "evenflow.yaml"), cwd=tmp_path
    )
    where = "import evenflow._engine as e; print(e.__file__)"
    assert str(clean) in run(str(python), "-c", where, cwd=tmp_path)


def run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
