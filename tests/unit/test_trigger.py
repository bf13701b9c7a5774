"""When API discovery is asked: what brings a look forward, how often it is repeated, and when it rests. Time is a number."""

import itertools
import json

import msgspec
import pytest

from cvji.kube.events import Applied, Deleted, Listed, Resource, WatchLost
from cvji.kube.served import Served
from cvji.kube.trigger import CRDS, EXPECTED_FOR, PAUSE_MAX, SAFETY_ROUND, Crd, Trigger, read_crd

TRAINING = ("example.com", "Training")
OTHER = ("example.com", "Other")
POLL = 20.0
FOUND = Served(
    {TRAINING: Resource("example.com", "v1", "Training", "trainings")},
    frozenset(),
    frozenset({"trainings.example.com"}),
)
NOTHING = Served({}, frozenset())


class Play:
    """A trigger, its clock, and the looks that follow from it."""

    def __init__(self, *wanted: tuple[str, str], watched: bool = True) -> None:
        self.now = 1000.0
        self.trigger = Trigger(wanted or (TRAINING,), POLL, clock=lambda: self.now, jitter=lambda: 0.5)
        self.look(NOTHING)
        if watched:
            self.trigger.take([Listed(CRDS)])

    def look(self, answer: Served, recheck: float = float("inf")) -> None:
        self.trigger.looked(self.now, answer, recheck)

    def crd(self, name: str = "trainings.example.com") -> None:
        self.trigger.take([Applied(Crd("u", name))])

    def pause(self) -> float:
        """Seconds from now until the next look."""
        return self.trigger.due() - self.now

    def looks(self, answer: Served, seconds: float) -> list[float]:
        """Look whenever it is due, for so long; after how many seconds each look was."""
        began, found = self.now, []
        while self.trigger.due() <= began + seconds:
            self.now = max(self.now, self.trigger.due())
            self.look(answer)
            found.append(self.now - began)
        self.now = began + seconds
        return found


def test_where_crds_are_watched_and_nothing_happens_there_is_one_look_in_ten_minutes() -> None:
    play = Play()
    assert play.looks(NOTHING, 3 * SAFETY_ROUND) == [SAFETY_ROUND, 2 * SAFETY_ROUND, 3 * SAFETY_ROUND]


def test_where_crds_cannot_be_watched_it_polls_and_polling_ends_once_they_can() -> None:
    play = Play(watched=False)
    assert play.looks(NOTHING, 3 * POLL) == [POLL, 2 * POLL, 3 * POLL]
    play.trigger.take([Listed(CRDS)])
    assert play.pause() == SAFETY_ROUND
    play.trigger.take([WatchLost(CRDS)])
    assert play.pause() == POLL


def test_a_crd_that_comes_is_looked_for_at_once_and_with_growing_pauses_until_it_is_served() -> None:
    play = Play()
    play.now += 100
    play.crd()
    assert play.pause() <= 0
    pauses = play.looks(NOTHING, 300)
    steps = [after - before for before, after in itertools.pairwise(pauses)]
    assert pauses[:4] == [0, 0.5, 1.0, 1.5]
    assert steps == sorted(steps)
    assert max(steps) == PAUSE_MAX
    play.look(FOUND)
    assert play.pause() == SAFETY_ROUND


def test_each_change_of_a_crd_that_is_not_served_begins_the_pauses_anew() -> None:
    play = Play()
    play.crd()
    play.looks(NOTHING, 200)
    play.crd()
    assert play.looks(NOTHING, 1.5) == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_a_burst_of_changes_is_not_a_burst_of_looks() -> None:
    play = Play()
    play.now += 100
    looks = 0
    for _ in range(100):
        play.crd()
        looks += len(play.looks(FOUND, 0.05))
    assert 5 <= looks <= 11  # in 5 s


def test_a_crd_that_is_never_served_is_given_up_until_it_changes() -> None:
    play = Play()
    play.crd()
    assert play.looks(NOTHING, EXPECTED_FOR + PAUSE_MAX)
    assert play.pause() > SAFETY_ROUND - 2 * PAUSE_MAX
    play.crd()
    assert play.pause() <= 0.5


def test_a_crd_of_a_wanted_group_that_no_wanted_kind_is_from_is_looked_for_once() -> None:
    play = Play(TRAINING, OTHER)
    play.now += 100
    play.crd()
    assert play.looks(FOUND, 60) == [0]  # Other is not served, and no CRD is there that could serve it
    play.crd("others.example.com")
    play.look(Served(FOUND.found, frozenset(), FOUND.names | {"others.example.com"}))
    play.now += 100
    assert play.pause() == SAFETY_ROUND - 100


def test_where_every_wanted_kind_of_its_group_is_served_a_crd_is_not_waited_for() -> None:
    play = Play()
    play.now += 100
    play.crd("others.example.com")
    assert play.looks(FOUND, 60) == [0]


def test_a_crd_that_was_seen_but_is_served_no_more_is_waited_for() -> None:
    """It was replaced: discovery still showed the former one when the new one came."""
    play = Play()
    play.crd()
    play.look(FOUND)
    play.trigger.ended(TRAINING)
    play.now += 1
    play.look(NOTHING)
    assert play.pause() == 0.5


def test_a_crd_that_goes_is_looked_for_at_once_and_once() -> None:
    play = Play()
    play.crd()
    play.looks(FOUND, 100)
    play.trigger.take([Deleted(Crd("u", "trainings.example.com"))])
    assert play.looks(NOTHING, 100) == [0]


def test_what_happens_during_a_look_needs_another() -> None:
    play = Play()
    play.now += 100
    play.crd()
    began = play.now
    play.now += 2
    play.trigger.take([Deleted(Crd("u", "trainings.example.com"))])
    play.trigger.looked(began, FOUND, float("inf"))
    assert play.pause() == 0.5


def test_a_watch_that_ended_is_looked_for_at_once_and_ever_more_slowly_where_it_ends_again_and_again() -> None:
    play = Play()
    play.now += 100
    looks = []
    began = play.now
    while play.now < began + 300:
        play.trigger.ended(TRAINING)  # discovery still lists it
        play.now = max(play.now, play.trigger.due())
        looks.append(play.now - began)
        play.look(FOUND)
        play.now += 0.01
    assert looks[:2] == pytest.approx([0, 0.5], abs=0.05)
    assert 10 < len(looks) < 30
    play.now += 1000
    play.look(FOUND)
    play.now += 1000
    play.trigger.ended(TRAINING)
    assert play.looks(NOTHING, 100) == [0]  # a new trouble, and its end


def test_a_group_that_cannot_say_what_it_serves_is_asked_again_with_growing_pauses() -> None:
    play = Play()
    play.look(Served({}, frozenset({TRAINING})))
    looks = play.looks(Served({}, frozenset({TRAINING})), 600)
    assert looks[:2] == [0.5, 1.0]
    assert 20 < len(looks) < 40
    play.look(FOUND)
    assert play.pause() == SAFETY_ROUND


def test_it_looks_no_later_than_it_was_told() -> None:
    play = Play()
    play.look(NOTHING, recheck=play.now + 42)
    assert play.pause() == 42


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"name": "trainings.example.com", "uid": "u"}, Crd("u", "trainings.example.com")),
        ({"name": "trainings.example.com.au", "uid": "u"}, None),
        ({"name": "trainings.sub.example.com", "uid": "u"}, None),
        ({"name": "example.com", "uid": "u"}, None),
        (None, None),
    ],
)
def test_crds_of_wanted_groups_are_kept(metadata: object, found: Crd | None) -> None:
    raw = msgspec.Raw(json.dumps({"metadata": metadata}).encode())
    assert read_crd({"example.com"}, raw) == found
