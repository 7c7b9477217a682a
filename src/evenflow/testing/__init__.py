"""Servers, clients and processes for tests of evenflow, and of what you build with it.

Everything works on real sockets of loopback:

- `Origin`, `RawOrigin`, `TcpOrigin`, `UdpOrigin`: backends with scripted answers that record what they get;
  `evenflow.testing.behaviours` has the answers, `Gate` holds them back until a test says so.
- `OriginProcess`, `EvenflowProcess`: the same and the balancer as processes, to signal and kill.
- `running_balancer`: the balancer inside the test's own program.
- `Client`: a raw connection with a readable transcript; `request` for one exchange; `Load` for
  clients that keep asking in the background.
- `WebSocket` and `echo_websocket`: the two ends of a WebSocket.
- `document`: a configuration in one line.
- `wait_for`, `free_port`: bounded waiting for conditions, and ports.

The checks are strict where HTTP is: an origin lists in `violations` what a proxy sent wrongly.
"""

from evenflow.testing import behaviours
from evenflow.testing.balancer import running_balancer
from evenflow.testing.client import Client, TranscriptError, request
from evenflow.testing.documents import document
from evenflow.testing.exchange import Behaviour, Exchange, ReceivedRequest
from evenflow.testing.gate import Gate
from evenflow.testing.load import Load
from evenflow.testing.origin import Origin, RawOrigin
from evenflow.testing.process import (
    EvenflowProcess,
    OriginProcess,
    ProcessFailedError,
    run_evenflow,
)
from evenflow.testing.response import Response
from evenflow.testing.tcp_origin import TcpOrigin
from evenflow.testing.udp_origin import UdpOrigin
from evenflow.testing.waiting import WaitTimeoutError, free_port, wait_for
from evenflow.testing.websocket import WebSocket, echo_websocket
from evenflow.testing.wire import WireError

__all__ = [
    "Behaviour",
    "Client",
    "EvenflowProcess",
    "Exchange",
    "Gate",
    "Load",
    "Origin",
    "OriginProcess",
    "ProcessFailedError",
    "RawOrigin",
    "ReceivedRequest",
    "Response",
    "TcpOrigin",
    "TranscriptError",
    "UdpOrigin",
    "WaitTimeoutError",
    "WebSocket",
    "WireError",
    "behaviours",
    "document",
    "echo_websocket",
    "free_port",
    "request",
    "run_evenflow",
    "running_balancer",
    "wait_for",
]
