"""What can be done with an object, what can come of it, and what is reported of that."""

import enum

import msgspec

from cvji.jobs.report import Key
from cvji.reports.records import Record, Status, Stored

EDITED = -1  # the revision of an object whose spec somebody else has written


class Outcome(enum.Enum):
    """What came of an attempt.

    THERE: a conflict, the object is there, and is ours to overwrite. GONE: there is no such object. LOST: another
    leader has written it. REFUSED: this object as it is. CLOSED: the CRD, the namespace or the permission is missing.
    BUSY: the API server does not answer, or asks to wait. FAILED: any other error, taken to concern this object only.
    """

    DONE = "done"
    THERE = "there"
    GONE = "gone"
    LOST = "lost"
    TOO_LARGE = "too large"
    REFUSED = "refused"
    CLOSED = "closed"
    BUSY = "busy"
    FAILED = "failed"


class Result(msgspec.Struct, frozen=True):
    """The outcome, and the object as the API server has it, where known. `retry_after` is in seconds."""

    outcome: Outcome
    stored: Stored | None = None
    retry_after: float = 0.0
    code: int = 0
    message: str = ""


class Held(msgspec.Struct, frozen=True, gc=False):
    """What an object is known to hold: the record's revision (0: as listed), and a status about one generation."""

    version: str
    generation: int
    revision: int
    status: Status | None = None
    observed: int = 0


class WriteSpec(msgspec.Struct, frozen=True, eq=False):
    """Write the record's spec; `held` is None where no such object is known of. `round`: see Task."""

    key: Key
    held: Held | None
    record: Record
    round: int


class WriteStatus(msgspec.Struct, frozen=True, eq=False):
    """Write the object's status."""

    key: Key
    held: Held
    status: Status
    round: int


class Remove(msgspec.Struct, frozen=True, eq=False):
    """Delete the object, if there is one."""

    key: Key
    held: Held | None
    round: int


Task = WriteSpec | WriteStatus | Remove  # one attempt; `round` is how often its lane had failed in a row before it


class Written(msgspec.Struct, frozen=True):
    """The record's spec is in the cluster; or cannot be, and nothing is to wait for it (`remembered` False)."""

    key: Key
    revision: int
    remembered: bool = True


class Acknowledged(msgspec.Struct, frozen=True):
    """The status of that revision is in the cluster."""

    key: Key
    revision: int


class Forgotten(msgspec.Struct, frozen=True):
    """There is no object of that key any more."""

    key: Key


class Changed(msgspec.Struct, frozen=True):
    """Somebody has deleted or edited the object: write its record again, under a revision not lower."""

    key: Key


class Lost(msgspec.Struct, frozen=True):
    """Another process leads now, and has written the object. Nothing more is written."""

    key: Key
    term: int


Event = Written | Acknowledged | Forgotten | Changed | Lost
