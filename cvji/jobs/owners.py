"""Which job object an object belongs to: the climb over controller ownerReferences.

Knows only uids: a child's owner by uid, and children by owner. Objects arrive in any order, so an owner
may be named here long before it is seen, or never be seen at all.
"""

from collections.abc import Iterator

from cvji.jobs.kinds import Job

# Pod -> Job -> JobSet -> TrainJob is three; a longer or circular chain is not a job we know.
MAX_CLIMB = 8


class Owners:
    """The job objects that exist, and who owns whom."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._children: dict[str, dict[str, None]] = {}  # owner uid -> job uids, in order of arrival
        self._gone: set[str] = set()  # deleted owners whose children the garbage collector has yet to take

    def get(self, uid: str) -> Job | None:
        """The job object of that uid, if it exists."""
        return self._jobs.get(uid)

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def put(self, job: Job) -> None:
        """A job object was made or changed."""
        old = self._jobs.get(job.uid)
        if old is not None and old.owner != job.owner:
            self._unlink(old)
        self._jobs[job.uid] = job
        self._gone.discard(job.uid)
        if job.owner:
            self._children.setdefault(job.owner, {})[job.uid] = None

    def remove(self, uid: str) -> None:
        """A job object was deleted."""
        job = self._jobs.pop(uid, None)
        if job is not None:
            self._unlink(job)
            if uid in self._children:
                self._gone.add(uid)

    def _unlink(self, job: Job) -> None:
        if job.owner and (siblings := self._children.get(job.owner)):
            siblings.pop(job.uid, None)
            if not siblings:
                del self._children[job.owner]
                self._gone.discard(job.owner)

    def root(self, uid: str) -> str:
        """The topmost job object above `uid`, or `uid` itself. Ends where an owner is not to be seen."""
        for _ in range(MAX_CLIMB):
            job = self._jobs.get(uid)
            if job is None or job.owner is None or job.owner not in self._jobs:
                return uid
            uid = job.owner
        return uid

    def is_root(self, job: Job) -> bool:
        """Whether nothing above it is, or just was, a job: an owner's deletion takes its children along."""
        return job.owner is None or (job.owner not in self._jobs and job.owner not in self._gone)

    def children(self, uid: str) -> list[str]:
        """The job objects directly owned by `uid`, which need not be known itself."""
        return list(self._children.get(uid, ()))

    def below(self, uid: str) -> list[str]:
        """`uid` and every job object below it."""
        found, queue = {uid: None}, [uid]
        while queue:
            for child in self._children.get(queue.pop(), ()):
                if child not in found:
                    found[child] = None
                    queue.append(child)
        return list(found)
