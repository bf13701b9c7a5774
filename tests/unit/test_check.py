"""`cvji check`: a sound site has no line but ok; for each fault there is its own line, with advice, and no other."""

from collections.abc import Callable
from typing import Any

import pytest

from cvji import check
from cvji.checks.result import Level, Result, exit_code
from cvji.checks.site import Site
from cvji.deployed import Deployed
from cvji.kube.client import ApiError
from cvji.reports.records import GROUP
from tests.cluster.crds import own_crd, report_crds
from tests.unit.api import FakeApi
from tests.unit.world import T0, mac, stamp

NAMESPACE = "/api/v1/namespaces/cloudvision"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RECORDS = f"/apis/{GROUP}/v1/namespaces/cloudvision"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/cloudvision/leases/cv-job-informer"
METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/cloudvision/pods"


def pod(name: str, ready: bool = True, node: str = "", restarts: int = 0, reason: str = "") -> dict[str, Any]:
    last = {"terminated": {"reason": reason}} if reason else {}
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"resources": {"limits": {"memory": "512Mi"}}}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts, "lastState": last}],
        },
    }


def state(node: str, sync: str = "Succeeded", message: str = "") -> dict[str, Any]:
    return {"metadata": {"name": node, "uid": node}, "status": {"syncStatus": sync, "message": message}}


def report(name: str, condition: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "job": {"name": name, "kind": "Job", "uid": name, "namespace": "team", "group": "batch"},
        "run": 1, "state": "RUNNING", "startTime": stamp(0), "term": 0, "interfaces": [mac(1)], "interfaceCount": 1,
    }  # fmt: skip
    whole = {"type": "Delivered", "lastTransitionTime": stamp(0), "message": "", "reason": "Accepted", **condition}
    status = {"observedGeneration": 1, "conditions": [whole]}
    return {"metadata": {"name": name, "resourceVersion": "1", "generation": 1}, "spec": spec, "status": status}


def sound() -> FakeApi:
    """A cluster in which all is well."""
    api = FakeApi()
    groups = {"batch": ["Job"], GROUP: ["JobReport", "NodeReport", "NodeInterfaceState"]}
    api.answers["/version"] = {"gitVersion": "v1.36.0"}
    api.answers["/apis"] = {"groups": [{"name": name, "versions": [{"version": "v1"}]} for name in groups]}
    for name, kinds in groups.items():
        resources = [{"name": f"{kind.lower()}s", "kind": kind} for kind in kinds]
        api.answers[f"/apis/{name}/v1"] = {"resources": resources}
    for crd in (own_crd(), *report_crds()):
        api.answers[f"{CRDS}/{crd['metadata']['name']}"] = crd
    api.put(f"{NAMESPACE}/pods?informer", pod("informer-a"), pod("informer-b"))
    api.put(f"{NAMESPACE}/pods?interface-discovery", pod("d-1", node="node-1"), pod("d-2", node="node-2"))
    api.put(f"{RECORDS}/nodeinterfacestates", state("node-1"), state("node-2"))
    api.put(f"{RECORDS}/jobreports", report("a", {"status": "True"}))
    api.put(f"{RECORDS}/nodereports")
    renewed = stamp(95).replace("Z", ".000000Z")
    api.answers[LEASE] = {"spec": {"holderIdentity": "informer-a", "renewTime": renewed}}
    usage = {"metadata": {"name": "informer-a"}, "containers": [{"usage": {"memory": "89Mi"}}]}
    api.put(METRICS, usage)
    api.time = T0 + 100
    return api


def checked(api: FakeApi, **settings: str) -> list[Result]:
    site = Site(api, "cloudvision", Deployed({"LOCATION": "lab", **settings}), lambda: T0 + 100, {})
    return list(check.run(site))


def wrong(results: list[Result]) -> list[tuple[str, Level]]:
    """What is not well; each line of it says what to do."""
    found = [result for result in results if result.level in (Level.WARNING, Level.FAILURE)]
    assert all(result.advice for result in found), found
    return [(result.name, result.level) for result in found]


def test_a_sound_site_is_all_ok() -> None:
    results = checked(sound())
    assert wrong(results) == []
    assert exit_code(results) == 0
    assert [result.name for result in results if result.level is Level.SKIPPED] == ["cloudvision"]


def unserve_reports(api: FakeApi) -> None:
    del api.answers[f"{CRDS}/jobreports.{GROUP}"]


def old_crd(api: FakeApi) -> None:
    crd = api.answers[f"{CRDS}/jobreports.{GROUP}"]
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["kept"]


def deny(verb: str, resource: str) -> Callable[[FakeApi], None]:
    return lambda api: api.denied.add((verb, resource))


def put(path: str, *items: Any) -> Callable[[FakeApi], None]:
    return lambda api: api.put(path, *items)


def answer(path: str, value: Any) -> Callable[[FakeApi], None]:
    return lambda api: api.answers.update({path: value})


def late(api: FakeApi) -> None:
    """This machine is 300 s ahead, and the cluster's own times are not."""
    api.time = T0 - 200
    api.answers[LEASE]["spec"]["renewTime"] = stamp(-205)


def down(api: FakeApi) -> None:
    """Nothing runs, as after `kubectl scale --replicas=0`: the leader has released its Lease."""
    api.put(f"{NAMESPACE}/pods?informer")
    api.put(METRICS)
    api.answers[LEASE] = UNHELD


def crashing(api: FakeApi) -> None:
    """Its pods are there and none is ready; the Lease is from before."""
    api.put(f"{NAMESPACE}/pods?informer", pod("a", ready=False), pod("b", ready=False))
    api.answers[LEASE] = LEASE_AT


LEASE_AT = {"spec": {"holderIdentity": "informer-a", "renewTime": stamp(10)}}
UNHELD = {"spec": {"holderIdentity": "", "renewTime": stamp(95)}}
REFUSED = {"status": "False", "reason": "Refused", "message": "HTTP 400: location is not known"}
AWAY = {"status": "False", "reason": "Unreachable", "message": "connection refused"}
USED = {"metadata": {"name": "informer-a"}, "containers": [{"usage": {"memory": "500Mi"}}]}
FAULTS: dict[str, tuple[Callable[[FakeApi], None], str, Level, str]] = {
    "clock": (late, "clock of kubernetes", Level.FAILURE, "300 s ahead of it"),
    "crd missing": (unserve_reports, f"CRD jobreports.{GROUP}", Level.FAILURE, "is not installed"),
    "crd old": (old_crd, f"CRD jobreports.{GROUP}", Level.FAILURE, "it has no spec.kept"),
    "verb": (deny("watch", "pods"), "permissions", Level.FAILURE, "may not watch pods"),
    "informer down": (down, "informer", Level.FAILURE, "there is no pod of it"),
    "none ready": (crashing, "informer", Level.FAILURE, "none of 2 pods is ready"),
    "one ready": (
        put(f"{NAMESPACE}/pods?informer", pod("a"), pod("b", ready=False)), "informer", Level.WARNING, "not b",
    ),
    "oom": (
        put(f"{NAMESPACE}/pods?informer", pod("a", restarts=1, reason="OOMKilled")), "informer", Level.WARNING, "OOMKilled",
    ),
    "no lease": (lambda api: api.answers.pop(LEASE) and None, "leader", Level.FAILURE, "there is no Lease"),
    "old lease": (answer(LEASE, LEASE_AT), "leader", Level.FAILURE, "renewed the Lease last 90 s ago"),
    "lease unheld": (answer(LEASE, UNHELD), "leader", Level.FAILURE, "nobody holds the Lease"),
    "memory": (put(METRICS, USED), "memory", Level.WARNING, "uses 500 MiB of 512"),
    "no inventory": (
        put(f"{RECORDS}/nodeinterfacestates", state("node-1")), "discovery", Level.FAILURE, "no inventory of 1 of 2",
    ),
    "failed scan": (
        put(f"{RECORDS}/nodeinterfacestates", state("node-1"), state("node-2", "Failed", "no /sys")),
        "discovery", Level.FAILURE, "node node-2 cannot be scanned: no /sys",
    ),
    "old state": (
        put(f"{RECORDS}/nodeinterfacestates", state("node-1"), state("node-2"), state("node-3")),
        "discovery", Level.WARNING, "node-3: no discovery pod is ready",
    ),
    "refused": (put(f"{RECORDS}/jobreports", report("a", REFUSED)), "reports", Level.FAILURE, "location is not known"),
    "unreachable": (put(f"{RECORDS}/jobreports", report("a", AWAY)), "reports", Level.WARNING, "connection refused"),
    "edited": (
        put(f"{RECORDS}/jobreports", {"metadata": {"name": "x"}, "spec": {"term": 1}}), "reports", Level.WARNING, "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_its_own_line_with_advice_and_nothing_else_is_red(fault: str) -> None:
    breaks, name, level, words = FAULTS[fault]
    api = sound()
    breaks(api)
    results = checked(api)
    assert wrong(results) == [(name, level)]
    (line,) = (result for result in results if result.level is level)
    assert words in line.message
    assert exit_code(results) == (2 if level is Level.FAILURE else 1)


def test_a_report_that_is_newer_than_what_was_accepted_for_days_has_not_waited_for_days() -> None:
    api = sound()
    changed = report("a", {"status": "True", "lastTransitionTime": stamp(-259_200)})
    changed["metadata"]["generation"] = 2
    api.put(f"{RECORDS}/jobreports", changed)
    results = checked(api)
    assert wrong(results) == []
    (line,) = (result.message for result in results if result.name == "reports")
    assert line == "1 not delivered (Pending): team/a"
    waits = {"status": "False", "reason": "Pending", "lastTransitionTime": stamp(20)}
    api.put(f"{RECORDS}/jobreports", changed, report("b", waits))
    results = checked(api)
    assert wrong(results) == [("reports", Level.WARNING)]
    assert "2 not delivered (Pending) for 80 s" in str(results)


def test_an_api_server_that_is_away_is_one_line() -> None:
    api = sound()
    api.answers = {"/version": ApiError(0, "connection refused")}
    results = checked(api)
    assert wrong(results) == [("kubernetes", Level.FAILURE)]
    assert "KUBECONFIG" in results[0].advice


def test_what_may_not_be_read_is_skipped_and_says_where_to_look() -> None:
    api = sound()
    for path in (LEASE, f"{NAMESPACE}/pods?informer", METRICS, f"{RECORDS}/jobreports"):
        api.answers[path] = ApiError(403, "forbidden")
    results = checked(api)
    assert wrong(results) == []
    skipped = {result.name for result in results if result.level is Level.SKIPPED}
    assert {"leader", "informer", "reports"} <= skipped


def test_words_of_others_cannot_forge_a_line() -> None:
    made = Result("reports", Level.OK, "words\n\x1b[31mFAIL\r", "")
    assert "\x1b" not in check.line(made)
    assert check.line(made).count("\n") <= 1
