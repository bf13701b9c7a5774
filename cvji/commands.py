"""Every setting of every command, declared once: name, type, default, help, range, and where it is given.

`cli.py` makes the command line's options of them, and tests hold README, the manifests and `just deploy` against them.
"""

import socket
from dataclasses import dataclass
from typing import Annotated

from cvji.settings import (
    CHOSEN,
    CONFIGMAP,
    FLAG,
    POD,
    VARIABLE,
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

    health_address: Annotated[str, Setting("host:port for probes and /metrics.", POD)] = ""
    context: Annotated[str, Setting("Context in KUBECONFIG.", VARIABLE, env="KUBE_CONTEXT")] = ""
    log_level: Annotated[LogLevel, Setting("Least severity to log.", CONFIGMAP)] = LogLevel.INFO
    log_format: Annotated[LogFormat, Setting("How to log.", CONFIGMAP)] = LogFormat.TEXT


@dataclass(frozen=True, kw_only=True, repr=False)
class Server(Settings):
    """What every command has that speaks to CloudVision."""

    api_server: Annotated[str, Setting("CloudVision, as host[:port].", POD, address)] = ""
    api_token_file: Annotated[
        str, Setting("File with CloudVision's token; read again when it changes. Or set API_TOKEN.", POD)
    ] = ""
    api_token: Annotated[str, Setting("CloudVision's token.", VARIABLE, flag="")] = ""
    api_ca_file: Annotated[str, Setting("CA certificates instead of the system's.", CHOSEN)] = ""
    api_insecure_skip_verify: Annotated[bool, Setting("Do not verify CloudVision's certificate.", CONFIGMAP)] = False

    @property
    def has_cloudvision(self) -> bool:
        """Whether both CloudVision and a token are given."""
        return bool(self.api_server and (self.api_token or self.api_token_file))

    @property
    def cloudvision(self) -> CloudVision:
        """CloudVision's address, and how it is trusted."""
        return CloudVision(self.api_server, self.api_ca_file, self.api_insecure_skip_verify)


@dataclass(frozen=True, kw_only=True, repr=False)
class Reporting(Server):
    """What every command has that reports to CloudVision."""

    location: Annotated[str, Setting("Name of this site.", CONFIGMAP, str.strip)] = ""
    dry_run: Annotated[bool, Setting("Send nothing; print each report as one line of JSON.", FLAG)] = False

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


@dataclass(frozen=True, kw_only=True, repr=False)
class InformerSettings(Workload, Reporting):
    """`cvji informer`. Durations in seconds."""

    namespace: Annotated[tuple[str, ...], Setting("Watch this one, a,b, or all (empty).", CONFIGMAP, names)] = ()
    jobconfig_mode: Annotated[Mode, Setting("What a job is reported to hold, MACs or nodes.", CONFIGMAP)] = (
        Mode.INTERFACE
    )
    nodeconfig_mode: Annotated[NodeConfigMode, Setting("Where node inventory comes from.", CHOSEN)] = (
        NodeConfigMode.DISCOVERY
    )
    node_interface_type: Annotated[NodeInterfaceType, Setting("NICs to report.", CONFIGMAP)] = NodeInterfaceType.ALL
    job_owner: Annotated[OwnerPolicy, Setting("Report a pod's topmost job or its direct owner.", CONFIGMAP)] = (
        OwnerPolicy.ROOT
    )
    job_kinds: Annotated[
        tuple[tuple[str, str], ...],
        Setting(
            "A further kind of job, GROUP/KIND; repeatable or a,b.",
            CONFIGMAP,
            group_kinds,
            flag="--job-kind",
            repeatable=True,
        ),
    ] = ()
    stability_delay: Annotated[
        float, Setting("Report once nothing has changed for this long.", CONFIGMAP, duration)
    ] = 5.0
    start_max_wait: Annotated[
        float,
        Setting("Report a start after this long, whatever its pods still do; or never.", CONFIGMAP, duration_or_never),
    ] = 60.0
    kind_retry: Annotated[
        float, Setting("How often to look for new job kinds where CRDs cannot be watched.", CONFIGMAP, at_least_1s)
    ] = 30.0
    state_namespace: Annotated[str, Setting("Where the records and the Lease are kept; empty: none.", POD, name)] = ""
    leader_elect: Annotated[bool, Setting("Report only while holding the Lease.", POD)] = False
    resync_interval: Annotated[float, Setting("Report everything again this often; 0: never.", CONFIGMAP, duration)] = (
        21600.0
    )
    report_history: Annotated[
        float,
        Setting("How long the records of ended jobs that are deleted are kept; 0: not at all.", CONFIGMAP, duration),
    ] = 86400.0
    events: Annotated[bool, Setting("Write Events on each job's object: what became of its reports.", VARIABLE)] = True
    pod_name: Annotated[str, Setting("The name of this replica in the Lease and in Events.", POD, flag="")] = ""

    def check(self) -> None:
        """The site must be named, and the Lease needs a place."""
        if not self.location:
            raise SettingsError("LOCATION (--location) is not set: give this site's name in CloudVision")
        super().check()
        if self.leader_elect and not self.state_namespace and not self.dry_run:
            raise SettingsError("LEADER_ELECT needs STATE_NAMESPACE, where the Lease and the records are kept")


@dataclass(frozen=True, kw_only=True, repr=False)
class DiscoverSettings(Workload):
    """`cvji discover`. Durations in seconds."""

    once: Annotated[bool, Setting("Print this node's NICs and exit; needs no cluster, no root.", FLAG)] = False
    output: Annotated[NodeOutput, Setting("How to print with --once.", FLAG, short="-o")] = NodeOutput.TABLE
    apply: Annotated[bool, Setting("With --once: write the NodeInterfaceState too.", FLAG)] = False
    node_name: Annotated[
        str, Setting("This node's name in Kubernetes; with --once the host's if not given.", POD, name)
    ] = ""
    sysfs_root: Annotated[str, Setting("The host's sys folder, or a copy of one.", POD)] = "/sys"
    netlink: Annotated[
        Netlink, Setting("Ask this kernel for addresses and VF MACs; auto: where the sys folder is its own.", POD)
    ] = Netlink.AUTO
    interval: Annotated[
        float,
        Setting("Scan at least this often, jittered by a fifth.", CONFIGMAP, at_least_1s, env="DISCOVERY_INTERVAL"),
    ] = 60.0
    state_namespace: Annotated[str, Setting("Where the NodeInterfaceState is kept.", POD, name)] = "cloudvision"

    @property
    def node(self) -> str:
        """This node's name."""
        return self.node_name or socket.gethostname().lower()

    def check(self) -> None:
        """A node that is written must be named."""
        if self.apply and not self.once:
            raise SettingsError("--apply goes with --once; without --once the state is always written")
        if not self.once and not self.node_name:
            raise SettingsError("NODE_NAME (--node-name) is not set: give this node's name in Kubernetes; or --once")


@dataclass(frozen=True, kw_only=True, repr=False)
class SendSettings(Reporting):
    """What the commands have that report by hand."""

    timeout: Annotated[float, Setting("How long to try each report, retries included.", FLAG, positive)] = 60.0
    output: Annotated[LogFormat, Setting("How to print the outcome.", FLAG, short="-o")] = LogFormat.TEXT


@dataclass(frozen=True, kw_only=True, repr=False)
class DocumentSettings(SendSettings):
    """What the commands have that take JSON documents."""

    file: Annotated[
        str, Setting("JSON document or list of documents; - is stdin, the default without flags.", FLAG, short="-f")
    ] = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class JobSettings(DocumentSettings):
    """`cvji jobconfig send`."""

    id: Annotated[str, Setting("The job's key in CloudVision.", FLAG)] = ""
    name: Annotated[str, Setting("The name shown; the id if not given.", FLAG)] = ""
    state: Annotated[str, Setting("RUNNING, COMPLETED, FAILED or CANCELLED.", FLAG)] = ""
    start_time: Annotated[str, Setting("RFC3339; now if not given.", FLAG)] = ""
    end_time: Annotated[str, Setting("RFC3339; now if not given.", FLAG)] = ""
    node: Annotated[tuple[str, ...], Setting("Repeatable, or a,b.", FLAG, comma_separated, repeatable=True)] = ()
    interface: Annotated[
        tuple[str, ...], Setting("MAC address; repeatable, or a,b.", FLAG, comma_separated, repeatable=True)
    ] = ()
    tenant: Annotated[bool, Setting("The job is a tenant's (JOB_TYPE_TENANT).", FLAG)] = False


@dataclass(frozen=True, kw_only=True, repr=False)
class NodeSettings(DocumentSettings):
    """`cvji nodeconfig send`."""

    node: Annotated[str, Setting("The node's name.", FLAG)] = ""
    interface: Annotated[tuple[str, ...], Setting("NAME=MAC[,IP...]; repeatable.", FLAG, repeatable=True)] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class NodeRemovalSettings(SendSettings):
    """`cvji nodeconfig delete`."""

    node: Annotated[tuple[str, ...], Setting("Names of nodes.", FLAG, flag="", positional="NODE", repeatable=True)] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Operating(Settings):
    """What the commands have for people who look after a deployment."""

    state_namespace: Annotated[str, Setting("The informer's namespace, with the records.", POD, name)] = "cloudvision"
    context: Annotated[str, Setting("Context in KUBECONFIG.", VARIABLE, env="KUBE_CONTEXT")] = ""
    output: Annotated[LogFormat, Setting("How to print.", FLAG, short="-o")] = LogFormat.TEXT


@dataclass(frozen=True, kw_only=True, repr=False)
class ExplainSettings(Operating):
    """`cvji explain`."""

    job: Annotated[str, Setting("A job of any kind, or a pod.", FLAG, flag="", positional="NAMESPACE/NAME")] = ""
    kind: Annotated[str, Setting("Its kind, or GROUP/KIND, where names are ambiguous.", FLAG)] = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckSettings(Operating, Server):
    """`cvji check`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LookupSettings(Operating, Server):
    """What the commands have that compare with CloudVision."""

    location: Annotated[str, Setting("Name of this site; the informer's if not given.", CONFIGMAP, str.strip)] = ""

    def need_cloudvision(self) -> None:
        """Raises SettingsError if CloudVision or a token is not given."""
        if not self.has_cloudvision:
            raise SettingsError("CloudVision is not known: set API_SERVER and API_TOKEN_FILE (or API_TOKEN)")


@dataclass(frozen=True, kw_only=True, repr=False)
class HoldersSettings(LookupSettings):
    """`cvji holders`."""

    mac_or_node: Annotated[str, Setting("A MAC address, or a node's name.", FLAG, flag="", positional="MAC|NODE")] = ""
    at: Annotated[str, Setting("Who held it then, RFC3339.", FLAG)] = ""
    ask_cloudvision: Annotated[bool, Setting("Ask CloudVision too.", FLAG, flag="--cloudvision")] = False

    def check(self) -> None:
        """CloudVision must be known where it is asked."""
        if self.ask_cloudvision:
            self.need_cloudvision()


@dataclass(frozen=True, kw_only=True, repr=False)
class ReconcileSettings(LookupSettings):
    """`cvji reconcile`."""

    end: Annotated[bool, Setting("End what is left over, as CANCELLED now.", FLAG)] = False
    yes: Annotated[bool, Setting("With --end: do not ask.", FLAG)] = False

    def check(self) -> None:
        """CloudVision is always asked."""
        if self.yes and not self.end:
            raise SettingsError("--yes goes with --end")
        self.need_cloudvision()
