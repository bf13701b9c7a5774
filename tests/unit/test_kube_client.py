"""Bytes from the Kubernetes API however they come, and errors that show no secret."""

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvji.kube import client, credentials
from cvji.kube.client import Api, ApiError
from cvji.settings import SettingsError
from tests.e2e.kit import write_kubeconfig
from tests.simulator.server import Handler, SimulatedServer

EVENT = '{"type":"ADDED","object":{"metadata":{"name":"zażółć-🙂"}}}\n'.encode()


class Pieces(SimulatedServer):
    """Answers every GET with these bytes, piece by piece; `more` lets it go on where it waits (None)."""

    def __init__(self) -> None:
        self.pieces: list[bytes | None] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.chunked = True
        self.more = threading.Event()
        super().__init__(_Pieces)


class _Pieces(Handler):
    simulator: Pieces

    def do_GET(self) -> None:
        """Answer."""
        self.close_connection = True
        self.send_response(self.simulator.status)
        self.send_header("Connection", "close")
        for name, value in self.simulator.headers.items():
            self.send_header(name, value)
        if self.simulator.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self.simulator.pieces:
            if piece is None:
                self.simulator.more.wait(20)
            elif self.simulator.chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
        if self.simulator.chunked:
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def server() -> Iterator[Pieces]:
    with Pieces() as found:
        yield found
        found.more.set()


@pytest.fixture
def api(server: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    return api_for(f"http://{server.address}", tmp_path, monkeypatch)


def api_for(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, user: Any = None) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(folder, server, user)))
    return Api()


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("size", [1, 7, len(EVENT), 1000])
def test_events_come_whole_however_they_are_cut(server: Pieces, api: Api, size: int, chunked: bool) -> None:
    server.chunked = chunked
    data = EVENT * 5 + b"\n\n" + EVENT[:-1]  # empty lines mean nothing, and a last line without its end is not one
    server.pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(api.watch("/", {})) == [EVENT.rstrip()] * 5


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_an_event_is_given_as_soon_as_it_has_come(server: Pieces, api: Api, chunked: bool, zipped: bool) -> None:
    server.chunked = chunked
    server.pieces = [EVENT, None, EVENT]
    if zipped:
        server.headers = {"Content-Encoding": "gzip"}
        packer = zlib.compressobj(wbits=31)
        first, last = (packer.compress(EVENT) + packer.flush(mode) for mode in (zlib.Z_SYNC_FLUSH, zlib.Z_FINISH))
        server.pieces = [first, None, last]
    events = api.watch("/", {})
    assert next(events) == EVENT.rstrip()  # while the server waits
    server.more.set()
    assert list(events) == [EVENT.rstrip()]


def test_a_watch_gone_silent_ends(server: Pieces, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WATCH_READ_TIMEOUT", 0.2)
    server.pieces = [EVENT, None]
    events = api.watch("/", {})
    assert next(events) == EVENT.rstrip()
    with pytest.raises(ApiError, match="timed out"):
        next(events)


def test_an_event_beyond_all_measure_ends_the_watch(server: Pieces, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LINE_LIMIT", 1000)
    server.pieces = [b"x" * 100] * 20
    with pytest.raises(ApiError, match="over 1000 bytes"):
        list(api.watch("/", {}))


def test_a_list_cut_short_or_not_what_it_says_is_an_error(server: Pieces, api: Api) -> None:
    server.chunked = False
    for headers, body in (
        ({"Content-Length": "10"}, b"123"),
        ({"Content-Encoding": "gzip"}, b"no gzip at all"),
    ):
        server.headers, server.pieces = headers, [body]
        with pytest.raises(ApiError):
            api.get("/")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"kind":"Status","message":"pods is forbidden"}', "HTTP 403: pods is forbidden"),
        (b'{"message":"two\\nlines"}', "HTTP 403: two lines"),
        (b"<html>", "HTTP 403: Forbidden"),
        (b"[" * 10_000, "HTTP 403: Forbidden"),
        (b'{"message":' + b'"x' * 100_000, "HTTP 403: Forbidden"),
        (b"", "HTTP 403: Forbidden"),
    ],
)
def test_errors_carry_the_servers_message(server: Pieces, api: Api, body: bytes, says: str) -> None:
    server.status, server.pieces = 403, [body] if body else []
    with pytest.raises(ApiError) as raised:
        api.get("/")
    assert str(raised.value) == says


def test_errors_carry_the_causes_that_the_server_gives(server: Pieces, api: Api) -> None:
    server.status = 403
    for causes, expected in ((b'[{"reason":"NamespaceTerminating"},{}]', ("NamespaceTerminating",)), (b"null", ())):
        server.pieces = [b'{"message":"no","details":{"causes":%s}}' % causes]
        with pytest.raises(ApiError, match="HTTP 403: no") as raised:
            api.get("/")
        assert raised.value.causes == expected


def test_what_went_wrong_below_http_is_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError) as raised:
        api_for("http://127.0.0.1:1", tmp_path, monkeypatch).get("/")
    assert str(raised.value) == "Failed to establish a new connection: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 0), ("9999", 300), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("-1", 0), ("²", 0), ("", 0)],
)
def test_retry_after(server: Pieces, api: Api, header: str, seconds: float) -> None:
    server.status, server.headers = 429, {"Retry-After": header}
    with pytest.raises(ApiError) as raised:
        api.get("/")
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize("token", ["s3cret" * 200, "s3cret" * 10])
def test_a_token_that_a_server_repeats_is_hidden_before_its_words_are_cut(
    server: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    server.status, server.pieces = 403, [json.dumps({"message": "x" * 470 + f" Bearer {token}"}).encode()]
    with pytest.raises(ApiError) as raised:
        api_for(f"http://{server.address}", tmp_path, monkeypatch, {"token": token}).get("/")
    assert str(raised.value) == "HTTP 403: " + "x" * 470 + " Bearer ***"


@pytest.mark.parametrize("token", ["s3cret\nmore", "s3cret\r\nX-Evil: 1", "s3cré\u2026t", "s3cret\x00"])
def test_a_token_that_no_header_can_carry_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    api = api_for("http://127.0.0.1:1", tmp_path, monkeypatch, {"token": token})
    with pytest.raises(ApiError, match="the token holds characters that no token has") as raised:
        api.get("/")
    assert "s3cr" not in str(raised.value)


def test_a_token_file_may_end_with_a_line_break(
    server: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    server.pieces = [b"fine"]
    assert api_for(f"http://{server.address}", tmp_path, monkeypatch, {"tokenFile": "token"}).get("/") == b"fine"


def exec_user(folder: Path, script: str) -> dict[str, Any]:
    (folder / "plugin").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "plugin").chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}}


def test_an_exec_plugin_that_hangs_at_the_start_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "TIMEOUT", 0.2)
    user = exec_user(tmp_path, "exec sleep 5")
    with pytest.raises(SettingsError, match=r"no answer from the kubeconfig's exec plugin within 0\.2 s"):
        api_for("http://127.0.0.1:1", tmp_path, monkeypatch, user)


def test_an_exec_plugin_that_hangs_later_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"},
        }
    )
    user = exec_user(tmp_path, f"[ -e {tmp_path}/again ] && exec sleep 5\ntouch {tmp_path}/again\necho '{first}'")
    api = api_for("http://127.0.0.1:1", tmp_path, monkeypatch, user)
    monkeypatch.setattr(credentials, "TIMEOUT", 0.2)
    for _ in range(2):
        with pytest.raises(ApiError, match="no answer from the kubeconfig's exec plugin"):
            api.get("/")


def test_a_credential_source_is_asked_once_for_requests_that_follow_one_another(
    server: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TOKEN_KEPT", 60.0)
    past = json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"},
        }
    )
    asked = tmp_path / "asked"
    api = api_for(
        f"http://{server.address}", tmp_path, monkeypatch, exec_user(tmp_path, f"echo >> {asked}\necho '{past}'")
    )
    server.pieces, server.headers = [b"fine"], {"Connection": "close"}
    before = len(asked.read_text())
    for _ in range(5):
        assert api.get("/") == b"fine"
    assert len(asked.read_text()) == before + 1


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://user:s3cret@"])
def test_a_proxy_url_that_is_none_is_a_setting_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    cluster: dict[str, Any] = {"proxy-url": url}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "https://127.0.0.1:1", **cluster)))
    with pytest.raises(SettingsError, match="proxy-url cannot be used: it must be the URL of an HTTP proxy") as raised:
        Api()
    assert "s3cret" not in str(raised.value)
