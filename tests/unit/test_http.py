"""How a request leaves, through which proxy, and when a server wants to be asked again."""

import socket
import threading
from http.client import IncompleteRead, RemoteDisconnected
from pathlib import Path

import pytest
from urllib3.exceptions import HTTPError, ProtocolError

from cvji.http import Proxy, bypassed, failure, pool, proxy, proxy_for, retry_after, transport_error, within
from cvji.settings import SettingsError
from tests.simulator.certs import make_tls


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "passes_by"),
    [
        ("", "cv", 443, False),
        ("*", "cv", 443, True),
        ("10.0.0.0/8", "10.96.0.1", 443, True),
        ("10.0.0.0/8, fd00::/8", "fd00::1", 443, True),
        ("10.0.0.0/8", "11.96.0.1", 443, False),
        ("10.0.0.0/8", "cv.10.0.0.0", 443, False),
        ("10.96.0.1", "10.96.0.1", 443, True),
        ("10.96.0.1:6443", "10.96.0.1", 443, False),
        ("10.96.0.1:443", "10.96.0.1", 443, True),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("fd00::1", "fd00::1", 443, True),
        ("example.com", "cv.example.com", 443, True),
        (".example.com", "cv.example.com.", 443, True),
        ("*.example.com", "CV.Example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        ("example.com:8443", "cv.example.com", 443, False),
        (" , .svc,localhost", "kubernetes.default.svc", 443, True),
        ("300.0.0.0/8,x/y,1.2.3.4/99,:443,[", "1.2.3.4", 443, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, passes_by: bool) -> None:
    assert bypassed(host, port, no_proxy) == passes_by


def test_the_scheme_chooses_lower_case_comes_first_and_credentials_are_set_apart() -> None:
    environment = {"HTTPS_PROXY": "upper:1", "https_proxy": "http://us%40r:p%2Fw@lower:3128", "HTTP_PROXY": "plain:1"}
    assert proxy_for("https://cv", environment) == Proxy("http://lower:3128", "us@r:p/w")
    assert proxy_for("http://cv", environment) == Proxy("http://plain:1", "")
    assert proxy_for("https://cv:8443", environment | {"NO_PROXY": "cv:8443"}) is None
    assert proxy_for("https://cv", environment | {"NO_PROXY": "cv:8443"}) is not None
    assert proxy_for("https://cv", {}) is None
    assert "p/w" not in repr(proxy_for("https://cv", environment))


@pytest.mark.parametrize(
    ("err", "text"),
    [
        (IncompleteRead(b"", 595), "the connection ended in the middle of the answer"),
        (
            RemoteDisconnected("Remote end closed connection without response"),
            "Remote end closed connection without response",
        ),
        (ConnectionResetError(104, "Connection reset by peer"), "[Errno 104] Connection reset by peer"),
    ],
)
def test_a_broken_connection_in_words(err: Exception, text: str) -> None:
    assert transport_error(ProtocolError(f"Connection broken: {err!r}", err)) == text


@pytest.mark.parametrize(
    "text",
    [
        "socks5://h:1",
        "http://",
        "http://user:secret@h:port",
        "http://[::1",
        "h:0",
        "http://h:99999",
        "http://u:secret%E2%82%AC@h:1",
    ],
)
def test_what_is_no_proxy_is_refused_without_its_credentials(text: str) -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY cannot be used: it") as raised:
        proxy(text, "HTTPS_PROXY")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        (" 7 ", 7),
        ("9" * 400, 300),
        ("-1", 0),
        ("\u00b2", 0),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:01:45 GMT", 5),
        ("Thu, 01 Jan 1970 00:01:45 -0000", 5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 2970 00:00:00 GMT", 300),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(header: str | None, seconds: float) -> None:
    assert retry_after(header, 100.0, 300.0) == seconds


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (400, "location is unknown", "HTTP 400: location is unknown"),
        (400, "", "HTTP 400, without a message"),
        (0, "connection refused", "connection refused"),
    ],
)
def test_a_failure_is_in_words_whatever_the_server_left_out(status: int, message: str, words: str) -> None:
    assert failure(status, message) == words


def test_headers_and_body_leave_as_one_tls_record_and_not_after_the_deadline(tmp_path: Path) -> None:
    context, authority = make_tls(tmp_path)
    records: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            records.append(connection.recv(65536))  # one record at most
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            records.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        manager = pool(None, ca_certs=str(authority))
        assert manager.request("POST", url, body=b"the body", timeout=10).data == b"ok"
        with within(0), pytest.raises(HTTPError, match="not sent in time"):
            manager.request("POST", url, body=b"too late", timeout=1)
        manager.clear()
        server.join()
    assert records[0].startswith(b"POST / HTTP/1.1\r\n")
    assert records[0].endswith(b"\r\n\r\nthe body")
    assert records[1] == b""


@pytest.mark.parametrize("url", ["https://[:::]", "https://[::1]:port", "https://api:99999"])
def test_a_url_that_names_no_server_is_one_line(url: str) -> None:
    with pytest.raises(SettingsError, match="is no URL of a server"):
        proxy_for(url, {})
