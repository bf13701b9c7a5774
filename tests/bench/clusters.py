"""The informer as it is deployed, with records and Lease, in clusters of every size: design section 6 and its limits.

The simulators have processes of their own, whose share of a core stands in the note of what they could have slowed.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Row, Usage, bench, percentiles
from tests.bench.servers import CloudVisionSide, Expected, KubernetesSide, process, waits
from tests.e2e.kit import Program, write_kubeconfig

JOB_SIZE = NICS = 8
ENDS_A_SECOND = 50.0  # jobs ended while latencies are measured
ENDS = 1000  # at most; half of the jobs otherwise
STABILITY_DELAY = 5.0
QUIET = 3.0  # seconds
IDLE = 40.0  # seconds
# Not the reports': the Lease is renewed every 2 s.
NOT_REPORTS = {"watch", "leases"}


def informer(kubeconfig: Path, cloudvision: CloudVisionSide, folder: Path) -> Program:
    """An informer as it is deployed."""
    env = {
        "KUBECONFIG": str(kubeconfig),
        "API_SERVER": cloudvision.address(),
        "API_TOKEN": cloudvision.token(),
        "API_CA_FILE": cloudvision.ca_file(),
        "LOCATION": "lab",
        "STATE_NAMESPACE": "cloudvision",
        "LEADER_ELECT": "true",
        "HEALTH_ADDRESS": "127.0.0.1:0",
    }
    return Program("informer", env=env, folder=folder)


class Bench:
    """Two simulators and the informers between them."""

    def __init__(self, kubernetes: KubernetesSide, cloudvision: CloudVisionSide, folder: Path) -> None:
        self.kubernetes, self.cloudvision, self._folder = kubernetes, cloudvision, folder
        self._kubeconfig = write_kubeconfig(folder, f"http://{kubernetes.address()}")
        self._began, self._used = 0.0, (0.0, 0.0)

    def informer(self) -> Program:
        """An informer as it is deployed."""
        return informer(self._kubeconfig, self.cloudvision, self._folder)

    def lap(self) -> str:
        """The simulators' shares of a core since the last lap, as a note."""
        now, used = time.monotonic(), (self.kubernetes.cpu(), self.cloudvision.cpu())
        shares = [(new - old) / (now - self._began) * 100 for new, old in zip(used, self._used, strict=True)]
        self._began, self._used = now, used
        return f"simulators: {shares[0]:.0f} % and {shares[1]:.0f} % of a core"

    def requests(self) -> int:
        """Requests to the API server other than watches and the Lease's."""
        return sum(
            count for name, count in self.kubernetes.requests().items() if not NOT_REPORTS.intersection(name.split())
        )

    def written(self) -> tuple[int, int, int]:
        """Requests that wrote a report, their bytes, and removals, so far."""
        requests, received = self.kubernetes.requests(), self.kubernetes.received()
        names = [f"{verb} {plural}" for verb in ("create", "update") for plural in ("jobreports", "nodereports")]
        removals = requests.get("delete jobreports", 0) + requests.get("delete nodereports", 0)
        return sum(requests.get(name, 0) for name in names), sum(received.get(name, 0) for name in names), removals


@contextlib.contextmanager
def bench_of(folder: Path) -> Iterator[Bench]:
    """An empty cluster and an empty CloudVision."""
    with process(KubernetesSide) as kubernetes, process(CloudVisionSide) as cloudvision:
        yield Bench(kubernetes, cloudvision, folder)


def cold_start(
    bench: Bench, program: Program, subject: str, jobs: int, nodes: int = 0, *, peak: float, cpu: float = 60.0
) -> Iterator[Row]:
    """From the start until CloudVision holds everything and all is quiet."""
    bench.lap()
    began = time.monotonic()
    usage = Usage(program.process.pid)
    bench.cloudvision.wait_for_held(jobs, nodes, 900)
    took, used = time.monotonic() - began, usage.cpu()
    yield Row(subject, "CPU until all is reported", used, "s", most=cpu)
    yield Row(subject, "all reported after", took, "s", most=120, note=bench.lap())
    usage.quiet(QUIET)
    yield Row(subject, "peak RSS", usage.peak(), "MB", most=peak)
    yield Row(subject, "RSS after sync", usage.rss(), "MB")
    requests, size, _ = bench.written()
    reports = jobs + nodes
    yield Row(subject, "requests written a report", requests / reports, most=2)
    yield Row(subject, "bytes written a report", size / reports, "B", most=4096 if not nodes else None, note="bodies")


def ends(bench: Bench, subject: str, jobs: int) -> Iterator[Row]:
    """How long an end takes to CloudVision, 50 of them a second."""
    before = bench.cloudvision.count()
    bench.lap()
    count = min(jobs // 2, ENDS) or 1
    expected = bench.kubernetes.end_jobs(0, count, ENDS_A_SECOND)
    bench.cloudvision.wait_for_requests(before + count, 120)
    note = bench.lap()
    yield from latencies(bench, subject, "an end to CloudVision", expected, before, note, p50=50, p99=250)


def latencies(
    bench: Bench,
    subject: str,
    what: str,
    expected: list[Expected],
    before: int,
    note: str,
    *,
    delay: float = 0.0,
    p50: float | None = None,
    p99: float | None = None,
) -> Iterator[Row]:
    """Rows for what was expected of CloudVision after so many requests, less a delay that is meant."""
    found = [wait - delay for each in waits(expected, bench.cloudvision.said(before)).values() for wait in each]
    yield Row(subject, f"{what}, never heard of", sum(wait == float("inf") for wait in found), most=0)
    yield from percentiles(
        subject, what, [wait for wait in found if wait < float("inf")], limits={"p50": p50, "p99": p99}, note=note
    )


def idle(bench: Bench, program: Program, subject: str) -> Iterator[Row]:
    """What is asked and said when nothing happens."""
    usage = Usage(program.process.pid)
    usage.quiet(QUIET)
    looks = bench.kubernetes.discoveries()
    before, told, used = bench.requests(), bench.cloudvision.count(), usage.cpu()
    time.sleep(IDLE)
    yield Row(subject, f"idle {IDLE:g} s: requests to the API", bench.requests() - before, most=0)
    yield Row(subject, f"idle {IDLE:g} s: requests to CloudVision", bench.cloudvision.count() - told, most=0)
    looks = bench.kubernetes.discoveries() - looks
    yield Row(subject, f"idle {IDLE:g} s: discovery", looks, most=0)
    yield Row(subject, "idle: CPU of a core", (usage.cpu() - used) / IDLE * 100, "%")


def restart(bench: Bench, program: Program, subject: str, jobs: int) -> Iterator[Row]:
    """Kill it once all is acknowledged; what its successor repeats, and how soon that reports."""
    Usage(program.process.pid).quiet(QUIET)
    program.kill()
    before = bench.cloudvision.count()
    began = time.monotonic()
    with bench.informer() as successor:
        successor.wait_for_log("elected leader", 60)
        elected = time.monotonic()
        successor.wait_for_log("reporting from now on", 300)
        reporting = time.monotonic()
        yield Row(subject, "restart: elected after", elected - began, "s", note="the Lease has to run out: 15 s")
        yield Row(subject, "restart: reporting, from election", reporting - elected, "s", most=20, note=bench.lap())
        usage = Usage(successor.process.pid)
        usage.quiet(QUIET)
        yield Row(subject, "restart: reported twice", bench.cloudvision.count() - before, most=0)
        yield Row(subject, "restart: CPU", usage.cpu(), "s")
        yield Row(subject, "restart: peak RSS", usage.peak(), "MB", most=256)
        expected = bench.kubernetes.end_jobs(jobs - 1, 1, 1)
        bench.cloudvision.wait_for_requests(before + 1, 20)
        found = waits(expected, bench.cloudvision.said(before))["end"]
        yield Row(subject, "restart: the next end", found[0] * 1000, "ms", most=250)


def cluster(folder: Path, pods: int, *, peak: float = 256, others: int = 0, again: bool = False) -> Iterator[Row]:
    """Start in a full cluster, end jobs, be idle; `again`: be killed and start once more."""
    jobs = pods // JOB_SIZE
    subject = f"{pods:,} pods, {jobs:,} jobs" + (f", {others:,} others" if others else "")
    with bench_of(folder) as bench:
        bench.kubernetes.fill(jobs, JOB_SIZE, NICS)
        if others:
            bench.kubernetes.fill_others(others)
        with bench.informer() as program:
            yield from cold_start(bench, program, subject, jobs, peak=peak)
            yield from ends(bench, subject, jobs)
            yield from idle(bench, program, subject)
            if again:
                yield from restart(bench, program, subject, jobs)
        yield Row(subject, "refused by CloudVision", bench.cloudvision.rejected(), most=0)


@bench
def cluster_2000(folder: Path) -> Iterator[Row]:
    """2,000 pods of 250 jobs."""
    yield from cluster(folder, 2_000, again=True)


@bench
def cluster_8000(folder: Path) -> Iterator[Row]:
    """8,000 pods of 1,000 jobs."""
    yield from cluster(folder, 8_000)


@bench
def cluster_50000(folder: Path) -> Iterator[Row]:
    """50,000 pods of 6,250 jobs."""
    yield from cluster(folder, 50_000)


@bench
def cluster_150000(folder: Path) -> Iterator[Row]:
    """150,000 pods of 18,750 jobs; then a restart."""
    yield from cluster(folder, 150_000, again=True)


@bench
def others(folder: Path) -> Iterator[Row]:
    """40,000 pods of jobs beside 110,000 that are of none."""
    yield from cluster(folder, 40_000, others=110_000)


@bench
def nodes(folder: Path) -> Iterator[Row]:
    """5,000 nodes of 8 PFs with 8 VFs each."""
    count, subject = 5_000, "5,000 nodes, 360,000 NICs"
    with bench_of(folder) as bench:
        bench.kubernetes.fill_nodes(count, 8, 8)
        with bench.informer() as program:
            yield from cold_start(bench, program, subject, 0, count, peak=256)


@bench
def sizes(folder: Path) -> Iterator[Row]:
    """What the chart's sizes are for (`informer.size`): it takes no more than half of each memory limit."""
    for size, pods, count, limit in (
        ("small", 10_000, 500, 256),
        ("medium", 50_000, 1_000, 512),
        ("large", 150_000, 5_000, 1024),
    ):
        jobs, subject = pods // JOB_SIZE, f"{size}: {pods:,} pods, {count:,} nodes"
        with bench_of(folder) as bench:
            bench.kubernetes.fill(jobs, JOB_SIZE, NICS)
            bench.kubernetes.fill_nodes(count, 8, 8)
            with bench.informer() as program:
                yield from cold_start(bench, program, subject, jobs, count, peak=limit * 2**20 / 1e6 / 2)


@bench
def claims(folder: Path) -> Iterator[Row]:
    """10,000 pods of 1,250 jobs whose NICs stand in 10,000 ResourceClaims."""
    jobs, subject = 1_250, "10,000 pods and claims"
    with bench_of(folder) as bench:
        bench.kubernetes.fill(jobs, JOB_SIZE, NICS, claims=True)
        with bench.informer() as program:
            yield from cold_start(bench, program, subject, jobs, peak=256)
            yield from ends(bench, subject, jobs)


@bench
def large_job(folder: Path) -> Iterator[Row]:
    """One job of 10,000 pods with 2 NICs each, some of which are replaced; then its end."""
    pods, subject = 10_000, "one job of 10,000 pods"
    with bench_of(folder) as bench:
        bench.kubernetes.fill(1, pods, 2)
        with bench.informer() as program:
            began = time.monotonic()
            bench.cloudvision.wait_for_held(1, 0, 300)
            usage = Usage(program.process.pid)
            yield Row(subject, "reported after", time.monotonic() - began, "s")
            usage.quiet(QUIET)
            yield Row(subject, "CPU until quiet", usage.cpu(), "s")
            yield Row(subject, "peak RSS", usage.peak(), "MB", most=256)
            used = usage.cpu()
            bench.lap()
            events = bench.kubernetes.replace_pods(500, 50)
            usage.quiet(QUIET)
            yield Row(subject, "CPU per 1,000 events", (usage.cpu() - used) / events * 1000, "s", note=bench.lap())
            time.sleep(STABILITY_DELAY)
            before = bench.cloudvision.count()
            expected = bench.kubernetes.end_jobs(0, 1, 1)
            bench.cloudvision.wait_for_requests(before + 1, 60)
            found = waits(expected, bench.cloudvision.said(before))["end"]
            yield Row(subject, "an end to CloudVision", found[0] * 1000, "ms")
