"""The jobs, pods and claims that exist, and their indexes: an event in, the uids of the jobs it touches out.

What the pods of one job are doing is counted as events come, so that an event costs the same in a job of 10,000 pods.
Knows no time and no run; a standby keeps this and nothing else.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from cvji.jobs.kinds import Job
from cvji.jobs.nics import Claim, ClaimChanged, NodeNics, SourceEvent, Sources
from cvji.jobs.owners import MAX_CLIMB, Owners
from cvji.jobs.pods import Pod, Stage
from cvji.jobs.report import NOTHING, End, Holds, JobState, RunReport, union
from cvji.jobs.view import Group, Problem, View
from cvji.kube.events import Applied, Deleted
from cvji.macs import split
from cvji.settings import Mode, OwnerPolicy

ObjectEvent = Applied | Deleted | NodeNics


class Cluster:
    """What exists, as far as it was seen."""

    def __init__(self, mode: Mode, owner: OwnerPolicy, problem: Callable[[Problem], None] = lambda _: None) -> None:
        """`problem` is called with what cannot be understood in an object."""
        self._problem = problem
        self._pods: dict[str, Pod] = {}  # those of jobs
        self._owners = Owners(owner, self._pods)
        self._sources = Sources(mode, self._pods)
        self._claims: dict[tuple[str, str], Claim] = {}
        self._groups: dict[str, Group] = {}  # by uid of a job that is, or may be, independent
        self._over: set[str] = set()  # pods of runs that are over; those that run hold all the same
        self._touched: dict[str, None] = {}

    # --- an event in --------------------------------------------------------------------------------

    def apply(self, event: ObjectEvent) -> Iterable[str]:
        """Take note of one event. Returns the uids of the jobs that it touches."""
        match event:
            case Applied(Pod() as pod):
                self._put_pod(pod)
            case Deleted(Pod() as pod):
                self._remove_pod(pod)
            case Applied(Job() as job):
                self._put_job(job)
            case Deleted(Job() as job):
                self._remove_job(job)
            case Applied(Claim() as claim):
                self._put_claim(claim)
            case Deleted(Claim() as claim):
                self._remove_claim(claim)
            case NodeNics():
                self._apply_to_sources(event)
        self._forget()
        touched, self._touched = self._touched, {}
        return touched

    def _put_job(self, job: Job) -> None:
        known = self._owners.get(job.uid)
        self._touched[job.uid] = None
        if known is not None and known.owner == job.owner:
            self._owners.put(job)
        else:
            self._regroup(job.uid, lambda: self._owners.put(job))
        self._touched[self._owners.root(job.uid)] = None

    def _remove_job(self, job: Job) -> None:
        if self._owners.get(job.uid) is None:
            return
        self._put_job(job)  # the deleted object may differ from the last one seen: its end, for example
        self._owners.remove(job.uid)

    def _put_pod(self, pod: Pod) -> None:
        old = self._pods.get(pod.uid)
        if pod.problem and (old is None or old.problem != pod.problem):
            self._problem(Problem(f"pod {pod.namespace}/{pod.name}", pod.problem))
        if old is not None and old.owner != pod.owner:
            self._remove_pod(old)
            old = None
        if pod.owner is None:  # not a job's
            return
        if old is not None and old.stage in _ENDED:
            pod = msgspec.structs.replace(pod, stage=old.stage)  # a pod ends once, and how does not change afterwards
        if old is None:
            if self._owners.has_dependents(pod.uid):
                self._regroup(pod.uid, lambda: self._add_pod(pod))
            else:
                self._add_pod(pod)
            return
        before = self._sources.holds(old)
        group = self._group_of(pod)
        self._count(group, old, before, -1)
        if (old.claims, old.node, old.host_network) != (pod.claims, pod.node, pod.host_network):
            self._sources.remove(old)
        self._pods[pod.uid] = pod
        self._sources.put(pod)
        held = self._sources.holds(pod)
        self._count(group, pod, held, 1)
        if (old.stage, old.deleting, before) != (pod.stage, pod.deleting, held):
            self._changed(group, before if old.stage in _COUNTS else NOTHING, held if pod.stage in _COUNTS else NOTHING)
        group.succeeded += pod.stage is Stage.SUCCEEDED and old.stage is not Stage.SUCCEEDED
        self._touched[self._owners.root(pod.owner or "")] = None

    def _add_pod(self, pod: Pod) -> None:
        self._pods[pod.uid] = pod
        self._owners.put_pod(pod)
        self._sources.put(pod)
        group, held = self._group_of(pod), self._sources.holds(pod)
        self._count(group, pod, held, 1)
        self._changed(group, NOTHING, held if pod.stage in _COUNTS else NOTHING)
        group.succeeded += pod.stage is Stage.SUCCEEDED
        self._touched[self._owners.root(pod.owner or "")] = None

    def _remove_pod(self, gone: Pod) -> None:
        old = self._pods.get(gone.uid)
        if old is None:
            return
        if gone.owner == old.owner and gone != old:
            self._put_pod(gone)  # the deleted object may differ from the last one seen: its success, for example
        pod = self._pods[gone.uid]
        group, held = self._group_of(pod), self._sources.holds(pod)
        self._count(group, pod, held, -1)
        if pod.stage is Stage.SUCCEEDED and pod.uid not in self._over:
            group.left.update(dict.fromkeys((*split(held.macs), *held.nodes), (pod.created, pod.finished or 0)))
            group.succeeded += 1
            group.changes += 1
        else:
            self._changed(group, held if pod.stage in _COUNTS else NOTHING, NOTHING)
        self._touched[self._owners.root(pod.owner or "")] = None

        def forget() -> None:
            del self._pods[pod.uid]
            self._over.discard(pod.uid)
            self._owners.remove_pod(pod)
            self._sources.remove(pod)

        if self._owners.has_dependents(pod.uid):
            self._regroup(pod.uid, forget)
        else:
            forget()

    def _put_claim(self, claim: Claim) -> None:
        old = self._claims.get(claim.key)
        if claim.problem and (old is None or old.problem != claim.problem):
            self._problem(Problem(f"resourceclaim {claim.namespace}/{claim.name}", claim.problem))
        self._claims[claim.key] = claim
        self._apply_to_sources(ClaimChanged(claim.key, claim))

    def _remove_claim(self, gone: Claim) -> None:
        claim = self._claims.get(gone.key)
        if claim is not None and claim.uid == gone.uid:  # else a list has shown its successor first
            del self._claims[gone.key]
            self._apply_to_sources(ClaimChanged(gone.key, None))

    def _apply_to_sources(self, event: SourceEvent) -> None:
        pods = [pod for uid in self._sources.touches(event) if (pod := self._pods.get(uid))]
        before = [self._sources.holds(pod) for pod in pods]
        self._sources.apply(event)
        for pod, old in zip(pods, before, strict=True):
            held = self._sources.holds(pod)
            if held != old and pod.stage in _COUNTS:
                group = self._group_of(pod)
                self._count(group, pod, old, -1)
                self._count(group, pod, held, 1)
                self._changed(group, old, held)
                self._touched[self._owners.root(pod.owner or "")] = None

    # --- the groups ---------------------------------------------------------------------------------

    def _group_of(self, pod: Pod) -> Group:
        return self._group(self._owners.root(pod.owner or ""))

    def _group(self, uid: str) -> Group:
        if not uid:
            return Group()  # no job is above it: not kept
        group = self._groups.get(uid)
        if group is None:
            group = self._groups[uid] = Group()
        return group

    def _count(self, group: Group, pod: Pod, held: Holds, one: int) -> None:
        if pod.stage is Stage.RUNNING:
            group.holding += one if held else 0
        elif pod.stage is Stage.PENDING:
            group.pending += 0 if pod.deleting else one
        elif pod.stage is Stage.FAILED:
            group.failed += 0 if pod.deleting else one
        if one < 0 or pod.stage is Stage.PENDING or pod.uid in self._over:
            return
        group.newest = max(group.newest, pod.created)
        if pod.started and (not group.started or pod.started < group.started) and pod.ran:
            group.started = pod.started
        if pod.finished and pod.finished > group.finished and pod.ran:
            group.finished = pod.finished

    @staticmethod
    def _changed(group: Group, before: Holds, held: Holds) -> None:
        group.changes += 1
        group.held_changes += before != held

    def _regroup(self, uid: str, change: Callable[[], None]) -> None:
        """Make a change after which what is below `uid` may count for another job."""
        owners = self._owners.owners_below(uid)
        before = {owner: self._owners.root(owner) for owner in owners}
        moved = [(pod, self._sources.holds(pod)) for owner in owners for pod in self._owners.pods_of(owner)]
        change()
        after = {owner: self._owners.root(owner) for owner in owners}
        for pod, held in moved:
            old, new = before[pod.owner or ""], after[pod.owner or ""]
            if new != old and pod.uid in self._pods:
                for root, one in ((old, -1), (new, 1)):
                    self._count(self._group(root), pod, held, one)
                    self._changed(self._group(root), NOTHING, held)
                    self._touched[root] = None
        self._touched.update(dict.fromkeys([uid, before[uid], after[uid]]))
        for root in dict.fromkeys(before.values()):
            new = self._owners.root(root)
            if root in self._groups and new and new != root:
                self._group(new).merge(self._groups.pop(root))
        self._touched.update(dict.fromkeys(owner for owner in owners if self._owners.get(owner)))

    def _forget(self) -> None:
        """Drop the groups of jobs of which nothing is left."""
        for uid in self._owners.forgotten:
            if self._owners.get(uid) is None and not self._owners.has_dependents(uid):
                self._groups.pop(uid, None)
        self._owners.forgotten.clear()

    # --- a job's view on request --------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        """The uids of the job objects that exist."""
        return (job.uid for job in self._owners)

    def view(self, uid: str) -> View:
        """One job as it stands."""
        job, last = self._owners.get(uid), self._owners.departed(uid)
        known = job or last
        return View(
            uid=uid,
            job=job,
            last=last,
            independent=self._owners.is_closed(uid) or self._owners.root(uid) == uid,
            end=self._end(known) if known else None,
            group=self._groups.get(uid) or Group(),
        )

    def depth(self, uid: str) -> int:
        """How many objects are above a job: what happens to it follows from what happens to them."""
        return self._owners.depth(uid)

    def knows(self, uid: str | None) -> bool:
        """Whether a job object of that uid exists."""
        return uid is not None and self._owners.get(uid) is not None

    def _end(self, job: Job, levels: int = MAX_CLIMB) -> End | None:
        if job.end or not job.kind.ends_with_children or not levels:
            return job.end
        children = self._owners.children(job.uid)
        # A child that is gone, and whose pods are not, counts only where no other was made in its place.
        there = [child for child, exists in children if exists]
        ends = [end for child in there if (end := self._end(child, levels - 1))]
        if not there:
            ends = [end for child, _ in children if (end := self._end(child, levels - 1) or child.end_if_deleted)]
        if not ends or len(ends) < len(there or children):
            return None
        worst = next((end.state for end in ends if end.state is not JobState.COMPLETED), JobState.COMPLETED)
        return End(worst, max((end.at for end in ends if end.at), default=None))

    def pods(self, uid: str) -> list[Pod]:
        """The pods of a job's run: those of earlier runs are left out, unless they run."""
        return [pod for pod in self._all_pods(uid) if pod.stage is Stage.RUNNING or pod.uid not in self._over]

    def new_pods(self, uid: str, until: float = math.inf) -> list[Pod]:
        """The pods that no run of a job has accounted for, created by `until`."""
        return [pod for pod in self._all_pods(uid) if pod.uid not in self._over and pod.created <= until]

    def _all_pods(self, uid: str) -> Iterator[Pod]:
        owners = () if self._owners.is_closed(uid) else self._owners.owners_below(uid)
        return (pod for owner in owners for pod in self._owners.pods_of(owner))

    def holds(self, pod: Pod) -> Holds:
        """What a pod holds while it runs, or held when it ended."""
        return self._sources.holds(pod)

    def by_source(self, pod: Pod) -> dict[str, Holds]:
        """The same, by the name of the source that says so."""
        return self._sources.by_source(pod)

    def root(self, uid: str) -> str:
        """The uid of the job that an object of owner `uid` counts for; "" if every job above it has ended."""
        return self._owners.root(uid)

    def counts(self, uid: str, until: float = math.inf) -> Holds:
        """What counts for a job's run: what pods hold that run, and what pods of the run held that succeeded.

        Pods that were created after `until` are left out.
        """
        pods = (pod for pod in self.pods(uid) if pod.stage in _COUNTS and pod.created <= until)
        return union([*map(self._sources.holds, pods), self.left(uid)])

    def left(self, uid: str) -> Holds:
        """What pods of a job's run held that succeeded and are gone."""
        left = group.left if (group := self._groups.get(uid)) else {}
        macs = sorted(held for held in left if isinstance(held, bytes))
        return Holds(b"".join(macs), tuple(sorted(held for held in left if isinstance(held, str))))

    # --- what was decided about a job ---------------------------------------------------------------

    def end_run(self, uid: str, newest: float = math.inf) -> None:
        """A run of the job is over: its pods belong to it, those that were created by `newest`."""
        for pod in self._all_pods(uid):
            # One that runs, and whose NICs are not known yet, is of the next run; unless it is on its way out.
            waits = pod.stage is Stage.RUNNING and not pod.deleting and not self._sources.holds(pod)
            if pod.stage is not Stage.PENDING and not waits and pod.created <= newest:
                self._over.add(pod.uid)
        if group := self._groups.get(uid):
            group.left = {held: times for held, times in group.left.items() if times[0] > newest}
            self._recount_times(uid, group)

    def resume_run(self, report: RunReport) -> None:
        """A run that a predecessor reported goes on: pods that run are of it, however old they are.

        So are those that succeeded in it, by their node's clock, with NICs that it is known to have.
        """
        macs, nodes = set(split(report.holds.macs)), set(report.holds.nodes)
        for pod in self._all_pods(report.job):
            held = self._sources.holds(pod)
            succeeded = pod.stage is Stage.SUCCEEDED and (pod.finished or 0) >= report.start
            if pod.stage is Stage.RUNNING or (
                succeeded and macs.issuperset(split(held.macs)) and nodes.issuperset(held.nodes)
            ):
                self._over.discard(pod.uid)
        if group := self._groups.get(report.job):
            self._recount_times(report.job, group)

    def begin_run(self, uid: str, started: int) -> None:
        """A run of the job begins; by its object, at `started` (0: it does not say).

        Pods that run are of it, however old they are. Those that were created and had finished before it started belong
        to an earlier run, and so does what such pods left. The run's own times are those of the pods that are there.
        """
        for pod in self._all_pods(uid):
            if pod.stage is Stage.RUNNING:
                self._over.discard(pod.uid)
            elif pod.stage in _ENDED and pod.created < started and (pod.finished or 0) < started:
                self._over.add(pod.uid)
        if group := self._groups.get(uid):
            group.left = {held: times for held, times in group.left.items() if max(times) >= started}
            self._recount_times(uid, group)

    def _recount_times(self, uid: str, group: Group) -> None:
        pods = self.pods(uid)
        finished = [pod.finished for pod in pods if pod.finished and pod.ran]
        group.started = min((pod.started for pod in pods if pod.started and pod.ran), default=0)
        group.finished = max((*finished, *(times[1] for times in group.left.values())), default=0)

    def depart(self, uid: str) -> None:
        """The deletion of a job was judged."""
        self._owners.depart(uid)
        self._forget()

    def close(self, uid: str, own: Callable[[str], bool]) -> Iterable[str]:
        """The job ended a while ago: what still runs below it counts for the topmost job that has not ended.

        `own` says of which jobs a run of their own is reported: that ends before anything below them counts for
        another. Returns the uids touched.
        """
        self._over.difference_update([pod.uid for pod in self._all_pods(uid) if pod.stage is Stage.RUNNING])
        queue = [uid]
        while queue:
            ended = queue.pop()
            if not self._owners.is_closed(ended):
                self._regroup(ended, partial(self._owners.close, ended))
                below = (job for job, exists in self._owners.children(ended) if exists)
                queue += [job.uid for job in below if not own(job.uid) and self._end(job)]
        touched, self._touched = self._touched, {}
        return touched

    def open(self, uid: str) -> Iterable[str]:
        """The job was closed, and runs again. Returns the uids touched."""
        if not self._owners.is_closed(uid):
            return ()
        self._regroup(uid, lambda: self._owners.open(uid))
        touched, self._touched = self._touched, {}
        return touched


_COUNTS = frozenset({Stage.RUNNING, Stage.SUCCEEDED})
_ENDED = frozenset({Stage.SUCCEEDED, Stage.FAILED, Stage.RELEASED})
