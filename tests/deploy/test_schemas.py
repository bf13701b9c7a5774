"""The manifests against the schemas of every Kubernetes release that they are for: each a download of some 35 MB."""

import copy
import runpy
from collections.abc import Callable

import pytest

from tests.cluster.binary import SOURCE, kubernetes_version
from tests.deploy.rendered import FORMS, ROOT, Object, one, render
from tests.deploy.schema import RELEASES, Validator, definitions
from tests.deploy.test_values import EVERYTHING

pytestmark = pytest.mark.cluster
YAML = runpy.run_path(str(ROOT / "build/release.py"))["YAML"]  # of a release


@pytest.fixture(scope="module", params=tuple(RELEASES))
def validator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Validator:
    return Validator(definitions(request.param, tmp_path_factory.mktemp("go")))


@pytest.fixture
def release(request: pytest.FixtureRequest) -> str:
    found: str = request.node.callspec.params["validator"]
    return found


def test_every_object_is_valid(validator: Validator, release: str) -> None:
    for values in (*FORMS.values(), EVERYTHING):
        for item in render(values, kubernetes=release):
            if not item["apiVersion"].startswith("monitoring.coreos.com/"):  # the Prometheus operator's
                assert validator.errors(item) == [], values


def test_each_yaml_of_a_release_is_valid_in_every_version_that_it_is_for(validator: Validator, release: str) -> None:
    minor = int(release.split(".")[1])
    is_wrong = {
        end: any(validator.errors(item) for item in render({"namespace": {"create": True}}, kubernetes=f"v{version}.0"))
        for end, version in YAML.items()
    }
    assert is_wrong == {"": minor < 30, "-kubernetes-1.24-to-1.29": False}


def spoil_name(pod: Object) -> None:
    pod["terminationGracePeriod"] = 1


def spoil_type(pod: Object) -> None:
    pod["hostNetwork"] = "true"


def spoil_deep(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["privilaged"] = True


def spoil_needed(pod: Object) -> None:
    del pod["containers"][0]["name"]


@pytest.mark.parametrize("spoil", [spoil_name, spoil_type, spoil_deep, spoil_needed])
def test_what_is_wrong_is_found(validator: Validator, spoil: Callable[[Object], None]) -> None:
    daemon_set = copy.deepcopy(one(render(), "DaemonSet", "cv-interface-discovery"))
    spoil(daemon_set["spec"]["template"]["spec"])
    assert len(validator.errors(daemon_set)) == 1


def test_a_kind_that_a_release_does_not_have_is_found(validator: Validator) -> None:
    budget = {"apiVersion": "policy/v1beta0", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}}
    assert validator.errors(budget) == ["policy/v1beta0 PodDisruptionBudget does not exist"]


def test_node_restriction_is_for_releases_that_have_it(validator: Validator, release: str) -> None:
    kinds = {item["kind"] for item in render(kubernetes=release)}
    assert validator.has("ValidatingAdmissionPolicy") == ("ValidatingAdmissionPolicy" in kinds)


def test_the_disruption_budget_evicts_unhealthy_pods_where_that_is_known(validator: Validator, release: str) -> None:
    assert validator.has("PodDisruptionBudget")
    budget = one(render(kubernetes=release), "PodDisruptionBudget", "cv-job-informer")
    assert ("unhealthyPodEvictionPolicy" in budget["spec"]) == (int(release.split(".")[1]) >= 27)


def test_the_newest_release_is_the_one_that_the_tests_run() -> None:
    assert list(RELEASES)[-1] == kubernetes_version()
    assert (
        f"k8s.io/kubernetes {kubernetes_version()} {RELEASES[kubernetes_version()]}" in (SOURCE / "go.sum").read_text()
    )
