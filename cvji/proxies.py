"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as Go programs beside ours read them.

Python's own reading knows no CIDR in NO_PROXY, which is how clusters write their service and pod networks.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from cvji.settings import SettingsError

PORTS = {"http": 80, "https": 443}


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's URL without credentials, and its credentials, `user:password` or empty. Never shown."""

    url: str
    auth: str

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL by the environment, lower case first. Raises SettingsError."""
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    found = environment.get(name) or environment.get(name.upper())
    if not found or bypassed(
        parts.hostname or "",
        parts.port or PORTS.get(parts.scheme, 0),
        environment.get("no_proxy") or environment.get("NO_PROXY") or "",
    ):
        return None
    return proxy(found, name.upper())


def proxy(text: str, source: str) -> Proxy:
    """A proxy as it is written. Raises SettingsError, naming its source and not its credentials."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        fits = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        known = "it must be the URL of an HTTP proxy, such as http://proxy.example.com:3128"
        raise SettingsError(f"{source} cannot be used: {known}")
    auth, _, place = parts.netloc.rpartition("@")
    auth = unquote(auth)
    if any(ord(char) > 255 for char in auth):  # as HTTP's Basic scheme is written
        raise SettingsError(f"{source} cannot be used: its credentials are not Latin-1")
    return Proxy(f"{parts.scheme}://{place}", auth)


def bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: `*`, an address, a CIDR, a domain and what is below it; perhaps a port."""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        name, colon, wanted = entry.rpartition(":")
        if colon and wanted.isdecimal() and ("]" in name or ":" not in name):
            if int(wanted) != port:
                continue
            entry = name
        entry = entry.strip("[]")
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        elif entry and (host == entry.lstrip(".") or host.endswith("." + entry.lstrip("*").lstrip("."))):
            return True
    return False
