"""HTTP to CloudVision: one request in, one answer out, over kept-alive verified connections.

Decides what an answer means, never when to try again: that is the outbox's.
"""

import enum
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import urllib3

from cvji import http
from cvji.cloudvision.payloads import Request
from cvji.settings import CloudVision, SettingsError

log = logging.getLogger(__name__)

READ_TIMEOUT = 30.0  # a slow answer is better than a second request for the same thing
BODY_LIMIT = 64 * 1024
RETRY_AFTER_LIMIT = 600.0
NOT_FOUND = 5  # of gRPC


class Verdict(enum.Enum):
    """What an answer means for the request."""

    DELIVERED = "delivered"
    BUSY = "busy"  # the service is away or overloaded: nothing will get through for a while
    RETRY = "retry"  # this request failed, others may not
    UNAUTHORIZED = "unauthorized"  # 401: no request gets through with this token
    FORBIDDEN = "forbidden"  # 403: this kind of request does not
    REFUSED = "refused"  # CloudVision understood the request and will not take it


class Answer(msgspec.Struct, frozen=True):
    """The outcome of one attempt. `status` is 0 where no HTTP answer came; `retry_after` is in seconds."""

    verdict: Verdict
    status: int = 0
    message: str = ""
    retry_after: float = 0.0

    @property
    def reason(self) -> str:
        """Why the request was not taken, in words."""
        return http.failure(self.status, self.message)


Stamp = tuple[int, int, int]


def _stamp(file: Path) -> Stamp:
    """What changes with a file's content or permissions. Raises OSError."""
    stat = file.stat()
    return stat.st_ctime_ns, stat.st_ino, stat.st_size


class Token:
    """The bearer token, read again from its file when that changes. Never shown."""

    def __init__(self, value: str = "", file: str = "") -> None:
        """Raises SettingsError if the file cannot be read or what it holds cannot be a token."""
        self._file = Path(file) if file else None
        self._seen: Stamp | None = None
        self._value = value
        self._earlier = ""  # the value before: a request that is under way may carry it
        if self._file is not None:
            self._value = self._read(self._file)
        else:
            _check_token(value, "API_TOKEN")

    def __repr__(self) -> str:
        return "Token(...)"

    def _read(self, file: Path) -> str:
        try:
            stamp = _stamp(file)
            value = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "not text"
            raise SettingsError(f"API_TOKEN_FILE {file} cannot be read: {reason}") from None
        _check_token(value, f"API_TOKEN_FILE {file}")
        self._seen = stamp
        return value

    def current(self) -> str:
        """The token as it is now; the last good one while its file is being replaced."""
        if self._file is not None:
            with suppress(OSError, SettingsError):
                if _stamp(self._file) != self._seen:
                    value = self._read(self._file)
                    if value != self._value:  # else another thread has read it
                        self._earlier, self._value = self._value, value
        return self._value

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return self._value, self._earlier


def _check_token(value: str, source: str) -> None:
    if not value:
        raise SettingsError(f"{source} is empty: it must hold CloudVision's service account token")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise SettingsError(f"{source} holds characters that no token has (spaces, line breaks or non-ASCII)")


class Client:
    """Sends requests to one CloudVision. May be used by several threads at once."""

    def __init__(
        self,
        server: CloudVision,
        token: Token,
        *,
        connections: int = 8,
        timeout: float = READ_TIMEOUT,
        wall: Callable[[], float] = time.time,
        connected: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """`connected` is called with the socket of each new connection.

        Raises SettingsError if the CA file or the environment's proxy cannot be used.
        """
        self._base = f"https://{server.address}"
        self._token = token
        self._wall = wall
        self._timeout = timeout
        options = {"assert_hostname": False} if server.insecure else {}
        through = http.proxy_for(self._base, os.environ)
        open_pool = partial(http.pool, through, maxsize=connections, block=True, connected=connected, **options)
        self._pools = _Pools(server, open_pool)

    def token(self) -> str:
        """The token that the next request will carry; for noticing that it changed, not for showing."""
        return self._token.current()

    def close(self) -> None:
        """Close every kept connection."""
        self._pools.current().clear()

    def send(self, request: Request, within: float = READ_TIMEOUT) -> Answer:
        """Make one attempt, of at most `within` seconds. Every failure is an Answer; nothing is raised."""
        seconds = min(self._timeout, within)
        timeout = urllib3.Timeout(connect=min(http.CONNECT_TIMEOUT, seconds), total=seconds)
        try:
            with http.within(seconds):
                response = self.exchange(request.method, request.path, request.body, timeout)
        except http.ERRORS as err:
            return Answer(Verdict.BUSY, message=self.trouble(err))
        error = self._error(response)
        retry_after = http.retry_after(response.headers.get("Retry-After"), self._wall(), RETRY_AFTER_LIMIT)
        # Of the resource, and not of a path that some other server does not know.
        is_gone = request.method == "DELETE" and response.status == 404 and error.code == NOT_FOUND
        verdict = Verdict.DELIVERED if is_gone else _verdict(response.status)
        return Answer(verdict, response.status, self.words(error.message or ""), retry_after)

    def exchange(self, method: str, path: str, body: bytes, timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        """Send one request, with the token. The answer's body is still to be read. Raises those of `http.ERRORS`."""
        headers = {"Authorization": f"Bearer {self.token()}", "Accept": "application/json", "User-Agent": "cvji"}
        if body:
            headers["Content-Type"] = "application/json"
        return self._pools.current().request(
            method,
            self._base + path,
            body=body or None,
            headers=headers,
            timeout=timeout,
            redirect=False,
            preload_content=False,
        )

    def trouble(self, err: Exception) -> str:
        """What went wrong below HTTP, without the token."""
        return http.transport_error(err, self._token.secrets())

    def message(self, response: urllib3.BaseHTTPResponse) -> str:
        """What an error answer says, without the token; "" if it is no error or says nothing. Reads the body."""
        return self.words(self._error(response).message or "")

    def _error(self, response: urllib3.BaseHTTPResponse) -> "_ErrorBody":
        try:
            body = response.read(BODY_LIMIT, decode_content=True)
        except http.ERRORS:
            body = b""  # the status alone decides
        finally:
            if not response.closed:  # not read to its end: the next request on the connection would read on
                response.close()
            response.release_conn()
        return _error_of(body) if response.status >= 300 else _ErrorBody()

    def words(self, text: str) -> str:
        """The beginning of what a server says, without the token."""
        return http.excerpt(text, self._token.secrets())


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == 401:
        return Verdict.UNAUTHORIZED
    if status == 403:
        return Verdict.FORBIDDEN
    if status in (408, 425, 429, 502, 503, 504):
        return Verdict.BUSY
    if status >= 500 or status in (409, 499):  # aborted, or cancelled on the way: neither is about the report
        return Verdict.RETRY
    return Verdict.REFUSED


class _Pools:
    """Kept connections, which trust what API_CA_FILE holds: where it has changed, new ones."""

    def __init__(self, server: CloudVision, open_pool: Callable[..., urllib3.PoolManager]) -> None:
        """Raises SettingsError if the CA file cannot be used."""
        self._server, self._open = server, open_pool
        self._lock = threading.Lock()
        self._seen = self._look()
        self._pool = open_pool(ssl_context=_tls(server))

    def _look(self) -> Stamp | None:
        with suppress(OSError):
            return _stamp(Path(self._server.ca_file)) if self._server.ca_file else None
        return None

    def current(self) -> urllib3.PoolManager:
        """The pool for a request that begins now; that of the last good file while it is being replaced."""
        with self._lock:
            stamp = self._look()
            if stamp != self._seen:
                self._seen = stamp
                try:  # requests that are under way end on the connections that they have
                    self._pool = self._open(ssl_context=_tls(self._server))
                    log.info("API_CA_FILE %s has changed; it is what is trusted now", self._server.ca_file)
                except SettingsError as err:
                    log.warning("%s; what it held before is trusted still", err)
            return self._pool


def _tls(server: CloudVision) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.ca_file or None)
    except (OSError, ssl.SSLError) as err:
        raise SettingsError(f"API_CA_FILE {server.ca_file} cannot be used as CA certificates: {err}") from None
    if server.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _ErrorBody(msgspec.Struct):
    """google.rpc.Status."""

    message: str | None = None
    code: int = 0


def _error_of(body: bytes) -> _ErrorBody:
    """CloudVision's own words: the JSON `message`, else the body."""
    try:
        return msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _ErrorBody(body.decode("utf-8", "replace"))
