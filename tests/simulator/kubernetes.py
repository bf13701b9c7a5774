"""A Kubernetes API server as far as controllers see one: lists, watches, writes, discovery, faults.

kmock (by kopf's author) was looked at first: it answers scripted requests well, and has no store with
resourceVersions, paging, bookmarks, compaction or stalled watches, which are what is tested here.
"""

import base64
import copy
import gzip
import itertools
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tests.simulator.server import Handler, SimulatedServer

Object = dict[str, Any]

CORE_KINDS = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Event", "events"),
    ("", "v1", "Node", "nodes"),
    ("batch", "v1", "Job", "jobs"),
    ("coordination.k8s.io", "v1", "Lease", "leases"),
]
CLAIMS = ("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
RUN_AI = ("Training", "Inference", "Interactive", "Distributed", "DistributedInference", "External")
JOB_KINDS = [
    *(
        ("kubeflow.org", "v1", kind, kind.lower() + "s")
        for kind in ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")
    ),
    ("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"),
    ("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets"),
    ("argoproj.io", "v1alpha1", "Workflow", "workflows"),
    ("run.ai", "v1", "RunaiJob", "runaijobs"),
    *(("run.ai", "v2alpha1", f"{name}Workload", f"{name.lower()}workloads") for name in RUN_AI),
    ("run.ai", "v2alpha1", "WorkloadRunner", "workloadrunners"),
    ("batch.volcano.sh", "v1alpha1", "Job", "jobs"),
    ("ray.io", "v1", "RayJob", "rayjobs"),
    ("ray.io", "v1", "RayCluster", "rayclusters"),
]
# A kind that operators add by JOB_KINDS.
SPARK = ("sparkoperator.k8s.io", "v1beta2", "SparkApplication", "sparkapplications")
NODE_KINDS = [
    ("cloudvision.arista.io", "v1", "NodeInterfaceState", "nodeinterfacestates"),
    ("sriovnetwork.openshift.io", "v1", "SriovNetworkNodeState", "sriovnetworknodestates"),
]
REPORT_KINDS = [
    ("cloudvision.arista.io", "v1", "JobReport", "jobreports"),
    ("cloudvision.arista.io", "v1", "NodeReport", "nodereports"),
]
CLUSTER_SCOPED = {"nodes"}
BOOKMARK_SECONDS = 1.0
GZIP_FROM = 128 * 1024  # bytes; as kube-apiserver


class Kind(msgspec.Struct, frozen=True):
    """A served resource."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def namespaced(self) -> bool:
        return self.plural not in CLUSTER_SCOPED


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


class KubernetesSimulator(SimulatedServer):
    """The store, its log of events, and the server before it. Methods may be called from any thread."""

    def __init__(self, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        self.clock: Callable[[], float] = time.time  # of creationTimestamp and deletionTimestamp
        self._versions = itertools.count(1001)
        self.version = 1000
        self._compacted = 0
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._objects: dict[Key, Stored] = {}
        # By group and plural: version, type, namespace, the event's line.
        self._log: dict[tuple[str, str], list[tuple[int, str, str, bytes]]] = {}
        self._pages: dict[str, list[bytes]] = {}
        self._forbidden: set[tuple[str, str, str]] = set()
        self._watch_epoch = 0
        self.stalled = False
        self.deaf = ""  # a client's token: only that one's watches are silent
        self.configmap_limit = 1024 * 1024  # bytes, as kube-apiserver
        self.counts: Counter[str] = Counter()  # "list pods", "watch jobs", "patch leases", ...
        self.received: Counter[str] = Counter()  # bytes of bodies, by the same names
        self.requests: list[tuple[str, str]] = []
        for kind in CORE_KINDS:
            self.serve(*kind)
        super().__init__(_Handler, tls)

    # --- what is served -----------------------------------------------------------------------------

    def serve(self, group: str, version: str, kind: str, plural: str) -> None:
        """Serve a kind from now on, as after the installation of its CRD."""
        self._kinds[group, plural] = Kind(group, version, kind, plural)

    def unserve(self, group: str, plural: str) -> None:
        """Serve it no more."""
        del self._kinds[group, plural]
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

    # --- faults beyond the server's own -------------------------------------------------------------

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
        if key[:2] not in _NO_STATUS:
            meta["generation"] = generation
        if old is not None and obj == old.object:
            return copy.deepcopy(obj)  # a write that changes nothing is none
        self.version = next(self._versions)
        meta["resourceVersion"] = str(self.version)
        if key[:2] not in _NO_STATUS and (old is None or _specified(obj) != _specified(old.object)):
            meta["generation"] = generation + 1
        raw = msgspec.json.encode(obj)
        self._objects[key] = Stored(obj, raw)
        self._say(key, "MODIFIED" if old else "ADDED", raw)
        return copy.deepcopy(obj)

    def _say(self, key: Key, what: str, raw: bytes) -> None:
        line = b'{"type":"%s","object":%s}\n' % (what.encode(), raw)
        self._log.setdefault(key[:2], []).append((self.version, what, key[2], line))
        self.lock.notify_all()

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
            elif (kind.group, kind.plural) not in _NO_STATUS:
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


_NO_STATUS = {("", "configmaps"), ("", "secrets"), ("", "events"), ("coordination.k8s.io", "leases")}


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
