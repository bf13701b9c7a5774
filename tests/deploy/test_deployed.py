"""What `cvji check` and `cvji explain` know of an informer that the chart deployed: its settings and its rights."""

import pytest

from cvji.checks.cluster import needed
from cvji.checks.site import Site
from cvji.deployed import Deployed, read
from cvji.jobs.policy import Policy
from cvji.kube.trigger import CRDS
from cvji.reports.records import GROUP
from cvji.settings import Mode, NodeConfigMode, OwnerPolicy
from tests.deploy.rendered import Object, one, render
from tests.unit.api import FakeApi
from tests.unit.test_check import sound
from tests.unit.world import T0

PLACE = "cloudvision"


def deployed(values: Object | str, **environment: str) -> Deployed:
    """The settings as they are read of the rendered Deployment, which is all that the cluster shows."""
    api = FakeApi()
    api.put(f"/apis/apps/v1/namespaces/{PLACE}/deployments", one(render(values), "Deployment", "cv-job-informer"))
    return read(api, PLACE, environment)


def test_the_settings_are_read_of_the_deployment() -> None:
    jobs = {
        "namespaces": ["team-a", "team-b"],
        "mode": "node",
        "owner": "direct",
        "kinds": [{"group": "example.com", "kind": "Training", "resource": "trainings"}],
        "stabilityDelay": "7s",
        "startMaxWait": "never",
        "events": False,
    }
    found = deployed({"location": "Büro $(POD_NAME)", "jobs": jobs, "nodes": {"mode": "sriovoperator"}})
    assert found.unread == ""
    assert found.location() == "Büro $(POD_NAME)"
    assert found.namespaces() == ("team-a", "team-b")
    assert found.policy() == Policy(Mode.NODE, OwnerPolicy.DIRECT, 7.0, float("inf"))
    assert found.kinds() == (("example.com", "Training"),)
    assert found.nodeconfig() is NodeConfigMode.SRIOVOPERATOR
    assert found.get("EVENTS") == "false"


def test_variables_of_a_laptop_are_not_the_informers() -> None:
    laptop = {"LOCATION": "dc2", "JOB_KINDS": "example.com/Other", "NODECONFIG_MODE": "disabled"}
    assert deployed({"location": "dc1"}, **laptop) == deployed({"location": "dc1"})


def test_in_the_informers_pod_its_own_environment_counts_and_nothing_is_asked() -> None:
    spec = one(render({"location": "dc1"}), "Deployment", "cv-job-informer")["spec"]["template"]["spec"]
    fields = {"metadata.name": "cv-job-informer-0", "metadata.namespace": PLACE}
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}  # by the kubelet
    for variable in spec["containers"][0]["env"]:
        source = variable.get("valueFrom", {}).get("fieldRef", {})
        pod[variable["name"]] = variable.get("value") or fields.get(source.get("fieldPath"), "")
    api = FakeApi()
    assert read(api, PLACE, pod) == Deployed(pod)
    assert api.asked == []
    assert read(api, "another", pod).unread  # there may be an informer of other settings


def test_values_from_secrets_are_not_read() -> None:
    assert deployed({"cloudvision": {"server": ""}}).get("API_SERVER") == ""


def granted(objects: list[Object]) -> set[tuple[str, ...]]:
    """Verb, group, resource, subresource and namespace ("" for all) of everything that the informer may do."""
    found: set[tuple[str, ...]] = set()
    for binding in objects:
        if not binding["kind"].endswith("RoleBinding") or binding["subjects"][0]["name"] != "cv-job-informer":
            continue
        role = one(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    name, _, below = resource.partition("/")
                    place = role["metadata"].get("namespace", "")
                    found |= {(verb, group, name, below, place) for verb in rule["verbs"]}
    return found


@pytest.mark.parametrize(
    "jobs",
    [{}, {"namespaces": ["team-a"]}, {"namespaces": ["team-a", "team-b"]}, {"events": False}],
    ids=["all namespaces", "one namespace", "two namespaces", "no Events"],
)
def test_the_check_asks_for_every_right_that_the_chart_grants_and_for_no_other(jobs: Object) -> None:
    site = Site(sound(), PLACE, deployed({"jobs": jobs}), lambda: T0, {})
    asked = {(item.verb, item.group, item.resource, item.subresource, item.namespace) for item in needed(site)}
    # Groups of the site; kinds that are not served need nothing.
    served = ("", "batch", "coordination.k8s.io", CRDS.group, GROUP)
    assert asked == {item for item in granted(render({"jobs": jobs})) if item[1] in served}
