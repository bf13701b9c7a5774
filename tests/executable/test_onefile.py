"""The executable as one file on the oldest glibc it is made for, 2.31, on a machine that has no Python."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.sysfs.trees import mlx5_host

pytestmark = pytest.mark.executable


def chrooted(bare: Path, *words: str, user: str = "0:0") -> subprocess.CompletedProcess[str]:
    script = 'mount -t proc proc "$0/proc" && exec chroot "$@"'  # a machine has /proc
    command = ["unshare", "-m", "sh", "-c", script, str(bare), f"--userspec={user}", str(bare), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_it_runs_on_glibc_2_31_without_python_and_leaves_nothing_behind(bare: Path) -> None:
    assert "2.31" in chrooted(bare, "ldd", "--version").stdout
    assert not [name for folder in ("usr/bin", "bin", "usr/lib") for name in (bare / folder).glob("*python*")]
    done = chrooted(bare, "/cvji", "--version", user="65532:65532")
    assert (done.returncode, done.stderr) == (0, "")
    mlx5_host(bare / "machine")
    arguments = ("discover", "--once", "-o", "json", "--node-name", "gpu-1", "--sysfs-root", "/machine")
    done = chrooted(bare, "/cvji", *arguments, user="65532:65532")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"]["interfaces"][0]["mac"] == "0c:42:a1:00:00:10"
    assert list((bare / "tmp").iterdir()) == []


def test_wrong_settings_are_one_line_there_too(bare: Path) -> None:
    done = chrooted(bare, "/cvji", "informer")
    assert done.returncode == 2
    assert done.stderr == "cvji: LOCATION (--location) is not set: give this site's name in CloudVision\n"
