"""What the executable's processes take, against the same program in the interpreter."""

import sys
from pathlib import Path

import pytest

from tests.e2e.in_pod import idle
from tests.executable.conftest import REPOSITORY

pytestmark = pytest.mark.executable


def test_idle_it_takes_less_memory_than_interpreted(tmp_path: Path) -> None:
    taken = {}
    for executable in (REPOSITORY / "dist/cvji.dist/cvji", Path(sys.executable).with_name("cvji")):
        folder = tmp_path / executable.parent.name
        folder.mkdir()
        taken[executable.parent.name] = {command: size for command, _, size in idle(folder, str(executable))}
    compiled, interpreted = taken.values()
    print(compiled, interpreted)
    assert compiled["informer"] < interpreted["informer"]
    assert compiled["discover"] < interpreted["discover"]
