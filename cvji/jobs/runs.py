"""The runs of one job, by docs/design.md#runs: an explicit state machine.

A run is one closed interval in which a job holds something. A job has one run or several, one after another; each is
an entry of its own in CloudVision, and is never opened again.

    IDLE --holds something--> STARTING --steady, or START_MAX_WAIT--> REPORTED <--> CHANGING
     ^                          |   ^                                    |             |
     |                          v   |  holds something again             v             v
     +--nothing for a while-- VACANT <-------------holds nothing------------------------

    any state --the object says that it ended, or is gone--> ENDED, reported if the run was, or if it should have been
    UNSEEN: the run was reported by a predecessor, and its job's object has not been seen yet

    rule, and where it is tested in tests/unit/test_runs*.py
    begins; reported once steady       test_a_job_is_reported_once_it_has_been_steady
    or START_MAX_WAIT after it began   test_a_pending_pod_delays_the_report_for_a_minute
    its start time                     test_stopped_and_resumed_is_two_closed_runs_each_with_its_own_nics
    changes                            test_a_replaced_pods_macs_are_gone_from_the_next_report
    ends as its object says            test_a_failed_batch_job_ended_when_its_condition_turned
    ended and deleted at once          test_a_job_that_completes_and_is_deleted_is_completed
    gone without an end                test_a_deleted_running_job_is_cancelled_now
    holds nothing any more             test_a_job_that_lost_all_its_pods_is_cancelled_and_runs_again
    stopped, with the last pod gone    test_a_suspended_job_holds_what_is_stuck_and_ends_its_run_with_its_last_pod
    ended before it was reported       test_a_job_first_seen_ended_is_sent_once_by_what_its_pods_say
    and did not run for long enough    test_a_short_run_with_a_pending_pod_is_never_reported

Knows one job's view and the time it is given. Times are seconds since the epoch.
"""

import enum
import math
import sys

import msgspec

from cvji.jobs import replacement, unwatched
from cvji.jobs.kinds import Job
from cvji.jobs.pods import Stage
from cvji.jobs.policy import Policy
from cvji.jobs.report import NOTHING, End, Holds, JobState, RunReport, union
from cvji.jobs.view import Pods, View
from cvji.settings import Mode

# What succeeded pods held is recorded this long after they succeed: many of a job's pods succeed together.
KEEP_DELAY = 2.0


class State(enum.Enum):
    """Where the runs of a job stand."""

    IDLE = "idle"  # no run is in progress
    STARTING = "starting"  # the job holds something, and that is not reported yet
    REPORTED = "reported"  # what the job holds is reported
    CHANGING = "changing"  # reported, and what the job holds has changed since
    VACANT = "vacant"  # the run is in progress, and nothing is held at the moment
    ENDED = "ended"  # the job's object says that it ended
    MISSED = "missed"  # it ended before the run was reported: its pods' own times decide, once they are seen
    UNSEEN = "unseen"  # reported by a predecessor; the job's object has not been seen yet


class Runs:
    """The runs of one job. `judge` says what is to be reported, and `due` when to judge again without an event."""

    __slots__ = (
        "_began", "_changes", "_first_seen", "_held_changes", "_keep_at", "_kept", "_lacking", "_let_go",
        "_missed_newest", "_newest", "_not_before", "_pending", "_policy", "_since", "_steady", "_succeeded",
        "_vacant", "due", "ended_at", "over", "reported", "state",
    )  # fmt: skip

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._first_seen = now
        self.state = State.IDLE
        self.reported: RunReport | None = None  # the newest report, of the current run or of the last one
        self.due = math.inf
        self.over = -math.inf  # the last judgement ended a run: pods created by then belong to it
        self._pending: frozenset[str] = frozenset()  # pods that had not run when the job had ended, unreported
        self._newest = 0  # creation time of the newest pod that ran in earlier runs
        self._not_before = 0  # what the job holds belonged to another job until then
        self._kept = NOTHING  # held by succeeded pods that no object shows any more, as far as that is recorded
        self.ended_at = 0  # when the job ended, by its object or as that was first seen
        self._lacking: bool | None = None  # a failed pod is not replaced; None: not known since the last change
        self._missed_newest = 0  # what `_newest` will be, should the job go on after an end that was not reported
        self._let_go = int(now)  # when it let the last NIC go
        self._began = self._since = self._steady = self._vacant = now
        self._keep_at = math.inf
        self._changes = self._held_changes = self._succeeded = -1  # counters of the group, as last judged

    def restore(self, report: RunReport) -> None:
        """Go on from the newest report of a predecessor."""
        self.reported = report
        self._newest = report.newest
        if report.end is None:
            self.state = State.UNSEEN
            self._kept = report.kept if self._same_mode(report) else NOTHING
        elif report.state is not JobState.CANCELLED:  # only the job's object says so
            self.state, self.ended_at = State.ENDED, report.end

    def resume_as_reported(self, view: View) -> None:
        """Go on from a report that says what is held just now: nothing has changed since."""
        self.state, self._held_changes = State.REPORTED, view.group.held_changes

    def follows(self, end: int) -> None:
        """What the job holds belonged to another job until `end`."""
        self._not_before = max(self._not_before, end)

    def rewind(self, now: float) -> None:
        """The clock was set back to `now`: nothing may have begun later than that."""
        self._first_seen, self._began = min(self._first_seen, now), min(self._began, now)
        self._since, self._steady = min(self._since, now), min(self._steady, now)
        self._vacant, self._let_go = min(self._vacant, now), min(self._let_go, int(now))
        self.ended_at = min(self.ended_at, int(now))
        if self._keep_at < math.inf:
            self._keep_at = min(self._keep_at, now)

    @property
    def in_progress(self) -> RunReport | None:
        """The newest report of the run that is in progress, if there is one."""
        return self.reported if self.reported is not None and self.reported.end is None else None

    def waiting(self) -> tuple[float, float]:
        """Since when the present state has waited, and until when it will if nothing changes; infinite: for ever."""
        match self.state:
            case State.CHANGING:
                steady = self._steady + self._policy.stability_delay
                return self._since, min(steady, self._since + self._policy.max_wait)
            case State.VACANT:
                return self._vacant, self._vacant + self._policy.max_wait
            case _:
                return self._steady, self.due

    def begins(self, view: View) -> bool:
        """Whether the job holds something, and no run of it has begun."""
        unseen = self.state is State.VACANT and self._began == math.inf and self.in_progress is None
        return view.group.holding > 0 and (unseen or self.state is State.IDLE)

    def reopen(self) -> int | None:
        """ENDED or MISSED -> IDLE: the job runs again, by `argo retry` for example.

        Returns when the newest pod of the run was created that had not been reported, if there was one.
        """
        missed = self._missed_newest if self.state is State.MISSED else None
        if missed is not None:
            self._newest = max(self._newest, missed)
        if self.state in (State.ENDED, State.MISSED):
            self.state = State.IDLE
        return missed

    # --- judging ------------------------------------------------------------------------------------

    def judge(self, view: View, pods: Pods, now: float, *, owner_expected: bool = False) -> RunReport | None:
        """What is to be reported now.

        `owner_expected`: an owner of the job may yet be seen, which then counts in its place.
        """
        self.due, self.over = math.inf, -math.inf
        if view.job is None or not view.independent:
            return self._gone(view, pods, now, owner_expected=owner_expected)
        if view.end is not None:
            return self._end(view, view.job, view.end, pods, now)
        if self.state is State.UNSEEN:
            self._since = now
            self._resume(State.CHANGING, now)
        if not view.group.holding:
            return self._vacate(view, view.job, pods, now)
        if self.begins(view):
            self._begin(now)
        elif self.state is State.VACANT:
            self._resume(State.CHANGING if self.in_progress else State.STARTING, now)
        if self.state is State.STARTING:
            return self._start(view, view.job, pods, now, owner_expected=owner_expected)
        return self._change(view, view.job, pods, now)

    def kept(self, view: View, pods: Pods, now: float) -> RunReport | None:
        """The newest report with what succeeded pods held by now, if a successor could not see that any more."""
        report = self.in_progress
        if report is None or view.group.succeeded == self._succeeded:
            return None
        if self._keep_at == math.inf:
            self._keep_at = now + KEEP_DELAY
        if self._keep_at > now:
            self.due = min(self.due, self._keep_at)
            return None
        self._note_kept(view, pods)
        finished = max(report.finished, view.group.finished)
        if self._kept == report.kept:
            return None
        self.reported = msgspec.structs.replace(report, kept=self._kept, finished=finished)
        return self.reported

    def _note_kept(self, view: View, pods: Pods) -> None:
        self._keep_at, self._succeeded = math.inf, view.group.succeeded
        succeeded = (pod for pod in pods.pods(view.uid) if pod.stage is Stage.SUCCEEDED)
        self._kept = union([self._kept, pods.left(view.uid), *map(pods.holds, succeeded)])

    # --- transitions --------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """IDLE -> STARTING: the job holds something."""
        self.state = State.STARTING
        self._began = self._steady = now
        self._changes = -1

    def _resume(self, state: State, now: float) -> None:
        """VACANT or UNSEEN -> CHANGING or STARTING: the run goes on, and what it holds is to be compared."""
        self.state, self._steady = state, now
        self._since = min(self._since, now)  # a job whose pods come and go is reported all the same

    def _start(self, view: View, job: Job, pods: Pods, now: float, *, owner_expected: bool) -> RunReport | None:
        """STARTING -> REPORTED: steady with every pod there, or after START_MAX_WAIT."""
        if self._changes != view.group.changes:
            self._changes, self._steady, self._lacking = view.group.changes, now, None
        earliest = self._first_seen + self._policy.max_wait if owner_expected else -math.inf
        at_last = max(self._began + self._policy.start_max_wait, earliest)
        steady = max(self._steady + self._policy.stability_delay, earliest)
        if now < at_last and (view.group.pending or now < steady or self._lacks_a_pod(view, pods)):
            self.due = min(at_last, steady) if now < steady and not view.group.pending else at_last
            return None
        held = pods.counts(view.uid)
        self._note_kept(view, pods)
        start = self._start_time(view, job, now)
        return self._report(view, job, JobState.RUNNING, start, None, union([held, self._kept]))

    def _lacks_a_pod(self, view: View, pods: Pods) -> bool:
        if self._lacking is None:
            self._lacking = view.group.failed > 0 and replacement.lacking(pods.pods(view.uid))
        return self._lacking

    def _change(self, view: View, job: Job, pods: Pods, now: float) -> RunReport | None:
        """REPORTED <-> CHANGING: what the job holds has changed; it is reported once it is steady."""
        report = self.in_progress
        assert report is not None  # noqa: S101  what the two states mean
        if self._held_changes != view.group.held_changes:
            if self.state is State.REPORTED:
                self.state, self._since = State.CHANGING, now
            self._held_changes, self._steady = view.group.held_changes, now
        if self.state is State.REPORTED:
            return None
        due = min(self._steady + self._policy.stability_delay, self._since + self._policy.max_wait)
        if now < due:
            self.due = due
            return None
        self.state = State.REPORTED
        held = union([pods.counts(view.uid), self._kept])
        if held == report.holds:
            return None
        self._note_kept(view, pods)
        return self._report(view, job, JobState.RUNNING, report.start, None, held)

    def _vacate(self, view: View, job: Job, pods: Pods, now: float) -> RunReport | None:
        """-> VACANT -> IDLE: the job holds nothing; at once if it is stopped, else for START_MAX_WAIT."""
        if self.state is State.IDLE:
            finished = view.group.finished
            # Not where it ended before the start that the object speaks of now: then nothing is known of that run.
            if not finished or not self._unseen_pods(view) or finished < (job.started or 0):
                return None
            self.state, self._vacant, self._let_go = State.VACANT, now, int(min(now, finished))
            self._began = math.inf  # what holds something next begins a run
        elif self.state is not State.VACANT:
            if self.state is not State.CHANGING:
                self._since = math.inf
            self.state, self._vacant, self._let_go = State.VACANT, now, int(now)
        due = self._vacant + (0.0 if job.stopped else self._policy.max_wait)
        if now < due:
            self.due = due
            return None
        report = self._finish(view, job, End(JobState.CANCELLED, self._let_go), pods, now)
        self._close(view)
        return report

    def _end(self, view: View, job: Job, end: End, pods: Pods, now: float) -> RunReport | None:
        """-> ENDED, or MISSED where the run had not been reported."""
        if self.state not in (State.ENDED, State.MISSED):
            self.ended_at = self._end_time(view, end, now)
        if self.state is State.IDLE and self.reported is not None and not self._unseen_pods(view):
            self.state = State.ENDED
        if self.state is State.ENDED:
            return None
        if self.state is State.MISSED:
            if self._changes == view.group.changes:
                return None
            due = self._steady + self._policy.stability_delay  # its pods' ends come one by one
            if now < due:
                self.due = due
                return None
        self._changes, self._steady, self._missed_newest = view.group.changes, now, view.group.newest
        report = self._finish(view, job, End(end.state, self.ended_at), pods, now)
        self.state, self._kept = State.MISSED if report is None else State.ENDED, NOTHING
        self.over = -math.inf if report is None else math.inf
        return report

    def _unseen_pods(self, view: View) -> bool:
        """Whether pods came and went that no run of the job has accounted for."""
        return view.group.newest > self._newest

    def _gone(self, view: View, pods: Pods, now: float, *, owner_expected: bool) -> RunReport | None:
        """-> IDLE: the job's object is gone, or what it holds counts for another job from now on."""
        last, end = view.last, End(JobState.CANCELLED)
        if last is not None and view.independent:
            end = view.end or last.end_if_deleted or end
        vacant = self.state is State.VACANT and not view.group.holding
        if end.at is None and self.state is State.MISSED:
            end = End(end.state, self.ended_at)
        elif end.at is None and end.state is JobState.CANCELLED and vacant:
            end = End(JobState.CANCELLED, self._let_go)
        report = None
        missed = last is not None and view.independent and self.state is not State.ENDED and not owner_expected
        if missed and self.reported is not None:  # a stalled watch may show its pods late
            missed = any(pod.created > (self.reported.end or 0) for pod in pods.new_pods(view.uid))
        if self.in_progress is not None or missed:
            report = self._finish(view, last, end, pods, now)
        self._close(view)
        return report

    def _close(self, view: View) -> None:
        """-> IDLE: the run is over, and its pods belong to it."""
        self.state, self.over = State.IDLE, math.inf
        self._newest = max(view.group.newest, self._newest)
        self._kept = NOTHING

    # --- the end of a run ---------------------------------------------------------------------------

    def _end_time(self, view: View, end: End, now: float) -> int:
        """When a run ended: where the job's object does not say, when the last of its pods had, or now."""
        if end.at is not None:
            return end.at
        if end.state is JobState.CANCELLED or view.group.holding:
            return int(now)
        finished = max(view.group.finished, report.finished if (report := self.in_progress) else 0)
        return min(finished, int(now)) or int(now)  # a node's clock may be ahead

    def _finish(self, view: View, job: Job | None, end: End, pods: Pods, now: float) -> RunReport | None:
        """The run's terminal report, if it was reported or should have been."""
        report = self.in_progress
        at = self._end_time(view, end, now)
        if report is None:
            return self._missed(view, job, end, at, pods, now) if job is not None else None
        held = union([pods.counts(view.uid, end.at or math.inf), self._kept])
        switched = report.switched
        if self._same_mode(report):
            held = union([report.holds, held])
        elif held:
            switched = True
        self._newest = max(view.group.newest, self._newest)
        self.reported = report.ended(end.state, at, held or report.holds, self._newest, switched=switched)
        return self.reported

    def _same_mode(self, report: RunReport) -> bool:
        """Whether JOBCONFIG_MODE is what it was at that report."""
        return bool(report.holds.nodes) is (self._policy.mode is Mode.NODE)

    def _missed(self, view: View, job: Job, end: End, at: int, pods: Pods, now: float) -> RunReport | None:
        """The one report of a run that ended before it was reported, if by its pods' own times it should have been."""
        delay, wait = self._policy.stability_delay, self._policy.max_wait
        everyone = pods.new_pods(view.uid, end.at or math.inf)
        ran = unwatched.held_long_enough(everyone, at, int(now), delay, wait, self._pending)
        self._pending = unwatched.pending(everyone, self._pending)
        held = union([*map(pods.holds, ran), pods.left(view.uid)]) if ran else NOTHING
        if not held:
            return None
        start = self._start_time(view, job, now)
        return self._report(view, job, end.state, start, max(at, start), held)

    # --- what is reported ---------------------------------------------------------------------------

    def _start_time(self, view: View, job: Job, now: float) -> int:
        """The object's own start where that is not before the end of the run before; else that of the run's pods."""
        previous = max(self._not_before, (self.reported.end or 0) if self.reported else 0)
        if job.started and job.started >= previous:
            return job.started
        # Without a pod of its own, what the run holds was left by the run before it.
        return max(view.group.started or previous or job.created or int(now), previous)

    def _report(self, view: View, job: Job, state: JobState, start: int, end: int | None, held: Holds) -> RunReport:
        """What is to be reported of the current run; where none is reported yet, the next one."""
        current = self.in_progress
        run = current.run if current else self.reported.run + 1 if self.reported else 1
        if end is not None:
            self._newest = max(view.group.newest, self._newest)
        self.reported = RunReport(
            job=job.uid,
            run=run,
            name=job.name,
            namespace=job.namespace,
            kind=sys.intern(str(job.kind)),
            state=state,
            start=start,
            end=end,
            holds=held,
            kept=self._kept if end is None else NOTHING,
            newest=self._newest,
            finished=view.group.finished if end is None else 0,
            switched=current is not None and (current.switched or not self._same_mode(current)),
        )
        if end is None:
            self.state = State.REPORTED
            self._held_changes = view.group.held_changes
        return self.reported
