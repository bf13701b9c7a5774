"""The command line as a user meets it: wrong settings, dry runs, proxies, secrets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        ({"LOCATION": ""}, [], "LOCATION (--location) is not set"),
        ({"LOCATION": "  "}, [], "LOCATION (--location) is not set"),
        ({"API_SERVER": ""}, [], "API_SERVER (--api-server) is not set"),
        ({"API_SERVER": "https://cv/"}, [], "API_SERVER (--api-server) is 'https://cv/': it must be host or host:port"),
        ({"API_SERVER": "[:::::]"}, [], "API_SERVER (--api-server) is '[:::::]': it must be host or host:port"),
        ({"API_TOKEN": ""}, [], "no API token"),
        ({"API_TOKEN": "s3cret and more"}, [], "API_TOKEN holds characters that no token has"),
        ({"API_TOKEN_FILE": "absent"}, [], "API_TOKEN_FILE absent cannot be read: No such file"),
        ({"API_TOKEN_FILE": "."}, [], "API_TOKEN_FILE . cannot be read: Is a directory"),
        ({"API_TOKEN_FILE": "empty"}, [], "API_TOKEN_FILE empty is empty"),
        ({"API_TOKEN_FILE": "two-lines"}, [], "API_TOKEN_FILE two-lines holds characters"),
        ({"API_CA_FILE": "absent"}, [], "API_CA_FILE absent cannot be used"),
        ({"API_CA_FILE": "not-a-ca.pem"}, [], "API_CA_FILE not-a-ca.pem cannot be used"),
        (
            {"JOBCONFIG_MODE": "nic"},
            [],
            "JOBCONFIG_MODE (--jobconfig-mode) is 'nic': it must be one of interface, node",
        ),
        ({"NODECONFIG_MODE": "x"}, [], "must be one of disabled, discovery, sriovoperator"),
        ({"NODE_INTERFACE_TYPE": "x"}, [], "must be one of all, pf, vf"),
        ({"JOB_OWNER": "x"}, [], "must be one of root, direct"),
        ({"LOG_LEVEL": "x"}, [], "must be one of debug, info, warning, error"),
        ({"LOG_FORMAT": "x"}, [], "must be one of text, json"),
        ({"JOB_KINDS": "Job"}, [], "JOB_KINDS (--job-kind) is 'Job': it must be GROUP/KIND"),
        ({"STABILITY_DELAY": "soon"}, [], "STABILITY_DELAY (--stability-delay) is 'soon': it must be a duration"),
        ({"START_MAX_WAIT": "-1"}, [], "START_MAX_WAIT (--start-max-wait) is '-1': it must be a duration"),
        ({"NAMESPACE": "A b"}, [], "NAMESPACE (--namespace) is 'A b': it must be names"),
        (
            {"API_INSECURE_SKIP_VERIFY": "maybe"},
            [],
            "'--api-insecure-skip-verify' (env var: 'API_INSECURE_SKIP_VERIFY'): 'maybe' is not a valid boolean",
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


WITHOUT = """
import sys
sys.modules["kubernetes"] = sys.modules["prometheus_client"] = sys.modules["yaml"] = None
from cvji.cli import main
sys.argv[1:] = {words}
main()
"""


def without_the_extra(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as where neither kubernetes, PyYAML nor prometheus-client is installed."""
    script = [sys.executable, "-c", WITHOUT.format(words=list(words))]
    return subprocess.run(script, check=False, capture_output=True, text=True, env={}, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("words", [("informer", "--location", "lab", "--dry-run"), ("discover", "--node-name", "n")])
def test_workloads_without_the_extra_are_one_line(words: tuple[str, ...]) -> None:
    done = without_the_extra(*words)
    assert (done.returncode, done.stderr) == (
        2,
        "cvji: this command needs the package prometheus_client: pip install 'cvji[cluster]'\n",
    )


def test_yaml_without_the_extra_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "class/net").mkdir(parents=True)
    done = without_the_extra("discover", "--once", "-o", "yaml", "--sysfs-root", str(tmp_path))
    says = "cvji: this command needs the package yaml: pip install 'cvji[cluster]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", says)


@pytest.mark.parametrize(
    "words",
    [
        ("discover", "--once"),
        ("nodeconfig", "delete", "n", "--dry-run"),
        ("jobconfig", "send", "--dry-run", "--location", "lab", "--id", "1", "--state", "RUNNING", "--node", "n"),
    ],
)
def test_what_needs_no_cluster_works_without_the_extra(words: tuple[str, ...]) -> None:
    done = without_the_extra(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


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
    assert program.memory() < 45_000_000


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
