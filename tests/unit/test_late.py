"""A request whose time is over is not started, however far the process had got with it when it was stopped."""

import time
from typing import Any

import pytest
import urllib3

from cvji.cloudvision.client import Client, Token, Verdict
from cvji.cloudvision.payloads import Request
from cvji.settings import CloudVision
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.server import Fault


def removal(node: str) -> Request:
    return Request("DELETE", f"/api/resources/computejob/v1/NodeConfig?key.id={node}", b"", node)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (404, b'{"code":5,"message":"no such node"}', Verdict.DELIVERED),
        (404, b"page not found", Verdict.REFUSED),
        (409, b'{"code":10,"message":"aborted"}', Verdict.RETRY),
        (499, b"", Verdict.RETRY),
    ],
)
def test_what_is_gone_is_deleted_and_what_was_aborted_is_tried_again(
    status: int, body: bytes, verdict: Verdict
) -> None:
    with CloudVisionSimulator() as simulator:
        client = Client(CloudVision(simulator.address, str(simulator.ca_file)), Token(simulator.token))
        simulator.faults.append(Fault(status, body))
        assert client.send(removal("n"), 14.0).verdict is verdict
        client.close()


@pytest.mark.parametrize("pause", [0.0, 60.0])
def test_stopped_while_it_connects(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    offset = 0.0
    real = time.monotonic
    monkeypatch.setattr("cvji.cloudvision.client.time.monotonic", lambda: real() + offset)
    connect = urllib3.connection.HTTPSConnection.connect

    def stopped(self: Any) -> None:
        nonlocal offset, pause
        connect(self)
        offset, pause = offset + pause, 0.0

    monkeypatch.setattr(urllib3.connection.HTTPSConnection, "connect", stopped)
    with CloudVisionSimulator() as simulator:
        client = Client(CloudVision(simulator.address, str(simulator.ca_file)), Token(simulator.token))
        expected = (Verdict.BUSY, ["second"]) if pause else (Verdict.DELIVERED, ["first", "second"])
        first = client.send(removal("first"), 14.0)
        assert client.send(removal("second"), 14.0).verdict is Verdict.DELIVERED
        client.close()
        assert (first.verdict, list(simulator.node_history)) == expected
