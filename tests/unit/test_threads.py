"""The system gives no thread for a moment, as at a limit of processes: it is tried again, or the process ends."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cvji.informer.inbox import Elected
from cvji.informer.loop import Loop
from cvji.informer.run import Informer
from cvji.kube import credentials, watches
from cvji.kube.client import Api, ApiError
from cvji.kube.watches import Wanted, Watches
from cvji.telemetry.metrics import Metrics
from tests.e2e.kit import write_kubeconfig
from tests.unit.test_watches import KIND, Server

Refuse = Callable[[str], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have the system refuse the next thread of a name."""
    names: list[str] = []
    start = threading.Thread.start

    def scarce(thread: threading.Thread) -> None:
        if thread.name in names:
            names.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    return names.append


def test_credentials_are_asked_for_again(refuse: Refuse) -> None:
    api = object.__new__(Api)
    api._token = credentials.TimedCall(lambda: "Bearer t", keep=60.0)
    refuse("credentials")
    with pytest.raises(ApiError, match=r"^Kubernetes credentials: can't start new thread$"):
        api._authorization()
    assert api._authorization() == "Bearer t"


def test_credentials_that_cannot_be_read_anew_are_kept(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:1")))
    api = Api()
    api._loaded = float("-inf")
    refuse("credentials")
    api._reload()
    assert api.host == "http://127.0.0.1:1"


@pytest.mark.parametrize("name", ["trainings.example.com", "customresourcedefinitions.apiextensions.k8s.io"])
def test_a_watch_that_could_not_begin_is_begun_again(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(watches, "RETRY_FIRST", 0.01)
    crashes: list[str] = []
    found = Watches(cast("Api", Server()), {KIND: Wanted(lambda _: None)}, lambda _: None, on_crash=crashes.append)
    begun: queue.Queue[object] = queue.Queue()
    monkeypatch.setattr(found, "_reflect", lambda key, _: begun.put(key))
    monkeypatch.setattr(found, "_watch_crds", lambda: begun.put("CRDs"))
    refuse(name)
    found.start()
    assert {begun.get(timeout=20), begun.get(timeout=20)} == {KIND, "CRDs"}
    found.stop()
    assert crashes == ["discovery"]


def test_without_a_thread_that_it_needs_the_process_ends(refuse: Refuse, caplog: pytest.LogCaptureFixture) -> None:
    """Though the loop goes on after every Exception."""
    informer = object.__new__(Informer)
    informer.inbox = queue.Queue()
    informer.inbox.put(Elected())
    unused = cast(Any, SimpleNamespace(book=None))
    loop = Loop(
        unused, unused, unused, None, informer.inbox, Metrics(), recover=lambda _: informer._start("records", print)
    )
    refuse("records")
    with pytest.raises(SystemExit) as ended:
        loop.run()
    assert ended.value.code == 1
    assert "the records thread cannot be started: can't start new thread" in caplog.text


def test_a_process_that_cannot_be_stopped_in_order_ends_at_once(refuse: Refuse) -> None:
    informer = object.__new__(Informer)
    informer.inbox = queue.Queue()
    refuse("stop")
    with pytest.raises(SystemExit):
        informer.stop()


def test_without_api_discovery_the_process_ends(refuse: Refuse) -> None:
    refuse("api-discovery")
    with pytest.raises(SystemExit):
        Watches(cast("Api", Server()), {}, lambda _: None).start()
