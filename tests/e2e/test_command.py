"""The command line as a user meets it: wrong settings, dry runs, proxies, secrets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cvji.cli import app
from tests.e2e.kit import Program, Stage, stamp
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod
from tests.simulator.proxy import ConnectProxy

GOOD = {"LOCATION": "lab", "API_SERVER": "127.0.0.1:1", "API_TOKEN": "s3cret", "KUBECONFIG": "good.yaml"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {
        "current-context": "c",
        "contexts": [context],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "good.yaml").write_text(json.dumps(config))
    (tmp_path / "no-context.yaml").write_text(json.dumps(config | {"current-context": "other"}))
    clusters = [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority": "absent"}}]
    (tmp_path / "no-ca.yaml").write_text(json.dumps(config | {"clusters": clusters}))
    users = [{"name": "u", "user": {"tokenFile": "absent"}}]
    (tmp_path / "no-token.yaml").write_text(json.dumps(config | {"users": users}))
    (tmp_path / "list.yaml").write_text("[]")
    (tmp_path / "broken.yaml").write_text("a: [b")
    (tmp_path / "binary.yaml").write_bytes(b"\x00\xff")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two-lines").write_text("s3cret\nmore\n")
    (tmp_path / "not-a-ca.pem").write_text("hello")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({"LOCATION": ""}, [], "LOCATION is not set"),
        ({"LOCATION": "  "}, [], "LOCATION is not set"),
        ({"API_SERVER": ""}, [], "API_SERVER is not set"),
        ({"API_SERVER": "https://cv/"}, [], "API_SERVER must be host or host:port"),
        ({"API_TOKEN": ""}, [], "no API token"),
        ({"API_TOKEN": "s3cret and more"}, [], "API_TOKEN holds characters that no token has"),
        ({"API_TOKEN_FILE": "absent"}, [], "API_TOKEN_FILE absent cannot be read: No such file"),
        ({"API_TOKEN_FILE": "."}, [], "API_TOKEN_FILE . cannot be read: Is a directory"),
        ({"API_TOKEN_FILE": "empty"}, [], "API_TOKEN_FILE empty is empty"),
        ({"API_TOKEN_FILE": "two-lines"}, [], "API_TOKEN_FILE two-lines holds characters"),
        ({"API_CA_FILE": "absent"}, [], "API_CA_FILE absent cannot be used"),
        ({"API_CA_FILE": "not-a-ca.pem"}, [], "API_CA_FILE not-a-ca.pem cannot be used"),
        ({"JOBCONFIG_MODE": "nic"}, [], "JOBCONFIG_MODE is 'nic': it must be one of interface, node"),
        ({"NODECONFIG_MODE": "x"}, [], "must be one of disabled, discovery, sriovoperator"),
        ({"NODE_INTERFACE_TYPE": "x"}, [], "must be one of all, pf, vf"),
        ({"JOB_OWNER": "x"}, [], "must be one of root, direct"),
        ({"LOG_LEVEL": "x"}, [], "must be one of debug, info, warning, error"),
        ({"LOG_FORMAT": "x"}, [], "must be one of text, json"),
        ({"JOB_KINDS": "Job"}, [], "'Job' must be GROUP/KIND"),
        ({"STABILITY_DELAY": "soon"}, [], "STABILITY_DELAY: 'soon' is not a duration"),
        ({"START_MAX_WAIT": "-1"}, [], "START_MAX_WAIT: '-1' is not a duration"),
        ({"NAMESPACE": "A b"}, [], "NAMESPACE: 'A b' is not the name of a namespace"),
        (
            {"API_INSECURE_SKIP_VERIFY": "maybe"},
            [],
            "is not a valid boolean",
        ),
        ({"KUBECONFIG": "absent.yaml"}, [], "KUBECONFIG absent.yaml does not exist"),
        ({"KUBECONFIG": "list.yaml"}, [], "KUBECONFIG list.yaml is not a kubeconfig"),
        ({"KUBECONFIG": "broken.yaml"}, [], "KUBECONFIG broken.yaml is not YAML"),
        ({"KUBECONFIG": "binary.yaml"}, [], "KUBECONFIG binary.yaml is not"),
        ({"KUBECONFIG": "."}, [], "Kubernetes credentials: .: Is a directory"),
        ({"KUBECONFIG": "empty"}, [], "Kubernetes credentials: Invalid kube-config. empty file is empty"),
        ({"KUBECONFIG": "no-ca.yaml"}, [], "Kubernetes credentials: File does not exist: "),
        ({"KUBECONFIG": "no-token.yaml"}, [], "Kubernetes credentials: "),
        (
            {"HTTPS_PROXY": "socks5://u:s3cret@h:1"},
            [],
            "HTTPS_PROXY cannot be used: it must be the URL of an HTTP proxy",
        ),
        ({"KUBECONFIG": "no-context.yaml"}, [], "Kubernetes credentials: "),
        ({"KUBE_CONTEXT": "absent"}, [], "Kubernetes credentials, context 'absent' (KUBE_CONTEXT): "),
        ({"KUBECONFIG": "", "HOME": "/nonexistent"}, [], "~/.kube/config does not exist"),
        ({}, ["--api-token", "s3cret"], "No such option: --api-token"),
        ({}, ["surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(
    workplace: Path, change: dict[str, str], arguments: list[str], says: str
) -> None:
    env = {name: value for name, value in {**GOOD, **change}.items() if value}
    program = Program("informer", *arguments, env=env, folder=workplace)
    assert program.process.wait(20) == 2
    lines = program.log.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("cvji: ")
    assert says in lines[0]
    assert "s3cret" not in program.log.replace("--api-token", "")
    assert program.out.read_text() == ""


def test_help_and_version(workplace: Path) -> None:
    for arguments, says in (
        (["--help"], "informer"),
        (["--version"], "cvji 0."),
        (["informer", "-h"], "LOCATION"),
    ):
        program = Program(*arguments, env={}, folder=workplace)
        assert program.process.wait(20) == 0
        assert says in program.out.read_text()
        assert program.log == ""


@pytest.mark.parametrize("words", [[], ["jobconfig"], ["nodeconfig"]])
def test_without_a_command_the_help_is_shown(workplace: Path, words: list[str]) -> None:
    program = Program(*words, env={}, folder=workplace)
    assert program.process.wait(20) == 2
    assert len(program.log.splitlines()) > 5
    assert "Commands:" in program.log


def every_command(command: Any = None, *words: str) -> Iterator[tuple[str, ...]]:
    for name, below in getattr(command or get_command(app), "commands", {}).items():
        yield (*words, name)
        yield from every_command(below, *words, name)


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_every_command_says_what_it_is_for(workplace: Path, command: tuple[str, ...]) -> None:
    program = Program(*command, "--help", env={}, folder=workplace)
    assert program.process.wait(20) == 0
    _usage, purpose, *_ = filter(None, program.out.read_text().splitlines())
    assert purpose.startswith("  ")


def test_dry_run_sends_nothing_and_prints_each_report_as_a_line(
    simulated: Stage, kubernetes: KubernetesSimulator
) -> None:
    # As in the pod's own environment: neither the Lease nor the records are touched.
    program = simulated.informer(
        "--dry-run", API_SERVER="", API_TOKEN="", LOG_FORMAT="json", STATE_NAMESPACE="cloudvision", LEADER_ELECT="true"
    )
    made = simulated.cluster.create(job("ray.io", "RayJob", "a"))
    simulated.cluster.run_pod(pod("a-0", made, "02:00:00:00:00:01"))
    program.wait_for(lambda: program.out.read_text().count("\n") == 1)
    simulated.cluster.set_status(made, ended("ray.io", "RayJob", "CANCELLED", stamp(-5), stamp()) or {})
    program.wait_for(lambda: program.out.read_text().count("\n") == 2)
    first, second = (json.loads(line) for line in program.out.read_text().splitlines())
    assert first["method"] == "POST"
    assert first["body"]["state"] == "JOB_STATE_RUNNING"
    assert second["body"]["state"] == "JOB_STATE_CANCELLED"
    assert program.stop() == 0
    assert simulated.cloudvision.requests == []
    assert "jobreports" not in (asked := str(kubernetes.requests))
    assert "leases" not in asked
    assert all(json.loads(line)["message"] for line in program.log.splitlines())


def test_an_idle_informer_is_small(simulated: Stage) -> None:
    """With records, lease and metrics, in a small cluster."""
    program = simulated.informer(STATE_NAMESPACE="cloudvision", LEADER_ELECT="true", HEALTH_ADDRESS="127.0.0.1:0")
    for number in range(5):
        made = simulated.cluster.create(job("ray.io", "RayJob", f"j{number}"))
        simulated.cluster.run_pod(pod(f"j{number}-0", made, f"02:00:00:00:00:0{number}"))
    for number in range(5):
        simulated.wait_for_states(f"j{number}", "RUNNING")
    assert program.rss() < 60_000_000


def test_the_token_is_nowhere_to_be_seen(simulated: Stage) -> None:
    program = simulated.informer(LOG_LEVEL="debug")
    made = simulated.cluster.create(job("ray.io", "RayJob", "a"))
    simulated.cluster.run_pod(pod("a-0", made, "02:00:00:00:00:01"))
    simulated.wait_for_states("a", "RUNNING")
    arguments = Path(f"/proc/{program.process.pid}/cmdline").read_bytes().decode()
    assert program.stop() == 0
    assert simulated.cloudvision.token not in program.log + arguments


@pytest.mark.parametrize("skipped", [False, True])
def test_proxies_by_environment(simulated: Stage, skipped: bool) -> None:
    with ConnectProxy("user", "pr0xy-p@ss") as proxy:
        no_proxy = "127.0.0.1" if skipped else ""
        url = f"http://user:pr0xy-p%40ss@{proxy.address}"
        program = simulated.informer(HTTPS_PROXY=url, NO_PROXY=no_proxy)
        made = simulated.cluster.create(job("ray.io", "RayJob", "a"))
        simulated.cluster.run_pod(pod("a-0", made, "02:00:00:00:00:01"))
        simulated.wait_for_states("a", "RUNNING")
        assert (proxy.tunnels == 0) == skipped
        assert "pr0xy" not in program.log
