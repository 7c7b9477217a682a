"""`evenflow demo`: three small origins and a balancer over them, to see it work."""

from __future__ import annotations

import asyncio
import shutil
import sys
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evenflow.cli.sources import load_or_fail, overrides, source_options

if TYPE_CHECKING:
    from evenflow import Config, LoadBalancer

ORIGINS = 3


@click.command()
@source_options
def demo(file: Path | None, **flags: Any) -> None:
    """Start three small origins and balance over them; keeps no state.

    Other settings (LB_PORT, LB_STRATEGY, a file) count as usual, backends do not.
    """
    given = overrides(**flags) | {"state.store": "memory"}
    loaded = load_or_fail(file, given)
    asyncio.run(_demo(loaded.config))


async def _demo(config: Config) -> None:
    from evenflow import Backend
    from evenflow.cli.demo_origin import demo_origins
    from evenflow.cli.serving import serve_program

    async with demo_origins(ORIGINS) as urls:
        backends = [Backend(id=name, url=url) for name, url in urls.items()]
        await serve_program(
            config.model_copy(update={"backends": tuple(backends)}), on_start=_print_what_to_try
        )


def _print_what_to_try(balancer: LoadBalancer) -> None:
    address = next(iter(balancer.addresses.values()))[0]
    port = address.rpartition(":")[2]
    url = f"http://localhost:{port}"
    at = "" if port == "8080" else f" --url {url}"
    program = "evenflow" if shutil.which("evenflow") else relpath(sys.argv[0])
    names = ", ".join(backend.id for backend in balancer.backends)
    click.echo(
        f"""
evenflow balances over {names}. Try:

  curl {url}/                        the next of the three answers
  curl {url}/health                  whether requests can be served
  curl {url}/api/v1/admin/backends   every backend, its state and why
  curl {url}/metrics                 for Prometheus
  {url}/docs/                        the API, in a browser
  {program} status{at}
  {program} explain GET /users/7{at}

Over servers of your own:  make run LB_BACKENDS=http://10.0.0.1:8080,http://10.0.0.2:8080
Stop with Ctrl-C.
""",
        err=True,
    )
