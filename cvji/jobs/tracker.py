"""The life of jobs: objects and a time go in, reports come out.

The one place that knows when a job is started, changed or ended. It is level-triggered: `apply` stores what
was seen and marks the jobs it touches, `advance` judges those jobs as they now stand. So a burst of events
costs one judgement a job, and a missed event costs nothing once a later one is seen.
"""

import enum
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from cvji.jobs.allocation import Claim, Pod
from cvji.jobs.kinds import Job
from cvji.jobs.owners import Owners
from cvji.jobs.report import End, JobReport, JobState

K = TypeVar("K")
V = TypeVar("V")


class Mode(enum.Enum):
    """JOBCONFIG_MODE: what a job is said to hold."""

    INTERFACE = "interface"
    NODE = "node"


class OwnerPolicy(enum.Enum):
    """JOB_OWNER: the topmost job above a pod, or the pod's direct owner."""

    ROOT = "root"
    DIRECT = "direct"


class Policy(msgspec.Struct, frozen=True):
    """What the operator chose. Both delays are in seconds."""

    mode: Mode = Mode.INTERFACE
    owner: OwnerPolicy = OwnerPolicy.ROOT
    stability_delay: float = 5.0
    start_max_wait: float = 60.0


class Applied(msgspec.Struct, frozen=True):
    """An object was made or changed."""

    object: Job | Pod | Claim


class Deleted(msgspec.Struct, frozen=True):
    """An object is gone; `object` is the last that was seen of it."""

    object: Job | Pod | Claim


class KindWatched(msgspec.Struct, frozen=True):
    """Whether objects of this kind are seen, so that one not known does not exist, or is on its way."""

    key: tuple[str, str]
    watched: bool


class NodeNics(msgspec.Struct, frozen=True):
    """The MACs that hostNetwork pods on a node hold; none if the node's inventory is gone."""

    node: str
    macs: tuple[str, ...]


Event = Applied | Deleted | KindWatched | NodeNics


class Problem(msgspec.Struct, frozen=True):
    """Something in an object that cannot be understood; said once as long as it stays the same."""

    object: str
    message: str


class _Stage(enum.Enum):
    PENDING = 0
    RUNNING = 1
    ENDED = 2


class _Entry:
    """What is known of one reported (or yet to be reported) job."""

    __slots__ = (
        "blind",
        "deadline",
        "judged",
        "kept",
        "last",
        "seen",
        "since",
        "stage",
        "steady",
        "told",
        "unsaid",
        "unsteady",
    )

    def __init__(self, now: float) -> None:
        self.seen = now  # first sight
        self.judged = False
        self.blind = False  # first judged when it had ended already
        self.deadline = 0.0  # the next moment at which to judge it even without an event
        self.told: JobReport | None = None  # the newest report
        self.reset()

    def reset(self) -> None:
        """Wait for a (new) start."""
        self.stage = _Stage.PENDING
        self.kept: frozenset[str] = frozenset()  # held by pods that succeeded and are gone
        self.unsaid = False  # it ended, and nothing has been said of this run of it
        self.unsteady = False  # it was seen to be in no state to be started, or to change in one that was
        self.settle()

    def settle(self) -> None:
        """Nothing is waiting to become steady."""
        self.since: float | None = None  # first moment of the change that is waiting
        self.steady = 0.0  # last moment at which it changed again
        self.last: object = None  # what it was then

    def rewind(self, now: float) -> None:
        """The clock was set back to `now`: what has begun began then at the latest."""
        self.seen, self.steady, self.deadline = min(self.seen, now), min(self.steady, now), 0.0
        if self.since is not None:
            self.since = min(self.since, now)

    def waits(self, now: float, state: object, policy: Policy) -> float:
        """The moment at which `state` may be reported, if it stays as it is."""
        if self.since is None:
            self.since = now
        if state != self.last:
            self.unsteady |= self.last is not None
            self.last, self.steady = state, now
        return min(self.steady + policy.stability_delay, self.since + policy.start_max_wait)


# A claim is given back when its pod is done, and that may be seen before the pod's own end.
_GIVEN_BACK = 60.0


class Tracker:
    """Follows every job of the cluster. Times are seconds since the epoch, given by the caller."""

    def __init__(self, policy: Policy, problem: Callable[[Problem], None] = lambda _: None) -> None:
        self._policy = policy
        self._problem = problem
        self._owners = Owners()
        self._pods: dict[str, Pod] = {}
        self._pods_by_owner: dict[str, dict[str, None]] = {}
        self._held: dict[str, tuple[str, ...]] = {}  # by pod uid
        self._given_back: dict[str, tuple[float, tuple[str, ...]]] = {}  # by pod uid: when, and what
        self._unseen_run: set[str] = set()  # pods that ran for a while before anybody judged them
        self._claims: dict[tuple[str, str], Claim] = {}  # by namespace and name
        self._pods_at: dict[tuple[str, ...], dict[str, None]] = {}  # see _places
        self._claims_by_user: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
        self._nodes: dict[str, tuple[str, ...]] = {}
        self._watched: set[tuple[str, str]] = set()
        self._entries: dict[str, _Entry] = {}
        self._unverified: dict[str, None] = {}  # restored, and their job object not seen yet
        self.forgotten: list[str] = []  # jobs that ended or never began and whose objects are gone; to be taken
        self.noted: dict[str, tuple[str, ...]] = {}  # what running jobs now keep of gone pods; to be taken
        self._dirty: dict[str, None] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._advanced_to = 0.0
        self._rested = False

    # --- what was seen ------------------------------------------------------------------------------

    def apply(self, event: Event, now: float) -> None:
        """Take note of one event. Its consequences are asked for with `advance`."""
        match event:
            case Applied(Pod() as pod):
                self._put_pod(pod, now)
            case Deleted(Pod() as pod):
                self._remove_pod(pod, now)
            case Applied(Job() as job):
                self._put_job(job)
            case Deleted(Job() as job):
                self._remove_job(job.uid)
            case Applied(Claim() as claim):
                self._put_claim(claim, now)
            case Deleted(Claim() as claim):
                self._remove_claim(claim, now)
            case KindWatched(key, watched):
                (self._watched.add if watched else self._watched.discard)(key)
                self._dirty.update(self._unverified)
            case NodeNics(node, macs):
                self._nodes[node] = macs
                if not macs:
                    del self._nodes[node]
                self._refresh(tuple(self._pods_at.get(("node", node), ())), now)

    def _put_job(self, job: Job) -> None:
        known = self._owners.get(job.uid)
        self._dirty[self._root(job.uid)] = None
        self._owners.put(job)
        self._dirty[self._root(job.uid)] = None
        self._dirty[job.uid] = None
        if known is None:  # its children were on their own until now
            self._dirty.update(dict.fromkeys(self._owners.children(job.uid)))

    def _remove_job(self, uid: str) -> None:
        self._dirty[self._root(uid)] = None
        self._dirty[uid] = None
        self._dirty.update(dict.fromkeys(self._owners.children(uid)))
        self._owners.remove(uid)

    def _put_pod(self, pod: Pod, now: float) -> None:
        old = self._pods.get(pod.uid)
        if pod.problem and (old is None or old.problem != pod.problem):
            self._problem(Problem(f"pod {pod.namespace}/{pod.name}", pod.problem))
        if old is not None and old.owner != pod.owner:
            self._forget_pod(old)
            old = None
        if pod.owner is None:  # not a job's
            return
        if (old is None or old.phase in ("", "Pending")) and self._ran_unseen(pod, now):
            self._unseen_run.add(pod.uid)
        if old is None or _places(old) != _places(pod):
            if old is not None:
                self._displace(old)
            for place in _places(pod):
                self._pods_at.setdefault(place, {})[pod.uid] = None
        self._pods[pod.uid] = pod
        self._pods_by_owner.setdefault(pod.owner, {})[pod.uid] = None
        self._refresh((pod.uid,), now)
        self._keep(pod, now)
        self._dirty[self._root(pod.owner)] = None

    def _ran_unseen(self, pod: Pod, now: float) -> bool:
        """Whether a pod ran while nobody looked, for as long as makes a start: seen in time, it would have counted."""
        if pod.phase in ("Succeeded", "Failed"):
            return True
        delay = self._policy.stability_delay
        return pod.phase == "Running" and pod.ran_from is not None and now - pod.ran_from.timestamp() >= delay

    def _keep(self, pod: Pod, now: float) -> None:
        """What a pod held when it succeeded counts on, whatever becomes of the pod."""
        root = self._root(pod.owner or "")
        if pod.phase != "Succeeded" or self._owners.get(root) is None:
            return
        entry = self._entry(root, now)
        if not entry.kept.issuperset(self._held[pod.uid]):
            entry.kept = entry.kept.union(self._held[pod.uid])
            if entry.stage is _Stage.RUNNING:
                self.noted[root] = tuple(sorted(entry.kept))

    def _remove_pod(self, pod: Pod, now: float) -> None:
        old = self._pods.get(pod.uid)
        if old is None or old.owner is None:
            return
        if pod.owner is not None and pod != old:
            self._put_pod(pod, now)  # the deletion carries news of its own, such as its success
        self._keep(self._pods[pod.uid], now)
        self._forget_pod(old)

    def _forget_pod(self, pod: Pod) -> None:
        assert pod.owner is not None  # noqa: S101  only pods of jobs are kept
        self._dirty[self._root(pod.owner)] = None
        _discard(self._pods_by_owner, pod.owner, pod.uid)
        self._displace(pod)
        del self._pods[pod.uid]
        self._held.pop(pod.uid, None)
        self._given_back.pop(pod.uid, None)
        self._unseen_run.discard(pod.uid)

    def _displace(self, pod: Pod) -> None:
        for place in _places(pod):
            _discard(self._pods_at, place, pod.uid)

    def _put_claim(self, claim: Claim, now: float) -> None:
        key = (claim.namespace, claim.name)
        old = self._claims.get(key)
        if claim.problem and (old is None or old.problem != claim.problem):
            self._problem(Problem(f"resourceclaim {claim.namespace}/{claim.name}", claim.problem))
        touched = self._users(old) if old else {}
        if old is not None:
            self._unuse(old)
        self._claims[key] = claim
        for user in _user_keys(claim):
            self._claims_by_user.setdefault(user, {})[key] = None
        for uid in touched | self._users(claim):
            pod = self._pods.get(uid)
            if pod is not None:
                self._refresh((uid,), now, given_back=not claim.macs or not _reserved(claim, pod))

    def _remove_claim(self, gone: Claim, now: float) -> None:
        key = (gone.namespace, gone.name)
        claim = self._claims.get(key)
        if claim is not None and claim.uid == gone.uid:  # else a list has shown its successor first
            del self._claims[key]
            self._unuse(claim)
            self._refresh(self._users(claim), now, given_back=True)

    def _unuse(self, claim: Claim) -> None:
        for user in _user_keys(claim):
            _discard(self._claims_by_user, user, (claim.namespace, claim.name))

    def _users(self, claim: Claim) -> dict[str, None]:
        """The pods that name the claim or that it is reserved for."""
        found = dict(self._pods_at.get(("claim", claim.namespace, claim.name), {}))
        for uid, name in claim.reserved_for:
            if uid:
                found[uid] = None
            else:
                found |= self._pods_at.get(("name", claim.namespace, name), {})
        return found

    # --- what a pod holds ---------------------------------------------------------------------------

    def _refresh(self, pods: Iterable[str], now: float, *, given_back: bool = False) -> None:
        """Find anew what pods hold; `given_back` says that a claim of theirs was let go."""
        for uid in pods:
            pod = self._pods.get(uid)
            if pod is None or pod.owner is None:
                continue
            before = self._held.get(uid, ())
            held = self._holds(pod)
            if pod.phase == "Succeeded":  # it keeps what it held; its claims may be gone by now
                at, lost = self._given_back.get(uid, (now, ()))
                held = _union(before, held, lost if now - at <= _GIVEN_BACK else ())
            elif given_back and (missing := set(before) - set(held)):
                self._given_back[uid] = (now, tuple(missing))
            if held != before or uid not in self._held:
                self._held[uid] = held
                self._dirty[self._root(pod.owner)] = None

    def _holds(self, pod: Pod) -> tuple[str, ...]:
        if not pod.node:
            return ()
        if self._policy.mode is Mode.NODE:
            return (pod.node,)
        if pod.host_network:
            return self._nodes.get(pod.node, ())
        if not self._claims:
            return pod.macs
        keys = {(pod.namespace, name) for name in pod.claims}
        keys |= self._claims_by_user.get(("", pod.uid), {}).keys()
        keys |= self._claims_by_user.get((pod.namespace, pod.name), {}).keys()
        claims = [claim for key in keys if (claim := self._claims.get(key)) and _reserved(claim, pod)]
        return _union(pod.macs, *(claim.macs for claim in claims))

    # --- what follows from it -----------------------------------------------------------------------

    def restore(self, reports: Iterable[JobReport], now: float) -> None:
        """Go on from what was told before a restart, before the first `advance`.

        A job whose object does not exist then is judged as gone once its kind is watched, and not before.
        """
        for report in reports:
            entry = self._entries[report.id] = _Entry(now)
            entry.told, entry.judged = report, True
            entry.kept = frozenset(report.kept)
            entry.stage = _Stage.RUNNING if report.end is None else _Stage.ENDED
            self._unverified[report.id] = None
        self._dirty.update(self._unverified)

    def pending(self) -> int:
        """How many jobs are yet to start, as far as is known."""
        return sum(entry.stage is _Stage.PENDING for entry in list(self._entries.values()))

    def next_deadline(self) -> float | None:
        """When `advance` is due even if nothing happens; None if it is not."""
        return self._deadlines[0][0] if self._deadlines else None

    def rest(self) -> None:
        """Judge nothing for now; the next `advance` judges every job that stands then."""
        for uid in self._dirty:
            if uid in self._entries and not self._is_job(uid):
                del self._entries[uid]
        self._dirty.clear()
        self._rested = True

    def advance(self, now: float) -> Iterator[JobReport]:
        """Judge every job that something happened to or whose time has come.

        One by one, as reports are taken: should one job break this, what others have to say is neither lost nor
        forgotten, and the next call goes on behind it.
        """
        if now < self._advanced_to:  # the clock was set back: nothing may wait for a time that is hours away
            self._dirty.update(dict.fromkeys(uid for _, uid in self._deadlines))
            self._deadlines.clear()
            for known in self._entries.values():
                known.rewind(now)
        self._advanced_to = now
        if self._rested:
            self._dirty.update(dict.fromkeys(job.uid for job in self._owners))
            self._unseen_run.update(pod.uid for pod in self._pods.values() if self._ran_unseen(pod, now))
            self._rested = False
        while self._deadlines and self._deadlines[0][0] <= now:
            self._dirty[heapq.heappop(self._deadlines)[1]] = None
        left = deque(self._dirty)
        self._dirty = {}
        try:
            while left:
                uid = left.popleft()
                report = self._judge(uid, now)
                if report is not None:
                    self._entries[uid].told = report
                entry = self._entries.get(uid)
                if entry is not None and not self._is_job(uid) and uid not in self._unverified:
                    del self._entries[uid]
                    self.forgotten.append(uid)
                if report is not None:
                    yield report
        finally:
            self._dirty.update(dict.fromkeys(left))

    def _root(self, uid: str) -> str:
        return uid if self._policy.owner is OwnerPolicy.DIRECT else self._owners.root(uid)

    def _is_job(self, uid: str) -> bool:
        job = self._owners.get(uid)
        return job is not None and (self._policy.owner is OwnerPolicy.DIRECT or self._owners.is_root(job))

    def _pods_of(self, uid: str) -> list[Pod]:
        owners = [uid] if self._policy.owner is OwnerPolicy.DIRECT else self._owners.below(uid)
        return [self._pods[pod] for owner in owners for pod in self._pods_by_owner.get(owner, ())]

    def _entry(self, uid: str, now: float) -> _Entry:
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry(now)
        return entry

    def _judge(self, uid: str, now: float) -> JobReport | None:
        job = self._owners.get(uid)
        if uid in self._unverified:
            told = self._entries[uid].told
            if job is None and told is not None and tuple(told.kind.split("/")) not in self._watched:
                return None
            del self._unverified[uid]
        if job is None or not self._is_job(uid):  # deleted, or found to be part of another job
            entry = self._entries.get(uid)
            if entry is None or entry.stage is not _Stage.RUNNING or entry.told is None:
                return None
            return self._ended(entry.told, End(JobState.CANCELLED), now, self._pods_of(uid))
        entry = self._entry(uid, now)
        first_sight, entry.judged = not entry.judged, True
        pods = self._pods_of(uid)
        if end := self._end(job):
            entry.blind |= first_sight
            stage, entry.stage = entry.stage, _Stage.ENDED
            if stage is _Stage.RUNNING and entry.told is not None:
                return self._ended(entry.told, end, now, pods)
            # Not once seen to be started. Its pods may be seen after its end, and say that it ran all the same.
            entry.unsaid |= stage is _Stage.PENDING
            unseen = entry.blind or not entry.unsteady or any(pod.uid in self._unseen_run for pod in pods)
            report = self._ended_unseen(job, end, now, pods) if entry.unsaid and unseen else None
            entry.unsaid &= report is None
            return report
        if entry.stage is _Stage.ENDED:  # a stop that was no end: an aborted Volcano job, resumed
            entry.reset()
        if job.suspended and not any(pod.phase in ("Pending", "Running") for pod in pods):
            running, told = entry.stage is _Stage.RUNNING, entry.told
            stopped = self._ended(told, End(JobState.CANCELLED), now, pods) if running and told else None
            entry.reset()
            return stopped
        if entry.stage is _Stage.RUNNING:
            return self._changed(job, entry, pods, now)
        return self._started(job, entry, pods, now)

    def _end(self, job: Job) -> End | None:
        if job.end or not job.kind.ends_with_children:
            return job.end
        children = [child for uid in self._owners.children(job.uid) if (child := self._owners.get(uid))]
        ends = [end for child in children if (end := self._end(child))]
        if not ends or len(ends) < len(children):
            return None
        worst = next((end.state for end in ends if end.state is not JobState.COMPLETED), JobState.COMPLETED)
        return End(worst, max((end.at for end in ends if end.at), default=None))

    def _current(self, entry: _Entry, pods: list[Pod]) -> frozenset[str]:
        """What the job's pods hold: a pod counts from when it runs, and on when it succeeded."""
        return entry.kept.union(
            *(self._held[pod.uid] for pod in pods if pod.phase in ("Running", "Succeeded", "Unknown"))
        )

    def _due(self, uid: str, entry: _Entry, now: float, due: float) -> bool:
        """Whether `due` has come; if not, the job is judged again at that time."""
        if due <= now:
            return True
        if entry.deadline != due:
            entry.deadline = due
            heapq.heappush(self._deadlines, (due, uid))
        return False

    def _started(self, job: Job, entry: _Entry, pods: list[Pod], now: float) -> JobReport | None:
        held = self._current(entry, pods)
        runs = any(pod.phase == "Running" and not pod.deleting for pod in pods)
        hindered = (
            any(pod.phase in ("", "Pending") and not pod.deleting for pod in pods) or job.deleting or _failed(pods)
        )
        if not runs or hindered or not held or job.suspended:
            entry.last = None  # whatever was steady is steady no more
            # What it holds may be published late, and its own end be said later than its pods'.
            entry.unsteady |= bool(pods) and hindered and not job.suspended
            return None
        due = entry.waits(now, (held, frozenset((pod.uid, pod.phase) for pod in pods)), self._policy)
        orphan = job.owner_kind in self._watched and self._policy.owner is OwnerPolicy.ROOT
        if orphan and self._owners.get(job.owner or "") is None:
            due = max(due, entry.seen + self._policy.start_max_wait)  # its owner may be on its way
        if not self._due(job.uid, entry, now, due):
            return None
        began = entry.since or now
        entry.stage = _Stage.RUNNING
        entry.settle()
        starts = [at for pod in pods if (at := pod.started or pod.ran_from)]
        if entry.told is not None and (stopped := entry.told.end):  # a new run: older pods are not its start
            starts = [at for at in starts if at >= stopped] or [_time(began)]
        start = job.started or min(starts, default=job.created or _time(now))
        return self._report(job, JobState.RUNNING, start, None, held, entry.kept)

    def _changed(self, job: Job, entry: _Entry, pods: list[Pod], now: float) -> JobReport | None:
        held = self._current(entry, pods)
        told = entry.told
        if told is None or not held or job.deleting or job.suspended or held == frozenset(told.holds):
            entry.settle()
            return None
        if not self._due(job.uid, entry, now, entry.waits(now, held, self._policy)):
            return None
        entry.settle()
        return self._report(job, JobState.RUNNING, told.start, None, held, entry.kept)

    def _ended(self, told: JobReport, end: End, now: float, pods: list[Pod]) -> JobReport:
        entry = self._entries[told.id]
        at = end.at
        if at is None and end.state is not JobState.CANCELLED:
            at = max((at for pod in pods if (at := pod.finished)), default=None)
        held = frozenset(told.holds)
        if told.nodes is (self._policy.mode is Mode.NODE):
            held = held.union(self._current(entry, pods))
        end_at = max(at or _time(now), told.start)
        return msgspec.structs.replace(told, state=end.state, end=end_at, holds=tuple(sorted(held)), kept=())

    def _ended_unseen(self, job: Job, end: End, now: float, pods: list[Pod]) -> JobReport | None:
        """The one report of a job that ran while nobody looked, by what its pods say of themselves.

        Only if they say that it ran for as long as a watched job has to before it is reported.
        """
        ran = [pod for pod in pods if pod.ran_from or pod.phase == "Succeeded"]
        held = frozenset[str]().union(*(self._held[pod.uid] for pod in ran))
        start = job.started or min((at for pod in ran if (at := pod.started or pod.ran_from)), default=job.created)
        finish = end.at or max((at for pod in ran if (at := pod.finished)), default=_time(now))
        since = max((at for pod in ran if (at := pod.ran_from)), default=start)
        if not held or start is None or since is None:
            return None
        if (finish - since).total_seconds() < self._policy.stability_delay:
            return None
        return self._report(job, end.state, start, max(finish, start), held)

    def _report(
        self,
        job: Job,
        state: JobState,
        start: datetime,
        end: datetime | None,
        held: frozenset[str],
        kept: frozenset[str] = frozenset(),
    ) -> JobReport:
        return JobReport(
            id=job.uid,
            name=job.name,
            namespace=job.namespace,
            kind=str(job.kind),
            state=state,
            start=start,
            end=end,
            holds=tuple(sorted(held)),
            nodes=self._policy.mode is Mode.NODE,
            kept=tuple(sorted(kept)),
        )


def _failed(pods: list[Pod]) -> bool:
    """Whether a failed pod has not been replaced.

    Where the operator numbers its pods, a newer pod of the same place replaces it. Elsewhere (a batch Job
    without indexes, say) any pod made after the failure may, and each replaces one.
    """
    if not any(pod.phase == "Failed" for pod in pods):
        return False
    newest: dict[tuple[str | None, str], Pod] = {}
    for pod in pods:
        place = (pod.owner, pod.slot or pod.name)
        rival = newest.get(place)
        if rival is None or _age(rival) <= _age(pod):
            newest[place] = pod
    unplaced: dict[str | None, list[datetime]] = {}  # by owner, when its pods failed
    for (owner, _), pod in newest.items():
        if pod.phase == "Failed" and not pod.deleting:
            if pod.slot:
                return True
            unplaced.setdefault(owner, []).append(pod.finished or pod.created or _NEVER)
    for owner, failures in unplaced.items():
        made = sorted((pod.created for pod in pods if pod.owner == owner and pod.created), reverse=True)
        for replaced, failed_at in enumerate(sorted(failures, reverse=True)):
            if replaced >= len(made) or made[replaced] < failed_at:
                return True
    return False


_NEVER = datetime.max.replace(tzinfo=UTC)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _age(pod: Pod) -> tuple[datetime, bool]:
    """Orders the pods of one place; created in the same second, a failed one is the older."""
    return (pod.created or _LONG_AGO, pod.phase != "Failed")


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(int(now), UTC)


def _union(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*parts)))


def _discard(index: dict[K, dict[V, None]], key: K, value: V) -> None:
    if (entries := index.get(key)) is not None:
        entries.pop(value, None)
        if not entries:
            del index[key]


def _places(pod: Pod) -> set[tuple[str, ...]]:
    """Where an event that is not the pod's own may find it: its claims, its name, its node's inventory."""
    places: set[tuple[str, ...]] = {("claim", pod.namespace, name) for name in pod.claims}
    places.add(("name", pod.namespace, pod.name))
    if pod.host_network and pod.node:
        places.add(("node", pod.node))
    return places


def _user_keys(claim: Claim) -> set[tuple[str, str]]:
    """A reservation is by uid; by name only where it has no uid."""
    return {("", uid) if uid else (claim.namespace, name) for uid, name in claim.reserved_for}


def _reserved(claim: Claim, pod: Pod) -> bool:
    """Whether the claim is the pod's: named by it, and not reserved for others alone."""
    return not claim.reserved_for or any(
        uid == pod.uid if uid else name == pod.name for uid, name in claim.reserved_for
    )
