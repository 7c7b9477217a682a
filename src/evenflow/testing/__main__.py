"""`python -m evenflow.testing`: a small origin as a program, answering with its name."""

from __future__ import annotations

import argparse
import signal
import sys

from evenflow.testing.behaviours import echo
from evenflow.testing.origin import Origin, identify


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; print the URL once connections are accepted."""
    parser = argparse.ArgumentParser(prog="python -m evenflow.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--name", default="origin", help="what the answers say")
    parser.add_argument("--echo", action="store_true", help="answer with the request instead")
    options = parser.parse_args(arguments)
    behaviour = echo() if options.echo else identify(options.name)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with Origin(options.name, default=behaviour, host=options.host, port=options.port) as origin:
        sys.stdout.write(f"{origin.url}\n")
        sys.stdout.flush()
        signal.sigwait(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
