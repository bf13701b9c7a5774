"""The commands for people who look after a deployment: explain, check, holders, reconcile.

Options and printing; each command imports only what it runs.
"""

import os
import sys
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cvji.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvji.cloudvision.client import Token
    from cvji.settings import CloudVision


class Shape(StrEnum):
    """How a command prints."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Shape, typer.Option("--output", "-o", help="How to print.")]
Context = Annotated[str, typer.Option("--context", envvar="KUBE_CONTEXT", help="Context in KUBECONFIG.")]
StateNamespace = Annotated[
    str, typer.Option("--state-namespace", envvar="STATE_NAMESPACE", help="The informer's namespace, with the records.")
]


Location = Annotated[
    str, typer.Option("--location", envvar="LOCATION", help="Name of this site; the informer's if not given.")
]
Server = Annotated[str, typer.Option("--api-server", envvar="API_SERVER", help="CloudVision, as host[:port].")]
TokenFile = Annotated[
    str, typer.Option("--api-token-file", envvar="API_TOKEN_FILE", help="Its token's file; or set API_TOKEN.")
]
CaFile = Annotated[str, typer.Option("--api-ca-file", envvar="API_CA_FILE", help="CA certificates instead of ours.")]
Insecure = Annotated[
    bool, typer.Option("--api-insecure-skip-verify", envvar="API_INSECURE_SKIP_VERIFY", help="Do not verify it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("explain", help=EXPLAIN)(explain)
    app.command("check", help=CHECK)(check)
    app.command("holders", help=HOLDERS)(holders)
    app.command("reconcile", help=RECONCILE)(reconcile)


EXPLAIN = """Say why a job is, or is not, in CloudVision: its pods, their NICs, what its run waits for.

Example: cvji explain team-a/finetune

Exit codes: 0 explained, 1 no such job, 2 bad usage or no answer from Kubernetes.
"""


def explain(
    job: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="A job of any kind, or a pod.")],
    kind: Annotated[str, typer.Option("--kind", help="Its kind, or GROUP/KIND, where names are ambiguous.")] = "",
    state_namespace: StateNamespace = "cloudvision",
    context: Context = "",
    output: Output = Shape.TEXT,
) -> None:
    """See EXPLAIN."""
    from cvji import deployed
    from cvji import explain as command
    from cvji.kube.client import Api

    now, api = time.time(), Api(context)
    with _errors():
        settings = deployed.read(api, state_namespace, os.environ)
        found = command.answer(api, settings, job, kind, state_namespace, now)
    _show(found, command.lines(found, now), output)
    raise typer.Exit(0 if found.explanation else 1)


CHECK = """Look at everything that reporting needs: Kubernetes, roles, CRDs, pods, CloudVision. Reads only.

Example: kubectl -n cloudvision exec deploy/cv-job-informer -- cvji check

Exit codes: 0 all is well, 1 warnings, 2 failures. What cannot be seen from here is skipped.
"""


def check(
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    state_namespace: StateNamespace = "cloudvision",
    context: Context = "",
    output: Output = Shape.TEXT,
) -> None:
    """See CHECK."""
    from cvji import check as command
    from cvji import deployed
    from cvji.checks.result import exit_code
    from cvji.checks.site import Site
    from cvji.kube.client import Api

    token, api = os.environ.pop("API_TOKEN", ""), Api(context)
    server, accepted = None, None
    if api_server and (token or api_token_file):
        server, accepted = _cloudvision(api_server, token, api_token_file, api_ca_file, insecure=insecure)
    settings = deployed.read(api, state_namespace, os.environ)
    site = Site(api, state_namespace, settings, time.time(), os.environ, server, accepted)
    results = []
    for result in command.run(site):
        results.append(result)
        if output is Shape.TEXT:
            typer.echo(command.line(result))
    if output is Shape.JSON:
        _print_json(results)
    raise typer.Exit(exit_code(results))


HOLDERS = """Say which runs hold, or held, a NIC or a node, by what was reported.

Example: cvji holders 02:00:00:00:00:01 --at 2026-01-31T02:14:05Z

Exit codes: 0 found, 1 nobody, 2 bad usage or no answer.
"""


def holders(
    mac_or_node: Annotated[str, typer.Argument(metavar="MAC|NODE", help="A MAC address, or a node's name.")],
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Who held it then, RFC3339.")] = "",
    cloudvision: Annotated[bool, typer.Option("--cloudvision", help="Ask CloudVision too.")] = False,
    location: Location = "",
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    state_namespace: StateNamespace = "cloudvision",
    context: Context = "",
    output: Output = Shape.TEXT,
) -> None:
    """See HOLDERS."""
    from cvji import deployed
    from cvji import holders as command
    from cvji.cloudvision.reading import Reader
    from cvji.kube.client import Api

    token, api, reader = os.environ.pop("API_TOKEN", ""), Api(context), None
    when = command.moment(at) if at else None
    with _errors():
        if cloudvision:
            reader = Reader(*_cloudvision(api_server, token, api_token_file, api_ca_file, insecure=insecure))
            location = location or deployed.read(api, state_namespace, os.environ).location()
        found = command.find(api, state_namespace, mac_or_node, when, cloudvision=reader, location=location)
    _show(found, command.lines(found, mac_or_node), output)
    raise typer.Exit(0 if found.holdings else 1)


RECONCILE = """Compare what CloudVision shows as RUNNING at this LOCATION with this cluster's runs.

Example: cvji reconcile --end

Tenants' jobs and ids of others are left alone. Exit codes: 0 both agree, 1 they differ or CloudVision may not be
read, 2 bad usage or no answer.
"""


def reconcile(
    end: Annotated[bool, typer.Option("--end", help="End what is left over, as CANCELLED now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --end: do not ask.")] = False,
    location: Location = "",
    api_server: Server = "",
    api_token_file: TokenFile = "",
    api_ca_file: CaFile = "",
    insecure: Insecure = False,
    state_namespace: StateNamespace = "cloudvision",
    context: Context = "",
    output: Output = Shape.TEXT,
) -> None:
    """See RECONCILE."""
    from cvji import deployed
    from cvji import reconcile as command
    from cvji.cloudvision.client import Client
    from cvji.cloudvision.reading import Reader
    from cvji.kube.client import Api

    if yes and not end:
        raise SettingsError("--yes goes with --end")
    token, api = os.environ.pop("API_TOKEN", ""), Api(context)
    server, accepted = _cloudvision(api_server, token, api_token_file, api_ca_file, insecure=insecure)
    with _errors():
        settings = deployed.read(api, state_namespace, os.environ)
        place = location or settings.location()
        found = command.compare(api, state_namespace, place, Reader(server, accepted), settings.kinds())
    _show(found, command.lines(found, place), output)
    left = len(found.orphans) + len(found.missing)
    ending = command.may_end(found) if end else []
    if ending and not yes:
        question = f"End {len(ending)} entries? If another cluster reports at {place}, they may be its own"
        typer.confirm(question, abort=True, err=True)
    client = Client(server, accepted)
    for job in ending:
        answer = command.end(client, job, time.time())
        left -= command.delivered(answer)
        outcome = "ended" if command.delivered(answer) else f"not ended: HTTP {answer.status}: {answer.message}"
        typer.echo(f"{job.name} ({job.key.id}): {outcome}", err=output is Shape.JSON)
    raise typer.Exit(1 if left or found.unread else 0)


@contextmanager
def _errors() -> "Iterator[None]":
    """What Kubernetes or CloudVision does not give is one line, never a traceback."""
    from cvji.cloudvision.reading import ReadError
    from cvji.kube.client import ApiError
    from cvji.reports.records import RecordError

    try:
        yield
    except ApiError as err:
        raise SettingsError(f"the Kubernetes API: {err}") from None
    except RecordError as err:
        raise SettingsError(str(err)) from None
    except ReadError as err:
        if err.status == 403:
            typer.echo(f"cvji: the token may not read computejob in CloudVision: {err}", err=True)
            raise typer.Exit(1) from None
        raise SettingsError(f"CloudVision: {err}") from None


def _show(found: object, lines: "Iterable[str]", output: Shape) -> None:
    if output is Shape.JSON:
        _print_json(found)
        return
    for line in lines:
        typer.echo("".join(char if char.isprintable() else " " for char in line))


def _cloudvision(
    api_server: str, token: str, token_file: str, ca_file: str, *, insecure: bool
) -> "tuple[CloudVision, Token]":
    """Where CloudVision is, and the token for it. Raises SettingsError."""
    from cvji.cloudvision.client import Token
    from cvji.settings import CloudVision, host_port

    if not api_server or not (token or token_file):
        raise SettingsError("CloudVision is not known: set API_SERVER and API_TOKEN_FILE (or API_TOKEN)")
    return CloudVision(host_port(api_server, "API_SERVER"), ca_file, insecure), Token(token, token_file)


def _print_json(found: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
