"""MAC addresses: the one form in which CloudVision finds switch ports by them, and how they are kept in memory."""

import re
from collections.abc import Iterable

_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}", re.ASCII)
_INFINIBAND = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){19}", re.ASCII)
SIZE = 6  # bytes of a packed MAC address


def ethernet_mac(text: str) -> str | None:
    """A 48-bit Ethernet address as CloudVision finds switch ports by it: lower case, colons; else None.

    Upper case and dashes are accepted. The all-zero address, which drivers use for "not set", is not; nor is a group
    address, broadcast among them, which is no NIC's own: the first bit on the wire is the lowest of the first byte
    (IEEE 802, 8.2.2).
    """
    mac = text.strip().lower()
    if not _MAC.fullmatch(mac) or mac[1] in "13579bdf":
        return None
    mac = mac.replace("-", ":")
    return None if mac == "00:00:00:00:00:00" else mac


def infiniband_address(text: str) -> bool:
    """Whether this is a 20-byte IPoIB hardware address: sound, and of no use on an Ethernet switch."""
    return _INFINIBAND.fullmatch(text.strip().lower()) is not None


def pack(macs: Iterable[str]) -> bytes:
    """MAC addresses, each as `ethernet_mac` gives it, as six bytes each: sorted, each once.

    As text a MAC address takes 66 bytes of memory, packed it takes 6, and a large cluster has a million.
    """
    return b"".join(sorted({bytes.fromhex(mac.replace(":", "")) for mac in macs}))


def unpack(packed: bytes) -> tuple[str, ...]:
    """The MAC addresses that were packed, sorted."""
    return tuple(mac.hex(":") for mac in split(packed))


def split(packed: bytes) -> list[bytes]:
    """The packed MAC addresses one by one."""
    return [packed[start : start + SIZE] for start in range(0, len(packed), SIZE)]
