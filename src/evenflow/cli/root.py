"""The command group: names, where each command lives, and which one is the default."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "audit": "evenflow.cli.audit:audit",
    "backends": "evenflow.cli.backends:backends",
    "cert": "evenflow.cli.cert:cert",
    "check": "evenflow.cli.check:check",
    "config": "evenflow.cli.config:config",
    "demo": "evenflow.cli.demo:demo",
    "discovery": "evenflow.cli.discovery:discovery",
    "explain": "evenflow.cli.explain:explain",
    "filters": "evenflow.cli.pieces:filters",
    "listeners": "evenflow.cli.pieces:listeners",
    "nodes": "evenflow.cli.nodes:nodes",
    "pools": "evenflow.cli.pieces:pools",
    "routes": "evenflow.cli.pieces:routes",
    "schema": "evenflow.cli.check:schema",
    "serve": "evenflow.cli.serve:serve",
    "status": "evenflow.cli.status:status",
    "tail": "evenflow.cli.tail:tail",
    "token": "evenflow.cli.token:token",
    "version": "evenflow.cli.version:version",
}

DEFAULT_COMMAND = "serve"
OWN_OPTIONS = frozenset({"-h", "--help", "--version"})


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is wanted, and knows a default one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of arguments that name none."""
        # While completing, an empty line must offer the commands.
        if not ctx.resilient_parsing and not args:
            args = [DEFAULT_COMMAND]
        elif args and args[0].startswith("-") and args[0] not in OWN_OPTIONS:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; `None` where there is none of that name."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="evenflow", message="%(prog)s %(version)s")
def root() -> None:
    """A load balancer: Python decides, a Rust engine carries the bytes.

    Without a command, `evenflow` serves. Commands that ask a running balancer take --url, --token
    and --ca-file, or EVENFLOW_URL, EVENFLOW_TOKEN and EVENFLOW_CA_FILE from the environment.
    """
