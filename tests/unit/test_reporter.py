"""From what is seen to what is written and sent: tracker, inventory and book together. Time is a number here."""

import json
from typing import Any

import msgspec

from cvji.jobs.kinds import Registry
from cvji.jobs.pods import read_pod
from cvji.jobs.policy import Policy
from cvji.jobs.report import JobState, RunReport
from cvji.kube.events import Applied, Deleted, Listed, Resource, Unserved
from cvji.nodes.inventory import NodeReport, read_node_state
from cvji.reports.book import Acknowledge, Forget, Send, Write
from cvji.reports.records import ListedRecord, Record, Stored
from cvji.reports.reporter import Reporter
from cvji.settings import NodeInterfaceType
from tests.unit.world import T0, mac, owner, stamp

NODES = Resource("cloudvision.arista.io", "v1", "NodeInterfaceState", "nodeinterfacestates")
JOBS = Resource("batch", "v1", "Job", "jobs")
REGISTRY = Registry()
KIND = next(kind for kind in REGISTRY if kind.key == JOBS.key)


def read_job(name: str = "job", **body: Any) -> Applied:
    raw = {"metadata": {"name": name, "namespace": "team", "uid": name, "creationTimestamp": stamp(0)}, **body}
    return Applied(REGISTRY.read(KIND, json.dumps(raw).encode()))


def running_pod(job: str = "job", number: int = 1, **spec: Any) -> Applied:
    networks = [{"name": "rail", "interface": "net1", "mac": mac(number)}]
    raw = {
        "metadata": {
            "name": f"{job}-0",
            "namespace": "team",
            "uid": f"{job}-0",
            "creationTimestamp": stamp(0),
            "annotations": {"k8s.v1.cni.cncf.io/network-status": json.dumps(networks)},
            "ownerReferences": owner("batch/v1", "Job", job),
        },
        "spec": {"nodeName": "n1", **spec},
        "status": {"phase": "Running", "startTime": stamp(0)},
    }
    return Applied(read_pod(REGISTRY, json.dumps(raw).encode()))


def node_state(number: int) -> Applied:
    raw = {"metadata": {"name": "n1", "uid": "u"}, "status": {"interfaces": [{"name": "e0", "mac": mac(number)}]}}
    return Applied(read_node_state(NodeInterfaceType.ALL, json.dumps(raw).encode()))


class Process:
    """A reporter whose writes and sends all succeed at once, and the records that it leaves."""

    def __init__(self, records: dict[Any, ListedRecord] | None = None) -> None:
        self.reporter = Reporter(
            Policy(), "lab", durable=True, job_kinds=[kind.key for kind in REGISTRY], node_kind=NODES.key
        )
        self.records = records if records is not None else {}
        self.sent: list[RunReport | NodeReport] = []
        self.now = T0
        for listed in list(self.records.values()):
            self.reporter.restore(listed, self.now)

    def see(self, *events: Any) -> None:
        for event in events:
            self.reporter.apply(event, self.now)

    def lead(self) -> None:
        self.reporter.lead(self.now)

    def run(self, seconds: float = 0.0) -> None:
        until = self.now + seconds
        while True:
            self.reporter.advance(self.now)
            self.act()
            due = self.reporter.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
        self.now = until

    def act(self) -> None:
        book = self.reporter.book
        while actions := list(book.take()):
            for action in actions:
                match action:
                    case Write(record):
                        read = Record(record.key, 0, record.report)
                        self.records[record.key] = ListedRecord(read, Stored("x", "1", 1, 0), False, None, "lab")
                        book.written(record.key, record.revision, self.now)
                    case Send(key):
                        newest = book.newest(key)
                        assert newest is not None
                        assert newest.report is not None
                        self.sent.append(newest.report)
                        book.delivered(key, newest.revision, self.now)
                    case Acknowledge(key, _, delivery):
                        old = self.records[key]
                        self.records[key] = msgspec.structs.replace(old, delivered=delivery.accepted)
                    case Forget(key):
                        del self.records[key]


def states(process: Process) -> list[tuple[str, JobState]]:
    return [(report.id, report.state) for report in process.sent if isinstance(report, RunReport)]


def test_a_standby_decides_nothing_until_it_leads() -> None:
    process = Process()
    process.see(read_job(), running_pod(), node_state(9), Listed(NODES))
    assert process.reporter.next_deadline() is None
    assert not list(process.reporter.book.take())
    process.lead()
    process.run(6)
    assert [type(report) for report in process.sent] == [NodeReport, RunReport]


def test_a_host_network_pod_holds_the_nics_of_its_nodes_inventory() -> None:
    process = Process()
    process.lead()
    process.see(read_job(), running_pod(hostNetwork=True), node_state(9), Listed(NODES))
    process.run(6)
    (run,) = [report for report in process.sent if isinstance(report, RunReport)]
    assert run.holds.texts() == (mac(9),)


def test_a_successor_repeats_nothing_that_was_acknowledged() -> None:
    first = Process()
    first.lead()
    first.see(read_job(), running_pod(), node_state(9), Listed(NODES))
    first.run(6)
    second = Process(first.records)
    second.see(read_job(), running_pod(), node_state(9), Listed(NODES), Listed(JOBS))
    second.lead()
    second.run(600)
    assert second.sent == []
    second.see(Deleted(read_job().object))
    second.run()
    assert states(second) == [("job", JobState.CANCELLED)]


def test_a_successor_ends_what_is_gone_and_removes_nodes_that_are_gone() -> None:
    first = Process()
    first.lead()
    first.see(read_job(), running_pod(), node_state(9), Listed(NODES))
    first.run(6)
    second = Process(first.records)
    second.lead()
    second.run(60)
    assert second.sent == []  # nothing is listed yet
    second.see(Listed(JOBS), Listed(NODES))
    second.run()
    assert states(second) == [("job", JobState.CANCELLED)]
    assert [report for report in second.sent if isinstance(report, NodeReport)] == [NodeReport("n1", ())]
    assert ("node", "n1") not in second.records


def test_a_successor_removes_nodes_whose_kind_is_not_served_any_more() -> None:
    first = Process()
    first.lead()
    first.see(node_state(9), Listed(NODES))
    first.run()
    second = Process(first.records)
    second.lead()
    second.see(Unserved(NODES.key))
    second.run()
    assert second.sent == [NodeReport("n1", ())]


def test_of_several_runs_a_successor_goes_on_with_the_newest() -> None:
    first = Process()
    first.lead()
    first.see(read_job(), running_pod())
    first.run(6)
    first.see(read_job(spec={"suspend": True}), Deleted(running_pod().object))
    first.run(6)
    first.see(read_job(), running_pod(number=2))
    first.run(6)
    assert set(first.records) == {("job", "job"), ("job", "job.2")}
    second = Process(dict(reversed(first.records.items())))
    second.see(read_job(), running_pod(number=2), Listed(JOBS))
    second.lead()
    second.run(60)
    assert second.sent == []
    done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(90)}]}
    second.see(read_job(status=done))
    second.run()
    assert states(second) == [("job.2", JobState.COMPLETED)]


def test_jobs_are_counted_by_how_they_stand() -> None:
    process = Process()
    process.lead()
    for name in ("waits", "runs", "ends"):
        process.see(read_job(name))
    process.see(running_pod("runs", 1), running_pod("ends", 2))
    process.run(6)
    process.see(running_pod("waits", 3))
    process.see(read_job("without-pods", status={"conditions": [{"type": "Complete", "status": "True"}]}))
    done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(90)}]}
    process.see(read_job("ends", status=done))
    process.run()
    assert process.reporter.jobs_by_state() == {"pending": 1, "running": 1, "ended": 1}
