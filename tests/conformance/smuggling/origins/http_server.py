"""An origin on `http.server`: writes a line of JSON for each request that it understood."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Serves any method."""

    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self._body()
        record = {
            "connection": self.client_address[1],
            "method": self.command,
            "target": self.path,
            "fields": self.headers.items(),
            "body": base64.b64encode(body).decode(),
        }
        print(json.dumps(record), flush=True)
        answer = f"{self.command} {self.path}".encode("latin-1", "replace")
        self.send_response(200)
        self.send_header("X-Echo", answer.decode("latin-1"))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError("the body was cut short")
        return body

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Ends quietly the connections that end early."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that leave are what is tested."""


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
