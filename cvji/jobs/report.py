"""What is said about a job: the states CloudVision knows, and one report."""

import enum
from datetime import datetime

import msgspec


class JobState(enum.Enum):
    """computejob/v1 JobState; the values are the names the service takes."""

    RUNNING = "JOB_STATE_RUNNING"
    COMPLETED = "JOB_STATE_COMPLETED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLED = "JOB_STATE_CANCELLED"


class End(msgspec.Struct, frozen=True):
    """How a job ended, and when, if its object says so."""

    state: JobState
    at: datetime | None = None


class JobReport(msgspec.Struct, frozen=True):
    """One statement about one job.

    `id` is the job object's uid, `kind` its group/kind. `holds` are MAC addresses, or node names if `nodes`:
    sorted, never empty. `end` is None exactly while the state is RUNNING. `kept` is the part of `holds` that
    pods which have succeeded held: it counts on when they are gone, and no object says so any more.
    """

    id: str
    name: str
    namespace: str
    kind: str
    state: JobState
    start: datetime
    end: datetime | None
    holds: tuple[str, ...]
    nodes: bool = False
    kept: tuple[str, ...] = ()
