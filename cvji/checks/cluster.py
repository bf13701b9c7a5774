"""Checks of the API server: reached, its clock, CRDs, permissions, and which job kinds it serves."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from cvji.checks.result import Result, failure, few, ok, skipped, warning
from cvji.checks.site import REPORTS, Site
from cvji.kube.client import ApiError
from cvji.kube.objects import Wire
from cvji.kube.served import CLAIMS
from cvji.kube.trigger import CRDS
from cvji.reports.objects import Job, JobSpec, NodeNic, NodeSpec
from cvji.reports.records import GROUP
from cvji.sysfs.state import State

CONNECTIONS = 8
CLOCK_OFF = 30.0  # seconds: a start time that is off by more names the wrong minute on a switch port
APPLY = "apply the CRDs of this version: `just deploy`, or `helm upgrade` with its chart"
ACCOUNT = "cv-job-informer"


class _Version(Wire):
    git_version: str = ""


def kubernetes(site: Site) -> Iterator[Result]:
    """The API server answers."""
    body = site.api.get("/version", timeout=10.0)
    try:
        version = msgspec.json.decode(body, type=_Version).git_version
    except (msgspec.MsgspecError, UnicodeError):
        version = "of an unknown version"
    yield ok("kubernetes", f"{version[:40]} at {site.api.host}")


def clock(site: Site) -> Iterator[Result]:
    """This machine's clock and the API server's are the same."""
    yield clock_result("clock of kubernetes", site.server_time, site.clock())


def clock_result(name: str, theirs: float | None, ours: float) -> Result:
    """What a server's Date header, in seconds since the epoch, says of this machine's clock."""
    if theirs is None:
        return skipped(name, "it sends no Date header")
    off = ours - theirs
    if abs(off) <= CLOCK_OFF:
        return ok(name, f"{abs(off):.0f} s apart" if abs(off) >= 1 else "the same")
    way = "ahead of" if off > 0 else "behind"
    return failure(name, f"this machine is {abs(off):.0f} s {way} it", "set both by NTP: start and end times are wrong")


# --- CRDs ------------------------------------------------------------------------------------------------------

_Schema = dict[str, "msgspec.Raw"]


def _fields(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


# By CRD: the fields that this program writes, by their path in the schema.
NEEDED: dict[str, dict[tuple[str, ...], set[str]]] = {
    f"jobreports.{GROUP}": {("spec",): _fields(JobSpec), ("spec", "job"): _fields(Job)},
    f"nodereports.{GROUP}": {("spec",): _fields(NodeSpec), ("spec", "interfaces", "items"): _fields(NodeNic)},
    f"nodeinterfacestates.{GROUP}": {("status",): _fields(State)},
}
_KINDS = {"jobreports": "JobReport", "nodereports": "NodeReport", "nodeinterfacestates": "NodeInterfaceState"}


def crds(site: Site) -> Iterator[Result]:
    """The CRDs are there, and have every field that this program writes."""
    for name, paths in NEEDED.items():
        kind = _KINDS[name.partition(".")[0]]
        if kind == "NodeInterfaceState" and site.node_state != (GROUP, kind):
            continue
        title = f"CRD {name}"
        try:
            body = site.api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", timeout=10.0)
        except ApiError as err:
            if err.code == 404 or (GROUP, kind) not in site.served.found:
                yield failure(title, "is not installed", APPLY)
            else:
                yield skipped(title, f"is served; its fields cannot be compared: {err}")
            continue
        missing = _missing(body, paths)
        if missing is None:
            yield failure(title, "serves no version v1 with a schema and a status subresource", APPLY)
        elif missing:
            yield failure(title, f"is of another version: it has no {few(sorted(missing))}", APPLY)
        else:
            yield ok(title, "is of this version")


class _Served(Wire):
    name: str = ""
    served: bool = False
    schema: dict[str, object] | None = None
    subresources: dict[str, object] | None = None


class _CrdSpec(Wire):
    versions: list[_Served]


class _Crd(Wire):
    spec: _CrdSpec


def _missing(body: bytes, paths: dict[tuple[str, ...], set[str]]) -> set[str] | None:
    """Fields, with their paths, that a CRD's v1 lacks; None if there is no such version."""
    try:
        versions = msgspec.json.decode(body, type=_Crd).spec.versions
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    found = next((version for version in versions if version.name == "v1" and version.served), None)
    if found is None or found.schema is None or "status" not in (found.subresources or {}):
        return None
    missing = set()
    for path, fields in paths.items():
        schema = found.schema.get("openAPIV3Schema")
        for step in path:
            schema = _below(schema, step)
        have = schema.get("properties") if isinstance(schema, dict) else None
        names = set(have) if isinstance(have, dict) else set()
        missing |= {".".join([*(step for step in path if step != "items"), name]) for name in fields - names}
    return missing


def _below(schema: object, step: str) -> object:
    if not isinstance(schema, dict):
        return None
    if step == "items":
        return schema.get("items")
    properties = schema.get("properties")
    return properties.get(step) if isinstance(properties, dict) else None


# --- permissions -------------------------------------------------------------------------------------------------


class Permission(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """authorization.k8s.io/v1 ResourceAttributes."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def target(self) -> str:
        """On what."""
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        what += f"/{self.subresource}" if self.subresource else ""
        return what + (f" in namespace {self.namespace}" if self.namespace else "")


def needed(site: Site) -> list[Permission]:
    """Everything that the informer must be allowed to do here; kinds that are not served need nothing."""
    keys = [kind.key for kind in site.registry] + [CLAIMS]
    watched = [site.served.found[key] for key in keys if key in site.served.found]
    names = site.settings.namespaces()
    place = names[0] if len(names) == 1 else ""
    found = [Permission(verb, "pods", namespace=place) for verb in ("list", "watch")]
    for resource in watched:
        found += [Permission(verb, resource.plural, resource.group, namespace=place) for verb in ("list", "watch")]
    if not place:  # with one namespace, new kinds are looked for without it
        found += [Permission(verb, CRDS.plural, CRDS.group) for verb in ("list", "watch")]
    here = site.namespace
    if site.node_state in site.served.found and site.node_state is not None:
        resource = site.served.found[site.node_state]
        space = here if resource.group == GROUP else ""
        found += [Permission(verb, resource.plural, resource.group, namespace=space) for verb in ("list", "watch")]
    leases = "coordination.k8s.io"
    found.append(Permission("create", "leases", leases, namespace=here))
    found += [Permission(verb, "leases", leases, namespace=here, name=ACCOUNT) for verb in ("get", "update")]
    for key in REPORTS.values():
        plural = f"{key[1].lower()}s"
        found += [
            Permission(verb, plural, GROUP, namespace=here) for verb in ("list", "get", "create", "update", "delete")
        ]
        found.append(Permission("update", plural, GROUP, "status", here))
    if site.settings.get("EVENTS").lower() not in ("false", "0", "no"):
        found += [Permission(verb, "events", namespace=place) for verb in ("create", "patch")]
    return found


class _ReviewStatus(Wire):
    allowed: bool = False


class _Review(Wire):
    status: _ReviewStatus | None = None


class _User(Wire):
    username: str = ""


class _Self(Wire):
    user_info: _User | None = None


class _SelfReview(Wire):
    status: _Self | None = None


def permissions(site: Site) -> Iterator[Result]:
    """The informer's service account may do all that it must: asked by access reviews, nothing is tried."""
    account = f"system:serviceaccount:{site.namespace}:{ACCOUNT}"
    itself = _username(site) == account
    wanted = needed(site)

    def allowed(permission: Permission) -> bool:
        kind = "SelfSubjectAccessReview" if itself else "SubjectAccessReview"
        spec: dict[str, object] = {"resourceAttributes": permission}
        if not itself:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{site.namespace}", "system:authenticated"]
            spec |= {"user": account, "groups": groups}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
        answer = site.api.send("POST", path, msgspec.json.encode(body), timeout=10.0)
        try:
            status = msgspec.json.decode(answer, type=_Review).status
        except (msgspec.MsgspecError, UnicodeError) as err:
            raise ApiError(0, f"an access review cannot be read: {err}") from None
        return status is not None and status.allowed

    try:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            found = list(pool.map(allowed, wanted))
    except ApiError as err:
        yield skipped("permissions", f"cannot be asked for {account}: {err}", "run this in the informer's pod")
        return
    missing = [permission for permission, may in zip(wanted, found, strict=True) if not may]
    if not missing:
        yield ok("permissions", f"{account} has all {len(wanted)}")
    advice = "apply the roles of this version: `just deploy`, or `helm upgrade` with its chart"
    if len(missing) == len(wanted):
        yield failure("permissions", f"{account} has none of its {len(wanted)}", advice)
        return
    verbs: dict[str, list[str]] = {}
    for permission in missing:
        verbs.setdefault(permission.target, []).append(permission.verb)
    for target, names in verbs.items():
        yield failure("permissions", f"{account} may not {', '.join(names)} {target}", advice)


def _username(site: Site) -> str:
    """Who asks; "" where the API server does not say (before Kubernetes 1.28)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = site.api.send(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", msgspec.json.encode(body), timeout=10.0
        )
        status = msgspec.json.decode(answer, type=_SelfReview).status
    except (ApiError, msgspec.MsgspecError, UnicodeError):
        return ""
    return status.user_info.username if status and status.user_info else ""


def kinds(site: Site) -> Iterator[Result]:
    """Which kinds of job are served, and so followed."""
    found = [kind for kind in site.registry if kind.key in site.served.found]
    unclear = sorted(f"{group}/{kind}" for group, kind in site.served.unclear)
    if unclear:
        advice = "see `kubectl get apiservices`: until it answers, jobs of these kinds are not seen"
        yield warning("job kinds", f"the API group of {few(unclear)} does not answer", advice)
    if CLAIMS not in site.served.found:
        yield ok("resource claims", "not served: NICs are found by annotation and node inventory")
    missing = [f"{group}/{kind}" for group, kind in site.settings.kinds() if (group, kind) not in site.served.found]
    if missing:
        yield warning("job kinds", f"JOB_KINDS names {few(missing)}, not served here", "install the CRD or drop it")
    yield ok("job kinds", f"{len(found)} of {len(list(site.registry))} are served: {few(map(str, found), 30)}")
