"""Requests to the Kubernetes API: bytes in, bytes out, errors as values of one type.

The only importer of the `kubernetes` package, which gives kubeconfig, exec plugins and in-cluster
credentials; its Watch, informer and model classes are not used (they cost milliseconds and 100 kB a pod,
and its Watch without models cannot resume after a 410).
"""

import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from cvji import http
from cvji.kube.objects import Status
from cvji.settings import SettingsError

log = logging.getLogger(__name__)
T = TypeVar("T")

READ_TIMEOUT = 60.0
RETRY_AFTER_LIMIT = 300.0
# The API server sends a bookmark about once a minute (cacher's bookmarkFrequency); a watch that is silent
# for longer is a half-open connection.
WATCH_READ_TIMEOUT = 90.0
# etcd refuses requests over 1.5 MiB; far beyond that a line is not an object but a broken stream.
LINE_LIMIT = 16 * 1024 * 1024
READ_SIZE = 256 * 1024
# An exec plugin fetches a token within seconds; one that waits for somebody to log in never ends.
CREDENTIALS_TIMEOUT = 30.0
# A token is asked for in a thread of its own, which costs as much as a fifth of a request; they change by the minute.
TOKEN_FRESH = 1.0
CONNECTIONS = 64  # one per watch at the most; idle ones are not opened

_STATUS = msgspec.json.Decoder(Status)


class ApiError(Exception):
    """The API server did not do what was asked. `code` is the HTTP status, 0 where no answer came."""

    def __init__(self, code: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"HTTP {code}: {message}" if code else message)
        self.code = code
        self.retry_after = retry_after


class Configuration(Protocol):
    """What is used of kubernetes.client.Configuration."""

    host: str
    ssl_ca_cert: str | None
    cert_file: str | None
    key_file: str | None
    verify_ssl: bool
    proxy: str | None
    tls_server_name: str | None

    def get_api_key_with_prefix(self, identifier: str) -> str | None:
        """The Authorization header's value, refreshed when due."""
        ...


def load_configuration(context: str = "") -> Configuration:
    """Credentials by KUBECONFIG, else in-cluster, else ~/.kube/config. Raises SettingsError."""
    _pass_over("kubernetes", "kubernetes.config")
    from kubernetes.client.configuration import Configuration as Given
    from kubernetes.config.config_exception import ConfigException

    found: Configuration = Given(proxy="", no_proxy="")  # proxy-url alone; the rest is http.py's
    files = os.environ.get("KUBECONFIG", "")
    try:
        if not files and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
            from kubernetes.config.incluster_config import load_incluster_config

            load_incluster_config(client_configuration=found)
            return found
        source = files or "~/.kube/config"
        if not any(Path(name).expanduser().exists() for name in source.split(os.pathsep) if name):
            wanted = f"KUBECONFIG {files} does not exist" if files else "~/.kube/config does not exist"
            raise SettingsError(f"{wanted}: set KUBECONFIG to a kubeconfig file, or run inside a cluster")
        from kubernetes.config.kube_config import load_kube_config

        load_kube_config(config_file=source, context=context or None, client_configuration=found, persist_config=False)
    except SettingsError:
        raise
    except ConfigException as err:
        chosen = f", context {context!r} (KUBE_CONTEXT)" if context else ""
        raise SettingsError(f"Kubernetes credentials{chosen}: {_one_line(err)}") from None
    except OSError as err:
        raise SettingsError(f"Kubernetes credentials: {err.filename}: {err.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise SettingsError(
            f"KUBECONFIG {files} is not a kubeconfig: something in it is not what it should be ({type(err).__name__})"
        ) from None
    except Exception as err:  # noqa: BLE001  YAML errors come from a package that only this one imports
        raise SettingsError(f"KUBECONFIG {files} is not YAML: {_one_line(err)}") from None
    return found


def _pass_over(*packages: str) -> None:
    """Let modules of these packages be imported without what the packages themselves import.

    `import kubernetes` reads every model, websockets and pydantic; the two modules that a pod's credentials need
    take 3 MB, not 22, of the 50 that a node's discovery may have.
    """
    for name in packages:
        if name not in sys.modules and (spec := importlib.util.find_spec(name)):
            package = sys.modules[name] = ModuleType(name)
            package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())[:300]


class _Patient(Generic[T]):
    """A call that may never return, waited for only so long. Who comes meanwhile waits for the same call."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def __call__(self) -> T:
        """Raises what the work raises, or TimeoutError."""
        with self._lock:
            pending = self._pending
            if pending is None or pending.done():
                pending = self._pending = Future()
                threading.Thread(target=self._run, args=(pending,), name="credentials", daemon=True).start()
        return pending.result(CREDENTIALS_TIMEOUT)

    def _run(self, pending: "Future[T]") -> None:
        try:
            pending.set_result(self._work())
        except Exception as err:  # noqa: BLE001  handed on to who waits
            pending.set_exception(err)


class Api:
    """One API server. May be used by several threads at once."""

    def __init__(self, context: str = "") -> None:
        """Raises SettingsError if there are no usable credentials."""
        self._context = context
        self._lock = threading.Lock()
        self._loaded = 0.0
        self._read_configuration = _Patient(lambda: load_configuration(self._context))
        self._token = _Patient(lambda: self._configuration.get_api_key_with_prefix("BearerToken"))
        self._load()
        if not self._configuration.verify_ssl:
            log.warning("insecure-skip-tls-verify: whoever answers at %s gets the credentials", self.host)

    def _load(self) -> None:
        try:
            configuration = self._read_configuration()
        except TimeoutError:
            plugin = f"no answer from the kubeconfig's exec plugin within {CREDENTIALS_TIMEOUT:g} s"
            raise SettingsError(f"Kubernetes credentials: {plugin}") from None
        options: dict[str, object] = {"maxsize": CONNECTIONS}
        if configuration.host.startswith("https"):
            options |= {
                "cert_reqs": "CERT_REQUIRED" if configuration.verify_ssl else "CERT_NONE",
                "ca_certs": configuration.ssl_ca_cert,
                "cert_file": configuration.cert_file,
                "key_file": configuration.key_file,
            }
            if not configuration.verify_ssl:
                options["assert_hostname"] = False
            if configuration.tls_server_name:
                options["server_hostname"] = options["assert_hostname"] = configuration.tls_server_name
        through = http.proxy_for(configuration.host, os.environ)
        if configuration.proxy:
            through = http.proxy(configuration.proxy, "the kubeconfig's proxy-url")
        self._configuration, self._pool = configuration, http.pool(through, **options)
        self._header = ("", 0.0)  # the Authorization header's value, and until when it is taken as it is
        self._loaded = time.monotonic()

    def _reload(self) -> None:
        """After a 401: read the credentials anew, at most once a few seconds however many threads ask."""
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
        content_type: str = "application/json",
        read_timeout: float = READ_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One exchange, its body not read yet. Raises ApiError."""
        fields = {"Accept": "application/json", "User-Agent": "cvji", **(headers or {})}
        if body is not None:
            fields["Content-Type"] = content_type
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        if token := self._authorization():
            fields["Authorization"] = token
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers=fields,
                timeout=urllib3.Timeout(connect=min(http.CONNECT_TIMEOUT, read_timeout), read=read_timeout),
                redirect=False,
                preload_content=False,
            )
        except (*http.ERRORS, ValueError) as err:
            raise ApiError(0, http.transport_error(err)) from None
        if response.status < 300:
            return response
        with closing(response):
            if response.status == 401:
                self._reload()
            wait = http.retry_after(response.headers.get("Retry-After"), time.time(), RETRY_AFTER_LIMIT)
            raise ApiError(response.status, _message(response), wait)

    def _authorization(self) -> str:
        """The Authorization header's value, if any. Raises ApiError."""
        header, until = self._header
        if time.monotonic() < until:
            return header
        try:
            value = (self._token() or "").strip()
        except TimeoutError:
            raise ApiError(0, "no answer from the kubeconfig's exec plugin") from None
        except Exception as err:  # noqa: BLE001  whatever a credential source's code raises, the next request asks anew
            raise ApiError(0, f"Kubernetes credentials: {_one_line(err)}") from None
        if not (value.isascii() and value.isprintable()):  # http.client's refusal would quote it
            raise ApiError(0, "Kubernetes credentials: the token holds characters that no token has")
        self._header = (value, time.monotonic() + TOKEN_FRESH)
        return value

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, timeout: float = READ_TIMEOUT) -> bytes:
        """The body of a GET. Raises ApiError."""
        headers = {"Accept-Encoding": "gzip"}
        return self._read(self._request("GET", path, query, headers=headers, read_timeout=timeout))

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str | int] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> bytes:
        """The body of the answer to a write. Raises ApiError; `code` 409 is a lost conflict."""
        return self._read(self._request(method, path, query, body, content_type, timeout))

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
    ) -> Iterator[bytes]:
        """The lines of a watch as they come, until the server ends it. Raises ApiError.

        `opened` is given what ends the watch at once, for another thread to call.
        """
        response = self._request("GET", path, query, read_timeout=WATCH_READ_TIMEOUT)
        with closing(response):
            opened(response.shutdown)
            rest = b""
            if "Transfer-Encoding" in response.headers:
                chunks = response.stream(READ_SIZE, decode_content=True)
            else:  # through an HTTP/1.0 proxy; stream() would hold events back until READ_SIZE have come
                chunks = iter(partial(response.read1, READ_SIZE, decode_content=True), b"")
            try:
                for chunk in chunks:
                    if b"\n" not in chunk:
                        rest += chunk
                        if len(rest) > LINE_LIMIT:
                            raise ApiError(0, f"a watch event is over {LINE_LIMIT} bytes")
                        continue
                    *lines, tail = chunk.split(b"\n")
                    lines[0] = rest + lines[0]
                    rest = tail
                    yield from filter(None, lines)
            except (*http.ERRORS, ValueError) as err:  # ValueError: TLS, shut by us
                raise ApiError(0, http.transport_error(err)) from None


def _message(response: urllib3.BaseHTTPResponse) -> str:
    try:
        body = response.read(16 * 1024, decode_content=True)
        message = _STATUS.decode(body).message
    except (*http.ERRORS, msgspec.MsgspecError, UnicodeError, RecursionError):
        message = None
    return " ".join((message or response.reason or "no reason given").split())[:300]
