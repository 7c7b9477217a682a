"""The command group: its default command, its lazy imports, its exit codes."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from evenflow.cli.root import COMMANDS, root


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(runner: CliRunner, name: str) -> None:
    result = runner.invoke(root, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_options_without_a_command_are_those_of_serve(runner: CliRunner) -> None:
    result = runner.invoke(root, ["--port", "none"])
    assert result.exit_code == 2
    assert "'-p' / '--port'" in result.output


def test_an_unknown_command_is_wrong_usage(runner: CliRunner) -> None:
    result = runner.invoke(root, ["bakends"])
    assert result.exit_code == 2
    assert "bakends" in result.output


def test_completion_offers_the_commands() -> None:
    from click.shell_completion import ShellComplete

    found = ShellComplete(root, {}, "evenflow", "_EVENFLOW_COMPLETE").get_completions([], "")
    assert {item.value for item in found} == set(COMMANDS)


def test_every_command_that_prints_can_print_json() -> None:
    serving = {"serve", "demo"}
    for name, command in _leaves(root):
        if name not in serving:
            assert any("--json" in parameter.opts for parameter in command.params), name


def test_asking_commands_load_neither_pydantic_nor_the_engine() -> None:
    code = (
        "import sys, evenflow.cli.root, evenflow.cli.backends, evenflow.cli.status;"
        "print(sorted({'pydantic', 'starlette', 'uvicorn', 'evenflow._engine'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


def _leaves(group: click.Group) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += _leaves(command) if isinstance(command, click.Group) else [(name, command)]
    return found
