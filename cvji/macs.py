"""MAC addresses in the one form in which CloudVision finds switch ports by them."""

import re

_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}", re.ASCII)
_INFINIBAND = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){19}", re.ASCII)


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
