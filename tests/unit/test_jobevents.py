"""Events on jobs: what is written, once each, within a budget, and never at reporting's cost."""

import json
from typing import Any

import pytest

from cvji.cloudvision.client import Answer, Verdict
from cvji.informer.jobevents import BURST, QUEUE, REFILL, Announcer, Note, Writer
from cvji.jobs.report import JobState, RunReport, of_macs
from cvji.kube.client import ApiError
from cvji.kube.events import Resource
from tests.unit.world import macs

DELIVERED = Answer(Verdict.DELIVERED, 200)


def run(state: JobState = JobState.RUNNING, *numbers: int, job: str = "uid", name: str = "j") -> RunReport:
    end = None if state is JobState.RUNNING else 60
    return RunReport(job, 1, name, "team", "batch/Job", state, 0, end, of_macs(macs(*(numbers or (1,)))))


class Notes:
    """An announcer, and what it wrote."""

    def __init__(self) -> None:
        self.written: list[Note] = []
        self.announcer = Announcer(self.written.append, lambda: 100.0)
        self.announcer.served([Resource("batch", "v1", "Job", "jobs")])

    def report(self, decided: RunReport, *answers: Answer) -> None:
        self.announcer.decided(decided)
        for answer in answers:
            self.announcer.answered(("job", decided.id), answer)

    def events(self) -> list[tuple[str, str]]:
        return [(note.reason, note.message) for note in self.written]


def test_a_report_is_announced_once_cloudvision_has_it_then_its_changes_and_its_end() -> None:
    notes = Notes()
    notes.report(run(JobState.RUNNING, 1, 2))
    assert notes.events() == []
    notes.report(run(JobState.RUNNING, 1, 2), DELIVERED, DELIVERED)
    notes.report(run(JobState.RUNNING, 1), DELIVERED)
    notes.report(run(JobState.COMPLETED, 1, 2), DELIVERED)
    assert notes.events() == [
        ("CloudVisionReported", "Reported to CloudVision: RUNNING with 2 NICs"),
        ("CloudVisionChanged", "Reported to CloudVision: now RUNNING with 1 NICs"),
        ("CloudVisionEnded", "Reported to CloudVision: COMPLETED, with 2 NICs"),
    ]
    assert notes.written[0].api_version == "batch/v1"


def test_a_refusal_is_written_once_in_cloudvisions_words() -> None:
    notes = Notes()
    refused = Answer(Verdict.REFUSED, 400, "location is not known")
    notes.report(run(), refused, refused, Answer(Verdict.BUSY), DELIVERED)
    assert notes.events() == [
        ("CloudVisionRefused", "CloudVision refuses the report: HTTP 400: location is not known"),
        ("CloudVisionReported", "Reported to CloudVision: RUNNING with 1 NICs"),
    ]
    assert [note.warning for note in notes.written] == [True, False]


class Api:
    """Takes Events as the API server does."""

    def __init__(self, *refusals: int, causes: tuple[str, ...] = ()) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.refusals, self.causes = list(refusals), causes

    def send(self, method: str, path: str, body: bytes, **_: object) -> bytes:
        self.sent.append((method, path, json.loads(body)))
        if self.refusals and (code := self.refusals.pop(0)):
            raise ApiError(code, "no", causes=self.causes)
        return b"{}"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def writer(api: Api, clock: Clock | None = None) -> Writer:
    return Writer(api, "informer-a", clock or Clock(), start=False)  # type: ignore[arg-type]


def note(reason: str = "CloudVisionChanged", job: str = "uid", name: str = "j") -> Note:
    return Note(run(job=job, name=name), "batch/v1", reason, "words", False, 100.0)


def test_a_repetition_changes_the_event_that_is_there() -> None:
    api = Api()
    writes = writer(api)
    for reason in ("CloudVisionChanged", "CloudVisionChanged", "CloudVisionEnded"):
        writes.write(note(reason))
    assert [method for method, _, _ in api.sent] == ["POST", "PATCH", "POST"]
    made, changed = api.sent[0][2], api.sent[1]
    assert made["involvedObject"] == {
        "apiVersion": "batch/v1", "kind": "Job", "name": "j", "namespace": "team", "uid": "uid",
    }  # fmt: skip
    assert changed[1] == f"/api/v1/namespaces/team/events/{made['metadata']['name']}"
    assert changed[2]["count"] == 2


def test_an_event_that_has_expired_is_made_again_and_one_of_a_former_leader_is_changed() -> None:
    api = Api(0, 404, 0)
    writes = writer(api)
    writes.write(note())
    writes.write(note())
    assert [method for method, _, _ in api.sent] == ["POST", "PATCH", "POST"]
    api = Api(409, 0)
    writer(api).write(note())
    assert [method for method, _, _ in api.sent] == ["POST", "PATCH"]


def test_a_job_that_changes_all_the_time_has_a_budget_of_its_own() -> None:
    api, clock = Api(), Clock()
    writes = writer(api, clock)
    for _ in range(BURST + 10):
        writes.write(note())
    assert len(api.sent) == BURST
    writes.write(note(job="other", name="other"))
    assert len(api.sent) == BURST + 1
    clock.now = REFILL + 1
    writes.write(note())
    assert len(api.sent) == BURST + 2


def test_without_permission_it_is_logged_and_not_tried_for_a_while() -> None:
    api, clock = Api(403), Clock()
    writes = writer(api, clock)
    writes.write(note())
    writes.write(note(job="other"))
    assert len(api.sent) == 1
    clock.now = 601
    writes.write(note(job="third"))
    assert len(api.sent) == 2


def test_an_event_in_a_namespace_that_is_being_deleted_is_dropped_alone(caplog: pytest.LogCaptureFixture) -> None:
    api = Api(403, causes=("NamespaceTerminating",))
    writes = writer(api)
    writes.write(note())
    writes.write(note(job="other"))
    assert [method for method, _, _ in api.sent] == ["POST", "POST"]
    assert not caplog.records


def test_a_queue_that_is_full_drops_events_and_never_blocks() -> None:
    writes = writer(Api())
    for number in range(QUEUE + 50):
        writes.put(note(job=str(number)))
