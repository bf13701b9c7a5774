"""`cvji discover` while links change, in a network namespace of its own: prints how long each change took to arrive.

Run by test_discover as `unshare -rnm python -m tests.e2e.own_network FOLDER`. A veth pair plays the NIC: the tree says
that it is physical, and takes its state from this namespace's own sysfs.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.kit import Cluster, Program, write_kubeconfig
from tests.simulator.kubernetes import KubernetesSimulator
from tests.sysfs.trees import Host

Nic = dict[str, Any]


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def main(folder: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "rail0", "type", "veth", "peer", "name", "rail1")
    run("ip", "link", "set", "rail1", "up")
    live = folder / "live"
    live.mkdir()
    run("mount", "-t", "sysfs", "none", str(live))
    host = Host(folder / "sys")
    nic = host.netdev(host.pci("0000:01:00.0"), "rail0", "0c:42:a1:00:00:10")
    (nic / "operstate").unlink()
    (nic / "operstate").symlink_to(live / "class/net/rail0/operstate")
    with KubernetesSimulator() as kubernetes:
        kubernetes.serve_all()
        server = f"http://{kubernetes.address}"
        cluster = Cluster(server, write_kubeconfig(folder, server))
        cluster.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
        env = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "NODE_NAME": "gpu-1",
            "SYSFS_ROOT": str(host.root),
            "NETLINK": "yes",
            "DISCOVERY_INTERVAL": "10m",  # what arrives sooner, arrives because the kernel announced it
        }
        with Program("discover", env=env, folder=folder) as program:
            program.wait_for_log("1 interfaces, 0 VFs, Succeeded")
            print(json.dumps(changes(cluster, program)))
        cluster.close()


def changes(cluster: Cluster, program: Program) -> list[tuple[str, float]]:
    path = "/apis/cloudvision.arista.io/v1/namespaces/cloudvision/nodeinterfacestates/gpu-1"

    def ips(*wanted: str) -> Callable[[Nic], bool]:
        return lambda nic: nic.get("ips", []) == list(wanted) and nic.get("ip", "") == (*wanted, "")[0]

    def state(wanted: str) -> Callable[[Nic], bool]:
        return lambda nic: nic["operState"] == wanted

    four, more, six = "192.0.2.9", "192.0.2.10", "2001:db8::9"
    steps = [
        ("link set rail0 up", state("up")),
        (f"addr add {four}/24 dev rail0", ips(four)),
        (f"addr add {six}/64 dev rail0 nodad", ips(four, six)),
        ("addr add fe80::9/64 dev rail0 nodad", ips(four, six)),  # of the link alone: not reported, now or later
        (f"addr add {more}/24 dev rail0", ips(four, more, six)),
        ("link set rail1 down", state("lowerlayerdown")),
        ("link set rail1 up", state("up")),
        ("link set rail0 down", lambda nic: state("down")(nic) and ips(four, more)(nic)),
        (f"addr del {more}/24 dev rail0", ips(four)),
        ("link set rail0 up", state("up")),
    ]
    took = []
    for words, arrived in steps:
        began = time.monotonic()
        run("ip", *words.split())

        def published(arrived: Callable[[Nic], bool] = arrived) -> bool:
            return arrived(cluster.call("GET", path)["status"]["interfaces"][0])

        program.wait_for(published)
        took.append((words, time.monotonic() - began))
    return took


if __name__ == "__main__":
    main(Path(sys.argv[1]))
