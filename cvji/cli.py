"""The one entrypoint: options become checked settings here; each command imports only what it runs."""

import math
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cvji import __version__, build
from cvji.settings import (
    CloudVision,
    LogFormat,
    LogLevel,
    Netlink,
    NodeConfigMode,
    NodeOutput,
    SettingsError,
    duration,
    host_port,
    job_kinds,
    namespaces,
)

if TYPE_CHECKING:
    from cvji.cloudvision.payloads import Request

T = TypeVar("T")
app = typer.Typer(
    name="cvji",
    help="Tell Arista CloudVision which NICs every Kubernetes job holds, and what NICs every node has.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _option(*names: str, env: str, help: str) -> Any:  # noqa: A002
    return typer.Option(*names, envvar=env, help=help, show_default=True)


def _version(show: bool) -> None:
    if show:
        made = f"commit {build.COMMIT or 'unknown'}, built {build.DATE}" if build.DATE else "from source"
        typer.echo(f"cvji {__version__} ({made})")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


Server = Annotated[str, _option("--api-server", env="API_SERVER", help="CloudVision, as host[:port].")]
TokenFile = Annotated[
    str,
    _option(
        "--api-token-file",
        env="API_TOKEN_FILE",
        help="File with CloudVision's token; read again when it changes. Or set API_TOKEN.",
    ),
]
CaFile = Annotated[str, _option("--api-ca-file", env="API_CA_FILE", help="CA certificates instead of the system's.")]
Insecure = Annotated[
    bool,
    _option(
        "--api-insecure-skip-verify",
        env="API_INSECURE_SKIP_VERIFY",
        help="Do not verify CloudVision's certificate.",
    ),
]
Location = Annotated[str, _option("--location", env="LOCATION", help="Name of this site.")]
Output = Annotated[str, typer.Option("--output", "-o", help="How to print the outcome: text|json.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to try each report, retries included.")]
File = Annotated[
    str,
    typer.Option("--file", "-f", help="JSON document or list of documents; - is stdin, the default without flags."),
]
Health = Annotated[
    str, _option("--health-address", env="HEALTH_ADDRESS", help="Serve /healthz, /readyz, /metrics on host:port.")
]
Context = Annotated[str, _option("--context", env="KUBE_CONTEXT", help="Context in KUBECONFIG.")]
Level = Annotated[str, _option("--log-level", env="LOG_LEVEL", help="debug|info|warning|error.")]
Format = Annotated[str, _option("--log-format", env="LOG_FORMAT", help="text|json.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Send nothing; print each report as one line of JSON.")]


@app.command(help="Watch jobs and report the NICs or nodes they hold (the Deployment).")
def informer(
    location: Location = "",
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    namespace: Annotated[
        str,
        _option("--namespace", env="NAMESPACE", help="Watch this one; empty: all; a,b: watch all, keep these."),
    ] = "",
    jobconfig_mode: Annotated[
        str, _option("--jobconfig-mode", env="JOBCONFIG_MODE", help="Report MACs or nodes: interface|node.")
    ] = "interface",
    nodeconfig_mode: Annotated[
        str,
        _option(
            "--nodeconfig-mode",
            env="NODECONFIG_MODE",
            help="Where node inventory comes from: disabled|discovery|sriovoperator.",
        ),
    ] = "discovery",
    node_interface_type: Annotated[
        str,
        _option("--node-interface-type", env="NODE_INTERFACE_TYPE", help="NICs to report of a node: all|pf|vf."),
    ] = "all",
    job_owner: Annotated[
        str,
        _option(
            "--job-owner",
            env="JOB_OWNER",
            help="Report a pod's topmost job or its direct owner: root|direct.",
        ),
    ] = "root",
    job_kind: Annotated[
        list[str] | None,
        _option("--job-kind", env="JOB_KINDS", help="A further kind of job, GROUP/KIND; repeatable or a,b."),
    ] = None,
    stability_delay: Annotated[
        str,
        _option("--stability-delay", env="STABILITY_DELAY", help="Report once nothing has changed for this long."),
    ] = "5s",
    start_max_wait: Annotated[
        str,
        _option("--start-max-wait", env="START_MAX_WAIT", help="Report then, whatever its pods still do; or never."),
    ] = "60s",
    kind_retry: Annotated[
        str,
        _option("--kind-retry", env="KIND_RETRY", help="How often to look for job kinds not served before."),
    ] = "30s",
    state_namespace: Annotated[
        str,
        _option(
            "--state-namespace", env="STATE_NAMESPACE", help="Where the records and the Lease are kept; empty: none."
        ),
    ] = "",
    leader_elect: Annotated[
        bool, _option("--leader-elect", env="LEADER_ELECT", help="Report only while holding the Lease.")
    ] = False,
    resync_interval: Annotated[
        str,
        _option("--resync-interval", env="RESYNC_INTERVAL", help="Say everything once more in each; 0: never."),
    ] = "6h",
    report_history: Annotated[
        str,
        _option(
            "--report-history",
            env="REPORT_HISTORY",
            help="How long the records of ended jobs that are deleted are kept; 0: not at all.",
        ),
    ] = "24h",
    health_address: Health = "",
    context: Context = "",
    log_level: Level = "info",
    log_format: Format = "text",
    dry_run: DryRun = False,
) -> None:
    _logging(log_level, log_format)
    token = _token()
    cloudvision = None
    if not location.strip():
        raise SettingsError("LOCATION is not set: give this site's name in CloudVision, by --location or LOCATION")
    if not dry_run:
        _need_server(api_server, token, api_token_file)
        cloudvision = CloudVision(host_port(api_server, "API_SERVER"), api_ca_file, insecure)
    from cvji.informer import run as command
    from cvji.jobs.nics import Mode
    from cvji.jobs.owners import OwnerPolicy
    from cvji.nodes.inventory import InterfaceType

    settings = command.Settings(
        location=location.strip(),
        cloudvision=cloudvision,
        token=token,
        token_file=api_token_file,
        namespaces=namespaces(namespace),
        mode=_one_of(Mode, jobconfig_mode, "JOBCONFIG_MODE"),
        owner=_one_of(OwnerPolicy, job_owner, "JOB_OWNER"),
        extra_kinds=job_kinds(job_kind or []),
        stability_delay=_duration(stability_delay, "STABILITY_DELAY"),
        start_max_wait=_duration(start_max_wait, "START_MAX_WAIT", never=True),
        nodeconfig_mode=_one_of(NodeConfigMode, nodeconfig_mode, "NODECONFIG_MODE"),
        node_interface_type=_one_of(InterfaceType, node_interface_type, "NODE_INTERFACE_TYPE"),
        state_namespace=_namespace(state_namespace, "STATE_NAMESPACE"),
        leader_elect=leader_elect,
        resync=_duration(resync_interval, "RESYNC_INTERVAL"),
        report_history=_duration(report_history, "REPORT_HISTORY"),
        health_address=health_address,
        context=context,
        rediscover=_duration(kind_retry, "KIND_RETRY"),
    )
    raise typer.Exit(command.run(settings))


@app.command(help="Inventory this node's NICs (the DaemonSet; by hand with --once).")
def discover(
    once: Annotated[
        bool, typer.Option("--once", help="Print this node's NICs and exit; needs no cluster, no root.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="With --once: table|json|yaml.")] = "table",
    apply: Annotated[bool, typer.Option("--apply", help="With --once: write the NodeInterfaceState too.")] = False,
    node_name: Annotated[
        str, _option("--node-name", env="NODE_NAME", help="This node's name in Kubernetes; the host's if not given.")
    ] = "",
    sysfs_root: Annotated[
        str, _option("--sysfs-root", env="SYSFS_ROOT", help="The host's sys folder, or a copy of one.")
    ] = "/sys",
    netlink: Annotated[
        str,
        _option(
            "--netlink",
            env="NETLINK",
            help="Ask this kernel for addresses and VF MACs: yes|no|auto, where the sys folder is its own.",
        ),
    ] = "auto",
    interval: Annotated[
        str, _option("--interval", env="DISCOVERY_INTERVAL", help="Scan at least this often, jittered by a fifth.")
    ] = "60s",
    state_namespace: Annotated[
        str, _option("--state-namespace", env="STATE_NAMESPACE", help="Where the NodeInterfaceState is kept.")
    ] = "cloudvision",
    health_address: Health = "",
    context: Context = "",
    log_level: Level = "info",
    log_format: Format = "text",
) -> None:
    import socket
    from pathlib import Path

    _logging(log_level, log_format)
    shown = _one_of(NodeOutput, output, "--output").value
    if apply and not once:
        raise SettingsError("--apply goes with --once; without --once the state is always written")
    node = _namespace(node_name or socket.gethostname().lower(), "NODE_NAME")
    if not once and not node_name:
        raise SettingsError("NODE_NAME is not set: give this node's name in Kubernetes, or use --once")
    seconds = _duration(interval, "DISCOVERY_INTERVAL")
    if seconds < 1:
        raise SettingsError(f"DISCOVERY_INTERVAL is {interval!r}: it must be at least 1s")
    from cvji import discover as command

    settings = command.Settings(
        node=node,
        namespace=_namespace(state_namespace, "STATE_NAMESPACE") or "cloudvision",
        sysfs_root=Path(sysfs_root),
        netlink={Netlink.YES: True, Netlink.NO: False, Netlink.AUTO: None}[_one_of(Netlink, netlink, "NETLINK")],
        interval=seconds,
        health_address=health_address,
        context=context,
    )
    if once:
        raise typer.Exit(command.once(settings, shown, sys.stdout, apply=apply))
    raise typer.Exit(command.run(settings))


jobconfig = typer.Typer(help="Report jobs by hand.", no_args_is_help=True, rich_markup_mode=None)
nodeconfig = typer.Typer(help="Report nodes by hand.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(jobconfig, name="jobconfig")
app.add_typer(nodeconfig, name="nodeconfig")


@jobconfig.callback()
@nodeconfig.callback()
def _group() -> None:
    pass


@jobconfig.command(
    "send",
    help="""Report a job, by flags or by JSON documents.

    Fields of a document: id, name, state, location, start_time, end_time, nodes, interfaces, tenant.
    Exit codes: 0 delivered, 1 not delivered, 2 bad input.
    """,
)
def jobconfig_send(
    job_id: Annotated[str, typer.Option("--id", help="The job's key in CloudVision.")] = "",
    name: Annotated[str, typer.Option("--name", help="The name shown; the id if not given.")] = "",
    state: Annotated[str, typer.Option("--state", help="RUNNING, COMPLETED, FAILED or CANCELLED.")] = "",
    start_time: Annotated[str, typer.Option("--start-time", help="RFC3339; now if not given.")] = "",
    end_time: Annotated[str, typer.Option("--end-time", help="RFC3339; now if not given.")] = "",
    node: Annotated[list[str] | None, typer.Option("--node", help="Repeatable, or a,b.")] = None,
    interface: Annotated[list[str] | None, typer.Option("--interface", help="MAC address; repeatable, or a,b.")] = None,
    tenant: Annotated[bool, typer.Option("--tenant", help="The job is a tenant's (JOB_TYPE_TENANT).")] = False,
    file: File = "",
    location: Location = "",
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    timeout: Timeout = "60s",
    output: Output = "text",
    dry_run: DryRun = False,
) -> None:
    from cvji import tenant as command

    flags = any((job_id, name, state, start_time, end_time, node, interface))
    found = _documents(command.JobDocument, file, flags=flags)
    if found is None:
        if not job_id or not state:
            raise SettingsError("give --id, --state and --interface or --node, or a JSON document on stdin")
        found = [
            command.JobDocument(
                id=job_id,
                name=name or job_id,
                state=state,
                start_time=start_time or None,
                end_time=end_time or None,
                nodes=_split(node),
                interfaces=_split(interface),
            )
        ]
    requests = command.job_requests(found, location, tenant)
    _send(requests, api_server, api_token_file, api_ca_file, insecure, timeout, output, dry_run=dry_run)


@nodeconfig.command(
    "send",
    help="""Report a node's NICs, by flags or by JSON documents, where NODECONFIG_MODE is disabled.

    Fields of a document: node, location, interfaces: a list of {name, mac, ips}.
    """,
)
def nodeconfig_send(
    node: Annotated[str, typer.Option("--node", help="The node's name.")] = "",
    interface: Annotated[list[str] | None, typer.Option("--interface", help="NAME=MAC[,IP...]; repeatable.")] = None,
    file: File = "",
    location: Location = "",
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    timeout: Timeout = "60s",
    output: Output = "text",
    dry_run: DryRun = False,
) -> None:
    from cvji import tenant as command
    from cvji.cloudvision.send import NodeInterface

    found = _documents(command.NodeDocument, file, flags=bool(node or interface))
    if found is None:
        nics = []
        for text in interface or []:
            name, equals, rest = text.partition("=")
            mac, *ips = rest.split(",")
            if not equals:
                raise SettingsError(f"--interface {text!r} must be NAME=MAC or NAME=MAC,IP")
            nics.append(NodeInterface(name, mac, tuple(ips)))
        found = [command.NodeDocument(node, nics)]
    requests = command.node_requests(found, location)
    _send(requests, api_server, api_token_file, api_ca_file, insecure, timeout, output, dry_run=dry_run)


@nodeconfig.command("delete", help="Remove nodes from CloudVision.")
def nodeconfig_delete(
    node: Annotated[list[str], typer.Argument(help="Names of nodes.")],
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    timeout: Timeout = "60s",
    output: Output = "text",
    dry_run: DryRun = False,
) -> None:
    from cvji import tenant as command

    requests = command.removals(node)
    _send(requests, api_server, api_token_file, api_ca_file, insecure, timeout, output, dry_run=dry_run)


def _documents(kind: type[T], file: str, *, flags: bool) -> list[T] | None:
    """The documents given, or None where flags take their place."""
    from cvji import tenant as command

    if file and flags:
        raise SettingsError("give flags or a JSON document, not both")
    if not file and (flags or sys.stdin is None or sys.stdin.isatty()):
        return None
    return command.documents(kind, file or "-")


def _split(values: list[str] | None) -> list[str] | None:
    return [part.strip() for value in values for part in value.split(",")] if values else None


def _send(
    requests: "list[Request]",
    api_server: str,
    token_file: str,
    ca_file: str,
    insecure: bool,
    timeout: str,
    output: str,
    *,
    dry_run: bool,
) -> None:
    from cvji import tenant as command
    from cvji.cloudvision.send import CloudVisionClient

    as_json = _one_of(LogFormat, output, "--output") is LogFormat.JSON
    seconds = _duration(timeout, "--timeout")
    if seconds <= 0:
        raise SettingsError(f"--timeout is {timeout!r}: it must be more than 0")
    if dry_run:
        raise typer.Exit(command.print_requests(requests, sys.stdout))
    token = _token()
    _need_server(api_server, token, token_file)
    with CloudVisionClient(
        api_server,
        token,
        api_token_file=token_file,
        api_ca_file=ca_file,
        insecure=insecure,
        timeout=seconds,
    ) as client:
        code = command.deliver(client, requests, sys.stdout, as_json=as_json)
    raise typer.Exit(code)


def _token() -> str:
    return os.environ.pop("API_TOKEN", "")  # popped, so that no credential plugin inherits it


def _need_server(api_server: str, token: str, token_file: str) -> None:
    if not api_server:
        raise SettingsError("API_SERVER is not set: give CloudVision's host[:port], or use --dry-run")
    if not token and not token_file:
        raise SettingsError("no API token: set API_TOKEN_FILE (or API_TOKEN in the environment)")


def _logging(level: str, style: str) -> None:
    from cvji.telemetry.logs import configure

    as_json = _one_of(LogFormat, style, "LOG_FORMAT") is LogFormat.JSON
    configure(_one_of(LogLevel, level, "LOG_LEVEL").value, as_json=as_json)


def _one_of(choices: Callable[[str], T], text: str, name: str) -> T:
    """The member of an enum with that value, in any letter case."""
    try:
        return choices(text.strip().lower())
    except ValueError:
        values = ", ".join(str(choice.value) for choice in choices)  # type: ignore[attr-defined]
        raise SettingsError(f"{name} is {text!r}: it must be one of {values}") from None


def _namespace(text: str, name: str) -> str:
    try:
        found = namespaces(text)
    except SettingsError:
        found = ("", "")
    if len(found) > 1:
        raise SettingsError(f"{name} is {text!r}: it must be one name of lower-case letters, digits, - and .")
    return found[0] if found else ""


def _duration(text: str, name: str, *, never: bool = False) -> float:
    if never and text.strip().lower() == "never":
        return math.inf
    try:
        return duration(text)
    except SettingsError as err:
        raise SettingsError(f"{name}: {err}") from None


def main() -> None:
    """Run the command line. A user's error is one line and exit code 2, never a traceback."""
    # typer's own copy of click has no public name for these.
    from typer._click.exceptions import ClickException, NoArgsIsHelpError

    if sys.stdout is None:  # started with it closed
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    # urllib3 says so at every request; we do once.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    try:
        code = app(standalone_mode=False)
    except NoArgsIsHelpError as err:
        typer.echo(err.format_message(), err=True)
        sys.exit(2)
    except ClickException as err:
        _fail(err.format_message())
    except SettingsError as err:
        _fail(str(err))
    except typer.Abort:
        sys.exit(130)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    typer.echo(f"cvji: {' '.join(message.split())}", err=True)
    sys.exit(2)
