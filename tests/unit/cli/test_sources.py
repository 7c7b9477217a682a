"""Flags as values by path, and what `check` and `config show` say about files."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from evenflow.cli.root import root
from evenflow.cli.sources import overrides


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
    cleared: dict[str, str | None] = {"LB_CONFIG": None, "LB_PORT": None, "LB_BACKENDS": None}
    return CliRunner().invoke(root, arguments, env={**cleared, **(env or {})})


def test_named_flags_give_their_settings() -> None:
    given = overrides(("http://a:1", "http://b:2"), ("server.name=lb",), port=81, strategy=None)
    assert given == {
        "server.name": "lb",
        "load_balancer.port": 81,
        "backends": "http://a:1,http://b:2",
    }


def test_a_setting_without_a_value_is_wrong_usage() -> None:
    with pytest.raises(click.BadParameter, match="PATH=VALUE"):
        overrides((), ("server.name",))


def test_flags_stand_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "evenflow.yaml"
    file.write_text("load_balancer: {port: 1001, strategy: weighted, max_retries: 1}\n")
    result = run(
        *("config", "show", "--json", "-c", str(file), "--port", "1003"),
        env={"LB_PORT": "1002", "LB_STRATEGY": "ip_hash"},
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    settings = shown["config"]["load_balancer"]
    assert (settings["port"], settings["strategy"], settings["max_retries"]) == (1003, "ip_hash", 1)
    assert shown["origins"]["load_balancer.port"] == "flag"
    assert shown["origins"]["load_balancer.strategy"] == "env LB_STRATEGY"
    assert shown["origins"]["load_balancer.max_retries"] == f"{file}:1"
    assert shown["origins"]["load_balancer.timeout"] == "default"


def test_any_setting_can_be_given_by_its_path() -> None:
    result = run("config", "show", "--json", "--set", "load_balancer.timeout=7s")
    assert json.loads(result.output)["config"]["load_balancer"]["timeout"] == "7s"


def test_the_expanded_form_is_itself_a_configuration(tmp_path: Path) -> None:
    shown = run("config", "show", "--expanded", "--backend", "http://127.0.0.1:81")
    assert shown.exit_code == 0, shown.output
    file = tmp_path / "full.yaml"
    file.write_text(shown.output)
    assert run("check", str(file)).exit_code == 0


def test_check_says_what_a_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "evenflow.toml"
    file.write_text('[[backends]]\nurl = "http://127.0.0.1:81"\n')
    result = run("check", str(file), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "valid": True,
        "listeners": 1,
        "routes": 1,
        "pools": 1,
        "backends": 1,
    }


def test_check_names_file_line_path_and_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "evenflow.yaml"
    file.write_text("load_balancer:\n  prot: 80\n")
    result = run("check", str(file))
    assert result.exit_code == 2
    assert f"{file}:2" in result.stderr
    assert "load_balancer.prot" in result.stderr
    assert "did you mean `port`?" in result.stderr


def test_check_prints_problems_as_json(tmp_path: Path) -> None:
    file = tmp_path / "evenflow.yaml"
    file.write_text("load_balancer: {port: many}\n")
    result = run("check", str(file), "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.output)["errors"]
    assert problem["path"] == "load_balancer.port"
    assert problem["line"] == 1


def test_check_finds_a_strategy_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "evenflow.yaml"
    file.write_text(
        "load_balancer: {strategy: 'nowhere.at_all:mine'}\nbackends: [{url: 'http://127.0.0.1:81'}]\n"
    )
    result = run("check", str(file))
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


def test_a_file_that_is_not_there_is_wrong_configuration(tmp_path: Path) -> None:
    assert run("check", str(tmp_path / "absent.yaml")).exit_code == 2
    assert run("serve", "-c", str(tmp_path / "absent.yaml")).exit_code == 2


def test_the_schema_is_printed() -> None:
    schema = json.loads(run("schema").output)
    assert "load_balancer" in schema["properties"]
