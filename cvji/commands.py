"""Every setting of every command, declared once: name, type, default, variable, place in the manifests, help, range.

`cli.py` makes the command line's options of them, and tests hold README, the manifests and `just deploy` against them.
"""

import socket
from dataclasses import dataclass
from typing import Annotated

from cvji.settings import (
    CHOSEN,
    CONFIGMAP,
    NOWHERE,
    POD,
    CloudVision,
    LogFormat,
    LogLevel,
    Mode,
    Netlink,
    NodeConfigMode,
    NodeInterfaceType,
    NodeOutput,
    OwnerPolicy,
    Setting,
    Settings,
    SettingsError,
    address,
    at_least_1s,
    comma_separated,
    duration,
    duration_or_never,
    group_kinds,
    name,
    names,
    positive,
)

# Read by other names than ours, as every program reads them: kube/credentials.py and http.py.
READ_ELSEWHERE = ("KUBECONFIG", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True, kw_only=True, repr=False)
class Workload(Settings):
    """What both workloads have."""

    health_address: Annotated[
        str, Setting("--health-address", "HEALTH_ADDRESS", POD, "Serve /healthz, /readyz, /metrics on host:port.")
    ] = ""
    context: Annotated[str, Setting("--context", "KUBE_CONTEXT", NOWHERE, "Context in KUBECONFIG.")] = ""
    log_level: Annotated[LogLevel, Setting("--log-level", "LOG_LEVEL", CONFIGMAP, "The least severe lines to log.")] = (
        LogLevel.INFO
    )
    log_format: Annotated[LogFormat, Setting("--log-format", "LOG_FORMAT", CONFIGMAP, "How to log.")] = LogFormat.TEXT


@dataclass(frozen=True, kw_only=True, repr=False)
class Reporting(Settings):
    """What every command has that reports to CloudVision."""

    location: Annotated[str, Setting("--location", "LOCATION", CONFIGMAP, "Name of this site.", str.strip)] = ""
    api_server: Annotated[str, Setting("--api-server", "API_SERVER", POD, "CloudVision, as host[:port].", address)] = ""
    api_token_file: Annotated[
        str,
        Setting(
            "--api-token-file",
            "API_TOKEN_FILE",
            POD,
            "File with CloudVision's token; read again when it changes. Or set API_TOKEN.",
        ),
    ] = ""
    api_token: Annotated[str, Setting("", "API_TOKEN", NOWHERE, "CloudVision's token.")] = ""
    api_ca_file: Annotated[
        str, Setting("--api-ca-file", "API_CA_FILE", CHOSEN, "CA certificates instead of the system's.")
    ] = ""
    insecure: Annotated[
        bool,
        Setting(
            "--api-insecure-skip-verify",
            "API_INSECURE_SKIP_VERIFY",
            CONFIGMAP,
            "Do not verify CloudVision's certificate.",
        ),
    ] = False
    dry_run: Annotated[
        bool, Setting("--dry-run", "", NOWHERE, "Send nothing; print each report as one line of JSON.")
    ] = False

    def check(self) -> None:
        """Without a dry run, CloudVision and a token must be given."""
        if self.dry_run:
            return
        if not self.api_server:
            raise SettingsError(
                "API_SERVER (--api-server) is not set: give CloudVision's host[:port], or use --dry-run"
            )
        if not self.api_token and not self.api_token_file:
            raise SettingsError("no API token: set API_TOKEN_FILE (--api-token-file), or API_TOKEN in the environment")

    @property
    def cloudvision(self) -> CloudVision:
        """Where reports go."""
        return CloudVision(self.api_server, self.api_ca_file, self.insecure)


@dataclass(frozen=True, kw_only=True, repr=False)
class InformerSettings(Workload, Reporting):
    """`cvji informer`."""

    namespaces: Annotated[
        tuple[str, ...],
        Setting(
            "--namespace", "NAMESPACE", CONFIGMAP, "Watch this one; empty: all; a,b: watch all, keep these.", names
        ),
    ] = ()
    jobconfig_mode: Annotated[
        Mode, Setting("--jobconfig-mode", "JOBCONFIG_MODE", CONFIGMAP, "What a job is reported to hold, MACs or nodes.")
    ] = Mode.INTERFACE
    nodeconfig_mode: Annotated[
        NodeConfigMode,
        Setting(
            "--nodeconfig-mode",
            "NODECONFIG_MODE",
            CHOSEN,
            "Where node inventory comes from.",
        ),
    ] = NodeConfigMode.DISCOVERY
    node_interface_type: Annotated[
        NodeInterfaceType,
        Setting("--node-interface-type", "NODE_INTERFACE_TYPE", CONFIGMAP, "NICs to report of a node."),
    ] = NodeInterfaceType.ALL
    job_owner: Annotated[
        OwnerPolicy,
        Setting("--job-owner", "JOB_OWNER", CONFIGMAP, "Report a pod's topmost job or its direct owner."),
    ] = OwnerPolicy.ROOT
    job_kinds: Annotated[
        tuple[tuple[str, str], ...],
        Setting(
            "--job-kind",
            "JOB_KINDS",
            CONFIGMAP,
            "A further kind of job, GROUP/KIND; repeatable or a,b.",
            group_kinds,
            repeatable=True,
        ),
    ] = ()
    stability_delay: Annotated[
        float,
        Setting(
            "--stability-delay",
            "STABILITY_DELAY",
            CONFIGMAP,
            "Report once nothing has changed for this long.",
            duration,
        ),
    ] = 5.0
    start_max_wait: Annotated[
        float,
        Setting(
            "--start-max-wait",
            "START_MAX_WAIT",
            CONFIGMAP,
            "Report a start after this long, whatever its pods still do; or never.",
            duration_or_never,
        ),
    ] = 60.0
    kind_retry: Annotated[
        float,
        Setting(
            "--kind-retry", "KIND_RETRY", CONFIGMAP, "How often to look for job kinds not served before.", duration
        ),
    ] = 30.0
    state_namespace: Annotated[
        str,
        Setting(
            "--state-namespace", "STATE_NAMESPACE", POD, "Where the records and the Lease are kept; empty: none.", name
        ),
    ] = ""
    leader_elect: Annotated[
        bool, Setting("--leader-elect", "LEADER_ELECT", POD, "Report only while holding the Lease.")
    ] = False
    resync_interval: Annotated[
        float,
        Setting(
            "--resync-interval", "RESYNC_INTERVAL", CONFIGMAP, "Report everything again this often; 0: never.", duration
        ),
    ] = 21600.0
    pod_name: Annotated[str, Setting("", "POD_NAME", POD, "The name of this replica in the Lease.")] = ""

    def check(self) -> None:
        """The site must be named, and the Lease needs a place."""
        if not self.location:
            raise SettingsError("LOCATION (--location) is not set: give this site's name in CloudVision")
        super().check()
        if self.leader_elect and not self.state_namespace and not self.dry_run:
            raise SettingsError("LEADER_ELECT needs STATE_NAMESPACE, where the Lease and the records are kept")


@dataclass(frozen=True, kw_only=True, repr=False)
class DiscoverSettings(Workload):
    """`cvji discover`."""

    once: Annotated[
        bool, Setting("--once", "", NOWHERE, "Print this node's NICs and exit; needs no cluster, no root.")
    ] = False
    output: Annotated[NodeOutput, Setting("--output", "", NOWHERE, "How to print with --once.", short="-o")] = (
        NodeOutput.TABLE
    )
    apply: Annotated[bool, Setting("--apply", "", NOWHERE, "With --once: write the NodeInterfaceState too.")] = False
    node_name: Annotated[
        str,
        Setting(
            "--node-name",
            "NODE_NAME",
            POD,
            "This node's name in Kubernetes; with --once the host's if not given.",
            name,
        ),
    ] = ""
    sysfs_root: Annotated[
        str, Setting("--sysfs-root", "SYSFS_ROOT", POD, "The host's sys folder, or a copy of one.")
    ] = "/sys"
    netlink: Annotated[
        Netlink,
        Setting(
            "--netlink",
            "NETLINK",
            POD,
            "Ask this kernel for addresses and VF MACs; auto: where the sys folder is its own.",
        ),
    ] = Netlink.AUTO
    interval: Annotated[
        float,
        Setting(
            "--interval", "DISCOVERY_INTERVAL", CONFIGMAP, "Scan at least this often, jittered by a fifth.", at_least_1s
        ),
    ] = 60.0
    state_namespace: Annotated[
        str, Setting("--state-namespace", "STATE_NAMESPACE", POD, "Where the NodeInterfaceState is kept.", name)
    ] = "cloudvision"

    @property
    def node(self) -> str:
        """This node's name."""
        return self.node_name or socket.gethostname().lower()

    def check(self) -> None:
        """A node that is written must be named."""
        if self.apply and not self.once:
            raise SettingsError("--apply goes with --once; without --once the state is always written")
        if not self.once and not self.node_name:
            raise SettingsError(
                "NODE_NAME (--node-name) is not set: give this node's name in Kubernetes, or use --once"
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class SendSettings(Reporting):
    """What the commands have that report by hand."""

    timeout: Annotated[
        float, Setting("--timeout", "", NOWHERE, "How long to try each report, retries included.", positive)
    ] = 60.0
    output: Annotated[LogFormat, Setting("--output", "", NOWHERE, "How to print the outcome.", short="-o")] = (
        LogFormat.TEXT
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class DocumentSettings(SendSettings):
    """What the commands have that take JSON documents."""

    file: Annotated[
        str,
        Setting(
            "--file",
            "",
            NOWHERE,
            "JSON document or list of documents; - is stdin, the default without flags.",
            short="-f",
        ),
    ] = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class JobSettings(DocumentSettings):
    """`cvji jobconfig send`."""

    id: Annotated[str, Setting("--id", "", NOWHERE, "The job's key in CloudVision.")] = ""
    name: Annotated[str, Setting("--name", "", NOWHERE, "The name shown; the id if not given.")] = ""
    state: Annotated[str, Setting("--state", "", NOWHERE, "RUNNING, COMPLETED, FAILED or CANCELLED.")] = ""
    start_time: Annotated[str, Setting("--start-time", "", NOWHERE, "RFC3339; now if not given.")] = ""
    end_time: Annotated[str, Setting("--end-time", "", NOWHERE, "RFC3339; now if not given.")] = ""
    nodes: Annotated[
        tuple[str, ...], Setting("--node", "", NOWHERE, "Repeatable, or a,b.", comma_separated, repeatable=True)
    ] = ()
    interfaces: Annotated[
        tuple[str, ...],
        Setting("--interface", "", NOWHERE, "MAC address; repeatable, or a,b.", comma_separated, repeatable=True),
    ] = ()
    tenant: Annotated[bool, Setting("--tenant", "", NOWHERE, "The job is a tenant's (JOB_TYPE_TENANT).")] = False


@dataclass(frozen=True, kw_only=True, repr=False)
class NodeSettings(DocumentSettings):
    """`cvji nodeconfig send`."""

    node: Annotated[str, Setting("--node", "", NOWHERE, "The node's name.")] = ""
    interfaces: Annotated[
        tuple[str, ...], Setting("--interface", "", NOWHERE, "NAME=MAC[,IP...]; repeatable.", repeatable=True)
    ] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class NodeRemovalSettings(SendSettings):
    """`cvji nodeconfig delete`."""

    nodes: Annotated[
        tuple[str, ...], Setting("", "", NOWHERE, "Names of nodes.", positional="NODE", repeatable=True)
    ] = ()
