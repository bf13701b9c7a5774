"""rtnetlink: what the kernel says, and messages it might send."""

import shutil
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cvji.sysfs.links import Links, read_dumps, read_links


def test_it_agrees_with_another_implementation() -> None:
    with IPRoute() as other:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in other.get_links()}
        expected: dict[str, set[str]] = {}
        for address in other.get_addr():
            local = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
            if ":" not in local or address["scope"] in (0, 200):
                expected.setdefault(names[address["index"]], set()).add(local)
    assert {name: set(ips) for name, ips in read_links().ips.items()} == expected


def vf_list(index: int, name: str, macs: dict[int, str]) -> bytes:
    """A link message with a VF list, encoded by the other implementation."""
    message = ifinfmsg()
    message["index"] = index
    padded = {vf: bytes.fromhex(mac.replace(":", "")) + bytes(26) for vf, mac in macs.items()}
    infos = b"".join(
        struct.pack("=HHHHI", 44, 1, 40, 1, vf) + mac for vf, mac in padded.items()
    )  # IFLA_VF_INFO { IFLA_VF_MAC { vf, mac[32] } }
    message["attrs"] = [("IFLA_IFNAME", name)]
    message.encode()
    return bytes(message.data[16:]) + struct.pack("=HH", 4 + len(infos), 22 | 0x8000) + infos


def test_a_pfs_list_of_its_vfs() -> None:
    macs = {0: "0c:42:a1:00:01:00", 3: "0c:42:a1:00:01:03", 4: "00:00:00:00:00:00"}
    found = read_dumps([vf_list(7, "ens1f0np0", macs)], [])
    assert found == Links(vf_macs={"ens1f0np0": {0: "0c:42:a1:00:01:00", 3: "0c:42:a1:00:01:03"}})


@given(st.lists(st.binary(max_size=200)), st.lists(st.binary(max_size=60)))
def test_no_message_breaks_it(links: list[bytes], addresses: list[bytes]) -> None:
    assert isinstance(read_dumps(links, addresses), Links)


@given(st.data())
def test_no_damaged_message_breaks_it(data: st.DataObject) -> None:
    raw = bytearray(vf_list(7, "ens1", {0: "0c:42:a1:00:01:00"}))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read_dumps([bytes(raw[: data.draw(st.integers(0, len(raw)))])], []), Links)


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode != 0,
    reason="no network namespaces here",
)
def test_a_change_is_noticed() -> None:
    script = """
import select, subprocess
from cvji.sysfs.links import Subscription, read_links
told = Subscription()
poll = select.poll(); poll.register(told, select.POLLIN)
for words in ("link add v0 type veth peer name v1", "addr add 192.0.2.9/24 dev v0", "addr add 192.0.2.10/24 dev v0",
              "addr add 2001:db8::9/64 dev v0 nodad", "link set v0 up", "link set v1 up", "link set v0 down"):
    subprocess.run(["ip", *words.split()], check=True)
    assert poll.poll(2000), words
    told.drain()
    assert not poll.poll(0), words
assert read_links().ips["v0"][:2] == ("192.0.2.9", "192.0.2.10"), read_links()
print("noticed")
"""
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "noticed\n", done.stderr
