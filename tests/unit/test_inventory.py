"""Node states become NodeConfigs (docs/design.md#nodes): what is reported, and when."""

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


@pytest.mark.parametrize(
    ("chosen", "count"), [(NodeInterfaceType.ALL, 1), (NodeInterfaceType.PF, 0), (NodeInterfaceType.VF, 1)]
)
def test_a_vf_whose_pf_cannot_be_seen_is_a_vf(chosen: NodeInterfaceType, count: int) -> None:
    alone = {"name": "ens1v0", "type": "vf", "mac": "02:00:00:00:01:11", "pciAddress": "0000:3b:00.2"}
    found = state([alone], chosen)
    assert (len(found.nics), found.none) == (count, not count)
    assert found.fabric == ("02:00:00:00:01:11",)  # what a pod on the host's network holds is not chosen


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


def reported(inventory: Inventory, interfaces: Any, uid: str = "u") -> list[NodeReport]:
    inventory.apply(state(interfaces, uid=uid))
    inventory.listed()
    return inventory.advance()


def test_reported_at_first_sight_and_on_change_only() -> None:
    inventory = Inventory()
    first = reported(inventory, PFS)
    assert [report.node for report in first] == ["n1"]
    assert reported(inventory, list(reversed(PFS))) == []  # the same in another order
    assert reported(inventory, []) == []  # a failed scan takes nothing back
    assert len(reported(inventory, PFS[:1])) == 1
    inventory.remove(state(PFS))
    assert inventory.advance() == [NodeReport("n1", ())]
    inventory.remove(state(PFS))
    assert inventory.advance() == []
    assert not inventory._states
    assert reported(inventory, PFS) == first


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
        reported(inventory, PFS, uid)
    inventory.remove(state(PFS, uid="a"))
    assert inventory.advance() == []
    inventory.remove(state(PFS, uid="b"))
    assert inventory.advance() == [NodeReport("n1", ())]


def test_after_a_restart_only_what_changed_meanwhile_is_reported() -> None:
    before, after = Inventory(), Inventory()
    (report,) = reported(before, PFS)
    after.restore({"n1": fingerprint(report.nics), "gone": b"12345678"})
    after.apply(state(PFS))
    assert after.advance() == []  # what is not listed yet is not gone
    after.listed()
    assert after.advance() == [NodeReport("gone", ())]
    assert len(reported(after, PFS[:1])) == 1


BONDED = [
    {"name": "ens1f0", "mac": "02:00:00:00:01:00", "permanentMac": "02:00:00:00:01:00", "bond": "bond0"},
    {"name": "ens1f1", "mac": "02:00:00:00:01:00", "permanentMac": "02:00:00:00:01:01", "bond": "bond0"},
    {"name": "eno1", "mac": "02:00:00:00:00:0a"},
]
BOND = {"name": "bond0", "mac": "02:00:00:00:01:00", "ips": ["10.0.0.9"], "members": ["ens1f0", "ens1f1"]}


def whole(
    interfaces: Any,
    *bonds: Any,
    chosen: NodeInterfaceType = NodeInterfaceType.ALL,
    namespace: str = "cloudvision",
    **meta: Any,
) -> NodeState:
    metadata = {"name": "n1", "namespace": namespace, "uid": namespace, **meta}
    raw = {"metadata": metadata, "status": {"interfaces": interfaces, "bonds": bonds}}
    return read_node_state(chosen, json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (NodeInterfaceType.ALL, ["bond0", "eno1", "ens1f0", "ens1f1"]),
        (NodeInterfaceType.PF, ["bond0", "eno1", "ens1f0", "ens1f1"]),
        (NodeInterfaceType.VF, []),
    ],
)
def test_a_bonds_members_have_their_own_addresses_and_the_bond_has_an_entry(
    chosen: NodeInterfaceType, names: list[str]
) -> None:
    found = whole(BONDED, BOND, chosen=chosen)
    assert [nic.name for nic in found.nics] == names
    macs = {nic.name: (nic.mac, nic.ips) for nic in found.nics}
    if names:
        assert macs["bond0"] == ("02:00:00:00:01:00", ("10.0.0.9",))
        assert macs["ens1f1"] == ("02:00:00:00:01:01", ())


def test_a_member_whose_own_address_is_not_known_is_not_named_by_the_bonds() -> None:
    member = {name: value for name, value in BONDED[1].items() if name != "permanentMac"}
    assert [nic.name for nic in whole([BONDED[0], member], BOND).nics] == ["bond0", "ens1f0"]


def test_a_bond_of_vfs_counts_where_vfs_are_what_is_reported() -> None:
    vf = {"name": "ens1v0", "mac": "02:00:00:00:01:20", "permanentMac": "02:00:00:00:01:20", "bond": "bond1"}
    bond = {"name": "bond1", "mac": "02:00:00:00:01:20", "members": ["ens1v0"]}
    pf = {"name": "ens1", "mac": "02:00:00:00:01:00", "Vfs": [vf]}
    for chosen, names in ((NodeInterfaceType.VF, ["bond1", "ens1v0"]), (NodeInterfaceType.PF, ["ens1"])):
        assert [nic.name for nic in whole([pf], bond, chosen=chosen).nics] == names


def test_the_hosts_own_network_has_the_addresses_of_the_ports_and_of_the_bond() -> None:
    bond = BOND | {"mac": "02:00:00:00:02:00"}
    lag = [BONDED[0] | {"rdmaDevice": "mlx5_bond_0"}, BONDED[1] | {"rdmaDevice": "mlx5_bond_0"}, BONDED[2]]
    rails = ("02:00:00:00:01:00", "02:00:00:00:01:01", "02:00:00:00:02:00")
    assert whole(lag, bond).fabric == rails
    assert whole(BONDED, bond).fabric == ("02:00:00:00:00:0a", *rails)
    without = [{"name": "ens2", "mac": "02:00:00:00:03:00", "rdmaDevice": "mlx5_0"}, *BONDED]
    assert whole(without, bond).fabric == ("02:00:00:00:03:00",)


def managed(time: str, subresource: str = "status") -> dict[str, Any]:
    return {"managedFields": [{"manager": "m", "subresource": subresource, "time": time, "fieldsV1": {"f:x": {}}}]}


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


@pytest.mark.parametrize(
    ("stale", "fresh"),
    [
        (managed(OLD) | {"creationTimestamp": NEW}, managed(NEW) | {"creationTimestamp": OLD}),
        # Somebody labels the stale one: only the status says when its content was written.
        ({"managedFields": managed(OLD)["managedFields"] + managed(NEW, "")["managedFields"]}, managed(NEW)),
        ({"creationTimestamp": OLD}, {"creationTimestamp": NEW}),
        ({}, {"creationTimestamp": OLD}),
    ],
)
@pytest.mark.parametrize("first", ["stale", "fresh"])
def test_of_two_states_with_one_function_the_newer_one_counts_and_one_warning_names_both(
    stale: dict[str, Any], fresh: dict[str, Any], first: str
) -> None:
    gone = {"name": "old", "mac": "02:00:00:00:09:01", "pciAddress": "0000:19:00.0", "rdmaDevice": "mlx5_0"}
    port = PFS[0] | {"rdmaDevice": "mlx5_0"}
    states = {
        "stale": whole([port | {"mac": "02:00:00:00:09:00"}, gone], namespace="stale", **stale),
        "fresh": whole([port], namespace="fresh", **fresh),
    }
    inventory = Inventory()
    second = "fresh" if first == "stale" else "stale"
    warnings = [inventory.apply(states[name]) for name in (first, second, first, second)]
    (warning,) = filter(None, warnings)
    assert "stale/n1 and fresh/n1 have different MACs of 0000:3b:00.0" in warning
    assert "fresh/n1; is the other one stale?" in warning
    names = {nic.name: nic.mac for nic in inventory.current("n1").nics}
    assert (names["ens1f0"], names["old"]) == ("02:00:00:00:01:00", "02:00:00:00:09:01")
    assert inventory.fabric("n1") == ("02:00:00:00:01:00", "02:00:00:00:09:01")
    inventory.remove(states["fresh"])
    assert inventory.fabric("n1") == ("02:00:00:00:09:00", "02:00:00:00:09:01")
    assert inventory.apply(states["fresh"])  # it is another pair once one of them was gone
    assert [report.nics for report in inventory.advance()] == [inventory.current("n1").nics]


def test_two_states_that_agree_are_no_conflict_and_two_ports_of_one_function_are_both_reported() -> None:
    ports = [{"name": f"p{n}", "mac": f"02:00:00:00:05:0{n}", "pciAddress": "7870:00:00.0"} for n in (0, 1)]
    inventory = Inventory()
    for namespace in ("a", "b"):
        assert inventory.apply(whole(ports, namespace=namespace, creationTimestamp=OLD)) == ""
    assert [nic.name for nic in inventory.current("n1").nics] == ["p0", "p1"]


def test_the_hosts_own_network_is_its_rails_or_else_all_of_it() -> None:
    inventory = Inventory()
    inventory.apply(state(PFS))
    assert inventory.fabric("n1") == ("02:00:00:00:00:0a", "02:00:00:00:01:00")
    inventory.apply(state([PFS[0] | {"rdmaDevice": "mlx5_0"}, PFS[1]]))
    assert inventory.fabric("n1") == ("02:00:00:00:01:00",)
    assert inventory.fabric("n2") == ()


@pytest.mark.parametrize("interfaces", [7, [7], [{"name": 7}], [{"Vfs": {}}], [{"ips": "x"}], [{"bond": 1}]])
def test_wrong_types_name_their_field(interfaces: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.status\.interfaces"):
        state(interfaces)
