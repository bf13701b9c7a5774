"""What `cvji explain` reads of a namespace, keeps of it, and takes for the job that is asked for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cvji import explain
from cvji.deployed import Deployed
from cvji.explain_read import Reader
from cvji.jobs.report import JobState, Key, RunReport, of_macs
from cvji.nodes.objects import NODE_STATES
from cvji.reports.records import GROUP, Delivery, Reason, Record, first_status, write_spec, write_status
from cvji.settings import NodeConfigMode
from tests.unit.api import FakeApi
from tests.unit.world import T0, at, mac, owner, stamp

RAY = ("ray.io/v1", "RayJob")
CLUSTER = ("ray.io/v1", "RayCluster")
DONE = {"jobStatus": "SUCCEEDED", "startTime": stamp(0), "endTime": stamp(100)}
PODS = "/api/v1/namespaces/team/pods"


def named(uid: str, of: list[dict[str, Any]] | None = None, **body: Any) -> dict[str, Any]:
    meta = {"name": uid, "namespace": "team", "uid": uid, "creationTimestamp": stamp(0), "ownerReferences": of or []}
    return {"metadata": meta, **body}


def pod(uid: str, of: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    found = named(uid, of, spec={"nodeName": "node-1"})
    networks = f'[{{"name":"cbr0","default":true}},{{"name":"rail","interface":"net1","mac":"{mac(1)}"}}]'
    found["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/network-status": networks}
    state = {"running": {"startedAt": stamp(0)}}
    status = {"phase": "Running", "startTime": stamp(0), "containerStatuses": [{"name": "main", "state": state}]}
    return {**found, "status": status}


class Namespace(FakeApi):
    """One with jobs of Ray's kinds; what is asked for by its name is found in the lists."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        super().__init__()
        self.answers["/apis"] = {"groups": []}
        self.serve("ray.io", "RayJob", "RayCluster")
        self.serve(GROUP, "JobReport")
        self.put(PODS, *pods)

    def serve(self, group: str, *kinds: str) -> None:
        self.answers["/apis"]["groups"].append({"name": group, "versions": [{"version": "v1"}]})
        resources = [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": True} for kind in kinds]
        self.answers[f"/apis/{group}/v1"] = {"resources": resources}

    def put(self, path: str, *items: Any) -> None:
        super().put(path, *items)
        self.answers.update({f"{path}/{item['metadata']['name']}": item for item in items})


def report(name: str, start: int, end: int | None) -> dict[str, Any]:
    """A JobReport of a job of Ray's, delivered when its STABILITY_DELAY was over."""
    key: Key = ("job", name)
    state = JobState.RUNNING if end is None else JobState.COMPLETED
    run = RunReport(name, 1, name, "team", "ray.io/RayCluster", state, start, end, of_macs([mac(1)]))
    found: dict[str, Any] = json.loads(write_spec(Record(key, 1, run), "cloudvision", "", location="", term=0))
    found["metadata"]["generation"] = 1
    return found | {
        "status": json.loads(
            write_status(key, "cloudvision", "", 1, first_status(Delivery(Reason.ACCEPTED, start + 65)))
        )["status"]
    }


def reader(api: FakeApi) -> Reader:
    return Reader(api, "team", "cloudvision", Deployed({"LOCATION": "lab"}))


def test_of_the_pods_of_a_namespace_those_of_jobs_are_kept() -> None:
    api = Namespace(pod("w-0", owner(*CLUSTER, "ray")), pod("web", owner("apps/v1", "ReplicaSet", "web")), pod("alone"))
    api.put("/apis/ray.io/v1/namespaces/team/rayclusters", named("ray"))
    read = reader(api)
    (uid,) = read.find("ray", "")
    read.read_pods(read.jobs[uid])
    assert set(read.pods) == {"w-0"}
    assert set(read.notes) == {"pod team/w-0"}


def test_a_list_is_read_a_page_at_a_time_and_nothing_raw_is_kept() -> None:
    """A namespace of 20,000 pods of 7 kB is 140 MB."""
    pages: list[str] = []
    alive: list[int] = []

    class Paged(Namespace):
        def get(self, path: str, query: Mapping[str, str | int] | None = None, **more: Any) -> bytes:
            if path == PODS and query and "fieldSelector" not in query:
                pages.append(str(query.get("continue", "")))
                alive.append(len(read.pods))
                body = pod(f"w-{len(pages)}", owner(*CLUSTER, "ray"))
                self.answers[PODS] = {"metadata": {"continue": "next" if len(pages) < 3 else ""}, "items": [body]}
            return super().get(path, query, **more)

    api = Paged()
    api.put("/apis/ray.io/v1/namespaces/team/rayclusters", named("ray"))
    read = reader(api)
    (uid,) = read.find("ray", "")
    read.read_pods(read.jobs[uid])
    assert pages == ["", "next", "next"]
    assert alive == [0, 1, 2]  # a page is understood before the next one is read


@pytest.mark.parametrize("asked", ["ray", "w-0"])
def test_a_cluster_that_outlives_its_ray_job_is_explained_with_its_own_records(asked: str) -> None:
    api = Namespace(pod("w-0", owner(*CLUSTER, "ray")))
    api.put("/apis/ray.io/v1/namespaces/team/rayjobs", named("tune", status=DONE))
    api.put("/apis/ray.io/v1/namespaces/team/rayclusters", named("ray", owner(*RAY, "tune")))
    api.put(
        f"/apis/{GROUP}/v1/namespaces/cloudvision/jobreports",
        report("tune", at(0), at(100)),
        report("ray", at(100), None),
    )

    def answer(name: str) -> explain.Answer:
        return explain.answer(api, Deployed({"LOCATION": "lab"}), f"team/{name}", "", "cloudvision", T0 + 1000)

    found = answer(asked)
    assert found.explanation
    assert (found.explanation.job, found.explanation.state) == ("ray.io/RayCluster team/ray", "reported")
    assert [line.name for line in found.explanation.pods] == ["w-0"]
    assert [record.state for record in found.records] == ["RUNNING"]
    ended = answer("tune").explanation
    assert ended
    assert (ended.job, ended.state) == ("ray.io/RayJob team/tune", "ended")


def test_a_pod_of_which_every_job_above_ended_a_while_ago_is_explained_by_the_topmost() -> None:
    api = Namespace(pod("w-0", owner(*RAY, "tune")))
    api.put("/apis/ray.io/v1/namespaces/team/rayjobs", named("tune", status=DONE))
    found = explain.answer(api, Deployed({"LOCATION": "lab"}), "team/w-0", "", "cloudvision", T0 + 1000)
    assert found.explanation
    assert found.explanation.job == "ray.io/RayJob team/tune"


def test_of_two_states_of_a_node_the_one_counts_that_the_informer_goes_by() -> None:
    """A node that an SR-IOV operator had in another namespace before, and with another card in the same slot."""
    group, kind = NODE_STATES[NodeConfigMode.SRIOVOPERATOR]
    states = {}
    for namespace, number, made in (("former", 8, stamp(-1000)), ("operator", 9, stamp(0))):
        nic = {"name": "ens1", "mac": mac(number), "pciAddress": "0000:3b:00.0"}
        about = {"name": "node-1", "namespace": namespace, "uid": namespace, "creationTimestamp": made}
        states[namespace] = {"metadata": about, "status": {"interfaces": [nic]}}
    host = pod("w-0", owner(*CLUSTER, "ray"))
    host["metadata"]["annotations"] = {}
    host["spec"]["hostNetwork"] = True
    for order in (("former", "operator"), ("operator", "former")):
        api = Namespace(host)
        api.put("/apis/ray.io/v1/namespaces/team/rayclusters", named("ray"))
        api.serve(group, kind)
        api.put(f"/apis/{group}/v1/sriovnetworknodestates", *(states[name] for name in order))
        settings = Deployed({"LOCATION": "lab", "NODECONFIG_MODE": "sriovoperator"})
        found = explain.answer(api, settings, "team/ray", "", "cloudvision", T0 + 1000).explanation
        assert found
        assert [nic.address for nic in found.pods[0].nics] == [mac(9)]
        (problem,) = found.problems
        assert "former/node-1 and operator/node-1 have different MACs" in problem
