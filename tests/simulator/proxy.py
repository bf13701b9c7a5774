"""What stands between a client and a server: an HTTP proxy that tunnels (CONNECT), and a plain TCP relay."""

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
            _carry(self.connection, target)


class Relay(SimulatedServer):
    """Passes connections on to a server, byte for byte; `refuse` cuts them and `resume` lets new ones through."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        super().__init__(_Relayed)


class _Relayed(Handler):
    simulator: Relay

    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(self.simulator.target) as target:
            _carry(self.connection, target)


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    pair = {one: other, other: one}
    while True:
        for ready in select.select(list(pair), [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            pair[ready].sendall(data)
