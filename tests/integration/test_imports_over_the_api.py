"""The HTTP API imports no code: only the configuration file says which functions may be named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenflow.testing import EvenflowProcess

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

OFF: dict[str, Any] = {"health_check": {"enabled": False}}

# Importing this module leaves a file behind, whatever becomes of the change.
MODULE = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
from evenflow.strategies import cycle

def mine(endpoints):
    return cycle(endpoints)

async def found():
    return []
"""


def start(evenflow: StartEvenflow, folder: Path, document: dict[str, Any]) -> EvenflowProcess:
    (folder / "mymodule.py").write_text(MODULE)
    return evenflow({**document, **OFF}, env={"PYTHONPATH": str(folder)})


def test_no_change_over_the_api_imports_a_module(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    balancer = start(evenflow, tmp_path, {"backends": [{"id": "a", "url": a.url}]})
    name = "mymodule:mine"
    pool = {"name": "p", "strategy": {"name": name}, "backends": [{"id": "b", "url": a.url}]}
    listed = {"extensions": [name], "load_balancer": {"strategy": name}}
    attempts = [
        ("PATCH", "/admin/config", {"load_balancer": {"strategy": name}}, "load_balancer.strategy"),
        ("PATCH", "/admin/config", {"discover": {"use": "mymodule:found"}}, "discover.use"),
        ("PATCH", "/admin/config", listed, "extensions"),
        ("POST", "/admin/pools", pool, "strategy"),
        ("PATCH", "/admin/config", {"load_balancer": {"strategy": "sys:exit"}}, "load_balancer"),
    ]
    for method, path, body, where in attempts:
        problem = balancer.api(method, path, body, expect=400)
        assert where in problem["errors"][0]["path"], problem
        assert "configuration file" in problem["errors"][0]["message"]
    assert not (tmp_path / "imported").exists()
    assert balancer.request().body.strip() == b"a"


def test_what_the_file_allows_may_be_named_over_the_api(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    document = {"backends": [{"id": "a", "url": a.url}], "extensions": ["mymodule:mine"]}
    balancer = start(evenflow, tmp_path, document)
    balancer.api("PATCH", "/admin/config", {"load_balancer": {"strategy": "mymodule:mine"}})
    assert (tmp_path / "imported").exists()
    assert balancer.request().body.strip() == b"a"
    balancer.restart()
    shown = balancer.api("GET", "/admin/config")
    assert shown["load_balancer"]["strategy"] == "mymodule:mine"


def test_a_function_that_the_file_uses_may_be_kept_and_used_elsewhere(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    document = {
        "backends": [{"id": "a", "url": a.url}],
        "load_balancer": {"strategy": "mymodule:mine"},
    }
    balancer = start(evenflow, tmp_path, document)
    shown = balancer.api("GET", "/admin/config")
    balancer.api("PUT", "/admin/config", shown)
    pool = {
        "name": "p",
        "strategy": "mymodule:mine",
        "backends": [{"id": "b", "url": a.url}],
    }
    balancer.api("POST", "/admin/pools", pool, expect=201)
