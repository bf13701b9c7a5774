"""The one entrypoint: commands.py's settings become options here; each command imports only what it runs."""

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from cvji import __version__, build, commands, operate
from cvji.settings import Declared, LogFormat, Settings, SettingsError, declared, read
from cvji.telemetry.logs import configure

S = TypeVar("S", bound=Settings)
EXTRA = ("kubernetes", "prometheus_client", "yaml")  # packages that the extra `cluster` installs
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
OPTIONS: dict[str, Any] = {"rich_markup_mode": None, "context_settings": HELP}

app = typer.Typer(
    name="cvji",
    help="""Tell Arista CloudVision which NICs every Kubernetes job holds, and what NICs every node has.

    Example: cvji check
    """,
    pretty_exceptions_enable=False,
    **OPTIONS,
)
jobconfig = typer.Typer(help="Report jobs by hand.\n\nExample: cvji jobconfig send --help", **OPTIONS)
nodeconfig = typer.Typer(help="Report nodes by hand.\n\nExample: cvji nodeconfig send --help", **OPTIONS)
app.add_typer(jobconfig, name="jobconfig")
app.add_typer(nodeconfig, name="nodeconfig")


def _version(show: bool) -> None:
    if show:
        made = f"commit {build.COMMIT or 'unknown'}, built {build.DATE}" if build.DATE else "from source"
        typer.echo(f"cvji {__version__} ({made})")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    _group(context)


@jobconfig.callback(invoke_without_command=True)
@nodeconfig.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:  # the help, and an exit code that a script notices
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _parameter(one: Declared) -> inspect.Parameter:
    """A setting as the command line's option: a flag, or text, whose meaning is settings.py's."""
    setting = one.setting
    kind: Any = bool if one.type is bool else list[str] if setting.repeatable else str
    if setting.positional:
        option: Any = typer.Argument(..., metavar=setting.positional + "..." * setting.repeatable, help=setting.help)
    else:

        def choices(incomplete: str) -> list[str]:
            return [choice for choice in one.choices if choice.startswith(incomplete)]

        flag = f"{one.flag}/--no-{one.flag.removeprefix('--')}" if one.default is True else one.flag
        option = typer.Option(
            one.default if kind is bool else one.shown_default or None,
            *filter(None, (flag, setting.short)),
            envvar=one.env or None,
            help=setting.help,
            show_default=bool(one.shown_default),
            metavar=f"[{'|'.join(one.choices)}]" if one.choices else None,
            autocompletion=choices if one.choices else None,
        )
    return inspect.Parameter(one.field, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


Run = Callable[[S], int]


def _command(group: typer.Typer, name: str, kind: type[S], help: str) -> Callable[[Run[S]], Run[S]]:  # noqa: A002
    """Make a function a command: its settings are read and checked, then it runs and returns the exit code."""

    def add(run: Run[S]) -> Run[S]:
        def call(**given: Any) -> None:
            settings = read(kind, given, os.environ)
            if isinstance(settings, commands.Workload):
                configure(settings.log_level.value, as_json=settings.log_format is LogFormat.JSON)
            raise typer.Exit(run(settings))

        options = [_parameter(one) for one in declared(kind) if one.flag or one.setting.positional]
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what Typer goes by
        group.command(name, help=help)(call)
        return run

    return add


@_command(
    app,
    "informer",
    commands.InformerSettings,
    """Report the NICs or nodes that jobs hold (the Deployment).

    Example: cvji informer --location lab --dry-run
    """,
)
def _informer(settings: commands.InformerSettings) -> int:
    from cvji.informer.run import run

    return run(settings)


@_command(
    app,
    "discover",
    commands.DiscoverSettings,
    """List this node's NICs (the DaemonSet; by hand with --once).

    Example: cvji discover --once
    """,
)
def _discover(settings: commands.DiscoverSettings) -> int:
    from cvji.discover import run

    return run(settings)


@_command(
    jobconfig,
    "send",
    commands.JobSettings,
    """Report a job, by flags or by JSON documents.

    Example: cvji jobconfig send --location lab --id 42 --state RUNNING --node gpu-1

    Fields of a document: id, name, state, location, start_time, end_time, nodes, interfaces, tenant.
    Exit codes: 0 delivered, 1 not delivered, 2 bad input.
    """,
)
def _send_jobs(settings: commands.JobSettings) -> int:
    from cvji.tenant import send_jobs

    return send_jobs(settings)


@_command(
    nodeconfig,
    "send",
    commands.NodeSettings,
    """Report a node's NICs, by flags or by JSON documents.

    Example: cvji nodeconfig send --location lab --node gpu-1 --interface eth0=02:00:00:00:00:01

    Where NODECONFIG_MODE is disabled. Fields of a document: node, location, interfaces: a list of {name, mac, ips}.
    """,
)
def _send_nodes(settings: commands.NodeSettings) -> int:
    from cvji.tenant import send_nodes

    return send_nodes(settings)


@_command(
    nodeconfig,
    "delete",
    commands.NodeRemovalSettings,
    """Remove nodes from CloudVision.

    Example: cvji nodeconfig delete gpu-1
    """,
)
def _delete_nodes(settings: commands.NodeRemovalSettings) -> int:
    from cvji.tenant import delete_nodes

    return delete_nodes(settings)


_command(app, "explain", commands.ExplainSettings, operate.EXPLAIN)(operate.explain)
_command(app, "check", commands.CheckSettings, operate.CHECK)(operate.check)
_command(app, "holders", commands.HoldersSettings, operate.HOLDERS)(operate.holders)
_command(app, "reconcile", commands.ReconcileSettings, operate.RECONCILE)(operate.reconcile)


def main() -> None:
    """Run the command line. A user's error is one line and exit code 2, never a traceback."""
    if sys.stdout is None:  # started with it closed
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    # urllib3 says so at every request; we do once.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    try:
        code = app(prog_name="cvji", standalone_mode=False)
    except typer.TyperException as err:
        context = getattr(err, "ctx", None)  # of an error of usage
        _fail(err.format_message().rstrip(".") + (f"; see {context.command_path} --help" if context else ""))
    except SettingsError as err:
        _fail(str(err))
    except ModuleNotFoundError as err:
        if err.name not in EXTRA:
            raise
        _fail(f"this command needs the package {err.name}: pip install 'cvji[cluster]'")
    except typer.Abort:
        sys.exit(130)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    typer.echo(f"cvji: {' '.join(message.split())}", err=True)
    sys.exit(2)
