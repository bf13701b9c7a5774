"""What `just deploy` refuses without a look at any cluster: one line, exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.rendered import KUBERNETES, ROOT, helm, names, needs, one

GOOD = {"API_SERVER": "cv.example.com:443", "API_TOKEN": "secret", "LOCATION": "dc1", "SKIP_BUILD": "1"}


def script(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The script where no cluster can be reached."""
    (folder / "bin").mkdir(exist_ok=True)
    if not (folder / "bin/helm").exists():
        (folder / "bin/helm").symlink_to(helm())
    config = folder / "kubeconfig"
    config.write_text(
        '{"clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9"}}], "current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a"}}]}'
    )
    return subprocess.run(
        [sys.executable, "-B", "-m", "deploy", *arguments],
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "manifests"),
            "HOME": str(folder),
            "KUBECONFIG": str(config),
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["API_SERVER", "API_TOKEN", "LOCATION"])
def test_a_missing_variable_is_named(name: str, tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", **{key: value for key, value in GOOD.items() if key != name})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"deploy: not set: {name}; `just help` says what each is\n"


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    done = script(tmp_path, "deploy")
    assert done.stderr == "deploy: not set: API_SERVER API_TOKEN LOCATION; `just help` says what each is\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_SERVER", "https://cv.example.com"),
        ("API_TOKEN", "two words"),
        ("LOCATION", "dc1\nAPI_INSECURE_SKIP_VERIFY=true"),
        ("NAMESPACE", "Team_A"),
        ("JOBCONFIG_MODE", "macs"),
        ("NODECONFIG_MODE", "auto"),
        ("NODE_INTERFACE_TYPE", "nic"),
        ("LOG_LEVEL", "loud"),
        ("JOB_KINDS", "Training"),
        ("STABILITY_DELAY", "soon"),
        ("STABILITY_DELAY", "never"),
        ("START_MAX_WAIT", "sometime"),
        ("REPORT_HISTORY", "1d"),
        ("DISCOVERY_INTERVAL", "-1"),
        ("DISCOVERY_INTERVAL", "0"),
        ("DISCOVERY_INTERVAL", "500ms"),
        ("KIND_RETRY", "0"),
        ("API_SERVER", "cloudvision:0"),
        ("API_SERVER", "cloudvision:99999"),
        ("API_TOKEN_FILE", "/dev/null"),
        ("REGISTRY", "https://registry.example.com"),
        ("REGISTRY", "r.example.com/x', newTag: 'y"),
        ("IMAGE_TAG", "a b"),
        ("PUSH", "maybe"),
        ("EVENTS", "sometimes"),
        ("PUSH", "true"),  # without REGISTRY
        ("IMAGE_PULL_SECRET", "a}]"),
        ("API_CA_FILE", "/nowhere/ca.pem"),
        ("API_TOKEN_FILE", "/nowhere/token"),
        ("ROLLOUT_TIMEOUT", "5 minutes"),
        ("KUBE_VERSION", "1.23"),
        ("KUBE_VERSION", "newest"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(name: str, value: str, tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", **{**GOOD, name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"deploy: {name} ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_unprivileged_discovery_needs_discovery(tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", **GOOD, NODECONFIG_MODE="disabled", UNPRIVILEGED_DISCOVERY="true")
    assert done.returncode == 2
    assert "goes with NODECONFIG_MODE=discovery" in done.stderr


@pytest.mark.parametrize("argument", ["LOCATON=dc1", "now", "PATH=/tmp", "API_TOKEN=secret"])
def test_arguments_are_settings(argument: str, tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", argument, **GOOD)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_good_settings_reach_for_the_cluster(tmp_path: Path) -> None:
    needs("kubectl")
    more = ("START_MAX_WAIT=Never", "REPORT_HISTORY=168h")
    done = script(tmp_path, "deploy", "LOCATION=Büro 1", "JOBCONFIG_MODE=Node", "NAMESPACE=a, b", *more, **GOOD)
    assert done.returncode == 1
    assert done.stderr.startswith("deploy: the cluster cannot be reached: ")


def test_a_token_file_may_end_its_line_as_windows_does(tmp_path: Path) -> None:
    needs("kubectl")
    (tmp_path / "token").write_bytes(b"t0ken\r\n")
    done = script(tmp_path, "deploy", f"API_TOKEN_FILE={tmp_path / 'token'}", "ENGINE=buildah", **GOOD)
    assert done.stderr.startswith("deploy: the cluster cannot be reached: ")


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    assert script(tmp_path, "destroy").returncode == 2


def test_help_names_every_setting(tmp_path: Path) -> None:
    shown = script(tmp_path, "help").stdout
    settings = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert len(settings) > 30
    assert {"API_SERVER", "NO_PROXY", "VALUES", "ROLLOUT_TIMEOUT", "KUBE_CONTEXT"} <= set(settings)
    done = script(tmp_path, "deploy", *(f"{name}=\n" for name in settings if name != "API_TOKEN"), "LAST=\n", **GOOD)
    assert done.stderr == "deploy: LAST is not a setting: `just help` lists them\n"
    for asked in (("deploy", "--help"), ("delete", "-h")):
        assert script(tmp_path, *asked).stdout == shown


def test_without_helm_one_line_says_where_it_is_and_where_the_yaml_is(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").write_text("")  # not executable
    done = script(tmp_path, "deploy", **GOOD, PATH=str(tmp_path / "bin"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("deploy: helm is not installed: https://helm.sh/")
    assert "`just manifests`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_manifests_are_the_chart_with_the_settings(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("informer: {replicas: 3}\n")
    more = (f"VALUES={values}", "JOB_OWNER=direct", "informer.priorityClassName=high", "HTTPS_PROXY=http://proxy:3128")
    done = script(
        tmp_path, "manifests", *more, "EVENTS=no", LOCATION="dc1", API_SERVER="cv", HTTPS_PROXY="http://elsewhere:1"
    )
    assert done.returncode == 0, done.stderr
    objects = [item for item in yaml.safe_load_all(done.stdout) if item]
    deployment = one(objects, "Deployment", "cv-job-informer")["spec"]
    pod = deployment["template"]["spec"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert deployment["replicas"] == 3
    assert pod["priorityClassName"] == "high"
    assert (variables["JOB_OWNER"], variables["EVENTS"]) == ("direct", "false")
    assert variables["HTTPS_PROXY"] == "http://proxy:3128"  # the environment's is this machine's own
    assert "Namespace/cloudvision" in names(objects)


def test_the_manifests_are_for_the_version_of_kubernetes_that_is_named(tmp_path: Path) -> None:
    newer = ("ValidatingAdmissionPolicy", "selectableFields", "matchLabelKeys", "unhealthyPodEvictionPolicy")
    newest = script(tmp_path, "manifests").stdout
    assert newest == script(tmp_path, "manifests", f"KUBE_VERSION={KUBERNETES}").stdout
    assert [name for name in newer if name not in newest] == []
    older = script(tmp_path, "manifests", KUBE_VERSION="1.26")
    assert older.returncode == 0, older.stderr
    assert [name for name in newer if name in older.stdout] == []


def test_manifests_with_more_kinds_of_jobs_need_a_cluster_or_their_resources(tmp_path: Path) -> None:
    needs("kubectl")
    done = script(tmp_path, "manifests", "JOB_KINDS=example.com/Training")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("manifests: JOB_KINDS: the cluster cannot be reached: ")
    assert done.stderr.endswith("give jobs.kinds, each with its resource, in VALUES\n")
    assert done.stderr.count("\n") == 1
    values = tmp_path / "values.yaml"
    values.write_text("location: dc1\njobs: {kinds: [{group: example.com, kind: Training, resource: trainingz}]}\n")
    assert "[trainingz]" in script(tmp_path, "manifests", VALUES=str(values)).stdout


@pytest.mark.parametrize(
    ("argument", "named"),
    [("jobs.owner=boss", "jobs.owner: "), ("apiToken=x", "additional properties 'apiToken' not allowed")],
)
def test_a_wrong_value_of_the_chart_is_named(argument: str, named: str, tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", argument, **GOOD)
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_proxy_s_password_is_refused(tmp_path: Path) -> None:
    done = script(tmp_path, "deploy", "HTTPS_PROXY=http://user:password@proxy", **GOOD)
    assert done.returncode == 2
    assert done.stderr.startswith("deploy: HTTPS_PROXY holds credentials")
    assert "password" not in done.stderr
