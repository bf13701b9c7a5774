"""`cvji reconcile`: what CloudVision shows as RUNNING at this LOCATION beside what this cluster has reported.

It ends only entries whose job is proven to be gone: no JobReport of a running run has that id, and no object of any
job kind has that uid. What cannot be read proves nothing, the informer's settings included: they name job kinds.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from cvji import deployed
from cvji.cloudvision.client import Answer, Client, Verdict
from cvji.cloudvision.payloads import TENANT, EntryKey, JobConfig, Values, post_job, rfc3339
from cvji.cloudvision.reading import JobEntry, Reader
from cvji.jobs.kinds import Registry
from cvji.jobs.report import JobState, RunReport
from cvji.kube.client import Api, ApiError
from cvji.kube.objects import Identified
from cvji.kube.reading import pages
from cvji.kube.served import served
from cvji.reports import reading
from cvji.reports.records import RecordError

# A run's id is the uid of a job's object, which the API server makes (UUID, RFC 9562), and `.n` from the second run on.
_RUN_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.[1-9][0-9]{0,8})?", re.ASCII)


class Orphan(msgspec.Struct, frozen=True):
    """An entry that CloudVision shows as RUNNING and no run of this cluster is. `alive`: an object has its uid."""

    config: JobEntry
    alive: bool


class Missing(msgspec.Struct, frozen=True):
    """A run that CloudVision has accepted as RUNNING, and does not show so."""

    job: str
    id: str


class Difference(msgspec.Struct, frozen=True):
    """What CloudVision shows beside what it should. `unread`: what cannot be read, so that nothing is ended."""

    orphans: tuple[Orphan, ...]
    missing: tuple[Missing, ...]
    excepted: int  # tenants' jobs and ids that are not of this program's making
    agreed: int
    unread: tuple[str, ...]


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
    orphans = [job for job in candidates if not _is_running(api, namespace, job.key.id)]
    missing = [
        Missing(f"{run.kind} {run.namespace}/{run.name}", run.id)
        for run in recorded.values()
        if run.id not in shown and _is_running(api, namespace, run.id)
    ]
    uids = {match[1] for job in orphans if (match := _RUN_ID.fullmatch(job.key.id))}
    alive = _alive(api, Registry(informer.kinds()), uids, unread.append) if uids else set()
    return Difference(
        tuple(Orphan(job, _uid(job) in alive) for job in orphans),
        tuple(missing),
        excepted,
        len(shown & recorded.keys()),
        tuple(unread),
    )


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
    """The entries that are proven to be of no run; none where something could not be read."""
    return [] if found.unread else [orphan.config for orphan in found.orphans if not orphan.alive]


def end(client: Client, job: JobEntry, now: float) -> Answer:
    """End one entry as CANCELLED, now: when its job ended is not known."""
    at = datetime.fromtimestamp(int(now), UTC)
    start = min(job.start_time or at, at)
    held = Values(job.interfaces.values) if job.interfaces and job.interfaces.values else None
    nodes = Values(job.nodes.values) if job.nodes and job.nodes.values and held is None else None
    payload = JobConfig(
        key=EntryKey(job.key.id),
        name=job.name,
        location=job.location,
        state=JobState.CANCELLED.value,
        start_time=rfc3339(start),
        end_time=rfc3339(at),
        interfaces=held,
        nodes=nodes,
    )
    return client.send(post_job(payload))


def delivered(answer: Answer) -> bool:
    """Whether CloudVision took it."""
    return answer.verdict is Verdict.DELIVERED


def lines(found: Difference, location: str) -> Iterator[str]:
    """The difference for people."""
    others = f"tenants' jobs and ids of others: {found.excepted}"
    yield f"RUNNING at {location}, here and in CloudVision: {found.agreed}; {others}"
    for orphan in found.orphans:
        job = orphan.config
        since = rfc3339(job.start_time) if job.start_time else "an unknown time"
        why = "its job exists: the informer will report it" if orphan.alive else "no job here has that id"
        yield f"RUNNING in CloudVision and not here: {job.name} ({job.key.id}) since {since}; {why}"
    for missing in found.missing:
        yield f"RUNNING here and not in CloudVision: {missing.job} ({missing.id}); the next resync reports it again"
    yield from (f"not read: {line}" for line in found.unread)
    if found.orphans and found.unread:
        yield "nothing can be ended while something cannot be read"
