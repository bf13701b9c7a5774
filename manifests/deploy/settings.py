"""The variables: what they may hold, and which values of the chart they are. Knows no cluster."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

Object = dict[str, Any]
SECRET = "cv-job-informer-api-credentials"  # its name
# Each variable that is a value of the chart as it stands.
VALUES = {
    "API_SERVER": "cloudvision.server",
    "LOCATION": "location",
    "JOBCONFIG_MODE": "jobs.mode",
    "JOB_OWNER": "jobs.owner",
    "STABILITY_DELAY": "jobs.stabilityDelay",
    "START_MAX_WAIT": "jobs.startMaxWait",
    "KIND_RETRY": "jobs.kindRetry",
    "RESYNC_INTERVAL": "jobs.resyncInterval",
    "REPORT_HISTORY": "jobs.reportHistory",
    "NODECONFIG_MODE": "nodes.mode",
    "NODE_INTERFACE_TYPE": "nodes.interfaceType",
    "DISCOVERY_INTERVAL": "discovery.interval",
    "LOG_LEVEL": "log.level",
    "LOG_FORMAT": "log.format",
    "HTTPS_PROXY": "proxy.https",
    "HTTP_PROXY": "proxy.http",
    "NO_PROXY": "proxy.noProxy",
    "IMAGE_TAG": "image.tag",
}
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")  # as arguments alone: in the environment they are this machine's
ENUMS = ("JOBCONFIG_MODE", "JOB_OWNER", "NODECONFIG_MODE", "NODE_INTERFACE_TYPE", "LOG_LEVEL", "LOG_FORMAT")
FLAGS = ("API_INSECURE_SKIP_VERIFY", "EVENTS", "UNPRIVILEGED_DISCOVERY", "PUSH", "SKIP_BUILD", "FOLLOW", "DELETE_CRD")
PATTERNS = {  # of what is no value of the chart
    "COMPONENT": (r"(job|node)?", "job or node"),
    "TAIL": (r"(-?[0-9]+)?", "a number of lines"),
    "ROLLOUT_TIMEOUT": (r"[0-9]+(\.[0-9]+)?|([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?", "a duration, such as 5m"),
    "NAMESPACE": (r"[^,]*[^, ][^,]*(,[^,]*[^, ][^,]*)*,?|", "names of namespaces, such as team-a,team-b"),
    "JOB_KINDS": (r"( *[^/, ]+/[^/, ]+ *(, *|$))*", "GROUP/KIND,..."),
}
OTHERS = (
    *PATTERNS,
    "API_TOKEN_FILE",
    "API_CA_FILE",
    "VALUES",
    "REGISTRY",
    "ENGINE",
    "PLATFORMS",
    "IMAGE_PULL_SECRET",
    "KUBE_CONTEXT",
)
# For the schema's messages: the variable behind each value.
BEHIND = {
    "jobs.namespaces": "NAMESPACE",
    "jobs.kinds": "JOB_KINDS",
    "image.repository": "REGISTRY",
    "image.pullSecrets": "IMAGE_PULL_SECRET",
    **{path: name for name, path in VALUES.items()},
}


class Wrong(Exception):  # noqa: N818 - a setting, not a fault
    """A setting is wrong; the message is one line that begins with its name."""


class Settings:
    """What was asked for. `of` and `on` give a variable's text and a flag's truth."""

    def __init__(self, environment: MutableMapping[str, str], arguments: list[str]) -> None:
        """Take both, and API_TOKEN out of the environment. Raises Wrong."""
        known = [*VALUES, *FLAGS, *OTHERS]
        self.of = {name: environment.get(name, "") if name not in PROXIES else "" for name in known}
        self.token = environment.pop("API_TOKEN", "")  # no child needs it: kubectl's credential plugins inherit these
        self.sets: list[str] = []
        for argument in arguments:
            self._take(argument, known)
        for name, value in self.of.items():
            if re.search(r"[\x00-\x1f\x7f]", value):
                raise Wrong(f"{name} holds a line break or the like")
            pattern, what = PATTERNS.get(name, ("(?s).*", ""))
            if not re.fullmatch(pattern, value):
                raise Wrong(f"{name} is '{value}': it must be {what}")
        for name in ENUMS:
            self.of[name] = self.of[name].lower()
        for name in FLAGS:
            if self.of[name].lower() not in ("", "true", "false", "yes", "no", "1", "0"):
                raise Wrong(f"{name} is '{self.of[name]}': it must be one of true false yes no 1 0")
        self.on = {name: self.of[name].lower() in ("true", "yes", "1") for name in FLAGS}
        self.digest = ""  # of the image that was pushed
        self.kinds: list[Object] = []
        for item in filter(None, (part.strip() for part in self.of["JOB_KINDS"].split(","))):
            group, _, kind = item.partition("/")
            self.kinds.append({"group": group, "kind": kind, "resource": "unknown"})  # until the cluster is asked

    def _take(self, argument: str, known: list[str]) -> None:
        name, equals, value = argument.partition("=")
        if name == "API_TOKEN":
            raise Wrong("API_TOKEN must come from the environment: everyone sees arguments")
        name = "DELETE_CRD" if name == "crd" else name
        if equals and name in known:
            self.of[name] = value
        elif equals and re.fullmatch(r"[a-z][A-Za-z]*([.\[].*)?", name):
            self.sets.append(argument)
        else:
            raise Wrong(f"{name} is not a setting: `just help` lists them" if equals else f"{name} is not NAME=VALUE")

    def check(self) -> None:
        """What needs neither the chart nor a cluster. Raises Wrong."""
        given = "API_TOKEN"
        if self.of["API_TOKEN_FILE"]:
            given = f"API_TOKEN_FILE {self.of['API_TOKEN_FILE']}"
            self.token = read(given, self.of["API_TOKEN_FILE"]).rstrip("\r\n")
            if not self.token:
                raise Wrong(f"{given} is empty")
        needed = {"API_SERVER": self.of["API_SERVER"], "API_TOKEN": self.token, "LOCATION": self.of["LOCATION"].strip()}
        missing = [name for name, value in needed.items() if not value]
        if missing and not self.of["VALUES"]:
            raise Wrong(f"not set: {' '.join(missing)}; `just help` says what each is")
        if not re.fullmatch(r"[!-~]*", self.token):
            raise Wrong(f"{given} holds characters that no token has, such as spaces")
        for name in PROXIES:
            if "@" in self.of[name]:
                raise Wrong(f"{name} holds credentials: name a Secret with the key HTTPS_PROXY by proxy.secret=NAME")
        if self.on["PUSH"] and not self.of["REGISTRY"]:
            raise Wrong("PUSH needs REGISTRY, where to push to")
        if self.on["UNPRIVILEGED_DISCOVERY"] and self.of["NODECONFIG_MODE"] not in ("", "discovery"):
            raise Wrong("UNPRIVILEGED_DISCOVERY goes with NODECONFIG_MODE=discovery alone")
        if self.of["VALUES"]:
            read(f"VALUES {self.of['VALUES']}", self.of["VALUES"])
        if self.of["API_CA_FILE"] and "-----BEGIN CERTIFICATE-----" not in self.authority():
            raise Wrong(f"API_CA_FILE {self.of['API_CA_FILE']} holds no PEM certificate")

    def authority(self) -> str:
        """What API_CA_FILE holds. Raises Wrong."""
        return read(f"API_CA_FILE {self.of['API_CA_FILE']}", self.of["API_CA_FILE"])

    def values(self) -> str:
        """The variables as values of the chart, in JSON, which is YAML."""
        found: dict[str, object] = {path: self.of[name] for name, path in VALUES.items() if self.of[name]}
        if self.on["API_INSECURE_SKIP_VERIFY"]:
            found["cloudvision.insecureSkipVerify"] = True
        if self.of["EVENTS"]:
            found["jobs.events"] = self.on["EVENTS"]
        if self.on["UNPRIVILEGED_DISCOVERY"]:
            found["discovery.privileged"] = False
        if self.of["NAMESPACE"]:
            names = (part.strip() for part in self.of["NAMESPACE"].split(","))
            found["jobs.namespaces"] = list(dict.fromkeys(filter(None, names)))
        if self.kinds:
            found["jobs.kinds"] = self.kinds
        if self.of["REGISTRY"]:
            found["image.repository"] = f"{self.of['REGISTRY']}/cv-job-informer"
        if self.digest:
            found["image.digest"] = self.digest
        if self.of["IMAGE_PULL_SECRET"]:
            found["image.pullSecrets"] = [self.of["IMAGE_PULL_SECRET"]]
        if self.of["API_CA_FILE"]:
            found["cloudvision.ca"] = {"secret": SECRET, "key": "api-ca"}
            # It is read at the start alone: where it changes, the pods do.
            crc = zlib.crc32(self.authority().encode())
            found["informer.podAnnotations"] = {"cvji.arista.io/api-ca": f"{crc:08x}"}
        made: Object = {}
        for path, value in found.items():
            *parents, last = path.split(".")
            place = made
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return json.dumps(made)

    def explained(self, refusal: str) -> str:
        """What the chart's schema said, in one line that names the variables in place of the values' paths."""
        lines = re.findall(r"^ *- at '([^']*)': (.*)", refusal, re.MULTILINE)
        plain = [f"{self._named(path)}: {why}" for path, why in lines if not why.endswith(" failed")]
        plain = plain or [f"{self._named(path)}: not allowed" for path, _ in lines]
        return "; ".join(dict.fromkeys(plain)) or refusal.strip().splitlines()[-1]

    def _named(self, pointer: str) -> str:
        path = ".".join(part for part in pointer.strip("/").split("/") if not part.isdecimal())
        name = next((name for known, name in BEHIND.items() if f"{path}.".startswith(f"{known}.")), "")
        return f"{name} is '{self.of[name]}'" if name and self.of[name] else path or "values"


def read(what: str, path: str) -> str:
    """A file's text. Raises Wrong, naming `what`."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise Wrong(f"{what} cannot be read") from None
