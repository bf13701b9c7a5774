"""`cvji explain`: one job, its pods, and what was reported of it; the words are jobs.explain's. Wiring and text."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from cvji import deployed
from cvji.explain_read import MAX_CLIMB, Reader
from cvji.jobs.explain import Explanation, PodLine, clock, explain, reported_job
from cvji.jobs.kinds import Job
from cvji.jobs.policy import Policy
from cvji.jobs.report import RunReport
from cvji.kube.client import Api
from cvji.reports.records import ListedRecord
from cvji.settings import SettingsError

REFUSED = "CloudVisionRefused"  # an Event's reason
SHOWN = 32  # pods in a text; those that do not count come first


class RecordLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One JobReport: what was reported of a run, and what CloudVision said. Times are seconds since the epoch."""

    run: int
    state: str
    count: int
    things: str
    start: int
    end: int | None
    delivered: bool
    delivered_at: int | None = None
    reason: str = ""
    message: str = ""


class EventLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """An Event that the informer wrote on the job's object. `at` is in seconds since the epoch."""

    at: int
    reason: str
    message: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `explain` says; `unread` is what it was not allowed to read, or could not.

    `events` stand in for `records` where these may not be read.
    """

    explanation: Explanation | None
    records: tuple[RecordLine, ...]
    unread: tuple[str, ...]
    asked: str
    records_read: bool = True
    events: tuple[EventLine, ...] = ()


def answer(api: Api, settings: deployed.Deployed, asked: str, kind: str, state_namespace: str, now: float) -> Answer:
    """What there is to say of NAMESPACE/NAME. Raises ApiError and SettingsError."""
    namespace, slash, name = asked.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise SettingsError(f"{asked!r} must be NAMESPACE/NAME, such as team-a/finetune")
    policy = settings.policy()
    reader = Reader(api, namespace, state_namespace, settings)
    found = reader.find(name, kind)
    reader.climb()
    job = _reported(reader, policy, found, asked, now)
    if (watched := settings.namespaces()) and namespace not in watched:
        reader.problems.append(f"the informer does not watch namespace {namespace} (NAMESPACE={','.join(watched)})")
    for uid in found:
        if uid in reader.pods and reader.pods[uid].owner is None:
            reader.problems.append(f"pod {asked} belongs to no job of a known kind, so it is not followed")
    explanation = None
    if job:
        reader.read_pods(_top(reader, job))
        reader.read_nics()
        # A job that ended a while ago owns nothing: what holds NICs below it is known only now.
        job = _reported(reader, policy, found, asked, now) or job
        reader.read_records(job.name)
        if not reader.records_read:
            reader.read_events(job.uid)
        explanation = explain(
            reader.snapshot(),
            policy,
            job.uid,
            now,
            records_read=reader.records_read,
            notes=reader.notes,
            problems=reader.problems,
        )
    else:
        reader.read_records(name)
        reader.unread += reader.problems
    lines = tuple(_record_lines(reader.records))
    events = tuple(EventLine(event.at, event.reason, event.message) for event in reader.events)
    if explanation and explanation.waits_for.startswith("nothing") and (why := _undelivered(lines, events)):
        explanation = msgspec.structs.replace(explanation, waits_for=f"CloudVision to take the report: {why}")
    return Answer(explanation, lines, tuple(reader.unread), asked, reader.records_read, events)


def _reported(reader: Reader, policy: Policy, uids: list[str], asked: str, now: float) -> Job | None:
    """The job that the objects of that name count for, by what is read. Raises SettingsError where it is several."""
    snapshot = reader.snapshot()
    roots = dict.fromkeys(reported_job(snapshot, policy, uid, now) for uid in uids)
    jobs = [reader.jobs[uid] for uid in roots if uid in reader.jobs]
    if len(jobs) > 1:
        choices = " or ".join(f"--kind {job.kind}" for job in jobs)
        raise SettingsError(f"{asked} is the name of {len(jobs)} jobs: add {choices}")
    return jobs[0] if jobs else None


def _undelivered(records: tuple[RecordLine, ...], events: tuple[EventLine, ...]) -> str:
    """Why CloudVision does not have the newest report; "" if it has, or nobody knows."""
    if records and not records[-1].delivered:
        return records[-1].reason
    return events[-1].message if events and events[-1].reason == REFUSED else ""


def _top(reader: Reader, job: Job) -> Job:
    """The topmost job above one, whatever JOB_OWNER says: its labels are on all pods below it."""
    for _ in range(MAX_CLIMB):
        above = reader.jobs.get(job.owner or "")
        if above is None:
            break
        job = above
    return job


def _record_lines(records: Iterable[ListedRecord]) -> Iterator[RecordLine]:
    found = [(listed.record.report, listed) for listed in records]
    runs = [(report, listed) for report, listed in found if isinstance(report, RunReport)]
    for report, listed in sorted(runs, key=lambda item: (item[0].start, item[0].run)):
        status = listed.status
        yield RecordLine(
            run=report.run,
            state=report.state.name,
            count=len(report.holds),
            things="nodes" if report.holds.nodes else "NICs",
            start=report.start,
            end=report.end,
            delivered=listed.delivered,
            delivered_at=(status.delivered_at or None) if status else None,
            reason="" if listed.delivered else listed.reason.value,
            message=status.delivery.message if status and not listed.delivered else "",
        )


# --- as text ---------------------------------------------------------------------------------------------------


def lines(found: Answer, now: float) -> Iterator[str]:
    """The answer for people."""
    at = partial(clock, now=now)
    if found.explanation is None:
        yield f"{found.asked}: there is no such job or pod" + (" that could be read" if found.unread else "")
    else:
        yield from _job_lines(found.explanation, at)
    yield ""
    known = "" if found.records or found.events else " nothing is recorded" if found.records_read else " not known"
    yield f"Reported to CloudVision:{known}"
    yield from (f"  {at(event.at)} {event.message}" for event in found.events)
    for record in found.records:
        until = f" to {at(record.end)}" if record.end is not None else ""
        yield f"  run {record.run}: {record.state} with {record.count} {record.things}, from {at(record.start)}{until}"
        if record.delivered:
            yield f"    CloudVision has it since {at(record.delivered_at or record.start)}"
        else:
            yield f"    not delivered: {record.reason}{': ' if record.message else ''}{record.message}"
    if found.unread:
        yield ""
        yield "Not read:"
        yield from (f"  {line}" for line in found.unread)


def _job_lines(job: Explanation, at: Callable[[float], str]) -> Iterator[str]:
    yield f"{job.job} (uid {job.uid})"
    yield from (f"  {way}" for way in job.climb)
    yield ""
    yield f"Run: {job.state}; {job.holds} {job.things} held now"
    yield f"  waits for: {job.waits_for}" if not job.waits_for.startswith("nothing") else f"  {job.waits_for}"
    yield ""
    yield f"Pods: {len(job.pods)}"
    shown = sorted(job.pods, key=lambda pod: pod.counts)[:SHOWN]
    for pod in shown:
        yield from _pod_lines(pod, job.things, at)
    if more := len(job.pods) - len(shown):
        yield f"  and {more} more; -o json shows all"
    if job.problems:
        yield ""
        yield "Problems:"
        yield from (f"  {problem}" for problem in job.problems)


def _pod_lines(pod: PodLine, things: str, at: Callable[[float], str]) -> Iterator[str]:
    since = f" since {at(pod.started or pod.created)}"
    yield f"  {pod.name}: {pod.stage}{since}{f' on {pod.node}' if pod.node else ''}, {len(pod.nics)} {things}" + (
        "" if pod.counts or not pod.nics else ", not counted"
    )
    yield from (f"    {nic.address}  {nic.source}" for nic in pod.nics)
    yield from (f"    - {note}" for note in pod.notes)
