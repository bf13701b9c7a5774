"""A sys folder as files: reads that stay inside it, what could not be read, and what changed between two reads.

Knows paths and errors of sysfs, and no NIC.
"""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from posixpath import normpath
from typing import TypeVar

from cvji.sysfs.nics import Fault

# What reading an attribute answers where it simply does not apply: absent, link down, not supported by
# the driver, or the device went away in between.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV})
_SHORT = 4096  # a sysfs attribute is at most one page (Documentation/filesystems/sysfs.rst)

T = TypeVar("T")


class Tree:
    """A sys folder, by paths that begin at its root.

    Each read takes `who`, the interface or device that a fault is noted for. `listed` says that what is read is known
    to be there, every netdev having it or a folder having listed it: where it is not, something changed meanwhile.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self.faults: dict[tuple[str, str], Fault] = {}
        self.changed: dict[str, None] = {}

    def fault(self, who: str, path: str, reason: str) -> None:
        """Note a fault, once for each interface and file."""
        who, shown = printable(who), printable(path)
        self.faults.setdefault((who, shown), Fault(who, shown, reason))

    def gone(self, path: str) -> None:
        """Note that something changed while it was read."""
        self.changed[printable(path)] = None

    def text(self, path: str, who: str, *, listed: bool = False) -> str:
        """An attribute without its line end; "" where it does not apply or cannot be read."""
        try:
            fd = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                raw = os.read(fd, _SHORT)
            finally:
                os.close(fd)
        except OSError as err:
            if listed and err.errno in _NOT_THERE:
                self.gone(path)
            self._failed(err, path, who)
            return ""
        try:
            text = raw.decode("ascii").strip()
        except UnicodeDecodeError:
            text = "\0"
        if text.isprintable():
            return text
        self.fault(who, path, "not text")
        return ""

    def value(self, path: str, who: str, kind: Callable[[str], T], fallback: T, *, listed: bool = False) -> T:
        """An attribute read as `kind`, or `fallback`; text that `kind` refuses is a fault."""
        if not (text := self.text(path, who, listed=listed)):
            return fallback
        try:
            return kind(text)
        except ValueError:
            self.fault(who, path, f"{text[:64]!r} is not what belongs here")
            return fallback

    def link(self, path: str, who: str, *, listed: bool = False) -> str:
        """Where a link leads, as a path from the root of the tree; "" where there is no link."""
        try:
            target = os.readlink(self._root + path)  # noqa: PTH115 (as below)
        except OSError as err:
            if listed and err.errno == errno.ENOENT:  # EINVAL is a folder in its place: a copied tree
                self.gone(path)
            self._failed(err, path, who)
            return ""
        if target.startswith("/"):  # never in sysfs itself; a copied tree may have them
            return normpath(target.removeprefix("/sys"))
        return normpath(f"{path.rpartition('/')[0]}/{target}")

    def names(self, path: str, who: str) -> list[str] | None:
        """What a folder holds; None where there is no such folder."""
        try:
            return os.listdir(self._root + path)  # noqa: PTH208 (a Path for each of 1,000 VFs costs more)
        except OSError as err:
            self._failed(err, path, who)
            return None

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        return os.access(self._root + path, os.F_OK)

    def _failed(self, err: OSError, path: str, who: str) -> None:
        if err.errno not in _NOT_THERE:
            self.fault(who, path, os.strerror(err.errno or 0))


Members = Mapping[str, Mapping[str, str]]


def members(tree: Tree, kind: str) -> tuple[Members, Mapping[str, str]]:
    """Members of class/KIND, name to folder: by the device they belong to, and the virtual ones, which have none.

    Each member is a link, and its target has all of it: .../DEVICE/KIND/NAME.
    """
    found: dict[str, dict[str, str]] = {}
    virtual: dict[str, str] = {}
    for name in tree.names(f"/class/{kind}", "") or ():
        path = f"/class/{kind}/{name}"
        folder = tree.link(path, printable(name), listed=True)
        if is_virtual(folder):
            virtual[name] = folder
            continue
        if folder.endswith(f"/{kind}/{name}"):
            device = folder[: -len(kind) - len(name) - 2]
        else:  # a copied tree: a plain folder, or a link to one that is not under its device
            folder = folder or path
            device = tree.link(f"{folder}/device", printable(name))
        if device:
            found.setdefault(device, {})[name] = folder
        else:
            virtual[name] = folder
    return found, virtual


def is_virtual(folder: str) -> bool:
    """Whether the folder is one of a device that no hardware stands behind."""
    return folder.startswith("/devices/virtual/")


def base(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def printable(text: str) -> str:
    """`text` with what no terminal or JSON can show written as escapes."""
    return text if text.isprintable() else ascii(text)[1:-1]
