"""What the operator chose: one frozen struct per command, checked before anything starts."""

import re
from enum import Enum

import msgspec


class SettingsError(ValueError):
    """A setting is wrong; the message says which, why, and what would be right, in one line."""


class NodeConfigMode(Enum):
    """NODECONFIG_MODE: where the node inventory comes from."""

    DISABLED = "disabled"
    DISCOVERY = "discovery"
    SRIOVOPERATOR = "sriovoperator"


class LogFormat(Enum):
    """LOG_FORMAT."""

    TEXT = "text"
    JSON = "json"


class LogLevel(Enum):
    """LOG_LEVEL."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NodeOutput(Enum):
    """How `discover --once` prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class Netlink(Enum):
    """NETLINK: whether the kernel is asked for addresses and VF MACs beside the sys folder."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class CloudVision(msgspec.Struct, frozen=True):
    """Where CloudVision is and how it is trusted. `address` is host[:port]."""

    address: str
    ca_file: str = ""
    insecure: bool = False


_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def duration(text: str) -> float:
    """Seconds in `5`, `5s`, `1m`, `1m30s`, `6h` or `500ms`. Raises SettingsError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise SettingsError(f"{text!r} is not a duration: write seconds as 5 or 5s, minutes as 1m, hours as 6h")
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(?::(\d{1,5}))?", re.ASCII
)


def host_port(text: str, name: str) -> str:
    """`host` or `host:port`, as given. Raises SettingsError, naming the setting."""
    text = text.strip()
    match = _HOST.fullmatch(text)
    if match is None or (match[1] and not 0 < int(match[1]) < 65536):
        raise SettingsError(f"{name} must be host or host:port, such as www.arista.io:443, not {text!r}")
    return text


_DNS = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)


def namespaces(text: str) -> tuple[str, ...]:
    """The namespaces of NAMESPACE, none for all. Raises SettingsError."""
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in names:
        if not _DNS.fullmatch(name):
            raise SettingsError(f"NAMESPACE: {name!r} is not the name of a namespace")
    return names


def job_kinds(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """(group, kind) for each GROUP/KIND, comma-separated or one by one. Raises SettingsError."""
    kinds = []
    for text in (part.strip() for item in texts for part in item.split(",")):
        group, slash, kind = text.partition("/")
        if not text:
            continue
        if not slash or not _DNS.fullmatch(group) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,62}", kind):
            raise SettingsError(f"JOB_KINDS: {text!r} must be GROUP/KIND, such as kubeflow.org/PyTorchJob")
        kinds.append((group, kind))
    return tuple(kinds)
