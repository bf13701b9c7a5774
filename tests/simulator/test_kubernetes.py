"""The API server does what it claims: pages, watches from a version, bookmarks, 410, 403, conflicts."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.simulator.kinds import CLAIMS, REPORT_KINDS
from tests.simulator.kubernetes import KubernetesSimulator

PODS = "/api/v1/namespaces/team/pods"


@pytest.fixture
def simulator() -> Iterator[KubernetesSimulator]:
    with KubernetesSimulator() as found:
        yield found


class Caller:
    def __init__(self, simulator: KubernetesSimulator) -> None:
        self.server = f"http://{simulator.address}"
        self.http = urllib3.PoolManager(retries=False)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        answer = self.http.request(method, self.server + path, body=data, headers=headers)
        return answer.status, json.loads(answer.data)

    def watch(self, path: str, version: str, timeout: int = 30) -> Iterator[dict[str, Any]]:
        query = f"?watch=1&allowWatchBookmarks=true&timeoutSeconds={timeout}&resourceVersion={version}"
        answer = self.http.request("GET", self.server + path + query, preload_content=False)
        assert answer.status == 200
        for line in answer:
            yield json.loads(line)


@pytest.fixture
def call(simulator: KubernetesSimulator) -> Iterator[Caller]:
    found = Caller(simulator)
    yield found
    simulator.close_watches()
    found.http.clear()


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team"}, **more}


def test_pages_are_of_one_moment_and_expire(simulator: KubernetesSimulator, call: Caller) -> None:
    for number in range(5):
        simulator.create(thing(f"p{number}"))
    _, first = call("GET", f"{PODS}?limit=2")
    simulator.create(thing("p9"))
    _, second = call("GET", f"{PODS}?limit=2&continue={first['metadata']['continue']}")
    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert names == ["p0", "p1", "p2", "p3"]
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    simulator.compact()
    status, gone = call("GET", f"{PODS}?limit=2&continue={second['metadata']['continue']}")
    assert (status, gone["code"], gone["reason"]) == (410, 410, "Expired")


def test_a_watch_tells_what_came_after_its_version_then_bookmarks(simulator: KubernetesSimulator, call: Caller) -> None:
    simulator.create(thing("before"))
    version = call("GET", PODS)[1]["metadata"]["resourceVersion"]
    simulator.create(thing("a"))
    simulator.create(thing("a", status={"phase": "Running"}))
    simulator.create(thing("elsewhere") | {"metadata": {"name": "elsewhere", "namespace": "other"}})
    simulator.delete("", "pods", "team", "a")
    events = call.watch(PODS, version)
    found = [next(events) for _ in range(3)]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in found] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in found]
    assert versions == sorted(set(versions))
    mark = next(events)
    assert mark["type"] == "BOOKMARK"
    assert int(mark["object"]["metadata"]["resourceVersion"]) == simulator.version
    simulator.close_watches()
    assert list(events) == []


def test_a_watch_from_before_a_compaction_is_410_in_the_stream(simulator: KubernetesSimulator, call: Caller) -> None:
    simulator.create(thing("a"))
    simulator.compact()
    (event,) = call.watch(PODS, "1000")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_watch_ends_after_its_timeout_and_says_nothing_while_stalled(
    simulator: KubernetesSimulator, call: Caller
) -> None:
    version = call("GET", PODS)[1]["metadata"]["resourceVersion"]
    simulator.stall()
    simulator.create(thing("a"))
    assert list(call.watch(PODS, version, timeout=1)) == []
    simulator.stall(False)
    assert next(call.watch(PODS, version))["object"]["metadata"]["name"] == "a"


def test_crds_come_and_go_with_their_kinds_as_metadata_alone(simulator: KubernetesSimulator, call: Caller) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert call("GET", path)[0] == 406
    simulator.serve("ray.io", "v1", "RayJob", "rayjobs")
    metadata = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    url = f"{call.server}{path}"
    listed = json.loads(call.http.request("GET", url, headers=metadata).data)
    (item,) = listed["items"]
    assert (item["kind"], item["metadata"]["name"]) == ("PartialObjectMetadata", "rayjobs.ray.io")
    simulator.unserve("ray.io", "rayjobs")
    simulator.serve("ray.io", "v1", "RayCluster", "rayclusters")
    simulator.serve(*CLAIMS)  # is built in: no CRD is behind it
    query = f"?watch=1&timeoutSeconds=1&resourceVersion={listed['metadata']['resourceVersion']}"
    lines = call.http.request("GET", url + query, headers=metadata).data.splitlines()
    events = [json.loads(line) for line in lines]
    assert [
        (event["type"], event["object"]["metadata"]["name"]) for event in events if event["type"] != "BOOKMARK"
    ] == [
        ("DELETED", "rayjobs.ray.io"),
        ("ADDED", "rayclusters.ray.io"),
    ]


def test_discovery_has_what_is_served(simulator: KubernetesSimulator, call: Caller) -> None:
    assert "ray.io" not in {group["name"] for group in call("GET", "/apis")[1]["groups"]}
    assert call("GET", "/apis/ray.io/v1")[0] == 404
    simulator.serve("ray.io", "v1", "RayJob", "rayjobs")
    assert {entry["name"] for entry in call("GET", "/apis/ray.io/v1")[1]["resources"]} == {"rayjobs", "rayjobs/status"}
    assert call("GET", "/apis/ray.io/v1/rayjobs")[0] == 200
    simulator.unserve("ray.io", "rayjobs")
    assert call("GET", "/apis/ray.io/v1/rayjobs")[0] == 404


@pytest.mark.parametrize("verb", ["list", "watch", "create", "patch", "delete"])
def test_what_is_forbidden_is_403_and_the_rest_is_not(simulator: KubernetesSimulator, call: Caller, verb: str) -> None:
    simulator.create(thing("a"))
    simulator.forbid("", "pods", verb)
    requests = {
        "list": ("GET", PODS, None),
        "watch": ("GET", f"{PODS}?watch=1&timeoutSeconds=0", None),
        "create": ("POST", PODS, thing("b")),
        "patch": ("PATCH", f"{PODS}/a", {"metadata": {"labels": {"x": "y"}}}),
        "delete": ("DELETE", f"{PODS}/a", None),
    }
    for name, (method, path, body) in requests.items():
        if name == verb:
            status, said = call(method, path, body)
            assert (status, said["reason"]) == (403, "Forbidden")
            assert f"pods is forbidden: cannot {verb}" in said["message"]
        elif name != "watch":
            assert call(method, path, body)[0] == 200


def test_tokens_conflicts_and_the_status_subresource(simulator: KubernetesSimulator, call: Caller) -> None:
    status, made = call("POST", PODS, thing("a", status={"phase": "Running"}))
    assert "status" not in made
    assert call("POST", PODS, thing("a"))[0] == 409
    assert call("PATCH", f"{PODS}/a/status", {"status": {"phase": "Running"}, "spec": {"x": 1}})[1].get("spec") is None
    assert call("PUT", f"{PODS}/a", made)[0] == 409  # its version is an old one
    simulator.token = "right"
    assert call("GET", PODS)[0] == 401
    assert call("GET", PODS, Authorization="Bearer right")[0] == 200
    assert status == 200


REPORTS = "/apis/cloudvision.arista.io/v1/namespaces/team/jobreports"


def report(name: str, version: str = "", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"resourceVersion": version} if version else {})}
    return {"apiVersion": "cloudvision.arista.io/v1", "kind": "JobReport", "metadata": metadata, **more}


def test_the_generation_counts_specs_and_each_part_is_written_by_its_own_path(
    simulator: KubernetesSimulator, call: Caller
) -> None:
    simulator.serve(*REPORT_KINDS[0])
    made = call("POST", REPORTS, report("a", spec={"run": 1}, status={"x": 1}))[1]
    assert (made["metadata"]["generation"], made["spec"], "status" in made) == (1, {"run": 1}, False)
    version = made["metadata"]["resourceVersion"]
    stated = call("PUT", f"{REPORTS}/a/status", report("a", version, spec={"run": 9}, status={"x": 2}))[1]
    assert (stated["metadata"]["generation"], stated["spec"], stated["status"]) == (1, {"run": 1}, {"x": 2})
    version = stated["metadata"]["resourceVersion"]
    changed = call("PUT", f"{REPORTS}/a", report("a", version, spec={"run": 2}, status={"x": 9}))[1]
    assert (changed["metadata"]["generation"], changed["spec"], changed["status"]) == (2, {"run": 2}, {"x": 2})
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    labelled = call("PATCH", f"{REPORTS}/a", {"metadata": {"labels": {"x": "y"}}})[1]
    assert labelled["metadata"]["generation"] == 2
    again = call("PATCH", f"{REPORTS}/a", {"spec": {"run": 2}})[1]
    assert again["metadata"]["resourceVersion"] == labelled["metadata"]["resourceVersion"]


def test_a_replacement_needs_the_version_that_it_replaces(simulator: KubernetesSimulator, call: Caller) -> None:
    simulator.serve(*REPORT_KINDS[0])
    made = call("POST", REPORTS, report("a", spec={"run": 1}))[1]
    assert call("POST", REPORTS, report("a", spec={"run": 1}))[1]["reason"] == "AlreadyExists"
    assert call("PUT", f"{REPORTS}/a", report("a", spec={"run": 2}))[0] == 422
    version = made["metadata"]["resourceVersion"]
    assert call("PUT", f"{REPORTS}/a", report("a", version, spec={"run": 2}))[0] == 200
    for path in (f"{REPORTS}/a", f"{REPORTS}/a/status"):
        assert call("PUT", path, report("a", version, spec={"run": 3}, status={}))[1]["reason"] == "Conflict"
    assert call("PUT", f"{REPORTS}/b", report("b", version, spec={"run": 3}))[0] == 404


def test_a_deletion_with_preconditions_needs_them_met(simulator: KubernetesSimulator, call: Caller) -> None:
    simulator.serve(*REPORT_KINDS[0])
    made = call("POST", REPORTS, report("a", spec={"run": 1}))[1]
    assert call("DELETE", f"{REPORTS}/a", {"preconditions": {"resourceVersion": "1"}})[0] == 409
    version = made["metadata"]["resourceVersion"]
    assert call("DELETE", f"{REPORTS}/a", {"preconditions": {"resourceVersion": version}})[0] == 200
    assert call("GET", f"{REPORTS}/a")[0] == 404


def test_long_answers_are_zipped_for_who_asks(simulator: KubernetesSimulator, call: Caller) -> None:
    for number in range(50):
        simulator.create(thing(f"p{number}", spec={"padding": "x" * 4000}))
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        answer = call.http.request("GET", call.server + PODS, headers={"Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == encoding
        assert len(json.loads(answer.data)["items"]) == 50


def test_refused_connections_leave_the_port_ours(simulator: KubernetesSimulator, call: Caller) -> None:
    simulator.refuse()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        call("GET", PODS)
    simulator.resume()
    assert call("GET", PODS)[0] == 200
    simulator.delay = 0.05
    done = threading.Thread(target=call, args=("GET", PODS))
    done.start()
    done.join(10)
    assert not done.is_alive()


def test_what_no_owner_is_left_of_is_collected(simulator: KubernetesSimulator) -> None:
    owner = simulator.create(thing("owner"))
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": owner["metadata"]["uid"]}
    child = thing("child")
    child["metadata"]["ownerReferences"] = [reference]
    simulator.create(child)
    simulator.collect_garbage()
    assert len(simulator.names("", "pods")) == 2
    simulator.delete("", "pods", "team", "owner")
    simulator.collect_garbage()
    assert simulator.names("", "pods") == []


def test_a_running_pod_is_deleted_gracefully_and_goes_at_the_kubelets_deletion(
    simulator: KubernetesSimulator, call: Caller
) -> None:
    for name, node, phase in (("runs", "n1", "Running"), ("done", "n1", "Succeeded"), ("waits", "", "Pending")):
        simulator.create(thing(name, spec={"nodeName": node} if node else {}, status={"phase": phase}))
        version = simulator.version
        status, last = call("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 7})
        assert status == 200
        event = next(call.watch(PODS, str(version)))
        assert event["type"] == ("MODIFIED" if name == "runs" else "DELETED")
    assert simulator.names("", "pods") == [("team", "runs")]
    call("DELETE", f"{PODS}/runs?gracePeriodSeconds=30")  # it is not made longer
    status, last = call("PATCH", f"{PODS}/runs/status", {"status": {"phase": "Succeeded"}})
    assert last["metadata"]["deletionGracePeriodSeconds"] == 7
    assert last["metadata"]["deletionTimestamp"] > last["metadata"]["creationTimestamp"]
    call("DELETE", f"{PODS}/runs?gracePeriodSeconds=0")
    assert simulator.names("", "pods") == []


def test_an_object_goes_with_the_last_of_its_finalizers(simulator: KubernetesSimulator, call: Caller) -> None:
    made = thing("kept", spec={"nodeName": "n1"}, status={"phase": "Running"})
    made["metadata"]["finalizers"] = ["a/b", "c/d"]
    simulator.create(made)
    call("DELETE", f"{PODS}/kept?gracePeriodSeconds=0")
    found = simulator.get("", "pods", "team", "kept")
    assert found is not None
    assert found["metadata"]["deletionGracePeriodSeconds"] == 0
    call("PATCH", f"{PODS}/kept", {"metadata": {"finalizers": ["a/b"]}})
    assert simulator.names("", "pods") == [("team", "kept")]
    call("PATCH", f"{PODS}/kept", {"metadata": {"finalizers": None}})
    assert simulator.names("", "pods") == []
