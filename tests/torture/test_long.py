"""Simulated days: memory grows with the cluster and not with time."""

import gc
import os
import random
import resource
from pathlib import Path
from typing import Any

import pytest
from cvji.reporter import WINDOW

from tests.e2e.conftest import *  # noqa: F403  its fixtures
from tests.e2e.kit import Stage, free_port, scrape, stamp
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod, pod_status
from tests.torture.model import START, Cluster, History, Informer

pytestmark = pytest.mark.torture
DAY = 24 * 3600
MINUTE = 60.0


def rss() -> int:
    """Resident bytes, with what the allocator need not keep."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Churn(History):
    """Jobs that come and go evenly for as long as wanted, a few at a time."""

    def __init__(self, seed: int, *, lease: bool = True) -> None:
        super().__init__(seed, jobs=0, claims=0.3)
        self.informers = [Informer(1, self, lease=lease)]
        self.quiet = True
        self.serial = 0

    def forget(self) -> None:
        """The truth and what CloudVision holds grow with time by their nature; the informer must not."""
        self.cloudvision.jobs.clear()
        self.cluster.lives = {uid: life for uid, life in self.cluster.lives.items() if life.gone is None}
        planned = [plan for plan in self.cluster.plans if plan[1] in self.cluster.lives]
        self.cluster.plans = planned

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
            cluster.due(now)
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
        churn.cluster.due(now)
        churn.informers[0].step(now)
        now += 1.0


def test_a_day_without_cloudvision_with_5000_jobs_coming_and_going() -> None:
    churn = Churn(1)
    churn.day(500, 0, DAY / 10, away=True)
    churn.day(4500, DAY / 10, DAY * 9 / 10, away=True)
    (informer,) = churn.informers
    waiting, backlog = len(informer.outbox), informer.reporter.backlog(START + DAY)
    assert waiting < WINDOW + 300  # with what stands in the cluster
    assert 5000 - 300 < waiting + backlog[0] <= 5000
    assert DAY - 2 * 3600 < backlog[1] < DAY
    settle(churn, DAY, 2 * 3600)
    assert len(churn.informers[0].outbox) == 0
    assert churn.judge() == []
    assert len(churn.cloudvision.jobs) == 5000


@pytest.mark.parametrize("lease", [True, False], ids=["leader", "standby"])
def test_24_hours_of_churn_leave_no_trace(lease: bool) -> None:
    churn = Churn(2, lease=lease)
    churn.day(1000, 0, 4 * 3600, away=False)
    churn.forget()
    before = rss()
    at = 4 * 3600.0
    for _ in range(6):
        churn.day(1000, at, 4 * 3600, away=False)
        at += 4 * 3600
        churn.forget()
    after = rss()
    print(f"RSS {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    assert after < before * 1.05


DEPLOYED: dict[str, Any] = {"MALLOC_ARENA_MAX": "1"}  # as in the chart


class Fleet:
    """A fleet's month of jobs in a minute: processes, watches, HTTP and all; 250 at a time come, end and go."""

    def __init__(self, kubernetes: KubernetesSimulator, stage: Stage) -> None:
        self.kubernetes, self.stage = kubernetes, stage
        self.port = free_port()
        self.program = stage.informer(
            STATE_NAMESPACE="cloudvision", HEALTH_ADDRESS=f"127.0.0.1:{self.port}", **DEPLOYED
        )
        self.names: list[str] = []

    def told(self, state: str) -> int:
        """Of how many jobs the program is in this state."""
        return int(scrape(self.port).get(f'cvji_jobs{{state="{state}"}}', 0))

    def batch(self, number: int) -> None:
        torch = ("kubeflow.org", "PyTorchJob")
        names = [f"job-{number}-{one}" for one in range(250)]
        start = stamp(-9)
        for one, name in enumerate(names):
            made = self.kubernetes.create({**job(*torch, name), "status": {"startTime": start}})
            macs = [f"02:00:00:{number:02x}:{one:02x}:{nic:02x}" for nic in range(8)]
            self.kubernetes.create({**pod(f"{name}-0", made, *macs), "status": pod_status("Running", start)})
        self.program.wait_for(lambda: self.told("running") == 250, 60)
        for name in names:
            status = ended(*torch, "COMPLETED", start, stamp()) or {}
            self.kubernetes.patch(torch[0], "pytorchjobs", "team", name, {"status": status})
        self.program.wait_for(lambda: self.told("running") == 0, 60)
        for name in names:
            self.kubernetes.delete(torch[0], "pytorchjobs", "team", name)
            self.kubernetes.delete("", "pods", "team", f"{name}-0")
        self.kubernetes.compact()  # the simulator's own memory
        self.names += names

    def wait_until_told(self) -> None:
        """Until CloudVision knows the end of every job."""
        told = dict.fromkeys(self.names, "JOB_STATE_COMPLETED")
        jobs = self.stage.cloudvision.jobs
        self.program.wait_for(lambda: {job["name"]: job["state"] for job in list(jobs.values())} == told, 60)
        self.program.wait_for(lambda: self.told("ended") == scrape(self.port)["cvji_outbox_depth"] == 0)

    def forget(self) -> None:
        """The simulator's own memory."""
        self.names.clear()
        self.stage.cloudvision.forget()


def test_the_program_itself_is_as_large_after_8000_jobs_as_after_2000(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    fleet = Fleet(kubernetes, simulated)
    sizes = []
    for batch in range(32):
        fleet.batch(batch)
        fleet.wait_until_told()
        fleet.forget()
        sizes.append(fleet.program.rss())
    print("RSS in MB after each 250 jobs:", [round(size / 1e6, 1) for size in sizes])
    assert max(sizes[-4:]) < max(sizes[:8]) * 1.05
    assert fleet.program.stop() == 0


def test_the_program_itself_is_no_larger_for_5000_jobs_that_cloudvision_must_still_be_told_of(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    fleet = Fleet(kubernetes, simulated)
    simulated.cloudvision.refuse()
    sizes = []
    for batch in range(20):
        fleet.batch(batch)
        sizes.append(fleet.program.rss())
    print("RSS in MB after each 250 jobs:", [round(size / 1e6, 1) for size in sizes])
    fleet.program.wait_for(lambda: scrape(fleet.port)["cvji_outbox_depth"] == 5000)
    # 0.3 kB a job, and Python asks the system for 1 MB at a time. Of what a job costs while it stands, 4 kB, it is little.
    assert max(sizes) < max(sizes[:4]) * 1.08
    simulated.cloudvision.resume()
    fleet.wait_until_told()
    print(f"and after all were told: {fleet.program.rss() / 1e6:.1f} MB")
    assert fleet.program.rss() < max(sizes[:4]) * 1.08
    assert fleet.program.stop() == 0


def test_the_machine_is_not_asked_for_randomness() -> None:
    """A seed is a history: two runs of one seed agree to the letter."""
    first, second = History(11), History(11)
    first.run()
    random.seed(os.urandom(8))
    second.run()
    assert first.cloudvision.jobs == second.cloudvision.jobs
