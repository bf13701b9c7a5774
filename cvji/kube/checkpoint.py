"""The ledger's shards in the cluster: one ConfigMap each, written only by whoever wrote it last.

The resourceVersion is the fence. Whoever takes over rewrites every shard; a former leader's next write is
then a conflict, and it stops.
"""

import base64

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.discovery import decode

FIELD = "cvji.arista.io/holder"
DATA = "ledger"
TIMEOUT = 10.0  # seconds for one request


class LostFenceError(Exception):
    """Somebody else writes the checkpoint now."""


class TooLargeError(Exception):
    """A shard is beyond what a ConfigMap holds."""


class _Annotations(msgspec.Struct):
    holder: str = msgspec.field(name=FIELD, default="")


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str
    annotations: _Annotations | None = None


class _ConfigMap(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    binary_data: dict[str, str] | None = None


_CONFIG_MAP = msgspec.json.Decoder(_ConfigMap)


class Checkpoint:
    """The shards named NAME-0 to NAME-(count-1) in a namespace. For one thread."""

    def __init__(self, api: Api, namespace: str, name: str, count: int, identity: str) -> None:
        """`identity` tells this process from every other, before and after it."""
        self._api = api
        self._base = f"/api/v1/namespaces/{namespace}/configmaps"
        self._name = name
        self._count = count
        self._identity = identity
        self._versions: dict[int, str] = {}

    def take_over(self) -> list[bytes]:
        """Every shard's data; from now on they are ours alone to write. Raises ApiError or LostFenceError."""
        found: dict[int, bytes] = {}
        for shard in range(self._count):
            stored = self._get(shard)
            if stored is None:
                self._versions.pop(shard, None)
                found[shard] = b""  # made all the same: what is not there is no fence
                continue
            self._versions[shard] = stored.metadata.resource_version
            found[shard] = base64.b64decode((stored.binary_data or {}).get(DATA, ""))
        for shard, data in found.items():
            self.write(shard, data)
        return [data for data in found.values() if data]

    def write(self, shard: int, data: bytes) -> None:
        """Store one shard.

        Raises LostFenceError if it is no longer ours, TooLargeError, or ApiError if it may not be stored yet.
        """
        version = self._versions.get(shard)
        name = f"{self._name}-{shard}"
        metadata = {"name": name, "annotations": {FIELD: self._identity}, "labels": LABELS}
        if version is not None:
            metadata["resourceVersion"] = version
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "binaryData": {DATA: base64.b64encode(data).decode()},
        }
        method, path = ("POST", self._base) if version is None else ("PUT", f"{self._base}/{name}")
        try:
            answer = self._api.send(method, path, msgspec.json.encode(body), timeout=TIMEOUT)
        except ApiError as err:
            if err.code in (413, 422):
                raise TooLargeError(f"configmap {name} with {len(data)} bytes: {err}") from None
            if err.code not in (404, 409):
                raise
            # Ours after all, if an earlier write took effect and only its answer was lost.
            stored = self._get(shard)
            if stored is None:
                self._versions.pop(shard, None)  # the namespace may be what is missing
                raise ApiError(404, f"configmap {name} is not there: {err}") from None
            holder = stored.metadata.annotations.holder if stored.metadata.annotations else ""
            if holder != self._identity:
                raise LostFenceError(f"configmap {name} is now written by {holder or 'somebody else'}") from None
            self._versions[shard] = stored.metadata.resource_version
            raise ApiError(409, f"configmap {name} was written and not acknowledged; it is written again") from None
        self._versions[shard] = decode(_CONFIG_MAP, answer).metadata.resource_version

    def _get(self, shard: int) -> _ConfigMap | None:
        try:
            return decode(_CONFIG_MAP, self._api.get(f"{self._base}/{self._name}-{shard}", timeout=TIMEOUT))
        except ApiError as err:
            if err.code == 404:
                return None
            raise


LABELS = {"app": "cv-job-informer", "app.kubernetes.io/name": "cvji", "app.kubernetes.io/component": "checkpoint"}
