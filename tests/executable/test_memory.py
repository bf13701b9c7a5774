"""What the executable's processes take, against the same program in the interpreter."""

import sys
from pathlib import Path

import pytest

from tests.e2e.in_pod import idle
from tests.executable.conftest import REPOSITORY

pytestmark = pytest.mark.executable


def test_idle_it_takes_no_more_memory_than_interpreted(tmp_path: Path) -> None:
    """By the working set, in which the pages of files count little; a tenth is what two runs of one program differ by."""
    taken = {}
    for executable in (REPOSITORY / "dist/cvji.dist/cvji", Path(sys.executable).with_name("cvji")):
        folder = tmp_path / executable.parent.name
        folder.mkdir()
        for file in filter(Path.is_file, executable.parent.rglob("*")):
            file.read_bytes()  # else who reads it first pays for its pages
        taken[executable.parent.name] = {command: size for command, _, size in idle(folder, str(executable))}
    compiled, interpreted = taken.values()
    print(compiled, interpreted)
    for command in ("informer", "discover"):
        assert compiled[command] < 1.1 * interpreted[command]
