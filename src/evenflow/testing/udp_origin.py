"""A server of datagrams: it answers each with its name and what it got."""

from __future__ import annotations

import socket
import threading
from typing import Self


class UdpOrigin:
    """Sends `name:` and the datagram back, `answers` times; records datagrams and their senders."""

    def __init__(self, name: str = "udp-origin", *, answers: int = 1, port: int = 0) -> None:
        self.name = name
        self.answers = answers
        self.port = port
        self.received: list[bytes] = []
        self.senders: list[tuple[str, int]] = []
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._own: tuple[str, int] | None = None

    @property
    def url(self) -> str:
        """The origin's URL."""
        return f"udp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Take datagrams, on the same port as before if it was stopped."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; no-op when stopped."""
        if self._socket is None or self._thread is None:
            return
        # Closing alone would not wake the thread; a datagram of its own does.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind(("127.0.0.1", 0))
            self._own = own.getsockname()
            own.sendto(b"", ("127.0.0.1", self.port))
            self._thread.join(10)
        self._socket.close()
        self._socket = self._thread = None

    def _serve(self, serving: socket.socket) -> None:
        while True:
            data, sender = serving.recvfrom(65_536)
            if sender == self._own:
                return
            self.received.append(data)
            self.senders.append(sender)
            for _ in range(self.answers):
                serving.sendto(f"{self.name}:".encode() + data if data else b"", sender)
