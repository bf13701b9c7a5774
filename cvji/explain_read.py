"""Reads what bears on one job, for `cvji explain`: a handful of requests, and what is refused is noted.

Never the pods of the whole cluster, and those of the namespace only where no label finds a job's pods.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import msgspec

from cvji import deployed
from cvji.jobs.kinds import POD, Job, Registry
from cvji.jobs.nics import Claim, NodeNics, read_claim
from cvji.jobs.pods import Pod, read_pod
from cvji.jobs.replay import Recorded, Snapshot
from cvji.jobs.report import RunReport
from cvji.kube.client import Api, ApiError
from cvji.kube.events import Resource
from cvji.kube.objects import Time, Wire
from cvji.kube.reading import one, pages
from cvji.kube.served import CLAIMS, PODS, served
from cvji.macs import pack
from cvji.nodes.inventory import Inventory, read_node_state
from cvji.nodes.objects import NODE_STATES
from cvji.reports.records import ListedRecord, RecordError
from cvji.reports.records import read as read_record
from cvji.settings import NodeConfigMode, NodeInterfaceType, SettingsError

CONNECTIONS = 8
FEW = 3  # objects of a kind that are read by name; more are read as a list
MAX_CLIMB = 8
EVENTS = Resource("", "v1", "Event", "events")
JOB_REPORT = ("cloudvision.arista.io", "JobReport")
# The labels by which an operator marks every pod of a job, those of child jobs included. Spark's executors belong to
# the driver pod of a Job, and carry their own label (Spark's KubernetesExecutor `spark-role`).
POD_SELECTORS: dict[tuple[str, str], tuple[str, ...]] = {
    ("batch", "Job"): ("controller-uid={uid}", "spark-role=executor"),
    **{
        ("kubeflow.org", f"{name}Job"): ("training.kubeflow.org/job-name={name}",)
        for name in ("PyTorch", "TF", "MPI", "XGBoost", "Paddle", "JAX")
    },
    ("jobset.x-k8s.io", "JobSet"): ("jobset.sigs.k8s.io/jobset-name={name}",),
    ("trainer.kubeflow.org", "TrainJob"): ("jobset.sigs.k8s.io/jobset-name={name}",),
    ("batch.volcano.sh", "Job"): ("volcano.sh/job-name={name}",),
}


class _Owner(Wire):
    uid: str = ""
    name: str = ""
    kind: str = ""
    api_version: str = ""


class Event(Wire):
    """What the informer has written on a job's object (cvji/informer/jobevents.py)."""

    reason: str = ""
    message: str = ""
    last_timestamp: Time | None = None

    @property
    def at(self) -> int:
        """When it was last seen, in seconds since the epoch; 0 if that is unknown."""
        return int(self.last_timestamp.timestamp()) if isinstance(self.last_timestamp, datetime) else 0


class _Metadata(Wire):
    owner_references: list[_Owner] | None = None


class _Object(Wire):
    metadata: _Metadata


_EVENT = msgspec.json.Decoder(Event)


class Reader:
    """Collects what bears on one job."""

    def __init__(self, api: Api, namespace: str, state_namespace: str, settings: deployed.Deployed) -> None:
        """Raises ApiError if the API server does not say what it serves, SettingsError if `settings` are wrong."""
        self._api, self._namespace, self._state_namespace = api, namespace, state_namespace
        self.registry = Registry(settings.kinds())
        self._kinds = {kind.key: kind for kind in self.registry}
        self._node_kind = NODE_STATES.get(settings.nodeconfig())
        wanted = {*self._kinds, CLAIMS, JOB_REPORT, *([self._node_kind] if self._node_kind else ())}
        answer = served(api, wanted)
        self.served = {**answer.found, POD: PODS}
        self.unread = [settings.unread] if settings.unread else []
        self.unread += [f"{'/'.join(key)}: its API group does not answer" for key in sorted(answer.unclear)]
        self.notes: dict[str, list[str]] = {}
        self.problems: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, Pod] = {}
        self.claims: list[Claim] = []
        self.nodes: list[NodeNics] = []
        self.records: list[ListedRecord] = []
        self.events: list[Event] = []
        self.records_read = False
        self._owners: dict[str, _Owner] = {}  # by uid: every owner that was named
        self._tried: set[str] = set()  # uids of owners that were looked for

    # --- one request -------------------------------------------------------------------------------------------

    def _refused(self, what: str, err: ApiError) -> None:
        line = f"{what}: {err}"
        if line not in self.unread:
            self.unread.append(line)

    def _list(self, resource: Resource, namespace: str, query: dict[str, str] | None = None) -> Iterator[msgspec.Raw]:
        """Each object, of which nothing is kept here; where the list is refused, that is noted."""
        try:
            yield from pages(self._api, resource.path(namespace), query)
        except ApiError as err:
            self._refused(f"{resource}{f' in namespace {namespace}' if namespace else ''}", err)

    def _one(self, resource: Resource, name: str) -> bytes | msgspec.Raw | None:
        """An object of the namespace, None if there is none. Raises ApiError.

        Where it may not be got it is listed: the informer's own role has `list` and no `get`.
        """
        try:
            return one(self._api, resource.path(self._namespace, name))
        except ApiError as err:
            if err.code != 403:
                raise
        chosen = {"fieldSelector": f"metadata.name={name}"}
        return next(pages(self._api, resource.path(self._namespace), chosen), None)

    def _note(self, note: str) -> None:
        where, _, what = note.partition(": ")
        notes = self.notes.setdefault(where, [])
        if what not in notes:
            notes.append(what)

    # --- objects -----------------------------------------------------------------------------------------------

    def find(self, name: str, wanted: str) -> list[str]:
        """The uids of the objects of that name and, if given, of that kind."""
        keys = [POD, *self._kinds] if not wanted else [key for key in (POD, *self._kinds) if self._is(key, wanted)]
        if not keys:
            known = ", ".join(sorted({kind.kind for kind in self.registry}))
            raise SettingsError(f"--kind is {wanted!r}: it must be Pod or one of {known}, or GROUP/KIND")
        resources = [self.served[key] for key in keys if key in self.served]
        refused: list[str] = []

        def get(resource: Resource) -> bytes | msgspec.Raw | None:
            try:
                return self._one(resource, name)
            except ApiError as err:
                refused.append(f"{resource} in namespace {self._namespace}: {err}")
                return None

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            bodies = list(pool.map(get, resources))
        found = zip(resources, bodies, strict=True)
        uids = [uid for resource, body in found if body and (uid := self._take(resource.key, body))]
        if not uids:
            self.unread += sorted(refused)
        return uids

    def _is(self, key: tuple[str, str], wanted: str) -> bool:
        group, _, kind = wanted.lower().rpartition("/")
        plural = self._kinds[key].plural if key in self._kinds else "pods"
        return kind in (key[1].lower(), plural) and (not group or group == key[0])

    def _get(self, resource: Resource, name: str) -> bytes | msgspec.Raw | None:
        try:
            return self._one(resource, name)
        except ApiError as err:
            self._refused(f"{resource} in namespace {self._namespace}", err)
            return None

    def _take(self, key: tuple[str, str], raw: bytes | msgspec.Raw, *, owned: bool = False) -> str:
        """Keep what is understood of one object, with `owned` if it is no pod without an owner.

        Its uid, "" if it cannot be read.
        """
        try:
            if key == POD:
                pod = read_pod(self.registry, raw, self._note)
                if owned and not pod.owner:
                    self.notes.pop(f"pod {pod.namespace}/{pod.name}", None)
                    return pod.uid
                self.pods[pod.uid] = pod
                uid = pod.uid
            else:
                job = self.registry.read(self._kinds[key], raw)
                self.jobs[job.uid] = job
                uid = job.uid
            owners = msgspec.json.decode(raw, type=_Object).metadata.owner_references or ()
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
            self.problems.append(f"an object of kind {key[1]} cannot be read: {err}")
            return ""
        self._owners.update({owner.uid: owner for owner in owners})
        return uid

    def climb(self) -> None:
        """Read the owners that are named and not known, and theirs."""
        for _ in range(MAX_CLIMB):
            found = [job.owner for job in self.jobs.values()] + [pod.owner for pod in self.pods.values()]
            missing: dict[tuple[str, str], list[_Owner]] = {}
            for uid in dict.fromkeys(owner for owner in found if owner):
                if uid in self.jobs or uid in self.pods or uid in self._tried or uid not in self._owners:
                    continue
                self._tried.add(uid)
                owner = self._owners[uid]
                missing.setdefault((owner.api_version.rpartition("/")[0], owner.kind), []).append(owner)
            if not missing:
                return
            for key, owners in missing.items():
                if (resource := self.served.get(key)) is None:
                    self.unread.append(f"{'/'.join(key)} is not served: the climb ends below it")
                elif len(owners) <= FEW:
                    for owner in owners:
                        if body := self._get(resource, owner.name):
                            self._take(key, body)
                else:
                    for raw in self._list(resource, self._namespace):
                        self._take(key, raw, owned=True)

    def read_pods(self, top: Job) -> None:
        """The pods of a job: by its operator's labels, or those of the namespace if these find none."""
        before = len(self.pods)
        for selector in POD_SELECTORS.get(top.kind.key, ()):
            query = {"labelSelector": selector.format(uid=top.uid, name=top.name)}
            for raw in self._list(PODS, self._namespace, query):
                self._take(POD, raw, owned=True)
        if len(self.pods) == before:
            for raw in self._list(PODS, self._namespace):
                self._take(POD, raw, owned=True)
        self.climb()
        if top.kind.ends_with_children:
            for key, resource in self.served.items():
                if key in self._kinds:
                    for raw in self._list(resource, self._namespace):
                        self._take(key, raw)

    def read_nics(self) -> None:
        """The claims of the namespace, and the inventory of the nodes whose network a pod shares."""
        if resource := self.served.get(CLAIMS):
            for raw in self._list(resource, self._namespace):
                try:
                    self.claims.append(read_claim(raw, self._note))
                except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
                    self.problems.append(f"a ResourceClaim cannot be read: {err}")
        nodes = sorted({pod.node for pod in self.pods.values() if pod.host_network and pod.node})
        if not nodes or self._node_kind is None or (resource := self.served.get(self._node_kind)) is None:
            return
        place = "" if self._node_kind == NODE_STATES[NodeConfigMode.SRIOVOPERATOR] else self._state_namespace
        queries = [{"fieldSelector": f"metadata.name={node}"} for node in nodes] if len(nodes) <= FEW else [None]
        inventory = Inventory()  # as the informer has it: of two states of a node the newer one is right
        for query in queries:
            for raw in self._list(resource, place, query):
                try:
                    state = read_node_state(NodeInterfaceType.ALL, raw)
                except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
                    self.problems.append(f"a {resource.kind} cannot be read: {err}")
                    continue
                if state.node in nodes and (warning := inventory.apply(state)):
                    self.problems.append(warning)
        self.nodes = [NodeNics(node, pack(inventory.fabric(node))) for node in nodes]

    def read_records(self, name: str) -> None:
        """The JobReports of the jobs of that name in the namespace, by the CRD's selectable fields if it has them."""
        resource = self.served.get(JOB_REPORT)
        if resource is None:
            self.unread.append("JobReport: its CRD is not installed, so what was reported is not known")
            return
        chosen = {"fieldSelector": f"spec.job.namespace={self._namespace},spec.job.name={name}"}
        try:
            try:
                self._take_records(resource, name, chosen)
            except ApiError as err:
                if err.code != 400:  # a CRD without these fields
                    raise
                self._take_records(resource, name, None)
        except ApiError as err:
            self._refused(f"{resource} in namespace {self._state_namespace} (what was reported is not known)", err)
        else:
            self.records_read = True

    def _take_records(self, resource: Resource, name: str, query: dict[str, str] | None) -> None:
        for raw in pages(self._api, resource.path(self._state_namespace), query):
            try:
                found = read_record("job", raw)
            except RecordError as err:
                self.problems.append(str(err))
                continue
            report = found.record.report
            if isinstance(report, RunReport) and (report.namespace, report.name) == (self._namespace, name):
                self.records.append(found)

    def read_events(self, uid: str) -> None:
        """What the informer's Events say of a job, oldest first: for those who may not read its records."""
        about = {"fieldSelector": f"involvedObject.uid={uid}"}
        for raw in self._list(EVENTS, self._namespace, about):
            try:
                event = _EVENT.decode(raw)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                continue  # somebody else's
            if event.reason.startswith("CloudVision"):
                self.events.append(event)
        self.events.sort(key=lambda event: event.at)

    def snapshot(self) -> Snapshot:
        """Everything that was read."""
        newest: dict[str, Recorded] = {}
        for listed in self.records:
            report = listed.record.report
            if isinstance(report, RunReport):
                # While newer specs are accepted, `since` stays that of the first acceptance.
                known = (listed.status.since, listed.status.delivered_at) if listed.status else ()
                at = max((report.start, *known))
                if report.job not in newest or newest[report.job].report.run < report.run:
                    newest[report.job] = Recorded(report, float(report.end or at))
        return Snapshot(
            jobs=tuple(reversed(self.jobs.values())),  # owners, which are read later, come first as they were made
            pods=tuple(pod for pod in self.pods.values() if pod.owner),
            claims=tuple(self.claims),
            nodes=tuple(self.nodes),
            watched=tuple(self.served.values()),
            recorded=tuple(newest.values()),
        )
