"""What the loop waits for before it decides. Its messages are put in by hand; nothing is watched or sent."""

import queue
from typing import Any, cast

import pytest

from cvji.informer.inbox import Elected, Message, Recovered, StandBy
from cvji.informer.loop import Loop, Phase
from cvji.jobs.policy import Policy
from cvji.kube.events import Discovered, Listed, Resource, WatchLost
from cvji.kube.served import CLAIMS, PODS
from cvji.reports.reporter import Reporter
from cvji.telemetry.metrics import Metrics

JOBS = Resource("batch", "v1", "Job", "jobs")
CLAIM = Resource(CLAIMS[0], "v1", CLAIMS[1], "resourceclaims")
KINDS = (PODS, JOBS, CLAIM)


class Watches:
    """As far as the loop uses them."""

    def start(self) -> None:
        pass

    def relist(self) -> int:
        return 1


class Play:
    """A loop, and what it has been told."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue()
        reporter = Reporter(Policy(), "lab", durable=False, job_kinds=[JOBS.key])
        nothing: Any = None
        self.loop = Loop(reporter, cast("Any", Watches()), nothing, None, self.inbox, Metrics(), sources=[CLAIMS])

    def tell(self, *messages: Message) -> Phase:
        for message in messages:
            self.inbox.put(message)
            self.loop._turn()
        return self.loop.phase


@pytest.mark.parametrize(
    ("lost", "leads"),
    [
        (WatchLost(PODS), False),
        (WatchLost(PODS, refused=True), False),
        (WatchLost(CLAIM), False),
        (WatchLost(CLAIM, refused=True), True),
        (WatchLost(JOBS), True),
    ],
)
@pytest.mark.parametrize("standby", [True, False])
def test_what_says_what_pods_hold_is_listed_before_anything_is_decided(
    lost: WatchLost, leads: bool, standby: bool
) -> None:
    play = Play()
    rest = [Listed(kind, 1) for kind in KINDS if kind != lost.resource]
    if standby:  # it has listed everything, and one list is lost before it takes over
        play.tell(StandBy(), Discovered(KINDS), [Listed(kind) for kind in KINDS], [lost])
        play.tell(Elected(1), Recovered([], last=True))
    else:
        play.tell(Elected(1), Recovered([], last=True), Discovered(KINDS), [lost])
    assert (play.tell([*rest]) is Phase.LEADING) == leads
    assert play.tell([Listed(lost.resource, 1)]) is Phase.LEADING


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("standby", [True, False])
def test_nothing_is_decided_while_api_discovery_cannot_say_whether_a_source_is_served(
    served: bool, standby: bool
) -> None:
    play = Play()
    unclear = Discovered((PODS, JOBS), frozenset({CLAIMS, ("kubeflow.org", "MPIJob")}))
    if standby:
        play.tell(StandBy(), unclear, [Listed(PODS), Listed(JOBS)])
        assert not play.loop.synced
        assert play.loop.ready() == "waiting for the first lists of ResourceClaim.resource.k8s.io"
        play.tell(Elected(1), Recovered([], last=True))
    else:
        play.tell(Elected(1), Recovered([], last=True), unclear)
    assert play.tell([Listed(PODS, 1), Listed(JOBS, 1)]) is Phase.TAKING_OVER
    if served:
        assert play.tell(Discovered((CLAIM,))) is Phase.TAKING_OVER
        assert play.tell([Listed(CLAIM, 1)]) is Phase.LEADING
    else:
        assert play.tell(Discovered(())) is Phase.LEADING
    assert play.loop.ready() == ""


def test_a_kind_of_jobs_of_which_api_discovery_cannot_say_is_not_waited_for() -> None:
    play = Play()
    play.tell(Elected(1), Recovered([], last=True), Discovered((PODS,), frozenset({JOBS.key})))
    assert play.tell([Listed(PODS, 1)]) is Phase.LEADING
