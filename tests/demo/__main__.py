"""`just demo`: the real informer between two simulators, and a live table of what CloudVision holds."""

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.kit import Cluster, Stage, stamp, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

COLUMNS = "{:<12} {:<12} {:<10} {:>4}  {:<9} {:<9}"
_pause = threading.Event()


class Play:
    """The jobs of the demo, each a few steps of what its operator and the kubelet would do."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cluster = stage.cluster
        self.kinds: dict[str, str] = {}
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

    def wait(self, name: str, *states: str) -> None:
        self.stage.wait_for_states(name, *states)

    def run(self) -> None:
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
        torch_pods += self.pods(torch, 1)
        self.end(volcano, "FAILED", volcano_pods)
        self.wait("simulate", "RUNNING", "FAILED")
        self.end(batch, "COMPLETED", batch_pods)
        self.wait("preprocess", "RUNNING", "COMPLETED")
        self.cluster.delete(doomed)
        self.wait("explore", "RUNNING", "CANCELLED")
        self.wait("finetune", "RUNNING", "RUNNING")
        self.end(torch, "COMPLETED", torch_pods)
        self.wait("finetune", "RUNNING", "RUNNING", "COMPLETED")
        self.end(train, "COMPLETED", train_pods)
        self.wait("pretrain", "RUNNING", "COMPLETED")


def table(held: dict[str, Object], kinds: dict[str, str]) -> list[str]:
    """What CloudVision holds, a line each."""
    lines = [COLUMNS.format("JOB", "KIND", "STATE", "NICS", "START", "END")]
    for entry in sorted(held.values(), key=lambda entry: entry["name"]):
        state = entry["state"].removeprefix("JOB_STATE_")
        times = [entry.get(name, "")[11:19] for name in ("start_time", "end_time")]
        kind = kinds.get(entry["name"], "?")
        lines.append(COLUMNS.format(entry["name"], kind, state, len(entry["interfaces"]["values"]), *times))
    return lines


def show_while(busy: Callable[[], bool], cloudvision: CloudVisionSimulator, kinds: dict[str, str]) -> None:
    """Redraw the table on a terminal; elsewhere print it when it changes."""
    last: list[str] = []
    began = time.monotonic()
    while True:
        done = not busy()
        with cloudvision.lock:
            lines = table(cloudvision.jobs, kinds)
        if lines != last:
            last = lines
            if sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            print(f"What CloudVision holds after {time.monotonic() - began:.1f} s:")
            print("\n".join(f"  {line}" for line in lines), end="\n\n", flush=True)
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
            print(f"Kubernetes simulator on {server}, CloudVision on https://{cloudvision.address}")
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
            show_while(thread.is_alive, cloudvision, play.kinds)
            code = program.stop()
            print("The payloads that CloudVision received, in order:")
            for request in cloudvision.requests:
                print(f"  {request.method} {request.path}\n    {request.body.decode()}")
            if failures or cloudvision.rejected or code:
                print(f"FAILED: {failures} {cloudvision.rejected} exit code {code}\n{program.log}")
                return 1
    counted = json.dumps({"reports": len(cloudvision.requests), "jobs": len(cloudvision.jobs), "refused": 0})
    print(f"Done: {counted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
