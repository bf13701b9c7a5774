"""`cvji reconcile`: what CloudVision shows as RUNNING at this LOCATION beside what this cluster has reported.

It ends only entries whose job is proven to be gone: no JobReport has that id, and no object of any job kind has that
uid; and those whose recorded end CloudVision took and does not show, as recorded. What cannot be read proves nothing,
the informer's settings included: they name job kinds. At another LOCATION than the informer's it ends nothing.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from cvji import deployed
from cvji.cloudvision.client import Client, Verdict
from cvji.cloudvision.payloads import TENANT, EntryKey, JobConfig, Values, job_config, post_job, rfc3339
from cvji.cloudvision.reading import JobEntry, Reader, ReadError
from cvji.jobs.kinds import Registry
from cvji.jobs.report import JobState, RunReport
from cvji.kube.client import Api, ApiError
from cvji.kube.objects import Identified
from cvji.kube.reading import pages
from cvji.kube.served import served
from cvji.reports import reading
from cvji.reports.records import ListedRecord, RecordError

# A run's id is the uid of a job's object, which the API server makes (UUID, RFC 9562), and `.n` from the second run on.
_RUN_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.[1-9][0-9]{0,8})?", re.ASCII)


class Orphan(msgspec.Struct, frozen=True):
    """An entry that CloudVision shows as RUNNING and that has no JobReport. `alive`: an object has its uid."""

    config: JobEntry
    alive: bool


class Ended(msgspec.Struct, frozen=True):
    """An entry that CloudVision shows as RUNNING and whose JobReport holds its end.

    `delivered`: CloudVision took that end; else it waits for that. `end` is in seconds since the epoch.
    """

    config: JobEntry
    state: str
    end: int
    delivered: bool


class Missing(msgspec.Struct, frozen=True):
    """A run that CloudVision has accepted as RUNNING, and does not show so."""

    job: str
    id: str


class Difference(msgspec.Struct, frozen=True):
    """What CloudVision shows beside what it should.

    `unread` is what cannot be read; `withheld`, why nothing may be ended, is "" where entries may be.
    """

    orphans: tuple[Orphan, ...]
    ended: tuple[Ended, ...]
    missing: tuple[Missing, ...]
    excepted: int  # tenants' jobs and ids that are not of this program's making
    agreed: int
    unread: tuple[str, ...]
    withheld: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of an entry that was to be ended. `settled`: CloudVision shows it as RUNNING no longer."""

    settled: bool
    words: str


def compare(api: Api, namespace: str, location: str, cloudvision: Reader, informer: deployed.Deployed) -> Difference:
    """Compare both. Raises ApiError, SettingsError, and ReadError where the token may not read."""
    unread = [informer.unread] if informer.unread else []
    recorded = {
        report.id: report
        for report, listed in reading.runs(api, namespace, unread.append)
        if report.state is JobState.RUNNING and listed.delivered and listed.location == location
    }
    candidates: list[JobEntry] = []
    excepted, shown = 0, set()
    for job in cloudvision.running(location):
        shown.add(job.key.id)
        if job.key.id in recorded:
            continue
        if job.type == TENANT or not _RUN_ID.fullmatch(job.key.id):
            excepted += 1
        else:
            candidates.append(job)
    # One was read after the other: what has changed meanwhile is looked at again.
    orphans, ended = _without_a_run(api, namespace, cloudvision, candidates)
    missing = [
        Missing(f"{run.kind} {run.namespace}/{run.name}", run.id)
        for run in recorded.values()
        if run.id not in shown and _is_running(api, namespace, run.id)
    ]
    uids = {match[1] for job in orphans if (match := _RUN_ID.fullmatch(job.key.id))}
    alive = _alive(api, Registry(informer.kinds()), uids, unread.append) if uids else set()
    return Difference(
        tuple(Orphan(job, _uid(job) in alive) for job in orphans),
        tuple(ended),
        tuple(missing),
        excepted,
        len(shown & recorded.keys()),
        tuple(unread),
        _withheld(location, informer, unread),
    )


def _withheld(location: str, informer: deployed.Deployed, unread: list[str]) -> str:
    if unread:
        return "nothing can be ended while something cannot be read"
    if (own := informer.get("LOCATION")) != location:
        return f"nothing is ended: the informer here reports at {own}, so {location} is another cluster's"
    return ""


def _without_a_run(
    api: Api, namespace: str, cloudvision: Reader, jobs: list[JobEntry]
) -> tuple[list[JobEntry], list[Ended]]:
    """The entries that have no JobReport, and those whose JobReport holds an end."""
    orphans: list[JobEntry] = []
    ended: list[Ended] = []
    for job in jobs:
        try:
            found = reading.run(api, namespace, job.key.id)
        except RecordError:
            continue  # there is a record of it, whatever it says
        if found is None:
            orphans.append(job)
        elif (report := _ended(found)) and (not found.delivered or _again(cloudvision, job)):
            ended.append(Ended(job, report.state.name, report.end or 0, found.delivered))
    return orphans, ended


def _ended(found: ListedRecord) -> RunReport | None:
    report = found.record.report
    return report if isinstance(report, RunReport) and report.end is not None else None


def _again(cloudvision: Reader, job: JobEntry) -> JobEntry | None:
    """The entry as CloudVision shows it now; None unless it still is RUNNING there. Raises ReadError."""
    now = cloudvision.job(job.key.id)
    same = now is not None and (now.state, now.location, now.type) == (job.state, job.location, job.type)
    return now if same else None


def _uid(job: JobEntry) -> str:
    return job.key.id.partition(".")[0]


def _is_running(api: Api, namespace: str, run_id: str) -> bool:
    try:
        found = reading.run(api, namespace, run_id)
    except RecordError:
        return True  # there is a record of it, whatever it says
    report = found.record.report if found else None
    return isinstance(report, RunReport) and report.state is JobState.RUNNING


def _alive(api: Api, registry: Registry, uids: set[str], unread: Callable[[str], None]) -> set[str]:
    """Those of the uids that objects of job kinds have."""
    found = set()
    answer = served(api, {kind.key for kind in registry})
    for group, kind in sorted(answer.unclear):
        unread(f"{group}/{kind}: its API group does not answer")
    for resource in answer.found.values():
        try:
            for raw in pages(api, resource.path()):
                metadata = msgspec.json.decode(raw, type=Identified).metadata
                if metadata and metadata.uid in uids:
                    found.add(metadata.uid)
        except (ApiError, msgspec.MsgspecError, UnicodeError, RecursionError) as err:
            unread(f"{resource}: {err}")
    return found


def may_end(found: Difference) -> list[JobEntry]:
    """The entries that are proven to be of no run that goes on; none where ending is withheld."""
    if found.withheld:
        return []
    orphans = [orphan.config for orphan in found.orphans if not orphan.alive]
    return orphans + [ended.config for ended in found.ended if ended.delivered]


def end(api: Api, namespace: str, cloudvision: Reader, client: Client, job: JobEntry, now: float) -> Outcome:
    """End one entry that `may_end` gave: as recorded, else as CANCELLED now, since when its job ended is not known.

    It is looked at once more: whoever was asked may have taken minutes to answer.
    """
    try:
        found = reading.run(api, namespace, job.key.id)  # before CloudVision, which then shows what is delivered
        entry = _again(cloudvision, job)
    except (ApiError, RecordError, ReadError) as err:
        return Outcome(settled=False, words=f"not ended: {err}")
    if entry is None:
        return Outcome(settled=True, words="left alone: CloudVision does not show it as RUNNING any more")
    report = _ended(found) if found else None
    if found and not (report and found.delivered):
        return Outcome(settled=False, words="left alone: a JobReport of it has come meanwhile")
    config = job_config(report, location=entry.location) if report else _cancelled(entry, now)
    answer = client.send(post_job(config))
    if answer.verdict is not Verdict.DELIVERED:
        return Outcome(settled=False, words=f"not ended: {answer.reason}")
    return Outcome(settled=True, words="ended, as recorded" if report else "ended")


def _cancelled(job: JobEntry, now: float) -> JobConfig:
    at = datetime.fromtimestamp(int(now), UTC)
    start = min(job.start_time or at, at, key=datetime.timestamp)
    held = Values(job.interfaces.values) if job.interfaces and job.interfaces.values else None
    nodes = Values(job.nodes.values) if job.nodes and job.nodes.values and held is None else None
    return JobConfig(
        key=EntryKey(job.key.id),
        name=job.name,
        location=job.location,
        state=JobState.CANCELLED.value,
        start_time=rfc3339(start),
        end_time=rfc3339(at),
        interfaces=held,
        nodes=nodes,
    )


def lines(found: Difference, location: str) -> Iterator[str]:
    """The difference for people."""
    others = f"tenants' jobs and ids of others: {found.excepted}"
    yield f"RUNNING at {location}, here and in CloudVision: {found.agreed}; {others}"
    for orphan in found.orphans:
        why = "its job exists: the informer will report it" if orphan.alive else "no job here has that id"
        yield f"{_shown(orphan.config)}; {why}"
    for ended in found.ended:
        what = f"{ended.state} at {rfc3339(datetime.fromtimestamp(ended.end, UTC))} is recorded"
        then = "CloudVision took it: --end sends it again" if ended.delivered else "it waits to be delivered"
        yield f"{_shown(ended.config)}; {what}, and {then}"
    for missing in found.missing:
        yield f"RUNNING here and not in CloudVision: {missing.job} ({missing.id}); the next resync reports it again"
    yield from (f"not read: {line}" for line in found.unread)
    if (found.orphans or found.ended) and found.withheld:
        yield found.withheld


def _shown(job: JobEntry) -> str:
    since = rfc3339(job.start_time) if job.start_time else "an unknown time"
    return f"RUNNING in CloudVision and not here: {job.name} ({job.key.id}) since {since}"
