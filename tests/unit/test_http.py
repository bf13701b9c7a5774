"""Which proxy a request goes through, and when a server wants to be asked again."""

from http.client import IncompleteRead, RemoteDisconnected

import pytest
from urllib3.exceptions import ProtocolError

from cvji.http import Proxy, bypassed, failure, proxy, proxy_for, retry_after, transport_error
from cvji.settings import SettingsError


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
