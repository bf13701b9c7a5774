"""Which jobs are to be judged, and when: objects and a time go in, one stream of decisions comes out.

It is level-triggered: `apply` notes what was seen and which jobs it touches, `advance` judges those jobs as they now
stand. So a burst of events costs one judgement a job. A standby applies events, and judges nothing until `lead`.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from cvji.jobs.cluster import Cluster, ObjectEvent
from cvji.jobs.kinds import POD, Job
from cvji.jobs.policy import Policy
from cvji.jobs.report import NOTHING, RunReport
from cvji.jobs.runs import Runs, State
from cvji.jobs.view import Problem, View
from cvji.kube.events import Applied, Deleted, Listed, Unserved, WatchLost
from cvji.settings import OwnerPolicy

# Of so many jobs that are gone the newest run is remembered, as records are: an object may be seen again under its uid,
# when its kind is served again or etcd is restored, and its runs go on counting.
PAST_JOBS = 1_000
# For this long a standby remembers how deleted jobs had ended: a Lease runs out after 15 s, a takeover takes seconds.
DEPARTED_MEMORY = 120.0


Event = ObjectEvent | Listed | WatchLost | Unserved


class Report(msgspec.Struct, frozen=True):
    """What CloudVision is to hold of a run from now on."""

    run: RunReport


class Keep(msgspec.Struct, frozen=True):
    """What CloudVision is to hold stays the same; a successor needs to know more: `kept` and `finished`."""

    run: RunReport


class JobGone(msgspec.Struct, frozen=True):
    """The object of a job is gone, and there will be no run after this one, which was reported."""

    run: RunReport


Decision = Report | Keep | JobGone


class Tracker:
    """Follows every job of the cluster. Times are seconds since the epoch, given by the caller."""

    def __init__(self, policy: Policy, problem: Callable[[Problem], None] = lambda _: None) -> None:
        """`problem` is called with what cannot be understood in an object."""
        self._policy = policy
        self._cluster = Cluster(policy.mode, policy.owner, problem)
        self._jobs: dict[str, Runs] = {}
        self._watched: set[tuple[str, str]] = set()  # kinds of which every object is seen
        self._unserved: set[tuple[str, str]] = set()  # kinds of which there are no objects
        self._lost: set[tuple[str, str]] = set()  # kinds whose watch has ended: what was seen of them may be old
        self._unseen: dict[str, None] = {}  # reported by a predecessor, and not judged yet
        self._past: dict[str, RunReport] = {}  # of jobs whose objects are gone, oldest first
        self._departed: deque[tuple[float, str]] = deque()
        self._dirty: dict[str, None] = {}
        self._deadlines: list[tuple[float, str]] = []  # heap
        self._scheduled: dict[str, float] = {}  # by uid: its place in the heap; when that has come, it is judged again
        self._advanced_to = 0.0
        self.states: Counter[State] = Counter()  # of the jobs
        self.leading = False

    # --- what was seen ------------------------------------------------------------------------------

    def apply(self, event: Event, now: float) -> None:
        """Take note of one event. What follows from it is asked for with `advance`."""
        match event:
            case Listed(resource):
                self._watched.add(resource.key)
                self._unserved.discard(resource.key)
                self._lost.discard(resource.key)
                self._touch(self._unseen)
                return
            case WatchLost(resource):
                self._watched.discard(resource.key)
                self._lost.add(resource.key)
                return
            case Unserved(key):
                self._unserved.add(key)
                self._touch(self._unseen)
                return
            case Applied(Job() as job) if self.leading:
                self._note_owner(job, now)
        touched = self._cluster.apply(event)
        if self.leading:
            self._dirty.update(dict.fromkeys(touched))
        elif isinstance(event, Deleted) and isinstance(event.object, Job):
            self._departed.append((now, event.object.uid))
            while self._departed[0][0] < now - DEPARTED_MEMORY:
                self._cluster.depart(self._departed.popleft()[1])

    def lead(self, reports: Iterable[RunReport], now: float) -> None:
        """Judge from now on, after what a predecessor reported: of each job its newest run.

        A job whose object does not exist then is judged as gone once its kind is watched, and not before; one whose
        kind's watch was lost not before it is watched again: what was seen of it may be older than those reports.
        """
        for report in reports:
            self._runs_of(report.job, now, report)
            self._cluster.end_run(report.job, report.newest)
            self._unseen[report.job] = None
        self._dirty = dict.fromkeys([*self._cluster, *self._unseen, *(uid for _, uid in self._departed)])
        self._departed.clear()
        self.leading = True

    # --- for explanations ---------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The objects that were seen."""
        return self._cluster

    def runs(self, uid: str) -> Runs | None:
        """The runs of a job, if it is judged at all."""
        return self._jobs.get(uid)

    def owner_expected(self, uid: str) -> bool:
        """Whether a job has an owner of a watched kind that is not seen yet: a report of the job waits for it."""
        view = self._cluster.view(uid)
        return self._owner_expected(view.job or view.last)

    # --- what follows from it -----------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `advance` is due even if nothing happens; None if it is not."""
        return self._deadlines[0][0] if self._deadlines else None

    def advance(self, now: float) -> Iterator[Decision]:
        """Judge every job that something happened to or whose time has come.

        One by one, as decisions are taken: should one job break this, what is decided about others is not lost, and
        the next call continues after it.
        """
        if now < self._advanced_to:  # the clock was set back: nothing may wait for a time that is hours away
            self._dirty.update(dict.fromkeys(uid for _, uid in self._deadlines))
            self._deadlines.clear()
            self._scheduled.clear()
            for runs in self._jobs.values():
                runs.rewind(now)
        self._advanced_to = now
        while self._deadlines and self._deadlines[0][0] <= now:
            uid = heapq.heappop(self._deadlines)[1]
            self._scheduled.pop(uid, None)
            self._dirty[uid] = None
        while self._dirty:  # judging one job may touch others
            left, self._dirty = deque(sorted(self._dirty, key=self._cluster.depth)), {}
            try:
                while left:
                    yield from self._judge(left.popleft(), now)
            finally:
                self._dirty.update(dict.fromkeys(left))

    def _judge(self, uid: str, now: float) -> Iterator[Decision]:
        view = self._cluster.view(uid)
        runs = self._jobs.get(uid)
        if uid in self._unseen and view.last is None and not self._sees(view):
            return
        if runs is None:
            if view.job is None and view.last is None:
                return
            if not view.independent:
                self._cluster.depart(uid)
                return
            runs = self._runs_of(uid, now)
        self._unseen.pop(uid, None)
        if (reported := runs.in_progress) is not None:
            view = self._released(view)
            if runs.state is State.UNSEEN:
                self._cluster.resume_run(reported)
                view = self._cluster.view(uid)
        before = runs.state
        if view.job is not None and view.end is None:
            self._touch(self._cluster.open(uid))
            if view.independent and (missed := runs.reopen()) is not None:
                self._cluster.end_run(uid, missed)
            if runs.begins(view):
                self._cluster.begin_run(uid, view.job.started or 0)
        report = runs.judge(view, self._cluster, now, owner_expected=self._owner_expected(view.job or view.last))
        if runs.over > -math.inf and view.independent:  # else its pods go on in the run of the job above it
            self._cluster.end_run(uid, runs.over)
        self.states[before] -= 1
        self.states[runs.state] += 1
        kept = runs.kept(view, self._cluster, now)
        self._release(view, runs, now)
        if runs.due < self._scheduled.get(uid, math.inf):
            self._scheduled[uid] = runs.due
            heapq.heappush(self._deadlines, (runs.due, uid))
        if view.job is None or not (view.independent or runs.reported):
            self._cluster.depart(uid)
            self.states[runs.state] -= 1
            del self._jobs[uid]
        if report is not None:
            yield Report(report)
        elif kept is not None:
            yield Keep(kept)
        if view.job is None and runs.reported is not None:
            self._past[uid] = msgspec.structs.replace(runs.reported, holds=NOTHING)
            if len(self._past) > PAST_JOBS:
                del self._past[next(iter(self._past))]
            yield JobGone(runs.reported)

    def _released(self, view: View) -> View:
        """A job of which a run of its own is reported: what has ended above it owns nothing any more."""
        while not view.independent:
            above = self._cluster.view(self._cluster.root(view.uid))
            if above.job is not None and above.end is None:
                break
            self._close(above.uid)
            view = self._cluster.view(view.uid)
        return view

    def _note_owner(self, job: Job, now: float) -> None:
        """What an object holds counted for its owner until that let it go (`--cascade=orphan`)."""
        known = self._cluster.view(job.uid).job
        if known is None or known.owner is None or known.owner == job.owner:
            return
        above = self._jobs.get(self._cluster.root(job.uid))
        if above is not None and above.reported is not None:
            self._runs_of(job.uid, now).follows(above.reported.end or int(now))

    def _runs_of(self, uid: str, now: float, report: RunReport | None = None) -> Runs:
        """The runs of a job; those of one that is new go on from `report`, or from what was reported in the past."""
        runs = self._jobs.get(uid)
        if runs is None:
            runs = self._jobs[uid] = Runs(self._policy, now)
            if (known := report or self._past.pop(uid, None)) is not None:
                runs.restore(known)
            self.states[runs.state] += 1
        return runs

    def _sees(self, view: View) -> bool:
        """Whether what a predecessor reported on, and the job above it, are as they were last seen, or gone."""
        above = view if view.independent else self._cluster.view(self._cluster.root(view.uid))
        if any(one.job is not None and one.job.kind.key in self._lost for one in (view, above)):
            return False
        reported = self._jobs[view.uid].reported
        known = self._watched | self._unserved
        return view.job is not None or (reported is not None and tuple(reported.kind.split("/")) in known)

    def _owner_expected(self, job: Job | None) -> bool:
        """Whether a job has an owner that is not seen yet, and of a kind that is watched."""
        if job is None or job.owner is None or self._policy.owner is OwnerPolicy.DIRECT or job.owner_kind == POD:
            return False
        return job.owner_kind in self._watched and not self._cluster.knows(job.owner)

    def _release(self, view: View, runs: Runs, now: float) -> None:
        """An ended job owns nothing: what still runs below it a while after its end counts for the next job."""
        if view.job is None or view.end is None or not view.group.holding:
            return
        at = runs.ended_at
        due = at + self._policy.max_wait
        if now < due:
            runs.due = min(runs.due, due)
            return
        for uid in self._close(view.uid):
            if uid and uid != view.uid and self._cluster.view(uid).job is not None:
                self._runs_of(uid, now).follows(at)

    def _close(self, uid: str) -> Iterable[str]:
        """What runs below a job counts for the next job from now on. Returns the uids touched."""
        self._cluster.end_run(uid)
        touched = self._cluster.close(
            uid, lambda below: below in self._jobs and self._jobs[below].in_progress is not None
        )
        self._touch(touched)
        return touched

    def _touch(self, uids: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(uids))
