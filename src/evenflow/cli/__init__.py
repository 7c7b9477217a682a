"""The command line: composes the library for `serve` and `demo`, and talks to a running balancer.

The commands are one module each and are imported only when called, so that `evenflow serve` starts
without paying for the others.
"""

from __future__ import annotations

from evenflow.cli.root import root as root


def main() -> None:
    """Run the `evenflow` program; exits 0 when fine, 1 when failed, 2 for wrong usage or configuration."""
    root.main(prog_name="evenflow")
