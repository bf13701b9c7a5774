"""What comes to the loop: the messages on its queue; and where its reports go."""

from typing import Protocol

import msgspec

from cvji.cloudvision.client import Answer
from cvji.jobs.report import Key
from cvji.kube.events import ClusterEvent, Discovered, Unserved
from cvji.reports.records import ListedRecord
from cvji.reports.tasks import Event as StoreEvent

QUEUE_BATCHES = 1000  # when it is full, reflectors stop reading, and the API server keeps the rest


class StandBy(msgspec.Struct, frozen=True):
    """Another process leads."""


class Elected(msgspec.Struct, frozen=True):
    """This process leads from now on. `term`: how often the Lease has changed hands."""

    term: int = 0


class Recovered(msgspec.Struct, frozen=True):
    """Records that former leaders left; with `last`, there are no more."""

    records: list[ListedRecord]
    last: bool


class Checked(msgspec.Struct, frozen=True):
    """Records as they were listed just now."""

    records: list[ListedRecord]


class Attempted(msgspec.Struct, frozen=True):
    """An attempt to deliver a revision is over."""

    key: Key
    revision: int
    answer: Answer


class RecordGone(msgspec.Struct, frozen=True):
    """The record that alone holds the report of a revision was deleted."""

    key: Key
    revision: int


class Stop(msgspec.Struct, frozen=True):
    """Exit: code 0 after pending deliveries are sent; any other code at once, since another process leads."""

    code: int


Message = (
    list[ClusterEvent]
    | Discovered
    | Unserved
    | StandBy
    | Elected
    | Recovered
    | Checked
    | StoreEvent
    | Attempted
    | RecordGone
    | Stop
)


class Deliverer(Protocol):
    """Where reports go."""

    def put(self, key: Key, revision: int) -> None:
        """Send the key's newest report."""

    def settled(self) -> bool:
        """Whether nothing is left but what CloudVision refuses."""
        ...

    def close(self) -> None:
        """Begin no further attempt."""
