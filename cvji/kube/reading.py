"""Reads of one object, or of a list page by page, undecoded, for what looks once and does not watch."""

from collections.abc import Iterator, Mapping

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.objects import ObjectList
from cvji.kube.served import decode

PAGE = 500  # objects in one answer to a list
TIMEOUT = 10.0  # seconds: somebody waits at a terminal
_LIST = msgspec.json.Decoder(ObjectList)


def one(api: Api, path: str, *, timeout: float = TIMEOUT) -> bytes | None:
    """One object; None if there is none. Raises ApiError."""
    try:
        return api.get(path, timeout=timeout)
    except ApiError as err:
        if err.code == 404:
            return None
        raise


def pages(
    api: Api, path: str, query: Mapping[str, str] | None = None, *, silence: float = TIMEOUT
) -> Iterator[msgspec.Raw]:
    """Each object of a collection. Raises ApiError: 410 if reading took longer than the list is kept.

    `silence`: seconds for which nothing may come.
    """
    token = ""
    while True:
        asked: dict[str, str | int] = {"limit": PAGE, **(query or {})}
        if token:
            asked["continue"] = token
        page = decode(_LIST, api.get(path, asked, silence=silence))
        yield from page.items or ()
        token = page.metadata.continue_ or ""
        if not token:
            return
