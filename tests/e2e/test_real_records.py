"""JobReport and NodeReport on a real API server: what it keeps, shows and explains, and how it answers the store."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cvji.jobs.report import Holds, JobState, Key
from cvji.kube.client import Api, ApiError
from cvji.kube.reading import PAGE
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import RESOURCES, Delivery, ListedRecord, Reason, Record, object_name
from cvji.reports.tasks import Acknowledged, Changed, Event, Forgotten, Lost, Written
from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import report_crds
from tests.deploy.rendered import one, render
from tests.e2e.full_reports import FULL, NODE
from tests.e2e.kit import write_kubeconfig
from tests.unit.store.leader import Leader
from tests.unit.test_records import UID, job_report

pytestmark = pytest.mark.cluster

GROUP = "/apis/cloudvision.arista.io/v1"
OK = Delivery(Reason.ACCEPTED, 1_700_000_100)


@pytest.fixture
def place(prepared_plane: ControlPlane) -> Iterator[str]:
    name = prepared_plane.create_namespace("records")
    yield name
    prepared_plane.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def api(prepared_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(prepared_plane.kubeconfig))
    return Api()


@pytest.fixture
def lead(api: Api, place: str) -> Iterator[Callable[[int], Leader]]:
    made = []

    def make(term: int) -> Leader:
        made.append(Leader(api, place=place))
        made[-1].take_over(term)
        return made[-1]

    yield make
    for leader in made:
        leader.store.close()


@pytest.fixture
def leader(lead: Callable[[int], Leader]) -> Leader:
    return lead(1)


def table(place: str, plural: str, api: Api) -> dict[str, tuple[int, Any]]:
    """Columns of the only object, as kubectl asks for them: priority (1: only with -o wide) and cell."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    found = json.loads(api.get(f"{GROUP}/namespaces/{place}/{plural}", accept=accept))
    (row,) = found["rows"]
    return {
        column["name"]: (column["priority"], cell)
        for column, cell in zip(found["columnDefinitions"], row["cells"], strict=True)
    }


def test_kubectl_get_shows_what_was_reported(place: str, leader: Leader, api: Api) -> None:
    job, node = leader.write(FULL), leader.write(NODE)
    refused = Delivery(Reason.REFUSED, 1_700_000_200, "no such location")
    leader.store.acknowledge(job, 1, refused)
    leader.store.acknowledge(node, 1, OK)
    assert leader.store.flush(10)
    shown = table(place, "jobreports", api)
    plain = {name: cell for name, (priority, cell) in shown.items() if not priority}
    assert list(plain) == ["Name", "Job", "Namespace", "Kind", "State", "NICs", "Start", "End", "Delivered", "Age"]
    assert list(plain.values())[:6] == [f"{UID}.2", "train", "team", "PyTorchJob", "COMPLETED", 8]
    assert plain["Delivered"] == "False"
    wide = {name: cell for name, (priority, cell) in shown.items() if priority}
    assert wide == {"Nodes": None, "Run": 2, "Reason": "Refused", "Message": "no such location", "Location": "lab"}
    shown = table(place, "nodereports", api)
    assert shown["NICs"] == (0, 2)
    assert shown["Delivered"] == (0, "True")


def stored(plane: ControlPlane, place: str, name: str = UID) -> dict[str, Any]:
    found: dict[str, Any] = plane.call("GET", f"{GROUP}/namespaces/{place}/jobreports/{name}")
    return found


def test_a_report_lives_from_its_spec_to_its_removal(prepared_plane: ControlPlane, place: str, leader: Leader) -> None:
    key = leader.write(job_report())
    leader.store.acknowledge(key, 1, OK)
    assert leader.store.flush(10)
    found = stored(prepared_plane, place)
    assert found["metadata"]["generation"] == found["status"]["observedGeneration"] == 1
    leader.write(job_report(state=JobState.FAILED, end=1_700_000_100), 2)
    found = stored(prepared_plane, place)
    assert (found["metadata"]["generation"], found["status"]["observedGeneration"]) == (2, 1)
    (listed,) = leader.store.relist()
    assert isinstance(listed, ListedRecord)
    assert (listed.delivered, listed.changed, listed.record.revision) == (False, False, 2)
    leader.store.acknowledge(key, 2, OK)
    leader.store.flush(10)
    assert (read := leader.store.get(key))
    assert read.delivered
    leader.store.forget(key)
    leader.wait_for(Forgotten(key))
    assert list(leader.store.relist()) == []


def test_what_others_do_by_hand_is_noticed(prepared_plane: ControlPlane, place: str, leader: Leader) -> None:
    key = leader.write(job_report())
    path = f"{GROUP}/namespaces/{place}/jobreports/{UID}"
    prepared_plane.call("PATCH", path, {"metadata": {"labels": {"x": "y"}}})
    leader.store.acknowledge(key, 1, OK)
    leader.wait_for(Acknowledged(key, 1))
    prepared_plane.call("PATCH", path, {"spec": {"location": "elsewhere"}})
    leader.write(job_report(finished=5), 2)
    assert stored(prepared_plane, place)["spec"]["location"] == "lab"
    prepared_plane.call("DELETE", path)
    leader.store.acknowledge(key, 2, OK)
    leader.wait_for(Changed(key))
    leader.write(job_report(finished=6), 3)
    prepared_plane.call("DELETE", path)
    leader.store.forget(key)
    leader.wait_for(Forgotten(key))


def test_a_former_leader_loses_in_both_orders(
    prepared_plane: ControlPlane, place: str, lead: Callable[[int], Leader]
) -> None:
    former = lead(1)
    key, late = former.write(job_report()), former.write(job_report(job="late"))
    successor = lead(2)
    successor.write(job_report(finished=5))
    former.write(job_report(job="late", finished=4), 2)  # before its successor has touched it
    successor.write(job_report(job="late", finished=5))
    for name in (UID, "late"):
        found = stored(prepared_plane, place, name)
        assert (found["spec"]["term"], found["spec"]["lastContainerFinished"]) == (2, "1970-01-01T00:00:05Z")
    former.store.acknowledge(late, 2, OK)
    former.store.forget(key)
    former.wait_for(Lost(key, 2))
    assert "status" not in stored(prepared_plane, place, "late")


def test_more_than_a_page_is_listed(leader: Leader, lead: Callable[[int], Leader]) -> None:
    for number in range(PAGE + 5):
        leader.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
    assert leader.store.flush(60)
    found = [item for item in lead(2).store.relist() if isinstance(item, ListedRecord)]
    assert {item.record.key[1] for item in found} == {f"u{number}" for number in range(PAGE + 5)}


def held(count: int) -> Holds:
    return Holds(macs=b"".join(b"\2\0" + number.to_bytes(4, "big") for number in range(count)))


def test_a_job_of_60_000_nics_is_remembered_and_a_larger_one_is_reported_all_the_same(
    leader: Leader,
) -> None:
    largest = job_report(holds=held(60_000), kept=Holds(macs=held(60_000).macs[: 6 * 40_000]))
    key = leader.write(largest)
    leader.store.acknowledge(key, 1, OK)
    assert leader.store.flush(30)
    found = leader.store.get(key)
    assert found
    assert found.delivered
    assert found.record.report == largest
    for revision, count in ((2, 80_000), (3, 99_000)):
        leader.store.write(Record(key, revision, job_report(holds=held(count))))
        leader.wait_for(Written(key, revision, remembered=False))
    leader.write(job_report(), 4)


def test_what_the_schema_refuses_is_reported_all_the_same(leader: Leader) -> None:
    key: Key = ("job", "long")
    leader.store.write(Record(key, 1, job_report(job="long", name="x" * 300)))
    leader.wait_for(Written(key, 1, remembered=False))
    leader.write(job_report())


def test_without_a_namespace_nothing_is_remembered(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    leader = Leader(api, place="no-such-place")
    assert leader.take_over(1) == []
    leader.store.write(Record(("job", UID), 1, job_report()))
    leader.wait_for(Written(("job", UID), 1, remembered=False))
    leader.store.close()
    assert [entry for entry in caplog.records if "is there a namespace no-such-place" in entry.message]


def test_writes_wait_while_the_api_server_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    with ControlPlane() as plane:
        if plane.external:
            pytest.skip("this cluster's API server is not ours to stop")
        plane.install_crds(report_crds())
        place = plane.create_namespace("records")
        monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
        leader = Leader(Api(), place=place)
        leader.take_over(1)
        plane.stop_apiserver(hard=True)
        for number in range(20):
            leader.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
        assert not leader.store.flush(0.5)
        plane.start_apiserver()
        leader.wait_for(*(Written(("job", f"u{number}"), 1) for number in range(20)))
        leader.store.close()


class RefusedApi(Api):
    """An Api that keeps what was refused."""

    refused = ""
    news = threading.Condition()  # whom it concerns

    def get(self, path: str, query: Mapping[str, str | int] | None = None, **more: Any) -> bytes:
        try:
            return super().get(path, query, **more)
        except ApiError as err:
            self.note(err)
            raise

    def send(self, method: str, path: str, body: bytes | None, **more: Any) -> bytes:
        try:
            return super().send(method, path, body, **more)
        except ApiError as err:
            self.note(err)
            raise

    def note(self, err: ApiError) -> None:
        if err.code == 403:
            with self.news:
                self.refused = self.refused or str(err)
                self.news.notify_all()


def course(leader: Leader, api: RefusedApi, edit: Callable[[Key], object]) -> None:
    """Everything that is done with a report of each kind, until something is refused."""
    api.news = leader.news
    leader.take_over(1)

    def came(event: Event) -> bool:
        with leader.news:
            assert leader.news.wait_for(lambda: event in leader.events or api.refused, 30)
        return not api.refused

    for first, second in ((job_report(), job_report(finished=5)), (NODE, NodeReport(NODE.node, ()))):
        key: Key = ("node", first.node) if isinstance(first, NodeReport) else ("job", first.id)
        for revision, report in ((1, first), (2, second)):
            leader.store.write(Record(key, revision, report))
            if not came(Written(key, revision)):
                return
        edit(key)
        leader.store.acknowledge(key, 2, OK)
        if not came(Acknowledged(key, 2)):
            return
        leader.store.forget(key)
        if not came(Forgotten(key)):
            return


PLURALS = [resource.plural for resource in RESOURCES.values()]
VERBS = [(plural, verb) for plural in PLURALS for verb in ("list", "get", "create", "update", "delete")]
VERBS += [(f"{plural}/status", "update") for plural in PLURALS]


@pytest.mark.parametrize("lacks", [("", ""), *VERBS], ids=lambda lacks: "-".join(lacks).replace("/", "-") or "nothing")
def test_the_informers_role_is_enough_for_the_store_and_no_verb_of_it_is_for_nothing(
    prepared_plane: ControlPlane,
    place: str,
    lacks: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = prepared_plane
    role = one(render(), "Role", "cv-job-informer")
    rules = [
        {"apiGroups": rule["apiGroups"], "resources": [resource], "verbs": [verb]}
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if (resource, verb) != lacks
    ]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place}"
    plane.call("POST", f"/api/v1/namespaces/{place}/serviceaccounts", {"metadata": {"name": "informer"}})
    plane.call("POST", f"{rbac}/roles", {"metadata": {"name": "informer"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "informer"}
    subject = {"kind": "ServiceAccount", "name": "informer", "namespace": place}
    binding = {"metadata": {"name": "informer"}, "roleRef": reference, "subjects": [subject]}
    plane.call("POST", f"{rbac}/rolebindings", binding)
    authority = {"certificate-authority": str(plane.ca_file)}
    user = {"token": plane.token_for(place, "informer")}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, plane.server, user, **authority)))
    api = RefusedApi()
    reports = f"{GROUP}/namespaces/{place}"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{place}/leases/cv-job-informer"  # a new role is in force a moment later
    wait_for("the role", lambda: plane.request("GET", lease, token=user["token"]).status == 404)
    leader = Leader(api, place=place)

    def edit(key: Key) -> None:
        path = f"{reports}/{RESOURCES[key[0]].plural}/{object_name(key[1])}"
        plane.call("PATCH", path, {"metadata": {"labels": {"x": "y"}}})

    course(leader, api, edit)
    leader.store.close()
    assert (f'cannot {lacks[1]} resource "{lacks[0]}"' in api.refused) if lacks[0] else api.refused == ""
