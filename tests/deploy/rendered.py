"""The chart as Helm renders it, and Helm itself."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.binary import BuildUnavailable
from tests.helm.binary import helm_binary

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "manifests/chart"
NEEDED = {"location": "dc1", "cloudvision": {"server": "cv.example.com"}}
KUBERNETES = "v1.36.3"
# What the chart is deployed as, by name: the values that differ.
FORMS: dict[str, Object] = {
    "": {},
    "sriovoperator": {"nodes": {"mode": "sriovoperator"}},
    "disabled": {"nodes": {"mode": "disabled"}},
    "unprivileged-discovery": {"discovery": {"privileged": False}},
    "one-namespace": {"jobs": {"namespaces": ["team-a"]}},
    "without-restriction": {"discovery": {"nodeRestriction": "never"}},
}
COMPONENTS = tuple(FORMS)


def needs(*programs: str) -> None:
    """Skip the test, saying why, where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@cache
def _helm() -> Path | str:
    try:
        return helm_binary()
    except BuildUnavailable as reason:
        return str(reason)


def helm() -> Path:
    """The helm command. Skips where it cannot be built, unless CI_REQUIRE_CLUSTER=1: then it fails."""
    found = _helm()
    if isinstance(found, str):
        if os.environ.get("CI_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"no helm: {found}")
        pytest.skip(f"no helm: {found}")
    return found


def merged(values: Object, more: Object) -> Object:
    """Both, mappings merged, as Helm merges values."""
    found = dict(values)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


def template(values: Object, *more: str, kubernetes: str = KUBERNETES) -> subprocess.CompletedProcess[str]:
    """`helm template` with these values alone."""
    command = [
        str(helm()),
        "template",
        "cvji",
        str(CHART),
        "-n",
        "cloudvision",
        "-f",
        "-",
        "--kube-version",
        kubernetes,
        *more,
    ]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def render(values: Object | str = "", *, kubernetes: str = KUBERNETES) -> list[Object]:
    """Every object of the chart, with the values of a form, or with these, beside those that are needed."""
    values = FORMS[values] if isinstance(values, str) else values
    text = _rendered(json.dumps(merged(NEEDED, values)), kubernetes)
    return [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]


@cache
def _rendered(values: str, kubernetes: str) -> str:
    done = template(json.loads(values), kubernetes=kubernetes)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def names(objects: list[Object]) -> set[str]:
    """KIND/NAME of each."""
    return {f"{item['kind']}/{item['metadata']['name']}" for item in objects}
