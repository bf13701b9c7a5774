"""The informer as a process: idle, starting, and decoding."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cvji.jobs.attachments import multus_macs
from cvji.jobs.kinds import Registry
from cvji.jobs.pods import read_pod
from tests.bench.figures import Row, Usage, bench, children
from tests.bench.objects import PodTemplate, made_job
from tests.e2e.in_pod import idle as idle_pods
from tests.e2e.kit import EXECUTABLE, Cluster, Stage, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[tuple[Stage, KubernetesSimulator]]:
    """A cluster over plain HTTP and a CloudVision over TLS."""
    with KubernetesSimulator() as kubernetes, CloudVisionSimulator() as cloudvision:
        kubernetes.serve_all()
        server = f"http://{kubernetes.address}"
        cluster = Cluster(server, write_kubeconfig(folder, server))
        made = Stage(cluster, cloudvision, folder)
        with contextlib.closing(made), contextlib.closing(cluster):
            yield made, kubernetes


@bench
def idle(folder: Path) -> Iterator[Row]:
    """A small cluster, with records, Lease and metrics, after all has been reported."""
    with stage(folder) as (made, kubernetes):
        pods = PodTemplate("Running", 8)
        for number in range(5):
            owner = kubernetes.create(made_job(number))
            kubernetes.put_raw("", "pods", "team", f"p{number}", pods.make(number, owner))
        program = made.informer(STATE_NAMESPACE="cloudvision", LEADER_ELECT="true", HEALTH_ADDRESS="127.0.0.1:0")
        made.cloudvision.wait_for(lambda: len(made.cloudvision.jobs) == 5)
        usage = Usage(program.process.pid)
        usage.quiet(3)
        yield Row("informer, idle", "RSS", usage.rss(), "MB", most=60)
        used, began = usage.cpu(), time.monotonic()
        time.sleep(10)
        percent = (usage.cpu() - used) / (time.monotonic() - began) * 100
        yield Row(
            "informer, idle", "CPU of a core", percent, "%", note="bookmarks every second, a real server's every minute"
        )
        yield Row("informer, idle", "threads", usage.threads())


@bench
def idle_in_pod(folder: Path) -> Iterator[Row]:
    """Both workloads as they are deployed, with nothing to do."""
    for command, measure, size in idle_pods(folder):
        yield Row(f"{command}, idle in a pod", measure, size, "MB", most=35)


@bench
def start(folder: Path) -> Iterator[Row]:  # noqa: ARG001
    """How long a command takes to begin: the best of ten, since the machine is not ours alone."""
    for arguments in (["--help"], ["--version"], ["informer", "--help"]):
        times, used = [], []
        for _ in range(10):
            began, before = time.monotonic(), children()
            subprocess.run([EXECUTABLE, *arguments], check=True, capture_output=True)
            times.append(time.monotonic() - began)
            used.append(children() - before)
        limit = 0.3 if arguments == ["--help"] else None
        yield Row(f"cvji {' '.join(arguments)}", "time, best of 10", min(times), "s", most=limit)
        yield Row(f"cvji {' '.join(arguments)}", "CPU, best of 10", min(used), "s")


@bench
def decode(folder: Path) -> Iterator[Row]:  # noqa: ARG001
    """From a pod's bytes to what is kept of it."""
    registry = Registry()
    pods = PodTemplate("Running", 8)
    raws = [pods.make(number, made_job(number // 8)) for number in range(2_000)]
    notes = [json.loads(raw)["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] for raw in raws]
    best = best_of_five([partial(read_pod, registry, raw) for raw in raws])
    yield Row("decode", "a pod, annotation included", best, "µs", note=f"{len(raws[0]):,} bytes; best of 5")
    best = best_of_five([partial(multus_macs, text) for text in notes])
    yield Row("decode", "its annotation alone", best, "µs", note=f"{len(notes[0]):,} bytes; best of 5")


def best_of_five(calls: list[Callable[[], object]]) -> float:
    """Microseconds a call."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for call in calls:
            call()
        best = min(best, time.perf_counter() - began)
    return best / len(calls) * 1e6
