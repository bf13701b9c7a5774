"""A node's NICs as a table for people, in 100 columns."""

from collections.abc import Iterable

from cvji.sysfs.scan import Interface, Source, Sources, VirtualFunction

WIDTH = 100
_HEAD = ("INTERFACE", "TYPE", "MAC", "PCI ADDRESS", "RDMA", "STATE", "FROM")
_LETTERS = {Source.HERE: "h", Source.KERNEL: "k", Source.REMEMBERED: "r", None: "-"}
_LEGEND = (
    "TYPE, of a PF: how many VFs it has, and may have",
    "FROM, of a VF's name, MAC, addresses, RDMA: h seen here, k the PF's list, r remembered, - not known",
)
_Row = tuple[tuple[str, ...], tuple[str, ...]]  # the cells, the addresses


def table(interfaces: Iterable[Interface]) -> list[str]:
    """The lines of the table: each PF with its VFs beneath, addresses last or, where too long, on their own line."""
    rows: list[_Row] = []
    for interface in interfaces:
        rows.append(_interface(interface))
        rows += map(_vf, interface.vfs)
    if not rows:
        return ["no physical interfaces"]
    widths = [max(len(row[0][place]) for row in [(_HEAD, ()), *rows]) for place in range(len(_HEAD))]
    lines = [_line(_HEAD, widths, ("ADDRESSES",))]
    for cells, ips in rows:
        line = _line(cells, widths, ips)
        if len(line) <= WIDTH:
            lines.append(line)
        else:
            lines.append(_line(cells, widths, ()))
            lines += [f"      {ip}" for ip in ips]
    if any(row[0][-1] for row in rows):
        lines += ["", *_LEGEND]
    return lines


def _line(cells: tuple[str, ...], widths: list[int], ips: tuple[str, ...]) -> str:
    parts = [f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)]
    return " ".join([*parts, ",".join(ips)]).rstrip()


def _interface(nic: Interface) -> _Row:
    live = f" {nic.num_vfs or 0}/{nic.totalvfs}" if nic.totalvfs else ""
    kind = nic.type.value + live
    return (
        nic.name or "?",
        kind,
        _mac(nic.mac),
        nic.pci_address,
        nic.rdma_device,
        _state(nic.oper_state, away=nic.away),
        "",
    ), nic.ips


def _vf(vf: VirtualFunction) -> _Row:
    state = _state(vf.oper_state or (vf.driver if not vf.name else ""), away=vf.away)
    name = f"  {vf.name or '?'}"
    return (name, f"vf{vf.index}", _mac(vf.mac), vf.pci_address, vf.rdma_device, state, _from(vf.sources)), vf.ips


def _state(text: str, *, away: bool) -> str:
    return "away" if away else text


def _from(sources: Sources) -> str:
    return "".join(_LETTERS[source] for source in (sources.name, sources.mac, sources.ips, sources.rdma_device))


def _mac(mac: str) -> str:
    """An InfiniBand address has 20 bytes; its last 3 tell it from its neighbours."""
    return mac if len(mac) <= 17 else f"{mac[:5]}...{mac[-8:]}"
