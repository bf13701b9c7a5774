"""The simplest program that does what docs/design.md#runs says: it shows that the judge accepts a right one.

It looks at every job at every step, keeps all it knows in plain dicts, and is driven as the program is. It reads the
histories' own structs. A fault found in it by the judge is a fault of one of the two: there is nothing else here.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cvji.cloudvision.client import Answer
from cvji.cloudvision.outbox import Outbox
from cvji.cloudvision.payloads import JOB_CONFIG, NODE_CONFIG, Request, delete_node
from cvji.jobs.report import Key
from tests.torture.adapter import Sending, Write
from tests.torture.cluster import KINDS, NUMBERED, RAYCLUSTER, RAYJOB, End, Job, Pod

STABILITY, WAIT = 5.0, 60.0
MISSING: Any = object()


class Run(msgspec.Struct):
    """A run: from when it began; once it was told, what was; and its end."""

    uid: str
    id: str = ""  # none until it is told
    kind: str = ""
    began: float = 0.0
    start: int = 0
    state: str = ""
    end: int | None = None
    holds: list[str] = []
    nodes: bool = False
    kept: list[str] = []  # left by pods that succeeded and are gone
    pods: list[str] = []  # that were seen to run in it
    earliest: int | None = None  # start of these
    old: list[str] = []  # that ran in one before it
    delivered: bool = False


class Watch(msgspec.Struct):
    """Since when things are as they are."""

    state: object = None
    since: float = 0.0
    held: object = None
    held_since: float = 0.0
    differs: float | None = None
    empty: float | None = None


class ReferenceDriver:
    """See `adapter.Driver`."""

    def event(self, kind: str, found: Any, gone: bool) -> Any:
        return kind, found, gone

    def program(self, *, nodes: bool, narrow: bool, jitter: Callable[[], float]) -> "Reference":
        return Reference(nodes, jitter)


class Reference:
    """See `adapter.Program`."""

    def __init__(self, nodes: bool, jitter: Callable[[], float]) -> None:
        self.nodes = nodes
        self.outbox = Outbox(jitter)
        self.objects: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.had: dict[str, set[str]] = {}  # by pod
        self.asked: set[str] = set()  # pods whose deletion was asked for before they ended
        self.order: dict[str, int] = {}  # pods, by the API server's order
        self.owners: dict[str, str] = {}  # of pods, of those that are gone as well: a pod may own pods
        self.ends: dict[str, End] = {}  # said by the last state of objects that are gone
        self.jobs: dict[str, Job] = {}  # as they last were
        self.over: set[str] = set()  # jobs whose end has been decided on
        self.seen_to_end: set[str] = set()  # pods, while this process led
        self.before: dict[str, list[str]] = {}  # by job, the pods of its runs so far
        self.ended_at: dict[str, float] = {}
        self.missing: dict[str, float] = {}  # owners that are not there, and since when
        self.runs: dict[str, Run] = {}  # by job: the one that is open, told or not
        self.told: dict[str, Run] = {}  # by id
        self.watches: dict[str, Watch] = {}
        self.left: dict[str, set[str]] = {}  # by job, of pods that succeeded and are gone
        self.dirty: dict[str, bytes] = {}
        self.waiting: dict[Key, Request] = {}  # new since the outbox was last given something
        self.requests: dict[Key, Request] = {}  # the newest by key
        self.sent_nodes: dict[str, str] = {}
        self.watched: set[str] = set()
        self.leading = False
        self.now_ = 0.0

    # --- what is seen -------------------------------------------------------------------------------

    def apply(self, event: Any, now: float) -> None:
        self.now_ = now
        kind, found, gone = event
        if kind == "pods":
            if found.phase in ("Pending", "Running") and found.deleting:
                self.asked.add(found.uid)
            self.order.setdefault(found.uid, len(self.order))
            self.owners[found.uid] = found.owner
            known: Pod | None = self.objects["pods"].get(found.uid)
            if self.leading and known and known.finished is None and found.finished is not None:
                self.seen_to_end.add(found.uid)
        if gone:
            if kind == "jobs" and found.end:
                self.ends[found.uid] = found.end
            run = self.runs.get(self.job_of(found)) if kind == "pods" else None
            if run and found.uid in run.pods and self.succeeded(found):
                self.left.setdefault(self.job_of(found), set()).update(self.holds(found))
            self.objects[kind].pop(found.uid, None)
            pod = self.objects["pods"].get(found.uid) if kind == "claims" else None
            owner = self.runs.get(self.job_of(pod)) if pod else None
            if pod and owner and pod.uid in owner.pods and self.succeeded(pod):
                self.left.setdefault(owner.uid, set()).update(self.holds(pod))
            if kind == "pods":
                self.had.pop(found.uid, None)
            return
        self.objects[kind][found.uid] = found
        if kind == "jobs":
            self.jobs[found.uid] = found
        if kind in ("pods", "claims") and (pod := self.objects["pods"].get(found.uid)):
            claim = self.objects["claims"].get(pod.claim or "")
            if pod.phase in ("Running", "Succeeded"):
                self.had.setdefault(pod.uid, set()).update(pod.macs, claim.macs if claim else ())

    def listed(self, kind: str, now: float) -> None:
        self.watched.add(kind)

    def lead(self, records: Mapping[str, bytes], now: float) -> None:
        self.leading = True
        for key, body in records.items():
            if not body:
                continue
            if key.startswith("node/"):
                self.sent_nodes[key[5:]] = body.decode()
                self.tell_node(key[5:], body.decode())
                continue
            run = msgspec.json.decode(body, type=Run)
            self.told[run.id] = run
            if run.state == "RUNNING":
                self.runs[run.uid] = run
                self.left[run.uid] = set(run.kept) if run.nodes == self.nodes else set()
            if not run.delivered:
                self.waiting["job", run.id] = self.request(run)

    def rest(self) -> None:
        self.left.clear()
        self.ends.clear()

    # --- what follows -------------------------------------------------------------------------------

    def decide(self, now: float) -> None:
        for uid, job in self.objects["jobs"].items():
            self.ended_at.setdefault(uid, min(now, job.end.at or now)) if job.end else self.ended_at.pop(uid, None)
            if job.end is None:
                self.over.discard(uid)
        for uid in {**self.objects["jobs"], **self.runs}:
            self.decide_job(uid, now)
        for run in [run for run in self.told.values() if run.delivered and self.gone(run)]:
            del self.told[run.id]
            self.dirty[run.id] = b""
        for name in {**self.objects["nodes"], **self.sent_nodes}:
            node = self.objects["nodes"].get(name)
            mac = node.mac if node else ""
            if self.sent_nodes.get(name, "") != mac:
                self.sent_nodes[name] = mac
                self.dirty[f"node/{name}"] = mac.encode() or b"gone"

    def gone(self, run: Run) -> bool:
        """Whether the object of a run's job is known not to be there."""
        return run.uid not in self.objects["jobs"] and (not run.kind or bool(self.watched & {"jobs", run.kind}))

    def job_of(self, pod: Pod) -> str:
        """The job that a pod belongs to."""
        uid = self.owners.get(pod.owner, pod.owner)
        owner: Job | None = self.objects["jobs"].get(uid)
        return owner.owner if owner and owner.owner and not self.on_its_own(owner) else uid

    def on_its_own(self, cluster: Job) -> bool:
        """Whether what owned it ended START_MAX_WAIT ago."""
        owner = cluster.owner or ""
        there: Job | None = self.objects["jobs"].get(owner)
        if there:
            self.missing.pop(owner, None)
        else:  # its deletion takes this along, before long
            self.missing.setdefault(owner, self.now_)
        if (run := self.runs.get(cluster.uid)) and run.id and not (there and there.end is None):
            return True
        if owner in self.runs:  # its end is yet to be told
            return False
        since = min(self.ended_at.get(owner, float("inf")), self.missing.get(owner, float("inf")))
        return self.now_ - since >= WAIT

    def succeeded(self, pod: Pod) -> bool:
        return pod.phase == "Succeeded" and pod.uid not in self.asked and not pod.deleting

    def holds(self, pod: Pod) -> set[str]:
        return {pod.node} if self.nodes else self.had.get(pod.uid, set())

    def decide_job(self, uid: str, now: float) -> None:
        self.now_ = now
        job: Job | None = self.objects["jobs"].get(uid)
        pods = [pod for pod in self.objects["pods"].values() if self.job_of(pod) == uid]
        over = job.end.at if job and job.end else None
        pods = [pod for pod in pods if over is None or pod.created <= over]
        held = set[str]().union(*(self.holds(pod) for pod in pods if pod.phase == "Running"))
        run = self.runs.get(uid)
        if job is None and run and not self.gone(run):
            return
        if run and job and not self.alone(job):  # its owner was seen late
            if run.id:
                self.close(run, job, End("CANCELLED", int(now)), [], set(), now)
            self.runs.pop(uid, None)
            return
        end = job.end if job else self.ends.get(uid, End("CANCELLED", None))
        if run is None:
            if (
                job is None
                or (job.end and (uid in self.over or self.told_before(uid)))
                or (job.kind == RAYCLUSTER and not self.alone(job))
            ):
                return
            if not held and not job.end:
                self.before.setdefault(uid, []).extend(pod.uid for pod in pods if pod.uid in self.seen_to_end)
                return
            last = max((other.end or 0 for other in self.told.values() if other.uid == uid), default=0)
            before = self.before.pop(uid, [])
            done = [pod for pod in pods if pod.finished is not None]
            if job.owner:  # part of another job until START_MAX_WAIT after that one's end
                master = self.objects["jobs"].get(job.owner)
                last = int(now if master is None or master.end is None else (master.end.at or now) + WAIT)
            old = [pod.uid for pod in done if pod.uid in before or (pod.finished or 0) <= last]
            run = self.runs[uid] = Run(uid, began=now, old=old)
            self.watches[uid] = Watch()
            self.left.pop(uid, None)
        watch = self.watches.setdefault(uid, Watch())
        new = [pod.uid for pod in pods if pod.ran_from and pod.uid not in run.pods and pod.uid not in run.old]
        if new:
            run.pods += new
            started = [pod.started for pod in pods if pod.uid in new and pod.started]
            run.earliest = min([*started, *([run.earliest] if run.earliest else [])], default=None)
        done = [pod for pod in pods if self.succeeded(pod) and pod.uid in run.pods]
        counts = self.left.get(uid, set()).union(*(self.holds(pod) for pod in done))
        if end is not None:
            self.close(run, job, end, pods, counts | (held if job else set()), now)
        elif not held:
            watch.empty = now if watch.empty is None else watch.empty
            watch.held = watch.state = None
            if (job and job.suspended) or now - watch.empty >= WAIT:
                self.close(run, job, End("CANCELLED", int(watch.empty)), pods, counts, now)
        elif job:
            watch.empty = None
            self.go_on(run, job, watch, pods, held, held | counts, now)
        if run.id and uid in self.runs and (new or sorted(self.left.get(uid, ())) != run.kept):
            self.record(run)

    def alone(self, cluster: Job) -> bool:
        return cluster.owner is None or self.on_its_own(cluster)

    def told_before(self, uid: str) -> bool:
        return any(run.uid == uid for run in self.told.values())

    def go_on(
        self, run: Run, job: Job, watch: Watch, pods: list[Pod], held: set[str], holds: set[str], now: float
    ) -> None:
        """It holds something: begin to tell of it, or tell what changed."""
        state = (holds, {(pod.uid, pod.phase) for pod in pods})
        if watch.state != state:
            watch.state, watch.since = state, now
        if watch.held != holds:
            watch.held, watch.held_since = holds, now
        if not run.id:
            hindered = any(pod.phase == "Pending" for pod in pods) or self.unreplaced(job, pods)
            steady = not hindered and now - watch.since >= STABILITY
            if steady or now - run.began >= WAIT:
                self.tell(run, job, "RUNNING", None, holds, pods)
        elif sorted(holds) == run.holds and run.nodes == self.nodes:
            watch.differs = None
        else:
            watch.differs = now if watch.differs is None else watch.differs
            if now - watch.held_since >= STABILITY or now - watch.differs >= WAIT:
                watch.differs = None
                self.tell(run, job, "RUNNING", None, holds, pods)

    def unreplaced(self, job: Job, pods: list[Pod]) -> bool:
        kind = RAYCLUSTER if job.kind == RAYJOB else job.kind
        failed = sorted((pod for pod in pods if pod.phase == "Failed" and not pod.deleting), key=self.age, reverse=True)
        for number, pod in enumerate(failed):
            newer = [other for other in pods if other.created > pod.created + 2]
            if kind in NUMBERED:
                if not any(other.place == pod.place for other in newer):
                    return True
            elif sum(other.owner == pod.owner for other in newer) <= sum(
                other.owner == pod.owner for other in failed[:number]
            ):
                return True
        return False

    def age(self, pod: Pod) -> tuple[int, int]:
        return pod.created, self.order[pod.uid]

    def close(self, run: Run, job: Job | None, end: End, pods: list[Pod], counts: set[str], now: float) -> None:
        """It is over: tell that, if it was told before or was long enough."""
        self.over.add(uid := run.uid)
        self.before[uid] = [*run.pods, *run.old]
        self.runs.pop(uid, None)
        self.watches.pop(uid, None)
        self.left.pop(uid, None)
        at = end.at
        if at is None:
            finished = [pod.finished for pod in pods if pod.finished and pod.ran_from]
            held = any(pod.phase == "Running" and self.holds(pod) for pod in pods)
            at = max(finished) if end.state != "CANCELLED" and finished and not held else int(now)
        if run.id:
            holds = counts | (set(run.holds) if run.nodes == self.nodes else set())
            self.tell(run, job, end.state, at, holds or set(run.holds), pods)
            return
        ran = [pod for pod in pods if pod.uid in run.pods]
        holds = counts.union(*(self.holds(pod) for pod in ran))
        waited = any(pod.phase == "Pending" or pod.ran_from is None for pod in pods)
        if ran and holds:
            longest = max((pod.finished or at) - (pod.ran_from or 0) for pod in ran)  # each by its own clock
            latest = min(longest, at - max(pod.ran_from or 0 for pod in ran))
            if (latest >= STABILITY and not waited) or longest >= WAIT:
                self.tell(run, job, end.state, at, holds, pods)

    def tell(self, run: Run, job: Job | None, state: str, end: int | None, holds: set[str], pods: list[Pod]) -> None:
        if not run.id:
            before = [other for other in self.told.values() if other.uid == run.uid]
            run.id = f"{run.uid}.{len(before) + 1}" if before else run.uid
            last = max((other.end or 0 for other in before), default=0)
            started = job.started if (job := job or self.jobs.get(run.uid)) else None
            if started is None or started < last:
                started = max(run.earliest or 0, last)
            run.start, run.kind = started, "/".join(job.kind) if job else ""
            self.told[run.id] = run
        run.state, run.holds, run.nodes = state, sorted(holds), self.nodes if holds != set(run.holds) else run.nodes
        run.end = None if end is None else max(end, run.start)
        run.delivered = False
        self.record(run)

    # --- what is stored and sent --------------------------------------------------------------------

    def record(self, run: Run) -> None:
        run.kept = sorted(self.left.get(run.uid, ()))
        self.dirty[run.id] = msgspec.json.encode(run)

    def writes(self) -> list[Write]:
        dirty, self.dirty = self.dirty, {}
        return [Write(key, body, None) for key, body in dirty.items()]

    def written(self, write: Write, stored: bool) -> None:
        if not stored:
            self.dirty.setdefault(write.key, write.body)
        elif write.key.startswith("node/"):
            self.tell_node(write.key[5:], write.body.decode())
        elif write.body and not msgspec.json.decode(write.body, type=Run).delivered:
            self.waiting["job", write.key] = self.request(msgspec.json.decode(write.body, type=Run))

    def tell_node(self, name: str, mac: str) -> None:
        nic = {"name": "e0", "mac_address": mac, "ip_addresses": {"values": []}}
        body = {"key": {"id": name}, "data_interfaces": {"values": [nic]}}
        post = Request("POST", NODE_CONFIG, msgspec.json.encode(body), name)
        self.waiting["node", name] = delete_node(name) if mac == "gone" else post

    def request(self, run: Run) -> Request:
        values, other = ("nodes", "interfaces") if run.nodes else ("interfaces", "nodes")
        body = {
            "key": {"id": run.id},
            "name": run.uid,
            "state": f"JOB_STATE_{run.state}",
            "start_time": datetime.fromtimestamp(run.start, UTC).isoformat(),
            values: {"values": run.holds},
            other: {"values": []},
        }
        if run.end is not None:
            body["end_time"] = datetime.fromtimestamp(run.end, UTC).isoformat()
        return Request("POST", JOB_CONFIG, msgspec.json.encode(body), run.id)

    def send(self, now: float) -> Sending | None:
        for key in self.waiting:
            self.outbox.put(key, 0, now)
        self.requests |= self.waiting
        self.waiting.clear()
        parcel = self.outbox.take(now)
        return Sending(parcel, self.requests[parcel.key], 0) if parcel else None

    def settle(self, sending: Sending, answer: Answer, delivered: bool, now: float) -> None:
        kind, name = sending.parcel.key
        self.outbox.settle(sending.parcel, answer, now)
        run = self.told.get(name)
        if delivered and run and kind == "job" and self.request(run).body == sending.request.body:
            run.delivered = True
            self.record(run)

    def remembered(self) -> set[str]:
        return set(self.told)
