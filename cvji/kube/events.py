"""What happens in the cluster, in one vocabulary from the watch to the last consumer."""

import msgspec


class Resource(msgspec.Struct, frozen=True):
    """A served resource: what to list and watch."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        """Group and kind: what an ownerReference names."""
        return (self.group, self.kind)

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL path of the collection, or of one object in it."""
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            base += f"/namespaces/{namespace}"
        return f"{base}/{self.plural}/{name}" if name else f"{base}/{self.plural}"


class Applied(msgspec.Struct, frozen=True):
    """An object was made or changed."""

    object: object


class Deleted(msgspec.Struct, frozen=True):
    """An object is gone; `object` is the last that was seen of it."""

    object: object


class Listed(msgspec.Struct, frozen=True):
    """All that exists of a resource has been applied, and what was gone deleted.

    `round` is what the reflector's `round` gave before that list began.
    """

    resource: Resource
    round: int = 0


class WatchLost(msgspec.Struct, frozen=True):
    """Objects of a resource may now exist, or be gone, unseen: its list fails, or (`refused`) it is forbidden or no
    longer served.
    """

    resource: Resource
    refused: bool = False


class Discovered(msgspec.Struct, frozen=True):
    """These resources are served and will be listed; none: nothing is that is not watched already.

    `failed` are all kinds (group, kind) that may be served and listed soon: the request that would tell failed.
    """

    resources: tuple[Resource, ...]
    failed: frozenset[tuple[str, str]] = frozenset()


class Unserved(msgspec.Struct, frozen=True):
    """The API server has not served a kind (group, kind) for so long that its objects can be taken to be gone."""

    key: tuple[str, str]


ClusterEvent = Applied | Deleted | Listed | WatchLost
