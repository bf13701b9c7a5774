"""A NIC that moves between network namespaces a thousand times while `cvji discover` and a scan in a loop look at it.

Run by test_discover as `unshare -rnm python -m tests.e2e.moving FOLDER MOVES`; prints what was seen. A veth pair plays
the NIC: a tree says that it is physical, and its attributes are this namespace's own sysfs, so that they come and go
as the kernel lets them.
"""

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cvji.discover import Observer
from cvji.sysfs.state import SUCCEEDED, State
from tests.e2e.kit import Cluster, Program, write_kubeconfig
from tests.simulator.kubernetes import KubernetesSimulator
from tests.sysfs.trees import Host

CLONE_NEWNET = 0x40000000
RTM_NEWLINK, REQUEST_AND_ACK = 16, 0x5
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
NAME = "rail0"
STATE = "/apis/cloudvision.arista.io/v1/namespaces/cloudvision/nodeinterfacestates/gpu-1"


class Namespace:
    """A network namespace of its own, or this one: a socket in it, and what it is called as a destination."""

    def __init__(self, *, new: bool) -> None:
        if new:
            thread = threading.Thread(target=self._open, args=(True,))
            thread.start()
            thread.join()
        else:
            self._open(False)

    def _open(self, new: bool) -> None:
        if new and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def move(self, name: str, to: "Namespace") -> None:
        """Move a netdev from here. Raises OSError."""
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        body += struct.pack("=HH16s", 20, IFLA_IFNAME, name.encode()) + struct.pack("=HHI", 8, IFLA_NET_NS_FD, to.fd)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, REQUEST_AND_ACK, 1, 0) + body)
        code = struct.unpack_from("=i", self._socket.recv(4096), 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))


def move(host: Host, moves: int, done: threading.Event) -> None:
    """There and back. The tree's links go after the netdev itself and come after it, as in a scan that is late."""
    here, pod = Namespace(new=False), Namespace(new=True)
    entries = [host.root / "class/net" / NAME, next(host.root.glob(f"devices/**/net/{NAME}"))]
    links = [(entry, entry.readlink()) for entry in entries]
    try:
        for _ in range(moves // 2):
            here.move(NAME, pod)
            for entry, _ in links:
                entry.unlink()
            pod.move(NAME, here)
            for entry, target in links:
                entry.symlink_to(target)
    finally:
        done.set()


def own_mac(state: Any) -> str:
    """The address of the one line; "" where there is none."""
    lines = state.get("interfaces", [])
    return lines[0].get("mac", "") if len(lines) == 1 else ""


def main(folder: Path, moves: int) -> None:
    for words in ("link set lo up", f"link add {NAME} type veth peer name rail1"):
        subprocess.run(["ip", *words.split()], check=True)
    live = folder / "live"
    live.mkdir()
    subprocess.run(["mount", "-t", "sysfs", "none", str(live)], check=True)
    host = Host(folder / "sys")
    netdevs = host.pci("0000:01:00.0") / "net"
    netdevs.mkdir()
    (netdevs / NAME).symlink_to(live / "devices/virtual/net" / NAME)
    host.link(host.root / "class/net" / NAME, netdevs / NAME)
    mac = (live / "class/net" / NAME / "address").read_text().strip()
    seen: dict[str, int] = {"scans": 0, "away": 0, "unsettled": 0, "states": 0}
    lost: list[Any] = []
    observer = Observer(host.root, netlink=True)
    before = observer.observe(State()).state
    done = threading.Event()
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
            "DISCOVERY_INTERVAL": "1s",
        }
        with Program("discover", env=env, folder=folder) as program:
            program.wait_for_log("1 interfaces, 0 VFs, Succeeded")
            mover = threading.Thread(target=move, args=(host, moves, done))
            mover.start()
            version = ""
            while not done.is_set():
                found = observer.observe(before)
                seen["scans"] += 1
                seen["away"] += any(nic.away for nic in found.interfaces)
                seen["unsettled"] += found.state.sync_status != SUCCEEDED
                if [nic.mac for nic in found.state.interfaces] != [mac]:
                    lost.append(["scan", seen["scans"], str(found.state)])
                if seen["scans"] % 20 == 0:
                    published = cluster.call("GET", STATE)
                    seen["states"] += published["metadata"]["resourceVersion"] != version
                    version = published["metadata"]["resourceVersion"]
                    if own_mac(published["status"]) != mac:
                        lost.append(["daemon", published["status"]])
            mover.join()
            program.wait_for(lambda: "operState" in cluster.call("GET", STATE)["status"]["interfaces"][0])
        cluster.close()
    print(json.dumps({**seen, "lost": lost}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
