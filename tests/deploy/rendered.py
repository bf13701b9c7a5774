"""The manifests as kubectl renders them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
COMPONENTS = ("", "sriovoperator", "disabled", "unprivileged-discovery", "node-restriction")


def needs(*programs: str) -> None:
    """Skip the test, saying why, where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def render(folder: Path, component: str = "") -> list[Object]:
    """Every object of the base, changed by one component."""
    needs("kubectl")
    shutil.copytree(ROOT / "manifests", folder / "manifests", dirs_exist_ok=True)
    overlay = folder / "overlay"
    overlay.mkdir(exist_ok=True)
    components = [f"../manifests/components/{component}"] if component else []
    text = yaml.safe_dump({"resources": ["../manifests/base"], "components": components})
    (overlay / "kustomization.yaml").write_text(text)
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def names(objects: list[Object]) -> set[str]:
    """KIND/NAME of each, without the hashes of generated names."""
    return {f"{item['kind']}/{unhashed(item['metadata']['name'])}" for item in objects}


def unhashed(name: str) -> str:
    head, _, tail = name.rpartition("-")
    return head if head.endswith("-settings") and len(tail) == 10 else name
