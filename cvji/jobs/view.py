"""One job as the rules see it: its object, its pods as they are counted, and what more can be asked about them."""

import math
from typing import Protocol

import msgspec

from cvji.jobs.kinds import Job
from cvji.jobs.pods import Pod
from cvji.jobs.report import End, Holds


class Problem(msgspec.Struct, frozen=True):
    """Something in an object that cannot be understood; logged once while it stays the same."""

    object: str
    message: str


class Group:
    """What the pods of one job are doing, counted as events come."""

    __slots__ = (
        "changes", "failed", "finished", "held_changes", "holding", "left", "newest", "pending", "started", "succeeded",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pending = 0  # pods that are Pending and not being deleted
        self.holding = 0  # pods that run and hold something
        self.failed = 0  # pods that failed and are not being deleted
        self.changes = 0  # grows with every change of the pods or of what they hold
        self.held_changes = 0  # grows with every change of what counts: what pods hold that run or have succeeded
        self.succeeded = 0  # grows with every pod that succeeds, and every such pod that goes
        self.newest = 0  # creation time of the newest pod that was ever seen to have started
        self.started = 0  # the earliest start of a pod of the run, of pods that are gone as well; 0 for none
        self.finished = 0  # the latest finish of a pod's containers, of pods that are gone as well
        # What gone pods that succeeded held, and when these were created and finished.
        self.left: dict[bytes | str, tuple[int, int]] = {}

    def merge(self, other: "Group") -> None:
        """Take over what remains of a group whose job turned out to be part of this one."""
        self.newest = max(self.newest, other.newest)
        self.started = min(filter(None, (self.started, other.started)), default=0)
        self.finished = max(self.finished, other.finished)
        self.left.update(other.left)
        if other.left:
            self.changes += 1
            self.held_changes += 1
            self.succeeded += 1


class View(msgspec.Struct):
    """One job as it stands. `job` is its object, None if there is none. `group` counts its pods.

    `last` is the object's last state where it was deleted and that has not been judged yet. `independent` says that no
    job above it counts in its place. `end` is what the object or its last state, or the jobs below it, say of its end.
    """

    uid: str
    job: Job | None
    last: Job | None
    independent: bool
    end: End | None
    group: Group


class Pods(Protocol):
    """What a run asks about its job's pods; the answers cost as much as the job is large."""

    def pods(self, uid: str) -> list[Pod]:
        """The pods of the run: those of earlier runs are left out, unless they run."""
        ...

    def new_pods(self, uid: str, until: float = math.inf) -> list[Pod]:
        """The pods that no earlier run has accounted for, created by `until`."""
        ...

    def holds(self, pod: Pod) -> Holds:
        """What a pod holds, or held when it ended."""
        ...

    def counts(self, uid: str, until: float = math.inf) -> Holds:
        """What counts for the run: what pods hold, and what pods held that succeeded, of those created by `until`."""
        ...

    def left(self, uid: str) -> Holds:
        """What pods of the run held that succeeded and are gone."""
        ...
