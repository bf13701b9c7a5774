"""What both servers' answers mean, whatever bytes they are made of: none is taken for another request's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cvji.cloudvision.client import Client, Token, Verdict
from cvji.cloudvision.payloads import Request
from cvji.kube.client import Api
from cvji.settings import CloudVision
from tests.e2e.kit import write_kubeconfig
from tests.simulator.raw import OK, RawServer

Send = Callable[[bytes], None]
BAD = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{"message":"bad"}'


def client_of(server: RawServer, connections: int = 1) -> Client:
    return Client(CloudVision(server.address, str(server.ca_file)), Token("t"), connections=connections)


def api_of(server: RawServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    cluster = {"certificate-authority": str(server.ca_file)}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(folder, f"https://{server.address}", **cluster)))
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
