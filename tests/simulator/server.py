"""An HTTP server on loopback that can misbehave on command: refuse, slow down, fail, drop, stall."""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One bad answer. `status` 0 answers with bytes that are no HTTP; `drop` answers nothing or half.

    `after` lets the request take effect first; `methods` are those it befalls.
    """

    status: int = 0
    body: bytes = b"not HTTP at all\r\n\r\n"
    headers: Mapping[str, str] = {}
    drop: bool = False
    after: bool = False
    methods: frozenset[str] = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


class Handler(BaseHTTPRequestHandler):
    """What both simulators' request handlers share."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    simulator: Any

    def log_message(self, *args: object) -> None:
        """Tests read counters, not logs."""

    def handle(self) -> None:
        """One connection, which the other side or a fault may end at any moment."""
        with contextlib.suppress(OSError, ssl.SSLError, ValueError):
            super().handle()

    def finish(self) -> None:
        """The connection's end, whatever state it is in."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def body(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def misbehave(self, fault: Fault) -> None:
        """Answer as told."""
        self.close_connection = True
        if fault.drop and fault.status:
            self.send_response(fault.status)
            self.send_header("Content-Length", str(len(fault.body) + 100))
            self.end_headers()
            self.wfile.write(fault.body)
        elif fault.status:
            self.answer(fault.status, fault.body, {"Connection": "close", **fault.headers})
        elif not fault.drop:
            self.wfile.write(fault.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    owner: "SimulatedServer"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.owner.opened(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.owner.closed(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault's work, or the client's."""

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.owner.tls is not None:
            try:  # in the connection's own thread, so that a slow handshake holds up nobody
                wrapped = self.owner.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                self.shutdown_request(request)
                return
            self.owner.replaced(request, wrapped)
            request = wrapped
        super().process_request_thread(request, client_address)


class SimulatedServer:
    """A server in its own threads. `delay` slows each answer; `faults` befall the next requests in turn."""

    def __init__(
        self, handler: type[Handler], tls: ssl.SSLContext | None = None, lock: threading.Condition | None = None
    ) -> None:
        self.tls = tls
        self._handler = type("Bound", (handler,), {"simulator": self})
        self.lock = lock or threading.Condition()
        self.delay = 0.0
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self._live: set[socket.socket] = set()
        self.most_connections = 0
        self._listen(0)

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def _listen(self, port: int, bound: socket.socket | None = None) -> None:
        self._server = _Server(("127.0.0.1", port), self._handler, bind_and_activate=bound is None)
        self._server.owner = self
        if bound is not None:
            self._server.socket.close()
            self._server.socket = bound
            self._server.server_activate()
        self.port: int = self._server.socket.getsockname()[1]
        self._refused: socket.socket | None = None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Refuse connections and break the open ones; the port stays ours."""
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()
        self._refused = socket.socket()
        self._refused.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._refused.bind(("127.0.0.1", self.port))
        self.disconnect()

    def resume(self) -> None:
        """Listen again after `refuse`."""
        assert self._refused is not None
        self._listen(self.port, self._refused)

    def disconnect(self) -> None:
        """Break every open connection."""
        with self.lock:
            live = list(self._live)
        for connection in live:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown takes TLS off first: a handler would read what has come as it came, encrypted.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def opened(self, connection: socket.socket) -> None:
        with self.lock:
            self._live.add(connection)
            self.most_connections = max(self.most_connections, len(self._live))

    def replaced(self, old: socket.socket, new: socket.socket) -> None:
        with self.lock:
            self._live.discard(old)
            self._live.add(new)

    def closed(self, connection: socket.socket) -> None:
        with self.lock:
            self._live.discard(connection)

    def next_fault(self, method: str) -> Fault | None:
        """The fault that befalls this request, if any."""
        with self.lock:
            if self.faults and method in self.faults[0].methods:
                return self.faults.popleft()
            return self.always if self.always and method in self.always.methods else None

    def close(self) -> None:
        """Stop for good."""
        if self._refused is None:
            self._server.shutdown()
            self._thread.join()
            self._server.socket.close()
        else:
            self._refused.close()
        self.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
