"""A cluster that never rests: jobs start and end, pods are replaced, so many events a second."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.clusters import JOB_SIZE, QUIET, STABILITY_DELAY, bench_of, latencies
from tests.bench.figures import Row, Usage, bench

GROWTH = 8.0  # MB of RSS that the second half of the time may add


@bench
def churn(folder: Path, rate: float = 500.0, seconds: float = 300.0, pods: int = 50_000) -> Iterator[Row]:
    """Latencies, cost and growth under lasting change."""
    jobs = pods // JOB_SIZE
    subject = f"{rate:g} events/s, {pods:,} pods"
    with bench_of(folder) as bench:
        bench.kubernetes.fill(jobs, JOB_SIZE)
        with bench.informer() as program:
            usage = Usage(program.process.pid)
            bench.cloudvision.wait_for_held(jobs, 0, 600)
            usage.quiet(QUIET)
            yield Row(subject, "RSS before", usage.rss(), "MB")
            before, used, written = bench.cloudvision.count(), usage.cpu(), bench.written()
            # Not at once: what is kept of ended jobs first grows to what it may be.
            bench.lap()
            began = time.monotonic()
            events, expected = bench.kubernetes.churn(rate, seconds / 2)
            half = usage.rss()
            more, others = bench.kubernetes.churn(rate, seconds / 2)
            took, note = time.monotonic() - began, bench.lap()
            after = usage.rss()
            bench.cloudvision.wait_for_requests(before + len(expected) + len(others), STABILITY_DELAY + 10)
            usage.quiet(QUIET)
            events, expected = events + more, [*expected, *others]
            yield Row(subject, "events/s reached", events / took, "/s", least=0.97 * rate, note=note)
            yield Row(subject, "CPU per 1,000 events", (usage.cpu() - used) / events * 1000, "s")
            for what, delay in (("end", 0.0), ("start", STABILITY_DELAY), ("change", STABILITY_DELAY)):
                chosen = [event for event in expected if event.what == what]
                text = f"{what} to CloudVision" + (" beyond 5 s" if delay else "")
                yield from latencies(bench, subject, text, chosen, before, "", delay=delay, p99=500)
            now = [new - old for new, old in zip(bench.written(), written, strict=True)]
            reports = bench.cloudvision.count() - before
            yield Row(subject, "reports", reports, note=f"{len(expected):,} expected")
            yield Row(subject, "requests written a report", now[0] / reports, most=2)
            yield Row(subject, "bytes written a report", now[1] / reports, "B", most=4096, note="bodies")
            yield Row(subject, "removals a report", now[2] / reports, note="one a job, once it is history")
            yield Row(subject, "RSS half-way", half, "MB")
            yield Row(subject, "RSS after", after, "MB", most=half + GROWTH, note="limit: no growth")
            yield Row(subject, "peak RSS", usage.peak(), "MB", most=256)
            yield Row(subject, "refused by CloudVision", bench.cloudvision.rejected(), most=0)
