"""A TLS server on loopback whose answers are the bytes that a test gives, for what no HTTP server would send."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.simulator.certs import make_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class RawServer:
    """Calls `answer` with each request, headers and body, and with what sends bytes to the client.

    `over` is set when the test is: what goes on for ever ends with it.
    """

    def __init__(self, folder: Path, answer: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        self.tls, self.ca_file = make_tls(folder)
        self.over = threading.Event()
        self.requests: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._live: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._live.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), self.tls.wrap_socket(raw, server_side=True) as connection:
            self._live.append(connection)
            reader = connection.makefile("rb")
            while request := _read(reader.readline, reader.read):
                self.requests.append(request)
                self._answer(request, connection.sendall)

    def drip(self, send: Callable[[bytes], None], piece: bytes = b"a", pieces: int = 200) -> None:
        """A piece every 50 ms: each comes long before any read times out."""
        for _ in range(pieces):
            if self.over.wait(0.05):
                return
            send(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for end in (self._listener, *self._live):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(end, socket.SHUT_RDWR)
            end.close()


def _read(line: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes:
    """A request's headers and body; nothing at the connection's end."""
    head, length = b"", 0
    while (got := line()) not in (b"\r\n", b""):
        head += got
        if got.lower().startswith(b"content-length:"):
            length = int(got.split(b":")[1])
    return head + b"\r\n" + read(length) if head else b""
