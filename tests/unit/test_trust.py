"""Whom CloudVision's client trusts, while the file that says so is replaced."""

import logging
from pathlib import Path

import pytest

from cvji.cloudvision.client import Client, Token, Verdict
from cvji.cloudvision.payloads import Request
from cvji.settings import CloudVision
from tests.simulator.certs import make_tls
from tests.simulator.raw import OK, RawServer

REPORT = Request("POST", "/", b"{}", "a job")


def test_a_ca_file_that_is_replaced_is_trusted_from_the_next_request_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cvji.cloudvision.client")
    file = tmp_path / "current.pem"
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with RawServer(tmp_path / "old", lambda _, send: send(OK)) as server:
        file.write_bytes(server.ca_file.read_bytes())
        client = Client(CloudVision(server.address, str(file)), Token("secret-token"), connections=1)
        assert client.send(REPORT).verdict is Verdict.DELIVERED
        server.tls, authority = make_tls(tmp_path / "new")
        file.write_bytes(authority.read_bytes())
        assert client.send(REPORT).verdict is Verdict.DELIVERED
        assert client.send(REPORT).verdict is Verdict.DELIVERED
        assert server.connections == 2
        client.close()
    assert [record.message for record in caplog.records] == [
        f"API_CA_FILE {file} has changed; it is what is trusted now"
    ]


@pytest.mark.parametrize("content", [b"", b"no certificate", None])
def test_a_ca_file_that_cannot_be_used_any_more_is_said_once_and_the_old_one_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    file = tmp_path / "current.pem"
    (tmp_path / "other").mkdir()
    with RawServer(tmp_path, lambda _, send: send(OK)) as server:
        good = server.ca_file.read_bytes()
        file.write_bytes(good)
        client = Client(CloudVision(server.address, str(file)), Token("secret-token"), connections=1)
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        for _ in range(3):
            assert client.send(REPORT).verdict is Verdict.DELIVERED
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"API_CA_FILE {file} cannot be used" in caplog.text
        server.tls, authority = make_tls(tmp_path / "other")
        client.close()
        assert "certificate verify failed" in client.send(REPORT).message
        file.write_bytes(authority.read_bytes())
        assert client.send(REPORT).verdict is Verdict.DELIVERED
        client.close()
