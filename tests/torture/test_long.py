"""Simulated days: memory grows with the cluster and not with time."""

import gc
import os
import random
import resource
from pathlib import Path

import pytest

from tests.torture.model import Cluster, History, Informer

pytestmark = pytest.mark.torture
DAY = 24 * 3600
MINUTE = 60.0


def rss() -> int:
    """Resident bytes, with what the allocator need not keep."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Churn(History):
    """Jobs that come and go evenly for as long as wanted, a few at a time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, jobs=0)
        self.informers = [Informer(1, self, lease=True)]
        self.quiet = True
        self.serial = 0

    def day(self, jobs: int, begin: float, seconds: float, *, away: bool) -> None:
        """Let `jobs` jobs live within `seconds`, each for a tenth of them or an hour."""
        cluster, (informer,) = self.cluster, self.informers
        self.cloudvision.away = away
        every = seconds / jobs
        life = min(seconds / 10, 3600.0)
        step = min(every, 5.0)
        now, next_birth = begin, begin
        while now < begin + seconds:
            if now >= next_birth:
                next_birth += every
                uid = f"job-{self.serial}"
                self.serial += 1
                birth(cluster, uid, now)
                cluster.plans.append((now + life, uid, self.rng.choice(["complete", "fail", "delete"])))
                cluster.plans.append((now + life + 600, uid, "collect"))
            for plan in [plan for plan in cluster.plans if plan[0] <= now]:
                cluster.plans.remove(plan)
                cluster.act(plan[1], plan[2], now)
            informer.step(now)
            if len(cluster.log) > 1000:  # what every watch has read
                cluster.log.clear()
                informer.read = dict.fromkeys(informer.read, 0)
            now += step


def birth(cluster: Cluster, uid: str, now: float) -> None:
    from tests.torture.model import Life, when

    cluster.lives[uid] = Life(uid, now, starts=[when(now)])
    cluster.job(uid, now)
    for _ in range(4):
        cluster.pod(uid, now, cluster.mac(), cluster.mac())


def settle(churn: Churn, begin: float, seconds: float) -> None:
    churn.cloudvision.away = False
    now = begin
    while now < begin + seconds:
        for plan in [plan for plan in churn.cluster.plans if plan[0] <= now]:
            churn.cluster.plans.remove(plan)
            churn.cluster.act(plan[1], plan[2], now)
        churn.informers[0].step(now)
        now += 1.0


def test_a_day_without_cloudvision_with_5000_jobs_coming_and_going() -> None:
    churn = Churn(1)
    churn.day(500, 0, DAY / 10, away=True)
    before, waiting = rss(), len(churn.informers[0].outbox)
    churn.day(4500, DAY / 10, DAY * 9 / 10, away=True)
    # What waits is one report for each job that CloudVision must still be told of, and nothing more.
    assert len(churn.informers[0].outbox) <= 5000
    per_job = (rss() - before) / max(len(churn.informers[0].outbox) - waiting, 1)
    print(f"outbox {len(churn.informers[0].outbox)} keys, {per_job:.0f} bytes each")
    assert per_job < 8192
    settle(churn, DAY, 2 * 3600)
    assert len(churn.informers[0].outbox) == 0
    assert churn.judge() == []
    assert len(churn.cloudvision.jobs) == 5000


def test_24_hours_of_churn_leave_no_trace() -> None:
    churn = Churn(2)
    churn.day(1000, 0, 4 * 3600, away=False)
    churn.cloudvision.jobs.clear()
    churn.cluster.lives.clear()
    before = rss()
    at = 4 * 3600.0
    for _ in range(6):
        churn.day(1000, at, 4 * 3600, away=False)
        at += 4 * 3600
        # The truth and what CloudVision holds grow with time by their nature; the informer must not.
        churn.cloudvision.jobs.clear()
        churn.cluster.lives = {uid: life for uid, life in churn.cluster.lives.items() if life.gone is None}
    after = rss()
    print(f"RSS {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    assert after < before * 1.05


def test_the_machine_is_not_asked_for_randomness() -> None:
    """A seed is a history: two runs of one seed agree to the letter."""
    first, second = History(11), History(11)
    first.run()
    random.seed(os.urandom(8))
    second.run()
    assert first.cloudvision.jobs == second.cloudvision.jobs
