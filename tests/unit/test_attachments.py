"""Which MACs an annotation or a claim gives (docs/design.md#nics-of-a-pod), whatever it holds."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvji.jobs.attachments import claim_macs, multus_macs
from cvji.kube.objects import ClaimObject
from cvji.macs import ethernet_mac, infiniband_address

INFINIBAND = ":".join(["20"] * 20)


def test_macs_leave_in_one_form() -> None:
    assert ethernet_mac("02-AB-cd-00-00-01") == "02:ab:cd:00:00:01"
    assert ethernet_mac("00:00:00:00:00:00") is None
    for text in (
        "",
        "02:ab",
        "02:ab:cd:00:00:0g",
        "02:ab-cd:00:00:01",
        INFINIBAND,
        "\u0660\u0662:00:00:00:00:01",
    ):
        assert ethernet_mac(text) is None
    assert infiniband_address(INFINIBAND)


@pytest.mark.parametrize("group", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33-33-00-00-00-01", "0B:00:00:00:00:01"])
def test_a_group_address_is_no_nics(group: str) -> None:
    assert ethernet_mac(group) is None
    assert ethernet_mac("0a" + group[2:]) is not None


def test_secondary_attachments_count_and_the_cluster_network_does_not() -> None:
    entries = [
        {"name": "cbr0", "ips": ["10.244.1.73"], "default": True, "dns": {}},
        {"name": "other", "interface": "eth0", "mac": "02:00:00:00:00:01"},
        {"name": "default-with-mac", "interface": "net0", "mac": "02:00:00:00:00:02", "default": True},
        {"name": "rail0", "interface": "net1", "mac": "02:00:00:00:00:0B", "device-info": {"type": "pci"}},
        {"name": "rail1", "interface": "net2", "mac": "02:00:00:00:00:0A", "ips": ["fd00::1"]},
        {"name": "again", "interface": "net3", "mac": "02:00:00:00:00:0a"},
        {"name": "ib", "interface": "net4", "mac": INFINIBAND},
    ]
    notes: list[str] = []
    assert multus_macs(json.dumps(entries), notes.append) == (("02:00:00:00:00:0a", "02:00:00:00:00:0b"), "")
    assert notes[1] == "eth0 is left out: it is the cluster network's own"
    assert notes[3] == 'net1 has 02:00:00:00:00:0b {"type": "pci"}'
    assert notes[-1] == f"net4: {INFINIBAND} is an InfiniBand address, on no Ethernet switch"
    assert len(notes) == 7


def test_what_is_wrong_is_reported() -> None:
    assert "not a list" in multus_macs("7")[1]
    assert "not a list" in multus_macs("[")[1]
    assert "$[0].mac" in multus_macs('[{"mac": 1}]')[1]
    assert "'zz'" in multus_macs('[{"mac": "zz"}]')[1]
    assert "over" in multus_macs("[" + " " * 300_000 + "]")[1]
    assert multus_macs(None) == multus_macs("") == ((), "")


def test_an_object_in_place_of_the_list_is_a_list_of_one() -> None:
    assert multus_macs('{"interface": "net1", "mac": "02:00:00:00:00:01"}') == (("02:00:00:00:00:01",), "")
    assert multus_macs("{}") == ((), "")


@pytest.mark.parametrize("mac", ["0", "", " ", "none", "None", "null", "n/a", "00:00:00:00:00:00", "0000.0000.0000"])
def test_an_entry_whose_mac_is_plainly_none_is_passed_over_in_silence(mac: str) -> None:
    """The VPC CNI's helper interface: mac "0", not marked as the default network."""
    entries = [{"interface": "dummy12ab", "mac": mac}, {"interface": "net1", "mac": "02:00:00:00:00:01"}]
    assert multus_macs(json.dumps(entries)) == (("02:00:00:00:00:01",), "")


@pytest.mark.parametrize("mac", ["02:00:00:00:00", "02:00:00:00:00:zz", "ff:ff:ff:ff:ff:ff", "10"])
def test_what_could_have_been_a_nic_is_warned_of(mac: str) -> None:
    assert repr(mac) in multus_macs(json.dumps([{"interface": "net1", "mac": mac}]))[1]


def claim(requests: list[dict[str, Any]], *results: dict[str, Any], devices: int = 1) -> ClaimObject:
    names = [{"driver": "d", "pool": "n1", "device": f"nic{number}"} for number in range(devices)]
    macs = [{"networkData": {"hardwareAddress": f"02:00:00:00:00:0{number}"}} for number in range(devices)]
    status: dict[str, Any] = {"devices": [name | mac for name, mac in zip(names, macs, strict=True)]}
    if results:
        status["allocation"] = {"devices": {"results": list(results)}}
    raw = {
        "metadata": {"name": "c", "uid": "u", "namespace": "team"},
        "spec": {"devices": {"requests": requests}},
        "status": status,
    }
    return msgspec.json.decode(json.dumps(raw), type=ClaimObject)


def result(device: int = 0, request: str = "r", **more: Any) -> dict[str, Any]:
    return {"request": request, "driver": "d", "pool": "n1", "device": f"nic{device}", **more}


ADMIN = {"name": "r", "exactly": {"adminAccess": True}}


@pytest.mark.parametrize(
    ("requests", "results"),
    [
        ([ADMIN], [result()]),  # v1, v1beta2
        ([{"name": "r", "adminAccess": True}], [result()]),  # v1beta1, v1alpha3
        ([{"name": "r"}], [result(adminAccess=True)]),
        ([ADMIN], []),
        ([ADMIN], [result(device=7)]),
    ],
)
def test_a_device_with_admin_access_holds_nothing(
    requests: list[dict[str, Any]], results: list[dict[str, Any]]
) -> None:
    notes: list[str] = []
    assert claim_macs(claim(requests, *results), notes.append) == ((), "")
    assert notes == ["02:00:00:00:00:00 is of a device with adminAccess, which holds nothing"]


@pytest.mark.parametrize(
    ("requests", "results"),
    [
        ([], []),
        ([{"name": "r"}], []),
        ([{"name": "r", "exactly": {}}], [result(adminAccess=False)]),
        ([{"name": "r", "firstAvailable": [{"name": "small"}]}], [result(request="r/small")]),
        ([ADMIN, {"name": "own"}], [result(), result(request="own")]),  # one device, watched and held by one claim
        ([ADMIN, {"name": "own"}], []),
    ],
)
def test_every_other_device_is_held(requests: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
    assert claim_macs(claim(requests, *results)) == (("02:00:00:00:00:00",), "")


def test_of_one_claim_the_devices_held_count_and_those_observed_do_not() -> None:
    found = claim([ADMIN, {"name": "own", "exactly": {}}], result(), result(1, "own"), devices=2)
    assert claim_macs(found) == (("02:00:00:00:00:01",), "")


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    macs, problem = multus_macs(text)
    assert macs == () or all(ethernet_mac(mac) == mac for mac in macs)
    assert isinstance(problem, str)
