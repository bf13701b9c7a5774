"""The judge itself: small histories written by hand, told rightly and wrongly; and a right program's reports, spoilt."""

from typing import Any

import msgspec
import pytest

from tests.torture.cluster import BATCH, RAYCLUSTER, RAYJOB, START, TORCH, Change, Claim, End, Job, Kind, Pod
from tests.torture.evidence import Evidence, Rules
from tests.torture.judge import JobJudge, by_job, judge
from tests.torture.play import Faults, History
from tests.torture.reference import ReferenceDriver
from tests.torture.shown import Entry, Shown
from tests.torture.test_histories import CLAIMS
from tests.torture.truth import read_log

A, B, C = (f"02:00:00:00:00:{n:02x}" for n in (1, 2, 3))


class Story:
    """A history by hand: what happened, and what CloudVision was told, in seconds from its beginning."""

    def __init__(self, until: float = 400.0) -> None:
        self.log: list[Change] = []
        self.shown = Shown()
        self.until = until
        self.now: dict[str, Any] = {}

    def put(self, at: float, kind: str, obj: Any) -> None:
        self.now[obj.uid] = obj
        self.log.append(Change(START + at, kind, obj.uid, obj, False))

    def job(self, at: float, uid: str = "job", kind: Kind = TORCH, **fields: Any) -> None:
        """Create a job, or change it."""
        old = self.now.get(uid)
        made = Job(uid, kind, None, int(START + at), int(START + at))
        self.put(at, "jobs", msgspec.structs.replace(old or made, **fields))

    def pod(self, at: float, uid: str, phase: str = "Running", *macs: str, owner: str = "job", **fields: Any) -> None:
        """Create a pod that runs, or change it."""
        old: Pod | None = self.now.get(uid)
        stamp = int(START + at)
        if old is None:
            kind = self.now[owner].kind
            old = Pod(uid, owner, kind, uid.rpartition("-")[2], "worker-0", stamp, macs=macs)
        if phase == "Running":
            fields |= {"started": old.started or stamp, "ran_from": old.ran_from or stamp}
        elif phase in ("Succeeded", "Failed"):
            fields |= {"finished": stamp}
        self.put(at, "pods", msgspec.structs.replace(old, phase=phase, **fields))

    def ends(self, at: float, state: str, uid: str = "job") -> None:
        self.job(at, uid, end=End(state, int(START + at)))

    def gone(self, at: float, *uids: str) -> None:
        for uid in uids:
            obj = self.now.pop(uid)
            kind = "jobs" if isinstance(obj, Job) else "pods"
            self.log.append(Change(START + at, kind, uid, obj, True))

    def told(self, at: float, run: str, state: str, start: float, end: float | None, *macs: str) -> None:
        entry = Entry(
            START + at,
            run,
            state,
            START + start,
            None if end is None else START + end,
            frozenset(macs),
            frozenset(),
        )
        self.shown.jobs[run].append(entry)

    def wrong(self) -> list[str]:
        evidence = Evidence.undisturbed(START, START + self.until, len(self.log))
        return judge(self.log, evidence, self.shown, Rules())


def one_run() -> Story:
    """A job of two pods that runs for 100 s and completes."""
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Running", B)
    story.pod(110, "pod-0", "Succeeded")
    story.pod(110, "pod-1", "Succeeded")
    story.ends(111, "COMPLETED")
    return story


def suspended() -> Story:
    """A job that is suspended and resumed, with other NICs."""
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.job(60, suspended=True)
    story.gone(62, "pod-0")
    story.job(100, suspended=False, started=int(START + 100))
    story.pod(100, "pod-00", "Running", B)
    return story


def test_a_run_told_rightly_is_accepted() -> None:
    story = one_run()
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.told(112, "job", "COMPLETED", 10, 111, A, B)
    assert story.wrong() == []


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([], "no run for what it held"),
        ([(16, "job", "RUNNING", 10, None, A, B)], "is RUNNING, not ['COMPLETED']"),
        ([(16, "job", "RUNNING", 10, None, A, B), (112, "job", "FAILED", 10, 111, A, B)], "ended FAILED"),
        ([(16, "job", "RUNNING", 10, None, A, B), (112, "job", "COMPLETED", 10, 112, A, B)], "ended COMPLETED at"),
        ([(16, "job", "RUNNING", 9, None, A, B), (112, "job", "COMPLETED", 9, 111, A, B)], "starts at"),
        ([(16, "job", "RUNNING", 10, None, A), (112, "job", "COMPLETED", 10, 111, A)], "holds"),
        ([(16, "job", "RUNNING", 10, None, A, B), (112, "job", "COMPLETED", 10, 111, A, B, C)], "holds"),
        ([(40, "job", "RUNNING", 10, None, A, B), (112, "job", "COMPLETED", 10, 111, A, B)], "showed None, not"),
        ([(16, "job", "RUNNING", 10, None, A, B), (190, "job", "COMPLETED", 10, 111, A, B)], "later than"),
        ([(16, "job.2", "RUNNING", 10, None, A, B), (112, "job.2", "COMPLETED", 10, 111, A, B)], "runs are ['job.2']"),
    ],
)
def test_each_kind_of_wrong_report_is_found(told: list[Any], why: str) -> None:
    story = one_run()
    for entry in told:
        story.told(*entry)
    assert any(why in text for text in story.wrong()), story.wrong()


def test_suspension_and_resumption_are_two_closed_runs() -> None:
    story = suspended()
    story.told(16, "job", "RUNNING", 10, None, A)
    story.told(63, "job", "CANCELLED", 10, 62, A)
    story.told(106, "job.2", "RUNNING", 100, None, B)
    assert story.wrong() == []


def test_two_runs_told_as_one_are_found() -> None:
    story = suspended()
    story.told(16, "job", "RUNNING", 10, None, A)
    story.told(106, "job", "RUNNING", 100, None, B)
    assert story.wrong() != []


def test_a_run_that_is_not_closed_while_nothing_is_held_is_found() -> None:
    story = suspended()
    story.told(16, "job", "RUNNING", 10, None, A)
    story.told(106, "job.2", "RUNNING", 100, None, B)
    assert any("is RUNNING" in text for text in story.wrong())


def test_a_mac_shown_by_a_run_that_let_it_go_is_found() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Running", B)
    story.gone(50, "pod-1")
    story.told(16, "job", "RUNNING", 10, None, A, B)
    assert any("let go at" in text for text in story.wrong())


def test_a_pod_that_exits_0_while_it_is_deleted_does_not_count() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Running", B)
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.pod(50, "pod-1", "Running", deleting=int(START + 50))
    story.pod(52, "pod-1", "Succeeded")
    story.gone(53, "pod-1")
    story.told(58, "job", "RUNNING", 10, None, A)
    assert story.wrong() == []
    story.told(59, "job", "RUNNING", 10, None, A, B)
    assert story.wrong() != []


def test_a_pod_that_succeeded_counts_on_when_it_is_gone() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Running", B)
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.pod(50, "pod-1", "Succeeded")
    story.gone(60, "pod-1")
    assert story.wrong() == []
    story.told(66, "job", "RUNNING", 10, None, A)
    assert story.wrong() != []


def test_a_job_without_pods_for_start_max_wait_has_ended_its_run() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.gone(50, "pod-0")
    story.told(16, "job", "RUNNING", 10, None, A)
    assert any("is RUNNING" in text for text in story.wrong())
    story.told(111, "job", "CANCELLED", 10, 50, A)
    assert story.wrong() == []


def test_a_job_deleted_right_behind_its_end_has_completed() -> None:
    story = one_run()
    story.gone(111, "job", "pod-0", "pod-1")
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.told(112, "job", "CANCELLED", 10, 111, A, B)
    assert any("CANCELLED" in text for text in story.wrong())


def test_a_pod_that_stays_pending_holds_a_run_back_for_start_max_wait() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Pending")
    story.told(71, "job", "RUNNING", 10, None, A)
    assert story.wrong() == []
    story.shown = Shown()
    assert story.wrong() != []


@pytest.mark.parametrize("pending", [True, False])
def test_a_short_run_is_told_once_unless_a_pod_was_pending_all_the_time(pending: bool) -> None:
    story = Story()
    story.job(10, kind=BATCH)
    story.pod(10, "pod-0", "Running", A)
    for at in (12, 15, 18):  # never steady
        story.pod(at, f"pod-{at}", "Running", B)
        story.gone(at + 2, f"pod-{at}")
    if pending:
        story.pod(10, "pod-1", "Pending")
    story.pod(22, "pod-0", "Succeeded")
    story.ends(22, "COMPLETED")
    nothing = story.wrong()
    story.told(23, "job", "COMPLETED", 10, 22, A)
    told = story.wrong()
    assert told == [] if not pending else nothing == [] and told != []


def test_a_container_that_never_started_is_no_run() -> None:
    story = Story()
    story.job(10, kind=BATCH)
    story.pod(10, "pod-0", "Pending", A)
    story.pod(12, "pod-0", "Failed", started=int(START + 10))
    story.ends(13, "FAILED")
    assert story.wrong() == []
    story.told(14, "job", "FAILED", 10, 13, A)
    assert any("was not" in text for text in story.wrong())


def test_a_cluster_that_outlives_its_job_is_a_job_of_its_own() -> None:
    story = Story()
    story.job(10, kind=RAYJOB)
    story.job(10, "cluster", RAYCLUSTER, owner="job", started=None)
    story.pod(10, "pod-0", "Running", A, owner="cluster")
    story.ends(60, "COMPLETED")
    story.told(16, "job", "RUNNING", 10, None, A)
    story.told(61, "job", "COMPLETED", 10, 60, A)
    assert any("cluster: no run" in text for text in story.wrong())
    story.told(126, "cluster", "RUNNING", 10, None, A)
    assert story.wrong() == []


def test_what_a_pod_owned_is_its_jobs_though_that_pod_goes_first() -> None:
    story = Story()
    story.job(10, kind=BATCH)
    story.pod(10, "pod-0", "Running", A)
    story.put(10, "pods", msgspec.structs.replace(story.now["pod-0"], uid="pod-1", owner="pod-0", macs=(B,)))
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.gone(50, "pod-0")
    assert any("let go at" in text for text in story.wrong())
    story.told(56, "job", "RUNNING", 10, None, B)
    assert story.wrong() == []


def test_a_claim_published_late_is_a_change() -> None:
    story = Story()
    story.job(10)
    story.pod(10, "pod-0", "Running", A)
    story.pod(10, "pod-1", "Running", claim="pod-1")
    story.put(10, "claims", Claim("pod-1"))
    story.log.append(Change(START + 30, "claims", "pod-1", Claim("pod-1", (B,)), False))
    story.told(16, "job", "RUNNING", 10, None, A)
    assert any("holds" in text for text in story.wrong())
    story.told(36, "job", "RUNNING", 10, None, A, B)
    assert story.wrong() == []


def test_a_run_of_no_job_is_found() -> None:
    story = one_run()
    story.told(16, "job", "RUNNING", 10, None, A, B)
    story.told(112, "job", "COMPLETED", 10, 111, A, B)
    story.told(16, "other", "RUNNING", 10, None, A)
    assert story.wrong() == ["other is no job"]


# --- a right program's reports, spoilt -------------------------------------------------------------------


def spoil_state(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, state="FAILED" if entry.state == "COMPLETED" else "COMPLETED")


def spoil_start(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, start=entry.start - 500)


def spoil_end(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, end=(entry.end or entry.at) + 500)


def spoil_macs(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, macs=entry.macs | {"02:ff:ff:ff:ff:ff"})


def spoil_all_macs(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, macs=frozenset(["02:ff:ff:ff:ff:ff"]))


@pytest.mark.parametrize("faults", [Faults(any=False), Faults(warm=True)], ids=["undisturbed", "faults"])
def test_every_spoilt_last_report_is_found(faults: Faults) -> None:
    found = 0
    for seed in range(5):
        history = History(seed, options=CLAIMS, faults=faults, driver=ReferenceDriver())
        history.run()
        assert history.judge() == []
        jobs, evidence, rules = by_job(history.shown), history.evidence, history.rules
        for subject in read_log(history.cluster.log, rules, evidence.until):
            for run, entries in jobs.get(subject.uid, []):
                right = entries[-1]
                for spoil in (spoil_state, spoil_start, spoil_end, spoil_macs, spoil_all_macs):
                    entries[-1] = spoil(right)
                    wrong = JobJudge(subject, jobs[subject.uid], evidence, rules).differences()
                    assert wrong != [], f"seed {seed}: {run}: {entries[-1]}"
                    found += 1
                entries[-1] = right
    assert found > 100


def test_runs_left_out_of_undisturbed_histories_are_found() -> None:
    left_out, missed = 0, []
    for seed in range(10):
        history = History(seed, options=CLAIMS, faults=Faults(any=False), driver=ReferenceDriver())
        history.run()
        for run in [run for run, entries in history.shown.jobs.items() if entries[0].state == "RUNNING"]:
            entries = history.shown.jobs.pop(run)
            left_out += 1
            missed += [f"seed {seed}: {run}"] if history.judge() == [] else []
            history.shown.jobs[run] = entries
    assert len(missed) < left_out / 20, missed  # those that were steady for as long as it takes, to the second
