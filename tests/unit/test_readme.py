"""README says every setting, every metric, and payloads as they are really sent."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml

from cvji.cli import app
from cvji.telemetry.metrics import DiscoveryMetrics, Metrics, Moment
from tests.simulator.cloudvision import CloudVisionSimulator, Job, Node, check_job, check_node

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
CODE = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def settings(command: Any) -> set[str]:
    """The environment variables of a command and of those below it."""
    found = {name for option in command.params if (name := option.envvar)}
    return found.union(*(settings(below) for below in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", sorted(settings(typer.main.get_command(app))))
def test_every_setting_is_there(name: str) -> None:
    assert f"`{name}`" in README


def test_every_metric_is_there() -> None:
    metrics = Metrics()
    metrics.look(lambda: Moment({}, 0, False, 0, 0.0, {}))
    families = [*metrics.registry.collect(), *DiscoveryMetrics().registry.collect()]
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    names = counters | {family.name for family in families if family.type != "counter"}
    table = README.partition("## Metrics")[2].partition("\n## ")[0]
    assert names == set(re.findall(r"`(cvji_\w+)", table))


@pytest.mark.parametrize("payload", [text for language, text in CODE if language == "json"])
def test_payloads_are_the_services(payload: str) -> None:
    if "hostname" in payload:
        check_node(msgspec.json.decode(payload, type=Node))
    else:
        check_job(msgspec.json.decode(payload, type=Job))


def test_the_records_are_shown_with_the_columns_that_they_have() -> None:
    crd = yaml.safe_load((Path(__file__).parents[2] / "manifests/chart/files/crds/jobreports.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    columns = ["NAME", *(column["name"].upper() for column in version["additionalPrinterColumns"])]
    (shown,) = re.findall(r"^\$ kubectl -n cloudvision get jobreports -o wide\n(.*)$", README, re.MULTILINE)
    assert shown.split() == columns


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [text for language, text in CODE if language == "python"]
    with CloudVisionSimulator() as cloudvision:
        monkeypatch.setenv("API_TOKEN", cloudvision.token)
        monkeypatch.setenv("SSL_CERT_FILE", str(cloudvision.ca_file))
        after: dict[str, Any] = {}
        exec(example.replace("www.arista.io", cloudvision.address), after)
        assert after["delivered"] is True
        assert cloudvision.states("acme") == cloudvision.states("a") == ["RUNNING"]
