"""What a netdev's folder says: whether it is a port of the machine, its address, and the bond it is a member of."""

import re
from collections.abc import Mapping

from cvji.macs import ethernet_mac
from cvji.sysfs.nics import Bond, Netdev, natural
from cvji.sysfs.tree import Tree, base, is_virtual, members, printable

# ARPHRD_ETHER and ARPHRD_INFINIBAND (include/uapi/linux/if_arp.h).
_INFINIBAND = "32"
_LINK_TYPES = frozenset({"", "1", _INFINIBAND})
# Names of ports seen through an eswitch (net/devlink/port.c, __devlink_port_phys_port_name_get): a port of
# the wire is p0, or p0s1 when split; these are the ends of functions.
_REPRESENTOR = re.compile(r"(c\d+)?pf\d+((vf|sf)\d+)?", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}((:[0-9a-f]{2}){14})?", re.ASCII)
_TMFIFO = "mlxbf-tmfifo"  # drivers/platform/mellanox: a DPU's console network to its host, virtio by design
# Reasons of netdevs beside which a device may have a port that is out of sight.
_SECONDARY = (REPRESENTOR, CHILD) = ("representor of a function", "child of an InfiniBand interface")


class Netdevs:
    """The netdevs of one tree. `kinds` is what rtnetlink, where asked, calls the virtual ones (IFLA_INFO_KIND)."""

    def __init__(self, tree: Tree, kinds: Mapping[str, str]) -> None:
        self._tree = tree
        self._kinds = kinds
        self.by_device, self._virtual = members(tree, "net")
        self._physical = {name for netdevs in self.by_device.values() for name in netdevs}
        self._bonds: dict[str, bool] = {}  # masters, and whether they are a bond or team
        self._members: dict[str, list[str]] = {}
        self.left_out: dict[str, str] = {}

    def of(self, device: str) -> Mapping[str, str]:
        """The netdevs of a device, name to folder."""
        netdevs: Mapping[str, str] | None = self.by_device.get(device)
        if netdevs is None:
            names = self._tree.names(f"{device}/net", base(device)) or ()
            netdevs = {name: f"{device}/net/{name}" for name in names}
        return netdevs

    def ports(self, device: str) -> tuple[dict[str, str], bool]:
        """The netdevs of a device that are ports of the machine, name to folder, in natural order.

        And where there is none, whether a netdev is away: the folder of a device's netdevs stays, without an entry,
        while they are in another network namespace (their entries carry it as a tag: net/core/net-sysfs.c). A
        representor may be left there.
        """
        netdevs = self.of(device)
        reasons = {name: self._reason(name, netdevs[name]) for name in netdevs}
        found = {name: netdevs[name] for name in sorted(netdevs, key=natural) if reasons[name] == ""}
        if found or not all(reason is None or reason in _SECONDARY for reason in reasons.values()):
            return found, False
        away = self._tree.names(f"{device}/net", base(device)) is not None
        return found, away and not self._tree.exists(f"{device}/ieee80211")  # Wi-Fi, away with its phy

    def leave_out(self, device: str, reason: str) -> None:
        """No netdev of this device counts."""
        self.left_out.update(dict.fromkeys(map(printable, self.of(device)), reason))

    def read(self, name: str, folder: str) -> Netdev:
        """What one netdev says of itself."""
        tree = self._tree
        if not self.shown(name, folder):
            return Netdev()
        master = base(tree.link(f"{folder}/master", name))
        text = tree.value(f"{folder}/address", name, hardware_address, "", listed=True)
        state = tree.text(f"{folder}/operstate", name, listed=True)
        mac = known_mac(text)
        bond = master if master and self.shown(master, f"{folder}/master") and self._is_bond(master, mac) else ""
        permanent = ""
        if bond:
            # For the bonding driver alone; drivers/net/bonding/bond_sysfs_slave.c.
            permanent = known_mac(tree.value(f"{folder}/bonding_slave/perm_hwaddr", name, hardware_address, ""))
            self._members.setdefault(bond, []).append(name)
        if master and base(tree.link(f"{folder}/master", name)) != master:
            tree.gone(f"{folder}/master")  # so the address may be of either time; scan() sees to one that came
        return Netdev(name, mac, bool(text) and not text.strip("0:"), permanent, bond, state)

    def shown(self, name: str, folder: str) -> str:
        """The name, or "" and a fault where it has bytes that neither JSON nor a terminal can show."""
        if name.isprintable():
            return name
        self._tree.fault(printable(name), folder, "a name with unprintable bytes")
        return ""

    def bonds(self) -> tuple[Bond, ...]:
        """Each bond and team that a netdev that was read is a member of."""
        found = []
        for name, ports in sorted(self._members.items(), key=lambda item: natural(item[0])):
            folder = self._virtual.get(name, f"/class/net/{name}")
            mac = known_mac(self._tree.value(f"{folder}/address", name, hardware_address, "", listed=True))
            state = self._tree.text(f"{folder}/operstate", name, listed=True)
            found.append(Bond(name, mac, (), state, tuple(sorted(ports, key=natural))))
        return tuple(found)

    def compare(self) -> None:
        """Note each port that has come or gone since the beginning."""
        before = {*self._physical, *self._virtual}
        after = set(self._tree.names("/class/net", "") or ())
        for name in before ^ after:
            path = f"/class/net/{name}"
            if name in self._physical or not (name in self._virtual or is_virtual(self._tree.link(path, name))):
                self._tree.gone(path)

    def explain(self) -> None:
        """Add the virtual netdevs to what was left out; a node may have a thousand of them."""
        for name, folder in self._virtual.items():
            # The file bonding_masters is in the same folder.
            if name not in self._members and self._tree.exists(f"{folder}/type"):
                self.left_out[printable(name)] = self._kind(name, folder)

    def _kind(self, name: str, folder: str) -> str:
        if kind := self._kinds.get(name):
            return kind
        if self._tree.text(f"{folder}/type", printable(name)) == "772":  # ARPHRD_LOOPBACK
            return "loopback"
        kinds = (("bridge", "bridge"), ("bonding", "bond"), ("tun_flags", "tun"))
        return next((kind for part, kind in kinds if self._tree.exists(f"{folder}/{part}")), "virtual")

    def _is_bond(self, master: str, mac: str) -> bool:
        """Whether a master is a bond or a team: not a bridge, an Open vSwitch or a VRF.

        A team has no mark in sysfs: where rtnetlink was not asked, it is what shares its address with its members.
        """
        if (known := self._bonds.get(master)) is not None:
            return known
        folder = self._virtual.get(master, f"/class/net/{master}")
        if kind := self._kinds.get(master):
            found = kind in ("bond", "team")
        elif self._tree.exists(f"{folder}/bonding"):
            found = True
        elif self._tree.exists(f"{folder}/bridge"):
            found = False
        else:
            found = bool(mac) and self._tree.text(f"{folder}/address", master).lower() == mac
        self._bonds[master] = found
        return found

    def _reason(self, name: str, folder: str) -> str | None:
        """Why a netdev is no port of the machine; "" where it is one, None where it is not there."""
        tree = self._tree
        if not self.shown(name, folder):
            return "a name with unprintable bytes"
        kind = tree.text(f"{folder}/type", name, listed=True)
        if not kind and not tree.exists(folder):
            tree.fault(name, folder, "leads nowhere")
            return None
        reason = self._why_not(name, folder, kind)
        if reason:
            self.left_out[name] = reason
        return reason

    def _why_not(self, name: str, folder: str, kind: str) -> str:
        tree = self._tree
        if kind not in _LINK_TYPES:
            return f"neither Ethernet nor InfiniBand (type {kind})"
        if kind == _INFINIBAND:  # a P_Key child links to the same device as its parent (ipoib_vlan.c)
            return "" if tree.text(f"{folder}/iflink", name) == tree.text(f"{folder}/ifindex", name) else CHILD
        port = tree.text(f"{folder}/phys_port_name", name)
        # Before Linux 5.1 a representor of mlx5 was named by the VF's number alone.
        if _REPRESENTOR.fullmatch(port) or (port.isdecimal() and tree.text(f"{folder}/phys_switch_id", name)):
            return REPRESENTOR
        if tree.exists(f"{folder}/phy80211"):  # net/wireless/core.c
            return "Wi-Fi"
        # netvsc (drivers/net/hyperv) and net_failover give a VF's traffic and address to a NIC of their own.
        master = base(tree.link(f"{folder}/master", name))
        if master in self._physical:
            return f"enslaved to the NIC {printable(master)}, which has its address"
        if name.startswith("tmfifo_net"):  # the name that udev gives it; see tmfifo()
            return "tmfifo, a DPU's link to its host"
        mac = tree.value(f"{folder}/address", name, hardware_address, "", listed=True)
        return f"{mac} is a group address" if mac and mac.strip("0:") and not known_mac(mac) else ""


def tmfifo(tree: Tree, device: str) -> bool:
    """Whether a virtio device is the link between a BlueField DPU and its host."""
    return base(tree.link(f"{device.rpartition('/')[0]}/driver", base(device))) == _TMFIFO


def hardware_address(text: str) -> str:
    """An Ethernet (6 bytes) or InfiniBand (20 bytes) address in lower case. Raises ValueError where it is neither."""
    mac = text.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError("not a hardware address")
    return mac


def known_mac(mac: str) -> str:
    """`mac` where it names a NIC: neither all zero nor an Ethernet group address; else ""."""
    return mac if ethernet_mac(mac) or (len(mac) > 17 and mac.strip("0:")) else ""
