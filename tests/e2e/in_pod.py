"""Programs with the credentials of a pod: the files of its service account, where the kubelet puts them."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Usage
from tests.e2e.kit import EXECUTABLE, QUICK, Cluster
from tests.e2e.working_set import Measured
from tests.simulator.certs import make_tls
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.sysfs.trees import mlx5_host

# A tmpfs in a mount namespace of its own stands for the place of the files.
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MOUNT = f"""set -e
mount -t tmpfs none "$(realpath /var/run)"
mkdir -p {ACCOUNT}
cp "$TOKEN_FILE" {ACCOUNT}/token
cp "$CA_FILE" {ACCOUNT}/ca.crt
exec "$@"
"""
IN_POD = ["unshare", "-rm", "sh", "-c", MOUNT, "sh"]
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", os.path.realpath("/var/run")],
        check=False,
        capture_output=True,
    ).returncode
    == 0
)
TOKEN = "token-of-the-service-account"
Environment = dict[str, str]


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Environment]:
    """A cluster with the node gpu-1: the environment of a pod on it, whose /sys is yet to be made in the folder."""
    tls, ca_file = make_tls(folder)
    (folder / "token").write_text(TOKEN)
    with KubernetesSimulator(TOKEN, tls) as kubernetes:
        kubernetes.serve_all()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        cluster = Cluster(f"https://{kubernetes.address}", folder, ca_certs=str(ca_file), headers=headers)
        with contextlib.closing(cluster):
            cluster.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
        yield {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(kubernetes.port),
            "TOKEN_FILE": str(folder / "token"),
            "CA_FILE": str(ca_file),
            "NODE_NAME": "gpu-1",
            "SYSFS_ROOT": str(folder / "sys"),
            "HEALTH_ADDRESS": "127.0.0.1:0",
        }


def idle(folder: Path, executable: str = EXECUTABLE) -> Iterator[tuple[str, str, float]]:
    """Each workload as it is deployed, with nothing to do: its command, what is measured, and that in MB."""
    mlx5_host(folder / "sys")
    with node(folder) as pod, CloudVisionSimulator() as cloudvision:
        informer = {
            "API_SERVER": cloudvision.address,
            "API_TOKEN": cloudvision.token,
            "API_CA_FILE": str(cloudvision.ca_file),
            "LOCATION": "lab",
            "STATE_NAMESPACE": "cloudvision",
            "LEADER_ELECT": "true",
            **QUICK,
        }
        for command, more, started in (
            ("informer", informer, "reporting from now on"),
            ("discover", {}, "Succeeded"),
        ):
            with Measured(command, env=pod | more, folder=folder, before=IN_POD, executable=executable) as program:
                program.wait_for_log(started)
                Usage(program.process.pid).quiet(3)
                yield command, program.measure, program.memory() / 1e6
