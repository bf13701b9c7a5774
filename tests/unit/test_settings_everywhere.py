"""The pages, the chart and `just deploy` have every setting as it is declared."""

import importlib.util
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

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
from cvji.settings import Declared, Place, Settings, SettingsError, declared, read

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("deploy_settings", ROOT / "manifests/deploy/settings.py")
assert _spec is not None
assert _spec.loader is not None
deploy: Any = importlib.util.module_from_spec(_spec)  # run as a program of its own, by any Python
_spec.loader.exec_module(deploy)
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
WORKLOADS: dict[type[Settings], str] = {InformerSettings: "informer", DiscoverSettings: "discovery"}
SCHEMA = json.loads((ROOT / "manifests/chart/values.schema.json").read_text("utf-8"))
PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
NOT_SET = {"", "API_TOKEN", "KUBE_CONTEXT"}  # the token comes as a file; no kubeconfig in a pod
CHOOSABLE = (Place.CONFIGMAP, Place.CHOSEN)
ALL = sorted(
    {one for kind in COMMANDS for one in declared(kind) if one.env},
    key=lambda one: (one.env, one.shown_default),
)


def test_these_are_all_commands() -> None:
    def below(kind: type[Settings]) -> set[type[Settings]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    assert set(COMMANDS) == {kind for kind in below(Settings) if not kind.__subclasses__()}


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_command_leaves_a_secret_to_the_programs_that_it_starts(kind: type[Settings]) -> None:
    environment = {"API_TOKEN": "s3cret", "PATH": "/bin"}
    with suppress(SettingsError):
        read(kind, {"node_name": "n", "location": "lab", "dry_run": True}, environment)
    assert environment == {"PATH": "/bin"}


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


def schema_of(path: str) -> dict[str, Any]:
    """What the chart's schema says of a value."""
    found: dict[str, Any] = SCHEMA
    for part in path.split("."):
        found = found["properties"][part]
        if "$ref" in found:
            found = SCHEMA["$defs"][found["$ref"].rpartition("/")[2]]
    return found


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_chart_sets_what_belongs_to_each_workload_and_nothing_unknown(kind: type[Settings]) -> None:
    name = WORKLOADS[kind]
    files = [ROOT / "manifests/chart/templates" / file for file in (f"{name}.yaml", "_helpers.tpl")]
    template = "".join(file.read_text("utf-8") for file in files)
    env = set(re.findall(r"- name: ([A-Z_]{4,})$|- name: ([A-Z_]{4,}) #", template, re.MULTILINE))
    names = {one or other for one, other in env} - {"MALLOC_ARENA_MAX", "POD_IP"} - PROXIES
    known = {one.env for one in declared(kind)}
    assert names <= known | set(READ_ELSEWHERE)
    assert {one.env for one in declared(kind) if one.setting.place is not Place.CHOSEN} - names <= NOT_SET


def test_deploy_takes_whatever_a_user_chooses() -> None:
    chosen = {one.env for kind in WORKLOADS for one in declared(kind) if one.setting.place in CHOOSABLE}
    assert chosen <= {row[0] for row in deploy.ROWS}


def test_the_charts_schema_has_the_choices_of_each_setting() -> None:
    checked = 0
    for one in {one for kind in WORKLOADS for one in declared(kind) if one.choices}:
        if path := deploy.VALUES.get(one.env):
            assert set(schema_of(path)["enum"]) == set(one.choices), one.env
            checked += 1
    assert checked == len(deploy.ENUMS)
