"""Node states become NodeConfigs (design 2.5): what is said, and when."""

import json
from typing import Any

import msgspec
import pytest

from cvji.cloudvision.payloads import delete_node, node_config, post_node
from cvji.nodes.inventory import Inventory, NodeReport, NodeState, fingerprint, read_node_state
from cvji.settings import NodeInterfaceType

PFS: list[dict[str, Any]] = [
    {
        "name": "ens1f0",
        "mac": "02:00:00:00:01:00",
        "pciAddress": "0000:3b:00.0",
        "totalvfs": 16,
        "numVfs": 2,
        "Vfs": [
            {"name": "ens1f0v1", "mac": "02:00:00:00:01:12", "pciAddress": "0000:3b:00.3"},
            {"mac": "02-00-00-00-01-11", "pciAddress": "0000:3b:00.2", "vfID": 0},
            {"pciAddress": "0000:3b:00.4"},
        ],
    },
    {"name": "eno1", "mac": "02:00:00:00:00:0A", "pciAddress": "0000:19:00.0"},
    {"name": "ib0", "mac": ":".join(["80"] * 20)},
]


def state(
    interfaces: Any = None, chosen: NodeInterfaceType = NodeInterfaceType.ALL, node: str = "n1", uid: str = "u"
) -> NodeState:
    raw = {
        "metadata": {"name": node, "namespace": "cloudvision", "uid": uid},
        "status": {"interfaces": interfaces},
    }
    return read_node_state(chosen, json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (NodeInterfaceType.ALL, ["0000:3b:00.2", "eno1", "ens1f0", "ens1f0v1"]),
        (NodeInterfaceType.PF, ["eno1", "ens1f0"]),
        (NodeInterfaceType.VF, ["0000:3b:00.2", "ens1f0v1"]),
    ],
)
def test_which_nics_are_reported(chosen: NodeInterfaceType, names: list[str]) -> None:
    assert [nic.name for nic in state(PFS, chosen).nics] == names


def test_the_payload_is_the_contracts() -> None:
    nic = {
        "name": "e0",
        "mac": "02:00:00:00:00:0A",
        "ip": "10.0.0.9",
        "ips": ["fd00::1/64", "10.0.0.9", "10.0.0.10", "x"],
    }
    inventory = Inventory()
    inventory.apply(state([nic, {"name": "e1", "mac": "02:00:00:00:00:0b"}]))
    (report,) = inventory.advance()
    request = post_node(node_config(report, location="lab"))
    assert (request.method, request.path) == ("POST", "/api/resources/computejob/v1/NodeConfig")
    assert json.loads(request.body) == {
        "key": {"id": "n1"},
        "location": "lab",
        "hostname": "n1",
        "data_interfaces": {
            "values": [
                {
                    "name": "e0",
                    "mac_address": "02:00:00:00:00:0a",
                    "ip_addresses": {"values": ["10.0.0.9", "10.0.0.10", "fd00::1"]},
                },
                {"name": "e1", "mac_address": "02:00:00:00:00:0b", "ip_addresses": {"values": []}},
            ]
        },
    }
    gone = delete_node("n1/ä b&c=1")
    assert gone.method == "DELETE"
    assert gone.path == "/api/resources/computejob/v1/NodeConfig?key.id=n1%2F%C3%A4%20b%26c%3D1"


def said(inventory: Inventory, interfaces: Any, uid: str = "u") -> list[NodeReport]:
    inventory.apply(state(interfaces, uid=uid))
    inventory.listed()
    return inventory.advance()


def test_said_at_first_sight_and_on_change_only() -> None:
    inventory = Inventory()
    first = said(inventory, PFS)
    assert [report.node for report in first] == ["n1"]
    assert said(inventory, list(reversed(PFS))) == []  # the same in another order
    assert said(inventory, []) == []  # a failed scan takes nothing back
    assert len(said(inventory, PFS[:1])) == 1
    inventory.remove(state(PFS))
    assert inventory.advance() == [NodeReport("n1", ())]
    inventory.remove(state(PFS))
    assert inventory.advance() == []
    assert len(inventory) == 0
    assert said(inventory, PFS) == first


def test_a_node_whose_last_vf_is_gone_is_removed_where_vfs_are_what_is_reported() -> None:
    inventory = Inventory()
    pf = PFS[0]

    def advance(vfs: list[dict[str, Any]], interfaces: list[dict[str, Any]] | None = None) -> list[NodeReport]:
        found = [pf | {"Vfs": vfs}] if interfaces is None else interfaces
        inventory.apply(state(found, NodeInterfaceType.VF))
        return inventory.advance()

    assert len(advance(pf["Vfs"])) == 1
    assert advance([{"pciAddress": "0000:3b:00.2"}]) == []  # still there, its MAC out of sight
    assert advance([], []) == []  # a failed scan
    assert advance([]) == [NodeReport("n1", ())]
    assert advance([]) == []
    assert len(advance(pf["Vfs"])) == 1


def test_a_node_with_a_state_in_two_namespaces_stays_until_both_are_gone() -> None:
    inventory = Inventory()
    for uid in ("a", "b"):
        said(inventory, PFS, uid)
    inventory.remove(state(PFS, uid="a"))
    assert inventory.advance() == []
    inventory.remove(state(PFS, uid="b"))
    assert inventory.advance() == [NodeReport("n1", ())]


def test_after_a_restart_only_what_changed_meanwhile_is_said() -> None:
    before, after = Inventory(), Inventory()
    (report,) = said(before, PFS)
    after.restore({"n1": fingerprint(report.nics), "gone": b"12345678"})
    after.apply(state(PFS))
    assert after.advance() == []  # what is not listed yet is not gone
    after.listed()
    assert after.advance() == [NodeReport("gone", ())]
    assert len(said(after, PFS[:1])) == 1


def test_the_hosts_own_network_is_its_rails_or_else_all_of_it() -> None:
    inventory = Inventory()
    inventory.apply(state(PFS))
    assert inventory.fabric("n1") == ("02:00:00:00:00:0a", "02:00:00:00:01:00")
    inventory.apply(state([PFS[0] | {"rdmaDevice": "mlx5_0"}, PFS[1]]))
    assert inventory.fabric("n1") == ("02:00:00:00:01:00",)
    assert inventory.fabric("n2") == ()


@pytest.mark.parametrize("interfaces", [7, [7], [{"name": 7}], [{"Vfs": {}}], [{"ips": "x"}]])
def test_wrong_types_name_their_field(interfaces: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.status\.interfaces"):
        state(interfaces)
