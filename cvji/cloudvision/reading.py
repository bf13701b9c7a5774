"""Reads from CloudVision's resource API: one resource, or all of them (design 2.1; GetOne and GetAll).

For commands that look once. A token may be allowed to write and not to read: that is an answer like others.
"""

import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from cvji import http
from cvji.cloudvision.client import Client, Token
from cvji.cloudvision.payloads import JOB_CONFIG, EntryKey, Values
from cvji.settings import CloudVision

T = TypeVar("T")
READ_TIMEOUT = 30.0
TIMEOUT = urllib3.Timeout(connect=5.0, read=READ_TIMEOUT)
CHUNK = 64 * 1024
LINE_LIMIT = 4 * 1024 * 1024  # one resource: far beyond the largest job


class ReadError(Exception):
    """CloudVision did not give what was asked. `status` is the HTTP status, 0 where no answer came."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(http.failure(status, message))
        self.status = status


class _Wire(msgspec.Struct, rename="camel"):
    """Answers are in lowerCamelCase; unknown fields are skipped."""


class JobEntry(_Wire):
    """A JobConfig as it is held."""

    key: EntryKey
    name: str = ""
    location: str = ""
    state: str = ""
    type: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    interfaces: Values | None = None
    nodes: Values | None = None


class _Result(_Wire):
    value: JobEntry | None = None


class _Error(_Wire):
    """google.rpc.Status."""

    code: int = 0
    message: str = ""


class _Line(_Wire):
    """One of a stream's, as the gRPC gateway writes it: after an error, which has no HTTP status, it ends."""

    result: _Result | None = None
    error: _Error | None = None


_RESULT = msgspec.json.Decoder(_Result)
_LINE = msgspec.json.Decoder(_Line)


class Peer(msgspec.Struct, frozen=True):
    """What a server shows of itself. `issuer` and `expires` (seconds since the epoch) are its certificate's."""

    issuer: str = ""
    expires: float | None = None
    verified: bool = True


class Reader:
    """Reads from one CloudVision."""

    def __init__(self, server: CloudVision, token: Token) -> None:
        """Raises SettingsError if the CA file or the environment's proxy cannot be used."""
        self.peer = Peer(verified=not server.insecure)
        self.server_time: float | None = None  # of the last answer
        self._client = Client(server, token, connected=self._connected)

    def _connected(self, sock: Any) -> None:
        self.peer = _peer(sock, verified=self.peer.verified)

    def status(self) -> tuple[int, str]:
        """What CloudVision says to a request for a job that does not exist: its status and words.

        404: the token may read. 403: it may not. 401: it is not accepted. Raises ReadError with status 0.
        """
        try:
            self._open("GET", f"{JOB_CONFIG}?{urlencode({'key.id': 'cvji-check'})}").close()
        except ReadError as err:
            if not err.status:
                raise
            return err.status, str(err)
        return 200, ""

    def job(self, key: str) -> JobEntry | None:
        """One JobConfig as it stands; None if there is none. Raises ReadError."""
        try:
            with closing(self._open("GET", f"{JOB_CONFIG}?{urlencode({'key.id': key})}")) as response:
                body = response.read(LINE_LIMIT, decode_content=True)
        except ReadError as err:
            if err.status == 404:
                return None
            raise
        except http.ERRORS as err:
            raise ReadError(0, self._client.trouble(err)) from None
        return _decode(_RESULT, body).value

    def running(self, location: str) -> Iterator[JobEntry]:
        """Every JobConfig that CloudVision shows as RUNNING at a location. Raises ReadError."""
        return self._all({"location": location, "state": "JOB_STATE_RUNNING"})

    def jobs(self, location: str) -> Iterator[JobEntry]:
        """Every JobConfig at a location. Raises ReadError."""
        return self._all({"location": location})

    def _all(self, wanted: dict[str, str]) -> Iterator[JobEntry]:
        body = msgspec.json.encode({"partialEqFilter": [wanted]})
        response = self._open("POST", f"{JOB_CONFIG}/all", body, float("inf"))  # a line for each job there ever was
        rest = b""
        try:
            for chunk in response.stream(CHUNK, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield from self._read(line, wanted)
                if len(rest) > LINE_LIMIT:
                    raise ReadError(0, f"one resource is over {LINE_LIMIT} bytes")
            yield from self._read(rest, wanted)
        except http.ERRORS as err:
            raise ReadError(0, self._client.trouble(err)) from None
        finally:
            response.close()

    def _read(self, line: bytes, wanted: dict[str, str]) -> Iterator[JobEntry]:
        if not line.strip():
            return
        found = _decode(_LINE, line)
        if found.error:
            words = self._client.words(found.error.message) or "no reason given"
            raise ReadError(0, f"the answer ended before it was complete: {words} (gRPC code {found.error.code})")
        job = found.result.value if found.result else None
        # A server that knows no filter sends everything.
        if job is not None and all(getattr(job, name) == value for name, value in wanted.items()):
            yield job

    def _open(
        self, method: str, path: str, body: bytes = b"", within: float = READ_TIMEOUT
    ) -> urllib3.BaseHTTPResponse:
        try:
            with http.within(within):
                response = self._client.exchange(method, path, body, TIMEOUT)
        except http.ERRORS as err:
            raise ReadError(0, self._client.trouble(err)) from None
        self.server_time = http.date(response.headers.get("Date"))
        if response.status >= 300:
            raise ReadError(response.status, self._client.message(response))
        return response


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        raise ReadError(0, f"an answer of CloudVision's cannot be read: {err}") from None


def _peer(sock: Any, *, verified: bool) -> Peer:
    certificate: dict[str, Any] = sock.getpeercert() or {} if hasattr(sock, "getpeercert") else {}
    parts = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    issuer = str(parts.get("commonName") or parts.get("organizationName") or "")
    try:
        expires = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    except (KeyError, ValueError):
        expires = None
    return Peer(issuer, expires, verified)
