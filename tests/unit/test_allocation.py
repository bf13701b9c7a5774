"""Which MACs an annotation gives (design 2.3), whatever it holds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cvji.jobs.pods import multus_macs
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


def test_what_is_wrong_is_said() -> None:
    assert multus_macs("{}") == ((), multus_macs("{}")[1])
    assert "not a list" in multus_macs("{}")[1]
    assert "not a list" in multus_macs("[")[1]
    assert "$[0].mac" in multus_macs('[{"mac": 1}]')[1]
    assert "'zz'" in multus_macs('[{"mac": "zz"}]')[1]
    assert "over" in multus_macs("[" + " " * 300_000 + "]")[1]
    assert multus_macs(None) == multus_macs("") == ((), "")


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    macs, problem = multus_macs(text)
    assert macs == () or all(ethernet_mac(mac) == mac for mac in macs)
    assert isinstance(problem, str)
