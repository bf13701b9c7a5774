"""An HTTP proxy that tunnels (CONNECT) for who knows its password."""

import base64
import contextlib
import select
import socket

from tests.simulator.server import Handler, SimulatedServer


class ConnectProxy(SimulatedServer):
    """Counts the tunnels it opened."""

    def __init__(self, user: str, password: str) -> None:
        self.tunnels = 0
        self.expects = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        super().__init__(_Handler)


class _Handler(Handler):
    simulator: ConnectProxy

    def do_CONNECT(self) -> None:
        """Open a tunnel and carry bytes both ways until one side ends."""
        self.close_connection = True
        if self.headers.get("Proxy-Authorization") != self.simulator.expects:
            self.answer(407, b"")
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as target, contextlib.suppress(OSError):
            self.simulator.tunnels += 1
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: target, target: self.connection}
            while True:
                for ready in select.select(list(pair), [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    pair[ready].sendall(data)
