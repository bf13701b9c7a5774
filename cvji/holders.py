"""`cvji holders`: which runs hold, or held, a NIC or a node; from the records, and from CloudVision if asked."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from cvji.cloudvision.reading import JobEntry, Reader
from cvji.jobs.report import RunReport
from cvji.kube.client import Api
from cvji.macs import ethernet_mac
from cvji.reports import reading
from cvji.settings import SettingsError


class Holding(msgspec.Struct, frozen=True):
    """A run that holds or held it. Times are seconds since the epoch; `source` is `records` or `cloudvision`."""

    job: str
    id: str
    state: str
    start: int
    end: int | None
    source: str


class Found(msgspec.Struct, frozen=True):
    """What was looked for, and who holds it; `passed_over` are records that cannot be read."""

    wanted: tuple[str, ...]
    holdings: tuple[Holding, ...]
    passed_over: tuple[str, ...]


def moment(text: str) -> float:
    """An RFC3339 time in seconds since the epoch. Raises SettingsError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--at is {text!r}: it must be a time such as 2026-01-31T02:14:05Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def wanted(api: Api, namespace: str, text: str) -> frozenset[str]:
    """What a run may be reported to hold instead of `text`: the MAC itself, or a node and its NICs. Raises ApiError."""
    if mac := ethernet_mac(text):
        return frozenset({mac})
    node = reading.node(api, namespace, text)
    return frozenset({text, *(nic.mac for nic in node.nics)} if node else {text})


def find(
    api: Api, namespace: str, text: str, at: float | None, *, cloudvision: Reader | None = None, location: str = ""
) -> Found:
    """Every holder of a MAC address or node, the newest first; those at a time alone where one is given.

    Raises ApiError, RecordError and ReadError.
    """
    names = wanted(api, namespace, text)
    passed_over: list[str] = []
    reports = (report for report, _ in reading.runs(api, namespace, passed_over.append))
    found = list(_recorded(reports, names))
    if cloudvision is not None:
        found += _shown(cloudvision.jobs(location), names)
    kept = [item for item in found if at is None or (item.start <= at and (item.end is None or at < item.end))]
    kept.sort(key=lambda item: (item.start, item.source), reverse=True)
    return Found(tuple(sorted(names)), tuple(kept), tuple(passed_over))


def _recorded(reports: Iterable[RunReport], names: frozenset[str]) -> Iterator[Holding]:
    for run in reports:
        if not names.isdisjoint(run.holds.texts()):
            job = f"{run.kind} {run.namespace}/{run.name}"
            yield Holding(job, run.id, run.state.name, run.start, run.end, "records")


def _shown(jobs: Iterable[JobEntry], names: frozenset[str]) -> Iterator[Holding]:
    for job in jobs:
        held = [*(job.interfaces.values if job.interfaces else ()), *(job.nodes.values if job.nodes else ())]
        if job.start_time is not None and not names.isdisjoint(held):
            end = int(job.end_time.timestamp()) if job.end_time else None
            state = job.state.removeprefix("JOB_STATE_")
            yield Holding(job.name, job.key.id, state, int(job.start_time.timestamp()), end, "cloudvision")


def lines(found: Found, text: str) -> Iterator[str]:
    """The answer for people."""
    if not found.holdings:
        yield f"no run holds {text}, nor held it as far as is recorded"
    for item in found.holdings:
        until = "now" if item.end is None else _time(item.end)
        shown = " (CloudVision)" if item.source == "cloudvision" else ""
        yield f"{_time(item.start)} to {until:<20}  {item.state:<9}  {item.job}  {item.id}{shown}"
    yield from (f"passed over: {line}" for line in found.passed_over)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
