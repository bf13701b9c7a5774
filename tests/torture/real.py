"""The histories of `model.py`, played to the program itself: processes that are killed, over HTTP, in real time.

A history's decisions come from its seed and happen at its own times, `pace` of them to a second, whatever the
processes do. So a seed repeats a history, though not the instant at which a process notices.
"""

import base64
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from cvji.ledger import SHARDS, Ledger

from cvji.informer import NAME
from tests.cluster.controlplane import ControlPlane
from tests.e2e.kit import Program, Stage
from tests.e2e.test_nodes import DISCOVERY, node_state
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod, pod_status
from tests.simulator.server import Fault
from tests.torture.model import STEP, History

TORCH = ("kubeflow.org", "PyTorchJob")
PLURALS = {
    "jobs": (TORCH[0], "pytorchjobs"),
    "pods": ("", "pods"),
    "claims": ("resource.k8s.io", "resourceclaims"),
    "nodes": ("cloudvision.arista.io", "nodeinterfacestates"),
}
LEASE = 15.0
SETTLED = 60.0  # seconds within which all must be said once faults are over: the longest pause between attempts is 30
AWAY = ("refused", "503", "slow", "silent")


def clock(_: float) -> datetime:
    return datetime.fromtimestamp(int(time.time()), UTC)


def stamp(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""


class World(Protocol):
    """A cluster: what histories do to it."""

    def put(self, kind: str, name: str, obj: Object, status: Object) -> None:
        """Create or change an object."""

    def drop(self, kind: str, name: str) -> None:
        """Delete an object."""

    def uid(self, kind: str, name: str) -> str:
        """The uid it was given."""
        ...

    def disturb(self, what: str, history: "RealHistory") -> None:
        """Begin a fault of the API: away, back, stall, go-on, expire, fail."""

    def shard(self, name: str) -> Object | None:
        """A ConfigMap."""


class SimulatedWorld:
    """A simulated API server, changed from within: it may be refusing its clients."""

    def __init__(self, simulator: KubernetesSimulator) -> None:
        self.simulator = simulator
        self.refusing = False

    def put(self, kind: str, name: str, obj: Object, status: Object) -> None:
        obj["metadata"]["uid"] = name
        self.simulator.create({**obj, "status": status})

    def drop(self, kind: str, name: str) -> None:
        self.simulator.delete(*PLURALS[kind], "cloudvision" if kind == "nodes" else "team", name)

    def uid(self, kind: str, name: str) -> str:
        return name

    def disturb(self, what: str, history: "RealHistory") -> None:
        simulator = self.simulator
        match what:
            case "away" if not self.refusing:
                self.refusing = True
                simulator.refuse()
            case "back" if self.refusing:
                self.refusing = False
                simulator.resume()
            case "stall" | "go-on":
                simulator.stall(what == "stall")
            case "expire":
                simulator.compact()
                simulator.close_watches()
            case "fail":  # a write that took effect, and nobody heard; a server in trouble; watches that end
                writes = frozenset({"PUT", "POST"})
                simulator.faults.append(Fault(drop=True, after=True, methods=writes))
                simulator.faults.append(Fault(status=500, body=b"{}", methods=writes))
                simulator.close_watches()
            case "slow":
                simulator.delay = 0.3
            case "fast":
                simulator.delay = 0.0

    def shard(self, name: str) -> Object | None:
        return self.simulator.get("", "configmaps", "cloudvision", name)


class ClusterWorld:
    """A real API server, spoken to over HTTP. It is away for as long as its restart takes."""

    def __init__(self, stage: Stage, plane: ControlPlane) -> None:
        self.cluster, self.plane = stage.cluster, plane
        self.made: dict[tuple[str, str], Object] = {}
        self.compactions = 0

    def put(self, kind: str, name: str, obj: Object, status: Object) -> None:
        made = self.made.get((kind, name))
        if made is None:
            self.made[kind, name] = self.cluster.create(obj, status)
            return
        if kind == "jobs":
            self.cluster.patch(made, {"spec": obj["spec"]})
        self.cluster.set_status(made, status)

    def drop(self, kind: str, name: str) -> None:
        path = self.cluster.path(self.made.pop((kind, name)), name)
        answer = self.plane.request("DELETE", f"{path}?gracePeriodSeconds=0&propagationPolicy=Background")
        assert answer.status in (200, 202, 404), answer  # the garbage collector may have been there before

    def uid(self, kind: str, name: str) -> str:
        made = self.made.get((kind, name))
        return made["metadata"]["uid"] if made else "gone"

    def disturb(self, what: str, history: "RealHistory") -> None:
        match what:
            case "away":
                self.compact()
                self.plane.restart_apiserver(hard=history.rng.random() < 0.5)
            case "stall" | "go-on":  # the whole program, which comes to the same
                history.signal(signal.SIGSTOP if what == "stall" else signal.SIGCONT)
            case "expire":
                self.compact()

    def compact(self) -> None:
        self.compactions += 1  # there must be something to compact
        label = {"labels": {"compactions": str(self.compactions)}}
        self.cluster.call("PATCH", "/api/v1/namespaces/team", {"metadata": label})
        self.plane.compact()

    def shard(self, name: str) -> Object | None:
        found = self.cluster.call("GET", "/api/v1/namespaces/cloudvision/configmaps")["items"]
        return next((item for item in found if item["metadata"]["name"] == name), None)


class RealHistory(History):
    """A history of one program at a time, or of two with a Lease."""

    def __init__(
        self, seed: int, stage: Stage, world: World, *, pace: float, busy: float, leaders: bool = False
    ) -> None:
        super().__init__(seed, jobs=12, busy=busy, claims=0.4, clock=clock)
        # A real cluster's controller takes a claim from a pod that has ended.
        self.cluster.prompt = isinstance(world, ClusterWorld)
        self.stage, self.world, self.pace, self.leaders = stage, world, pace, leaders
        # Generous: a machine that is busy with other things is no fault of the program.
        self.steady, self.recorded = 6.0 * pace, 4.0 * pace
        self.sure_after, self.sure_unseen = (6.0 + (LEASE if leaders else 0.0)) * pace, 2.5 * pace
        self.programs: list[Program] = []
        self.leaving: list[Program] = []  # asked to end, or stopped past their lease
        self.awake_at: dict[Program, float] = {}
        self.leading: set[Program] = set()
        self.mirrored = 0
        self.now = 0.0
        self.slow_until = self.kube_slow_until = 0.0
        self.away_how = ""
        self.deeds: list[str] = []
        self.wrong: list[str] = []
        self.outages = 0
        self.token_file = stage.folder / "token"
        self.token_file.write_text(stage.cloudvision.token)
        self.tokens = 0
        self.state: dict[str, bool] = {}

    # --- play ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play it, and wait until all is said."""
        began = time.monotonic()
        try:
            while self.now < self.busy_until:
                self.cluster.step(self.now, True)
                self.trouble(self.now)
                self.play(self.now)
                self.watch_lives(self.now)
                self.now += STEP
                time.sleep(max(began + self.now / self.pace - time.monotonic(), 0.0))
            self.quiet = True
            self.settle()
        finally:
            for program in [*self.programs, *self.leaving]:
                program.kill()

    def settle(self) -> None:
        """No more faults: what is planned happens still, and then CloudVision must come to equal the truth."""
        self.trouble(self.now)
        self.stage.cloudvision.faults.clear()
        end = max([plan[0] for plan in self.cluster.plans], default=0.0)
        deadline = time.monotonic() + SETTLED
        quiet_since = 0.0
        while True:
            self.now += STEP
            self.cluster.step(self.now, False)
            self.play(self.now)
            if self.now < end:
                time.sleep(STEP / self.pace)
                deadline = time.monotonic() + SETTLED
                continue
            time.sleep(0.1)
            wrong = super().judge() if self.hear() else ["nobody reports"]
            quiet_since = quiet_since or time.monotonic() if not wrong else 0.0
            if (quiet_since and time.monotonic() - quiet_since > 1.5 and not self.leaving) or (
                time.monotonic() > deadline
            ):
                return

    def judge(self) -> list[str]:
        """Every way in which CloudVision differs from the truth, and programs that ended as they should not."""
        self.hear()
        told = f"seed {self.seed}: {'; '.join(self.deeds)}"
        cloudvision = self.stage.cloudvision
        found = [*self.wrong, *super().judge(), *cloudvision.rejected, *cloudvision.contradictions]
        logs = [text for program in self.stage.programs for text in complaints(program.log)]
        last = ["the last program's log:", *self.stage.programs[-1].log.splitlines()[-30:]]
        return [told, *found, *logs, *last] if found or logs else []

    def hear(self) -> bool:
        """Take in what CloudVision has been told so far; whether a program reports."""
        simulator = self.stage.cloudvision
        with simulator.lock:
            self.cloudvision.jobs.clear()
            for entries in simulator.history.values():
                for entry in entries:
                    self.cloudvision.jobs[entry["name"]].append(entry)
            self.cloudvision.nodes.clear()
            for node, states in simulator.node_history.items():
                self.cloudvision.nodes[node] = [msgspec.json.encode(state) if state else b"" for state in states]
            self.lost.clear()
            for request in simulator.requests:
                if request.taken and request.status != 200 and request.body:
                    name = msgspec.json.decode(request.body).get("name", "")
                    self.lost[name] = self.lost.get(name, 0) + 1
            for name in self.cluster.lives:  # a connection that was broken may have lost an answer, unseen here
                self.lost[name] = self.lost.get(name, 0) + self.outages
        return self.leads()

    # --- the cluster --------------------------------------------------------------------------------

    def mirror(self) -> None:
        """Do to the cluster what has been done to the model."""
        for kind, name, found, gone in self.cluster.log[self.mirrored :]:
            if gone:
                self.world.drop(kind, name)
            else:
                self.world.put(kind, name, *getattr(self, f"wire_{kind}")(found))
        self.mirrored = len(self.cluster.log)

    def wire_jobs(self, found: Any) -> tuple[Object, Object]:
        obj = job(*TORCH, found.name)
        obj["spec"] = {"runPolicy": {"suspend": found.suspended}}
        start = stamp(found.started)
        status = {"startTime": start, "conditions": []}
        if found.end:
            status = ended(*TORCH, found.end.state.name, start, stamp(found.end.at)) or {}
        return obj, status

    def wire_pods(self, found: Any) -> tuple[Object, Object]:
        owner = job(*TORCH, found.owner)
        owner["metadata"]["uid"] = self.world.uid("jobs", found.owner)
        obj = pod(found.name, owner, *found.macs)
        if found.claims:
            obj["spec"]["resourceClaims"] = [{"name": "nic", "resourceClaimName": name} for name in found.claims]
            del obj["metadata"]["annotations"]
        return obj, pod_status(found.phase, stamp(found.started), stamp(found.finished))

    def wire_claims(self, found: Any) -> tuple[Object, Object]:
        request = {"name": "nic", "exactly": {"deviceClassName": "nic"}}
        obj = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": found.name, "namespace": "team"},
            "spec": {"devices": {"requests": [request]}},
        }
        places = [{"driver": "dra.net", "pool": "worker-0", "device": f"dev-{number}"} for number in (1, 2)]
        users = [
            {"resource": "pods", "name": name, "uid": self.world.uid("pods", name)} for _, name in found.reserved_for
        ]
        devices = [
            place | {"networkData": {"hardwareAddress": mac}} for place, mac in zip(places, found.macs, strict=False)
        ]
        results = [{"request": "nic", **place} for place in places]
        return obj, {"allocation": {"devices": {"results": results}}, "reservedFor": users, "devices": devices}

    def wire_nodes(self, found: Any) -> tuple[Object, Object]:
        obj = node_state(*DISCOVERY, found.node, *(nic.mac for nic in found.nics))
        return obj, obj.pop("status")

    # --- faults -------------------------------------------------------------------------------------

    def trouble(self, now: float) -> None:
        """The model's faults, and those that only a real connection can have."""
        super().trouble(now)
        rng, cloudvision = self.rng, self.stage.cloudvision
        if self.quiet:
            self.slow_until = self.kube_slow_until = 0.0
        else:
            if rng.random() < 0.01:
                self.did("an answer of CloudVision's is lost")
                cloudvision.faults.append(Fault(drop=True, after=True))
            if rng.random() < 0.006:
                self.did("CloudVision errs")
                retry = {"Retry-After": "1"}
                cloudvision.faults.append(Fault(status=rng.choice([429, 500, 503]), body=b"{}", headers=retry))
            if rng.random() < 0.004:
                self.did("the token is rotated")
                self.rotate()
            if rng.random() < 0.004:
                self.did("an API request fails")
                self.world.disturb("fail", self)
            if rng.random() < 0.003:
                self.kube_slow_until = now + rng.uniform(10, 60)
            if not self.state.get("away"):
                self.away_how = rng.choice(AWAY)
        self.turn("away", self.cloudvision.away, self.cloudvision_goes)
        self.turn("API away", self.api_away, lambda away: self.world.disturb("away" if away else "back", self))
        stalled = not self.api_away and any(until > now for until in self.stalled.values())
        self.turn("watches stalled", stalled, lambda on: self.world.disturb("stall" if on else "go-on", self))
        slow = now < self.kube_slow_until
        self.turn("API slow", slow, lambda on: self.world.disturb("slow" if on else "fast", self))
        if slow:
            self.fresh_for = 0.0

    def did(self, what: str) -> None:
        self.deeds.append(f"{self.now / self.pace:.1f} s {what}")

    def turn(self, name: str, on: bool, act: Callable[[bool], None]) -> None:
        """Begin or end a fault, if it has not yet."""
        if self.state.get(name, False) != on:
            self.state[name] = on
            act(on)
            self.did(f"{name}{f' ({self.away_how})' if name == 'away' else ''}{'' if on else ' no more'}")

    def cloudvision_goes(self, away: bool) -> None:
        cloudvision = self.stage.cloudvision
        match self.away_how:
            case "refused" if away:
                self.outages += 1
                cloudvision.refuse()
            case "refused":
                cloudvision.resume()
            case "503":
                cloudvision.always = Fault(status=503, body=b"{}") if away else None
            case "slow":
                cloudvision.delay = 0.5 if away else 0.0
            case _:
                cloudvision.always = Fault(drop=True) if away else None

    def rotate(self) -> None:
        """CloudVision's token: the old one ends before the new one is where the program reads it."""
        self.tokens += 1
        self.stage.cloudvision.token = f"token-{self.tokens}-of-the-simulator"
        new = Path(f"{self.token_file}.new")
        new.write_text(self.stage.cloudvision.token)
        new.rename(self.token_file)

    # --- processes ----------------------------------------------------------------------------------

    def running(self) -> bool:
        return bool(self.programs)

    def leader(self) -> Program:
        return next((program for program in self.programs if program in self.leading), self.programs[0])

    def signal(self, number: signal.Signals) -> None:
        for program in [*self.programs, *self.leaving]:
            if program.process.poll() is None:
                program.process.send_signal(number)

    def kill(self) -> None:
        leader = self.leader()
        self.did("killed")
        self.programs.remove(leader)
        leader.kill()

    def expire(self, kind: str) -> None:
        self.did("compacted")
        self.world.disturb("expire", self)

    def failover(self, now: float) -> None:
        """The one who reports is asked to end; with a Lease, it is paused for longer than that lasts."""
        self.crash()
        leader = self.leader()
        self.programs.remove(leader)
        self.leaving.append(leader)
        if self.leaders:
            self.did("the leader is paused")
            leader.process.send_signal(signal.SIGSTOP)
            self.awake_at[leader] = time.monotonic() + LEASE + 5
        else:
            self.did("asked to end")
            leader.process.send_signal(signal.SIGTERM)

    def play(self, now: float) -> None:
        """Let the cluster follow the model, and start programs that are to run."""
        self.mirror()
        for program in [program for program in self.programs if program.process.poll() is not None]:
            self.programs.remove(program)
            self.crash()
            self.did(f"ended by itself with {program.process.returncode}")
            if program.process.returncode != 1 or not self.leaders:
                self.wrong.append(f"ended by itself with {program.process.returncode}")
        for program in list(self.leaving):
            if time.monotonic() > self.awake_at.get(program, float("inf")):
                del self.awake_at[program]
                program.process.send_signal(signal.SIGCONT)
            if (code := program.process.poll()) is not None:
                self.leaving.remove(program)
                early = "watching" not in program.log  # before it could know of SIGTERM
                if code != (1 if self.leaders else 0) and not (early and code == -signal.SIGTERM):
                    self.wrong.append(f"ended with {code}")
        gone = self.leaders or not self.leaving  # as a Deployment's Recreate waits
        if gone and (self.quiet or now >= self.down_until):
            while len(self.programs) < (2 if self.leaders else 1):
                self.programs.append(self.begin())

    def begin(self) -> Program:
        env = {"STATE_NAMESPACE": "cloudvision", "API_TOKEN": "", "API_TOKEN_FILE": str(self.token_file)}
        if self.leaders:
            env["LEADER_ELECT"] = "true"
        return self.stage.informer(ready=False, START_MAX_WAIT="2s", **env)

    def leads(self) -> bool:
        for program in self.programs:
            if program not in self.leading and "reporting from now on" in program.log:
                self.leading.add(program)
        return any(program in self.leading for program in self.programs)

    def remembered(self) -> set[str]:
        ledger = Ledger()
        for shard in range(SHARDS):
            found = self.world.shard(f"{NAME}-checkpoint-{shard}")
            data: Mapping[str, str] = (found or {}).get("binaryData") or {}
            if text := data.get("ledger"):
                ledger.load(base64.b64decode(text), 0.0)
        return {record.report.name for record in ledger.jobs.values()} | {*["the backlog"][: ledger.backlog()[0]]}


def complaints(log: str) -> list[str]:
    """What a program says of itself that none should ever have to."""
    return [line for line in log.splitlines() if "Traceback" in line or "internal error" in line or "broke" in line]
