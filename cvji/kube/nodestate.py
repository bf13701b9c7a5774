"""One node's NodeInterfaceState in the cluster: read, and written with server-side apply only where it differs.

Does not know where the state comes from.
"""

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.objects import Metadata
from cvji.kube.reading import one
from cvji.kube.served import decode
from cvji.sysfs.state import API_VERSION, KIND, PLURAL, State

FIELD_MANAGER = "cv-interface-discovery"
APPLY = "application/apply-patch+yaml"  # of which JSON is a part
TIMEOUT = 15.0  # seconds for one request
LABELS = {
    "app": "cv-job-informer",
    "app.kubernetes.io/name": "cvji",
    "app.kubernetes.io/component": "interface-discovery",
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
}


class _Metadata(Metadata):
    labels: dict[str, str] | None = None


class _NodeInterfaceState(msgspec.Struct):
    metadata: _Metadata
    status: State | None = None


class _Node(msgspec.Struct):
    metadata: Metadata


_STATE = msgspec.json.Decoder(_NodeInterfaceState)
_NODE = msgspec.json.Decoder(_Node)


class NodeStateStore:
    """The object named after one node. For one thread."""

    def __init__(self, api: Api, namespace: str, node: str) -> None:
        """Sends no request yet."""
        self._api, self._namespace, self._node = api, namespace, node
        self._base = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{node}"
        self._current: _NodeInterfaceState | None = None
        self._owner = ""  # the Node's uid

    def read(self) -> State | None:
        """The state in the cluster; None if there is none. Raises ApiError.

        An object that cannot be understood counts as an empty one, which the next write replaces.
        """
        raw = one(self._api, self._base, timeout=TIMEOUT)
        if raw is None:
            # Gone, perhaps with its Node, whose namesake then has another uid.
            self._current, self._owner = None, ""
            return None
        try:
            self._current = _STATE.decode(raw)
        except (msgspec.MsgspecError, UnicodeError):
            self._current = None
            return State()
        return self._current.status or State()

    def write(self, state: State) -> bool:
        """Write the state where the cluster holds another; whether anything had to be written. Raises ApiError."""
        if not self._owner:
            self._owner = self._node_uid()
        written = False
        if not self._owned():
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._owner}
            self._apply(self._base, {"labels": LABELS, "ownerReferences": [owner]})
            written = True
        if self._current is None or self._current.status != state:
            self._apply(f"{self._base}/status", {}, status=state)
            written = True
        return written

    def _owned(self) -> bool:
        if self._current is None:
            return False
        metadata = self._current.metadata
        labels = metadata.labels or {}
        owned = any(owner.uid == self._owner for owner in metadata.owner_references or ())
        return owned and all(labels.get(name) == value for name, value in LABELS.items())

    def _node_uid(self) -> str:
        raw = one(self._api, f"/api/v1/nodes/{self._node}", timeout=TIMEOUT)
        if raw is None:
            raise ApiError(404, f"there is no Node {self._node}: NODE_NAME must be this node's name")
        return decode(_NODE, raw).metadata.uid

    def _apply(self, path: str, metadata: dict[str, object], **parts: State) -> None:
        """Server-side apply of one part (KEP-555). The fields are ours alone, so conflicts are forced."""
        metadata = {"name": self._node, "namespace": self._namespace, **metadata}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, **parts}
        query, raw = {"fieldManager": FIELD_MANAGER, "force": "true"}, msgspec.json.encode(body)
        try:
            answer = self._api.send("PATCH", path, raw, query=query, content_type=APPLY, timeout=TIMEOUT)
        except ApiError as err:
            self._current = None  # whatever took effect of it, the next read shows
            if err.code == 404:
                message = f"{err}: is the {PLURAL} CRD installed, and does namespace {self._namespace} exist?"
                raise ApiError(404, message.removeprefix("HTTP 404: ")) from None
            raise
        self._current = decode(_STATE, answer)
