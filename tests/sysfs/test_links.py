"""rtnetlink: what the kernel says, and messages it might send."""

import errno
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cvji.sysfs.links import Links, LinksError, _dump, read_dumps, read_links
from cvji.sysfs.memory import Memory, Remembered, complete
from cvji.sysfs.scan import scan
from tests.sysfs.trees import Host


def test_it_agrees_with_another_implementation() -> None:
    with IPRoute() as other:
        links = other.get_links()
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        kinds = {link.get_attr("IFLA_IFNAME"): link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for link in links}
        expected: dict[str, set[str]] = {}
        for address in other.get_addr():
            local = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
            if ":" not in local or address["scope"] in (0, 200):
                expected.setdefault(names[address["index"]], set()).add(local)
    found = read_links()
    assert {name: set(ips) for name, ips in found.ips.items()} == expected
    assert found.names == set(names.values())
    assert found.kinds == {name: kind for name, kind in kinds.items() if kind}


def attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def vf_list(index: int, name: str, macs: dict[int, str], link_type: int = 1) -> bytes:
    """A link message with a VF list, in the kernel's shape and order (net/core/rtnetlink.c, rtnl_fill_vfinfo)."""
    infos = []
    for vf, mac in macs.items():
        pair = struct.pack("=II", vf, 0)
        parts = [
            attribute(1, struct.pack("=I32s", vf, bytes.fromhex(mac.replace(":", "")))),  # IFLA_VF_MAC
            attribute(13, b"\xff" * 6 + bytes(26)),  # IFLA_VF_BROADCAST
            attribute(2, pair + bytes(4)),  # IFLA_VF_VLAN
            *(attribute(kind, pair) for kind in (3, 4, 5, 7, 9)),
        ]
        infos.append(attribute(1 | 0x8000, b"".join(parts)))  # IFLA_VF_INFO
    names = attribute(3, name.encode() + b"\0")  # IFLA_IFNAME
    return struct.pack("=BxHiII", 0, link_type, index, 0x1043, 0) + names + attribute(22 | 0x8000, b"".join(infos))


def test_a_long_vf_list_reads_as_another_implementation_reads_it() -> None:
    macs = {vf: f"0c:42:a1:00:01:{vf:02x}" for vf in range(127)}
    message = vf_list(7, "ens1f0np0", macs)
    other = ifinfmsg(struct.pack("=IHHII", 16 + len(message), 16, 0, 1, 0) + message)
    other.decode()
    infos = other.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    theirs = {(entry := info.get_attr("IFLA_VF_MAC"))["vf"]: entry["mac"] for info in infos}
    assert theirs == macs
    assert read_dumps([message], []).vf_macs == {other.get_attr("IFLA_IFNAME"): macs}


def test_a_pfs_list_of_its_vfs() -> None:
    macs = {0: "0c:42:a1:00:01:00", 3: "0c:42:a1:00:01:03", 4: "00:00:00:00:00:00"}
    found = read_dumps([vf_list(7, "ens1f0np0", macs)], [])
    assert found.vf_macs == {"ens1f0np0": {0: "0c:42:a1:00:01:00", 3: "0c:42:a1:00:01:03"}}
    assert found.names == {"ens1f0np0"}


def test_the_list_of_an_infiniband_pf_has_no_macs(tmp_path: Path) -> None:
    # ipoib_get_vf_config copies the PF's own address; its first six bytes would pass as an Ethernet MAC.
    pfs, vfs = (f"00:00:10:86:fe:80:{'00:' * 6}b8:3f:d2:03:00:af:62:{end}" for end in ("54", "55"))
    message = vf_list(7, "ibs1", {0: pfs, 1: pfs}, link_type=32)
    found = read_dumps([message], [])
    assert found.vf_macs == {}
    assert found.names == {"ibs1"}

    host = Host(tmp_path / "sys")
    pf = host.pf("0000:3b:00.0", "", "")
    host.netdev(pf, "ibs1", pfs, type=32, iflink=5, ifindex=5)
    host.vf(pf, 0, "0000:3b:00.1", driver="vfio-pci")
    known = Memory({"0000:3b:00.1": (Remembered("ibs1v0", vfs),)})
    for memory, expected in ((Memory(), ""), (known, vfs)):
        interfaces, _, after = complete(scan(host.root), found, memory)
        assert [vf.mac for vf in interfaces[0].vfs] == [expected]
        assert after.nics.get("0000:3b:00.1") == memory.nics.get("0000:3b:00.1")


def test_a_member_has_its_permanent_address_and_its_master_a_kind() -> None:
    def link(index: int, name: str, *attributes: bytes) -> bytes:
        named = attribute(3, name.encode() + b"\0")
        return struct.pack("=BxHiII", 0, 1, index, 0x1043, 0) + named + b"".join(attributes)

    own = attribute(54, bytes.fromhex("0c42a1000011"))  # IFLA_PERM_ADDRESS
    member = link(2, "ens1", attribute(10, struct.pack("=I", 4)), own)  # IFLA_MASTER
    team = link(4, "team0", attribute(18 | 0x8000, attribute(1, b"team\0")))  # IFLA_LINKINFO, IFLA_INFO_KIND
    found = read_dumps([member, link(3, "ens2", own), team], [])
    assert found.permanent == {"ens1": "0c:42:a1:00:00:11"}
    assert found.kinds == {"team0": "team"}
    assert found.names == {"ens1", "ens2", "team0"}
    other = ifinfmsg(struct.pack("=IHHII", 16 + len(member), 16, 0, 1, 0) + member)
    other.decode()
    assert other.get_attr("IFLA_PERM_ADDRESS") in ("0c:42:a1:00:00:11", "0c42a1000011")
    assert other.get_attr("IFLA_MASTER") == 4


class Kernel:
    """Answers dumps with what it was given: lists of messages, each with its type, flags and body."""

    def __init__(self, *dumps: list[tuple[int, int, bytes]]) -> None:
        self.socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        for sequence, messages in enumerate(dumps, 1):
            parts = [
                struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body for kind, flags, body in messages
            ]
            self._other.send(b"".join(part + bytes(-len(part) % 4) for part in parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self._other.close()


def done(error: int = 0, flags: int = 0) -> tuple[int, int, bytes]:
    """NLMSG_DONE, with the error number that the kernel puts into it."""
    return 3, flags, struct.pack("=i", -error)


UNFIT = [(done(errno.EMSGSIZE), "Message too long"), (done(flags=0x10), "links change faster")]  # NLM_F_DUMP_INTR


@pytest.mark.parametrize(("end", "says"), UNFIT)
def test_a_dump_that_failed_on_its_way_or_was_interrupted_is_asked_for_again(
    end: tuple[int, int, bytes], says: str
) -> None:
    one, two = ((16, 2, vf_list(index, f"ens{index}", {})) for index in (1, 2))
    with Kernel([one, end], [one, two, done()]) as kernel:
        assert _dump(kernel.socket, 18, b"") == [one[2], two[2]]
    with Kernel(*[[one, end]] * 4) as kernel, pytest.raises(LinksError, match=f"^rtnetlink: {says}"):
        _dump(kernel.socket, 18, b"")


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
    or subprocess.run(["unshare", "-rn", sys.executable, "-c", ""], check=False, capture_output=True).returncode != 0,
    reason="no network namespaces here, or the kernel does not run this interpreter by itself (qemu does)",
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
    assert words.startswith("link set") or not poll.poll(0), words  # what follows a link that comes up takes its time
assert read_links().ips["v0"][:2] == ("192.0.2.9", "192.0.2.10"), read_links()
print("noticed")
"""
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "noticed\n", done.stderr
