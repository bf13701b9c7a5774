"""The commands for people who look after a deployment, where what they print is read by nobody. As processes."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.kit import EXECUTABLE, Stage
from tests.simulator.objects import job

COMMANDS = (["check"], ["explain", "team/j"], ["holders", "n"], ["reconcile"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_stdout_cannot_be_written_is_one_line_and_exit_1(simulated: Stage, command: list[str]) -> None:
    simulated.cluster.create(job("batch", "Job", "j"))
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"KUBECONFIG": str(simulated.cluster.kubeconfig), "NO_PROXY": "*", "LOCATION": "lab"}
    env |= {"API_SERVER": simulated.cloudvision.address, "API_CA_FILE": str(simulated.cloudvision.ca_file)}
    env |= {"API_TOKEN": simulated.cloudvision.token}

    def printed(stdout: int, output: str) -> tuple[int, str]:
        words = [EXECUTABLE, *command, "-o", output]
        done = subprocess.run(words, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    with Path("/dev/full").open("wb") as full:
        assert printed(full.fileno(), "text") == (1, "cvji: stdout: No space left on device\n")
    read, pipe = os.pipe()
    os.close(read)
    try:
        assert printed(pipe, "json") == (1, "cvji: stdout: Broken pipe\n")
    finally:
        os.close(pipe)
