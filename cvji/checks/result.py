"""The outcome of a check."""

import enum
from collections.abc import Iterable

import msgspec


class Level(enum.Enum):
    """How bad it is. SKIPPED: it cannot be looked at from here, and counts for nothing."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: what was looked at, how it is, and what to do about it."""

    name: str
    level: Level
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Result:
    """All is well."""
    return Result(name, Level.OK, message)


def skipped(name: str, message: str, advice: str = "") -> Result:
    """It cannot be looked at from here."""
    return Result(name, Level.SKIPPED, message, advice)


def warning(name: str, message: str, advice: str) -> Result:
    """Something will go wrong, or may be wrong."""
    return Result(name, Level.WARNING, message, advice)


def failure(name: str, message: str, advice: str) -> Result:
    """Something does not work."""
    return Result(name, Level.FAILURE, message, advice)


def exit_code(results: Iterable[Result]) -> int:
    """0: well, 1: warnings, 2: failures."""
    levels = {result.level for result in results}
    return 2 if Level.FAILURE in levels else 1 if Level.WARNING in levels else 0


def few(names: Iterable[str], most: int = 5) -> str:
    """The first of many names."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
