"""The histories of `play.py`, played to the program itself: processes that are killed, over HTTP, in real time.

A history's decisions come from its seed and happen at its own times, `PACE` of its seconds to a real one, whatever the
processes do. So a seed repeats a history, though not the instant at which a process notices. The program's delays are
as much shorter. Objects, CloudVision and the judge live in real time: the judge's `Rules` are those delays and
tolerances for a machine that is busy with other things.

What a process could see is known from outside only, so the judge is told less than is true: that a leader hears
everything from the line in its log that says so, while no fault of the API server is on, nor `RECOVERY` seconds later.
"""

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

from tests.e2e.kit import Program, Stage
from tests.e2e.test_survival import is_delivered, records
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.server import Fault
from tests.torture.cluster import Options
from tests.torture.evidence import Rules
from tests.torture.judge import judge
from tests.torture.play import History
from tests.torture.shown import Shown
from tests.torture.worlds import WRITES, World

PACE = 10.0
RULES = Rules(stability=0.5, wait=6.0, lag=2.0, grain=2.0, delivery=4.0, recorded=4.0, retry=35.0)
DELAYS: dict[str, str] = {"STABILITY_DELAY": "0.5s", "START_MAX_WAIT": "6s"}
STEP = 0.5
LEASE = 15.0  # seconds
RECOVERY = 3.0  # seconds until every watch of a process is open again, or twice as long as the fault was, up to a retry
SETTLED = 60.0  # seconds within which all must be told once faults are over: the longest pause between attempts is 30
QUIET = RULES.wait + RULES.stability + RULES.delivery  # seconds after which nothing more is told
AWAY = ("refused", "503", "slow", "silent")


class RealHistory(History):
    """A history of one program at a time, or of two with a Lease."""

    def __init__(self, seed: int, stage: Stage, world: World, *, busy: float, leaders: bool = False) -> None:
        options = Options(jobs=10, births=busy * 0.8, claims=0.4, prompt=world.prompt)
        super().__init__(seed, busy=busy, options=options, rules=RULES)
        self.stage, self.world, self.leaders = stage, world, leaders
        self.chance = random.Random(seed)  # of what a history in simulated time does not have
        self.programs: list[Program] = []
        self.leaving: list[Program] = []  # asked to end, or paused for longer than their lease
        self.awake_at: dict[Program, float] = {}
        self.mirrored = 0
        self.troubled_at = self.healthy_from = 0.0
        self.slow_until = 0.0
        self.away_how = ""
        self.on: dict[str, bool] = {}  # faults
        self.trigger: Trigger | None = None
        self.deeds: list[str] = []
        self.wrong: list[str] = []
        self.token_file = stage.folder / "token"
        self.token_file.write_text(stage.cloudvision.token)
        self.tokens = 0
        self.now = 0.0

    def clock(self, now: float) -> float:
        """Objects and the judge live in real time."""
        return time.time()

    # --- play ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play it, and wait until all is told."""
        began = time.monotonic()
        pause = threading.Event()
        try:
            while self.now < self.busy or self.cluster.plans:
                self.quiet = self.now >= self.busy
                self.cluster.step(self.now, not self.quiet)
                self.trouble(self.now)
                self.play(self.now)
                self.note(self.now)
                self.now += STEP
                pause.wait(max(began + self.now / PACE - time.monotonic(), 0.0))
            self.settle(pause)
        finally:
            for program in [*self.programs, *self.leaving]:
                program.kill()

    def settle(self, pause: threading.Event) -> None:
        """Wait until CloudVision equals the truth and stays so, or for as long as the longest retry takes."""
        self.quiet = True
        self.trouble(self.now)  # ends the faults
        begin = time.monotonic()
        right_since: float | None = None
        while time.monotonic() < begin + SETTLED:
            self.play(self.now)
            self.note(self.now)
            now = time.monotonic()
            right_since = None if self.leaving or self.differences() else right_since or now
            if right_since is not None and now > max(right_since + 1.5, begin + QUIET):
                return
            pause.wait(0.5)

    def differences(self) -> list[str]:
        """Every way in which CloudVision, and the records, differ from the truth so far."""
        evidence = self.evidence
        evidence.until = evidence.live[-1][1] if evidence.live else self.clock(self.now)
        jobs = [number for number, change in enumerate(self.cluster.log) if change.kind == "jobs"]
        evidence.seen = set[int]()
        for first, last in evidence.live:
            if last - first >= self.rules.recorded:
                listed = {
                    self.cluster.log[number].uid: number for number in jobs if self.cluster.log[number].at < first
                }
                watched = [n for n in jobs if first <= self.cluster.log[n].at <= last - self.rules.recorded]
                evidence.seen.update(listed.values(), watched)
        wrong = judge(self.cluster.log, evidence, shown_by(self.stage.cloudvision), self.rules)
        for plural in ("jobreports", "nodereports"):
            waiting = [name for name, record in records(self.stage, plural).items() if not is_delivered(record)]
            wrong += [f"not recorded as delivered: {waiting}"] if waiting else []
        return wrong

    def judge(self) -> list[str]:
        """Every difference, and processes that ended as they should not or complain; with what happened."""
        cloudvision = self.stage.cloudvision
        found = [*self.wrong, *self.differences(), *cloudvision.rejected, *cloudvision.contradictions]
        found += [line for program in self.stage.programs for line in complaints(program.log)]
        if not found:
            return []
        last = ["the last program's log:", *self.stage.programs[-1].log.splitlines()[-30:]]
        return [f"seed {self.seed}: {'; '.join(self.deeds)}", *found, *last]

    # --- faults -------------------------------------------------------------------------------------

    def trouble(self, now: float) -> None:
        """The faults of every history, and those that only a real connection can have."""
        super().trouble(now)
        rng, cloudvision = self.chance, self.stage.cloudvision
        if self.quiet:
            self.slow_until = 0.0
            self.disarm()
            cloudvision.faults.clear()
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
            if rng.random() < 0.006:
                self.did("an API request fails")
                self.disturb("fail")
            if rng.random() < 0.003:
                self.slow_until = now + rng.uniform(10, 60)
            if not self.on.get("away"):
                self.away_how = rng.choice(AWAY)
        if self.turned("away", self.cloudvision_away):
            self.cloudvision_goes(self.cloudvision_away)
        if self.turned("API away", self.api_away):
            self.disturb("away" if self.api_away else "back")
        stalled = not self.api_away and any(until > now for until in self.stalled.values())
        if self.turned("watches stalled", stalled):
            self.disturb("stall" if stalled else "go-on")
        if self.turned("API slow", now < self.slow_until):
            self.disturb("slow" if now < self.slow_until else "fast")
        if self.api_away or stalled or now < self.slow_until:
            self.unhealthy()

    def did(self, what: str) -> None:
        self.deeds.append(f"{self.now / PACE:.1f} s {what}")

    def turned(self, name: str, on: bool) -> bool:
        """Whether a fault is to begin or end now."""
        if self.on.get(name, False) == on:
            return False
        self.on[name] = on
        self.did(f"{name}{f' ({self.away_how})' if name == 'away' else ''}{'' if on else ' no more'}")
        return True

    def disturb(self, what: str) -> None:
        began = time.time()
        for number in self.world.disturb(what, self.chance.random() < 0.5):
            for program in [*self.programs, *self.leaving]:
                if program.process.poll() is None and program not in self.awake_at:
                    program.process.send_signal(number)
        if time.time() - began > 1:  # a restart
            self.troubled_at = began
        self.unhealthy()

    def unhealthy(self) -> None:
        """The API server is in trouble: for how long a process is not sure to hear everything."""
        now = time.time()
        if now > self.healthy_from:
            self.troubled_at = max(self.troubled_at, now)
        self.healthy_from = now + min(max(RECOVERY, 2 * (now - self.troubled_at)), RULES.retry)

    def cloudvision_goes(self, away: bool) -> None:
        cloudvision = self.stage.cloudvision
        match self.away_how:
            case "refused" if away:
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
        """Who reports, or will."""
        return next((program for program in self.programs if leads(program)), self.programs[0])

    def kill(self, now: float) -> None:
        """SIGKILL who reports: now, or at the next request, before or after that takes effect."""
        server = self.chance.choice([None, None, self.stage.simulator, self.stage.cloudvision])
        leader = self.leader()
        if server is None:
            self.did("killed")
            leader.kill()
        elif self.trigger is None:
            self.trigger = Trigger(server, leader, effect=self.chance.random() < 0.5)
            self.did(f"to be killed at a request to {type(server).__name__}, effect {self.trigger.effect}")

    def disarm(self) -> None:
        if self.trigger is not None:
            self.trigger.disarm()
            self.trigger = None

    def expire(self, kind: str) -> None:
        self.did("compacted")
        self.disturb("expire")

    def failover(self, now: float) -> None:
        """Who reports is asked to end; with a Lease, it is paused for longer than that lasts."""
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
        """Let the cluster follow the history, and start programs that are to run."""
        for change in self.cluster.log[self.mirrored :]:
            self.world.change(change)
        self.mirrored = len(self.cluster.log)
        for program in [program for program in self.programs if program.process.poll() is not None]:
            self.programs.remove(program)
            if program.process.returncode == -signal.SIGKILL:
                self.down_until = max(self.down_until, now)
                self.disarm()
            elif not (self.leaders and program.process.returncode == 1):  # it lost the lease
                self.wrong.append(f"ended by itself with {program.process.returncode}")
        for program in list(self.leaving):
            if time.monotonic() > self.awake_at.get(program, float("inf")):
                del self.awake_at[program]
                program.process.send_signal(signal.SIGCONT)
                self.leaving.remove(program)
                self.programs.append(program)  # a replica like any other: it stood by, or none took its lease
            elif (code := program.process.poll()) is not None:
                self.leaving.remove(program)
                right = {1 if self.leaders else 0, -signal.SIGKILL}  # by a trigger that was set for it
                if "watching" not in program.log:  # before it could know of SIGTERM
                    right.add(-signal.SIGTERM)
                if code not in right:
                    self.wrong.append(f"ended with {code}")
        gone = self.leaders or not self.leaving  # as a Deployment's Recreate waits
        if gone and (self.quiet or now >= self.down_until):
            while len(self.programs) < (2 if self.leaders else 1):
                self.programs.append(self.begin())

    def begin(self) -> Program:
        env = {"STATE_NAMESPACE": "cloudvision", "API_TOKEN": "", "API_TOKEN_FILE": str(self.token_file)}
        if self.leaders:
            env["LEADER_ELECT"] = "true"
        return self.stage.informer(ready=False, **DELAYS, **env)

    def note(self, now: float) -> None:
        """Whether a leader hears everything now, and whether what it says arrives."""
        at = time.time()
        leader = next((program for program in self.programs if leads(program)), None)
        live = leader is not None and leader.process.poll() is None and at >= self.healthy_from
        number = self.stage.programs.index(leader) if leader is not None and live else None
        self.evidence.note(at, number, live and not self.cloudvision_away)


class Trigger:
    """Kills a program at the first write that a simulated server gets; with `effect`, the write is done all the same."""

    def __init__(self, server: Any, program: Program, *, effect: bool) -> None:
        self.server, self.program, self.effect = server, program, effect
        server.next_fault = self.next_fault

    def next_fault(self, method: str) -> Fault | None:
        if method not in WRITES:
            found: Fault | None = type(self.server).next_fault(self.server, method)
            return found
        self.program.process.kill()
        self.disarm()
        return Fault(drop=True, after=self.effect)

    def disarm(self) -> None:
        self.server.__dict__.pop("next_fault", None)


def leads(program: Program) -> bool:
    """Whether it has taken over, by its log."""
    return "reporting from now on" in program.log


def shown_by(simulator: CloudVisionSimulator) -> Shown:
    """What the simulator held, and when. Runs are named as histories name jobs."""
    found = Shown()
    with simulator.lock:
        for key, changes in simulator._jobs.changes.items():
            for change in changes:
                if change.value is not None:
                    name = ".".join([change.value["name"], *key.split(".")[1:]])
                    found.set_job({**change.value, "key": {"id": name}}, change.at)
        for node, changes in simulator._nodes.changes.items():
            nics = [(change.value or {}).get("data_interfaces", {}).get("values", ()) for change in changes]
            found.nodes[node] = [frozenset(nic["mac_address"] for nic in values) for values in nics]
    return found


def complaints(log: str) -> list[str]:
    """What a program says of itself that none should ever have to."""
    return [line for line in log.splitlines() if "Traceback" in line or "internal error" in line or "broke" in line]
