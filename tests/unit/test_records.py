"""What is written as a JobReport or NodeReport comes back as it was; what is wrong with one is named."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvji import explain
from cvji.jobs.report import Holds, JobState, Key, RunReport, of_macs
from cvji.macs import split
from cvji.nodes.inventory import Nic, NodeReport
from cvji.reports.records import (
    Delivery,
    Reason,
    Record,
    RecordError,
    Status,
    first_status,
    object_name,
    read,
    read_stored,
    write_spec,
    write_status,
)

UID = "2f1c1f2e-6a53-4d1b-9d2e-0d6f5a1b2c3d"
MACS = tuple(f"02:00:00:00:00:{number:02x}" for number in range(1, 9))


def job_report(**more: Any) -> RunReport:
    given = {"job": UID, "run": 1, "name": "train", "namespace": "team", "kind": "kubeflow.org/PyTorchJob"}
    given |= {"state": JobState.RUNNING, "start": 1_700_000_000, "end": None, "holds": of_macs(MACS)}
    return RunReport(**{**given, **more})


def record_of(report: RunReport | NodeReport, revision: int = 0) -> Record:
    key: Key = ("node", report.node) if isinstance(report, NodeReport) else ("job", report.id)
    return Record(key, revision, report)


def stored(report: RunReport | NodeReport, term: int = 3) -> dict[str, Any]:
    """The object, as the API server gives it back."""
    found: dict[str, Any] = json.loads(write_spec(record_of(report), "cloudvision", "7", location="lab", term=term))
    found["metadata"] |= {"generation": 2, "managedFields": [{"manager": "cvji"}]}
    return found


def raw(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()


# --- there and back ---------------------------------------------------------------------------------------------

macs = st.integers(1, 2**48 - 1).map(lambda number: number.to_bytes(6, "big"))
times = st.integers(1, 4_000_000_000)


@st.composite
def run_reports(draw: st.DrawFn) -> RunReport:
    if draw(st.booleans()):
        names = tuple(sorted(draw(st.sets(st.text("abc-", min_size=1, max_size=9), min_size=1))))
        holds = Holds(nodes=names)
        kept = Holds(nodes=tuple(sorted(draw(st.sets(st.sampled_from(names))))))
    else:
        held = sorted(draw(st.sets(macs, min_size=1, max_size=70)))
        holds = Holds(macs=b"".join(held))
        kept = Holds(macs=b"".join(sorted(draw(st.sets(st.sampled_from(held))))))
    state = draw(st.sampled_from(JobState))
    return RunReport(
        job=draw(st.text(min_size=1, max_size=128)),
        run=draw(st.integers(1, 99)),
        name=draw(st.text(min_size=1, max_size=253)),
        namespace=draw(st.text(max_size=253)),
        kind=draw(st.sampled_from(["batch/Job", "/Pod", "ray.io/RayJob"])),
        state=state,
        start=draw(times),
        end=None if state is JobState.RUNNING else draw(times),
        holds=holds,
        kept=kept,
        newest=draw(st.just(0) | times),
        finished=draw(st.just(0) | times),
        switched=draw(st.booleans()),
    )


@given(run_reports())
def test_every_report_of_a_run_comes_back_as_it_was(report: RunReport) -> None:
    found = read("job", write_spec(record_of(report), "cloudvision", "", location="lab", term=9))
    assert found.record == record_of(report)
    assert (found.location, found.stored.term, found.delivered, found.status) == ("lab", 9, False, None)


@given(
    st.text(min_size=1, max_size=253),
    st.lists(st.tuples(st.text(min_size=1, max_size=20), macs, st.lists(st.ip_addresses()))),
)
def test_every_report_of_a_node_comes_back_as_it_was(node: str, parts: list[tuple[str, bytes, list[Any]]]) -> None:
    nics = tuple(sorted(Nic(name, mac.hex(":"), tuple(map(str, ips))) for name, mac, ips in parts))
    report = NodeReport(node, nics)
    found = read("node", write_spec(record_of(report), "cloudvision", "", location="lab", term=0))
    assert found.record == record_of(report)


def test_a_job_report_is_readable_and_small() -> None:
    report = job_report(
        run=2,
        state=JobState.COMPLETED,
        end=1_700_000_060,
        kept=of_macs([*MACS[:3], MACS[5]]),
        newest=1_699_999_000,
        finished=1_700_000_050,
        switched=True,
    )
    body = write_spec(record_of(report), "cloudvision", "41", location="lab", term=3)
    assert json.loads(body) == {
        "apiVersion": "cloudvision.arista.io/v1",
        "kind": "JobReport",
        "metadata": {
            "name": f"{UID}.2",
            "namespace": "cloudvision",
            "resourceVersion": "41",
            "labels": {
                "app": "cv-job-informer",
                "app.kubernetes.io/name": "cvji",
                "app.kubernetes.io/component": "report",
            },
        },
        "spec": {
            "job": {"name": "train", "namespace": "team", "group": "kubeflow.org", "kind": "PyTorchJob", "uid": UID},
            "run": 2,
            "state": "COMPLETED",
            "startTime": "2023-11-14T22:13:20Z",
            "endTime": "2023-11-14T22:14:20Z",
            "location": "lab",
            "interfaces": list(MACS),
            "interfaceCount": 8,
            "kept": "0-2,5",
            "podsCreatedAfter": "2023-11-14T21:56:40Z",
            "lastContainerFinished": "2023-11-14T22:14:10Z",
            "modeChanged": True,
            "term": 3,
        },
    }


def test_a_job_of_64_nics_and_its_delivery_are_under_4_kb() -> None:
    holds = of_macs(f"02:00:00:00:01:{number:02x}" for number in range(64))
    record = record_of(job_report(holds=holds, kept=holds, run=3, newest=1, finished=1))
    spec = write_spec(record, "cloudvision", "123456789", location="dc-1", term=12)
    status = write_status(record.key, "cloudvision", "123456790", 1, first_status(Delivery(Reason.ACCEPTED, 1)))
    assert len(spec) + len(status) < 3000


def test_a_job_of_60_000_nics_of_which_every_second_is_kept_fits_into_etcd() -> None:
    held = [b"\2\0" + number.to_bytes(4, "big") for number in range(60_000)]
    report = job_report(holds=Holds(macs=b"".join(held)), kept=Holds(macs=b"".join(held[::2])))
    body = write_spec(record_of(report), "cloudvision", "1", location="lab", term=1)
    assert len(body) < 1.5 * 1024 * 1024
    assert read("job", body).record.report == report


# --- names ------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(max_size=300) | st.from_regex(r"[a-z0-9.-]{1,9}", fullmatch=True), max_size=30))
def test_object_names_are_valid_and_nobody_elses(texts: set[str]) -> None:
    names = {object_name(text) for text in texts}
    names |= {object_name(name) for name in names}  # not even what looks like a name that was made
    assert len(names) == len(texts | {object_name(text) for text in texts})
    for name in names:
        assert len(name) <= 253
        assert all(part and part[0] != "-" and part[-1] != "-" for part in name.split("."))
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_a_uid_and_a_node_name_are_their_objects_names() -> None:
    assert object_name(UID) == UID
    assert object_name(f"{UID}.2") == f"{UID}.2"
    assert object_name("gpu-1.example.org") == "gpu-1.example.org"
    assert object_name("UPPER").startswith("sha256-")


# --- status -----------------------------------------------------------------------------------------------------


def with_status(generation: int, status: Status) -> dict[str, Any]:
    found = stored(job_report())
    found["status"] = json.loads(write_status(("job", UID), "cloudvision", "7", generation, status))["status"]
    return found


def test_a_report_is_delivered_when_its_newest_generation_was_accepted() -> None:
    accepted = first_status(Delivery(Reason.ACCEPTED, 1_700_000_100))
    assert read("job", raw(with_status(2, accepted))).delivered
    assert not read("job", raw(with_status(1, accepted))).delivered
    refused = accepted.followed_by(Delivery(Reason.REFUSED, 1_700_000_200, "no such location"))
    assert not read("job", raw(with_status(2, refused))).delivered


def test_what_follows_an_accepted_report_is_pending_and_explain_says_so() -> None:
    newer = read("job", raw(with_status(1, first_status(Delivery(Reason.ACCEPTED, 1_700_000_100)))))
    without = read("job", raw(stored(job_report())))
    assert (newer.reason, without.reason) == (Reason.PENDING, Reason.PENDING)
    lines = tuple(explain._record_lines([newer]))
    assert "    not delivered: Pending" in explain.lines(explain.Answer(None, lines, (), "team/train"), 0)


def test_the_condition_has_cloudvisions_words_and_remembers_when_it_changed() -> None:
    status = first_status(Delivery(Reason.ACCEPTED, 100))
    status = status.followed_by(Delivery(Reason.UNREACHABLE, 200, "HTTP 503"))
    status = status.followed_by(Delivery(Reason.REFUSED, 300, "x" * 5000))
    found = with_status(2, status)
    (condition,) = found["status"]["conditions"]
    assert condition == {
        "type": "Delivered",
        "status": "False",
        "reason": "Refused",
        "message": "x" * 1024,
        "lastTransitionTime": "1970-01-01T00:03:20Z",
        "observedGeneration": 2,
    }
    assert found["status"]["deliveredTime"] == "1970-01-01T00:01:40Z"
    back = read("job", raw(found)).status
    assert back == Status(Delivery(Reason.REFUSED, 200, "x" * 1024), 200, 100)


def test_a_status_that_somebody_else_has_written_is_not_delivered() -> None:
    found = with_status(2, first_status(Delivery(Reason.ACCEPTED, 100)))
    found["status"]["conditions"][0] |= {"status": "False", "reason": "Accepted"}
    assert not read("job", raw(found)).delivered
    found["status"]["conditions"][0]["type"] = "Ready"
    assert read("job", raw(found)).status is None


# --- edited by hand ---------------------------------------------------------------------------------------------

WRONG = [
    ({"state": "DONE"}, "spec.state"),
    ({"startTime": "yesterday"}, "spec.startTime"),
    ({"startTime": "2024-01-01T00:00:00"}, "spec.startTime"),
    ({"endTime": "2024-01-01T00:00:00Z"}, "spec.endTime"),
    ({"state": "FAILED"}, "spec.endTime"),
    ({"interfaces": []}, "spec.interfaces"),
    ({"interfaces": None}, "spec.interfaces"),
    ({"nodes": ["n"]}, "spec.interfaces"),
    ({"interfaces": [MACS[0], "02:00:00:00:00:XX"]}, "spec.interfaces[1]"),
    ({"interfaces": [MACS[0], "00:00:00:00:00:00"]}, "spec.interfaces[1]"),
    ({"interfaces": [f"{MACS[0]} "]}, "spec.interfaces"),
    ({"interfaces": [f"{MACS[0]}\n"]}, "spec.interfaces"),
    ({"interfaces": "all"}, "spec.interfaces"),
    ({"kept": "0-8"}, "spec.kept"),
    ({"kept": "5-4"}, "spec.kept"),
    ({"kept": "3,3"}, "spec.kept"),
    ({"kept": "all"}, "spec.kept"),
    ({"kept": "0,"}, "spec.kept"),
    ({"run": 0}, "spec.run"),
    ({"run": 2}, "metadata.name"),
    ({"term": -1}, "spec.term"),
    ({"job": {"name": "x", "kind": "Job", "uid": ""}}, "spec.job.uid"),
    ({"job": {"name": "x", "kind": "Job", "uid": "other"}}, "metadata.name"),
    ({"job": 5}, "spec.job"),
]


@pytest.mark.parametrize(("change", "field"), WRONG)
def test_what_is_wrong_with_an_edited_job_report_is_named(change: dict[str, Any], field: str) -> None:
    found = stored(job_report())
    found["spec"] |= change
    with pytest.raises(RecordError) as error:
        read("job", raw(found))
    assert field in str(error.value)
    assert f"JobReport {UID}" in str(error.value) or field == "spec.term"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"node": "other"}, "metadata.name"),
        ({"interfaces": [{"name": "eth1", "mac": "aa"}]}, "spec.interfaces[0].mac"),
        ({"interfaces": [{"name": "", "mac": MACS[0]}]}, "spec.interfaces"),
    ],
)
def test_what_is_wrong_with_an_edited_node_report_is_named(change: dict[str, Any], field: str) -> None:
    found = stored(NodeReport("gpu-1", (Nic("eth1", MACS[0], ()),)))
    found["spec"] |= change
    with pytest.raises(RecordError, match="NodeReport gpu-1") as error:
        read("node", raw(found))
    assert field in str(error.value)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"metadata":{}}', b"\xff", b"[" * 5000])
def test_what_is_no_object_is_an_error_of_its_own(body: bytes) -> None:
    with pytest.raises(RecordError):
        read("job", body)
    with pytest.raises(RecordError):
        read_stored(body)


def test_the_order_and_the_doubles_of_an_edited_list_do_not_matter() -> None:
    found = stored(job_report())
    found["spec"]["interfaces"] = [*reversed(MACS), MACS[0]]
    report = read("job", raw(found)).record.report
    assert isinstance(report, RunReport)
    assert report.holds == of_macs(MACS)
    assert split(report.holds.macs) == sorted(split(report.holds.macs))


def test_a_record_has_no_cycles_and_does_not_change() -> None:
    record = record_of(job_report(), 5)
    with pytest.raises(AttributeError):
        record.revision = 6  # type: ignore[misc]
    assert msgspec.structs.replace(record, revision=6).report is record.report
