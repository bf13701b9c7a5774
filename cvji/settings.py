"""What a setting is, what its value may be, and how a command's settings are read. commands.py declares them all."""

import enum
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec


class SettingsError(ValueError):
    """A setting is wrong; the message says which, why, and what would be right, in one line."""


# --- values -------------------------------------------------------------------------------------------------------


class Mode(enum.Enum):
    """JOBCONFIG_MODE: what a job is reported to hold."""

    INTERFACE = "interface"
    NODE = "node"


class OwnerPolicy(enum.Enum):
    """JOB_OWNER: the topmost job above a pod, or the pod's direct owner."""

    ROOT = "root"
    DIRECT = "direct"


class NodeConfigMode(enum.Enum):
    """NODECONFIG_MODE: where the node inventory comes from."""

    DISABLED = "disabled"
    DISCOVERY = "discovery"
    SRIOVOPERATOR = "sriovoperator"


class NodeInterfaceType(enum.Enum):
    """NODE_INTERFACE_TYPE: which of a node's NICs are reported; a NIC without SR-IOV counts as a PF."""

    ALL = "all"
    PF = "pf"
    VF = "vf"


class LogFormat(enum.Enum):
    """LOG_FORMAT, and how the outcome of a command is printed."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.Enum):
    """LOG_LEVEL."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NodeOutput(enum.Enum):
    """How `discover --once` prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class Netlink(enum.Enum):
    """NETLINK: whether the kernel is asked for addresses and VF MACs beside the sys folder."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class CloudVision(msgspec.Struct, frozen=True):
    """Where CloudVision is and how it is trusted. `address` is host[:port]."""

    address: str
    ca_file: str = ""
    insecure: bool = False


# --- how a value is read: each raises ValueError, which says what the value must be ---------------------------------

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_LABEL = "[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(
    rf"((?=[A-Za-z0-9]){_LABEL}(?:\.{_LABEL})*(?<=[A-Za-z0-9])|\[([0-9a-fA-F:.]{{2,45}})\])(?::(\d{{1,5}}))?", re.ASCII
)
_DNS = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}", re.ASCII)


def duration(text: str) -> float:
    """Seconds in `5`, `5s`, `1m`, `1m30s`, `6h` or `500ms`."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("a duration, such as 5 or 5s, 1m30s or 6h")
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


def at_least_1s(text: str) -> float:
    """A duration that does not keep the program busy."""
    if (seconds := duration(text)) < 1:
        raise ValueError("at least 1s")
    return seconds


def positive(text: str) -> float:
    """A duration in which something can be done."""
    if (seconds := duration(text)) <= 0:
        raise ValueError("more than 0")
    return seconds


def duration_or_never(text: str) -> float:
    """A duration; `never` is infinite."""
    return math.inf if text.strip().lower() == "never" else duration(text)


def address(text: str) -> str:
    """`host` or `host:port`, as given."""
    text = text.strip()
    match = _HOST.fullmatch(text)
    if match is None or len(match[1]) > 253 or (match[3] and not 0 < int(match[3]) < 65536) or not _is_ipv6(match[2]):
        raise ValueError("host or host:port, such as www.arista.io:443")
    return text


def _is_ipv6(text: str | None) -> bool:
    """Whether what stands in brackets, if anything does, is an IPv6 address."""
    try:
        return text is None or bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def names(text: str) -> tuple[str, ...]:
    """Names of namespaces, comma-separated, each once."""
    found = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if not all(map(_DNS.fullmatch, found)):
        raise ValueError("names of lower-case letters, digits, - and ., comma-separated")
    return found


def name(text: str) -> str:
    """The name of one namespace or node, or none."""
    text = text.strip()
    if text and not _DNS.fullmatch(text):
        raise ValueError("one name of lower-case letters, digits, - and .")
    return text


def group_kinds(text: str) -> tuple[tuple[str, str], ...]:
    """(group, kind) for each GROUP/KIND, separated by commas or, as Typer does it too, by white space."""
    kinds = []
    for part in text.replace(",", " ").split():
        group, slash, kind = part.partition("/")
        if not slash or not _DNS.fullmatch(group) or not _KIND.fullmatch(kind):
            raise ValueError("GROUP/KIND, such as kubeflow.org/PyTorchJob, or several, comma-separated")
        kinds.append((group, kind))
    return tuple(kinds)


def comma_separated(text: str) -> tuple[str, ...]:
    """The parts between commas."""
    return tuple(part.strip() for part in text.split(","))


# --- declarations ---------------------------------------------------------------------------------------------------


class Place(enum.Enum):
    """Where a setting is given, beside its flag."""

    FLAG = "flag"  # nowhere else
    VARIABLE = "variable"  # in the environment
    CONFIGMAP = "configmap"  # and in the workload's ConfigMap, by `just deploy` as it is given
    CHOSEN = "chosen"  # and in the ConfigMap, where `just deploy` does more than to copy it
    POD = "pod"  # and in the workload's pod template, where it is fixed


FLAG, VARIABLE, CONFIGMAP, CHOSEN, POD = Place
# Taken out of the environment by every command, since a kubeconfig's credential plugin inherits it.
SECRETS = ("API_TOKEN",)


class Setting(msgspec.Struct, frozen=True):
    """What there is to know of a setting beside its field's name, type and default.

    `read` makes the value of a text; enums and texts need none. `flag` and `env` are made of the field's name if not
    given; without a flag ("") it is read from the environment alone, and taken out of it. `positional` names arguments
    that have no flag. What is `repeatable` and has a `read` is joined by commas first.
    """

    help: str
    place: Place
    read: Callable[[str], Any] | None = None
    flag: str | None = None
    env: str = ""
    short: str = ""
    positional: str = ""
    repeatable: bool = False


class Declared(msgspec.Struct, frozen=True):
    """One field of a command's settings. `flag` and `env` are "" where there is none."""

    field: str
    type: Any
    default: Any
    setting: Setting
    flag: str
    env: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have; none: they are not a list."""
        members: Iterable[enum.Enum] = self.type if isinstance(self.type, enum.EnumType) else ()
        return tuple(str(member.value) for member in members)

    @property
    def shown_default(self) -> str:
        """The default as an operator writes it; "" if that is nothing."""
        match self.default:
            case enum.Enum():
                return str(self.default.value)
            case True:
                return "true"
            case float(seconds):
                return f"{seconds / 3600:g}h" if seconds and seconds % 3600 == 0 else f"{seconds:g}s"
            case str(text):
                return text
            case _:
                return ""

    def value(self, text: str) -> Any:
        """What a text means. Raises SettingsError."""
        try:
            if self.setting.read is not None:
                return self.setting.read(text)
            if not self.choices:
                return text
            if (choice := text.strip().lower()) not in self.choices:
                raise ValueError(f"one of {', '.join(self.choices)}")
            return self.type(choice)
        except ValueError as err:
            title = f"{self.env} ({self.flag})" if self.env and self.flag else self.env or self.flag
            raise SettingsError(f"{title} is {text!r}: it must be {err}") from None


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """What all commands have in common."""

    def check(self) -> None:
        """Raise SettingsError where settings do not go together."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # one of them is a token


S = TypeVar("S", bound=Settings)


def declared(kind: type[Settings]) -> list[Declared]:
    """The settings of a command, in the order of their declaration."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(kind):
        of, setting = get_args(hints[field.name])
        flag = setting.flag if setting.flag is not None else "--" + field.name.replace("_", "-")
        env = "" if setting.place is FLAG else setting.env or field.name.upper()
        found.append(Declared(field.name, of, field.default, setting, flag, env))
    return found


def read(kind: type[S], given: Mapping[str, Any], environment: MutableMapping[str, str]) -> S:
    """The settings by the command line: text, a flag or a list of texts for each field, None for what was not given.

    Secrets are taken out of the environment, whether the command has a use for them or not. Raises SettingsError.
    """
    values = {}
    for one in declared(kind):
        value = given.get(one.field) if one.flag or one.setting.positional else environment.pop(one.env, None)
        if isinstance(value, list):
            value = ",".join(value) if one.setting.read else tuple(value)
        if isinstance(value, str):
            value = one.value(value)
        if value not in (None, "", ()):
            values[one.field] = value
    for secret in SECRETS:
        environment.pop(secret, None)
    found = kind(**values)
    found.check()
    return found
