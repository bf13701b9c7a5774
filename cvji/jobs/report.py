"""What is reported about a job's runs: the states CloudVision knows, what a run holds, and one report."""

import enum
from collections.abc import Iterable
from typing import Literal

import msgspec

from cvji.macs import pack, split, unpack

# What a report is about: ("job", a run's id) or ("node", a node's name).
KindName = Literal["job", "node"]
Key = tuple[KindName, str]


class JobState(enum.Enum):
    """computejob/v1 JobState; the values are the names the service takes."""

    RUNNING = "JOB_STATE_RUNNING"
    COMPLETED = "JOB_STATE_COMPLETED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLED = "JOB_STATE_CANCELLED"


class End(msgspec.Struct, frozen=True):
    """How a job ended, and when (seconds since the epoch) if its object says so."""

    state: JobState
    at: int | None = None


class Holds(msgspec.Struct, frozen=True, gc=False):
    """What a pod or a run holds: packed MACs (see macs.pack), or node names with JOBCONFIG_MODE=node, sorted."""

    macs: bytes = b""
    nodes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.macs or self.nodes)

    def __len__(self) -> int:
        """How many NICs or nodes."""
        return len(self.nodes) if self.nodes else len(self.macs) // 6

    def texts(self) -> tuple[str, ...]:
        """The MAC addresses or node names as CloudVision takes them: sorted, each once."""
        return self.nodes or unpack(self.macs)


NOTHING = Holds()


def of_macs(texts: Iterable[str]) -> Holds:
    """What holds these MAC addresses."""
    return Holds(macs=pack(texts))


def union(parts: Iterable[Holds]) -> Holds:
    """Everything that any of the parts holds."""
    macs: set[bytes] = set()
    nodes: set[str] = set()
    for part in parts:
        macs.update(split(part.macs))
        nodes.update(part.nodes)
    return Holds(b"".join(sorted(macs)), tuple(sorted(nodes)))


class RunReport(msgspec.Struct, frozen=True, gc=False):
    """What CloudVision is to hold of one run of a job: an interval in which the job holds something.

    `job` is the uid of the job's object and `run` counts its runs from 1. `kind` is group/kind. Times are seconds
    since the epoch; `end` is None exactly while the state is RUNNING. `holds` is never empty.

    The rest is not for CloudVision, but for a successor of this process to go on from:
    `kept` is the part of `holds` that succeeded pods held whose objects are, or may soon be, gone.
    `newest` is the creation time of the newest pod of the runs before this one; 0 for the first.
    `finished` is the latest finish of a pod's containers that is known, 0 if none is.
    `switched` says that JOBCONFIG_MODE has changed since the run was first reported: the other list is to be emptied.
    """

    job: str
    run: int
    name: str
    namespace: str
    kind: str
    state: JobState
    start: int
    end: int | None
    holds: Holds
    kept: Holds = NOTHING
    newest: int = 0
    finished: int = 0
    switched: bool = False

    @property
    def id(self) -> str:
        """The run's id, which is CloudVision's `key.id`: the job's uid for its first run, `UID.2` for the second."""
        return self.job if self.run == 1 else f"{self.job}.{self.run}"

    def ended(self, state: JobState, at: int, holds: Holds, newest: int, *, switched: bool) -> "RunReport":
        """The terminal report of the run."""
        end = max(at, self.start)
        changed = {"state": state, "end": end, "holds": holds, "kept": NOTHING, "finished": 0}
        return msgspec.structs.replace(self, newest=newest, switched=switched, **changed)
