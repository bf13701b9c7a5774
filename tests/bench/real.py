"""The informer in a cluster of a real API server and etcd, on the same cores; there is no kubelet."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cvji.kube.client import Api
from tests.bench.clusters import JOB_SIZE, NICS, QUIET, informer
from tests.bench.figures import Row, Usage, bench, percentiles
from tests.bench.objects import NAMESPACE, TORCH, TORCH_JOBS, PodTemplate, made_job
from tests.bench.servers import CloudVisionSide, Expected, Pace, process, waits
from tests.cluster.controlplane import ControlPlane
from tests.cluster.crds import crd, own_crd, report_crds
from tests.e2e.kit import stamp
from tests.simulator.kinds import JOB_KINDS
from tests.simulator.objects import Object, ended

WRITERS = 4
PARTS = ("apiserver", "etcd")
ENDS, ENDS_A_SECOND = 300, 20.0
JOBS = f"/apis/{TORCH_JOBS[0]}/v1/namespaces/{NAMESPACE}/{TORCH_JOBS[1]}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


class RealSide:
    """The cluster: what KubernetesSide does with a simulator."""

    def __init__(self, plane: ControlPlane) -> None:
        if plane.external:
            raise RuntimeError("CVJI_TEST_KUBECONFIG names a cluster of yours: it is not filled with pods")
        plane.install_crds([own_crd(), *report_crds(), *(crd(*kind) for kind in JOB_KINDS if kind[2] == TORCH[1])])
        for name in (NAMESPACE, "cloudvision"):
            plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        self._api = Api()
        self._jobs: list[Object] = []

    def fill(self, jobs: int, size: int, nics: int) -> None:
        """Running jobs of so many running pods."""
        template = PodTemplate("Running", nics)

        def make_pod(member: int) -> None:
            self._create(PODS, json.loads(template.make(member, self._jobs[member // size])))

        self._jobs = _at_once(lambda number: self._create(JOBS, made_job(number)), range(jobs))
        _at_once(make_pod, range(jobs * size))

    def _create(self, path: str, obj: Object) -> Object:
        """Create an object, then its status; as it was made."""
        for field in ("uid", "resourceVersion", "creationTimestamp"):  # the API server's own
            obj["metadata"].pop(field, None)
        status = obj.pop("status")
        made: Object = json.loads(self._api.send("POST", path, json.dumps(obj).encode()))
        self._set_status(path, made, status)
        return made

    def _set_status(self, path: str, obj: Object, status: Any) -> None:
        path = f"{path}/{obj['metadata']['name']}/status"
        body = json.dumps({"status": status}).encode()
        self._api.send("PATCH", path, body, content_type="application/merge-patch+json")

    def end_jobs(self, count: int, rate: float) -> list[Expected]:
        """End so many jobs a second; each is timed from when the API server is asked."""
        pace = Pace(rate)
        expected = []
        for owner in self._jobs[:count]:
            pace.wait()
            expected.append(Expected(owner["metadata"]["uid"], "end", time.monotonic()))
            self._set_status(JOBS, owner, ended(*TORCH, "COMPLETED", stamp(-50), stamp()))
        return expected


def _at_once(call: Callable[[int], Any], numbers: Iterable[int]) -> list[Any]:
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(call, numbers))


@bench
def real_8000(folder: Path, pods: int = 8_000) -> Iterator[Row]:
    """8,000 pods of 1,000 jobs: start in the full cluster, then end jobs."""
    jobs, subject = pods // JOB_SIZE, f"{pods:,} pods, real API server"
    with ControlPlane() as plane, process(CloudVisionSide) as cloudvision:
        cluster = RealSide(plane)
        cluster.fill(jobs, JOB_SIZE, NICS)
        parts = {name: Usage(plane.processes[name]) for name in PARTS}
        before = {name: part.cpu() for name, part in parts.items()}
        began = time.monotonic()
        with informer(plane.kubeconfig, cloudvision, folder) as program:
            usage = Usage(program.process.pid)
            cloudvision.wait_for_held(jobs, 0, 900)
            yield Row(subject, "all reported after", time.monotonic() - began, "s", most=120)
            yield Row(subject, "CPU until all is reported", usage.cpu(), "s", most=60)
            for name, part in parts.items():
                yield Row(subject, f"CPU of {name} until then", part.cpu() - before[name], "s")
            usage.quiet(QUIET)
            yield Row(subject, "peak RSS", usage.peak(), "MB", most=256)
            count = min(ENDS, jobs // 2)
            told = cloudvision.count()
            expected = cluster.end_jobs(count, ENDS_A_SECOND)
            cloudvision.wait_for_requests(told + count, 120)
            found = waits(expected, cloudvision.said(told))["end"]
            heard = [wait for wait in found if wait < float("inf")]
            yield Row(subject, "an end to CloudVision, never heard of", len(found) - len(heard), most=0)
            yield from percentiles(subject, "an end to CloudVision", heard, limits={"p50": 50, "p99": 250})
        yield Row(subject, "refused by CloudVision", cloudvision.rejected(), most=0)
