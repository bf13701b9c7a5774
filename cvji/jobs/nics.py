"""Which NICs a pod holds, by docs/design.md#nics-of-a-pod: each source of that knowledge is one class.

A new source is a class with the methods of `Source`, and its name in `Sources`. Knows no job, no run and no time.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

import msgspec

from cvji.jobs.attachments import Note, claim_macs
from cvji.jobs.pods import Pod, Stage
from cvji.jobs.report import NOTHING, Holds
from cvji.kube.objects import ClaimObject
from cvji.macs import pack, split
from cvji.settings import Mode

K = TypeVar("K")
V = TypeVar("V")
_CLAIM = msgspec.json.Decoder(ClaimObject)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A ResourceClaim, understood: its devices' packed MACs and the (uid, name) of pods that it is reserved for."""

    uid: str
    namespace: str
    name: str
    macs: bytes
    reserved_for: tuple[tuple[str, str], ...]
    problem: str

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)


def read_claim(raw: bytes | msgspec.Raw, note: Note = None) -> Claim:
    """Understand one ResourceClaim. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = _CLAIM.decode(raw)
    meta, status = found.metadata, found.status
    named = note and (lambda what: note(f"claim {meta.namespace}/{meta.name}: {what}"))
    macs, problem = claim_macs(found, named)
    return Claim(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        macs=pack(macs),
        reserved_for=tuple(
            (user.uid, user.name) for user in (status.reserved_for if status else None) or () if user.resource == "pods"
        ),
        problem=problem,
    )


class ClaimChanged(msgspec.Struct, frozen=True):
    """A claim is now `new`, or is gone."""

    key: tuple[str, str]
    new: Claim | None


class NodeNics(msgspec.Struct, frozen=True):
    """The packed MACs that hostNetwork pods on a node hold; none if the node's inventory is gone."""

    node: str
    macs: bytes


SourceEvent = ClaimChanged | NodeNics


class Source(Protocol):
    """One way in which a pod comes to hold NICs. `name` is what people call it."""

    name: str

    def put(self, pod: Pod) -> None:
        """A pod was made or changed."""

    def remove(self, pod: Pod) -> None:
        """A pod is gone."""

    def touches(self, event: SourceEvent) -> Iterable[str]:
        """The uids of the pods whose NICs the event may change; they need not be known."""
        ...

    def apply(self, event: SourceEvent) -> None:
        """Take note of the event."""

    def macs(self, pod: Pod) -> bytes:
        """The packed MACs of the NICs that the pod has by this source."""
        ...


class Annotation:
    """Multus writes the MACs of a pod's attachments into the pod's own annotation: nothing else changes them."""

    name = "annotation"

    def put(self, pod: Pod) -> None:
        """Nothing to keep."""

    def remove(self, pod: Pod) -> None:
        """Nothing to forget."""

    def touches(self, event: SourceEvent) -> Iterable[str]:  # noqa: ARG002
        """None."""
        return ()

    def apply(self, event: SourceEvent) -> None:
        """Nothing to note."""

    def macs(self, pod: Pod) -> bytes:
        """See Source."""
        return b"" if pod.host_network else pod.macs


class Inventory:
    """Pods on the host's network have no attachment of their own: they hold their node's NICs.

    An inventory that is deleted or emptied takes nothing from them: it is not what the pods hold that has changed.
    """

    name = "node inventory"

    def __init__(self) -> None:
        self._nodes: dict[str, bytes] = {}
        self._gone: set[str] = set()  # of these, what was known counts as long as hostNetwork pods are on them
        self._pods: dict[str, dict[str, None]] = {}  # by node: uids of hostNetwork pods
        self._succeeded: dict[str, bytes] = {}  # by pod: what it held when it ended

    def put(self, pod: Pod) -> None:
        """See Source."""
        if pod.host_network and pod.node:
            self._pods.setdefault(pod.node, {})[pod.uid] = None
            if pod.stage is Stage.SUCCEEDED and not self._succeeded.get(pod.uid):
                self._succeeded[pod.uid] = self._nodes.get(pod.node, b"")

    def remove(self, pod: Pod) -> None:
        """See Source."""
        if pod.host_network and pod.node:
            discard(self._pods, pod.node, pod.uid)
            self._succeeded.pop(pod.uid, None)
            if pod.node in self._gone and pod.node not in self._pods:
                self._gone.discard(pod.node)
                self._nodes.pop(pod.node, None)

    def touches(self, event: SourceEvent) -> Iterable[str]:
        """See Source."""
        return tuple(self._pods.get(event.node, ())) if isinstance(event, NodeNics) else ()

    def apply(self, event: SourceEvent) -> None:
        """See Source."""
        if isinstance(event, NodeNics):
            self._gone.discard(event.node)
            if event.macs:
                self._nodes[event.node] = event.macs
            elif event.node in self._pods:
                self._gone.add(event.node)
            else:
                self._nodes.pop(event.node, None)

    def macs(self, pod: Pod) -> bytes:
        """See Source."""
        if not (pod.host_network and pod.node):
            return b""
        return self._succeeded.get(pod.uid) or self._nodes.get(pod.node, b"")


class Claims:
    """DRA: the MACs stand in the status of the ResourceClaims that the pod uses.

    A claim is released when its pod is done, and that may be seen before the pod's own end. So a claim that is
    deleted, emptied or reserved for others takes nothing from a pod: the pod keeps what it had until it is gone.
    """

    name = "resource claim"

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        """`pods` are those that are known, by uid."""
        self._all = pods
        self._claims: dict[tuple[str, str], Claim] = {}
        self._pods_naming: dict[tuple[str, str], dict[str, None]] = {}  # by claim
        self._claims_of: dict[tuple[str, str], dict[tuple[str, str], None]] = {}  # by user, see _users
        self._kept: dict[str, dict[tuple[str, str], bytes]] = {}  # by pod: of claims that were released

    def put(self, pod: Pod) -> None:
        """See Source."""
        for name in pod.claims:
            self._pods_naming.setdefault((pod.namespace, name), {})[pod.uid] = None

    def remove(self, pod: Pod) -> None:
        """See Source."""
        for name in pod.claims:
            discard(self._pods_naming, (pod.namespace, name), pod.uid)
        self._kept.pop(pod.uid, None)

    def touches(self, event: SourceEvent) -> Iterable[str]:
        """See Source."""
        if not isinstance(event, ClaimChanged):
            return ()
        found = dict(self._pods_naming.get(event.key, ()))
        for claim in (self._claims.get(event.key), event.new):
            for uid, name in claim.reserved_for if claim else ():
                if uid:
                    found[uid] = None
                else:  # the API server demands a uid: no index for the writer that leaves it out
                    place = (event.key[0], name)
                    found.update({pod.uid: None for pod in self._all.values() if (pod.namespace, pod.name) == place})
        return found

    def apply(self, event: SourceEvent) -> None:
        """See Source."""
        if not isinstance(event, ClaimChanged):
            return
        old, new = self._claims.pop(event.key, None), event.new
        for uid in self.touches(ClaimChanged(event.key, old)):
            pod = self._all.get(uid)
            if pod is None:
                continue
            if old and old.macs and _reserved(old, pod) and not (new and new.macs and _reserved(new, pod)):
                self._kept.setdefault(uid, {})[event.key] = old.macs
        for user in _users(old):
            discard(self._claims_of, user, event.key)
        if new is not None:
            self._claims[event.key] = new
            for user in _users(new):
                self._claims_of.setdefault(user, {})[event.key] = None

    def macs(self, pod: Pod) -> bytes:
        """See Source."""
        if pod.host_network or not (self._claims or self._kept):
            return b""
        keys = {(pod.namespace, name) for name in pod.claims}
        keys.update(self._claims_of.get(("", pod.uid), ()), self._claims_of.get((pod.namespace, pod.name), ()))
        macs = {key: claim.macs for key in keys if (claim := self._claims.get(key)) and _reserved(claim, pod)}
        for key, kept in self._kept.get(pod.uid, {}).items():
            macs[key] = macs.get(key) or kept
        return merge(macs.values())


class Sources:
    """All of them together."""

    def __init__(self, mode: Mode, pods: Mapping[str, Pod]) -> None:
        """`pods` are those that are known, by uid."""
        self._mode = mode
        self._sources: tuple[Source, ...] = (Annotation(), Inventory(), Claims(pods))

    def put(self, pod: Pod) -> None:
        """A pod was made or changed."""
        for source in self._sources:
            source.put(pod)

    def remove(self, pod: Pod) -> None:
        """A pod is gone, or is about to be put in another form."""
        for source in self._sources:
            source.remove(pod)

    def touches(self, event: SourceEvent) -> set[str]:
        """The uids of the pods whose NICs the event may change; they need not be known."""
        return {uid for source in self._sources for uid in source.touches(event)}

    def apply(self, event: SourceEvent) -> None:
        """Take note of the event."""
        for source in self._sources:
            source.apply(event)

    def holds(self, pod: Pod) -> Holds:
        """What the pod holds while it runs: its node, or all its NICs; nothing as long as it has no node."""
        if not pod.node:
            return NOTHING
        if self._mode is Mode.NODE:
            return Holds(nodes=(pod.node,))
        return Holds(merge(source.macs(pod) for source in self._sources))

    def by_source(self, pod: Pod) -> dict[str, Holds]:
        """What each source says that the pod holds, by the source's name; the union of it is `holds`."""
        if not pod.node:
            return {}
        if self._mode is Mode.NODE:
            return {"node": Holds(nodes=(pod.node,))}
        return {source.name: Holds(macs) for source in self._sources if (macs := source.macs(pod))}


def merge(parts: Iterable[bytes]) -> bytes:
    """Packed MACs: those of all parts, each once."""
    found = [part for part in parts if part]
    if len(found) < 2:
        return found[0] if found else b""
    return b"".join(sorted({mac for part in found for mac in split(part)}))


def discard(index: dict[K, dict[V, None]], key: K, value: V) -> None:
    """Take `value` out of an index of sets, and the set with it once it is empty."""
    if (entries := index.get(key)) is not None:
        entries.pop(value, None)
        if not entries:
            del index[key]


def _users(claim: Claim | None) -> set[tuple[str, str]]:
    """A reservation is by uid; by namespace and name only where it has no uid."""
    return {("", uid) if uid else (claim.namespace, name) for uid, name in claim.reserved_for} if claim else set()


def _reserved(claim: Claim, pod: Pod) -> bool:
    """Whether the claim is the pod's: not reserved for others alone."""
    return not claim.reserved_for or any(
        uid == pod.uid if uid else name == pod.name for uid, name in claim.reserved_for
    )
