"""API discovery: each wanted kind in a version that has it, under the plural that the server gives."""

import json
from typing import Any, cast

import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.events import Resource
from cvji.kube.served import Served, served

MPI, TRAIN = ("kubeflow.org", "MPIJob"), ("kubeflow.org", "PyTorchJob")
VOLCANO, BATCH = ("batch.volcano.sh", "Job"), ("batch", "Job")


class Documents:
    """Answers with these documents, and remembers what was asked."""

    def __init__(self, **documents: Any) -> None:
        self.documents = {f"/apis{path}": found for path, found in documents.items()}
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        self.asked.append(path)
        found = self.documents.get(path, ApiError(404, "not found"))
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, bytes) else json.dumps(found).encode()


def group(name: str, *versions: str, preferred: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "versions": [{"version": version} for version in versions]}
    return found | ({"preferredVersion": {"version": preferred}} if preferred else {})


def resources(*entries: tuple[str, str], namespaced: bool = True) -> dict[str, Any]:
    return {"resources": [{"name": name, "kind": kind, "namespaced": namespaced} for name, kind in entries]}


def find(documents: Documents, *wanted: tuple[str, str]) -> dict[tuple[str, str], Resource]:
    return served(cast("Api", documents), wanted).found


def test_a_kind_is_found_in_the_version_that_has_it() -> None:
    documents = Documents(
        **{
            "": {"groups": [group("kubeflow.org", "v1", "v2beta1", preferred="v1"), group("other.io", "v1")]},
            "/kubeflow.org/v1": resources(("pytorchjobs", "PyTorchJob"), ("pytorchjobs/status", "PyTorchJob")),
            "/kubeflow.org/v2beta1": resources(("mpijobs/status", "MPIJob"), ("mpijobs", "MPIJob")),
        }
    )
    assert find(documents, MPI, TRAIN) == {
        MPI: Resource("kubeflow.org", "v2beta1", "MPIJob", "mpijobs"),
        TRAIN: Resource("kubeflow.org", "v1", "PyTorchJob", "pytorchjobs"),
    }
    documents.asked.clear()
    find(documents, TRAIN)
    assert documents.asked == ["/apis", "/apis/kubeflow.org/v1"]  # no more than is needed, and no other group


def test_the_preferred_version_comes_first_and_two_groups_may_have_one_kind() -> None:
    documents = Documents(
        **{
            "": {"groups": [group("batch", "v1"), group("batch.volcano.sh", "v1beta1", "v1", preferred="v1")]},
            "/batch/v1": resources(("jobs", "Job")),
            "/batch.volcano.sh/v1beta1": resources(("jobs", "Job")),
            "/batch.volcano.sh/v1": resources(("vcjobs", "Job")),
        }
    )
    assert {key: str(found) for key, found in find(documents, BATCH, VOLCANO).items()} == {
        BATCH: "jobs.batch",
        VOLCANO: "vcjobs.batch.volcano.sh",
    }


@pytest.mark.parametrize("broken", [ApiError(503, "aggregated API is down"), b"<html>", {"resources": 7}])
def test_a_group_whose_discovery_fails_hides_no_other(broken: Any) -> None:
    documents = Documents(
        **{
            "": {"groups": [group("batch.volcano.sh", "v1"), group("batch", "v1")]},
            "/batch.volcano.sh/v1": broken,
            "/batch/v1": resources(("jobs", "Job")),
        }
    )
    assert list(find(documents, BATCH, VOLCANO)) == [BATCH]


@pytest.mark.parametrize(
    ("error", "failed"),
    [(ApiError(503, "not ready"), {BATCH}), (ApiError(0, "timed out"), {BATCH}), (ApiError(403, "no"), set()),
     (ApiError(404, "no"), set())],
)  # fmt: skip
def test_what_a_failed_request_would_have_told_of_may_be_served_and_what_is_refused_is_not(
    error: ApiError, failed: set[tuple[str, str]]
) -> None:
    documents = Documents(**{"": {"groups": [group("batch", "v1")]}, "/batch/v1": error})
    answer = served(cast("Api", documents), [BATCH, VOLCANO])
    assert answer == Served({}, frozenset({BATCH}), failed=frozenset(failed))


@pytest.mark.parametrize("broken", [ApiError(500, "etcd"), b"", b"[]", {"groups": None}])
def test_discovery_that_fails_as_a_whole_is_an_error(broken: Any) -> None:
    with pytest.raises(ApiError):
        find(Documents(**{"": broken}), BATCH)


def test_paths() -> None:
    pods, nodes = Resource("", "v1", "Pod", "pods"), Resource("", "v1", "Node", "nodes", namespaced=False)
    jobs = Resource("batch", "v1", "Job", "jobs")
    assert (pods.path(), pods.path("team"), pods.path("team", "a")) == (
        "/api/v1/pods",
        "/api/v1/namespaces/team/pods",
        "/api/v1/namespaces/team/pods/a",
    )
    assert (nodes.path("team"), jobs.path()) == ("/api/v1/nodes", "/apis/batch/v1/jobs")
