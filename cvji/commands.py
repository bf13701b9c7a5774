"""The commands for people who look after a deployment: explain, check, holders, reconcile.

Options and printing; each command imports only what it runs.
"""

import os
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cvji.settings import SettingsError

if TYPE_CHECKING:
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
    from cvji.kube.client import Api, ApiError

    now = time.time()
    try:
        api = Api(context)
        settings = deployed.read(api, state_namespace, os.environ)
        found = command.answer(api, settings, job, kind, state_namespace, now)
    except ApiError as err:
        raise SettingsError(f"the Kubernetes API does not answer: {err}") from None
    if output is Shape.JSON:
        _print_json(found)
    else:
        for line in command.lines(found, now):
            typer.echo(line)
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
