"""The pages show what the commands for operators really print."""

import re
from pathlib import Path

import pytest

from cvji import check
from cvji.kube.client import ApiError
from tests.e2e.kit import Stage, stamp
from tests.e2e.test_check import checked as with_cloudvision
from tests.e2e.test_explain import TORCH, run
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.objects import job, pod, pod_status, running
from tests.unit.test_check import FAULTS, METRICS, checked, sound

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/operating-commands.md")
RESULT = re.compile(r"(?:ok|skip|warn|FAIL) +([^:]+): ")


def shown(page: str, command: str) -> list[str]:
    """The lines that a page shows of a command, up to its next command, end or ellipsis."""
    (found,) = re.findall(
        rf"^\$ {re.escape(command)}.*\n((?:(?!\$ |```|\.\.\.$).*\n)*)", (ROOT / page).read_text(), re.MULTILINE
    )
    return str(found).splitlines()


def same(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run: times and uids."""
    return [re.sub(r"uid [^)]+", "uid", re.sub(r"\d\d:\d\d:\d\dZ", "time", line)) for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_explain(simulated: Stage, page: str) -> None:
    made = simulated.cluster.create(job(*TORCH, "pretrain", "team-a"), running(*TORCH, stamp()))
    for number, phase in ((1, "Pending"), (0, "Running")):
        worker = pod(
            f"pretrain-worker-{number}",
            made,
            f"02:00:00:00:00:{14 + number}",
            namespace="team-a",
            node=f"gpu-{4 + number}",
        )
        simulated.cluster.create(worker, pod_status(phase, stamp() if phase == "Running" else ""))
    code, out, err = run(str(simulated.cluster.kubeconfig), "explain", "team-a/pretrain", LOCATION="lab")
    assert (code, err) == (0, "")
    lines = same(shown(page, "cvji explain"))
    assert len(lines) > 4
    assert lines == same(out.splitlines())[: len(lines)]


@pytest.mark.parametrize("page", PAGES)
def test_check(page: str) -> None:
    unmetered = sound()
    unmetered.answers[METRICS] = ApiError(404, "Not Found")
    with CloudVisionSimulator(certificate_days=90) as simulator:
        results = with_cloudvision(simulator) + checked(unmetered)
    for breaks, *_ in FAULTS.values():
        api = sound()
        breaks(api)
        results += checked(api)
    printed = [line for result in results for line in check.line(result).splitlines()]
    names = {found[1] for line in printed if (found := RESULT.match(line))}
    lines = shown(page, "cvji check")
    assert len(lines) > 1
    for line in lines:
        found = RESULT.match(line)
        assert found[1] in names if found else line in printed, line
