"""Requests to the Kubernetes API: bytes in, bytes out, errors as values of one type.

The `kubernetes` package's Watch, informer and model classes are not used: they cost milliseconds and 100 kB a pod, and
its Watch without models cannot resume after a 410.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3

from cvji import http
from cvji.kube import credentials
from cvji.kube.objects import Status
from cvji.settings import SettingsError

log = logging.getLogger(__name__)

READ_TIMEOUT = 60.0
# Of a whole answer. API servers end any request but a watch after a minute (--request-timeout), unless told otherwise;
# 500 large objects over a slow connection may be longer on their way.
PAGE_TIMEOUT = 300.0
RETRY_AFTER_LIMIT = 300.0
# The API server sends a bookmark about once a minute (cacher's bookmarkFrequency); a watch that is silent
# for longer is a half-open connection.
WATCH_READ_TIMEOUT = 90.0
# etcd refuses requests over 1.5 MiB; far beyond that a line is not an object but a broken stream.
LINE_LIMIT = 16 * 1024 * 1024
READ_SIZE = 256 * 1024
# A token is fetched in a thread of its own, which costs as much as a fifth of a request. A rotated one is noticed so
# late at the most; kubelets rotate one long before it expires.
TOKEN_KEPT = 1.0
JSON = "application/json"
CONNECTIONS = 64  # one per watch at the most; idle ones are not opened

_STATUS = msgspec.json.Decoder(Status)


class ApiError(Exception):
    """The API server did not do what was asked. `code` is the HTTP status, 0 where no answer came.

    `causes` are the types of what the Status gives as causes, such as NamespaceTerminating.
    """

    def __init__(self, code: int, message: str, retry_after: float = 0.0, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"HTTP {code}: {message}" if code else message)
        self.code = code
        self.retry_after = retry_after
        self.causes = causes


class Api:
    """One API server. May be used by several threads at once."""

    def __init__(self, context: str = "") -> None:
        """Raises SettingsError if there are no usable credentials."""
        self._lock = threading.Lock()
        self._loaded = 0.0
        self._read_configuration = credentials.TimedCall(lambda: credentials.load(context))
        self._token = credentials.TimedCall(
            lambda: self._configuration.get_api_key_with_prefix("BearerToken"), keep=TOKEN_KEPT
        )
        self._load()
        if not self._configuration.verify_ssl:
            log.warning("insecure-skip-tls-verify: whoever answers at %s gets the credentials", self.host)

    def _load(self) -> None:
        try:
            configuration = self._read_configuration()
        except TimeoutError:
            plugin = f"no answer from the kubeconfig's exec plugin within {credentials.TIMEOUT:g} s"
            raise SettingsError(f"Kubernetes credentials: {plugin}") from None
        self._configuration, self._pool = configuration, _pool(configuration)
        self._token.forget()
        self._loaded = time.monotonic()

    def _reload(self) -> None:
        """After a 401: read the credentials again, at most once a few seconds however many threads ask."""
        with self._lock:
            if time.monotonic() - self._loaded > 5:
                try:
                    self._load()
                except SettingsError:
                    self._loaded = time.monotonic()  # keep what there is; the file may be in the making

    @property
    def host(self) -> str:
        """The API server's URL."""
        return self._configuration.host

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float,
        silence: float = READ_TIMEOUT,
    ) -> urllib3.BaseHTTPResponse:
        """One exchange, its body not read yet. Raises ApiError.

        It may last for `timeout` seconds, with its body, and nothing may come for `silence` seconds.
        """
        silence = min(silence, timeout)
        fields = {"Accept": JSON, "User-Agent": "cvji", **(headers or {})}
        if body is not None:
            fields["Content-Type"] = content_type
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        secrets: tuple[str, ...] = ()
        if token := self._authorization():
            fields["Authorization"] = token
            secrets = (token.rpartition(" ")[2],)  # without its scheme
        try:
            with http.within(timeout):
                response = self._pool.request(
                    method,
                    url,
                    body=body,
                    headers=fields,
                    timeout=urllib3.Timeout(connect=min(http.CONNECT_TIMEOUT, silence), read=silence),
                    redirect=False,
                    preload_content=False,
                )
        except http.ERRORS as err:
            raise ApiError(0, http.transport_error(err, secrets)) from None
        if response.status < 300:
            return response
        with closing(response):
            if response.status == 401:
                self._reload()
            wait = http.retry_after(response.headers.get("Retry-After"), time.time(), RETRY_AFTER_LIMIT)
            message, causes = _explained(response)
            raise ApiError(response.status, http.excerpt(message, secrets), wait, causes)

    def _authorization(self) -> str:
        """The Authorization header's value, if any. Raises ApiError."""
        try:
            value = (self._token() or "").strip()
        except TimeoutError:
            raise ApiError(0, "no answer from the kubeconfig's exec plugin") from None
        except SettingsError as err:
            raise ApiError(0, str(err)) from None
        except Exception as err:  # noqa: BLE001  whatever a credential source's code raises, the next request asks again
            raise ApiError(0, f"Kubernetes credentials: {credentials.one_line(err)}") from None
        if not (value.isascii() and value.isprintable()):  # http.client's refusal would quote it
            raise ApiError(0, "Kubernetes credentials: the token holds characters that no token has")
        return value

    def get(
        self,
        path: str,
        query: Mapping[str, str | int] | None = None,
        *,
        timeout: float = PAGE_TIMEOUT,
        silence: float = READ_TIMEOUT,
        accept: str = JSON,
    ) -> bytes:
        """The body of a GET. Raises ApiError: after `timeout` seconds, or `silence` seconds in which nothing came."""
        headers = {"Accept-Encoding": "gzip", "Accept": accept}
        return self._read(self._request("GET", path, query, headers=headers, timeout=timeout, silence=silence))

    def server_time(self) -> float | None:
        """The API server's clock by its Date header, in seconds since the epoch. Raises ApiError."""
        response = self._request("GET", "/version", timeout=READ_TIMEOUT)
        self._read(response)
        return http.date(response.headers.get("Date"))

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        content_type: str = JSON,
        query: Mapping[str, str | int] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> bytes:
        """The body of the answer to a write. Raises ApiError; `code` 409 is a lost conflict."""
        return self._read(self._request(method, path, query, body, content_type, timeout=timeout))

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            data = response.read(decode_content=True)
        except http.ERRORS as err:
            response.close()
            raise ApiError(0, http.transport_error(err)) from None
        response.release_conn()
        return data

    def watch(
        self,
        path: str,
        query: Mapping[str, str | int],
        opened: Callable[[Callable[[], None]], None] = lambda _: None,
        *,
        accept: str = JSON,
    ) -> Iterator[bytes]:
        """The lines of a watch as they come, until the server ends it. Raises ApiError.

        `opened` is given what ends the watch at once, for another thread to call.
        """
        headers = {"Accept": accept}
        response = self._request("GET", path, query, headers=headers, timeout=float("inf"), silence=WATCH_READ_TIMEOUT)
        with closing(response):
            opened(response.shutdown)
            try:
                yield from _lines(_chunks(response))
            except http.ERRORS as err:
                raise ApiError(0, http.transport_error(err)) from None


def _pool(configuration: credentials.Configuration) -> urllib3.PoolManager:
    """Connections to the API server, with the certificates and the proxy that the credentials name."""
    tls: dict[str, Any] = {}
    if configuration.host.startswith("https"):
        name = configuration.tls_server_name
        tls = {
            "cert_reqs": "CERT_REQUIRED" if configuration.verify_ssl else "CERT_NONE",
            "ca_certs": configuration.ssl_ca_cert,
            "cert_file": configuration.cert_file,
            "key_file": configuration.key_file,
            "server_hostname": name or None,  # None: the host of the URL
            "assert_hostname": name or (None if configuration.verify_ssl else False),
        }
    if configuration.proxy:
        through: http.Proxy | None = http.proxy(configuration.proxy, "the kubeconfig's proxy-url")
    else:
        through = http.proxy_for(configuration.host, os.environ)
    return http.pool(through, maxsize=CONNECTIONS, **tls)


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The parts of a watch's answer, each as soon as it has come."""
    if "Transfer-Encoding" in response.headers:
        return response.stream(READ_SIZE, decode_content=True)
    # Through an HTTP/1.0 proxy stream() would wait until READ_SIZE bytes have come.
    return iter(partial(response.read1, READ_SIZE, decode_content=True), b"")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that are not empty; one that is not ended is left out. Raises ApiError."""
    rest = b""
    for chunk in chunks:
        if b"\n" not in chunk:
            rest += chunk
            if len(rest) > LINE_LIMIT:
                raise ApiError(0, f"a watch event is over {LINE_LIMIT} bytes")
            continue
        first, *others, tail = chunk.split(b"\n")
        yield from filter(None, [rest + first, *others])
        rest = tail


def _explained(response: urllib3.BaseHTTPResponse) -> tuple[str, tuple[str, ...]]:
    """An error answer's message, and its causes."""
    status = Status()
    with contextlib.suppress(*http.ERRORS, msgspec.MsgspecError, UnicodeError, RecursionError):
        status = _STATUS.decode(response.read(16 * 1024, decode_content=True))
    causes = (status.details.causes if status.details else None) or ()
    words = " ".join((status.message or response.reason or "no reason given").split())
    return words, tuple(cause.reason for cause in causes if cause.reason)
