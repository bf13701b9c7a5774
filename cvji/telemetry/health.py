"""/healthz, /readyz and /metrics over HTTP, in a thread of its own. Shows what its checks return; decides nothing."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, generate_latest

from cvji.settings import SettingsError

CONNECTION_TIME = 10.0  # seconds for a connection as a whole: kubelets and Prometheus wait no longer

Check = Callable[[], str]  # what is wrong, "" if nothing


def listening(address: str) -> tuple[str, int]:
    """The host and port of host:port. Raises ValueError.

    Without a host it is every address, IPv6 included. An IPv6 address may be without brackets, as a pod's IP is.
    """
    host, _, port = address.rpartition(":")
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  only where the operator says so
    return host.strip("[]") or everywhere, int(port)


def serve(address: str, registry: CollectorRegistry, alive: Check, ready: Check) -> None:
    """Serve on host:port from now on. Raises SettingsError."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        begun: ClassVar[dict[Any, float]] = {}  # when each open connection came

        def process_request(self, request: Any, client_address: Any) -> None:
            """Note when the connection came."""
            self.begun[request] = time.monotonic()
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            """It is over."""
            self.begun.pop(request, None)
            super().shutdown_request(request)

        def service_actions(self) -> None:
            """Twice a second: end what takes too long, so that no slow or silent client holds a thread."""
            for request, begun in list(self.begun.items()):
                if time.monotonic() - begun > CONNECTION_TIME:
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away, or was too slow, is not logged."""

        def server_bind(self) -> None:
            """Both families on `::`, and no look-up of this host's name, which HTTPServer would wait for."""
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            TCPServer.server_bind(self)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer a probe or a scrape."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8")
            elif path in ("/healthz", "/readyz"):
                wrong = (alive if path == "/healthz" else ready)()
                self._answer(503 if wrong else 200, (wrong or "ok").encode() + b"\n", "text/plain")
            else:
                self._answer(404, b"try /healthz, /readyz or /metrics\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Probes are not logged."""

    try:
        host, port = listening(address)
        Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = Server((host, port), Handler)
    except (ValueError, OverflowError):
        raise SettingsError(f"HEALTH_ADDRESS is {address!r}: it must be host:port, such as :8080") from None
    except OSError as err:
        raise SettingsError(f"HEALTH_ADDRESS {address!r} cannot be listened on: {err}") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
