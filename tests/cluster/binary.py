"""Builds the tests' Go programs (control plane, Helm) once, into a cache outside the checkout.

Knows Go's build command and a file lock; nothing of how the programs are run.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parent
BUILD_TIMEOUT = 1800.0  # seconds; two cores with an empty Go cache need a fraction of it


class BuildUnavailable(Exception):  # noqa: N818 - a state of the machine, not a fault in the tests
    """This machine cannot build a program; the message says what is missing."""


class ControlPlaneUnavailable(BuildUnavailable):
    """This machine can have no control plane; the message says what is missing."""


def cache_folder() -> Path:
    """Where builds are kept: $CVJI_CACHE, else ~/.cache/cvji."""
    return Path(os.environ.get("CVJI_CACHE") or Path.home() / ".cache" / "cvji")


def control_plane_binary() -> Path:
    """The control plane for these sources and this Go. Raises ControlPlaneUnavailable if it cannot be built."""
    release = kubernetes_version()
    major, minor = release.removeprefix("v").split(".")[:2]
    # Without these stamps /version says v0.0.0-master.
    stamps = {"gitVersion": release, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    variables = {f"k8s.io/component-base/version.{key}": value for key, value in stamps.items()}
    try:
        return go_binary("controlplane", SOURCE, ".", variables)
    except BuildUnavailable as error:
        raise ControlPlaneUnavailable(str(error)) from error


def go_binary(name: str, source: Path, package: str, variables: Mapping[str, str]) -> Path:
    """The program NAME of a folder with a go.mod, built by the first process that asks while the others wait.

    `variables` are strings that the linker sets (-X). Raises BuildUnavailable if Go is missing or the build fails (no
    way to the module proxy, say).
    """
    go = shutil.which("go")
    if go is None:
        raise BuildUnavailable(f"Go is not installed: {name} is built from source")
    digest = hashlib.sha256(_run([go, "version"], source, timeout=60.0).encode())
    for file in ("go.mod", "go.sum", *sorted(path.name for path in source.glob("*.go"))):
        digest.update((source / file).read_bytes())
    folder = cache_folder()
    binary = folder / f"{name}-{digest.hexdigest()[:16]}"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            unfinished = binary.with_suffix(".building")
            ldflags = ["-s", "-w", *(f"-X={variable}={value}" for variable, value in variables.items())]
            flags = ["-p", "2", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", " ".join(ldflags)]
            command = [go, "build", *flags, "-o", str(unfinished), package]
            _run(command, source, timeout=BUILD_TIMEOUT, environment={"CGO_ENABLED": "0"})
            unfinished.rename(binary)  # never seen half written
    return binary


def kubernetes_version() -> str:
    """The Kubernetes release that go.mod names, as in v1.36.3."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    assert found, "go.mod requires k8s.io/kubernetes"
    return found.group(1)


def _run(command: list[str], folder: Path, *, timeout: float, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildUnavailable(f"{command[0]} {command[1]}: {error}") from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BuildUnavailable(f"{command[0]} {command[1]} failed: {said}")
    return done.stdout
