"""The variables: what they mean, and which values of the chart they are. Knows no cluster."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

Object = dict[str, Any]
SECRET = "cv-job-informer-api-credentials"  # its name
NEWEST = "1.36"  # of Kubernetes that the chart is for; the same YAML whichever is newest for Helm
# Each variable, the chart's value that it is (or -), and what it means.
TABLE = """
API_SERVER                cloudvision.server              required: CloudVision, host[:port]
API_TOKEN                 -                               required: its token; in the environment only
API_TOKEN_FILE            -                               or a file that holds it
LOCATION                  location                        required: this site's name in CloudVision
NAMESPACE                 jobs.namespaces                 namespaces to watch: one, or a,b; all if empty
JOBCONFIG_MODE            jobs.mode                       interface (default), node: what a job is reported to hold
NODECONFIG_MODE           nodes.mode                      discovery (default), sriovoperator, disabled: node inventory
NODE_INTERFACE_TYPE       nodes.interfaceType             all (default), pf, vf: which of a node's NICs are reported
UNPRIVILEGED_DISCOVERY    -                               true: the discovery pods without root and privileges
LOG_LEVEL                 log.level                       debug, info (default), warning, error
LOG_FORMAT                log.format                      text (default), json
API_CA_FILE               -                               CA certificates for CloudVision, instead of the system's
API_INSECURE_SKIP_VERIFY  cloudvision.insecureSkipVerify  true: do not verify CloudVision's certificate
EVENTS                    jobs.events                     false: no Events on jobs of what was reported of them
JOB_OWNER                 jobs.owner                      this and the next: `cvji informer --help`
JOB_KINDS                 jobs.kinds                      GROUP/KIND,...
STABILITY_DELAY           jobs.stabilityDelay
START_MAX_WAIT            jobs.startMaxWait
KIND_RETRY                jobs.kindRetry
RESYNC_INTERVAL           jobs.resyncInterval
REPORT_HISTORY            jobs.reportHistory
DISCOVERY_INTERVAL        discovery.interval              `cvji discover --help`
HTTPS_PROXY               proxy.https                     of the informer; these three as arguments only, since
HTTP_PROXY                proxy.http                      in the environment they are this machine's
NO_PROXY                  proxy.noProxy
REGISTRY                  image.repository                the image is [REGISTRY/]cv-job-informer:IMAGE_TAG
IMAGE_TAG                 image.tag                       cvji's version if empty
IMAGE_PULL_SECRET         image.pullSecrets               Secret in namespace cloudvision to pull the image with
PLATFORMS                 -                               linux/amd64,linux/arm64: one image for both
SKIP_BUILD                -                               true: the image is there, do not build it first
PUSH                      -                               true: push it to REGISTRY
ENGINE                    -                               docker, podman or buildah; the first that is there if empty
VALUES                    -                               a file of the chart's values: manifests/chart/values.yaml
KUBE_VERSION              -                               of manifests: what they are for, 1.24 and newer; 1.36 if empty
ROLLOUT_TIMEOUT           -                               how long to wait for each workload: 5m
KUBE_CONTEXT              -                               context in KUBECONFIG; the current one if empty
COMPONENT                 -                               of status, logs, restart, describe: job (the informer), node
TAIL                      -                               of logs: how many lines; 100 if empty
FOLLOW                    -                               of logs: true: go on
DELETE_CRD                -                               of delete, also crd=true: the CRDs too
"""
ROWS = [line.split(None, 2) for line in TABLE.strip().splitlines()]
VALUES = {row[0]: row[1] for row in ROWS if row[1] != "-"}
HELP = "Variables of `just deploy`, in the environment or as NAME=VALUE behind it; so may be any value of the chart:\n"
HELP += "informer.size=large. `just manifests` takes the same and prints the YAML; PUSH pushes the chart.\n"
HELP += "\n".join(f"  {name:25} {''.join(text)}".rstrip() for name, _, *text in ROWS)
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
ENUMS = ("JOBCONFIG_MODE", "JOB_OWNER", "NODECONFIG_MODE", "NODE_INTERFACE_TYPE", "LOG_LEVEL", "LOG_FORMAT")
FLAGS = ("API_INSECURE_SKIP_VERIFY", "EVENTS", "UNPRIVILEGED_DISCOVERY", "PUSH", "SKIP_BUILD", "FOLLOW", "DELETE_CRD")
DURATION = r"[0-9]+(\.[0-9]+)?|([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?"
KUBE_VERSION = r"(v?1\.(2[4-9]|[3-9][0-9])(\.[0-9]+([-+][0-9A-Za-z.+-]+)?)?)?"


class Wrong(Exception):  # noqa: N818 - a setting, not a fault
    """A setting is wrong; the message is one line that begins with its name."""


class Settings:
    """What was asked for. `of` and `on` give a variable's text and a flag's truth, `sets` helm's further --set."""

    def __init__(self, environment: MutableMapping[str, str], arguments: list[str]) -> None:
        """Take both, and API_TOKEN out of the environment. Raises Wrong."""
        self.token = environment.pop("API_TOKEN", "")  # no child needs it: kubectl's credential plugins inherit these
        self.of = {row[0]: environment.get(row[0], "") if row[0] not in PROXIES else "" for row in ROWS}
        self.sets: list[str] = []
        for argument in arguments:
            name, equals, value = argument.partition("=")
            name = "DELETE_CRD" if name == "crd" else name
            if name == "API_TOKEN":
                raise Wrong("API_TOKEN must come from the environment: everyone sees arguments")
            if equals and name in self.of:
                self.of[name] = value
            elif equals and re.match(r"[a-z]", name):
                self.sets.append(argument)
            else:
                raise Wrong(f"{name} is not a setting: `just help` lists them")
        for name in (*ENUMS, *FLAGS):
            self.of[name] = self.of[name].lower()
        for name in FLAGS:
            if self.of[name] not in ("", "true", "false", "yes", "no", "1", "0"):
                raise Wrong(f"{name} is '{self.of[name]}': it must be one of true false yes no 1 0")
        self.on = {name: self.of[name] in ("true", "yes", "1") for name in FLAGS}
        if self.on["PUSH"] and not self.of["REGISTRY"]:
            raise Wrong("PUSH needs REGISTRY, where to push to")
        if self.of["COMPONENT"] not in ("", "job", "node"):
            raise Wrong("COMPONENT must be job or node")
        if not re.fullmatch(DURATION, self.of["ROLLOUT_TIMEOUT"]):
            raise Wrong(f"ROLLOUT_TIMEOUT is '{self.of['ROLLOUT_TIMEOUT']}': it must be a duration, such as 5m")
        if not re.fullmatch(KUBE_VERSION, self.of["KUBE_VERSION"]):
            raise Wrong(f"KUBE_VERSION is '{self.of['KUBE_VERSION']}': it must be 1.24 or newer, such as 1.29")

    def check(self) -> None:
        """What needs neither the chart, whose schema checks the values, nor a cluster. Raises Wrong."""
        if self.of["API_TOKEN_FILE"]:
            self.token = self.file("API_TOKEN_FILE").rstrip("\r\n")
        if not re.fullmatch(r"[!-~]*", self.token):
            raise Wrong("API_TOKEN holds characters that no token has, such as spaces")
        needed = {**self.of, "API_TOKEN": self.token}
        missing = [name for name in ("API_SERVER", "API_TOKEN", "LOCATION") if not needed[name].strip()]
        if self.of["API_TOKEN_FILE"] and not self.token:
            raise Wrong(f"API_TOKEN_FILE {self.of['API_TOKEN_FILE']} is empty")
        if missing and not self.of["VALUES"]:
            raise Wrong(f"not set: {' '.join(missing)}; `just help` says what each is")
        for name in PROXIES:
            if "@" in self.of[name]:
                raise Wrong(f"{name} holds credentials: name a Secret with the key HTTPS_PROXY by proxy.secret=NAME")
        if self.on["UNPRIVILEGED_DISCOVERY"] and self.of["NODECONFIG_MODE"] not in ("", "discovery"):
            raise Wrong("UNPRIVILEGED_DISCOVERY goes with NODECONFIG_MODE=discovery alone")
        if self.of["API_CA_FILE"] and "-----BEGIN CERTIFICATE-----" not in self.file("API_CA_FILE"):
            raise Wrong(f"API_CA_FILE {self.of['API_CA_FILE']} holds no PEM certificate")

    def file(self, name: str) -> str:
        """The text of the file that a variable names. Raises Wrong."""
        try:
            return Path(self.of[name]).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise Wrong(f"{name} {self.of[name]} cannot be read") from None

    def kinds(self) -> list[Object]:
        """JOB_KINDS; what the API calls their resources is asked of the cluster."""
        parts = [item.strip().partition("/") for item in self.of["JOB_KINDS"].split(",") if item.strip()]
        return [{"group": group, "kind": kind, "resource": "unknown"} for group, _, kind in parts]

    def values(self) -> str:
        """The variables as values of the chart, in JSON, which is YAML."""
        found: Object = {path: self.of[name] for name, path in VALUES.items() if self.of[name]}
        found |= {VALUES[name]: self.on[name] for name in FLAGS if name in VALUES and self.of[name]}
        if self.of["NAMESPACE"]:
            found["jobs.namespaces"] = list(dict.fromkeys(part.strip() for part in self.of["NAMESPACE"].split(",")))
        if self.of["JOB_KINDS"]:
            found["jobs.kinds"] = self.kinds()
        if self.of["REGISTRY"]:
            found["image.repository"] = f"{self.of['REGISTRY']}/cv-job-informer"
        if self.of["IMAGE_PULL_SECRET"]:
            found["image.pullSecrets"] = [self.of["IMAGE_PULL_SECRET"]]
        if self.on["UNPRIVILEGED_DISCOVERY"]:
            found["discovery.privileged"] = False
        if self.of["API_CA_FILE"]:
            found["cloudvision.ca"] = {"secret": SECRET, "key": "api-ca"}
            # It is read at the start alone: where it changes, the pods do.
            crc = zlib.crc32(self.file("API_CA_FILE").encode())
            found["informer.podAnnotations"] = {"cvji.arista.io/api-ca": f"{crc:08x}"}
        made: Object = {}
        for path, value in found.items():
            group, _, last = path.rpartition(".")  # no value of these is deeper
            (made.setdefault(group, {}) if group else made)[last] = value
        return json.dumps(made)

    def explained(self, refusal: str) -> str:
        """What the chart's schema said, in one line that names the variables in place of the values' paths."""
        lines = re.findall(r"^ *- at '([^']*)': (.*)", refusal, re.MULTILINE)
        plain = [(path, why) for path, why in lines if not why.endswith(" failed")]
        plain = plain or [(path, "not allowed") for path, _ in lines]
        return "; ".join(self._named(*row) for row in dict.fromkeys(plain)) or refusal.strip().splitlines()[-1]

    def _named(self, pointer: str, why: str) -> str:
        path = ".".join(part for part in pointer.strip("/").split("/") if not part.isdecimal())
        name = next((name for name, known in VALUES.items() if f"{path}.".startswith(f"{known}.")), "")
        return f"{name} is {self.of[name]!r}: {why}" if name and self.of[name] else f"{path or 'values'}: {why}"
