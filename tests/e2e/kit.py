"""What an end-to-end test is made of: a cluster spoken to over HTTP, and the real program as a process."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from tests.simulator.cloudvision import CloudVisionSimulator, Run
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import KINDS, Object, pod_status

EXECUTABLE = os.environ.get("CVJI_EXECUTABLE") or str(Path(sys.executable).parent / "cvji")
QUICK = {"STABILITY_DELAY": "0.3s", "START_MAX_WAIT": "5s", "KIND_RETRY": "1s"}
# What commands know the informer's pod by, beside its settings.
POD = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "POD_NAME": "informer-0", "STATE_NAMESPACE": "cloudvision"}


def stamp(offset: float = 0.0) -> str:
    """Now and some seconds, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset))


class Cluster:
    """An API server, real or simulated, as its users reach it."""

    def __init__(self, server: str, kubeconfig: Path, **options: Any) -> None:
        """`options` are urllib3's, for TLS and credentials."""
        self.server = server
        self.kubeconfig = kubeconfig
        self.wrote: Callable[[str, str, Object], None] = lambda *_: None  # called after each write, with its answer
        self._http = urllib3.PoolManager(retries=urllib3.Retry(4, backoff_factor=0.1), **options)

    def close(self) -> None:
        self._http.clear()

    def call(
        self, method: str, path: str, body: Object | None = None, patch: str = "merge", accept: str = "application/json"
    ) -> Object:
        """One request; AssertionError unless it succeeds."""
        kind = "application/json"
        if method == "PATCH":  # JSON is YAML, and the API server takes no other name for server-side apply
            kind = f"application/{patch}-patch+{'yaml' if patch == 'apply' else 'json'}"
        data = json.dumps(body) if body is not None else None
        headers = {**self._http.headers, "Content-Type": kind, "Accept": accept}
        response = self._http.request(method, self.server + path, body=data, headers=headers)
        assert response.status < 300, f"{method} {path}: {response.status} {response.data!r}"
        found: Object = json.loads(response.data)
        if method != "GET":
            self.wrote(method, path, found)
        return found

    def exists(self, path: str) -> bool:
        """Whether there is an object at this path."""
        return bool(self._http.request("GET", self.server + path, headers=self._http.headers).status == 200)

    def path(self, obj: Object, *more: str) -> str:
        group = obj["apiVersion"].rpartition("/")[0]
        plural = KINDS[group, obj["kind"]][1]
        base = f"/apis/{obj['apiVersion']}" if group else f"/api/{obj['apiVersion']}"
        namespace = obj["metadata"].get("namespace")
        return "/".join([base, *(["namespaces", namespace] if namespace else []), plural, *more])

    def create(self, obj: Object, status: Object | None = None) -> Object:
        """Create an object, then its status; as it is then."""
        made = self.call("POST", self.path(obj), obj)
        return self.set_status(made, status) if status else made

    def set_status(self, obj: Object, status: Object) -> Object:
        return self.call("PATCH", self.path(obj, obj["metadata"]["name"], "status"), {"status": status})

    def patch(self, obj: Object, change: Object) -> Object:
        return self.call("PATCH", self.path(obj, obj["metadata"]["name"]), change)

    def delete(self, obj: Object, *, missing_ok: bool = False) -> None:
        path = self.path(obj, obj["metadata"]["name"])
        try:
            self.call("DELETE", path + "?gracePeriodSeconds=0&propagationPolicy=Background")
        except AssertionError:
            if not missing_ok or self.exists(path):
                raise

    def terminate(self, obj: Object) -> None:
        """Delete a running pod as users and controllers do: it goes when the kubelet, here the test, says so."""
        self.call("DELETE", self.path(obj, obj["metadata"]["name"]))

    def run_pod(self, obj: Object, start: str = "") -> Object:
        """Create a pod that runs."""
        return self.create(obj, pod_status("Running", start or stamp()))


class Program:
    """`cvji informer`, or another of its commands, as a process."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        folder: Path,
        before: Sequence[str] = (),
        executable: str = EXECUTABLE,
    ) -> None:
        """`before` are the words of a program that starts it."""
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "SYSTEMROOT")}
        number = sum(1 for _ in folder.glob("cvji-*.log"))
        self._log = folder / f"cvji-{number}.log"
        self.out = folder / f"cvji-{number}.out"
        with self._log.open("wb") as log, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [*before, executable, *arguments],
                env={**clean, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        """Return once `condition` holds; AssertionError if it never does or the program ends before."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log}"
            assert time.monotonic() < deadline, f"not within {timeout} s: {self.log}"
            pause.wait(0.02)

    def wait_for_log(self, text: str, timeout: float = 20.0) -> None:
        self.wait_for(lambda: text in self.log, timeout)

    def stop(self, timeout: float = 25.0) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def rss(self) -> int:
        """Resident memory, in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def memory(self) -> int:
        """Memory that no file stands behind (RssAnon), in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:"))) * 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def scrape(port: int) -> dict[str, float]:
    """The metrics of a program with HEALTH_ADDRESS at this port: value by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def write_kubeconfig(folder: Path, server: str, user: Mapping[str, Any] | None = None, **cluster: Any) -> Path:
    """A kubeconfig (JSON is YAML) for one server."""
    file = folder / "kubeconfig"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "test", "user": user or {}}],
            }
        )
    )
    return file


class Stage:
    """A cluster and a CloudVision, and programs between them."""

    def __init__(self, cluster: Cluster, cloudvision: CloudVisionSimulator, folder: Path) -> None:
        self.cluster = cluster
        self.cloudvision = cloudvision
        self.folder = folder
        self.simulator: KubernetesSimulator | None = None  # where the API server is simulated
        self.programs: list[Program] = []

    def informer(self, *arguments: str, ready: bool = True, **env: str) -> Program:
        """Start an informer; with `ready`, return when it has listed everything."""
        settings = {
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "API_SERVER": self.cloudvision.address,
            "API_TOKEN": self.cloudvision.token,
            "API_CA_FILE": str(self.cloudvision.ca_file),
            "LOCATION": "lab",
            **QUICK,
            **env,
        }
        given = {name: value for name, value in settings.items() if value}
        program = Program("informer", *arguments, env=given, folder=self.folder)
        self.programs.append(program)
        if ready:
            program.wait_for_log("reporting from now on")
        return program

    def wait_for_states(self, name: str, *states: str, timeout: float = 20.0) -> list[Object]:
        """Wait until CloudVision held exactly these states, one after each Set, of the job of that name; what it held."""
        try:
            self.cloudvision.wait_for(lambda: self.cloudvision.states(name) == list(states), timeout)
        except AssertionError as err:
            logs = "\n".join(program.log for program in self.programs)
            raise AssertionError(f"{name} is {self.cloudvision.states(name)}, not {states}\n{logs}") from err
        return self.cloudvision.by_name(name)

    def wait_for_runs(self, name: str, *states: str, timeout: float = 20.0) -> list[Run]:
        """Wait until CloudVision holds runs in exactly these states of the job of that name; the runs."""
        try:
            self.cloudvision.wait_for(
                lambda: [run.state for run in self.cloudvision.runs(name)] == list(states), timeout
            )
        except AssertionError as err:
            logs = "\n".join(program.log for program in self.programs)
            raise AssertionError(f"{name} is {self.cloudvision.runs(name)}, not {states}\n{logs}") from err
        return self.cloudvision.runs(name)

    def close(self) -> None:
        for program in self.programs:
            if program.process.poll() is None:
                program.kill()
