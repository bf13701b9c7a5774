"""From the log of a cluster to what each job held, when: what the judge's reading of docs/design.md#runs is made from.

No rule of reporting is in here: only which pods ran, which NICs each of them had, and which job it belonged to.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from tests.torture.cluster import NUMBERED, RAYCLUSTER, RAYJOB, Change, Job, Kind, Pod
from tests.torture.evidence import INFINITY, Rules

Macs = frozenset[str]
NONE: Macs = frozenset()


class PodLife(msgspec.Struct, eq=False):
    """What happened to one pod. Times are true ones, but for those of its last `pod`, which are its node's."""

    pod: Pod
    born: float
    order: int
    states: list[tuple[float, str, bool]]  # from when, phase, whether its deletion has been asked for
    macs: list[tuple[float, Macs]]  # from when, what its objects say that it has
    ran: float = INFINITY
    ended: float = INFINITY  # ran no more, or is gone
    succeeded: float = INFINITY  # by itself: nobody had asked for its deletion
    gone: float = INFINITY
    had: Macs = NONE  # all that it ever held
    surely: Macs = NONE  # without what was published in the moment of its end
    told_until: float = INFINITY  # until when an object says what it held

    def state(self, at: float) -> tuple[str, bool]:
        """Phase, and whether it is being deleted; before its first and after its last moment it has none."""
        if at >= self.gone:
            return "", False
        return next(((phase, deleting) for since, phase, deleting in reversed(self.states) if since <= at), ("", False))

    def holds(self, at: float) -> Macs:
        """Its NICs, from the moment it runs until it has ended or is gone."""
        if not self.ran <= at < self.ended:
            return NONE
        return next((macs for since, macs in reversed(self.macs) if since <= at), NONE)


class Piece(msgspec.Struct, eq=False):
    """A time in which nothing changed for a job."""

    begin: float
    end: float
    job: Job
    macs: Macs
    plain: Macs  # of these, what no claim is needed for to be seen
    nodes: Macs
    pods: frozenset[tuple[str, str]]  # with their phases
    exact: frozenset[tuple[str, str, bool]]  # and whether they are being deleted
    hindered: bool  # a pod is Pending, or has failed and is not replaced
    perhaps: bool  # so it may seem

    def holds(self, nodes: bool) -> Macs:
        return self.nodes if nodes else self.macs


class Fragment(msgspec.Struct, eq=False):
    """A time in which a job held something without a break.

    Where from a moment on only claims say so, there the next one begins: who cannot see claims sees a break.
    """

    begin: float
    end: float
    pieces: list[Piece]


class Subject(msgspec.Struct, eq=False):
    """One job: its objects' states, its pods, and when it held something. `since`: it was part of another before."""

    uid: str
    kind: Kind
    states: list[tuple[float, Job | None, int]]  # from when, the object, the change's place in the log
    pods: list[PodLife]
    since: float = -INFINITY
    master_end: float | None = None  # the end of the job that it outlived, by that job's object
    pieces: list[Piece] = []
    fragments: list[Fragment] = []

    def object(self, at: float) -> Job | None:
        return next((job for since, job, _ in reversed(self.states) if since <= at), None)


def read_log(log: Sequence[Change], rules: Rules, until: float) -> list[Subject]:
    """Every job of a history."""
    states: dict[str, list[tuple[float, Job | None, int]]] = {}
    lives: dict[str, PodLife] = {}
    for number, change in enumerate(log):
        if change.kind == "jobs":
            states.setdefault(change.uid, []).append((change.at, None if change.gone else change.object, number))
        elif change.kind == "pods":
            read_pod(lives, change, number)
        elif change.kind == "claims":
            read_claim(lives, change)
    for life in lives.values():
        if life.ran < INFINITY:
            life.had = frozenset().union(*(macs for since, macs in life.macs if since <= life.ended))
            life.surely = frozenset().union(*(macs for since, macs in life.macs if since <= life.ended - rules.lag))
    by_owner: dict[str, list[PodLife]] = {}
    for life in lives.values():
        driver = lives.get(life.pod.owner)
        by_owner.setdefault(driver.pod.owner if driver else life.pod.owner, []).append(life)
    found = []
    for uid, changes in states.items():
        first = next(job for _, job, _ in changes if job)
        subject = Subject(uid, first.kind, changes, by_owner.get(uid, []))
        if first.kind == RAYJOB:
            below = [other for other, its in states.items() if its[0][1] and its[0][1].owner == uid]
            subject.pods = [life for other in below for life in by_owner.get(other, [])]
        elif first.kind == RAYCLUSTER and first.owner:
            ends = [(at, job.end.at) for at, job, _ in states[first.owner] if job and job.end]
            subject.since = ends[0][0] + rules.wait if ends else INFINITY
            subject.master_end = ends[0][1] if ends else None
        cut(subject, until)
        found.append(subject)
    return found


def read_pod(lives: dict[str, PodLife], change: Change, number: int) -> None:
    """What a change of a pod says of its life."""
    pod: Pod = change.object
    life = lives.get(pod.uid)
    if life is None:
        life = lives[pod.uid] = PodLife(pod, change.at, number, [], [])
    was_deleting = life.pod.deleting is not None
    life.pod = pod
    if change.gone:
        life.gone = change.at
        life.ended = min(life.ended, change.at)
        life.told_until = min(life.told_until, change.at)
        return
    if pod.phase == "Running":
        life.ran = min(life.ran, change.at)
    elif pod.phase in ("Succeeded", "Failed"):
        life.ended = min(life.ended, change.at)
        if pod.phase == "Succeeded" and not was_deleting:
            life.succeeded = min(life.succeeded, change.at)
    life.states.append((change.at, pod.phase, pod.deleting is not None))
    if pod.macs:
        life.macs.append((change.at, frozenset(pod.macs)))


def read_claim(lives: dict[str, PodLife], change: Change) -> None:
    """What a change of a claim says of its pod's life."""
    life = lives.get(change.uid)
    if life is None:
        return
    if change.gone:
        life.told_until = min(life.told_until, change.at)
    elif change.object.macs:
        life.macs.append((change.at, frozenset(change.object.macs)))


def cut(subject: Subject, until: float) -> None:
    """Cut a job's time into pieces, and those in which it held something into fragments."""
    times = {at for at, _, _ in subject.states}
    for life in subject.pods:
        times.update(at for at, _, _ in life.states)
        times.update(at for at, _ in life.macs)
        times.add(life.gone)
    begin = max(subject.states[0][0], subject.since)
    cuts = sorted({begin, until, *(at for at in times if begin < at < until)})
    subject.pieces, subject.fragments = [], []
    for first, last in pairwise(cuts):
        job = subject.object(first)
        if job is None:
            continue
        piece = look(subject, job, first, last)
        subject.pieces.append(piece)
        if not piece.macs or job.end:
            continue
        before = subject.fragments[-1] if subject.fragments else None
        break_seen = before is not None and not piece.plain and before.pieces[-1].plain
        if before is not None and before.end == first and not break_seen:
            before.end = last
            before.pieces.append(piece)
        else:
            subject.fragments.append(Fragment(first, last, [piece]))


def look(subject: Subject, job: Job, first: float, last: float) -> Piece:
    """One piece of a job's time."""
    there = [(life, *life.state(first)) for life in subject.pods if life.born <= first < life.gone]
    pending = [deleting for _, phase, deleting in there if phase == "Pending"]
    failed = [life for life, phase, _ in there if phase == "Failed"]
    undeleted = [life for life, phase, deleting in there if phase == "Failed" and not deleting]
    present = [life for life, _, _ in there]
    numbered = subject.kind in NUMBERED
    return Piece(
        begin=first,
        end=last,
        job=job,
        macs=frozenset().union(*(life.holds(first) for life in present)),
        plain=frozenset().union(*(life.holds(first) for life in present if not life.pod.claim)),
        nodes=frozenset(life.pod.node for life, phase, _ in there if phase == "Running"),
        pods=frozenset((life.pod.uid, phase) for life, phase, _ in there),
        exact=frozenset((life.pod.uid, phase, deleting) for life, phase, deleting in there),
        hindered=(bool(pending) and not all(pending)) or unreplaced(undeleted, present, numbered, sure=True),
        perhaps=bool(pending) or unreplaced(failed, present, numbered, sure=False),
    )


TOGETHER = 3.0  # seconds within which pods may have been made together, or not


def unreplaced(failed: list[PodLife], present: Iterable[PodLife], numbered: bool, *, sure: bool) -> bool:
    """Whether a failed pod has no replacement. `sure`: under every reading of what is made together."""
    gap = 0.0 if sure else TOGETHER
    later: dict[str, int] = {}
    for life in sorted(failed, key=lambda life: -life.order):
        place = life.pod.place if numbered else life.pod.owner
        later[place] = later.get(place, 0) + 1
        newer = [
            other
            for other in present
            if other.born > life.born + gap and (other.pod.place if numbered else other.pod.owner) == place
        ]
        if len(newer) < (1 if numbered else later[place]):
            return True
    return False
