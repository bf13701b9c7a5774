"""What happens in a cluster at random: how jobs of each kind come, change, stop, go on and end.

Deeds are planned by name and time, and done in order. A deed that makes no sense when its time has come is not done.
"""

from tests.torture.cluster import (
    BATCH,
    NUMBERED,
    RAYCLUSTER,
    RAYJOB,
    TIMELESS,
    TORCH,
    VOLCANO,
    WORKFLOW,
    Cluster,
    End,
    Job,
    Node,
    Pod,
)

COMMON = ["replace", "grow", "crash", "lose"]
CHANGES = {
    TORCH: [*COMMON, "succeed", "pause", "shrink"],
    BATCH: [*COMMON, "succeed", "pause", "drain"],
    WORKFLOW: ["grow", "crash", "lose", "succeed", "succeed"],
    VOLCANO: [*COMMON, "abort"],
    RAYJOB: [*COMMON, "shrink"],
    RAYCLUSTER: [*COMMON, "shrink", "pause"],
}
ENDS = {RAYCLUSTER: ["fail", "delete", "delete"]}


class World(Cluster):
    """A cluster in which things happen."""

    def begin(self) -> None:
        """Plan when jobs come."""
        self.outcomes: dict[str, End] = {}  # of jobs whose pods have ended, and that are yet to say so
        for number in range(self.options.jobs):
            self.plan(self.rng.uniform(0, self.options.births), "birth", f"job-{number}")

    def step(self, now: float, busy: bool) -> None:
        """Let happen what is due; while `busy`, new things begin."""
        for deed, about in self.due(now):
            self.act(deed, about)
        if busy and self.rng.random() < 0.02:
            node = f"node-{self.rng.randint(0, 4)}"
            if node in self.objects["nodes"] and self.rng.random() < 0.4:
                self.drop("nodes", node)
            else:
                self.put("nodes", Node(node, self.mac()))

    def act(self, deed: str, about: str) -> None:
        """Do what was planned."""
        match deed:
            case "birth":
                self.birth(about)
            case "start" | "start-error":
                self.start(about, error=deed == "start-error")
            case "publish":
                self.publish(about)
            case "release":
                self.release(about)
            case "stop":
                self.stop(about)
            case "kill":
                self.remove_pod(about)
            case "take" if about in self.objects["pods"]:
                self.delete_pod(self.objects["pods"][about])
            case "remake":
                self.remake(about)
            case "collect":
                self.remove_job(about)
            case "drop":
                self.drop_job(about)
            case "delete":
                self.delete(about)
            case _ if (job := self.job(about)) is not None:
                self.change(deed, job)

    def birth(self, uid: str) -> None:
        rng = self.rng
        kind = rng.choice([TORCH, TORCH, BATCH, WORKFLOW, VOLCANO, RAYJOB, RAYCLUSTER])
        rays = self.options.rays
        if rays and rng.random() < rays:
            kind = RAYJOB
        now = self.stamp()
        self.put("jobs", Job(uid, kind, None, now, None if kind in TIMELESS else now))
        if kind == RAYJOB:
            self.put("jobs", Job(f"{uid}-cluster", RAYCLUSTER, uid, now, None))
        if self.options.drivers and kind in (BATCH, WORKFLOW) and rng.random() < self.options.drivers:
            self.driven[uid] = ""
        for number in range(rng.randint(1, 4)):
            self.make_pod(uid, str(number) if kind in NUMBERED else "")
        at = 0.0
        for _ in range(rng.randint(0, 3)):
            at += rng.choice([rng.uniform(2, 15), rng.uniform(15, 80)])
            self.plan(at, rng.choice([*CHANGES[kind], *(["succeed"] if rays and kind == RAYJOB else [])]), uid)
        if rng.random() < 0.85:
            at += rng.choice([rng.uniform(1, 12), rng.uniform(15, 90), rng.uniform(15, 90)])
            self.plan(at, rng.choice(ENDS.get(kind, ["complete", "complete", "fail", "delete"])), uid)

    def change(self, deed: str, job: Job) -> None:
        """Do something to a job that exists."""
        if deed == "declare":
            self.declare(job)
        elif deed == "late-grow" and self.job(self.home(job.uid)):
            self.make_pod(job.uid)
        elif deed == "un-end" and job.end is not None:
            self.change_job(job.uid, end=None, started=None if job.kind in TIMELESS else self.stamp())
            self.make_pod(job.uid, "0" if job.kind in NUMBERED else "")
        elif job.end is not None or job.deleting:
            return
        elif deed == "resume":
            started = None if job.kind in TIMELESS else self.stamp()
            self.change_job(job.uid, suspended=False, started=started)
            for number in range(self.rng.randint(1, 2)):
                self.make_pod(job.uid, str(number) if job.kind in NUMBERED else "")
        elif deed == "pause":
            self.pause(job)
        elif not job.suspended:
            self.change_pods(deed, job)

    def change_pods(self, deed: str, job: Job) -> None:
        """Do something to the pods of a job that is neither ended nor suspended."""
        rng, uid = self.rng, job.uid
        running = [pod for pod in self.pods_of(uid, "Running") if not pod.deleting]
        one = rng.choice(running) if running else None
        match deed:
            case "replace" | "drain" if one:
                self.delete_pod(one)
                self.plan(rng.choice([0.0, rng.uniform(0, 10)]), "remake", f"{uid} {one.place}")
            case "shrink" if one and len(running) > 1:
                self.delete_pod(one)
            case "grow":
                taken = {pod.place for pod in self.pods_of(uid)}
                place = next(str(n) for n in range(99) if str(n) not in taken) if job.kind in NUMBERED else ""
                self.make_pod(uid, place)
            case "succeed" if one and len(running) > 1:
                self.end_pod(one, "Succeeded")
                if rng.random() < 0.6:
                    self.plan(rng.uniform(0, 60), "kill", one.uid)
            case "crash" if one and self.clock(self.now) - one.created > 4:
                self.crash(job, one)
            case "lose":  # every pod goes, and others come after a while: shorter or longer than START_MAX_WAIT
                for pod in self.pods_of(uid):
                    self.delete_pod(pod)
                wait = rng.choice([rng.uniform(10, 45), rng.uniform(75, 150)])
                for number in range(rng.randint(1, 3)):
                    self.plan(wait, "remake", f"{uid} {number if job.kind in NUMBERED else ''}")
            case "complete" | "fail" if running:
                self.finish(job, deed == "complete", running)
            case "abort":  # a stop that can be resumed, as a suspension is
                self.pause(job)

    def remake(self, about: str) -> None:
        """A pod in place of another."""
        uid, _, place = about.partition(" ")
        job = self.job(uid)
        if job and not job.end and not job.deleting and not job.suspended and self.job(self.home(uid)):
            self.make_pod(uid, place)

    def crash(self, job: Job, pod: Pod) -> None:
        """A pod fails: it is replaced, with or without its object going first, or not at all."""
        rng = self.rng
        self.end_pod(pod, "Failed")
        how = rng.random()
        if how < 0.3:
            return
        wait = rng.choice([1.5, rng.uniform(0.5, 12)])
        if how < 0.6:
            self.plan(wait, "kill", pod.uid)
        self.plan(wait, "remake", f"{job.uid} {pod.place}")

    def pause(self, job: Job) -> None:
        started = None if job.kind == BATCH else job.started
        self.change_job(job.uid, suspended=True, started=started)
        for pod in self.pods_of(job.uid, "Pending", "Running"):
            self.delete_pod(pod)
        self.plan(self.rng.uniform(20, 90), "resume", job.uid)

    def finish(self, job: Job, well: bool, running: list[Pod]) -> None:
        """The pods of a job end, or the first of them and the others are taken away; its object says so then."""
        rng = self.rng
        self.end_pod(running[0], "Succeeded" if well else "Failed")
        whole = rng.random() < (0.2 if self.options.rays and job.kind == RAYJOB else 0.7)
        for pod in running[1:]:
            if whole:
                self.end_pod(pod, "Succeeded" if well or rng.random() < 0.3 else "Failed")
        outcome = End("COMPLETED" if well else "FAILED", None)
        self.outcomes[job.uid] = outcome
        if rng.random() < 0.5:
            self.declare(job)
        else:
            self.plan(rng.uniform(0, 4), "declare", job.uid)

    def declare(self, job: Job) -> None:
        """A job's object says how it ended; what is left of its pods is taken away, or a cluster runs on."""
        rng, uid = self.rng, job.uid
        outcome = self.outcomes.pop(uid, None)
        if outcome is None or job.end is not None:
            return
        at = None if job.kind == RAYCLUSTER else self.stamp()
        self.change_job(uid, end=End(outcome.state, at))
        if job.kind == RAYJOB and rng.random() < 0.6:  # its cluster outlives it
            longest = 400 if self.options.rays else 200
            self.plan(rng.choice([rng.uniform(0, 20), rng.uniform(70, longest)]), "collect", uid)
            for _ in range(rng.randint(0, 2)):
                self.plan(rng.uniform(0, 90), "late-grow", uid)
            return
        for pod in self.pods_of(uid, "Pending", "Running"):
            self.delete_pod(pod)
        fate = rng.random()
        if fate < 0.25:
            self.plan(rng.choice([0.0, 0.0, rng.uniform(0, 1)]), "collect", uid)
        elif fate < 0.65:
            self.plan(rng.uniform(1, 60), "collect", uid)
        elif job.kind == WORKFLOW and outcome.state == "FAILED":
            self.plan(rng.uniform(15, 60), "un-end", uid)

    def delete(self, uid: str) -> None:
        """Delete a job that has not ended: its object first, or its pods first (foreground)."""
        job = self.job(uid)
        if job is None or job.end or job.deleting:
            return
        if self.rng.random() < 0.5:
            self.remove_job(uid)
            return
        self.change_job(uid, deleting=self.stamp())
        for pod in self.pods_of(uid):
            self.delete_pod(pod)
        self.plan(9.0, "drop", uid)

    def remove_job(self, uid: str) -> None:
        """A job's object goes, and the garbage collector takes what is below it."""
        job = self.job(uid)
        if job is None:
            return
        home = self.home(uid)
        pods = self.pods_of(uid)
        self.drop("jobs", uid)
        if home != uid:
            self.plan(self.rng.uniform(0, 2), "drop", home)
        for pod in pods:
            self.delete_pod(pod)

    def drop_job(self, uid: str) -> None:
        """A job's object goes, as soon as its pods have."""
        if self.job(uid) is None:
            return
        self.remove_job(uid)
