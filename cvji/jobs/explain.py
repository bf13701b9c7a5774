"""Why a job is, or is not, reported: what is read of it and of its pods, in words. Pure.

Nothing is decided here: the informer's own tracker does that (`replay`), and this says what it has found.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from cvji.jobs import replacement
from cvji.jobs.cluster import Cluster
from cvji.jobs.kinds import Job
from cvji.jobs.pods import Pod, Stage
from cvji.jobs.policy import Policy
from cvji.jobs.replay import Recorded, Replay, Snapshot, replay
from cvji.jobs.report import RunReport, union
from cvji.jobs.runs import Runs, State
from cvji.kube.events import Applied
from cvji.settings import Mode

NAMED = 3  # pods that a sentence names
_REPORTED = "nothing: what it holds is reported"
_WHY = {
    Stage.PENDING: "is Pending: it holds nothing before it runs",
    Stage.FAILED: "failed: it holds nothing any more",
    Stage.RELEASED: "was deleted before it had ended: it holds nothing any more",
}


class Nic(msgspec.Struct, frozen=True):
    """A NIC's MAC address, or a node with JOBCONFIG_MODE=node, and what says that the pod holds it."""

    address: str
    source: str


class PodLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pod. `counts`: it is part of what the run holds. `notes` say what was left out, and why."""

    name: str
    stage: str
    node: str
    counts: bool
    nics: tuple[Nic, ...]
    notes: tuple[str, ...]
    created: int
    started: int | None = None
    finished: int | None = None


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job. Times are seconds since the epoch.

    `climb` leads from pods to the reported job, a line a way. `state` is that of its run (runs.State), `waits_for` what
    would change it, `since` and `due` from when and until when at the latest. `holds` counts the `things` that
    it holds: NICs, or nodes.
    """

    job: str
    uid: str
    climb: tuple[str, ...]
    pods: tuple[PodLine, ...]
    state: str
    waits_for: str
    holds: int
    things: str
    since: int | None = None
    due: int | None = None
    problems: tuple[str, ...] = ()


def clock(at: float, now: float) -> str:
    """A time of day in UTC; with its date where that is not today's."""
    then = datetime.fromtimestamp(int(at), UTC)
    same = then.date() == datetime.fromtimestamp(int(now), UTC).date()
    return then.strftime("%H:%M:%SZ" if same else "%Y-%m-%dT%H:%M:%SZ")


def reported_job(snapshot: Snapshot, policy: Policy, uid: str, now: float) -> str:
    """The uid of the job that the object `uid` counts for; if all above it ended a while ago, the topmost of them."""
    played = replay(msgspec.structs.replace(snapshot, recorded=()), policy, now)
    if root := played.tracker.cluster.root(uid):
        return root
    untimed = Cluster(policy.mode, policy.owner)
    for found in (*snapshot.jobs, *snapshot.pods):
        untimed.apply(Applied(found))
    return untimed.root(uid)


def explain(
    snapshot: Snapshot,
    policy: Policy,
    uid: str,
    now: float,
    *,
    records_read: bool,
    notes: dict[str, list[str]] | None = None,
    problems: Iterable[str] = (),
) -> Explanation:
    """What the informer makes of the job `uid`, by the same code.

    `records_read`: what was reported is known, and `snapshot.recorded` says all of it. `notes` are the readers' own
    notes about what they left out, by "pod NAMESPACE/NAME" and "claim NAMESPACE/NAME".
    """
    played = replay(snapshot, policy, now)
    cluster = played.tracker.cluster
    view, runs = cluster.view(uid), played.tracker.runs(uid)
    job = view.job or view.last
    mine = [pod for pod in snapshot.pods if pod.owner and cluster.root(pod.owner) == uid]
    words = _Words(played, policy, uid, mine, now)
    recorded = next((item for item in snapshot.recorded if item.report.job == uid), None)
    state, waits, since, due = words.run(runs)
    if records_read and runs is not None:
        state, waits, since, due = words.compared(runs, recorded, (state, waits, since, due))
    elif state in (State.REPORTED, State.ENDED):
        waits += ", by the times of its pods"
    counting = {pod.uid for pod in cluster.pods(uid) if pod.stage in (Stage.RUNNING, Stage.SUCCEEDED)}
    return Explanation(
        job=_named(job) if job else uid,
        uid=uid,
        climb=_climb(snapshot, uid, mine),
        pods=tuple(_pod_line(pod, played, pod.uid in counting, notes or {}) for pod in mine),
        state=state.value,
        waits_for=waits,
        holds=len(cluster.counts(uid)),
        things="nodes" if policy.mode is Mode.NODE else "NICs",
        since=None if since is None else int(since),
        due=None if due is None or due == float("inf") else int(due),
        problems=(*(f"{problem.object}: {problem.message}" for problem in played.problems), *problems),
    )


_Finding = tuple[State, str, float | None, float | None]  # state, what it waits for, since, due


class _Words:
    """Says what a run waits for."""

    def __init__(self, played: Replay, policy: Policy, uid: str, pods: list[Pod], now: float) -> None:
        self._played, self._policy, self._uid, self._pods, self._now = played, policy, uid, pods, now
        self._cluster = played.tracker.cluster

    def run(self, runs: Runs | None) -> _Finding:
        """The state of the run, as replayed."""
        if runs is None:
            return State.IDLE, "there is no object of that job, so there is nothing to report", None, None
        since, due = runs.waiting()
        match runs.state:
            case State.IDLE:
                return State.IDLE, self._idle(runs), None, None
            case State.STARTING:
                waits, since = self._starting(since)
                return State.STARTING, f"{waits}; {self._reported_by(due)}", since, due
            case State.CHANGING:
                waits = f"what it holds changed at {self._at(since)}; {self._reported_by(due)}"
                return State.CHANGING, waits, since, due
            case State.VACANT if runs.in_progress is None:
                return State.VACANT, self._idle(runs), since, due
            case State.VACANT:
                waits = (
                    f"it has held nothing since {self._at(since)}; unless it holds something again, its run ends at "
                    f"{self._at(due)} as CANCELLED"
                )
                return State.VACANT, waits, since, due
            case State.MISSED:
                return State.MISSED, self._missed(), None, None
            case State.ENDED:
                return State.ENDED, "nothing: the job has ended, and that is reported", None, None
            case _:
                return runs.state, _REPORTED, None, None

    def compared(self, runs: Runs, recorded: Recorded | None, finding: _Finding) -> _Finding:
        """The same after a look at what is recorded: that alone says what was reported."""
        planned, last = runs.reported, recorded.report if recorded else None
        if last is not None and last.end is None and self._uid in self._played.changed:
            held = self._cluster.counts(self._uid)
            if union([held, last.kept]) == last.holds:
                return State.REPORTED, _REPORTED, None, None
            if runs.state is State.CHANGING or (planned and planned.end is None):
                return State.CHANGING, self._changed(len(held), last), None, None
        if planned is None or _same(planned, last):
            return finding
        at = self._played.reported.get(self._uid)
        due = f"since {self._at(at)} " if at else ""
        late = (
            f"{planned.state.name} with {len(planned.holds)} {_things(planned)} is due {due}by the times of its pods, "
            "and is not recorded yet. A MAC address that came late delays it; otherwise see `cvji check`"
        )
        if last is None or planned.run != last.run or planned.end != last.end:
            state = State.STARTING if planned.end is None else finding[0]
            return state, late, at, None
        return State.CHANGING, self._changed(len(planned.holds), last), at, None

    def _changed(self, count: int, last: RunReport) -> str:
        return (
            f"it holds {count} {_things(last)} now, and {len(last.holds)} are reported: the change is reported once it "
            f"has been steady for {self._policy.stability_delay:g} s, after {self._policy.max_wait:g} s at the latest"
        )

    def _at(self, at: float) -> str:
        return clock(at, self._now)

    def _reported_by(self, due: float) -> str:
        return f"reported at {self._at(due)} at the latest" if due != float("inf") else "reported after that"

    def _starting(self, since: float) -> tuple[str, float]:
        pending = sorted(
            (pod for pod in self._cluster.pods(self._uid) if pod.stage is Stage.PENDING and not pod.deleting),
            key=lambda pod: (pod.created, pod.name),
        )
        if pending:
            return f"since {self._at(pending[0].created)} {_names(pending)} Pending", pending[0].created
        if self._played.tracker.owner_expected(self._uid):
            return f"its owner is not there yet since {self._at(since)}", since
        everyone = self._cluster.pods(self._uid)
        failed = [pod for pod in everyone if pod.stage is Stage.FAILED and not pod.deleting]
        if lost := replacement.missing(everyone, failed):
            return f"{_names(lost, '')} failed, and no other pod has taken its place", since
        delay = self._policy.stability_delay
        return f"what it holds must stay the same for {delay:g} s, and last changed at {self._at(since)}", since

    def _idle(self, runs: Runs) -> str:
        new = self._cluster.pods(self._uid)
        running = [pod for pod in new if pod.stage is Stage.RUNNING]
        pending = [pod for pod in new if pod.stage is Stage.PENDING]
        before = "the run before has ended, and " if runs.reported else ""
        if running:
            return f"{before}{_names(running)} running and without a NIC: reported once one has a MAC address"
        if pending:
            since = min(pod.created for pod in pending)
            return f"{before}no pod runs: since {self._at(since)} {_names(pending)} Pending"
        return f"{before}no pod of it runs"

    def _missed(self) -> str:
        return (
            "nothing, it is never reported: it ended before its run was reported, and no pod of it held a NIC for long "
            f"enough ({self._policy.stability_delay:g} s with every pod having run, or {self._policy.max_wait:g} s)"
        )


def _same(planned: RunReport, last: RunReport | None) -> bool:
    return last is not None and (planned.run, planned.state, planned.holds) == (last.run, last.state, last.holds)


def _things(report: RunReport) -> str:
    return "nodes" if report.holds.nodes else "NICs"


def _names(pods: list[Pod], verb: str = "is") -> str:
    """`pod a is`, `pods a, b are`, `pods a, b, c and 5 more are`; without a verb, the pods alone."""
    names = ", ".join(pod.name for pod in pods[:NAMED])
    more = f" and {len(pods) - NAMED} more" if len(pods) > NAMED else ""
    named = f"pod {names}" if len(pods) == 1 else f"pods {names}{more}"
    return f"{named} {'is' if len(pods) == 1 else 'are'}" if verb else named


def _named(job: Job) -> str:
    return f"{job.kind} {job.namespace}/{job.name}"


def _climb(snapshot: Snapshot, uid: str, pods: list[Pod]) -> tuple[str, ...]:
    """Each way from pods to the job, with how many pods go it."""
    jobs, known = {job.uid: job for job in snapshot.jobs}, {pod.uid: pod for pod in snapshot.pods}
    ways: dict[str, int] = {}
    for pod in pods:
        way: list[str] = []
        above = pod.owner
        while above and len(way) < 8:
            found = jobs.get(above)
            owner = known.get(above)
            way.append(f"{found.kind} {found.name}" if found else f"Pod {owner.name}" if owner else f"uid {above}")
            above = None if above == uid else found.owner if found else owner.owner if owner else None
        line = " -> ".join(way)
        ways[line] = ways.get(line, 0) + 1
    return tuple(f"{count} pod{'s' if count > 1 else ''} -> {way}" for way, count in ways.items())


def _pod_line(pod: Pod, played: Replay, counts: bool, notes: dict[str, list[str]]) -> PodLine:
    cluster = played.tracker.cluster
    nics = tuple(Nic(address, source) for source, holds in cluster.by_source(pod).items() for address in holds.texts())
    remarks = list(notes.get(f"pod {pod.namespace}/{pod.name}", ()))
    for claim in pod.claims:
        remarks += [f"claim {claim}: {note}" for note in notes.get(f"claim {pod.namespace}/{claim}", ())]
    if pod.problem:
        remarks.append(pod.problem)
    if pod.host_network and pod.macs:
        remarks.append("its annotation is left out: a pod on the host's network holds its node's NICs")
    why = _WHY.get(pod.stage, "")
    if not why and not counts:
        why = "belongs to a run that is over"
    elif not why and not nics:
        why = _no_nic(pod)
    return PodLine(
        name=pod.name,
        stage=pod.stage.name.capitalize() + (", being deleted" if pod.deleting else ""),
        node=pod.node,
        counts=counts and bool(nics),
        nics=nics,
        notes=tuple(
            ([why] if why else []) + [note for note in remarks if not any(nic.address in note for nic in nics)]
        ),
        created=pod.created,
        started=pod.started,
        finished=pod.finished,
    )


def _no_nic(pod: Pod) -> str:
    if not pod.node:
        return "has no node"
    if pod.host_network:
        return f"is on the host's network, and node {pod.node} has no NIC in its NodeInterfaceState"
    if pod.claims:
        return "has no NIC: neither its annotation nor its claims say a MAC address"
    return "has no NIC: its network-status annotation says no MAC address, and it uses no ResourceClaim"
