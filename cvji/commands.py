"""The commands for people who look after a deployment: explain, check, holders, reconcile.

Options and printing; each command imports only what it runs.
"""

import os
import sys
import time
from enum import StrEnum
from typing import Annotated

import typer

from cvji.settings import SettingsError


class Shape(StrEnum):
    """How a command prints."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Shape, typer.Option("--output", "-o", help="How to print.")]
Context = Annotated[str, typer.Option("--context", envvar="KUBE_CONTEXT", help="Context in KUBECONFIG.")]
StateNamespace = Annotated[
    str, typer.Option("--state-namespace", envvar="STATE_NAMESPACE", help="The informer's namespace, with the records.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("explain", help=EXPLAIN)(explain)


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


def _print_json(found: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
