"""What a CloudVision resource API holds: Set merges, Delete, GetOne, GetAll, and every value kept with its time.

The rules are those of the public API guide (aristanetworks/cloudvision-apis, docs/content/rpcs). Knows no HTTP and
nothing of jobs or nodes; values are JSON objects in snake_case.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

Object = dict[str, Any]
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_UNDERSCORE = re.compile(r"_([a-z0-9])")


class Change(msgspec.Struct, frozen=True):
    """What a resource became at a time (seconds since 1970); None: it was deleted."""

    at: float
    value: Object | None


class Resources:
    """All resources of one kind, by key. `held` is what a GetAll answers now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.held: dict[str, Object] = {}
        self.changes: dict[str, list[Change]] = {}

    def set(self, key: str, change: Object) -> float:
        """Merge `change` into the resource; when."""
        self.held[key] = merged(self.held.get(key, {}), change)
        return self._note(key, self.held[key])

    def delete(self, key: str) -> float:
        """Forget the resource, if it is there; when. A later Set creates it with nothing of the old one."""
        self.held.pop(key, None)
        return self._note(key, None)

    def _note(self, key: str, value: Object | None) -> float:
        at = self._clock()
        self.changes.setdefault(key, []).append(Change(at, value))
        return at

    def get(self, key: str, at: float | None = None) -> Change | None:
        """The change that made the resource what it is, or was at a time; None where there is no resource then."""
        if at is None and key not in self.held:
            return None
        past = [change for change in self.changes.get(key, ()) if at is None or change.at <= at]
        return past[-1] if past and past[-1].value is not None else None

    def matching(self, filters: Iterable[Object]) -> Iterator[Change]:
        """Every resource that is equal to one of the filters in all that it sets; all where there is no filter."""
        filters = list(filters)
        for key, value in list(self.held.items()):
            if not filters or any(_matches(value, wanted) for wanted in filters):
                yield self.changes[key][-1]

    def history(self) -> dict[str, list[Any]]:
        """What each resource was after each change; None after a deletion."""
        return {key: [change.value for change in changes] for key, changes in self.changes.items()}

    def forget(self) -> None:
        """Lose everything, as a CloudVision that was set up again."""
        self.held.clear()
        self.changes.clear()


def merged(into: Object, change: Object) -> Object:
    """A new object: `into` with what `change` populates.

    Absent and null keep; an object is merged; a list in its wrapper `{"values": [...]}`, empty ones too, and a
    scalar replace.
    """
    result = dict(into)
    for name, value in change.items():
        if isinstance(value, dict):
            result[name] = merged(result.get(name, {}), value)
        elif value is not None:
            result[name] = value
    return result


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(_matches(value.get(name), part) for name, part in wanted.items())
    return bool(value == wanted)


def snake_case(document: Any) -> Any:
    """A request as stored: names in snake_case, nulls left out. Raises ValueError where a name is there twice."""
    if isinstance(document, list):
        return [snake_case(item) for item in document]
    if not isinstance(document, dict):
        return document
    found: Object = {}
    for name, value in document.items():
        plain = _CAPITAL.sub(lambda match: "_" + match[1].lower(), name)
        if value is not None and plain in found:
            raise ValueError(f"{name} is there twice")
        if value is not None:
            found[plain] = snake_case(value)
    return found


def camel_case(document: Any) -> Any:
    """A value as it is answered: names in lowerCamelCase."""
    if isinstance(document, list):
        return [camel_case(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {_UNDERSCORE.sub(lambda match: match[1].upper(), name): camel_case(part) for name, part in document.items()}


def rfc3339(at: float) -> str:
    """A time as it is answered."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
