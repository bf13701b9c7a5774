"""What `cvji discover` costs a node: as a process with a pod's own credentials, which is how the DaemonSet runs it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.in_pod import CAN_MOUNT, IN_POD, node
from tests.e2e.working_set import Measured
from tests.sysfs.trees import big_host

pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="no mount namespaces here")
MEMORY = 30e6  # bytes


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Measured]:
    """`cvji discover` of a node of 8 PFs with 127 VFs each, in a pod."""
    big_host(tmp_path / "sys")
    with node(tmp_path) as env, Measured("discover", env=env, folder=tmp_path, before=IN_POD) as found:
        found.wait_for_log("8 interfaces, 1016 VFs, Succeeded")
        yield found


def cpu_seconds(program: Measured) -> float:
    """What all its threads have run so far."""
    tasks = Path(f"/proc/{program.process.pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def test_a_large_node_takes_little_memory_and_between_scans_no_time(program: Measured) -> None:
    began, before = time.monotonic(), cpu_seconds(program)
    threading.Event().wait(4)
    spent, passed = cpu_seconds(program) - before, time.monotonic() - began
    print(f"{spent * 1e3:.2f} ms of CPU in {passed:.1f} s, {program.measure} {program.memory() / 1e6:.1f} MB")
    assert program.memory() < MEMORY
    assert spent < 0.001 * passed
