"""Every way to a Kubernetes API server's trust: kubeconfig files, contexts, certificates, plugins, service accounts."""

import base64
import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.credentials import ACCOUNT
from tests.e2e.kit import Cluster, Program, Stage, write_kubeconfig
from tests.simulator.certs import make_tls, sign_client
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import job, pod
from tests.simulator.proxy import ConnectProxy

TORCH = ("kubeflow.org", "PyTorchJob")


class Secured:
    """A Kubernetes simulator over TLS, and the files by which it is trusted and trusts."""

    def __init__(self, folder: Path) -> None:
        self.tls, self.ca_file = make_tls(folder)
        self.folder = folder
        self.kubernetes = KubernetesSimulator(tls=self.tls)
        self.kubernetes.serve_all()
        self.server = f"https://{self.kubernetes.address}"
        self.ca: dict[str, Any] = {"certificate-authority": str(self.ca_file)}  # as a kubeconfig has it

    def want_certificates(self) -> tuple[Path, Path]:
        """Let in who shows a certificate of the CA's alone; such a certificate and its key."""
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_verify_locations(self.ca_file)
        return sign_client(self.folder)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    folder = tmp_path / "tls"
    folder.mkdir()
    found = Secured(folder)
    with found.kubernetes:
        yield found


def play(stage: Stage, kubernetes: KubernetesSimulator, name: str, timeout: float = 20.0) -> None:
    """A job that runs, made without a request; it is reported where the informer's credentials are good."""
    made = job(*TORCH, name)
    made["metadata"]["uid"] = f"uid-{name}"
    kubernetes.create(made)
    kubernetes.create(pod(f"{name}-0", made, "02:00:00:00:00:01") | {"status": {"phase": "Running"}})
    stage.wait_for_states(name, "RUNNING", timeout=timeout)


Make = Callable[[Path], Stage]


@pytest.fixture
def stage_for(cloudvision: CloudVisionSimulator, tmp_path: Path) -> Iterator[Make]:
    """Makes stages whose informers go by a kubeconfig; the cluster is reached through the simulator's methods alone."""
    made: list[Stage] = []

    def make(kubeconfig: Path) -> Stage:
        made.append(Stage(Cluster("http://127.0.0.1:1", kubeconfig), cloudvision, tmp_path))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


def document(**parts: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Config", **parts}


def test_several_files_and_a_context_that_is_not_the_current_one(
    secured: Secured, stage_for: Make, tmp_path: Path
) -> None:
    secured.kubernetes.token = "right"
    (tmp_path / "ca.pem").write_bytes(secured.ca_file.read_bytes())  # named relative to the file that names it
    contexts = [
        {"name": "away", "context": {"cluster": "away", "user": "me"}},
        {"name": "here", "context": {"cluster": "here", "user": "me"}},
    ]
    clusters = [
        {"name": "away", "cluster": {"server": "https://127.0.0.1:1"}},
        {"name": "here", "cluster": {"server": secured.server, "certificate-authority": "ca.pem"}},
    ]
    (tmp_path / "contexts").write_text(json.dumps(document(contexts=contexts) | {"current-context": "away"}))
    (tmp_path / "clusters").write_text(json.dumps(document(clusters=clusters)))
    (tmp_path / "users").write_text(json.dumps(document(users=[{"name": "me", "user": {"token": "right"}}])))
    files = os.pathsep.join(str(tmp_path / name) for name in ("absent", "contexts", "clusters", "users"))
    stage = stage_for(tmp_path)
    program = stage.informer(KUBECONFIG=files, KUBE_CONTEXT="here")
    play(stage, secured.kubernetes, "a")
    assert "right" not in program.log


@pytest.mark.parametrize("inline", [False, True])
def test_a_client_certificate(secured: Secured, stage_for: Make, tmp_path: Path, inline: bool) -> None:
    certificate, key = secured.want_certificates()
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    ca = secured.ca
    if inline:
        user = {f"{name}-data": base64.b64encode(Path(file).read_bytes()).decode() for name, file in user.items()}
        ca = {f"{name}-data": base64.b64encode(Path(file).read_bytes()).decode() for name, file in ca.items()}
    kubeconfig = write_kubeconfig(tmp_path, secured.server, user, **ca)
    stage = stage_for(kubeconfig)
    stage.informer()
    play(stage, secured.kubernetes, "a")


def test_no_certificate_no_entry_and_an_unknown_ca_is_not_trusted(
    secured: Secured, stage_for: Make, tmp_path: Path
) -> None:
    secured.want_certificates()
    stage = stage_for(write_kubeconfig(tmp_path, secured.server))
    program = stage.informer(ready=False)
    program.wait_for_log("CERTIFICATE_VERIFY_FAILED")
    program.stop()
    kubeconfig = write_kubeconfig(tmp_path, secured.server, **secured.ca)
    stage = stage_for(kubeconfig)
    program = stage.informer(ready=False)
    program.wait_for_log("trying again")
    program.stop()
    assert secured.kubernetes.requests == []


def test_a_server_that_is_not_verified_is_said_once(secured: Secured, stage_for: Make, tmp_path: Path) -> None:
    anybody: dict[str, Any] = {"insecure-skip-tls-verify": True}
    stage = stage_for(write_kubeconfig(tmp_path, secured.server, **anybody))
    program = stage.informer()
    play(stage, secured.kubernetes, "a")
    lines = [line for line in program.log.splitlines() if " INFO " not in line]
    assert len(lines) == 1
    assert "insecure-skip-tls-verify: whoever answers at" in lines[0]


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("elsewhere.example", False)])
def test_the_name_that_the_server_s_certificate_must_bear(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    cluster = {**secured.ca, "tls-server-name": name}
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, secured.server, **cluster)))
    if trusted:
        assert json.loads(Api().get("/version"))["major"] == "1"
    else:
        with pytest.raises(ApiError, match="doesn't match"):
            Api().get("/version")


PLUGIN = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
runs = here / "runs"
runs.write_text(str(int(runs.read_text() if runs.exists() else 0) + 1))
if (here / "fail").exists():
    sys.exit("the login has expired")
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
status = {{"token": os.environ["PREFIX"] + (here / "credential").read_text()}}
if (here / "expiry").exists():
    status["expirationTimestamp"] = (here / "expiry").read_text()
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


@pytest.fixture
def plugin(tmp_path: Path, secured: Secured) -> Path:
    """The folder of an exec plugin; the kubeconfig that names it lies beside it."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    script = folder / "plugin"
    script.write_text(PLUGIN.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (folder / "credential").write_text("1")
    secured.kubernetes.token = "token-1"
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "env": [{"name": "PREFIX", "value": "token-"}],
        }
    }
    write_kubeconfig(folder, secured.server, user, **secured.ca)
    return folder


def test_an_exec_plugin_whose_token_is_revoked_before_its_time(secured: Secured, stage_for: Make, plugin: Path) -> None:
    stage = stage_for(plugin / "kubeconfig")
    program = stage.informer(LOG_LEVEL="debug")
    play(stage, secured.kubernetes, "before")
    (plugin / "credential").write_text("2")
    secured.kubernetes.token = "token-2"
    secured.kubernetes.close_watches()
    program.wait_for_log("HTTP 401")
    play(stage, secured.kubernetes, "after", timeout=40)
    assert int((plugin / "runs").read_text()) < 10  # twenty watches share it
    assert "token-1" not in program.log
    assert "token-2" not in program.log


def test_an_exec_plugin_whose_token_has_an_end_is_asked_anew(secured: Secured, stage_for: Make, plugin: Path) -> None:
    (plugin / "expiry").write_text("2020-01-01T00:00:00Z")
    stage = stage_for(plugin / "kubeconfig")
    stage.informer()
    (plugin / "credential").write_text("2")
    secured.kubernetes.token = "token-2"
    secured.kubernetes.close_watches()
    play(stage, secured.kubernetes, "after")


def test_an_exec_plugin_that_fails_says_why_and_is_asked_again(secured: Secured, stage_for: Make, plugin: Path) -> None:
    (plugin / "fail").touch()
    stage = stage_for(plugin / "kubeconfig")
    program = stage.informer(ready=False)
    program.wait_for_log("the login has expired")
    program.wait_for_log("HTTP 401: Unauthorized; trying again")
    (plugin / "fail").unlink()
    play(stage, secured.kubernetes, "a", timeout=40)


def test_a_service_account_whose_token_rotates(
    secured: Secured, cloudvision: CloudVisionSimulator, stage_for: Make, tmp_path: Path
) -> None:
    """In a mount namespace of its own, since the place of a pod's credentials is fixed."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(secured.ca_file.read_bytes())
    (account / "token").write_text("one")
    secured.kubernetes.token = "one"
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    # /run itself is replaced in the namespace alone, so that the folder can be made without touching the machine's.
    script = f'mount -t tmpfs none "$(readlink -f /var/run)" && mkdir -p {place} && mount --bind {account} {place} && exec "$@"'
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*before, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as err:
        pytest.skip(f"no mount namespace to be had here: {err}")
    host, _, port = secured.kubernetes.address.partition(":")
    env = {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "API_SERVER": cloudvision.address,
        "API_TOKEN": cloudvision.token,
        "API_CA_FILE": str(cloudvision.ca_file),
        "LOCATION": "lab",
        "STABILITY_DELAY": "0.3s",
        "LOG_LEVEL": "debug",
    }
    stage = stage_for(tmp_path)
    program = Program("informer", env=env, folder=tmp_path, before=before)
    stage.programs.append(program)
    program.wait_for_log("reporting from now on")
    play(stage, secured.kubernetes, "before")
    # As the kubelet does it: a new file takes the old one's place. The old token goes at once, as none really does.
    (account / "new").write_text("two")
    (account / "new").replace(account / "token")
    secured.kubernetes.token = "two"
    secured.kubernetes.close_watches()
    program.wait_for_log("HTTP 401")
    play(stage, secured.kubernetes, "after", timeout=40)


def test_a_service_account_without_its_files_is_one_line(tmp_path: Path) -> None:
    env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1", "LOCATION": "lab"}
    program = Program("informer", "--dry-run", env=env, folder=tmp_path)
    assert program.process.wait(20) == 2
    assert program.log == f"cvji: Kubernetes credentials: {ACCOUNT}/token cannot be read: No such file or directory\n"


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8"])
def test_the_kubernetes_api_through_a_proxy_unless_no_proxy_names_its_network(
    secured: Secured, cloudvision: CloudVisionSimulator, stage_for: Make, tmp_path: Path, no_proxy: str
) -> None:
    kubeconfig = write_kubeconfig(tmp_path, secured.server, **secured.ca)
    with ConnectProxy("user", "pr0xy-pass") as proxy:
        stage = stage_for(kubeconfig)
        url = f"http://user:pr0xy-pass@{proxy.address}"
        program = stage.informer(HTTPS_PROXY=url, NO_PROXY=no_proxy or cloudvision.address)
        play(stage, secured.kubernetes, "a")
        assert (proxy.tunnels == 0) == bool(no_proxy)
        assert "pr0xy-pass" not in program.log
