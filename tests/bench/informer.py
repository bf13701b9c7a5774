"""The informer as a process: idle, with the clusters of design section 6, starting, and decoding."""

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cvji.jobs.allocation import multus_macs, read_pod

from cvji.jobs.kinds import Registry
from tests.bench.figures import Row, Usage, bench, children, percentiles
from tests.e2e.in_pod import idle as idle_pods
from tests.e2e.kit import EXECUTABLE, Cluster, Stage, stamp, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

TORCH = ("kubeflow.org", "PyTorchJob")
POD_BYTES = 6900  # a pod as clusters have them
PODS_A_JOB = NICS_A_POD = 8
ENDS_A_SECOND = 50.0  # jobs ended while latencies are measured
# Design section 6: what the public reference implementation needed, and delivered.
REFERENCE = {2_000: (414.0, 24.0), 8_000: (1_283.0, 90.0)}


def mac(number: int) -> str:
    return f"02:{number >> 32 & 255:02x}:" + ":".join(f"{number >> shift & 255:02x}" for shift in (24, 16, 8, 0))


def made_job(number: int) -> Object:
    obj = job(*TORCH, f"train-{number:04}")
    obj["metadata"] |= {"uid": str(uuid.UUID(int=number + 1)), "creationTimestamp": stamp(-60)}
    return obj | {"status": running(*TORCH, stamp(-50))}


def made_pod(owner: Object, number: int) -> bytes:
    """A running pod as the API server stores it, of POD_BYTES."""
    macs = [mac(number * NICS_A_POD + n) for n in range(NICS_A_POD)]
    obj = pod(f"{owner['metadata']['name']}-worker-{number % PODS_A_JOB}", owner, *macs, padding=1)
    meta = {"uid": str(uuid.UUID(int=1 << 64 | number)), "resourceVersion": "VERSION", "creationTimestamp": stamp(-55)}
    obj["metadata"] |= meta
    obj["status"] = pod_status("Running", stamp(-50))
    room = POD_BYTES - len(json.dumps(obj))
    obj["spec"]["containers"][0]["env"] = [
        {"name": f"SETTING_{n:03}", "value": "x" * (room // 40 - 40)} for n in range(40)
    ]
    return json.dumps(obj).encode()


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
    """A small cluster, with checkpoint, lease and metrics, after all has been said."""
    with stage(folder) as (made, kubernetes):
        for number in range(5):
            owner = kubernetes.create(made_job(number))
            kubernetes.put_raw("", "pods", "team", f"p{number}", made_pod(owner, number))
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


def cluster(folder: Path, pods: int) -> Iterator[Row]:
    """Start in a full cluster, wait until quiet; then end every job and see how fast that is told."""
    jobs = pods // PODS_A_JOB
    subject = f"{pods:,} pods, {jobs:,} jobs"
    with stage(folder) as (made, kubernetes):
        owners = [kubernetes.create(made_job(number)) for number in range(jobs)]
        for number in range(pods):
            raw = made_pod(owners[number // PODS_A_JOB], number)
            kubernetes.put_raw("", "pods", "team", f"pod-{number}", raw)
        began = time.monotonic()
        program = made.informer(STABILITY_DELAY="5s", START_MAX_WAIT="60s", KIND_RETRY="30s", ready=False)
        usage = Usage(program.process.pid)
        made.cloudvision.wait_for(lambda: len(made.cloudvision.jobs) == jobs, 600)
        took = time.monotonic() - began
        usage.quiet(3)
        memory, cpu = REFERENCE[pods]
        yield Row(subject, "peak RSS", usage.peak(), "MB", most=memory, note="limit: the reference")
        yield Row(subject, "CPU until quiet", usage.cpu(), "s", most=cpu, note="limit: the reference")
        yield Row(subject, "threads", usage.threads())
        yield Row(subject, "jobs told RUNNING", len(made.cloudvision.jobs), least=jobs)
        yield Row(subject, "until the last of them", took, "s", note="5 s of it STABILITY_DELAY")
        ended_at: dict[str, float] = {}
        first = time.monotonic()
        for number, owner in enumerate(owners):
            time.sleep(max(first + number / ENDS_A_SECOND - time.monotonic(), 0.0))
            status = ended(*TORCH, "COMPLETED", stamp(-50), stamp())
            ended_at[owner["metadata"]["uid"]] = time.monotonic()
            kubernetes.patch(*TORCH[:1], "pytorchjobs", "team", owner["metadata"]["name"], {"status": status})
        states = made.cloudvision.jobs
        made.cloudvision.wait_for(lambda: all(e["state"] == "JOB_STATE_COMPLETED" for e in states.values()), 120)
        ends = [r for r in made.cloudvision.requests if b"JOB_STATE_COMPLETED" in r.body and r.status == 200]
        waits = [r.at - ended_at[json.loads(r.body)["key"]["id"]] for r in ends]
        yield Row(subject, "jobs told COMPLETED", len(waits), least=jobs, most=jobs)
        yield from percentiles(subject, "an end to CloudVision", waits)
        assert not made.cloudvision.rejected


@bench
def cluster_2000(folder: Path) -> Iterator[Row]:
    """2,000 pods of 250 jobs."""
    yield from cluster(folder, 2_000)


@bench
def cluster_8000(folder: Path) -> Iterator[Row]:
    """8,000 pods of 1,000 jobs."""
    yield from cluster(folder, 8_000)


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
    raws = [made_pod(made_job(number // PODS_A_JOB), number) for number in range(2_000)]
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
