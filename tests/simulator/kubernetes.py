"""A Kubernetes API server as far as controllers see one: lists, watches, writes, discovery, faults.

kmock (by kopf's author) was looked at first: it answers scripted requests well, and has no store with
resourceVersions, paging, bookmarks, compaction or stalled watches, which are what is tested here.
"""

import base64
import copy
import gzip
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tests.simulator.kinds import CLAIMS, CORE_KINDS, CRDS, JOB_KINDS, NODE_KINDS, REPORT_KINDS, SPARK, Kind
from tests.simulator.server import Handler, SimulatedServer
from tests.simulator.store import NO_STATUS, Key, Object, RefusalError, Store, merge

CRD = (CRDS[0], CRDS[3])
METADATA = "as=PartialObjectMetadata"
GZIP_FROM = 128 * 1024  # bytes; as kube-apiserver


class KubernetesSimulator(Store, SimulatedServer):
    """The store and the server before it. Methods may be called from any thread."""

    def __init__(self, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        self._forbidden: set[tuple[str, str, str]] = set()
        self.configmap_limit = 1024 * 1024  # bytes, as kube-apiserver
        self.counts: Counter[str] = Counter()  # "list pods", "watch jobs", "patch leases", ...
        self.received: Counter[str] = Counter()  # bytes of bodies, by the same names
        self.requests: list[tuple[str, str]] = []
        Store.__init__(self)
        for kind in CORE_KINDS:
            self.serve(*kind)
        SimulatedServer.__init__(self, _Handler, tls, self.lock)

    # --- what is served -----------------------------------------------------------------------------

    def serve(self, group: str, version: str, kind: str, plural: str) -> None:
        """Serve a kind from now on, as after the installation of its CRD, of which there is metadata alone."""
        made = self._kinds[group, plural] = Kind(group, version, kind, plural)
        if made.crd:
            metadata = {"name": made.crd}
            with self.lock:
                self._store(
                    (*CRD, "", made.crd),
                    {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata},
                )

    def unserve(self, group: str, plural: str) -> None:
        """Serve it no more."""
        gone = self._kinds.pop((group, plural))
        if gone.crd:
            self.delete(*CRD, "", gone.crd)
        self.close_watches()

    def serve_all(self) -> None:
        """Serve every kind that cvji may look for."""
        for kind in [*JOB_KINDS, *NODE_KINDS, *REPORT_KINDS, CLAIMS, SPARK]:
            self.serve(*kind)

    def forbid(self, group: str, plural: str, *verbs: str) -> None:
        """Answer 403 to these verbs (get, list, watch, create, update, patch, delete)."""
        self._forbidden |= {(group, plural, verb) for verb in verbs}

    def allow(self, group: str, plural: str, *verbs: str) -> None:
        """Take `forbid` back."""
        self._forbidden -= {(group, plural, verb) for verb in verbs}

    # --- requests -----------------------------------------------------------------------------------

    def discovery(self, path: str) -> Object:
        """A discovery document. Raises RefusalError."""
        parts = path.strip("/").split("/")
        kinds = list(self._kinds.values())
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0-simulated"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups: dict[str, list[str]] = {}
            for kind in kinds:
                if kind.group and kind.version not in groups.setdefault(kind.group, []):
                    groups[kind.group].append(kind.version)
            versions = {
                group: [{"groupVersion": f"{group}/{v}", "version": v} for v in found]
                for group, found in groups.items()
            }
            listed = [{"name": g, "versions": v, "preferredVersion": v[0]} for g, v in versions.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        here = [k for k in kinds if k.api_version == "/".join(parts[1:])]
        if not here or len(parts) > 3:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        resources = []
        for kind in here:
            entry = {"name": kind.plural, "kind": kind.kind, "namespaced": kind.namespaced, "verbs": ["list"]}
            resources += [entry, entry | {"name": kind.plural + "/status"}]
        return {"kind": "APIResourceList", "groupVersion": "/".join(parts[1:]), "resources": resources}

    def check(self, kind: Kind, verb: str) -> None:
        """Count the request; raise RefusalError where it is forbidden."""
        self.counts[f"{verb} {kind.plural}"] += 1
        if (kind.group, kind.plural, verb) in self._forbidden:
            place = f'resource "{kind.plural}" in API group "{kind.group}"'
            raise RefusalError(403, "Forbidden", f"{kind.plural} is forbidden: cannot {verb} {place}")

    def remove(self, kind: Kind, key: Key, query: Mapping[str, str], body: Object) -> Object:
        """Delete as a client asks; the object as it was then. Raises RefusalError.

        As the API server does: a pod with a node that has not ended gets its grace period and goes at a second
        deletion, by the kubelet (pkg/registry/core/pod/strategy.go CheckGracefulDelete); an object with finalizers
        goes with the last of them; the rest go at once.
        """
        with self.lock:
            stored = self._objects.get(key)
            if stored is None:
                raise RefusalError(404, "NotFound", f'{kind.plural} "{key[3]}" not found')
            found = copy.deepcopy(stored.object)
            wanted = body.get("preconditions") or {}
            if any(found["metadata"].get(field) != value for field, value in wanted.items()):
                raise RefusalError(409, "Conflict", f'{kind.plural} "{key[3]}": the preconditions are not met')
            grace = 0
            placed = kind.kind == "Pod" and found.get("spec", {}).get("nodeName")
            if placed and found.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                asked = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
                default = found["spec"].get("terminationGracePeriodSeconds", 30)
                grace = int(default if asked is None else asked)
            meta = found.get("metadata", {})
            if not grace and not meta.get("finalizers"):
                self.delete(*key)
                return found
            if grace < meta.get("deletionGracePeriodSeconds", grace + 1):  # it can be made shorter only
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock() + grace))
                meta |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace}
            return self._store(key, found)

    def write(self, kind: Kind, verb: str, key: Key, status: bool, body: Object, *, apply: bool) -> Object:
        """Create, update or patch as a client asks. Raises RefusalError."""
        with self.lock:
            old = self._objects.get(key)
            if verb == "create" and old:
                raise RefusalError(409, "AlreadyExists", f'{kind.plural} "{key[3]}" already exists')
            if verb != "create" and not old and (status or not apply):
                raise RefusalError(404, "NotFound", f'{kind.plural} "{key[3]}" not found')
            asked = (body.get("metadata") or {}).get("resourceVersion")
            if old and asked and asked != old.object["metadata"]["resourceVersion"]:
                raise RefusalError(409, "Conflict", f'{kind.plural} "{key[3]}": the object has been modified')
            if verb == "update" and not asked and "." in kind.group and not kind.group.endswith(".k8s.io"):
                raise RefusalError(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
            before = copy.deepcopy(old.object) if old else {}
            after = merge(copy.deepcopy(before), body) if verb == "patch" else body
            if status:
                after = {**before, "status": after.get("status", {})}
            elif (kind.group, kind.plural) not in NO_STATUS:
                after.pop("status", None)
                if "status" in before:
                    after["status"] = before["status"]
            meta = after.setdefault("metadata", {})
            size = sum(len(base64.b64decode(value)) for value in (after.get("binaryData") or {}).values())
            if size > self.configmap_limit:
                raise RefusalError(422, "Invalid", f"Too long: must have at most {self.configmap_limit} bytes")
            meta["name"] = key[3]
            if kind.namespaced:
                meta["namespace"] = key[2]
            if old:
                kept = ("uid", "deletionTimestamp", "deletionGracePeriodSeconds")  # the API server's own
                meta |= {name: before["metadata"][name] for name in kept if name in before["metadata"]}
            after.setdefault("apiVersion", kind.api_version)
            after.setdefault("kind", kind.kind)
            made = self._store(key, after)
            if "deletionTimestamp" in meta and not (meta.get("finalizers") or meta["deletionGracePeriodSeconds"]):
                self.delete(*key)
            return made

    def find(self, path: str) -> tuple[Kind, str, str, bool] | None:
        """Kind, namespace, name and whether it is the status subresource; None for other paths."""
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) > 2:
            group, rest = "", parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, rest = parts[1], parts[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self._kinds.get((group, rest[0]))
        if kind is None:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        return kind, namespace, rest[1] if len(rest) > 1 else "", len(rest) > 2 and rest[2] == "status"


VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class _Handler(Handler):
    simulator: KubernetesSimulator

    def _serve(self) -> None:
        simulator = self.simulator
        body = self.body()
        with simulator.lock:
            simulator.requests.append((self.command, self.path))
        fault = simulator.next_fault(self.command)
        if simulator.delay:
            threading.Event().wait(simulator.delay)
        if fault is not None and not fault.after:
            self.misbehave(fault)
            return
        try:
            token = self.headers.get("Authorization", "").partition(" ")[2]
            if simulator.token and token != simulator.token:
                raise RefusalError(401, "Unauthorized", "Unauthorized")
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            found = simulator.find(url.path)
            if found is not None and found[0].plural == CRD[1] and METADATA not in self.headers.get("Accept", ""):
                raise RefusalError(406, "NotAcceptable", "of CRDs there is metadata alone")
            if found is not None and self.command == "GET" and query.get("watch"):
                self._watch(found[0], found[1], query)
                return
            answer = self._answer(url.path, found, query, body)
        except RefusalError as refusal:
            self.answer(refusal.code, refusal.body())
            return
        if fault is not None:
            self.misbehave(fault)
        elif len(answer) > GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.answer(200, gzip.compress(answer, 1), {"Content-Encoding": "gzip"})
        else:
            self.answer(200, answer)

    def _answer(
        self, path: str, found: tuple[Kind, str, str, bool] | None, query: Mapping[str, str], body: bytes
    ) -> bytes:
        simulator = self.simulator
        if found is None:
            return msgspec.json.encode(simulator.discovery(path))
        kind, namespace, name, status = found
        if self.command == "GET" and not name:
            simulator.check(kind, "list")
            return simulator.page(kind, namespace, query)
        verb = VERBS[self.command]
        simulator.check(kind, verb)
        simulator.received[f"{verb} {kind.plural}"] += len(body)
        key = (kind.group, kind.plural, namespace, name)
        if verb == "get":
            with simulator.lock:
                stored = simulator._objects.get(key)
                if stored is None:
                    raise RefusalError(404, "NotFound", f'{kind.plural} "{name}" not found')
                return stored.raw
        asked = msgspec.json.decode(body) if body else {}
        if verb == "delete":
            return msgspec.json.encode(simulator.remove(kind, key, query, asked))
        name = name or asked["metadata"]["name"]
        apply = "apply-patch" in self.headers.get("Content-Type", "")
        key = (kind.group, kind.plural, namespace, name)
        return msgspec.json.encode(simulator.write(kind, verb, key, status, asked, apply=apply))

    def _watch(self, kind: Kind, namespace: str, query: Mapping[str, str]) -> None:
        simulator = self.simulator
        simulator.check(kind, "watch")
        epoch = simulator.epoch
        version = int(query.get("resourceVersion") or simulator.version)
        until = time.monotonic() + float(query.get("timeoutSeconds", "3600"))
        token = self.headers.get("Authorization", "").partition(" ")[2]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while version >= 0:
            events = simulator.next_events(kind, namespace, version, epoch, until, token)
            if events is None:
                break
            lines, version = events
            if lines:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(lines), lines))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve
