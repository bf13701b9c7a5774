"""What a measured row is, how a process is measured from outside, and how rows are printed."""

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import sysconf
from pathlib import Path

import msgspec

TICK = sysconf("SC_CLK_TCK")
QUIET_POLL = 0.05


class Row(msgspec.Struct, frozen=True):
    """One figure. `most` or `least` is what it must keep to; `note` says how it came about."""

    subject: str
    figure: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether it keeps to what it must."""
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


Bench = Callable[..., Iterable[Row]]  # of an empty folder, and for some of options by name
BENCHES: dict[str, Bench] = {}


def bench(run: Bench) -> Bench:
    """Register a bench under its function's name. Its options have defaults."""
    BENCHES[run.__name__] = run
    return run


class Usage:
    """What /proc says of another process: nothing of ours, the simulators', is in it."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        """CPU seconds so far, of user and kernel."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def _status(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name + ":")).split()[1])

    def rss(self) -> float:
        """Resident memory, in MB."""
        return self._status("VmRSS") * 1024 / 1e6

    def peak(self) -> float:
        """The most resident memory so far, in MB."""
        return self._status("VmHWM") * 1024 / 1e6

    def forget_peak(self) -> None:
        """Let `peak` begin again from here (proc(5), clear_refs)."""
        (self._proc / "clear_refs").write_text("5")

    def threads(self) -> int:
        """Threads now."""
        return self._status("Threads")

    def quiet(self, seconds: float, timeout: float = 600.0) -> None:
        """Wait until the process has used next to no CPU for so long."""
        deadline = time.monotonic() + timeout
        since, used = time.monotonic(), self.cpu()
        while time.monotonic() - since < seconds:
            time.sleep(QUIET_POLL)
            if (now := self.cpu()) - used > 0.02 * seconds:
                since, used = time.monotonic(), now
            if time.monotonic() > deadline:
                raise TimeoutError(f"not quiet within {timeout:g} s")


def children() -> float:
    """CPU seconds of ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def percentiles(
    subject: str,
    what: str,
    seconds: Sequence[float],
    *,
    limits: Mapping[str, float | None] | None = None,
    note: str = "",
) -> list[Row]:
    """Rows for p50, p90, p99 and the worst, in milliseconds, each with its limit."""
    cuts = statistics.quantiles([*seconds, seconds[-1]], n=100, method="inclusive")
    found = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(seconds)}
    most = limits or {}
    return [
        Row(subject, f"{what} {name}", value * 1000, "ms", most=most.get(name), note=note)
        for name, value in found.items()
    ]


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as lines: what was measured, the figure, and what it must keep to."""
    lines = [f"{'SUBJECT':<32} {'FIGURE':<36} {'VALUE':>12} {'':<10} {'LIMIT':<12} NOTE", ""]
    for row in rows:
        limit = f"<= {row.most:g}" if row.most is not None else f">= {row.least:g}" if row.least is not None else ""
        if row.most is not None and row.most == row.least:
            limit = f"= {row.most:g}"
        number = f"{row.value:,.0f}" if row.value >= 100 or row.value == int(row.value) else f"{row.value:.3g}"
        mark = "" if row.kept else "  MISSED"
        lines.append(f"{row.subject:<32} {row.figure:<36} {number:>12} {row.unit:<10} {limit:<12} {row.note}{mark}")
    return lines
