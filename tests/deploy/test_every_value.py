"""Each value of the chart, changed in a release on a real API server: what the API server holds then has it."""

import json
from functools import partial
from typing import Any

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import crd
from tests.deploy.conftest import PLACE, Deployer
from tests.deploy.rendered import NEEDED, Object, merged
from tests.deploy.test_deploy import everything
from tests.deploy.test_releases import namespace
from tests.deploy.test_values import ARRIVALS, BESIDE, Look, setting

pytestmark = pytest.mark.cluster
# A CRD stays where a release lets it go, and a namespace that is there is not the release's: test_releases.py.
ELSEWHERE = {"crds.install", "namespace.create"}
ROWS = [row for row in ARRIVALS if row[0] not in ELSEWHERE]
MONITORING = (("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules"))


def values_of(path: str, value: object) -> Object:
    return merged(NEEDED, merged(BESIDE.get(path, {}), setting(path, value)))


def holds(found: Any, expected: Any) -> bool:
    """Whether it is what is expected; mappings may have what the API server adds by itself."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(holds(found.get(key), value) for key, value in expected.items())
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(holds, found, expected))
    return bool(found == expected)


def test_every_value_changed_in_place_arrives(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    for name in (PLACE, "a", "b"):
        wait_for("the namespace", partial(namespace, scheduled_plane, name))
    priorities = "/apis/scheduling.k8s.io/v1/priorityclasses"
    scheduled_plane.request("POST", priorities, {"metadata": {"name": "high"}, "value": 1000})
    scheduled_plane.install_crds([crd("monitoring.coreos.com", "v1", kind, plural) for kind, plural in MONITORING])
    chart = str(deployer.folder / "project/manifests/chart")
    rows: dict[str, list[tuple[Look, object]]] = {}
    for path, value, look, expected in ROWS:
        rows.setdefault(json.dumps(values_of(path, value)), []).append((look, expected))
    wrong = []
    for values, looks in rows.items():
        done = deployer.helm("upgrade", "--install", "cvji", chart, "-f", "-", "--history-max=2", stdin=values)
        assert done.returncode == 0, f"{values}: {done.stderr}"
        held = everything(scheduled_plane)
        wrong += [(values, expected, look(held)) for look, expected in looks if not holds(look(held), expected)]
    assert wrong == []
    assert len(rows) > 60
