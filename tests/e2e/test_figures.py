"""What `cvji discover` costs a node: as a process with a pod's own credentials, which is how the DaemonSet runs it."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Cluster, Program
from tests.simulator.certs import make_tls
from tests.simulator.kubernetes import KubernetesSimulator
from tests.sysfs.trees import big_host

# A pod finds its credentials here; a tmpfs in a mount namespace of its own stands for it.
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MOUNT = f"""set -e
mount -t tmpfs none "$(realpath /var/run)"
mkdir -p {ACCOUNT}
cp "$TOKEN_FILE" {ACCOUNT}/token
cp "$CA_FILE" {ACCOUNT}/ca.crt
exec "$@"
"""
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", os.path.realpath("/var/run")],
        check=False,
        capture_output=True,
    ).returncode
    == 0
)
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="no mount namespaces here")
TOKEN = "token-of-the-service-account"
MEGABYTE = 1 << 20


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesSimulator]:
    tls, ca_file = make_tls(tmp_path)
    with KubernetesSimulator(TOKEN, tls) as simulator:
        simulator.serve_all()
        (tmp_path / "token").write_text(TOKEN)
        assert ca_file == tmp_path / "ca.pem"
        yield simulator


@pytest.fixture
def program(kubernetes: KubernetesSimulator, tmp_path: Path) -> Iterator[Program]:
    """`cvji discover` of a node of 8 PFs with 127 VFs each, in a pod."""
    big_host(tmp_path / "sys")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    cluster = Cluster(f"https://{kubernetes.address}", tmp_path, ca_certs=str(tmp_path / "ca.pem"), headers=headers)
    cluster.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
    env = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(kubernetes.port),
        "TOKEN_FILE": str(tmp_path / "token"),
        "CA_FILE": str(tmp_path / "ca.pem"),
        "NODE_NAME": "gpu-1",
        "SYSFS_ROOT": str(tmp_path / "sys"),
        "HEALTH_ADDRESS": "127.0.0.1:0",
    }
    with Program("discover", env=env, folder=tmp_path, before=["unshare", "-rm", "sh", "-c", MOUNT, "sh"]) as found:
        found.wait_for_log("8 interfaces, 1016 VFs, Succeeded")
        yield found
    cluster.close()


def cpu_seconds(program: Program) -> float:
    """What all its threads have run so far."""
    tasks = Path(f"/proc/{program.process.pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def test_a_large_node_takes_little_memory_and_between_scans_no_time(program: Program) -> None:
    began, before = time.monotonic(), cpu_seconds(program)
    threading.Event().wait(4)
    spent, passed = cpu_seconds(program) - before, time.monotonic() - began
    print(f"{spent * 1e3:.2f} ms of CPU in {passed:.1f} s, RSS {program.rss() / MEGABYTE:.1f} MB")
    assert program.rss() < 50 * MEGABYTE
    assert spent < 0.001 * passed
