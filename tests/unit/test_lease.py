"""Leader election: at most one at a time, by what each process measures itself, whatever its wall clock says."""

import json
import random
from typing import Any, cast

import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.lease import LEASE_DURATION, RENEW_DEADLINE, Elector


class Store:
    """The API server's Lease, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease: dict[str, Any] | None = None
        self.version = 0


class Side:
    """One process: its elector, its way to the API server, its wall clock."""

    def __init__(self, store: Store, name: str, wall_offset: float = 0.0) -> None:
        self.store = store
        self.broken = False
        self.answers_lost = False
        self.slow = 0.0  # seconds that an answer takes
        self.elector = Elector(
            cast("Api", self),
            "cloudvision",
            "lease",
            name,
            clock=lambda: store.now,
            wall=lambda: 1_767_225_600.0 + store.now + wall_offset,
            jitter=lambda: 0.5,
        )

    def get(self, path: str, *, timeout: float) -> bytes:
        assert path.endswith("/leases/lease")
        self._wait(timeout)
        if self.store.lease is None:
            raise ApiError(404, "not found")
        return json.dumps(self.store.lease).encode()

    def send(self, method: str, path: str, body: bytes, *, timeout: float) -> bytes:
        self._wait(timeout)
        asked = json.loads(body)
        stored = self.store.lease
        if method == "POST":
            assert path.endswith("/leases")
            if stored is not None:
                raise ApiError(409, "exists")
        elif stored is None or asked["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise ApiError(409, "conflict")
        self.store.version += 1
        asked["metadata"]["resourceVersion"] = str(self.store.version)
        self.store.lease = asked
        if self.answers_lost:
            raise ApiError(0, "connection reset")
        return json.dumps(asked).encode()

    def _wait(self, timeout: float) -> None:
        assert 0 < timeout < RENEW_DEADLINE
        if self.broken:
            raise ApiError(0, "no route to host")
        self.store.now += min(self.slow, timeout)
        if self.slow > timeout:
            raise ApiError(0, "Read timed out.")

    def attempt(self) -> bool:
        return self.elector._try()

    @property
    def leads(self) -> bool:
        return self.elector.valid_for() > 0


def test_wall_clocks_hours_apart_neither_depose_a_leader_nor_keep_a_dead_one() -> None:
    store = Store()
    ahead, behind = Side(store, "ahead", 5 * 3600), Side(store, "behind", -3 * 3600)
    assert ahead.attempt()
    for _ in range(30):
        store.now += 2
        assert ahead.attempt()
        assert not behind.attempt()
    died = store.now
    while not behind.attempt():
        store.now += behind.elector._retry_wait()
    assert LEASE_DURATION <= store.now - died < LEASE_DURATION + 2.1


def test_a_standby_looks_again_when_the_lease_expires_and_soon_before_that() -> None:
    store = Store()
    leader, standby = Side(store, "a"), Side(store, "b")
    assert leader.attempt()
    assert not standby.attempt()
    assert standby.elector._retry_wait() <= 2.0
    store.now += LEASE_DURATION - 0.3
    assert standby.elector._retry_wait() == pytest.approx(0.31)


def test_a_leader_that_cannot_renew_ends_before_another_can_begin() -> None:
    store = Store()
    cut_off, other = Side(store, "a"), Side(store, "b")
    assert cut_off.attempt()
    assert not other.attempt()
    cut_off.broken = True
    taken_at = None
    for _ in range(200):
        store.now += 0.1
        cut_off.attempt()
        if other.attempt():
            taken_at = store.now
            break
        assert cut_off.leads == (store.now - 1000.0 < RENEW_DEADLINE)
    assert taken_at is not None
    assert taken_at - 1000.0 >= LEASE_DURATION - 0.01


@pytest.mark.parametrize("slow", [2.2, 3.0, 4.5, 4.9, 5.1, 60.0])
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_leader_notices_before_its_lease_ends_that_it_cannot_renew_it_however_slow_the_answers(
    slow: float, good: int
) -> None:
    """Attempts that succeed, slow ones, and at last answers so slow that nothing is renewed any more."""
    store = Store()
    side = Side(store, "a")
    began: list[float] = []  # of each renewal
    lost: list[float] = []

    class Stop:
        """Time passes where the elector waits; its answers become slower."""

        def is_set(self) -> bool:
            return False

        def wait(self, seconds: float) -> bool:
            store.now += seconds
            renewed = side.elector._renewed
            assert renewed is not None
            if renewed not in began:
                began.append(renewed)
            side.slow = 0.0 if len(began) <= good else slow if len(began) <= good + 1 else 60.0
            return False

    side.elector._stop = cast("Any", Stop())
    side.elector.run(lambda _: None, lambda: lost.append(store.now), lambda: None)
    assert lost[0] <= began[-1] + LEASE_DURATION


def test_a_lease_of_another_is_seen_at_once() -> None:
    store = Store()
    first, second = Side(store, "a"), Side(store, "b")
    assert first.attempt()
    assert store.lease is not None
    store.lease["spec"]["holderIdentity"] = "b"  # by hand
    store.lease["metadata"]["resourceVersion"] = "by-hand"
    assert not first.attempt()
    assert not first.leads
    assert second.attempt()


def test_a_renewal_whose_answer_was_lost_is_no_loss() -> None:
    store = Store()
    leader = Side(store, "a")
    assert leader.attempt()
    leader.answers_lost = True
    store.now += 2
    assert not leader.attempt()
    leader.answers_lost = False
    store.now += 2
    assert leader.attempt()


def test_a_released_lease_is_free_at_once_and_is_not_taken_back() -> None:
    store = Store()
    leader, standby = Side(store, "a"), Side(store, "b")
    assert leader.attempt()
    assert not standby.attempt()
    leader.elector.stop(release=True)
    assert not leader.leads
    assert not leader.attempt()  # by its own thread, that had just started to
    assert standby.attempt()


def test_a_lease_deleted_by_hand_stays_with_its_holder_whoever_looks_first() -> None:
    store = Store()
    leader, standby = Side(store, "a"), Side(store, "b")
    assert leader.attempt()
    assert not standby.attempt()
    store.lease = None
    for _ in range(20):
        assert not standby.attempt()
        store.now += RENEW_DEADLINE / 20 - 0.01
    assert leader.attempt()
    assert not standby.attempt()


def test_a_lease_deleted_after_its_holder_died_is_taken_once_its_time_is_over() -> None:
    store = Store()
    leader, standby = Side(store, "a"), Side(store, "b")
    assert leader.attempt()
    assert not standby.attempt()
    store.lease = None
    gone = store.now
    while not standby.attempt():
        store.now += standby.elector._retry_wait()
    assert LEASE_DURATION <= store.now - gone < LEASE_DURATION + 2.1


def test_a_lease_deleted_twice_stays_with_its_holder_though_a_standby_was_cut_off_in_between() -> None:
    store = Store()
    leader, standby = Side(store, "a"), Side(store, "b")
    assert leader.attempt()
    assert not standby.attempt()
    store.lease = None
    assert not standby.attempt()
    for _ in range(10):
        store.now += 2.0
        assert leader.attempt()
    store.lease = None
    assert not standby.attempt()


def test_a_former_holder_does_not_take_a_deleted_lease_for_its_own() -> None:
    store = Store()
    paused, other = Side(store, "a"), Side(store, "b")
    assert paused.attempt()
    while not other.attempt():
        store.now += 1.0
    store.lease = None
    assert not paused.attempt()
    assert other.attempt()


def test_only_the_holder_releases_the_lease() -> None:
    store = Store()
    leader = Side(store, "a")
    assert leader.attempt()
    assert store.lease is not None
    store.lease["spec"]["holderIdentity"] = "b"
    leader.elector.stop(release=True)
    assert store.lease["spec"]["holderIdentity"] == "b"


@pytest.mark.parametrize("body", [{}, {"spec": {}}, {"spec": {"holderIdentity": None}}])
def test_a_lease_made_by_hand_is_taken(body: dict[str, Any]) -> None:
    store = Store()
    store.lease = {"metadata": {"name": "lease", "resourceVersion": "7"}, **body}
    assert Side(store, "a").attempt()


@pytest.mark.parametrize("seed", range(20))
def test_never_two_at_once(seed: int) -> None:
    """Random attempts, lost answers, cut lines, wrong walls and a lease deleted by hand."""
    rng = random.Random(seed)
    store = Store()
    sides = [Side(store, name, rng.uniform(-9999, 9999)) for name in "abc"]
    led = set()
    for side in sides:  # who has never seen a holder cannot know of it once the lease is deleted
        side.attempt()
    for _ in range(1000):
        store.now += rng.choice([0.01, 0.5, 2.0])
        if rng.random() < 0.01:
            store.lease = None
        side = rng.choice(sides)
        if rng.random() < 0.02:
            side.broken = not side.broken
        side.answers_lost = rng.random() < 0.05
        side.attempt()
        leaders = [side for side in sides if side.leads]
        assert len(leaders) <= 1
        led |= {sides.index(leader) for leader in leaders}
    assert len(led) > 1
