"""Which of the wanted kinds are served, in which version, under which plural: by API discovery, never by guessing."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.events import Resource
from cvji.kube.objects import ApiGroupList, ApiResourceList, shallow

_GROUPS = msgspec.json.Decoder(ApiGroupList)
_RESOURCES = msgspec.json.Decoder(ApiResourceList)
T = TypeVar("T")


PODS = Resource("", "v1", "Pod", "pods")
CLAIMS = ("resource.k8s.io", "ResourceClaim")  # by group and kind: versions differ


class Served(msgspec.Struct, frozen=True):
    """What a cluster serves of the kinds (group, kind) that were asked for.

    `unclear` are those whose group could not say: an aggregated API that is down, a CRD that is not established yet.
    `failed` are those of them that may be served all the same: a request failed, and not with 403 or 404.
    `names`, PLURAL.GROUP, are all resources that were seen on the way, wanted or not.
    """

    found: dict[tuple[str, str], Resource]
    unclear: frozenset[tuple[str, str]]
    names: frozenset[str] = frozenset()
    failed: frozenset[tuple[str, str]] = frozenset()


def served(api: Api, wanted: Iterable[tuple[str, str]]) -> Served:
    """The resource for each wanted (group, kind) that the cluster serves, in the version it prefers.

    A kind that only an older version of its group has is found there. Raises ApiError when discovery as a whole fails.
    """
    wanted = set(wanted)
    groups = {group for group, _ in wanted}
    found: dict[tuple[str, str], Resource] = {}
    unclear: set[str] = set()
    failed: set[str] = set()
    names: set[str] = set()
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
            except ApiError as err:
                unclear.add(group.name)
                if err.code not in (403, 404):
                    failed.add(group.name)
                continue
            names |= {f"{resource.name}.{group.name}" for resource in resources}
            for resource in resources:
                key = (group.name, resource.kind)
                if key in wanted and "/" not in resource.name:
                    found.setdefault(
                        key, Resource(group.name, version, resource.kind, resource.name, resource.namespaced)
                    )
    missing = wanted - found.keys()
    return Served(
        found,
        frozenset(key for key in missing if key[0] in unclear),
        frozenset(names),
        frozenset(key for key in missing if key[0] in failed),
    )


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """An API document. Raises ApiError if it is not what it should be."""
    try:
        try:
            return decoder.decode(body)
        except RecursionError:
            return decoder.decode(shallow(body))
    except (msgspec.MsgspecError, UnicodeError) as err:
        raise ApiError(0, f"the API server's answer cannot be read: {err}") from None
