"""Which kinds are followed, and when the objects of one are taken to be gone. Time is a number here."""

import json
import math
import threading
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.events import Applied, ClusterEvent, Deleted, Discovered, Listed, Resource, Unserved, WatchLost
from cvji.kube.reflector import Known
from cvji.kube.served import Served, served
from cvji.kube.trigger import CRDS, Crd
from cvji.kube.watches import UNSERVED_AFTER, Wanted, Watches

KIND = ("example.com", "Training")


class Server:
    """An API server that serves a group, or does not, or cannot say."""

    host = "https://api"

    def __init__(self) -> None:
        self.groups: Mapping[str, Any] = {"example.com": ["Training"]}

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, accept: str = "") -> bytes:
        if path.startswith("/apis/apiextensions.k8s.io"):
            raise ApiError(403, "forbidden")
        if path == "/apis":
            groups = [{"name": name, "versions": [{"version": "v1"}]} for name in self.groups]
            return json.dumps({"groups": groups}).encode()
        kinds = self.groups[path.split("/")[2]]
        if kinds is None:
            raise ApiError(503, "no endpoints")
        return json.dumps({"resources": [{"name": kind.lower() + "s", "kind": kind} for kind in kinds]}).encode()


class Thing(msgspec.Struct):
    name: str


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


def watches(server: Server, clock: list[float]) -> tuple[Watches, list[Any]]:
    events: list[list[ClusterEvent] | Discovered | Unserved] = []
    api = cast("Api", server)
    return Watches(api, {KIND: Wanted(lambda _: None)}, events.append, clock=lambda: clock[0]), events


def look(found: Watches, server: Server) -> float:
    answer: Served = served(cast("Api", server), [KIND])
    return found._note_missing(answer.found.keys() | answer.unclear)


def test_a_kind_that_is_not_served_for_ten_minutes_has_no_objects(clock: list[float]) -> None:
    server = Server()
    found, events = watches(server, clock)
    found._known[KIND] = {"u": Known("1", Thing("a"))}
    look(found, server)
    server.groups = {}
    for clock[0] in (10.0, 10.0 + UNSERVED_AFTER - 1):
        look(found, server)
    assert events == []
    clock[0] += 1
    look(found, server)
    assert events == [[Deleted(Thing("a"))], Unserved(KIND)]
    look(found, server)
    assert len(events) == 2  # once


def test_a_missing_kind_is_looked_at_exactly_when_its_time_is_over(clock: list[float]) -> None:
    """No other look is due then: discovery is not asked in intervals."""
    server = Server()
    found, events = watches(server, clock)
    assert look(found, server) == math.inf
    server.groups = {}
    clock[0] = 0.1  # a number that has no exact sum with others
    at = look(found, server)
    assert at == pytest.approx(0.1 + UNSERVED_AFTER)
    clock[0] = 300.0
    assert look(found, server) == at
    clock[0] = at
    assert look(found, server) == math.inf
    assert events == [[], Unserved(KIND)]


def test_a_kind_that_comes_back_in_between_is_waited_for_again(clock: list[float]) -> None:
    server = Server()
    found, events = watches(server, clock)
    for clock[0] in (0.0, 500.0, 1000.0, 1500.0):
        server.groups = {} if clock[0] % 1000 == 0 else {"example.com": ["Training"]}
        look(found, server)
    assert events == []


def test_a_group_that_cannot_say_what_it_serves_has_not_lost_its_objects(clock: list[float]) -> None:
    server = Server()
    found, events = watches(server, clock)
    server.groups = {"example.com": None}
    for clock[0] in (0.0, 2 * UNSERVED_AFTER):
        look(found, server)
    assert events == []


def test_a_kind_whose_crd_is_there_and_not_served_keeps_its_objects(clock: list[float]) -> None:
    """Such as one whose only version is `served: false` while its operator is upgraded."""
    server = Server()
    found, events = watches(server, clock)
    found._known[KIND] = {"u": Known("1", Thing("a"))}
    server.groups = {}
    crd = Crd("uid", "trainings.example.com")
    found._trigger.take([Applied(crd), Listed(CRDS)])
    for clock[0] in (0.0, 2 * UNSERVED_AFTER):
        assert found._watch_found(served(cast("Api", server), [KIND]), first=False) == math.inf
    assert events == []
    found._trigger.take([Deleted(crd)])
    removed = clock[0]
    assert found._watch_found(served(cast("Api", server), [KIND]), first=False) == removed + UNSERVED_AFTER
    clock[0] = removed + UNSERVED_AFTER
    found._watch_found(served(cast("Api", server), [KIND]), first=False)
    assert events == [[Deleted(Thing("a"))], Unserved(KIND)]


@pytest.mark.parametrize(
    "seen",
    [
        [Applied(Crd("uid", "trainings.other.com")), Listed(CRDS)],
        [Applied(Crd("uid", "trainings.example.com")), Listed(CRDS), WatchLost(CRDS)],  # it may be gone by now
    ],
)
def test_a_crd_of_another_group_or_one_that_is_watched_no_more_keeps_nothing(
    clock: list[float], seen: list[ClusterEvent]
) -> None:
    server = Server()
    found, events = watches(server, clock)
    server.groups = {}
    found._trigger.take(seen)
    for clock[0] in (0.0, UNSERVED_AFTER):
        found._watch_found(served(cast("Api", server), [KIND]), first=False)
    assert events == [[], Unserved(KIND)]


def test_a_kind_that_api_discovery_could_not_tell_of_is_named_until_it_can(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    found, events = watches(server, clock)
    monkeypatch.setattr(found, "_reflect", lambda *_: None)
    for groups in (
        {"example.com": None},
        {"example.com": None},
        {},
        {"example.com": None},
        {"example.com": ["Training"]},
    ):
        server.groups = groups
        found._watch_found(served(cast("Api", server), [KIND]), first=not events)
    resource = Resource(KIND[0], "v1", KIND[1], "trainings", namespaced=True)
    unclear, clear = Discovered((), frozenset({KIND})), Discovered(())
    assert events == [unclear, clear, unclear, Discovered((resource,))]
    server.groups = {"example.com": None}
    found._watch_found(served(cast("Api", server), [KIND]), first=False)
    assert len(events) == 4  # it is watched: that tells


def test_a_kind_whose_crd_was_removed_has_no_watch_that_could_be_silent() -> None:
    class Removed(Server):
        def get(self, path: str, query: Mapping[str, str | int] | None = None, *, accept: str = "") -> bytes:
            raise ApiError(404, "not found")

    found, events = watches(Removed(), [0.0])
    resource = Resource(KIND[0], "v1", KIND[1], "trainings")
    found._reflect(KIND, resource)
    assert events == [[WatchLost(resource, refused=True)]]
    assert found.states == {}


def test_discovery_comes_first_and_names_nothing_where_nothing_is_served() -> None:
    server = Server()
    server.groups = {}
    events: list[Any] = []
    first = threading.Event()

    def emit(event: Any) -> None:
        events.append(event)
        first.set()

    found = Watches(cast("Api", server), {KIND: Wanted(lambda _: None)}, emit)
    found.start()
    assert first.wait(10)
    found.stop()
    assert events == [Discovered(())]
