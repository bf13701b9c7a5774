"""The health endpoints' address, and what they answer."""

import http.client
import socket
import time
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from cvji.settings import SettingsError
from cvji.telemetry import health
from cvji.telemetry.health import listening, serve
from tests.e2e.kit import free_port


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("fd00::1:80", "fd00::1"),  # $(POD_IP):80 of a pod with an IPv6 address
        (":80", "::"),
    ],
)
def test_addresses(address: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    assert listening(address) == (host, 80)


def test_every_address_of_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert listening(":80") == ("0.0.0.0", 80)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", "nowhere.invalid:80"])
def test_an_address_that_cannot_be_listened_on(address: str) -> None:
    with pytest.raises(SettingsError, match="HEALTH_ADDRESS"):
        serve(address, CollectorRegistry(), lambda: "", lambda: "")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")),
    ],
)
def test_what_is_wrong_is_the_answer(host: str) -> None:
    port = free_port()
    serve(f"{host}:{port}", CollectorRegistry(), lambda: "", lambda: "not yet")
    connection = http.client.HTTPConnection(host, port, timeout=5)

    def ask(path: str) -> tuple[int, bytes]:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert ask("/healthz") == (200, b"ok\n")
    assert ask("/readyz?verbose") == (503, b"not yet\n")
    assert ask("/metrics")[0] == 200
    assert ask("/secrets")[0] == 404
    connection.close()


@pytest.mark.parametrize("drips", [False, True])
def test_a_silent_or_slow_client_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    monkeypatch.setattr(health, "CONNECTION_TIME", 0.2)
    port = free_port()
    serve(f"127.0.0.1:{port}", CollectorRegistry(), lambda: "", lambda: "")
    with socket.create_connection(("127.0.0.1", port), timeout=0.05 if drips else 10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n")
        deadline = time.monotonic() + 10
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                try:
                    assert connection.recv(100) == b""
                    return
                except TimeoutError:
                    connection.sendall(b"X")  # before the next one it waits for the time given above
            pytest.fail("the connection is still open")
