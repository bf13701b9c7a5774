"""A leader that writes records, for tests."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from cvji.jobs.report import Key, RunReport
from cvji.kube.client import Api
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import Delivery, ListedRecord, Reason, Record, Unreadable
from cvji.reports.store import Store
from cvji.reports.tasks import Event, Written
from cvji.reports.writequeue import WriteQueue
from tests.simulator.kubernetes import KubernetesSimulator
from tests.unit.test_records import UID

GROUP = "cloudvision.arista.io"
PLACE = "cloudvision"
OK = Delivery(Reason.ACCEPTED, 1_700_000_100)
T = TypeVar("T")
JOB: Key = ("job", UID)


class _Heard(Store):
    """A store of which also what is known at once is heard."""

    def _submit(self, change: Callable[[WriteQueue, float], list[Event]]) -> list[Event]:
        events = super()._submit(change)
        self._report(events)
        return []


class Leader:
    """A store and the events that it has emitted; time can be made to pass."""

    made: ClassVar[list["Leader"]] = []  # so that a fixture can stop their threads

    def __init__(self, api: Api, *, place: str = PLACE, connections: int = 4) -> None:
        self.made.append(self)
        self.events: list[Event] = []
        self.news = threading.Condition()
        self.later = 0.0
        self.permitted = 10.0
        self.store = _Heard(
            api,
            place,
            location="lab",
            emit=self.hear,
            permit=lambda: self.permitted,
            clock=lambda: time.monotonic() + self.later,
            connections=connections,
        )

    def hear(self, event: Event) -> None:
        with self.news:
            self.events.append(event)
            self.news.notify_all()

    def wait_for(self, *events: Event) -> None:
        with self.news:
            if not self.news.wait_for(lambda: all(event in self.events for event in events), 30):
                raise TimeoutError(f"waited for {events}, got {self.events}")

    def take_over(self, term: int) -> list[ListedRecord | Unreadable]:
        return list(self.store.take_over(term))

    def write(self, report: RunReport | NodeReport, revision: int = 1) -> Key:
        """Write a report, and wait until it is in the cluster."""
        key: Key = ("node", report.node) if isinstance(report, NodeReport) else ("job", report.id)
        self.store.write(Record(key, revision, report))
        self.wait_for(Written(key, revision))
        return key

    def pass_time(self, seconds: float) -> None:
        self.later += seconds
        with self.store._lock:
            self.store._changed.notify_all()


def stored(simulator: KubernetesSimulator, name: str = UID, plural: str = "jobreports") -> dict[str, Any]:
    found = simulator.get(GROUP, plural, PLACE, name)
    assert found
    return found


def requests(simulator: KubernetesSimulator) -> list[str]:
    return [method for method, path in simulator.requests if "reports/" in path or method != "GET"]
