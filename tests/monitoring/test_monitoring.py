"""Alerts and dashboard: promtool's tests of the rules, and that every metric and label in them exists."""

import json
import re
import runpy
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cvji.telemetry.metrics import DiscoveryMetrics, Metrics, Moment, Watch
from tests.deploy.rendered import needs

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "chart" / "files" / "monitoring"
# Labels that scraping adds; `le` is a histogram's.
SCRAPED = {"namespace", "pod", "node", "container", "instance", "job", "le"}
METRIC = re.compile(r"\bcvji_\w+")
# Once the selectors are taken out: the labels of `by (...)`.
BY = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> Iterator[str]:
    for alert in alerts():
        yield alert["expr"]
    for row in yaml.safe_load((ROOT / "build" / "dashboard.yaml").read_text())["rows"]:
        for panel in row["panels"]:
            yield from panel["queries"].values()


def exposed() -> dict[str, set[str]]:
    """Labels by the names of samples, with a value in every metric."""
    metrics, discovery = Metrics(), DiscoveryMetrics()
    metrics.reports.labels("delivered").inc()
    metrics.look(lambda: Moment({"running": 1}, 1, True, 0, 0.0, {"pods": Watch(0, 0, 0.0)}))
    discovery.writes.labels("written").inc()
    discovery.show(1, 1, synced=True)
    found: dict[str, set[str]] = defaultdict(set)
    for registry in (metrics.registry, discovery.registry):
        for family in registry.collect():
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return found


def test_every_metric_and_label_in_alerts_and_dashboard_is_exposed() -> None:
    known = exposed()
    for query in queries():
        names = METRIC.findall(query)
        assert names, query
        assert set(names) <= known.keys(), query
        labels = {label for name in names for label in known[name]} | SCRAPED
        selected = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
        grouped = {label.strip() for part in BY.findall(query) for label in part.split(",")}
        assert selected | grouped <= labels, query


def test_the_dashboard_is_what_its_source_makes() -> None:
    module = runpy.run_path(str(ROOT / "build" / "dashboard.py"))
    assert (text := (MONITORING / "dashboard.json").read_text()) == module["generated"]()
    assert json.loads(text)["uid"] == "cvji"


def test_every_alert_has_a_runbook_and_a_severity() -> None:
    for alert in alerts():
        assert alert["annotations"].keys() == {"summary", "runbook"}, alert["alert"]
        assert alert["labels"]["severity"] in ("warning", "critical")


def promtool(folder: Path, tests: dict[str, Any]) -> str:
    """Run promtool's tests of the alerts; what it says, "" if they pass."""
    needs("promtool")
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]  # promtool compares their words too
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_each_alert_fires_in_its_fault_and_not_without(tmp_path: Path) -> None:
    tests = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
    tested = {item["alertname"] for test in tests["tests"] for item in test["alert_rule_test"] if "exp_alerts" in item}
    assert tested == {alert["alert"] for alert in alerts()}
    assert promtool(tmp_path, tests) == ""


def test_the_words_of_every_alert_are_templates_that_prometheus_takes(tmp_path: Path) -> None:
    needs("promtool")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "cvji", "rules": alerts()}]}))
    done = subprocess.run(["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
