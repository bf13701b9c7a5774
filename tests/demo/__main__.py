"""`just demo`: the real informer between two simulators, and a live table of what CloudVision holds."""

import contextlib
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tests.e2e.kit import Cluster, Stage, stamp, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

COLUMNS = "{:<11} {:<12} {:<10} {:<9} {:<9} {:>4}  {}"
LOOK = 1.5  # seconds for people to look at what has changed
_pause = threading.Event()


class Play:
    """The jobs of the demo, each a few steps of what its operator and the kubelet would do."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cluster = stage.cluster
        self.kinds: dict[str, str] = {}
        self.told: list[str] = []  # what happens in Kubernetes, for people
        self._macs = iter(f"02:00:5e:00:00:{number:02x}" for number in range(1, 256))

    def job(self, group: str, kind: str, name: str, owner: Object | None = None) -> Object:
        made = self.cluster.create(job(group, kind, name, owner=owner))
        if owner is None:
            self.kinds[name] = "Volcano Job" if group == "batch.volcano.sh" else kind
        if status := running(group, kind, stamp()):
            made = self.cluster.set_status(made, status)
        return made

    def pods(self, owner: Object, count: int, nics: int = 1) -> list[Object]:
        name = owner["metadata"]["name"]
        macs = [[next(self._macs) for _ in range(nics)] for _ in range(count)]
        return [self.cluster.run_pod(pod(f"{name}-{n}-{macs[n][0][-2:]}", owner, *macs[n])) for n in range(count)]

    def end(self, made: Object, state: str, pods: list[Object]) -> None:
        group, kind = made["apiVersion"].split("/")[0], made["kind"]
        phase = "Succeeded" if state == "COMPLETED" else "Failed"
        for one in pods:
            self.cluster.set_status(one, pod_status(phase, stamp(-10), stamp()))
        began = (made.get("status") or {}).get("startTime") or stamp(-10)
        self.cluster.set_status(made, ended(group, kind, state, began, stamp()) or {})

    def tell(self, text: str) -> None:
        self.told.append(f"{stamp()[11:19]}  {text}")

    def wait(self, name: str, *states: str) -> None:
        self.stage.wait_for_states(name, *states)

    def look(self, name: str, *states: str) -> None:
        self.wait(name, *states)
        _pause.wait(LOOK)

    def run(self) -> None:
        self.tell("five jobs are submitted, and their pods start with a NIC or two each;")
        self.tell("  the TrainJob makes a JobSet, that two Jobs, those four pods: one job all the same")
        batch = self.job("batch", "Job", "preprocess")
        torch = self.job("kubeflow.org", "PyTorchJob", "finetune")
        train = self.job("trainer.kubeflow.org", "TrainJob", "pretrain")
        jobset = self.job("jobset.x-k8s.io", "JobSet", "pretrain", owner=train)
        volcano = self.job("batch.volcano.sh", "Job", "simulate")
        doomed = self.job("ray.io", "RayJob", "explore")
        batch_pods = self.pods(batch, 2)
        torch_pods = self.pods(torch, 2)
        children = [self.job("batch", "Job", f"pretrain-{part}", owner=jobset) for part in ("a", "b")]
        train_pods = [one for child in children for one in self.pods(child, 2, nics=2)]
        volcano_pods = self.pods(volcano, 3)
        self.pods(doomed, 1)
        for name in self.kinds:
            self.wait(name, "RUNNING")
        _pause.wait(2 * LOOK)
        self.tell("preprocess, a Job, succeeds")
        self.end(batch, "COMPLETED", batch_pods)
        self.look("preprocess", "RUNNING", "COMPLETED")
        self.tell("finetune, a PyTorchJob, gets a third worker: one NIC more once it is steady for 2 s")
        torch_pods += self.pods(torch, 1)
        self.look("finetune", "RUNNING", "RUNNING")
        self.tell("simulate, a Volcano Job, fails")
        self.end(volcano, "FAILED", volcano_pods)
        self.look("simulate", "RUNNING", "FAILED")
        self.tell("explore, a RayJob, is deleted while it runs")
        self.cluster.delete(doomed)
        self.look("explore", "RUNNING", "CANCELLED")
        self.tell("finetune and pretrain succeed")
        self.end(torch, "COMPLETED", torch_pods)
        self.end(train, "COMPLETED", train_pods)
        self.wait("finetune", "RUNNING", "RUNNING", "COMPLETED")
        self.look("pretrain", "RUNNING", "COMPLETED")


def table(held: dict[str, Object], kinds: dict[str, str]) -> list[str]:
    """What CloudVision holds, a line each, in the order of submission."""
    lines = [COLUMNS.format("JOB", "KIND", "STATE", "START", "END", "NICS", "MAC ADDRESSES")]
    order = list(kinds)
    for entry in sorted(held.values(), key=lambda entry: order.index(entry["name"])):
        state = entry["state"].removeprefix("JOB_STATE_")
        times = [entry.get(name, "")[11:19] for name in ("start_time", "end_time")]
        macs = entry["interfaces"]["values"]
        shown = f"{macs[0]} ... {macs[-1]}" if len(macs) > 2 else " ".join(macs)
        lines.append(COLUMNS.format(entry["name"], kinds[entry["name"]], state, *times, len(macs), shown))
    return lines


def show_while(busy: Callable[[], bool], cloudvision: CloudVisionSimulator, play: Play) -> None:
    """Redraw events and table on a terminal; elsewhere print what is new."""
    last: list[str] = []
    said = 0
    while True:
        done = not busy()
        with cloudvision.lock:
            lines = table(cloudvision.jobs, play.kinds)
        told = list(play.told)
        if lines != last or len(told) != said:
            live = sys.stdout.isatty()
            print("\x1b[2J\x1b[H" if live else "", end="")
            events = told if live else told[said:]
            print("".join(f"Kubernetes {line}\n" for line in events), end="\n" if events else "")
            if lines[1:] and (live or lines != last):
                print("CloudVision holds (times in UTC):")
                print("\n".join(f"  {line}" for line in lines), end="\n\n", flush=True)
            last, said = lines, len(told)
        if done:
            return
        _pause.wait(0.1)


def main() -> int:
    """Play it. Exit code 1 if it did not go as told."""
    with (
        tempfile.TemporaryDirectory(prefix="cvji-demo-") as folder,
        KubernetesSimulator() as kubernetes,
        CloudVisionSimulator() as cloudvision,
    ):
        kubernetes.serve_all()
        server = f"http://{kubernetes.address}"
        cluster = Cluster(server, write_kubeconfig(Path(folder), server))
        stage = Stage(cluster, cloudvision, Path(folder))
        with contextlib.closing(stage):
            print(f"A simulated Kubernetes on {server} and CloudVision on https://{cloudvision.address},")
            print("and the real `cvji informer` between them. It reports a start once nothing has changed for 2 s.\n")
            program = stage.informer(STABILITY_DELAY="2s")
            play = Play(stage)
            failures: list[BaseException] = []

            def work() -> None:
                try:
                    play.run()
                except AssertionError as err:
                    failures.append(err)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            show_while(thread.is_alive, cloudvision, play)
            code = program.stop()
            print("The payloads that CloudVision received, in order:")
            for number, request in enumerate(cloudvision.requests, 1):
                print(f"\n{number}. {request.method} {request.path}: {request.status}\n   {request.body.decode()}")
            if failures or cloudvision.rejected or code:
                print(f"FAILED: {failures} {cloudvision.rejected} exit code {code}\n{program.log}")
                return 1
    print(f"\nDone: {len(cloudvision.requests)} reports of {len(cloudvision.jobs)} jobs, none refused.")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    sys.exit(main())
