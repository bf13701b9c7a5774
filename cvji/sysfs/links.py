"""What the kernel says over rtnetlink: addresses, a PF's own list of its VFs' MACs, and that something changed.

Written on the socket module. The one well-kept library, pyroute2, takes 67 ms for the VF lists of 8 PFs with 127 VFs
each, of the 100 ms that a scan may take (here 1.2 ms), and adds 10 MB and 0.35 s. Tests hold the two together.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping

import msgspec

from cvji.sysfs.netdevs import known_mac

# include/uapi/linux/netlink.h and rtnetlink.h
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_TYPE_MASK = 0x3FFF  # NLA_F_NESTED and NLA_F_NET_BYTEORDER are above it
# include/uapi/linux/if_link.h and if_addr.h
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ARPHRD_ETHER = 1  # its ifi_type (include/uapi/linux/if_arp.h)
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO = 3, 10, 18
_IFLA_VFINFO_LIST, _IFLA_EXT_MASK, _IFLA_PERM_ADDRESS = 22, 29, 54
_IFLA_INFO_KIND = 1
_IFLA_VF_MAC = 1
_VF_MAC = struct.Struct("=I6s")  # the first bytes of struct ifla_vf_mac's 32-byte field
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RT_SCOPE_UNIVERSE, _RT_SCOPE_SITE = 0, 200
# With statistics the list of 127 VFs would not fit into the 64 kB that one attribute may have.
_RTEXT_FILTER_VF, _RTEXT_FILTER_SKIP_STATS = 0x1, 0x8
_BUFFER = 1 << 20  # a link with a long VF list comes as one datagram
_ATTEMPTS = 4  # of a dump that the kernel says changed under it


class LinksError(Exception):
    """The kernel did not say what was asked."""


class Links(msgspec.Struct, frozen=True):
    """By interface name: its addresses (no prefix length; every IPv4, global IPv6), and its VFs' MACs by number.

    `names` are all interfaces; `kinds` what virtual ones are, such as bridge or veth; `permanent` the permanent
    addresses of those that have a master (from Linux 5.6 on).
    """

    ips: Mapping[str, tuple[str, ...]] = {}
    vf_macs: Mapping[str, Mapping[int, str]] = {}
    names: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = {}
    permanent: Mapping[str, str] = {}


def read_links() -> Links:
    """The links of this thread's network namespace. Raises LinksError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.bind((0, 0))
            kernel.settimeout(5.0)
            mask = _RTEXT_FILTER_VF | _RTEXT_FILTER_SKIP_STATS
            ask = _LINK.pack(0, 0, 0, 0, 0) + struct.pack("=HHI", 8, _IFLA_EXT_MASK, mask)
            links = _dump(kernel, _RTM_GETLINK, ask)
            addresses = _dump(kernel, _RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))
    except OSError as err:
        raise LinksError(f"rtnetlink: {err.strerror or err}") from None
    return read_dumps(links, addresses)


def read_dumps(links: list[bytes], addresses: list[bytes]) -> Links:
    """Understand the messages of a dump of links and one of addresses, each from its family header on."""
    names: dict[int, str] = {}
    kinds: dict[str, str] = {}
    permanent: dict[str, str] = {}
    vf_macs: dict[str, Mapping[int, str]] = {}
    ips: dict[str, set[bytes]] = {}
    for message in links:
        if len(message) < _LINK.size:
            continue
        _, link_type, index, *_ = _LINK.unpack_from(message)
        found = dict(_attributes(message, _LINK.size))
        name = names[index] = os.fsdecode(found.get(_IFLA_IFNAME, b"").rstrip(b"\0"))
        # An IPoIB PF says its own 20-byte address of every VF (ipoib_main.c, ipoib_get_vf_config).
        if link_type == _ARPHRD_ETHER and (macs := _vf_macs(found.get(_IFLA_VFINFO_LIST, b""))):
            vf_macs[name] = macs
        if kind := dict(_attributes(found.get(_IFLA_LINKINFO, b""), 0)).get(_IFLA_INFO_KIND):
            kinds[name] = kind.rstrip(b"\0").decode("ascii", "replace")
        address = found.get(_IFLA_PERM_ADDRESS, b"")
        if _IFLA_MASTER in found and len(address) in (6, 20) and (mac := known_mac(address.hex(":"))):
            permanent[name] = mac
    for message in addresses:
        if len(message) < _ADDRESS.size:
            continue
        family, _, _, scope, index = _ADDRESS.unpack_from(message)
        found = dict(_attributes(message, _ADDRESS.size))
        # Of a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is ours wherever it is given.
        address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
        useful = scope in (_RT_SCOPE_UNIVERSE, _RT_SCOPE_SITE) if family == socket.AF_INET6 else True
        if useful and index in names and len(address) == {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family):
            ips.setdefault(names[index], set()).add(address)
    shown = {name: tuple(_text(raw) for raw in sorted(found, key=lambda r: (len(r), r))) for name, found in ips.items()}
    return Links(shown, vf_macs, frozenset(names.values()), kinds, permanent)


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _vf_macs(raw: bytes) -> dict[int, str]:
    """The VFs that have a MAC in a PF's list; one that was never given one is all zero there."""
    found = {}
    for _, info in _attributes(raw, 0):
        for kind, value in _attributes(info, 0):
            if kind == _IFLA_VF_MAC and len(value) >= _VF_MAC.size:
                index, mac = _VF_MAC.unpack_from(value)
                if known := known_mac(mac.hex(":")):
                    found[index] = known
                break
    return found


def _attributes(raw: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in `raw` from `at` on; stops where one is not whole."""
    end = len(raw)
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if length < _ATTRIBUTE.size or at + length > end:
            return
        yield kind & _TYPE_MASK, raw[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _dump(kernel: socket.socket, kind: int, body: bytes) -> list[bytes]:
    """Every message of a dump. Raises LinksError or OSError."""
    wrong = ""
    for sequence in range(1, _ATTEMPTS + 1):
        length = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(length, kind, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, 0) + body)
        messages, wrong = _answer(kernel, sequence)
        if not wrong:
            return messages
    raise LinksError(f"rtnetlink: {wrong}")


def _answer(kernel: socket.socket, sequence: int) -> tuple[list[bytes], str]:
    """The messages up to the end of one dump, and why they are not all, or of no one moment ("" if they are)."""
    messages: list[bytes] = []
    wrong = ""
    while True:
        raw, _, flags, _ = kernel.recvmsg(_BUFFER)
        if flags & socket.MSG_TRUNC:
            raise LinksError(f"rtnetlink: a message over {_BUFFER} bytes")
        at = 0
        while at + _HEADER.size <= len(raw):
            length, kind, flags, number, _ = _HEADER.unpack_from(raw, at)
            if length < _HEADER.size or at + length > len(raw):
                break
            if number == sequence:
                if flags & _NLM_F_DUMP_INTR:
                    wrong = "links change faster than they can be listed"
                content = raw[at + _HEADER.size : at + length]
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    code = -int.from_bytes(content[:4], sys.byteorder, signed=True)
                    if kind == _NLMSG_ERROR:
                        raise LinksError(f"rtnetlink: {os.strerror(code)}")
                    # Not 0 where the dump failed on its way (net/netlink/af_netlink.c, netlink_dump_done).
                    return messages, os.strerror(code) if code > 0 else wrong
                if kind in (_RTM_NEWLINK, _RTM_NEWADDR):
                    messages.append(content)
            at += (length + 3) & ~3


class Subscription:
    """A socket that becomes readable when a link or an address of this network namespace changes."""

    def __init__(self) -> None:
        """Raises LinksError."""
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, _GROUPS))
        except OSError as err:
            raise LinksError(f"rtnetlink: {err.strerror or err}") from None

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Take what has come; it is not read: what matters is that something changed."""
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno != errno.ENOBUFS:  # more came than the socket holds: a change all the same
                    raise
