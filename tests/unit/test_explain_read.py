"""What `cvji explain` reads of a namespace, keeps of it, and takes for the job that is asked for."""

from collections.abc import Mapping
from typing import Any

from cvji.deployed import Deployed
from cvji.explain_read import Reader
from tests.unit.api import FakeApi
from tests.unit.world import mac, owner, stamp

CLUSTER = ("ray.io/v1", "RayCluster")
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
        group = {"name": "ray.io", "versions": [{"version": "v1"}]}
        self.answers["/apis"] = {"groups": [group]}
        kinds = [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": True} for kind in ("RayJob", "RayCluster")]
        self.answers["/apis/ray.io/v1"] = {"resources": kinds}
        self.put(PODS, *pods)

    def put(self, path: str, *items: Any) -> None:
        super().put(path, *items)
        self.answers.update({f"{path}/{item['metadata']['name']}": item for item in items})


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
