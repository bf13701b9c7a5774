"""Everything that talks to CloudVision; and, for schedulers written in Python, the calls to report by hand."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvji.cloudvision.send import (
        CloudVisionClient,
        DeliveryError,
        InvalidReportError,
        NodeInterface,
        delete_nodeconfig,
        send_jobconfig,
        send_nodeconfig,
    )

__all__ = [
    "CloudVisionClient",
    "DeliveryError",
    "InvalidReportError",
    "NodeInterface",
    "delete_nodeconfig",
    "send_jobconfig",
    "send_nodeconfig",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: the informer imports this package and needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cvji.cloudvision import send

    return getattr(send, name)
