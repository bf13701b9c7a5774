"""The records in the cluster, against a simulated API server: the ordinary course, and its errors."""

import time
from collections.abc import Callable

import msgspec
import pytest

from cvji.jobs.report import JobState, Key
from cvji.kube.client import Api, ApiError
from cvji.kube.reading import PAGE
from cvji.nodes.inventory import Nic, NodeReport
from cvji.reports.records import ListedRecord, Record, Unreadable, write_spec
from cvji.reports.tasks import Acknowledged, Changed, Forgotten, Written
from cvji.reports.writequeue import CLOSED_WAIT
from tests.simulator.kinds import REPORT_KINDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.server import Fault
from tests.unit.store.leader import GROUP, JOB, OK, PLACE, Leader, requests, stored
from tests.unit.test_records import MACS, UID, job_report


def test_a_report_is_two_requests_from_its_spec_to_its_delivery(simulator: KubernetesSimulator, leader: Leader) -> None:
    key = leader.write(job_report())
    leader.store.acknowledge(key, 1, OK)
    assert leader.store.flush(10)
    leader.wait_for(Acknowledged(key, 1))
    found = stored(simulator)
    assert found["spec"]["interfaces"] == list(MACS)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 1
    assert found["status"]["conditions"][0]["status"] == "True"
    assert requests(simulator) == ["POST", "PUT"]
    listed = leader.store.get(key)
    assert listed
    assert listed.delivered
    assert listed.record.report == job_report()


def test_a_node_is_written_changed_and_forgotten(simulator: KubernetesSimulator, leader: Leader) -> None:
    report = NodeReport("gpu-1", (Nic("eth1", MACS[0], ("10.0.0.1",)),))
    key = leader.write(report)
    leader.write(NodeReport("gpu-1", ()), 2)
    assert stored(simulator, "gpu-1", "nodereports")["spec"]["interfaceCount"] == 0
    assert stored(simulator, "gpu-1", "nodereports")["metadata"]["generation"] == 2
    leader.store.forget(key)
    leader.wait_for(Forgotten(key))
    assert leader.store.get(key) is None


def test_a_successor_reads_page_by_page_what_was_left(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    first = lead(1)
    for number in range(PAGE + 20):
        first.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
    assert first.store.flush(60)
    first.store.acknowledge(("job", "u7"), 1, OK)
    first.store.flush(10)
    second = Leader(first.store._api)
    found = {item.record.key[1]: item for item in second.store.take_over(2) if isinstance(item, ListedRecord)}
    assert len(found) == PAGE + 20
    assert [name for name, item in found.items() if item.delivered] == ["u7"]
    assert found["u7"].record.revision == 0
    assert simulator.counts["list jobreports"] >= 3
    second.write(job_report(job="u7", state=JobState.FAILED, end=1_700_000_200))
    assert stored(simulator, "u7")["metadata"]["generation"] == 2


def test_a_list_that_expires_half_read_is_begun_again(
    simulator: KubernetesSimulator, api: Api, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvji.kube.reading.PAGE", 2)
    for number in range(5):
        leader.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
    leader.store.flush(10)
    listing = Leader(api).store.take_over(2)
    names = {item.record.key[1] for item in (next(listing), next(listing)) if isinstance(item, ListedRecord)}
    simulator.compact()
    names |= {item.record.key[1] for item in listing if isinstance(item, ListedRecord)}
    assert names == {f"u{number}" for number in range(5)}


def test_one_record_that_cannot_be_read_costs_only_itself(simulator: KubernetesSimulator, api: Api) -> None:
    for report in (job_report(), job_report(job="other")):
        body = msgspec.json.decode(write_spec(Record(("job", report.id), 1, report), PLACE, "", location="lab", term=4))
        if report.job == "other":
            body["spec"]["startTime"] = "soon"
        simulator.create(body)
    leader = Leader(api)
    found = leader.take_over(2)
    (error,) = [item for item in found if isinstance(item, Unreadable)]
    assert "JobReport other" in error.error
    assert "spec.startTime" in error.error
    assert len(found) == 2
    leader.write(job_report(job="other"))  # the next write mends it
    assert leader.store.get(("job", "other"))


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(503), Fault(429, headers={"Retry-After": "1"}), Fault(drop=True), Fault(401)]
)
def test_an_error_that_passes_is_retried(simulator: KubernetesSimulator, leader: Leader, fault: Fault) -> None:
    simulator.faults.append(fault)
    began = time.monotonic()
    key = leader.write(job_report())
    assert leader.store.get(key)
    if fault.headers:
        assert time.monotonic() - began >= 1.0


def test_writes_wait_for_an_api_server_that_is_away(simulator: KubernetesSimulator, leader: Leader) -> None:
    leader.write(job_report(job="before"))
    simulator.refuse()
    for revision in range(1, 5):
        leader.store.write(Record(JOB, revision, job_report(run=1)))
    assert not leader.store.flush(0.5)
    assert len(leader.store._queue) == 1
    simulator.resume()
    leader.wait_for(Written(JOB, 4))
    assert Written(JOB, 1, remembered=False) not in leader.events


@pytest.mark.parametrize("first", ["create", "replace"])
def test_a_write_of_which_only_the_answer_was_lost_is_recognized(
    simulator: KubernetesSimulator, leader: Leader, first: str
) -> None:
    if first == "replace":
        leader.write(job_report())
    simulator.faults.append(Fault(drop=True, after=True))
    leader.write(job_report(run=1, finished=5), 2)
    assert stored(simulator)["metadata"]["generation"] == (2 if first == "replace" else 1)
    leader.write(job_report(run=1, finished=6), 3)


def test_a_status_of_which_only_the_answer_was_lost_is_written_again(
    simulator: KubernetesSimulator, leader: Leader
) -> None:
    key = leader.write(job_report())
    simulator.faults.append(Fault(drop=True, after=True))
    leader.store.acknowledge(key, 1, OK)
    leader.pass_time(5)
    leader.wait_for(Acknowledged(key, 1))
    assert Changed(key) not in leader.events


def test_without_the_crd_nothing_is_remembered_until_it_is_installed(
    simulator: KubernetesSimulator, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.unserve(GROUP, "jobreports")
    leader = Leader(api)
    assert leader.take_over(1) == []
    for number in range(20):
        key: Key = ("job", f"u{number}")
        leader.store.write(Record(key, 1, job_report(job=key[1])))
        leader.wait_for(Written(key, 1, remembered=False))
    leader.write(NodeReport("gpu-1", ()))
    assert leader.store.flush(10)
    assert len([entry for entry in caplog.records if "is its CRD installed" in entry.message]) == 1
    assert simulator.counts["create jobreports"] == 0
    assert not leader.store.retry_unread()
    simulator.serve(*REPORT_KINDS[0])
    assert not leader.store.retry_unread()
    leader.wait_for(*(Written(("job", f"u{number}"), 1) for number in range(20)))


def test_a_permission_that_is_missing_is_logged_once_and_asked_for_now_and_then(
    simulator: KubernetesSimulator, leader: Leader, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.forbid(GROUP, "jobreports", "create")
    for number in range(20):
        key: Key = ("job", f"u{number}")
        leader.store.write(Record(key, 1, job_report(job=key[1])))
        leader.wait_for(Written(key, 1, remembered=False))
    assert leader.store.flush(10)
    assert len([entry for entry in caplog.records if "without this permission" in entry.message]) == 1
    assert simulator.counts["create jobreports"] <= 4  # those that were in flight together
    simulator.allow(GROUP, "jobreports", "create")
    leader.pass_time(CLOSED_WAIT)
    leader.wait_for(*(Written(("job", f"u{number}"), 1) for number in range(20)))


def test_records_that_may_not_be_listed_do_not_stop_the_program_and_are_not_overwritten(
    simulator: KubernetesSimulator, api: Api, lead: Callable[[int], Leader]
) -> None:
    first = lead(5)  # each takeover raises the term, the Lease's transitions do not always grow
    first.write(job_report(run=1, start=1_700_000_000))
    first.write(job_report(run=1, job="other"))
    simulator.forbid(GROUP, "jobreports", "list")
    leader = Leader(api)
    with pytest.raises(ApiError):  # an API server that has just started may forbid what it allows soon
        list(leader.store.take_over(2, patient=True))
    assert leader.take_over(2) == []
    leader.store.write(Record(JOB, 1, job_report(run=1, start=1_700_000_050)))
    leader.wait_for(Written(JOB, 1, remembered=False))
    leader.pass_time(CLOSED_WAIT)
    assert leader.store.flush(10)
    assert list(leader.store.relist()) == []
    assert not leader.store.retry_unread()
    simulator.allow(GROUP, "jobreports", "list")
    found = leader.store.get(JOB)
    assert found
    assert found.record.report == job_report(run=1, start=1_700_000_000)
    assert leader.store.retry_unread()  # what this leader has reported is newer
    leader.wait_for(Written(JOB, 1))
    assert list(leader.store.relist()) == []  # the others are left to a successor, not deleted as unknown
    assert {listed.record.report for listed in Leader(api).take_over(9) if isinstance(listed, ListedRecord)} == {
        job_report(run=1, start=1_700_000_050),
        job_report(run=1, job="other"),
    }


def test_a_list_that_fails_is_an_error_and_nothing_is_written(simulator: KubernetesSimulator, api: Api) -> None:
    leader = Leader(api)
    simulator.always = Fault(500)
    with pytest.raises(ApiError):
        leader.take_over(1)
    simulator.always = None
    leader.store.write(Record(JOB, 1, job_report()))
    assert simulator.get(GROUP, "jobreports", PLACE, UID) is None
    assert leader.take_over(1) == []
    leader.wait_for(Written(JOB, 1))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(413, body=b"{}"),
        Fault(500, body=b'{"message":"etcdserver: request is too large"}'),
        Fault(500, body=b'{"message":"rpc error: trying to send message larger than max (2400 vs. 2000)"}'),
    ],
)
def test_what_is_too_large_is_logged_once_and_reported_all_the_same(
    simulator: KubernetesSimulator, leader: Leader, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    simulator.faults.append(fault)
    leader.store.write(Record(JOB, 1, job_report()))
    leader.wait_for(Written(JOB, 1, remembered=False))
    assert leader.store.flush(10)
    assert len(leader.store._queue) == 0
    assert [entry.message for entry in caplog.records if "too large to be remembered" in entry.message]
    leader.write(job_report(), 2)


def test_what_the_schema_refuses_is_reported_all_the_same_and_holds_up_nothing(
    simulator: KubernetesSimulator, leader: Leader
) -> None:
    simulator.faults.append(Fault(422, body=b'{"message":"spec.state: Unsupported value"}'))
    leader.store.write(Record(JOB, 1, job_report()))
    leader.wait_for(Written(JOB, 1, remembered=False))
    leader.write(job_report(job="other"))
    leader.pass_time(120)
    leader.wait_for(Written(JOB, 1))
