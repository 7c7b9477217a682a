"""TLS with both halves of a connection closed one by one, as `ssl.SSLSocket` cannot.

`TlsWire` is one end; `TlsOrigin` a server of them for tests of layer-4 balancing.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Self

_READ_SIZE = 65_536
_TIMEOUT_S = 15.0


class TlsWire:
    """One end of an encrypted connection. One thread may send while another receives.

    The end of what is received is `b""` after the other end's `close_notify`; without that,
    `ssl.SSLEOFError` is raised.
    """

    def __init__(
        self,
        stream: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        name: str | None = None,
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        self._plain = bytearray()
        self._ended = False
        self.session = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=name
        )
        stream.settimeout(_TIMEOUT_S)
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                # The alert that tells the other end why.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                break
        self._flush()

    @classmethod
    def connect(cls, port: int, context: ssl.SSLContext, name: str = "site.test") -> Self:
        """Connect to a port of this host; nothing stays open when the handshake fails."""
        stream = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
        try:
            return cls(stream, context, name=name)
        except BaseException:
            stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            with self._lock:
                view = view[self.session.write(view[:_READ_SIZE]) :]
            # Without the lock: the other end may want its own bytes taken first.
            self._flush()

    def receive(self) -> bytes:
        """What has come, at least one byte; `b""` is the end."""
        while True:
            with self._lock:
                self._decrypt()
                if self._plain or self._ended:
                    data = bytes(self._plain)
                    self._plain.clear()
                    return data
            self._feed()

    def receive_exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = bytearray()
        while len(data) < count:
            part = self.receive()
            assert part, f"the stream ended after {len(data)} of {count} bytes"
            data += part
        self._plain[:0] = data[count:]
        return bytes(data[:count])

    def receive_to_end(self) -> bytes:
        """Everything until the other end's `close_notify`."""
        data = bytearray()
        while part := self.receive():
            data += part
        return bytes(data)

    def half_close(self) -> None:
        """Send `close_notify` and the end of the stream, and go on receiving."""
        with self._lock:
            self._decrypt()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.session.unwrap()
        self._flush()
        self._stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close without another word."""
        self._stream.close()

    def _decrypt(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self._ended:
                try:
                    part = self.session.read(_READ_SIZE)
                except ssl.SSLZeroReturnError:
                    part = b""
                self._ended = not part
                self._plain += part

    def _feed(self) -> None:
        data = self._stream.recv(_READ_SIZE)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._stream.sendall(data)


class TlsOrigin:
    """Greets like `TcpOrigin`, sends back what it gets and says `bye`, all over TLS."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        self.name = name
        self.sessions = 0
        self.received = 0
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def url(self, scheme: str = "tls") -> str:
        """Return the origin's URL."""
        return f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake the thread that accepts.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            wire = TlsWire(stream, self._context, server_side=True)
            wire.send(f"{self.name}\n".encode())
            counted = False
            while data := wire.receive():
                self.sessions += not counted
                counted = True
                self.received += len(data)
                wire.send(data)
            wire.send(b"bye\n")
            wire.half_close()


__all__ = ["TlsOrigin", "TlsWire"]
