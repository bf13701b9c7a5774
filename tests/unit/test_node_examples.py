"""From a node's sys folder to what CloudVision and a job on the host's network get, as docs/node-nics.md shows it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cvji.cloudvision.payloads import node_config, post_node
from cvji.nodes.inventory import Inventory, read_node_state
from cvji.settings import NodeInterfaceType
from cvji.sysfs.links import Links
from cvji.sysfs.memory import Memory, complete
from cvji.sysfs.scan import scan
from cvji.sysfs.state import state_of
from tests.sysfs.trees import Host, bonded_host, sriov_host, sub_function_host

PAGE = (Path(__file__).parents[2] / "docs/node-nics.md").read_text("utf-8")
EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
HOSTS = [bonded_host, sriov_host, sub_function_host]
ADDRESSES = {"bond0": ("10.0.0.9",), "eno1": ("192.0.2.9",)}
LINKS = Links(ips=ADDRESSES, vf_macs={"ens1f0np0": {1: "0c:42:a1:00:01:01"}})


def published(host: Host) -> bytes:
    """The NodeInterfaceState of a host, as the API server has it."""
    interfaces, bonds, _ = complete(scan(host.root), LINKS, Memory())
    metadata = {"name": "gpu-01", "namespace": "cloudvision", "uid": "u"}
    return msgspec.json.encode({"metadata": metadata, "status": state_of(interfaces, bonds, ())})


def held(host: Host) -> tuple[str, ...]:
    """What a pod on the host's network holds."""
    inventory = Inventory()
    inventory.apply(read_node_state(NodeInterfaceType.ALL, published(host)))
    return inventory.fabric("gpu-01")


def nics(payload: Any) -> list[tuple[str, str, list[str]]]:
    return [
        (nic["name"], nic["mac_address"], nic.get("ip_addresses", {}).get("values", []))
        for nic in payload["data_interfaces"]["values"]
    ]


@pytest.mark.parametrize(("build", "example"), list(zip(HOSTS, EXAMPLES, strict=True)))
def test_what_cloudvision_gets_is_the_example_in_the_page(
    build: Callable[[Path], Host], example: Any, tmp_path: Path
) -> None:
    inventory = Inventory()
    inventory.apply(read_node_state(NodeInterfaceType.ALL, published(build(tmp_path / "sys"))))
    (report,) = inventory.advance()
    payload = json.loads(post_node(node_config(report, location="dc1")).body)
    assert (payload["key"], payload["location"], payload["hostname"]) == (
        example["key"],
        example["location"],
        example["hostname"],
    )
    assert nics(payload) == nics(example)


@pytest.mark.parametrize(
    ("build", "fabric"),
    [
        (bonded_host, ("0c:42:a1:00:00:10", "0c:42:a1:00:00:11")),  # eno1 has no RDMA device
        (sriov_host, ("0c:42:a1:00:00:10",)),
        (sub_function_host, ("0c:42:a1:00:00:10", "0c:42:a1:00:03:00")),
    ],
)
def test_a_job_on_the_hosts_network_holds_the_rails(
    build: Callable[[Path], Host], fabric: tuple[str, ...], tmp_path: Path
) -> None:
    assert held(build(tmp_path / "sys")) == fabric


def test_a_bond_with_an_address_of_its_own_is_held_too(tmp_path: Path) -> None:
    """Some set the bond's address themselves: then its ports' frames carry one that is no port's."""
    host = bonded_host(tmp_path / "sys")
    for name in ("bond0", "ens1f0np0", "ens1f1np1"):
        host.write(host.root / "class/net" / name, address="02:00:00:00:00:b0")
    assert held(host) == ("02:00:00:00:00:b0", "0c:42:a1:00:00:10", "0c:42:a1:00:00:11")
