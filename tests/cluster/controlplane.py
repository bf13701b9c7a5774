"""A real Kubernetes control plane on loopback: etcd, kube-apiserver, controllers and, if asked, the scheduler.

There is no kubelet: tests play it, by writing pods' statuses.
"""

import atexit
import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.cluster.access import Access, ApiError, Response, access_from_kubeconfig
from tests.cluster.binary import ControlPlaneUnavailable, control_plane_binary
from tests.cluster.pki import make_pki
from tests.cluster.ports import LOOPBACK, free_ports, listens

__all__ = ["ApiError", "ControlPlane", "ControlPlaneUnavailable", "Response", "wait_for"]

T = TypeVar("T")

POLL_INTERVAL = 0.05  # seconds between two looks at something that is awaited
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL
CLAIM_VERSIONS = ("v1", "v1beta2", "v1beta1")
# These act on nodes that no kubelet renews: left on, they taint such nodes and delete the pods there.
CONTROLLERS_OFF = (
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
)


def wait_for(what: str, probe: Callable[[], T | None], timeout: float = 60.0) -> T:
    """Call `probe` until it gives something true, and return that. Raises TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(POLL_INTERVAL)


class ControlPlane:
    """One cluster, from start() to stop(), or within a `with` block.

    Set CVJI_TEST_KUBECONFIG to use a cluster of your own: it is then never stopped, restarted or compacted.
    """

    def __init__(
        self, *, scheduler: bool = False, claims: tuple[str, ...] = CLAIM_VERSIONS, apiserver: Iterable[str] = ()
    ) -> None:
        """`claims` are the versions of ResourceClaims that are served, `apiserver` further arguments of it."""
        self._scheduler = scheduler
        self._claims = claims
        self._apiserver_more = tuple(apiserver)
        self._external = os.environ.get("CVJI_TEST_KUBECONFIG")
        self._folder: Path | None = None
        self._access: Access | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._apiserver_arguments: list[str] = []
        self._etcd_url = ""
        self._binary = Path()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What a client needs

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._reached.server

    @property
    def ca_file(self) -> Path:
        """The certificate authority that the API server is verified by."""
        return self._reached.ca_file

    @property
    def admin_token(self) -> str | None:
        """A bearer token of group system:masters; none where a kubeconfig of your own uses a certificate."""
        return self._reached.token

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of group system:masters."""
        return Path(self._external) if self._external else self._home / "kubeconfig"

    @property
    def external(self) -> bool:
        """Whether this is a cluster of your own."""
        return self._external is not None

    @property
    def processes(self) -> Mapping[str, int]:
        """The process id of every part that runs, by its name."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    # Life

    def start(self) -> None:
        """Start every part and return once pods can be made.

        Raises ControlPlaneUnavailable if it cannot be built here, RuntimeError if a part dies.
        """
        if self._folder is not None:
            raise RuntimeError("the control plane runs already")
        if not self._external:
            self._binary = control_plane_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="cvji-controlplane-"))
        atexit.register(self.stop)
        try:
            if self._external:
                self._access = access_from_kubeconfig(Path(self._external), self._folder)
                if not self._is_ready():
                    raise ControlPlaneUnavailable(f"{self.server} of CVJI_TEST_KUBECONFIG is not ready")
            else:
                self._start_own()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every part and remove its data. To be called any number of times."""
        atexit.unregister(self.stop)
        for name in ("scheduler", "controller-manager", "apiserver", "etcd"):
            # Only the API server has connections worth closing well; the data is thrown away.
            self._end(name, hard=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._access = None

    def stop_apiserver(self, *, hard: bool = False) -> None:
        """End the API server, and with it every watch; `hard` by SIGKILL. etcd and the controllers stay."""
        self._only_own("stop the API server")
        self._end("apiserver", hard=hard)

    def start_apiserver(self) -> None:
        """Start the API server again, on the same port and data, and return once it is ready."""
        self._only_own("start the API server")
        if "apiserver" in self.processes:
            raise RuntimeError("the API server runs already")
        self._spawn("apiserver", self._apiserver_arguments)
        self._wait_until("the API server to be ready", self._is_ready)

    def compact(self) -> int:
        """Drop etcd's history up to now and return the revision that is the oldest left.

        The API server goes on serving what its watch cache holds. It answers 410 to every older
        resourceVersion once it has lost that cache too: call restart_apiserver() afterwards.
        """
        self._only_own("compact etcd")
        done = subprocess.run(
            [self._binary, "compact", self._etcd_url],
            capture_output=True,
            text=True,
            timeout=60.0,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"compaction failed: {done.stderr.strip()}")
        return int(done.stdout)

    def restart_apiserver(self, *, hard: bool = False) -> None:
        """stop_apiserver() and start_apiserver()."""
        self.stop_apiserver(hard=hard)
        self.start_apiserver()

    # Talk

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """Send one request as the administrator, or with `token`; any status is an answer.

        A PATCH is a merge patch unless `content_type` says otherwise.
        """
        return self._reached.request(method, path, body, content_type=content_type, token=token, timeout=timeout)

    def call(self, method: str, path: str, body: object = None, *, content_type: str | None = None) -> Any:
        """Send one request as the administrator and decode the answer. Raises ApiError unless it is 2xx."""
        answer = self.request(method, path, body, content_type=content_type)
        if not 200 <= answer.status < 300:
            raise ApiError(method, path, answer.status, answer.text)
        return answer.json

    def create_namespace(self, prefix: str = "test") -> str:
        """Make a namespace with a name of its own, and return once pods can be made in it."""
        body = {"metadata": {"generateName": f"{prefix}-"}}
        name: str = self.call("POST", "/api/v1/namespaces", body)["metadata"]["name"]
        self._wait_for_default_account(name)
        return name

    def install_crds(self, crds: Iterable[Mapping[str, Any]]) -> None:
        """Make these CustomResourceDefinitions, leave those that exist, and return once all are served."""
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        awaited = []
        for crd in crds:
            answer = self.request("POST", base, crd)
            if answer.status not in (201, 409):
                raise ApiError("POST", base, answer.status, answer.text)
            spec = crd["spec"]
            name = spec["names"]["plural"]
            awaited += [f"/apis/{spec['group']}/{version['name']}/{name}?limit=1" for version in spec["versions"]]
        for path in awaited:
            self._wait_until(f"{path} to be served", partial(self._answers, path))

    def _answers(self, path: str) -> bool:
        return self.request("GET", path).status == 200

    def token_for(self, namespace: str, service_account: str, seconds: int = 3600) -> str:
        """A new token of a service account, by a TokenRequest."""
        answer = self.call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
        )
        token: str = answer["status"]["token"]
        return token

    # Within

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the control plane does not run")
        return self._folder

    @property
    def _reached(self) -> Access:
        if self._access is None:
            raise RuntimeError("the control plane does not run")
        return self._access

    def _only_own(self, act: str) -> None:
        if self._external:
            raise RuntimeError(f"cannot {act}: CVJI_TEST_KUBECONFIG names a cluster that is not the tests' own")

    def _start_own(self) -> None:
        home = self._home
        pki = make_pki(home)
        etcd_port, peer_port, secure_port = free_ports(3)
        self._etcd_url = f"http://{LOOPBACK}:{etcd_port}"
        token = secrets.token_urlsafe(32)
        tokens = home / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{token},admin,admin,"system:masters"\n')
        self._access = Access(f"https://{LOOPBACK}:{secure_port}", pki.ca, token)
        self._write_kubeconfig()
        self._apiserver_arguments = [
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={secure_port}",
            f"--tls-cert-file={pki.server_certificate}",
            f"--tls-private-key-file={pki.server_key}",
            f"--client-ca-file={pki.ca}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.service_account_key}",
            f"--service-account-signing-key-file={pki.service_account_key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # a loopback address makes no valid Endpoints
            "--allow-privileged=true",  # DaemonSets that read the host
            "--runtime-config=" + ",".join(f"resource.k8s.io/{name}={name in self._claims}" for name in CLAIM_VERSIONS),
            *self._apiserver_more,
        ]
        self._spawn("etcd", [str(home / "etcd"), self._etcd_url, f"http://{LOOPBACK}:{peer_port}"])
        self._wait_until("etcd to listen", lambda: listens(etcd_port))
        self.start_apiserver()
        self._spawn(
            "controller-manager",
            [
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={pki.service_account_key}",
                f"--root-ca-file={pki.ca}",
                "--leader-elect=false",
                "--secure-port=0",
                "--controllers=*," + ",".join(f"-{name}" for name in CONTROLLERS_OFF),
            ],
        )
        if self._scheduler:
            self._spawn("scheduler", [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"])
        self._wait_for_default_account("default")

    def _write_kubeconfig(self) -> None:
        """JSON is YAML, and the standard library writes it."""
        access = self._reached
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": access.server, "certificate-authority": str(access.ca_file)},
                }
            ],
            "users": [{"name": "admin", "user": {"token": access.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(config))

    def _spawn(self, name: str, arguments: list[str]) -> None:
        with (self._home / f"{name}.log").open("ab") as log:
            # Each part ends when this pipe does: a killed test run leaves nothing behind.
            self._processes[name] = subprocess.Popen(
                [self._binary, name, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._home,
            )

    def _end(self, name: str, *, hard: bool) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        if hard:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/readyz", timeout=5.0).status == 200
        return False

    def _wait_for_default_account(self, namespace: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        self._wait_until(f"the default service account of {namespace}", lambda: self.request("GET", path).status == 200)

    def _wait_until(self, what: str, probe: Callable[[], bool]) -> None:
        """wait_for, but a part that has died is the answer."""

        def look() -> bool:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            return probe()

        wait_for(what, look)

    def log(self, name: str, lines: int = 20) -> str:
        """The end of what a part wrote: etcd, apiserver, controller-manager or scheduler."""
        written = (self._home / f"{name}.log").read_text(errors="replace")
        return "\n".join(written.splitlines()[-lines:])
