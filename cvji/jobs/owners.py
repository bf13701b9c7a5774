"""Which job an object belongs to: the climb over ownerReferences, from a pod up to the topmost job.

Objects arrive in any order, so an owner may be named here long before it is seen, or never be seen at all. A deleted
owner, job or pod, stays in the chain until what it owned is gone too: the garbage collector takes its time, and what
still runs below it is still its own.
"""

from collections.abc import Iterator, Mapping

import msgspec

from cvji.jobs.kinds import Job
from cvji.jobs.nics import discard
from cvji.jobs.pods import Pod
from cvji.settings import OwnerPolicy

# Pod -> Job -> JobSet -> TrainJob is three; a longer or circular chain is not a job we know.
MAX_CLIMB = 8


class Owners:
    """The job objects that exist, and who owns whom."""

    def __init__(self, policy: OwnerPolicy, pods: Mapping[str, Pod]) -> None:
        """`pods` are those that are known, by uid: a pod may own pods and jobs."""
        self._policy = policy
        self._pods = pods
        self._jobs: dict[str, Job] = {}
        self._deleted: dict[str, Job] = {}  # not judged yet, or their pods or child jobs are not gone yet
        self._unjudged: set[str] = set()  # of these
        self._children: dict[str, dict[str, None]] = {}  # owner uid -> uids of jobs
        self._pods_of: dict[str, dict[str, None]] = {}  # owner uid -> uids of pods, first seen first
        self._gone_pods: dict[str, str] = {}  # whose pods or jobs are not gone yet: uid -> uid of its owner
        self._closed: set[str] = set()  # jobs that ended a while ago: what still runs below them is not theirs
        self.forgotten: list[str] = []  # uids of which nothing is left; whoever reads it empties it

    def get(self, uid: str) -> Job | None:
        """The job object of that uid, if it exists."""
        return self._jobs.get(uid)

    def departed(self, uid: str) -> Job | None:
        """The last state of a job object whose deletion has not been judged."""
        return self._deleted[uid] if uid in self._unjudged else None

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    # --- what is known ------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """A job object was made or changed. One that would close a cycle or an endless chain has no owner."""
        old = self._jobs.get(job.uid) or self._deleted.pop(job.uid, None)
        self._unjudged.discard(job.uid)
        if job.owner and not (old and old.owner == job.owner) and self._is_endless(job.uid, job.owner):
            job = msgspec.structs.replace(job, owner=None)
        if old is not None and old.owner and old.owner != job.owner:
            self._unlink(old)
        self._jobs[job.uid] = job
        if job.owner:
            self._children.setdefault(job.owner, {})[job.uid] = None

    def _is_endless(self, uid: str, owner: str) -> bool:
        """Whether the climb from `uid`, of that owner, leads back to it or is too long."""
        above = list(self._climb(owner))
        return uid in above or len(above) >= MAX_CLIMB

    def _climb(self, uid: str) -> Iterator[str]:
        """`uid` and what is above it, as far as that is known."""
        above: str | None = uid
        for _ in range(MAX_CLIMB):
            if above is None:
                break
            yield above
            found = self._jobs.get(above) or self._deleted.get(above) or self._pods.get(above)
            above = found.owner if found else self._gone_pods.get(above)

    def remove(self, uid: str) -> None:
        """A job object was deleted."""
        job = self._jobs.pop(uid, None)
        if job is not None:
            self._deleted[uid] = job
            self._unjudged.add(uid)

    def depart(self, uid: str) -> None:
        """A job's deletion was judged."""
        self._unjudged.discard(uid)
        self._forget(uid)

    def put_pod(self, pod: Pod) -> None:
        """A pod that has an owner is new."""
        assert pod.owner is not None  # noqa: S101  others are not kept
        if (before := self._gone_pods.pop(pod.uid, pod.owner)) != pod.owner:
            discard(self._pods_of, before, pod.uid)
            self._forget(before)
        self._pods_of.setdefault(pod.owner, {})[pod.uid] = None

    def remove_pod(self, pod: Pod) -> None:
        """A pod that has an owner is gone. What it owned may run on, and counts for the same job as before."""
        assert pod.owner is not None  # noqa: S101  others are not kept
        if self.has_dependents(pod.uid) and not self._is_endless(pod.uid, pod.owner):
            self._gone_pods[pod.uid] = pod.owner
        else:
            discard(self._pods_of, pod.owner, pod.uid)
            self._forget(pod.owner)

    def _unlink(self, job: Job) -> None:
        if job.owner:
            discard(self._children, job.owner, job.uid)
            self._forget(job.owner)

    def _forget(self, uid: str | None) -> None:
        """Forget what is gone and owns nothing any more; and so on with what is above it."""
        while uid is not None and not (uid in self._jobs or uid in self._unjudged or self.has_dependents(uid)):
            gone, job, pod_owner = uid, self._deleted.pop(uid, None), self._gone_pods.pop(uid, None)
            self._closed.discard(gone)
            self.forgotten.append(gone)
            uid = job.owner if job else pod_owner
            if uid is not None:
                discard(self._children if job else self._pods_of, uid, gone)

    def close(self, uid: str) -> None:
        """The job ended a while ago: what still runs below it belongs to the next job below it from now on."""
        self._closed.add(uid)

    def open(self, uid: str) -> None:
        """The job runs again."""
        self._closed.discard(uid)

    def is_closed(self, uid: str) -> bool:
        """Whether `close` was called last."""
        return uid in self._closed

    # --- what follows from it -----------------------------------------------------------------------

    def root(self, uid: str) -> str:
        """The job that an object of owner `uid` counts for; "" if every job above it is closed.

        That is the topmost job above it; `uid` itself as long as that is not known.
        """
        found, known = "", False
        for _ in range(MAX_CLIMB):
            if job := self._jobs.get(uid) or self._deleted.get(uid):
                known = True
                if uid not in self._closed:
                    found = uid
                if self._policy is OwnerPolicy.DIRECT:
                    break
                above = job.owner
            else:
                pod = self._pods.get(uid)
                above = pod.owner if pod else self._gone_pods.get(uid)
            if above is None:
                break
            uid = above
        return found if known else uid

    def depth(self, uid: str) -> int:
        """How many objects that are known are above `uid`."""
        return sum(1 for _ in self._climb(uid)) - 1

    def children(self, uid: str) -> list[tuple[Job, bool]]:
        """The job objects directly owned by `uid`, which need not be known itself, and whether they exist."""
        below = self._children.get(uid, ())
        return [(self._jobs.get(child) or self._deleted[child], child in self._jobs) for child in below]

    def owners_below(self, uid: str) -> list[str]:
        """`uid` and everything below it that owns pods, or may."""
        found, queue = {uid: None}, [uid]
        while queue:
            owner = queue.pop()
            jobs = self._children.get(owner, ()) if self._policy is OwnerPolicy.ROOT else ()
            for below in (*jobs, *(pod for pod in self._pods_of.get(owner, ()) if self.has_dependents(pod))):
                if below not in found:
                    found[below] = None
                    queue.append(below)
        return list(found)

    def pods_of(self, owner: str) -> Iterator[Pod]:
        """The pods directly owned by `owner` that exist, in the order in which they were first seen."""
        return (pod for uid in self._pods_of.get(owner, ()) if (pod := self._pods.get(uid)))

    def has_dependents(self, uid: str) -> bool:
        """Whether anything names `uid` as its owner."""
        return uid in self._children or uid in self._pods_of
