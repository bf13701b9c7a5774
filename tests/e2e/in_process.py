"""The informer in a thread of the test's own process, with the default delays and a clock that the test moves.

The API server and CloudVision are reached over HTTP as ever. The only file of the tests that knows how the
informer is put together.
"""

import contextlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import pytest

from cvji.cloudvision.client import Client, Token
from cvji.cloudvision.outbox import Dispatcher
from cvji.commands import InformerSettings
from cvji.informer.inbox import QUEUE_BATCHES, Message, Stop
from cvji.informer.run import Informer
from cvji.kube.client import JSON, Api
from cvji.settings import CloudVision
from cvji.telemetry.metrics import Metrics
from tests.e2e.kit import Stage
from tests.simulator.cloudvision import Run
from tests.simulator.objects import Object
from tests.simulator.proxy import Relay

PATIENCE = 20.0  # seconds, real ones, for what takes milliseconds on an idle machine
_COLLECTION = re.compile(r"(/api.*)/namespaces/[^/]+/([^/?]+).*")
_UNWATCHED = ("configmaps", "events", "leases", "nodes", "secrets")
_pause = threading.Event()


def wait_until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    """Return once `condition` holds; AssertionError with `what` is missing if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what()}"
        _pause.wait(0.001)


class Clock:
    """Seconds since 1970. It begins at the real time, as the API server's own times do, and stands still."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


class _Inbox(queue.Queue[Message]):
    """The loop's queue, which knows whether the loop has dealt with everything that was put into it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.puts = self.taken = self.done = 0
        self._counting = threading.Lock()

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        with self._counting:
            self.puts += 1
        super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        if block:  # the loop waits: it has dealt with all that it took
            self.done = self.taken
        item = super().get(block, timeout)
        self.taken += 1
        return item

    def put_so_far(self) -> int:
        with self._counting:
            return self.puts

    def idle_since(self, put: int) -> bool:
        """Whether the loop has dealt with these puts, and there were no others."""
        return self.done == put == self.put_so_far()


class _Api(Api):
    """Notes what the reflectors have taken in: versions by collection, and the uids of what is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.deleted: set[str] = set()
        self._enders: list[Callable[[], None]] = []

    def watch(
        self,
        path: str,
        query: Mapping[str, str | int],
        opened: Callable[[Callable[[], None]], None] = lambda _: None,
        *,
        accept: str = JSON,
    ) -> Iterator[bytes]:
        def note_ender(end: Callable[[], None]) -> None:
            self._enders.append(end)
            opened(end)

        self._note(path, str(query.get("resourceVersion", "")))  # the list before it has been taken in
        for line in super().watch(path, query, note_ender, accept=accept):
            yield line
            event = msgspec.json.decode(line)  # by now it has been taken in
            meta = event["object"].get("metadata", {})
            if event["type"] == "DELETED":
                self.deleted.add(meta.get("uid", ""))
            self._note(path, meta.get("resourceVersion", ""))

    def _note(self, path: str, version: str) -> None:
        if version.isdigit():
            self.seen[path] = max(self.seen.get(path, 0), int(version))

    def close(self) -> None:
        """End every watch."""
        for end in self._enders:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                end()


class InProcess:
    """An informer on a stage. Its answers (`runs`) are what CloudVision holds once nothing is under way any more."""

    def __init__(self, stage: Stage, server: str = "", queue_size: int = QUEUE_BATCHES, **settings: Any) -> None:
        """`server` is where the API server is reached, if not directly; `settings` are the informer's own."""
        self.stage = stage
        self.cluster = stage.cluster
        self.clock = stage.cloudvision.clock = Clock()
        if stage.simulator is not None:
            stage.simulator.clock = self.clock
        self._expected: dict[str, int] = {}  # versions by collection
        self._gone: set[str] = set()  # uids
        self._settings = settings
        self._server = server
        self._inbox = _Inbox(queue_size)
        self.cluster.wrote = self._wrote

    def __enter__(self) -> Self:
        cloudvision = self.stage.cloudvision
        target = CloudVision(cloudvision.address, str(cloudvision.ca_file))
        settings = InformerSettings(location="lab", **self._settings)
        with self._environment():
            self._api = _Api()
            client = Client(target, Token(cloudvision.token, ""))
        self._informer = Informer(settings, self._api, Metrics(), client=client, clock=self.clock, inbox=self._inbox)
        assert isinstance(self._informer.deliver, Dispatcher)
        self._outbox, self._loop = self._informer.deliver._outbox, self._informer.loop
        self._thread = threading.Thread(target=self._informer.run, name="informer", daemon=True)
        self._thread.start()
        wait_until(lambda: not self._loop.ready(), self._loop.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.wrote = lambda *_: None
        self._inbox.put(Stop(0))
        self._thread.join(PATIENCE)
        self._api.close()
        assert not self._thread.is_alive()
        self._join_helpers()

    def _join_helpers(self) -> None:
        """Wait for what the informer's threads still do: they would log, and draw random numbers, in later tests."""
        watches = {"api-discovery", *self._loop._watches.states}
        until = time.monotonic() + PATIENCE / 4
        for thread in threading.enumerate():
            if thread.name in watches or thread.name.startswith(("send-", "record-")):
                thread.join(max(until - time.monotonic(), 0.0))  # one that waits for a server that is away ends later

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """The process's environment, with the stage's API server in it and no proxy."""
        kubeconfig = json.loads(Path(self.cluster.kubeconfig).read_text())
        if self._server:
            kubeconfig["clusters"][0]["cluster"]["server"] = self._server
        file = self.stage.folder / "kubeconfig-in-process"
        file.write_text(json.dumps(kubeconfig))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"KUBECONFIG": str(file), "NO_PROXY": "*", "no_proxy": "*"}.items():
                patch.setenv(name, value)
            yield

    # --- time ---------------------------------------------------------------------------------------

    def stamp(self, offset: float = 0.0) -> str:
        """The clock's time and some seconds, as Kubernetes writes it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock.now + offset))

    def advance(self, seconds: float) -> None:
        """Move the clock, a second at a time, and let the loop turn at each; after all that was written is seen."""
        self.settle()
        self.turn(seconds)

    def turn(self, seconds: float) -> None:
        """The same whatever the loop has seen, for when it is cut off from the API server."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(self.clock.now + 1.0, until)
            self._inbox.put([])
            self._wait_until_quiet()

    def elapse(self, seconds: float) -> None:
        """Let the real time pass as well: for what a real API server dates. A simulated one goes by the clock."""
        if self.stage.simulator is None:
            until = time.monotonic() + seconds
            wait_until(lambda: time.monotonic() >= until, lambda: "the real clock")
        self.advance(seconds)

    # --- what is seen -------------------------------------------------------------------------------

    def _wrote(self, method: str, path: str, answer: Object) -> None:
        match = _COLLECTION.fullmatch(path)
        if match is None or match[2] in _UNWATCHED:
            return
        meta = answer.get("metadata", {})
        if method == "DELETE" and not self.cluster.exists(path.partition("?")[0]):
            self._gone.add(meta.get("uid") or answer["details"]["uid"])
        elif "resourceVersion" in meta:  # a Binding's answer has none
            self._expected[f"{match[1]}/{match[2]}"] = int(meta["resourceVersion"])

    def settle(self) -> None:
        """Wait until the informer has seen every write of the test, judged it and delivered what follows."""
        wait_until(lambda: not self._unseen(), lambda: f"unseen: {self._unseen()}")
        self._inbox.put([])
        self._wait_until_quiet()

    def _unseen(self) -> list[str]:
        late = [path for path, version in self._expected.items() if self._api.seen.get(path, 0) < version]
        return late + sorted(self._gone - self._api.deleted)

    def _wait_until_quiet(self) -> None:
        def quiet() -> bool:
            put = self._inbox.put_so_far()
            idle = self._inbox.idle_since
            return idle(put) and not len(self._outbox) and idle(put)

        wait_until(quiet, lambda: f"the loop is busy, or {len(self._outbox)} reports are on their way")

    def runs(self, name: str) -> list[Run]:
        """The runs of a job as CloudVision holds them once everything is seen and delivered."""
        self.settle()
        return self.stage.cloudvision.runs(name)

    def states(self, name: str) -> list[tuple[str, tuple[str, ...]]]:
        """State and MACs of each run."""
        return [(run.state, run.macs) for run in self.runs(name)]


@contextlib.contextmanager
def relay_to(server: str) -> Iterator[tuple[Relay, str]]:
    """A relay before an API server, and the URL by which the server is reached through it."""
    url = urlsplit(server)
    with Relay(url.hostname or "", url.port or 443) as relay:
        yield relay, f"{url.scheme}://{relay.address}"
