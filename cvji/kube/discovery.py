"""Which of the wanted kinds are served, in which version, under which plural: API discovery, no guesses."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.objects import ApiGroupList, ApiResourceList, shallow

_GROUPS = msgspec.json.Decoder(ApiGroupList)
_RESOURCES = msgspec.json.Decoder(ApiResourceList)
T = TypeVar("T")


class Resource(msgspec.Struct, frozen=True):
    """A served resource: what to list and watch."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL path of the collection, or of one object in it."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            base += f"/namespaces/{namespace}"
        return f"{base}/{self.plural}/{name}" if name else f"{base}/{self.plural}"


PODS = Resource("", "v1", "Pod", "pods")


def served(api: Api, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Resource]:
    """The resource for each wanted (group, kind) that the cluster serves, in the version it prefers.

    A kind that only an older version of its group has is found there. A group whose own discovery fails
    (an aggregated API that is down, a CRD in the making) is left for the next call. Raises ApiError when
    discovery as a whole fails.
    """
    wanted = set(wanted)
    groups = {group for group, _ in wanted}
    found: dict[tuple[str, str], Resource] = {}
    for group in decode(_GROUPS, api.get("/apis")).groups:
        if group.name not in groups:
            continue
        versions = [version.version for version in group.versions]
        if group.preferred_version:
            versions.insert(0, group.preferred_version.version)
        for version in dict.fromkeys(versions):
            if wanted <= {key for key in wanted if key in found or key[0] != group.name}:
                break  # every kind of this group is found
            try:
                resources = decode(_RESOURCES, api.get(f"/apis/{group.name}/{version}")).resources
            except ApiError:
                continue
            for resource in resources:
                key = (group.name, resource.kind)
                if key in wanted and "/" not in resource.name:
                    found.setdefault(
                        key, Resource(group.name, version, resource.kind, resource.name, resource.namespaced)
                    )
    return found


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """An API document. Raises ApiError if it is not what it should be."""
    try:
        try:
            return decoder.decode(body)
        except RecursionError:
            return decoder.decode(shallow(body))
    except (msgspec.MsgspecError, UnicodeError) as err:
        raise ApiError(0, f"the API server's answer cannot be read: {err}") from None
