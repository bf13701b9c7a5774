"""A node's NICs as a table for people: in 100 columns, or a wide one that explains what is in it and what is not."""

from collections.abc import Iterable, Sequence

from cvji.sysfs.nics import Bond, Interface, LeftOut, Source, Sources, VirtualFunction

WIDTH = 100
_HEAD = ("INTERFACE", "TYPE", "MAC", "PCI ADDRESS", "RDMA", "STATE", "FROM")
_WIDE = ("DRIVER", "NUMA", "SPEED", "BUS", "BOND", "PERMANENT MAC")
_LETTERS = {Source.HERE: "h", Source.KERNEL: "k", Source.REMEMBERED: "r", None: "-"}
_COUNTS = "TYPE, of a PF: how many VFs it has, and may have"
_LETTERS_MEAN = "FROM, of a VF's name, MAC, addresses, RDMA: h seen here, k the PF's list, r remembered, - not known"
_BONDED = "BOND: what the NIC is a member of; its MAC is then the bond's, and its own the permanent one"
_SPEED = "SPEED: Mb/s"
_Row = tuple[tuple[str, ...], tuple[str, ...]]  # the cells, the addresses


def table(interfaces: Iterable[Interface], bonds: Iterable[Bond] = ()) -> list[str]:
    """The lines of the table: each PF with its VFs beneath, addresses last or, where too long, on their own line."""
    rows = _rows(interfaces, bonds, wide=False)
    if not rows:
        return ["no physical interfaces"]
    lines = _lines(_HEAD, rows, WIDTH)
    if any(row[0][-1] for row in rows):
        lines += ["", _COUNTS, _LETTERS_MEAN]
    return lines


def wide(interfaces: Iterable[Interface], bonds: Iterable[Bond], left_out: Iterable[LeftOut]) -> list[str]:
    """The same with more columns, of any width, what they mean, and each netdev that was left out with its reason."""
    rows = _rows(interfaces, bonds, wide=True)
    lines = _lines(_HEAD + _WIDE, rows, None) if rows else ["no physical interfaces"]
    lines += ["", _COUNTS, _LETTERS_MEAN, _SPEED, _BONDED] if rows else []
    reasons = [f"  {entry}" for entry in left_out]
    return [*lines, "", *(["left out:", *reasons] if reasons else ["nothing was left out"])]


def _rows(interfaces: Iterable[Interface], bonds: Iterable[Bond], *, wide: bool) -> list[_Row]:
    rows = []
    for interface in interfaces:
        rows.append(_interface(interface, wide=wide))
        rows += [_vf(vf, interface, wide=wide) for vf in interface.vfs]
    return rows + [_bond(bond, wide=wide) for bond in bonds]


def _lines(head: tuple[str, ...], rows: Sequence[_Row], limit: int | None) -> list[str]:
    widths = [max(len(row[0][place]) for row in [(head, ()), *rows]) for place in range(len(head))]
    lines = [_line(head, widths, ("ADDRESSES",))]
    for cells, ips in rows:
        line = _line(cells, widths, ips)
        if limit is None or len(line) <= limit:
            lines.append(line)
        else:
            lines.append(_line(cells, widths, ()))
            lines += [f"      {ip}" for ip in ips]
    return lines


def _line(cells: tuple[str, ...], widths: list[int], ips: tuple[str, ...]) -> str:
    parts = [f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)]
    return " ".join([*parts, ",".join(ips)]).rstrip()


def _interface(nic: Interface, *, wide: bool) -> _Row:
    live = f" {nic.num_vfs or 0}/{nic.totalvfs}" if nic.totalvfs else ""
    state = "away" if nic.away else nic.oper_state
    known = (_mac(nic.mac), nic.pci_address, nic.rdma_device, state, "")
    cells: tuple[str, ...] = (nic.name or "?", nic.type.value + live, *known)
    if wide:
        numbers = ("" if value is None else str(value) for value in (nic.numa_node, nic.speed))
        cells += (nic.driver, *numbers, nic.bus, nic.bond, _mac(nic.permanent_mac))
    return cells, nic.ips


def _vf(vf: VirtualFunction, pf: Interface, *, wide: bool) -> _Row:
    state = "away" if vf.away else vf.oper_state or (vf.driver if not vf.name else "")
    name = f"  {vf.name or '?'}"
    known = (_mac(vf.mac), vf.pci_address, vf.rdma_device, state, _from(vf.sources))
    cells: tuple[str, ...] = (name, f"vf{vf.index}", *known)
    if wide:
        numa = "" if pf.numa_node is None else str(pf.numa_node)
        cells += (vf.driver, numa, "", "pci", vf.bond, _mac(vf.permanent_mac))
    return cells, vf.ips


def _bond(bond: Bond, *, wide: bool) -> _Row:
    cells = (bond.name, f"bond of {len(bond.members)}", _mac(bond.mac), "", "", bond.oper_state, "")
    return cells + ("",) * len(_WIDE) if wide else cells, bond.ips


def _from(sources: Sources) -> str:
    return "".join(_LETTERS[source] for source in (sources.name, sources.mac, sources.ips, sources.rdma_device))


def _mac(mac: str) -> str:
    """An InfiniBand address has 20 bytes; its last 3 distinguish it from others."""
    return mac if len(mac) <= 17 else f"{mac[:5]}...{mac[-8:]}"
