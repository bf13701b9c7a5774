"""What both servers' answers mean, whatever bytes they are made of: none is taken for another request's."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cvji.cloudvision.client import BODY_LIMIT, Answer, Client, Token, Verdict
from cvji.cloudvision.payloads import Request
from cvji.kube.client import Api, ApiError
from cvji.settings import CloudVision
from tests.e2e.kit import write_kubeconfig
from tests.simulator.raw import OK, RawServer

Send = Callable[[bytes], None]
BAD = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{"message":"bad"}'


def client_of(server: RawServer, connections: int = 1) -> Client:
    return Client(CloudVision(server.address, str(server.ca_file)), Token("t"), connections=connections)


def api_of(server: RawServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    cluster = {"certificate-authority": str(server.ca_file)}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(folder, f"https://{server.address}", None, **cluster)))
    return Api()


def report(body: bytes) -> Request:
    return Request("POST", "/", body, body[:10].decode())


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"])
def test_an_interim_answer_is_passed_over_and_the_next_report_gets_its_own(tmp_path: Path, interim: bytes) -> None:
    def answer(request: bytes, send: Send) -> None:
        if request.endswith(b"first"):
            send(b"HTTP/1.1 " + interim + b"\r\nLink: </a>\r\n\r\n")
            send(b"HTTP/1.1 " + interim + b"\r\n\r\n")
            send(OK)
        else:
            send(BAD)

    with RawServer(tmp_path, answer) as server:
        client = client_of(server)
        assert client.send(report(b"first")).verdict is Verdict.DELIVERED
        assert client.send(report(b"second")).status == 400
        assert server.connections == 1
        client.close()


def test_a_change_of_protocol_that_nobody_asked_for_is_no_answer_and_ends_the_connection(tmp_path: Path) -> None:
    def answer(request: bytes, send: Send) -> None:
        send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" if request.endswith(b"first") else BAD)

    with RawServer(tmp_path, answer) as server:
        client = client_of(server)
        first = client.send(report(b"first"))
        assert (first.verdict, first.status) == (Verdict.BUSY, 0)
        assert "101" in first.message
        assert client.send(report(b"second")).status == 400
        assert server.connections == 2
        client.close()


def test_an_interim_answer_of_the_api_server_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(tmp_path, lambda _, send: send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)) as server:
        assert api_of(server, tmp_path, monkeypatch).get("/") == b"{}"


HEADERS, BODY = b"HTTP/1.1 503 Away\r\nX: ", b"HTTP/1.1 503 Away\r\nContent-Length: 200\r\n\r\n"
CHUNKS = b"HTTP/1.1 503 Away\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = pytest.mark.parametrize(("head", "piece"), [(HEADERS, b"a"), (BODY, b"a"), (CHUNKS, b"1\r\na\r\n")])


@DRIPS
def test_an_answer_that_comes_byte_by_byte_has_no_longer_than_others(tmp_path: Path, head: bytes, piece: bytes) -> None:
    came_whole = threading.Event()

    def answer(request: bytes, send: Send) -> None:
        if request.endswith(b"first"):
            send(head)
            server.drip(send, piece)
            came_whole.set()
        else:
            send(BAD)

    with RawServer(tmp_path, answer) as server:
        client = client_of(server)
        assert client.send(report(b"first"), within=0.5).verdict is Verdict.BUSY
        assert not came_whole.is_set()
        assert client.send(report(b"second"), within=20).status == 400
        client.close()


@DRIPS
def test_an_answer_of_the_api_server_byte_by_byte_has_no_longer_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes
) -> None:
    came_whole = threading.Event()

    def answer(_: bytes, send: Send) -> None:
        send(head.replace(b"503 Away", b"200 OK"))
        server.drip(send, piece)
        came_whole.set()

    with RawServer(tmp_path, answer) as server:
        api = api_of(server, tmp_path, monkeypatch)
        with pytest.raises(ApiError, match=r"^Read timed out"):
            api.get("/", timeout=0.5)
        with pytest.raises(ApiError, match=r"^Read timed out"):
            api.send("PUT", "/", b"{}", timeout=0.5)
        assert not came_whole.is_set()


def test_a_page_may_take_longer_than_silence_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: bytes, send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
        server.drip(send, pieces=30)

    with RawServer(tmp_path, answer) as server:
        assert api_of(server, tmp_path, monkeypatch).get("/", silence=1.0) == b"a" * 30


def test_a_handshake_that_never_ends_is_over_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, RawServer(tmp_path, lambda *_: None) as server:
        server.address = f"127.0.0.1:{deaf.getsockname()[1]}"
        client = client_of(server)
        assert client.send(report(b"first"), within=0.3).verdict is Verdict.BUSY
        client.close()


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def counted(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("size", [BODY_LIMIT, BODY_LIMIT + 1, 2 * BODY_LIMIT + 100])
@pytest.mark.parametrize("form", [chunked, counted])
def test_what_is_left_of_a_large_answer_is_not_the_next_ones(
    tmp_path: Path, form: Callable[[bytes], bytes], size: int
) -> None:
    whole = form(b"x" * size)
    cut = whole.index(b"xx") + BODY_LIMIT
    late: list[Send] = []

    def answer(request: bytes, send: Send) -> None:
        if request.endswith(b"first"):
            send(whole[:cut])
            late.append(send)
        else:
            with contextlib.suppress(OSError):
                late[0](whole[cut:])
            send(BAD)

    with RawServer(tmp_path, answer) as server:
        client = client_of(server)
        assert client.send(report(b"first")).verdict is Verdict.DELIVERED
        second: list[Answer] = []
        # It waits for ever where the only connection was not put back.
        thread = threading.Thread(target=lambda: second.append(client.send(report(b"second"))), daemon=True)
        thread.start()
        thread.join(20)
        assert [found.status for found in second] == [400]
        client.close()


def test_an_answer_read_to_its_end_leaves_its_connection_to_the_next(tmp_path: Path) -> None:
    answers = iter([OK, chunked(b"x" * 5000), BAD, b"HTTP/1.1 204 No Content\r\n\r\n", OK])
    with RawServer(tmp_path, lambda _, send: send(next(answers))) as server:
        client = client_of(server)
        assert [client.send(report(b"a")).status for _ in range(5)] == [200, 200, 400, 204, 200]
        assert server.connections == 1
        client.close()


@pytest.mark.parametrize("size", [b"-5", b"-1", b"+5", b"0x5", b"zz", b"", b"f" * 20, b"f" * 70_000])
def test_an_answer_in_chunks_of_no_size_is_what_its_status_says(
    tmp_path: Path, size: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: bytes, send: Send) -> None:
        status = b"200 OK" if request.endswith(b"first") or request.startswith(b"GET") else b"500 Odd"
        send(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nabcde\r\n0\r\n\r\n")
        if size == b"-1":
            server.drip(send)

    with RawServer(tmp_path, answer) as server:
        client = client_of(server)
        assert client.send(report(b"first"), within=1.0).verdict is Verdict.DELIVERED
        assert client.send(report(b"second"), within=1.0).verdict is Verdict.RETRY
        client.close()
        api = api_of(server, tmp_path, monkeypatch)
        if size not in (b"+5", b"0x5"):  # which Python takes for numbers
            with pytest.raises(ApiError):
                api.get("/", timeout=1.0)
