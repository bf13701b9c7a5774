"""/healthz, /readyz and /metrics over HTTP, in a thread of its own. Says what it is told; decides nothing."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest

from cvji.settings import SettingsError

Check = Callable[[], str]  # what is wrong, "" if nothing


def serve(address: str, registry: CollectorRegistry, alive: Check, ready: Check) -> None:
    """Serve on host:port from now on. Raises SettingsError."""
    host, _, port = address.rpartition(":")

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
            """Probes are no news."""

    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    except (OSError, ValueError, OverflowError) as err:
        raise SettingsError(f"HEALTH_ADDRESS {address!r} cannot be listened on: {err}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
