"""What a program takes of memory, as Kubernetes counts it: the working set of its cgroup.

That is memory.current less inactive_file, which kubelet's metrics show and evictions go by. File pages that others had
in memory before are not in it, and those of its own that the kernel would take first are not counted. Where no cgroup can
be made, it is the memory that no file stands behind (RssAnon), which is nearly all of a working set.
"""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.e2e.kit import EXECUTABLE, Program

V2, V1 = ("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")
ROOT = Path("/sys/fs/cgroup")


class Measured(Program):
    """A program in a cgroup of its own, if one can be made."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        folder: Path,
        before: Sequence[str] = (),
        executable: str = EXECUTABLE,
    ) -> None:
        self._cgroup = make_cgroup()
        enter = ["sh", "-c", f'echo $$ >{self._cgroup}/cgroup.procs && exec "$@"', "sh"] if self._cgroup else []
        super().__init__(*arguments, env=env, folder=folder, before=[*enter, *before], executable=executable)

    @property
    def measure(self) -> str:
        """The name of what `memory` gives."""
        return "working set" if self._cgroup else "RssAnon"

    def memory(self) -> int:
        """Bytes: see the module."""
        if self._cgroup is None:
            return super().memory()
        current, inactive = V2 if (self._cgroup / V2[0]).exists() else V1
        stat = dict(line.split() for line in (self._cgroup / "memory.stat").read_text().splitlines())
        return int((self._cgroup / current).read_text()) - int(stat[inactive])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._cgroup is not None:
            self._cgroup.rmdir()


def make_cgroup() -> Path | None:
    """A memory cgroup below this process's own, of version 2 or 1; None without the permission or the controller."""
    for place in places():
        made = place / f"cvji-test-{uuid.uuid4().hex[:8]}"
        try:
            made.mkdir()
        except OSError:
            continue
        if any((made / current).exists() for current, _ in (V2, V1)) and os.access(made / "cgroup.procs", os.W_OK):
            return made
        made.rmdir()
    return None


def places() -> Iterator[Path]:
    """Where this process's cgroup may be mounted."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield ROOT / path[1:]
        elif "memory" in controllers.split(","):
            yield ROOT / "memory" / path[1:]
