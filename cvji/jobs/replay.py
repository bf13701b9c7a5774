"""What the informer would have decided about a few jobs, had it watched them all along.

The objects as they stand now are put back in time by the times that they carry, and given to the informer's own
tracker. What carries no time, such as a MAC address in an annotation, counts as having been there all along. Pure.
"""

from collections.abc import Iterator
from itertools import groupby

import msgspec

from cvji.jobs.cluster import ObjectEvent
from cvji.jobs.kinds import Job
from cvji.jobs.nics import Claim, NodeNics
from cvji.jobs.pods import Pod, Stage
from cvji.jobs.policy import Policy
from cvji.jobs.report import RunReport, union
from cvji.jobs.runs import State
from cvji.jobs.tracker import Report, Tracker
from cvji.jobs.view import Problem
from cvji.kube.events import Applied, Listed, Resource

_ENDED = (Stage.SUCCEEDED, Stage.FAILED, Stage.RELEASED)


class Recorded(msgspec.Struct, frozen=True):
    """The newest report of a job that a record holds, and since when (seconds since the epoch) as far as is known."""

    report: RunReport
    at: float


class Snapshot(msgspec.Struct, frozen=True):
    """What was read. `watched` are the kinds that the informer watches; `recorded` of each job the newest report."""

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    claims: tuple[Claim, ...] = ()
    nodes: tuple[NodeNics, ...] = ()
    watched: tuple[Resource, ...] = ()
    recorded: tuple[Recorded, ...] = ()


class Replay(msgspec.Struct):
    """The tracker after the last step.

    `reported` is when each job's newest report was decided, by the job's uid. `changed` are the jobs that hold
    something else than is recorded since a time that no object shows.
    """

    tracker: Tracker
    reported: dict[str, float]
    problems: list[Problem]
    changed: set[str]


def replay(snapshot: Snapshot, policy: Policy, now: float) -> Replay:
    """Play everything up to `now` (seconds since the epoch)."""
    problems: list[Problem] = []
    found = Replay(Tracker(policy, problems.append), {}, problems, set())
    leads_at = max((recorded.at for recorded in snapshot.recorded), default=0.0)
    for moment, steps in groupby(sorted(_steps(snapshot), key=_at), key=_at):
        at = min(moment, now)  # a node's clock may be ahead
        if not found.tracker.leading and at > leads_at:
            _lead(found, snapshot, leads_at)
        while (due := found.tracker.next_deadline()) is not None and due < at:
            _judge(found, due)
        for _, event in steps:
            found.tracker.apply(event, at)
        _judge(found, at)
    if not found.tracker.leading:
        _lead(found, snapshot, min(leads_at, now))
    while (due := found.tracker.next_deadline()) is not None and due <= now:
        _judge(found, due)
    return found


def _lead(found: Replay, snapshot: Snapshot, at: float) -> None:
    """Decide from `at` on, after what is recorded: its writer took it for what the job held then."""
    tracker = found.tracker
    tracker.lead([recorded.report for recorded in snapshot.recorded], at)
    _judge(found, at)
    for recorded in snapshot.recorded:
        report, runs = recorded.report, tracker.runs(recorded.report.job)
        if runs is not None and runs.state is State.CHANGING:
            cluster = tracker.cluster
            if union([cluster.counts(report.job), report.kept]) == report.holds:
                runs.resume_as_reported(cluster.view(report.job))
            else:
                found.changed.add(report.job)


def _judge(found: Replay, at: float) -> None:
    if not found.tracker.leading:
        return
    for decision in found.tracker.advance(at):
        if isinstance(decision, Report):
            found.reported[decision.run.job] = at


def _at(step: tuple[float, ObjectEvent | Listed]) -> float:
    return step[0]


def _steps(snapshot: Snapshot) -> Iterator[tuple[float, ObjectEvent | Listed]]:
    for resource in snapshot.watched:
        yield 0.0, Listed(resource)
    for claim in snapshot.claims:
        yield 0.0, Applied(claim)
    for node in snapshot.nodes:
        yield 0.0, node
    for job in snapshot.jobs:
        created = float(job.created or 0)
        if job.end is not None:
            finishes = (pod.finished or 0 for pod in snapshot.pods if pod.owner == job.uid)
            yield created, Applied(msgspec.structs.replace(job, end=None))
            yield max(created, float(job.end.at or max(finishes, default=0))), Applied(job)
        else:
            yield created, Applied(job)
    for pod in snapshot.pods:
        created = float(pod.created)
        started = max(created, float(pod.ran_from or pod.started or created))
        if pod.stage is Stage.PENDING:
            yield created, Applied(pod)
            continue
        yield created, Applied(msgspec.structs.replace(pod, stage=Stage.PENDING, finished=None, deleting=False))
        if pod.stage in _ENDED:
            if pod.ran_from is not None:
                running = msgspec.structs.replace(pod, stage=Stage.RUNNING, finished=None, deleting=False)
                yield started, Applied(running)
            yield max(started, float(pod.finished or started)), Applied(pod)
        else:
            yield started, Applied(pod)
