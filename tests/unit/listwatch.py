"""A scripted API server, and a reflector that lists and watches it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.events import Applied, ClusterEvent, Deleted, Listed, Resource
from cvji.kube.reflector import Known, Reflector

JOBS = Resource("batch", "v1", "Job", "jobs")
Step = Callable[[Mapping[str, str | int]], Any]


class Thing(msgspec.Struct, frozen=True):
    """An object of the test: its name and a value that must be a number."""

    metadata: dict[str, str]
    value: int = 0

    @property
    def name(self) -> str:
        return self.metadata["name"]

    @property
    def uid(self) -> str:
        return self.metadata.get("uid", "")


def thing(name: str, version: int, value: Any = 0) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}, "value": value}


def page(version: int, *items: dict[str, Any], more: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": str(version), "continue": more}, "items": items}).encode()


def event(kind: str, obj: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


class Script:
    """Answers requests in the order scripted, and stops the reflector after the last.

    Except those for the newest version alone: these are answered from `newest`, in order, else with a high number.
    """

    host = "script"

    def __init__(self, *steps: bytes | list[bytes | Exception] | Exception) -> None:
        self.steps = list(steps)
        self.asked: list[Mapping[str, str | int]] = []
        self.stop = threading.Event()
        self.waited: list[float] = []
        self.accepted: list[str] = []
        self.newest: list[str | ApiError] = []
        self.looks = 0  # for the newest version

    def _look(self) -> bytes:
        self.looks += 1
        newest = self.newest.pop(0) if self.newest else "1000000"
        if isinstance(newest, ApiError):
            raise newest
        return json.dumps({"metadata": {"resourceVersion": newest, "continue": "more"}, "items": []}).encode()

    def _next(self, query: Mapping[str, str | int]) -> bytes | list[bytes | Exception]:
        self.asked.append(dict(query))
        step = self.steps.pop(0)
        if not self.steps:
            self.stop.set()
        if isinstance(step, Exception):
            raise step
        return step

    def get(self, path: str, query: Mapping[str, str | int], *, accept: str) -> bytes:
        assert path == "/apis/batch/v1/jobs"
        self.accepted.append(accept)
        return self._look() if query == {"limit": 1} else cast("bytes", self._next(query))

    def watch(self, path: str, query: Mapping[str, str | int], opened: Any, *, accept: str) -> Iterator[bytes]:
        assert path == "/apis/batch/v1/jobs"
        assert callable(opened)
        self.accepted.append(accept)
        for line in self._next(query):
            if isinstance(line, Exception):
                raise line
            yield cast("bytes", line)


def in_short(happened: ClusterEvent) -> str:
    match happened:
        case Applied(Thing() as thing):
            return f"applied {thing.name}={thing.value}"
        case Deleted(Thing() as thing):
            return f"deleted {thing.name}={thing.value}"
    return "listed" if isinstance(happened, Listed) else "lost"


def play(
    *steps: bytes | list[bytes | Exception] | Exception,
    known: dict[str, Known[Thing]] | None = None,
    newest: Sequence[str | ApiError] = (),
    **more: Any,
) -> tuple[list[str], Script, Reflector[Thing]]:
    """Run a reflector over the script; what it emitted, in short."""
    script = Script(*steps)
    script.newest += newest
    emitted: list[ClusterEvent] = []
    reflector = Reflector(
        cast("Api", script),
        JOBS,
        msgspec.json.Decoder(Thing).decode,
        emitted.extend,
        known=known,
        stop=script.stop,
        clock=lambda: 0.0,
        jitter=lambda: 0.0,
        **more,
    )

    def waited(seconds: float) -> None:
        script.waited.append(seconds)

    reflector._wait = waited  # type: ignore[method-assign]
    reflector.run()
    return (
        list(map(in_short, emitted)),
        script,
        reflector,
    )
