"""Which MACs of the switch fabric a pod's network attachments have: its Multus annotation and its ResourceClaims.

Pure: an annotation or a claim in, MACs and what is wrong with it out.
"""

from collections.abc import Callable

import msgspec

from cvji.kube.objects import ClaimObject
from cvji.macs import ethernet_mac, infiniband_address

# Called with what helps somebody who looks for a NIC that is missing; None where nobody listens.
Note = Callable[[str], None] | None

# The API server refuses more than 256 KiB of annotations in all (apimachinery TotalAnnotationSizeLimitB).
ANNOTATION_LIMIT = 256 * 1024
# What plugins write where there is no address, beside zeros: the VPC CNI has "0" for its helper interface.
_NO_ADDRESS = frozenset({"", "none", "null", "nil", "n/a", "unknown"})


class NetworkStatus(msgspec.Struct, frozen=True, gc=False):
    """One entry of a network-status annotation (Network CRD De-facto Standard, section 4.1.2)."""

    interface: str | None = None
    mac: str | None = None
    default: bool | None = None
    device_info: msgspec.Raw = msgspec.field(name="device-info", default=msgspec.Raw())  # for notes alone


_NETWORKS = msgspec.json.Decoder(list[NetworkStatus] | NetworkStatus)


def multus_macs(annotation: str | None, note: Note = None) -> tuple[tuple[str, ...], str]:
    """The MACs of a pod's secondary attachments, and what is wrong with the annotation ("" if nothing).

    The cluster network's own entry (`default`, or eth0) is not an attachment to the switch fabric. An object in place
    of the list is a list of one, and an entry whose mac is plainly none is skipped.
    """
    if not annotation:
        return (), ""
    if len(annotation) > ANNOTATION_LIMIT:
        return (), f"network-status annotation of {len(annotation)} characters is over {ANNOTATION_LIMIT}"
    try:
        entries = _NETWORKS.decode(annotation)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        return (), f"network-status annotation is not a list of networks: {err}"
    macs = set()
    problem = ""
    for entry in [entries] if isinstance(entries, NetworkStatus) else entries:
        if not entry.mac or entry.default or entry.interface == "eth0":
            if note:
                own = entry.default or entry.interface == "eth0"
                why = "is the cluster network's own" if own else "has no mac"
                note(f"{entry.interface or 'an attachment'} is left out: it {why}")
            continue
        if mac := ethernet_mac(entry.mac):
            macs.add(mac)
            if note:
                note(f"{entry.interface} has {mac} {bytes(entry.device_info)[:300].decode('utf-8', 'replace')}")
        elif infiniband_address(entry.mac):
            if note:
                note(f"{entry.interface}: {entry.mac} is an InfiniBand address, on no Ethernet switch")
        elif not _plainly_none(entry.mac):
            problem = f"network-status annotation: mac {entry.mac[:64]!r} is not an Ethernet address"
    return tuple(sorted(macs)), problem


def claim_macs(claim: ClaimObject, note: Note = None) -> tuple[tuple[str, ...], str]:
    """The MACs of the devices that a ResourceClaim holds, and what is wrong with one of them ("" if nothing).

    What was allocated with adminAccess is observed and not held (KEP-5018).
    """
    status = claim.status
    macs = set()
    problem = ""
    observed = _observed(claim)
    for device in (status.devices if status else None) or ():
        address = device.network_data.hardware_address if device.network_data else None
        if not address:
            continue
        if observed((device.driver, device.pool, device.device)):
            if note:
                note(f"{address} is of a device with adminAccess, which holds nothing")
        elif mac := ethernet_mac(address):
            macs.add(mac)
        elif infiniband_address(address):
            if note:
                note(f"{address} is an InfiniBand address, on no Ethernet switch")
        elif not _plainly_none(address):
            problem = f"status.devices: hardwareAddress {address[:64]!r} is not an Ethernet address"
    return tuple(sorted(macs)), problem


def _observed(claim: ClaimObject) -> Callable[[tuple[str, str, str]], bool]:
    """Whether a device, by driver, pool and name, was allocated with adminAccess alone.

    Its allocation results say so, or the requests that they are for; a device without a result goes by all requests.
    """
    requests = (claim.spec.devices.requests if claim.spec and claim.spec.devices else None) or []
    admin = {
        request.name: bool(request.admin_access or (request.exactly and request.exactly.admin_access))
        for request in requests
    }
    allocation = claim.status.allocation if claim.status else None
    results = (allocation.devices.results if allocation and allocation.devices else None) or []
    by_device: dict[tuple[str, str, str], bool] = {}
    for result in results:
        device = (result.driver, result.pool, result.device)
        is_admin = bool(result.admin_access or admin.get(result.request.partition("/")[0]))
        by_device[device] = by_device.get(device, True) and is_admin
    every = bool(admin) and all(admin.values())
    return lambda device: by_device.get(device, every)


def _plainly_none(address: str) -> bool:
    """Whether the text stands for "no address", rather than for one that went wrong."""
    text = address.strip().lower()
    return text in _NO_ADDRESS or not text.strip("0:-.")
