"""Each alert fires by what the real program exposes in the fault that it is for, and none without a fault.

A fault is produced between the simulators and /metrics is scraped before and during it. These samples are promtool's
input: five minutes as it was before, then as it was during the fault, where what grew goes on growing as fast.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.deploy.rendered import needs
from tests.e2e.kit import Program, Stage, free_port, scrape
from tests.e2e.test_discover import discover, make_node
from tests.monitoring.test_monitoring import alerts, promtool
from tests.simulator.cloudvision import Fault
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import job, pod
from tests.simulator.store import BOOKMARK_SECONDS
from tests.sysfs.trees import mlx5_host

LEADER: dict[str, Any] = {"STATE_NAMESPACE": "cloudvision", "LEADER_ELECT": "true"}
SILENCE = "cvji_watch_silence_seconds"
QUIET = 4 * BOOKMARK_SECONDS  # a watch that says nothing for so long is silent: the simulator's bookmarks come faster
FAULT_AT = 5  # minutes
GROWN = 7  # minutes after which what grows by a second a second is above every threshold
# Python's own hook at its start: a program with a bug.
BUG = """
from cvji.kube.events import Applied
from cvji.reports.reporter import Reporter

apply = Reporter.apply

def broken(self, event, now):
    if isinstance(event, Applied) and getattr(event.object, "name", "") == "j":
        raise RuntimeError("a bug")
    return apply(self, event, now)

Reporter.apply = broken
"""

Samples = dict[str, float]  # by the series' whole name
Labels = dict[str, str]


def series(pod_name: str, scraped: str) -> str:
    """The name of a scraped sample with the labels that Prometheus adds."""
    metric, _, labels = scraped.partition("{")
    return f'{metric}{{namespace="cloudvision",pod="{pod_name}",node="n-1",{labels or "}"}'


@dataclass
class Scene:
    """The programs, by the names of their pods."""

    stage: Stage
    kubernetes: KubernetesSimulator
    pods: dict[str, tuple[Program, int]] = field(default_factory=dict)

    def informer(self, name: str = "a", *, ready: bool = True, **env: Any) -> Program:
        """Start one, or again as the kubelet does."""
        port = free_port()
        program = self.stage.informer(
            ready=ready, HEALTH_ADDRESS=f"127.0.0.1:{port}", NODECONFIG_MODE="disabled", **env
        )
        self.pods[name] = program, port
        self.wait(bool)
        return program

    def job(self) -> None:
        """A job that is to be reported."""
        made = self.stage.cluster.create(job("kubeflow.org", "PyTorchJob", "j"))
        self.stage.cluster.run_pod(pod("j-0", made, "02:00:00:00:0b:01"))

    def scrape(self) -> Samples:
        return {
            series(name, scraped): value
            for name, (_, port) in self.pods.items()
            for scraped, value in scrape(port).items()
            if scraped.startswith("cvji_")
        }

    def wait(self, condition: Callable[[Samples], object]) -> Samples:
        """The first samples for which it holds."""
        found: Samples = {}

        def holds() -> object:
            nonlocal found
            try:
                found = self.scrape()
            except URLError:  # it does not listen yet
                return False
            return condition(found)

        program, _ = next(iter(self.pods.values()))
        program.wait_for(holds, 30)
        return found

    def trend(self) -> tuple[Samples, Samples]:
        """The samples now, and by how much each grows in a second: 0 for what fell, as the silence of a sound watch."""
        first, began = self.scrape(), time.monotonic()
        least, fell = dict(first), set[str]()

        def seen_enough(now: Samples) -> bool:
            fell.update(name for name, value in now.items() if value < least.get(name, value))
            least.update(now)
            watches = (name for name in now if name.startswith(SILENCE))
            heard = all(name in fell or now[name] > QUIET or not now[name] for name in watches)
            return heard and time.monotonic() - began > 2 * BOOKMARK_SECONDS

        last = self.wait(seen_enough)
        took = time.monotonic() - began
        return last, {
            name: 0.0 if name in fell else (value - first.get(name, value)) / took for name, value in last.items()
        }


def expected(name: str = "a", **labels: str) -> list[Labels]:
    return [{"namespace": "cloudvision", "pod": name, **labels}]


Play = Callable[[Scene], list[Labels]]  # produces a fault; the labels of the alerts that are to fire


def lease_lost(scene: Scene) -> list[Labels]:
    scene.kubernetes.forbid("coordination.k8s.io", "leases", "get", "update", "create")
    assert scene.pods["a"][0].process.wait(40) == 1
    scene.informer(ready=False, **LEADER)
    return [{}]


def api_server_away(scene: Scene) -> list[Labels]:
    scene.kubernetes.refuse()
    assert scene.pods["a"][0].process.wait(40) == 1
    scene.informer(ready=False, **LEADER)
    return [{}]


def second_without_election(scene: Scene) -> list[Labels]:
    scene.informer("b", STATE_NAMESPACE="cloudvision")
    return [{"namespace": "cloudvision"}]


def queue_waits(scene: Scene) -> list[Labels]:
    scene.job()
    scene.wait(lambda seen: seen[series("a", "cvji_outbox_oldest_seconds")] > 1)
    return [{"namespace": "cloudvision"}]


def cloudvision_down(scene: Scene) -> list[Labels]:
    scene.stage.cloudvision.refuse()
    return queue_waits(scene)


def cloudvision_overloaded(scene: Scene) -> list[Labels]:
    scene.stage.cloudvision.always = Fault(503, b'{"message":"upgrading"}')
    return queue_waits(scene)


def refused(status: int, outcome: str) -> Play:
    def play(scene: Scene) -> list[Labels]:
        scene.stage.cloudvision.always = Fault(status, b'{"message":"no"}')
        scene.job()
        scene.wait(lambda seen: seen[series("a", f'cvji_reports_total{{outcome="{outcome}"}}')])
        return [{"namespace": "cloudvision", "outcome": outcome}]

    return play


def every_watch_silent(scene: Scene) -> list[Labels]:
    seen = scene.wait(lambda seen: all(seen[name] > QUIET for name in seen if name.startswith(SILENCE)))
    resources = [name.split('resource="')[1].removesuffix('"}') for name in seen if name.startswith(SILENCE)]
    assert "pods" in resources
    return [labels for resource in resources for labels in expected(resource=resource)]


def watches_stalled(scene: Scene) -> list[Labels]:
    scene.kubernetes.stall()
    return every_watch_silent(scene)


def api_server_away_from_a_single_informer(scene: Scene) -> list[Labels]:
    scene.kubernetes.refuse()
    return every_watch_silent(scene)


def object_unreadable(scene: Scene) -> list[Labels]:
    raw = b'{"metadata":{"name":"p","namespace":"team","uid":"u","resourceVersion":"VERSION"},"spec":7}'
    scene.kubernetes.put_raw("", "pods", "team", "p", raw)
    scene.wait(lambda seen: seen[series("a", 'cvji_decode_failures_total{resource="pods"}')])
    return [{"namespace": "cloudvision", "resource": "pods"}]


def bug(scene: Scene) -> list[Labels]:
    scene.job()
    scene.wait(lambda seen: seen[series("a", "cvji_internal_errors_total")])
    return expected()


def node_not_scanned(scene: Scene) -> list[Labels]:
    root = scene.stage.folder / "sys"
    root.rename(root.with_name("hidden"))
    scene.wait(lambda seen: not seen[series("d", "cvji_node_synced")])
    return expected("d", node="n-1")


FAULTS: dict[str, tuple[str, Play, dict[str, Any]]] = {  # the alert, its fault, and the informer's settings
    "lease lost": ("CvjiNobodyReports", lease_lost, LEADER),
    "API server away": ("CvjiNobodyReports", api_server_away, LEADER),
    "one without election": ("CvjiTwoLeaders", second_without_election, LEADER),
    "CloudVision down": ("CvjiReportsWait", cloudvision_down, LEADER),
    "CloudVision overloaded": ("CvjiReportsWait", cloudvision_overloaded, LEADER),
    "report refused": ("CvjiReportsRefused", refused(400, "refused"), LEADER),
    "token wrong": ("CvjiReportsRefused", refused(401, "unauthorized"), LEADER),
    "token may not write": ("CvjiReportsRefused", refused(403, "forbidden"), LEADER),
    "watches stalled": ("CvjiWatchSilent", watches_stalled, LEADER),
    "API server away, one informer": ("CvjiWatchSilent", api_server_away_from_a_single_informer, {}),
    "object unreadable": ("CvjiObjectsUnreadable", object_unreadable, LEADER),
    "bug": ("CvjiInternalErrors", bug, LEADER),
    "node not scanned": ("CvjiNodeNotScanned", node_not_scanned, LEADER),
}
RULES = {rule["alert"]: rule for rule in alerts()}


def minutes(rule: dict[str, Any]) -> int:
    """A rule's `for:`."""
    return int(str(rule.get("for", "0m")).removesuffix("m"))


def judged(
    folder: Path, before: Samples, during: Samples, growth: Samples, at: int, firing: dict[str, list[Labels]]
) -> str:
    """What promtool says, "" if `firing` fire `at` that minute, and nothing else, and nothing before the fault."""
    rows = []
    for name in before.keys() | during.keys():
        values = [str(before.get(name, "_"))] * FAULT_AT
        values += [
            str(during[name] + 60 * growth[name] * minute) if name in during else "_" for minute in range(at + 1)
        ]
        rows.append({"series": name, "values": " ".join(values)})
    tests = []
    for name, rule in RULES.items():
        found = [{"exp_labels": {**rule["labels"], **labels}} for labels in firing.get(name, [])]
        tests.append({"eval_time": f"{FAULT_AT - 1}m", "alertname": name})
        tests.append({"eval_time": f"{at}m", "alertname": name, **({"exp_alerts": found} if found else {})})
    test = {"interval": "1m", "input_series": rows, "alert_rule_test": tests}
    return promtool(folder, {"evaluation_interval": "1m", "tests": [test]})


@pytest.fixture
def scene(simulated: Stage, kubernetes: KubernetesSimulator) -> Scene:
    needs("promtool")
    return Scene(simulated, kubernetes)


def play(scene: Scene, **settings: Any) -> None:
    """An informer and a node's discovery, both sound."""
    scene.informer(**settings)
    make_node(scene.stage, "gpu-1")
    port = free_port()
    program = discover(scene.stage, mlx5_host(scene.stage.folder / "sys"), HEALTH_ADDRESS=f"127.0.0.1:{port}")
    scene.pods["d"] = program, port
    scene.wait(lambda seen: seen.get(series("d", "cvji_node_synced")))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_alert_fires_in_its_fault_by_what_the_programs_expose(scene: Scene, tmp_path: Path, fault: str) -> None:
    alert, happens, settings = FAULTS[fault]
    if happens is bug:
        (tmp_path / "bug").mkdir()
        (tmp_path / "bug" / "sitecustomize.py").write_text(BUG)
        settings = {**settings, "PYTHONPATH": str(tmp_path / "bug")}
    play(scene, **settings)
    before = scene.scrape()
    labels = happens(scene)
    at = FAULT_AT + minutes(RULES[alert]) + GROWN
    assert judged(tmp_path, before, *scene.trend(), at, {alert: labels}) == ""


def test_no_alert_fires_while_all_is_well(scene: Scene, tmp_path: Path) -> None:
    play(scene, **LEADER)
    before = scene.scrape()
    scene.job()
    scene.wait(lambda seen: seen[series("a", 'cvji_reports_total{outcome="delivered"}')])
    scene.wait(lambda seen: not seen[series("a", "cvji_outbox_depth")])
    assert judged(tmp_path, before, *scene.trend(), 60, {}) == ""


def test_every_alert_has_its_fault() -> None:
    assert {alert for alert, _, _ in FAULTS.values()} == RULES.keys()
