"""What a simulated API server holds: objects with their versions, and the log of events that watches read."""

import base64
import copy
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.simulator.kinds import Kind

Object = dict[str, Any]
BOOKMARK_SECONDS = 1.0


class Stored(msgspec.Struct):
    """An object and its bytes."""

    object: Object
    raw: bytes


class RefusalError(Exception):
    """An error answer."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def body(self) -> bytes:
        return msgspec.json.encode(
            {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.code}
            | {"reason": self.reason, "message": str(self)}
        )


Key = tuple[str, str, str, str]  # group, plural, namespace, name


class Store:
    """Objects, and what happened to them. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.clock: Callable[[], float] = time.time  # of creationTimestamp and deletionTimestamp
        self._versions = itertools.count(1001)
        self.version = 1000
        self._compacted = 0
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._objects: dict[Key, Stored] = {}
        # By group and plural: version, type, namespace, the event's line.
        self._log: dict[tuple[str, str], list[tuple[int, str, str, bytes]]] = {}
        self._pages: dict[str, list[bytes]] = {}
        self._watch_epoch = 0
        self.stalled = False
        self.deaf = ""  # a client's token: only that one's watches are silent

    # --- faults -------------------------------------------------------------------------------------

    def close_watches(self) -> None:
        """End every watch, as the server does at its timeout."""
        with self.lock:
            self._watch_epoch += 1
            self.lock.notify_all()

    def stall(self, stalled: bool = True, token: str = "") -> None:
        """Half-open watches: connected and silent; with `token`, only the open ones of that client."""
        with self.lock:
            if token:
                self.deaf = token if stalled else ""
            else:
                self.stalled = stalled
            self.lock.notify_all()

    def compact(self) -> None:
        """Forget history: watches from older versions, and lists half read, get 410."""
        with self.lock:
            self._compacted = self.version
            self._log.clear()
            self._pages.clear()
            self.lock.notify_all()

    # --- objects ------------------------------------------------------------------------------------

    def kind_of(self, obj: Mapping[str, Any]) -> Kind:
        """The served kind of an object, by its apiVersion and kind."""
        group = obj["apiVersion"].rpartition("/")[0]
        return next(k for k in self._kinds.values() if k.group == group and k.kind == obj["kind"])

    def create(self, obj: Object) -> Object:
        """Create or replace an object, status and all."""
        kind = self.kind_of(obj)
        meta = obj["metadata"]
        key = (kind.group, kind.plural, meta.get("namespace", ""), meta["name"])
        with self.lock:
            return self._store(key, copy.deepcopy(obj))

    apply = create

    def put_raw(self, group: str, plural: str, namespace: str, name: str, raw: bytes) -> None:
        """Store bytes as they are, however wrong. `VERSION` in them becomes the resourceVersion."""
        with self.lock:
            self.version = next(self._versions)
            raw = raw.replace(b"VERSION", str(self.version).encode())
            key = (group, plural, namespace, name)
            kind = "MODIFIED" if key in self._objects else "ADDED"
            self._objects[key] = Stored({}, raw)
            self._say(key, kind, raw)

    def patch(self, group: str, plural: str, namespace: str, name: str, change: Object) -> Object:
        """Merge `change` into an object (null removes), status and all."""
        with self.lock:
            key = (group, plural, namespace, name)
            return self._store(key, merge(copy.deepcopy(self._objects[key].object), change))

    def delete(self, group: str, plural: str, namespace: str, name: str) -> None:
        """Delete an object at once."""
        with self.lock:
            stored = self._objects.pop((group, plural, namespace, name))
            self.version = next(self._versions)
            last = copy.deepcopy(stored.object)
            if last:
                last["metadata"]["resourceVersion"] = str(self.version)
            raw = msgspec.json.encode(last) if last else stored.raw
            self._say((group, plural, namespace, name), "DELETED", raw)

    def get(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """A copy of an object, or None."""
        with self.lock:
            stored = self._objects.get((group, plural, namespace, name))
            return copy.deepcopy(stored.object) if stored else None

    def names(self, group: str, plural: str) -> list[tuple[str, str]]:
        """Namespace and name of every object of a kind."""
        with self.lock:
            return [key[2:] for key in self._objects if key[:2] == (group, plural)]

    def collect_garbage(self) -> None:
        """Delete, as the garbage collector does, what no owner of is left."""
        with self.lock:
            uids = {s.object["metadata"]["uid"] for s in self._objects.values() if s.object}
            lost = [
                key
                for key, s in self._objects.items()
                if (refs := s.object.get("metadata", {}).get("ownerReferences"))
                and not any(ref["uid"] in uids for ref in refs)
            ]
        for key in lost:
            self.delete(*key)
        if lost:
            self.collect_garbage()

    def _store(self, key: Key, obj: Object) -> Object:
        old = self._objects.get(key)
        meta = obj["metadata"]
        before = old.object.get("metadata", {}) if old else {}
        meta.setdefault("uid", before.get("uid") or f"uid-{key[1]}-{key[2]}-{key[3]}-{self.version}")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock()))
        meta.setdefault("creationTimestamp", before.get("creationTimestamp") or stamp)
        meta["resourceVersion"] = before.get("resourceVersion", "")
        generation = before.get("generation", 0)
        if key[:2] not in NO_STATUS:
            meta["generation"] = generation
        if old is not None and obj == old.object:
            return copy.deepcopy(obj)  # a write that changes nothing is none
        self.version = next(self._versions)
        meta["resourceVersion"] = str(self.version)
        if key[:2] not in NO_STATUS and (old is None or _specified(obj) != _specified(old.object)):
            meta["generation"] = generation + 1
        raw = msgspec.json.encode(obj)
        self._objects[key] = Stored(obj, raw)
        self._say(key, "MODIFIED" if old else "ADDED", raw)
        return copy.deepcopy(obj)

    def _say(self, key: Key, what: str, raw: bytes) -> None:
        line = b'{"type":"%s","object":%s}\n' % (what.encode(), raw)
        self._log.setdefault(key[:2], []).append((self.version, what, key[2], line))
        self.lock.notify_all()

    # --- what clients read ---------------------------------------------------------------------------

    def page(self, kind: Kind, namespace: str, query: Mapping[str, str]) -> bytes:
        """One page of a list. Raises RefusalError."""
        with self.lock:
            token = query.get("continue", "")
            if token:
                if token not in self._pages:
                    raise RefusalError(410, "Expired", "The provided continue parameter is too old")
                items = self._pages.pop(token)
                version = int(base64.b64decode(token).decode().split(":")[0])
            else:
                label, _, chosen = query.get("fieldSelector", "").partition("=")
                if label not in ("", "metadata.name", "involvedObject.uid"):
                    raise RefusalError(400, "BadRequest", f"field label not supported: {label}")
                field, _, name = label.partition(".")
                items = [
                    stored.raw
                    for key, stored in self._objects.items()
                    if key[:2] == (kind.group, kind.plural) and namespace in ("", key[2])
                    if not label or stored.object.get(field, {}).get(name) == chosen
                ]
                version = self.version
            limit = int(query.get("limit", "0")) or len(items)
            more = ""
            if len(items) > limit:
                more = base64.b64encode(f"{version}:{len(items)}:{kind.plural}:{id(items)}".encode()).decode()
                self._pages[more] = items[limit:]
        meta = msgspec.json.encode({"resourceVersion": str(version), "continue": more})
        head = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":['
        start = head % (kind.kind.encode(), kind.api_version.encode(), meta)
        return start + b",".join(items[:limit]) + b"]}"

    def next_events(
        self, kind: Kind, namespace: str, version: int, epoch: int, until: float, token: str = ""
    ) -> tuple[bytes, int] | None:
        """Lines of a watch after `version`, waiting for them; a bookmark when quiet; None when it is over."""
        quiet = time.monotonic() + BOOKMARK_SECONDS
        with self.lock:
            while True:
                now = time.monotonic()
                if epoch != self._watch_epoch or now >= until:
                    return None
                if not self.stalled and (not token or token != self.deaf):
                    if version < self._compacted:
                        gone = RefusalError(410, "Expired", "too old resource version")
                        return b'{"type":"ERROR","object":%s}\n' % gone.body(), -1
                    log = self._log.get((kind.group, kind.plural), [])
                    start = next((i for i in range(len(log), 0, -1) if log[i - 1][0] <= version), 0)
                    if start < len(log):
                        lines = [line for _, _, place, line in log[start:] if namespace in ("", place)]
                        return b"".join(lines), log[-1][0]
                    if now >= quiet:
                        meta = {"resourceVersion": str(self.version), "creationTimestamp": None}
                        mark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
                        line = msgspec.json.encode({"type": "BOOKMARK", "object": mark}) + b"\n"
                        return line, max(version, self.version)
                self.lock.wait(min(until, quiet) - now if quiet > now else 0.2)

    @property
    def epoch(self) -> int:
        return self._watch_epoch


NO_STATUS = {("", "configmaps"), ("", "secrets"), ("", "events"), ("coordination.k8s.io", "leases")}


def _specified(obj: Object) -> Object:
    """What metadata.generation counts the changes of."""
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def merge(into: Object, change: Mapping[str, Any]) -> Object:
    """A JSON merge patch (RFC 7396)."""
    for name, value in change.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, Mapping):
            inner = into.get(name)
            into[name] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            into[name] = copy.deepcopy(value)
    return into
