"""Builds the control plane's Go program once, into a cache outside the checkout.

Knows Go's build command and a file lock; nothing of how the program is run.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent
BUILD_TIMEOUT = 1800.0  # seconds; two cores with an empty Go cache need a fraction of it


class ControlPlaneUnavailable(Exception):  # noqa: N818 - a state of the machine, not a fault in the tests
    """This machine can have no control plane; the message says what is missing."""


def cache_folder() -> Path:
    """Where builds are kept: $CVJI_CACHE, else ~/.cache/cvji."""
    return Path(os.environ.get("CVJI_CACHE") or Path.home() / ".cache" / "cvji")


def control_plane_binary() -> Path:
    """The program for these sources and this Go, built by the first process that asks while the others wait.

    Raises ControlPlaneUnavailable if Go is missing or the build fails (no way to the module proxy, say).
    """
    go = shutil.which("go")
    if go is None:
        raise ControlPlaneUnavailable("Go is not installed: the control plane is built from source")
    version = _run([go, "version"], timeout=60.0)
    digest = hashlib.sha256(version.encode())
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((SOURCE / name).read_bytes())
    folder = cache_folder()
    binary = folder / f"controlplane-{digest.hexdigest()[:16]}"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "controlplane.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            unfinished = binary.with_suffix(".building")
            _build(go, unfinished)
            unfinished.rename(binary)  # never seen half written
    return binary


def kubernetes_version() -> str:
    """The Kubernetes release that go.mod names, as in v1.36.3."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    assert found, "go.mod requires k8s.io/kubernetes"
    return found.group(1)


def _build(go: str, target: Path) -> None:
    release = kubernetes_version()
    major, minor = release.removeprefix("v").split(".")[:2]
    # Without these stamps /version says v0.0.0-master.
    stamps = {"gitVersion": release, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    ldflags = [
        "-s",
        "-w",
        *(f"-X=k8s.io/component-base/version.{key}={value}" for key, value in stamps.items()),
    ]
    flags = ["-p", "2", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", " ".join(ldflags)]
    _run(
        [go, "build", *flags, "-o", str(target), "."],
        timeout=BUILD_TIMEOUT,
        environment={"CGO_ENABLED": "0"},
    )


def _run(command: list[str], *, timeout: float, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=SOURCE,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ControlPlaneUnavailable(f"{command[0]} {command[1]}: {error}") from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ControlPlaneUnavailable(f"{command[0]} {command[1]} failed: {said}")
    return done.stdout
