"""Delivery: order per key, newest only, retries, pauses. Time is a number here."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvji.cloudvision.client import Answer, Verdict
from cvji.cloudvision.outbox import CONNECTIONS, Dispatcher, LoadError, Outbox, Outgoing, Parcel
from cvji.cloudvision.payloads import Request
from cvji.jobs.report import Key

DELIVERED = Answer(Verdict.DELIVERED, 200)
AWAY = Answer(Verdict.BUSY, message="connection refused")


def load(_: Key) -> Outgoing:
    return Outgoing(1, Request("POST", "/", b"a", "a"))


def box() -> Outbox:
    return Outbox(lambda: 0.5)


class Service:
    """A CloudVision in simulated time: each attempt takes `latency`; `answer` says what comes of it."""

    def __init__(self, outbox: Outbox, answer: Callable[[float, Parcel], Answer], latency: float = 0.05) -> None:
        self.outbox, self.answer, self.latency = outbox, answer, latency
        self.now = 0.0
        self.flying: list[tuple[float, Parcel]] = []
        self.accepted: dict[Key, list[int]] = defaultdict(list)
        self.attempts = 0
        self.most_flying = 0

    def run(self, until: float) -> None:
        while True:
            while (parcel := self.outbox.take(self.now)) is not None:
                assert parcel.key not in {other.key for _, other in self.flying}
                self.flying.append((self.now + self.latency, parcel))
                self.attempts += 1
            self.most_flying = max(self.most_flying, len(self.flying))
            wake = self.outbox.wake_at()
            times = [at for at, _ in self.flying] + ([max(wake, self.now)] if wake is not None else [])
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            for landed in [item for item in self.flying if item[0] <= self.now]:
                self.flying.remove(landed)
                answer = self.answer(self.now, landed[1])
                if answer.verdict is Verdict.DELIVERED:
                    self.accepted[landed[1].key].append(landed[1].revision)
                self.outbox.settle(landed[1], answer, self.now)


def test_newest_replaces_what_waits_and_never_overtakes_what_flies() -> None:
    outbox = box()
    outbox.put(("job", "a"), 1, 0)
    outbox.put(("job", "a"), 2, 0)
    first = outbox.take(0)
    assert first is not None
    assert first.revision == 2
    outbox.put(("job", "a"), 3, 0)
    assert outbox.take(0) is None
    outbox.settle(first, DELIVERED, 1)
    second = outbox.take(1)
    assert second is not None
    assert second.revision == 3
    outbox.settle(second, DELIVERED, 1)
    assert len(outbox) == 0


def test_a_failed_request_gives_way_to_a_newer_one() -> None:
    outbox = box()
    outbox.put(("job", "a"), 1, 0)
    first = outbox.take(0)
    assert first is not None
    outbox.put(("job", "a"), 2, 0)
    outbox.settle(first, Answer(Verdict.RETRY, 500), 0)
    second = outbox.take(0)
    assert second is not None
    assert second.revision == 2


def test_a_refusal_after_an_outage_is_the_first() -> None:
    outbox = box()
    outbox.put(("job", "a"), 1, 0)
    now = 0.0
    for answer in [*[AWAY] * 20, Answer(Verdict.REFUSED, 400)]:
        parcel = outbox.take(now)
        assert parcel is not None
        outbox.settle(parcel, answer, now)
        began, now = now, outbox.wake_at() or 0.0
    assert 30 <= now - began <= 60


def test_only_what_cloudvision_refuses_is_left_once_it_is_settled() -> None:
    outbox = box()
    for key in ("bad", "good"):
        outbox.put(("job", key), 1, 0)
    for verdict in (Verdict.REFUSED, Verdict.RETRY):
        parcel = outbox.take(0)
        assert parcel is not None
        assert not outbox.settled()
        outbox.settle(parcel, Answer(verdict), 0)
    assert not outbox.settled()
    parcel = outbox.take(1)
    assert parcel is not None
    assert parcel.key == ("job", "good")
    outbox.settle(parcel, DELIVERED, 1)
    assert outbox.settled()
    assert len(outbox) == 1


def test_cloudvision_away_for_a_minute_with_a_thousand_jobs_starting() -> None:
    outbox = Outbox(random.Random(1).random)
    service = Service(outbox, lambda now, _: AWAY if now < 60 else DELIVERED)
    for number in range(1000):
        outbox.put(("job", str(number)), 1, number * 0.05)
        service.run(number * 0.05)
    for number in range(500):
        outbox.put(("job", str(number)), 2, service.now)
    service.run(60)
    assert service.attempts < 20  # one at a time asks whether it is back
    service.run(120)
    assert {key[1]: bodies for key, bodies in service.accepted.items()} == {
        str(n): [2 if n < 500 else 1] for n in range(1000)
    }
    assert service.most_flying <= CONNECTIONS == 8
    assert len(outbox) == 0


def test_retry_after_is_obeyed_for_all() -> None:
    outbox = box()
    service = Service(
        outbox,
        lambda now, _: DELIVERED if now >= 40 else Answer(Verdict.BUSY, 429, retry_after=40),
        latency=0,
    )
    outbox.put(("job", "a"), 1, 0)
    service.run(39)
    outbox.put(("job", "b"), 1, 39)
    service.run(39.9)
    assert service.attempts == 1
    service.run(60)
    assert len(service.accepted) == 2


def test_a_500_for_one_report_does_not_delay_others() -> None:
    outbox = box()
    service = Service(outbox, lambda _, p: Answer(Verdict.RETRY, 500) if p.key[1] == "bad" else DELIVERED)
    outbox.put(("job", "bad"), 1, 0)
    for number in range(100):
        outbox.put(("job", str(number)), 1, 0)
    service.run(5)
    assert len(service.accepted) == 100


def test_a_refused_report_is_retried_slowly() -> None:
    outbox = box()
    service = Service(outbox, lambda now, _: DELIVERED if now > 5000 else Answer(Verdict.REFUSED, 400))
    outbox.put(("job", "a"), 1, 0)
    service.run(3600)
    assert 4 <= service.attempts <= 8
    service.run(4 * 3600)
    assert len(service.accepted) == 1


@pytest.mark.parametrize("verdict", [Verdict.UNAUTHORIZED, Verdict.FORBIDDEN])
def test_what_the_token_stops_goes_when_it_changes(verdict: Verdict) -> None:
    outbox = box()
    good = False
    service = Service(outbox, lambda *_: DELIVERED if good else Answer(verdict, 401))
    for number in range(20):
        outbox.put(("job", str(number)), 1, 0)
    service.run(100)
    assert service.attempts <= 20
    good = True
    outbox.token_changed(100)
    service.run(101)
    assert len(service.accepted) == 20


@pytest.mark.parametrize("verdict", [Verdict.UNAUTHORIZED, Verdict.FORBIDDEN])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_late_refusal_of_the_former_token_is_tried_again_at_once_and_stops_nothing(
    verdict: Verdict, replaced: bool
) -> None:
    outbox = box()
    outbox.put(("job", "late"), 1, 0)
    late = outbox.take(0)
    assert late is not None
    outbox.token_changed(1)
    if replaced:
        outbox.put(("job", "late"), 2, 1)
    service = Service(outbox, lambda *_: DELIVERED)
    outbox.settle(late, Answer(verdict, 401), 2)
    assert not outbox.settled()
    service.now = 2
    outbox.put(("job", "other"), 1, 2)
    service.run(2.2)
    assert service.accepted == {("job", "late"): [2 if replaced else 1], ("job", "other"): [1]}
    assert service.attempts == 2


def test_the_current_token_is_asked_only_once_more_after_a_late_refusal_of_the_former() -> None:
    outbox = box()
    outbox.put(("job", "a"), 1, 0)
    late = outbox.take(0)
    assert late is not None
    outbox.token_changed(1)
    outbox.settle(late, Answer(Verdict.UNAUTHORIZED, 401), 2)
    service = Service(outbox, lambda *_: Answer(Verdict.UNAUTHORIZED, 401))
    service.now = 2
    service.run(200)
    assert service.attempts == 1


def test_a_forbidden_node_does_not_stop_jobs() -> None:
    outbox = box()
    service = Service(outbox, lambda _, p: Answer(Verdict.FORBIDDEN, 403) if p.key[0] == "node" else DELIVERED)
    outbox.put(("node", "n"), 1, 0)
    outbox.put(("job", "a"), 1, 1)
    service.run(10)
    assert list(service.accepted) == [("job", "a")]


VERDICTS = st.sampled_from([Verdict.DELIVERED] * 3 + [Verdict.BUSY, Verdict.RETRY, Verdict.REFUSED, Verdict.FORBIDDEN])


@settings(deadline=None)
@given(
    puts=st.lists(st.tuples(st.floats(0, 50), st.sampled_from("abc")), max_size=40),
    verdicts=st.lists(VERDICTS, max_size=40),
    seed=st.integers(0, 1000),
)
def test_whatever_fails_the_newest_is_delivered_last_and_in_order(
    puts: list[tuple[float, str]], verdicts: list[Verdict], seed: int
) -> None:
    outbox = Outbox(random.Random(seed).random)
    left = list(verdicts)
    service = Service(outbox, lambda *_: Answer(left.pop()) if left else DELIVERED, latency=0.3)
    for number, (when, key) in enumerate(sorted(puts)):
        service.run(when)
        outbox.put(("job", key), number, when)
    service.run(10 * 3600.0)
    assert len(outbox) == 0
    for key in {key for _, key in puts}:
        revisions = service.accepted["job", key]
        numbers = [number for number, (_, k) in enumerate(sorted(puts)) if k == key]
        assert revisions == sorted(revisions)
        assert revisions[-1] == numbers[-1]


def test_eight_attempts_that_fail_together_are_one_failure() -> None:
    outbox = box()
    service = Service(outbox, lambda now, _: AWAY if now < 1 else DELIVERED)
    for number in range(50):
        outbox.put(("job", str(number)), 1, 0.9)
    service.run(0.9)
    service.run(3)
    assert len(service.accepted) == 50


def test_a_process_paused_between_its_decision_and_its_request_sends_nothing() -> None:
    """SIGSTOP there, for longer than the lease: it is asked once more whether it may."""
    permits = iter([10.0, 0.0])
    asked, sent = threading.Event(), []

    def permit() -> float:
        left = next(permits, 0.0)
        if not left:
            asked.set()
        return left

    class Client:
        """Notes what is sent."""

        def send(self, request: Request, within: float = 0.0) -> Answer:
            sent.append((request, within))
            return DELIVERED

        def token(self) -> str:
            return "t"

    delivery = Dispatcher(Client(), load, permit=permit, connections=1)
    delivery.put(("job", "a"), 1)
    assert asked.wait(10)
    while delivery._outbox._in_flight:
        asked.wait(0.01)
    assert len(delivery._outbox) == 1  # it waits, for whoever may send it
    delivery.close()
    assert sent == []


def test_an_outage_with_changes_coming_in_keeps_what_waits_and_nothing_else() -> None:
    outbox = box()
    outbox.put(("job", "first"), 1, 0)
    flying = outbox.take(0)
    assert flying is not None
    for now in range(100_000):
        outbox.put(("job", str(now % 20)), now, now)
    assert len(outbox) == 21
    assert len(outbox._ready) < 200
    outbox.settle(flying, DELIVERED, 100_000)
    sent = []
    while (parcel := outbox.take(100_000)) is not None:
        sent.append(parcel.revision)
        outbox.settle(parcel, DELIVERED, 100_000)
    assert sent == list(range(99_980, 100_000))


def test_a_client_that_breaks_costs_an_attempt_and_no_thread() -> None:
    done = threading.Event()
    failures = iter([ValueError("odd"), KeyError("odd")])

    class Client:
        """Breaks twice."""

        def send(self, request: Request, within: float = 0.0) -> Answer:
            if error := next(failures, None):
                raise error
            done.set()
            return DELIVERED

        def token(self) -> str:
            return "t"

    delivery = Dispatcher(Client(), load, connections=1)
    delivery.put(("job", "a"), 1)
    assert done.wait(20)
    delivery.close()


def test_a_report_that_cannot_be_loaded_is_tried_again() -> None:
    done = threading.Event()
    failures = iter([LoadError("the API server is away")])

    def load_later(key: Key) -> Outgoing:
        if error := next(failures, None):
            raise error
        return load(key)

    class Client:
        """Says when it is asked."""

        def send(self, request: Request, within: float = 0.0) -> Answer:
            done.set()
            return DELIVERED

        def token(self) -> str:
            return "t"

    delivery = Dispatcher(Client(), load_later, connections=1)
    delivery.put(("job", "a"), 1)
    assert done.wait(20)
    delivery.close()
