"""Whatever CloudVision answers, and wherever its words are cut, no part of the token is shown."""

import io
import json
from http.client import BadStatusLine
from typing import Any

import pytest
import urllib3

from cvji.cloudvision.client import Client, Token
from cvji.cloudvision.payloads import Request
from cvji.cloudvision.reading import Reader, ReadError
from cvji.http import ERROR_LIMIT
from cvji.settings import CloudVision

SERVER = CloudVision("cloudvision.invalid:443")
TOKENS = ["s3cret" * 10, "s3cret" * ERROR_LIMIT]


@pytest.fixture(params=TOKENS, ids=["short", "longer than what is shown"])
def token(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("before", [0, ERROR_LIMIT - 20, ERROR_LIMIT - 9])
@pytest.mark.parametrize("form", ['{"message":"%s"}', "<p>%s</p>"])
def test_a_token_in_an_error_answer(monkeypatch: pytest.MonkeyPatch, token: str, before: int, form: str) -> None:
    client = Client(SERVER, Token(token))
    body = form % ("x" * before + f" Bearer {token} is odd")
    answer = urllib3.HTTPResponse(io.BytesIO(body.encode()), status=400, preload_content=False)
    monkeypatch.setattr(client, "exchange", lambda *_: answer)
    hidden = body.replace(token, "***")
    words = json.loads(hidden)["message"] if form.startswith("{") else hidden
    assert client.send(Request("POST", "/", b"", "a job")).message == words[:ERROR_LIMIT].strip()


def test_a_token_in_what_is_no_http(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    def fail(*_: object) -> Any:
        raise urllib3.exceptions.ProtocolError("Connection aborted.", BadStatusLine("x" * 470 + token))

    client, reader = Client(SERVER, Token(token)), Reader(SERVER, Token(token))
    monkeypatch.setattr(client, "exchange", fail)
    monkeypatch.setattr(reader._client, "exchange", fail)
    assert client.send(Request("POST", "/", b"", "a job")).message == "x" * 470 + "***"
    with pytest.raises(ReadError, match=r"^x{470}\*\*\*$"):
        reader.status()
