"""The pages, the manifests and `just deploy` have every setting as it is declared."""

import re
from pathlib import Path

import pytest
import yaml

from cvji.commands import (
    READ_ELSEWHERE,
    CheckSettings,
    DiscoverSettings,
    ExplainSettings,
    HoldersSettings,
    InformerSettings,
    JobSettings,
    NodeRemovalSettings,
    NodeSettings,
    ReconcileSettings,
)
from cvji.settings import Declared, Place, Settings, at_least_1s, declared, duration, duration_or_never

ROOT = Path(__file__).parents[2]
COMMANDS: tuple[type[Settings], ...] = (
    InformerSettings,
    DiscoverSettings,
    JobSettings,
    NodeSettings,
    NodeRemovalSettings,
    ExplainSettings,
    CheckSettings,
    HoldersSettings,
    ReconcileSettings,
)
WORKLOADS = {InformerSettings: ("informer", "Deployment"), DiscoverSettings: ("discovery", "DaemonSet")}
DEPLOY = (ROOT / "manifests/deploy.sh").read_text("utf-8")
CHOOSABLE = (Place.CONFIGMAP, Place.CHOSEN)
ALL = sorted(
    {one for kind in COMMANDS for one in declared(kind) if one.env},
    key=lambda one: (one.env, one.shown_default),
)


def rows() -> list[tuple[str, str]]:
    """The variables and the rest of each row of a table of settings in the pages."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    return [(found[1], found[2]) for line in lines if (found := re.fullmatch(r"\| (`[A-Z_]+`[^|]*) \|(.*)\|", line))]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.env)
def test_the_pages_have_a_setting_with_its_default_and_values(one: Declared) -> None:
    found = [rest for names, rest in rows() if f"`{one.env}`" in names]
    assert found
    assert any(f"`{one.shown_default}`" in rest for rest in found) or not one.shown_default
    assert any(all(f"`{choice}`" in rest for choice in one.choices) for rest in found)


def test_the_pages_have_no_setting_that_there_is_not() -> None:
    names = {name for names, _ in rows() for name in re.findall(r"[A-Z_]{4,}", names)}
    assert names == {one.env for one in ALL} | set(READ_ELSEWHERE)


def array(name: str) -> set[str]:
    """The words of an array of manifests/deploy.sh."""
    found = re.search(rf"^{name}=\(([^)]*)\)", DEPLOY, re.MULTILINE)
    assert found
    return set(found[1].split())


@pytest.mark.parametrize("kind", WORKLOADS)
def test_deploy_puts_into_each_configmap_what_belongs_there(kind: type[Settings]) -> None:
    keys = {one.env for one in declared(kind) if one.setting.place is Place.CONFIGMAP}
    assert array(f"{WORKLOADS[kind][0]}_settings") == keys


def test_deploy_takes_whatever_a_user_chooses() -> None:
    taken = array("informer_settings") | array("discovery_settings") | array("other_settings")
    assert {one.env for kind in WORKLOADS for one in declared(kind) if one.setting.place in CHOOSABLE} <= taken


def test_deploy_knows_the_values_and_which_settings_are_durations() -> None:
    chosen = [one for kind in WORKLOADS for one in declared(kind) if one.setting.place in CHOOSABLE]
    checked = {
        name: set(values.split()) for name, values in re.findall(r"^ +one_of ([A-Z_]+) (.+)$", DEPLOY, re.MULTILINE)
    }
    assert {one.env: set(one.choices) for one in chosen if one.choices} == {
        name: values for name, values in checked.items() if name != "COMPONENT"
    }
    periods = re.search(r"for name in ([A-Z_ ]+); do\s+matches \"\$name\" \"\$period\"", DEPLOY)
    assert periods
    assert set(periods[1].split()) - {"ROLLOUT_TIMEOUT"} == {
        one.env for one in chosen if one.setting.read in (duration, at_least_1s)
    }
    assert re.findall(r"matches ([A-Z_]+) \"\$period\|\[Nn\]", DEPLOY) == [
        one.env for one in chosen if one.setting.read is duration_or_never
    ]


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_pod_templates_set_what_belongs_to_them_and_nothing_unknown(kind: type[Settings]) -> None:
    name, workload = WORKLOADS[kind]
    (template,) = (
        found["spec"]["template"]["spec"]
        for found in yaml.safe_load_all((ROOT / f"manifests/base/{name}.yaml").read_text("utf-8"))
        if found["kind"] == workload
    )
    env = {item["name"] for item in template["containers"][0]["env"]} - {"MALLOC_ARENA_MAX", "POD_IP"}
    assert env == {one.env for one in declared(kind) if one.setting.place is Place.POD}
