"""HTTP, once for both servers: pools of connections, proxies, transport errors in words, Retry-After.

Knows nothing of CloudVision or Kubernetes, and sends nothing by itself. Proxies are read from HTTPS_PROXY, HTTP_PROXY
and NO_PROXY as Go programs read them: Python's own reading knows no CIDR in NO_PROXY, which is how clusters write their
service and pod networks.
"""

import http.client
import io
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import urllib3

from cvji.settings import SettingsError

CONNECT_TIMEOUT = 10.0
ERROR_LIMIT = 500  # characters that are kept of an error's text
# What a request or the reading of its answer may raise: http.client lets ValueError and OverflowError through where a
# length is odd, such as a chunk of -5 bytes, and TLS a ValueError where another thread ended the connection.
ERRORS = (urllib3.exceptions.HTTPError, OSError, ValueError, OverflowError)
PORTS = {"http": 80, "https": 443}


class _Deadline(threading.local):
    """When, on the monotonic clock, this thread's request must be over."""

    at = float("inf")


_deadline = _Deadline()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Requests that this thread makes in here are over within `seconds` from now, or raise TimeoutError.

    With all of the answer, also where its body is read later. urllib3's timeouts are of each read, so an answer that
    comes byte by byte has none; and they do not see that the process was stopped while it connected.
    """
    _deadline.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _deadline.at = float("inf")


def _no_longer_than(seconds: float | None, at: float) -> float:
    """A socket's timeout that ends with the deadline too. Raises TimeoutError."""
    left = at - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left if seconds is None else min(seconds, left)


class _Timely(io.RawIOBase):
    """What a socket receives, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, at: float) -> None:
        self._raw, self._sock, self._at = raw, sock, at
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Wait for some bytes. Raises TimeoutError."""
        self._sock.settimeout(_no_longer_than(self._timeout, self._at))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer, after the interim ones (1xx), of which http.client passes over 100 alone. Read until the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        if _deadline.at < float("inf"):
            self.fp = io.BufferedReader(_Timely(self.fp.detach(), sock, _deadline.at))

    def begin(self) -> None:
        """Read status and headers, as http.client does. Raises HTTPException."""
        super().begin()
        while 100 <= self.status < 200:
            if self.status == 101:  # nobody asked for another protocol, and what follows is no HTTP
                raise http.client.BadStatusLine("HTTP 101 to a request that asks for no other protocol")
            self.headers = self.msg = None  # type: ignore[assignment]  # begin() reads nothing where it has some
            super().begin()


class _Connection(urllib3.connection.HTTPConnection):
    """urllib3's connection, kept to the deadline."""

    response_class = _Answer
    _held: list[bytes] | None = None  # what request() is to send, while it is put together

    def _new_conn(self) -> socket.socket:
        if _deadline.at == float("inf"):
            return super()._new_conn()
        self.timeout = _no_longer_than(self.timeout, _deadline.at)
        sock = super()._new_conn()
        sock.settimeout(_no_longer_than(self.timeout, _deadline.at))  # of the TLS handshake
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request, as urllib3 does, but headers and body in one write: the server wakes up once."""
        held: list[bytes] = []
        self._held = held
        try:
            super().request(*args, **options)
        finally:
            self._held = None
        self.send(b"".join(held))

    def send(self, data: Any) -> None:
        """Send bytes, as http.client does. Raises TimeoutError."""
        if self._held is not None:
            self._held.append(data)
            return
        if time.monotonic() >= _deadline.at:
            raise TimeoutError("not sent in time")
        super().send(data)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


def _https_pool(connected: Callable[[Any], None]) -> type[urllib3.HTTPSConnectionPool]:
    """urllib3's pool, with connections that give their socket to `connected`."""

    class Connection(_Connection, urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            """Connect, with TLS, as http.client does."""
            super().connect()
            connected(self.sock)

    class Pool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool


def pool(
    through: "Proxy | None", *, connected: Callable[[Any], None] = lambda _: None, **options: Any
) -> urllib3.PoolManager:
    """Kept-alive connections, through a proxy if one is given. Never retries; `options` are urllib3's.

    `connected` is called with the socket of each new HTTPS connection.
    """
    options |= {"num_pools": 4, "retries": False}
    manager: urllib3.PoolManager
    if through is None:
        manager = urllib3.PoolManager(**options)
    else:
        headers = urllib3.make_headers(proxy_basic_auth=through.auth) if through.auth else None
        manager = urllib3.ProxyManager(through.url, proxy_headers=headers, **options)
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _https_pool(connected)}
    return manager


# How urllib3 names the connection or its pool before it says what went wrong: the server is named where this is shown.
_CONNECTION = re.compile(r"\w*(?:Connection|Pool)\(host='[^']*', port=\d+\): ")


def excerpt(text: str, secrets: Iterable[str]) -> str:
    """The beginning of a server's text, on one line, with asterisks in place of secrets.

    It is cut last: what a cut leaves of a secret would not be found.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return "".join(char if char.isprintable() else " " for char in text[:ERROR_LIMIT]).strip()


def transport_error(err: Exception, secrets: Iterable[str] = ()) -> str:
    """What went wrong below HTTP, in words."""
    if isinstance(err, urllib3.exceptions.ProtocolError) and len(err.args) > 1:  # a text, and the error behind it
        if isinstance(err.args[1], http.client.IncompleteRead):
            return "the connection ended in the middle of the answer"
        err = err.args[1]
    text = _CONNECTION.sub("", str(getattr(err, "reason", None) or err))
    return excerpt(text, secrets) or type(err).__name__


def failure(status: int, message: str) -> str:
    """An error answer in words. `status` 0: no answer came, and the message says why."""
    if not status:
        return message
    return f"HTTP {status}: {message}" if message else f"HTTP {status}, without a message"


def date(header: str | None) -> float | None:
    """A Date header (RFC 9110 6.6.1) in seconds since the epoch; None if it is none."""
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, OverflowError):
        return None


def retry_after(header: str | None, now: float, most: float) -> float:
    """Seconds to wait by RFC 9110 10.2.3, a number of seconds or a date, up to `most`; 0 where there is none.

    `now` is in seconds since the epoch.
    """
    text = (header or "").strip()
    try:
        if text.isdigit():
            seconds = float(text[:9])
        else:
            at = parsedate_to_datetime(text)
            seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), most)


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's URL without credentials, and its credentials, `user:password` or empty. Never shown."""

    url: str
    auth: str

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL by the environment, lower case first. Raises SettingsError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as err:
        raise SettingsError(f"{url} is no URL of a server: {err}") from None
    name = f"{parts.scheme}_proxy"
    found = environment.get(name) or environment.get(name.upper())
    if not found or bypassed(
        parts.hostname or "",
        parts.port or PORTS.get(parts.scheme, 0),
        environment.get("no_proxy") or environment.get("NO_PROXY") or "",
    ):
        return None
    return proxy(found, name.upper())


def proxy(text: str, source: str) -> Proxy:
    """A proxy as it is written. Raises SettingsError, naming its source and not its credentials."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        fits = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        known = "it must be the URL of an HTTP proxy, such as http://proxy.example.com:3128"
        raise SettingsError(f"{source} cannot be used: {known}")
    auth, _, place = parts.netloc.rpartition("@")
    auth = unquote(auth)
    if any(ord(char) > 255 for char in auth):  # as HTTP's Basic scheme is written
        raise SettingsError(f"{source} cannot be used: its credentials are not Latin-1")
    return Proxy(f"{parts.scheme}://{place}", auth)


def bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: `*`, an address, a CIDR, a domain and what is below it; perhaps a port."""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        name, colon, wanted = entry.rpartition(":")
        if colon and wanted.isdecimal() and ("]" in name or ":" not in name):
            if int(wanted) != port:
                continue
            entry = name
        entry = entry.strip("[]")
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        elif entry and (host == entry.lstrip(".") or host.endswith("." + entry.lstrip("*").lstrip("."))):
            return True
    return False
