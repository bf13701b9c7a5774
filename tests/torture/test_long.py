"""Simulated days, and months of jobs in a minute: memory grows with the cluster and not with time."""

import gc
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cvji.cloudvision.client import Answer
from cvji.cloudvision.client import Verdict as Sent
from cvji.cloudvision.outbox import Outbox
from cvji.jobs.report import Holds, JobState, Key, RunReport
from cvji.macs import pack
from cvji.reports import book
from cvji.reports.records import Delivery, Reason, Record, Stored
from cvji.reports.tasks import Outcome, Result
from cvji.reports.writequeue import WriteQueue
from tests.e2e.conftest import *  # noqa: F403  its fixtures
from tests.e2e.kit import Stage, free_port, scrape, stamp
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod, pod_status
from tests.torture.cluster import TORCH, Job, Options
from tests.torture.evidence import Rules
from tests.torture.play import Faults, History
from tests.torture.shown import Shown

pytestmark = pytest.mark.torture
DAY = 24 * 3600.0
REPORT = RunReport("u", 1, "name", "team", "kubeflow.org/PyTorchJob", JobState.COMPLETED, 1, 2, Holds(bytes(48)))
PAUSE = 5.0  # seconds between two steps


def rss() -> int:
    """Resident bytes of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Churn(History):
    """Jobs that come and go evenly for as long as wanted, without faults but for CloudVision's absence."""

    def __init__(self, seed: int, *, leads: bool = True) -> None:
        options = Options(jobs=0, claims=0.3)
        super().__init__(seed, options=options, faults=Faults(any=False), rules=Rules(lag=2 * PAUSE))
        self.processes = [self.process() if leads else self.make()]
        self.now = 0.0
        self.serial = 0

    def live(self, jobs: int, seconds: float) -> None:
        """Let `jobs` jobs begin within `seconds`, each for a tenth of them, or an hour."""
        cluster, every = self.cluster, seconds / max(jobs, 1)
        life, until, birth = min(seconds / 10, 3600.0), self.now + seconds, self.now
        while self.now < until:
            self.now += PAUSE
            for deed, about in cluster.due(self.now):
                cluster.act(deed, about)
            if jobs and birth <= self.now:
                birth += every
                self.birth(f"job-{self.serial}", life)
            self.processes[0].step(self.now)
            self.note(self.now)

    def birth(self, uid: str, life: float) -> None:
        cluster, now = self.cluster, self.cluster.stamp()
        self.serial += 1
        cluster.put("jobs", Job(uid, TORCH, None, now, now))
        for number in range(4):
            cluster.make_pod(uid, str(number))
        cluster.plan(life, self.rng.choice(["complete", "fail", "delete"]), uid)
        cluster.plan(life + 600, "collect", uid)

    def forget(self) -> None:
        """The truth and what CloudVision holds grow with time by their nature; the program must not."""
        self.shown = Shown()
        self.cluster.log.clear()
        self.cluster.free.clear()
        self.driver.known.clear()
        (process,) = self.processes
        process.heard.clear()
        process.read = dict.fromkeys(process.read, 0)
        self.records = {key: body for key, body in self.records.items() if body}


def test_a_day_without_cloudvision_with_5000_jobs_coming_and_going() -> None:
    churn = Churn(1)
    churn.cloudvision_away = True
    churn.live(5000, DAY)
    waiting = churn.processes[0].program.reporter.book
    assert waiting.unsettled() > 4800  # all but those that were too short, and those that have just begun
    bodies = sum(entry.newest.report is not None for entry in waiting._entries.values())
    print(f"{waiting.unsettled()} reports wait, {bodies} of them in memory")
    churn.cloudvision_away = False
    churn.live(0, 3 * 3600)
    assert waiting.unsettled() == 0
    assert len(churn.processes[0].program.outbox) == 0
    assert churn.judge() == []
    assert len(churn.shown.jobs) > 4800


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "standby"])
def test_24_hours_of_churn_leave_no_trace(leads: bool) -> None:
    churn = Churn(2, leads=leads)
    sizes = []
    for _ in range(7):  # the records of the last 1,000 jobs are kept: the first day's part fills them
        churn.live(1000, 4 * 3600)
        churn.forget()
        sizes.append(rss())
    print("RSS in MB after every 4 hours:", [round(size / 1e6, 1) for size in sizes])
    assert sizes[-1] < max(sizes[:2]) * 1.05


def test_a_report_that_waits_is_kept_in_its_record_alone_once_its_job_is_gone() -> None:
    found = book.Book("lab", durable=True)
    found.put(REPORT, 0.0)
    found.written(("job", REPORT.job), 1, 0.0)
    found.advance(60.0)
    found.finish(REPORT, 600.0)
    found.advance(660.0)
    newest = found.newest(("job", REPORT.job))
    assert newest is not None
    assert newest.report is None


def cost(what: str, many: int, make: Callable[[], object]) -> float:
    """Bytes that each of `many` costs."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / many
    tracemalloc.stop()
    print(f"{what}: {each:.0f} B a key")
    assert kept is not None
    return each


def test_a_report_that_waits_for_cloudvision_costs_less_than_a_kilobyte_in_memory() -> None:
    many = 5000
    uids = [f"7f4a4d3e-6b4e-4c58-9c1d-{number:012d}" for number in range(many)]
    trouble = Delivery(Reason.UNREACHABLE, 1, "no answer")

    def report(uid: str) -> RunReport:
        holds = Holds(macs=pack(f"02:00:{uid[-4:-2]}:{uid[-2:]}:00:{nic:02x}" for nic in range(8)))
        return msgspec.structs.replace(REPORT, job=uid, holds=holds)

    def fill_book() -> book.Book:
        found = book.Book("lab", durable=True)
        for uid in uids:
            made = report(uid)
            found.put(made, 0.0)
            found.finish(made, 0.0)
            found.written(("job", uid), 1, 0.0)
            list(found.take())
        found.advance(60.0)
        list(found.take())
        return found

    def fill_outbox() -> Outbox:
        found = Outbox(lambda: 0.0)
        for uid in uids:
            found.put(("job", uid), 1, 0.0)
        away = found.take(0.0)
        assert away is not None
        found.settle(away, Answer(Sent.BUSY), 0.0)
        return found

    def fill_queue() -> WriteQueue:
        found = WriteQueue(lambda: 0.0)
        for uid in uids:
            key: Key = ("job", uid)
            found.put(Record(key, 1, report(uid)), 0.0)
            write(found, 0.0)
            found.acknowledge(key, 1, trouble, 10.0)
            write(found, 20.0)
        return found

    def write(found: WriteQueue, now: float) -> None:
        task = found.take(now)
        assert task is not None
        found.settle(task, Result(Outcome.DONE, Stored("uid", str(int(now)), 1, 0)), now)

    costs = {"book": fill_book, "outbox": fill_outbox, "write queue": fill_queue}
    assert sum(cost(what, many, fill) for what, fill in costs.items()) < 1024


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

    def count(self, state: str) -> int:
        """How many jobs the program has in this state."""
        return int(scrape(self.port).get(f'cvji_jobs{{state="{state}"}}', 0))

    def batch(self, number: int) -> None:
        torch = ("kubeflow.org", "PyTorchJob")
        names = [f"job-{number}-{one}" for one in range(250)]
        start = stamp(-9)
        for one, name in enumerate(names):
            made = self.kubernetes.create({**job(*torch, name), "status": {"startTime": start}})
            macs = [f"02:00:00:{number:02x}:{one:02x}:{nic:02x}" for nic in range(8)]
            self.kubernetes.create({**pod(f"{name}-0", made, *macs), "status": pod_status("Running", start)})
        self.program.wait_for(lambda: self.count("running") == 250, 60)
        for name in names:
            status = ended(*torch, "COMPLETED", start, stamp()) or {}
            self.kubernetes.patch(torch[0], "pytorchjobs", "team", name, {"status": status})
        self.program.wait_for(lambda: self.count("running") == 0, 60)
        for name in names:
            self.kubernetes.delete(torch[0], "pytorchjobs", "team", name)
            self.kubernetes.delete("", "pods", "team", f"{name}-0")
        self.kubernetes.compact()  # the simulator's own memory
        self.names += names

    def wait_until_told(self) -> None:
        """Until CloudVision knows the end of every job."""
        told = dict.fromkeys(self.names, "JOB_STATE_COMPLETED")
        jobs = self.stage.cloudvision.jobs
        self.program.wait_for(lambda: {job["name"]: job["state"] for job in list(jobs.values())} == told, 120)
        self.program.wait_for(lambda: self.count("ended") == scrape(self.port)["cvji_outbox_depth"] == 0)

    def all_wait(self) -> bool:
        """Whether the records of all jobs say that CloudVision is away."""
        group, plural = "cloudvision.arista.io", "jobreports"
        found = [self.kubernetes.get(group, plural, *place) or {} for place in self.kubernetes.names(group, plural)]
        waiting = [record for record in found if record["spec"]["state"] == "COMPLETED" and record.get("status")]
        return len(waiting) == len(self.names)

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


def test_the_program_itself_grows_by_little_for_a_job_that_cloudvision_must_still_be_told_of(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    fleet = Fleet(kubernetes, simulated)
    simulated.cloudvision.refuse()
    sizes = []
    for batch in range(20):
        fleet.batch(batch)
        if batch % 5 == 4:  # what has waited for long enough is dropped
            fleet.program.wait_for(fleet.all_wait, 60)
            sizes.append(fleet.program.rss())
    print("RSS in MB after each 1,250 jobs:", [round(size / 1e6, 1) for size in sizes])
    fleet.program.wait_for(lambda: scrape(fleet.port)["cvji_outbox_depth"] == 5000)
    assert sizes[-1] - sizes[0] < 3750 * 1536  # 0.8 kB of objects each, in whole pages
    simulated.cloudvision.resume()
    fleet.wait_until_told()
    print(f"and after all were told: {fleet.program.rss() / 1e6:.1f} MB")
    assert fleet.program.stop() == 0
