"""What the checks look at: one cluster, its informer's settings, and what several checks need, read once."""

from collections.abc import Callable, Mapping
from functools import cached_property

from cvji.cloudvision.client import Token
from cvji.deployed import Deployed
from cvji.jobs.kinds import Registry
from cvji.kube.client import Api, ApiError
from cvji.kube.reading import pages
from cvji.kube.served import CLAIMS, Served, served
from cvji.nodes.objects import NODE_STATES
from cvji.reports.records import RESOURCES, ListedRecord, Unreadable, read_any
from cvji.settings import CloudVision

REPORTS = {kind: resource.key for kind, resource in RESOURCES.items()}


class Site:
    """A cluster with an informer, as checks see it. `now` is when they began, in seconds since the epoch."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        settings: Deployed,
        clock: Callable[[], float],
        environment: Mapping[str, str],
        cloudvision: CloudVision | None = None,
        token: Token | None = None,
    ) -> None:
        """`clock` is this machine's. `cloudvision` is None where its address is not known here."""
        self.api, self.namespace, self.settings = api, namespace, settings
        self.clock, self.now = clock, clock()
        self.environment, self.cloudvision, self.token = environment, cloudvision, token
        self.registry = Registry(settings.kinds())

    @cached_property
    def server_time(self) -> float | None:
        """The API server's clock; None where it does not say. Raises ApiError."""
        return self.api.server_time()

    def age(self, at: float) -> float:
        """How long ago that was, by the cluster's clock: this machine's may be wrong. Raises ApiError."""
        return (self.now if self.server_time is None else self.server_time) - at

    @cached_property
    def node_state(self) -> tuple[str, str] | None:
        """Group and kind of the node states that the informer reads."""
        return NODE_STATES.get(self.settings.nodeconfig())

    @cached_property
    def served(self) -> Served:
        """What the cluster serves of all that the informer may look for. Raises ApiError."""
        wanted = {kind.key for kind in self.registry} | {CLAIMS, *REPORTS.values()}
        return served(self.api, wanted | ({self.node_state} if self.node_state else set()))

    @cached_property
    def records(self) -> list[ListedRecord | Unreadable]:
        """Every JobReport and NodeReport. Raises ApiError."""
        found: list[ListedRecord | Unreadable] = []
        for kind, key in REPORTS.items():
            resource = self.served.found.get(key)
            if resource is None:
                raise ApiError(404, f"the {key[1]} CRD is not installed")
            found += [read_any(kind, raw) for raw in pages(self.api, resource.path(self.namespace))]
        return found
