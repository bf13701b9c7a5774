"""The CRDs of the records, as a real API server reads them."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cvji.jobs.report import Holds
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import Record, write_spec
from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import report_crds
from tests.e2e.full_reports import FULL, NODE
from tests.unit.test_records import UID, job_report

pytestmark = pytest.mark.cluster

GROUP = "/apis/cloudvision.arista.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def place(prepared_plane: ControlPlane) -> Iterator[str]:
    name = prepared_plane.create_namespace("records")
    yield name
    prepared_plane.call("DELETE", f"/api/v1/namespaces/{name}")


def body_of(record: Record, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(write_spec(record, place, "", location="lab", term=1))
    return found


def test_the_crds_are_accepted_without_a_warning_and_are_structural(prepared_plane: ControlPlane) -> None:
    for crd in report_crds():
        crd = copy.deepcopy(crd)
        answer = prepared_plane.request("PATCH", f"{CRDS}/{crd['metadata']['name']}?fieldValidation=Strict", crd)
        assert answer.status == 200, answer.text
        assert answer.warning == ""
        conditions = {item["type"]: item["status"] for item in answer.json["status"]["conditions"]}
        assert conditions.get("NonStructuralSchema", "False") == "False"
        assert conditions["NamesAccepted"] == conditions["Established"] == "True"


def test_every_field_is_explained(prepared_plane: ControlPlane) -> None:
    path = "/openapi/v3/apis/cloudvision.arista.io/v1"  # it is there a moment after the CRDs
    answer = wait_for(
        "the schemas", lambda: found if (found := prepared_plane.request("GET", path)).status == 200 else None
    )
    schemas = answer.json["components"]["schemas"]

    def silent(schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            if name == "metadata" and path.count(".") == 0:
                continue  # the API server's own
            if not field.get("description"):
                yield f"{path}.{name}"
            yield from silent(field, f"{path}.{name}")
            yield from silent(field.get("items", {}), f"{path}.{name}[]")

    for kind in ("JobReport", "NodeReport"):
        (schema,) = [found for name, found in schemas.items() if name.endswith(f".{kind}")]
        assert schema["description"]
        assert list(silent(schema, kind)) == []
        assert schema["properties"]["spec"]["properties"]


@pytest.mark.parametrize("report", [FULL, job_report(holds=Holds(nodes=("n1", "n2")), kept=Holds(nodes=("n2",))), NODE])
def test_nothing_that_is_written_is_pruned(prepared_plane: ControlPlane, place: str, report: Any) -> None:
    kind, name = ("node", report.node) if isinstance(report, NodeReport) else ("job", report.id)
    body = body_of(Record((kind, name), 1, report), place)  # type: ignore[arg-type]
    path = f"{GROUP}/namespaces/{place}/{kind}reports"
    answer = prepared_plane.request("POST", f"{path}?fieldValidation=Strict", body)
    assert answer.status == 201, answer.text
    assert answer.warning == ""
    assert answer.json["spec"] == body["spec"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "DONE"}, "spec.state"),
        ({"startTime": "soon"}, "spec.startTime"),
        ({"endTime": None}, "endTime must be there exactly if the state is not RUNNING"),
        ({"nodes": ["n1"]}, "there must be either interfaces or nodes"),
        ({"interfaces": None}, "there must be either interfaces or nodes"),
        ({"interfaces": ["02:00:00:00:00:0G"]}, "spec.interfaces[0]"),
        ({"kept": "all"}, "spec.kept"),
        ({"run": 0}, "spec.run"),
        ({"term": None}, "spec.term"),
        ({"job": {"uid": UID, "kind": "Job"}}, "spec.job.name"),
    ],
)
def test_the_schema_refuses_what_makes_no_sense(
    prepared_plane: ControlPlane, place: str, change: dict[str, Any], words: str
) -> None:
    body = body_of(Record(("job", FULL.id), 1, FULL), place)
    body["spec"] = {name: value for name, value in (body["spec"] | change).items() if value is not None}
    answer = prepared_plane.request("POST", f"{GROUP}/namespaces/{place}/jobreports", body)
    assert answer.status == 422
    assert words in answer.text
