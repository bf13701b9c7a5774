"""The commands for people who look after a deployment: explain, check, holders, reconcile.

Each takes its settings, prints, returns the exit code, and imports only what it runs.
"""

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cvji.commands import CheckSettings, ExplainSettings, HoldersSettings, ReconcileSettings, Server
from cvji.output import say_or_end
from cvji.settings import LogFormat, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvji.cloudvision.client import Token

EXPLAIN = """Say why a job is, or is not, in CloudVision.

Example: cvji explain team-a/finetune

It shows the job's pods, their NICs, and what its run waits for. Exit codes: 0 explained, 1 no such job, 2 bad usage or
no answer from Kubernetes.
"""


def explain(settings: ExplainSettings) -> int:
    """`cvji explain`: see EXPLAIN. Returns the exit code."""
    from cvji import deployed
    from cvji import explain as command
    from cvji.kube.client import Api

    now, api = time.time(), Api(settings.context)
    with _errors():
        informer = deployed.read(api, settings.state_namespace, os.environ)
        found = command.answer(api, informer, settings.job, settings.kind, settings.state_namespace, now)
    _show(found, command.lines(found, now), settings.output)
    return 0 if found.explanation else 1


CHECK = """Check everything that reporting needs; reads only.

Example: kubectl -n cloudvision exec deploy/cv-job-informer -- cvji check

That is Kubernetes, roles, CRDs, pods and CloudVision. What cannot be seen from here is skipped. Exit codes: 0 all is
well, 1 warnings, 2 failures.
"""


def check(settings: CheckSettings) -> int:
    """`cvji check`: see CHECK. Returns the exit code."""
    from cvji import check as command
    from cvji import deployed
    from cvji.checks.result import exit_code
    from cvji.checks.site import Site
    from cvji.kube.client import Api

    api = Api(settings.context)
    server, token = (settings.cloudvision, _token(settings)) if settings.has_cloudvision else (None, None)
    informer = deployed.read(api, settings.state_namespace, os.environ)
    site = Site(api, settings.state_namespace, informer, time.time, os.environ, server, token)
    results = []
    for result in command.run(site):
        results.append(result)
        if settings.output is LogFormat.TEXT:
            say_or_end(command.line(result), sys.stdout)
    if settings.output is LogFormat.JSON:
        _print_json(results)
    return exit_code(results)


HOLDERS = """Say which runs hold, or held, a NIC or a node.

Example: cvji holders 02:00:00:00:00:01 --at 2026-01-31T02:14:05Z

It goes by what was reported. Exit codes: 0 found, 1 nobody, 2 bad usage or no answer.
"""


def holders(settings: HoldersSettings) -> int:
    """`cvji holders`: see HOLDERS. Returns the exit code."""
    from cvji import deployed
    from cvji import holders as command
    from cvji.cloudvision.reading import Reader
    from cvji.kube.client import Api

    api, reader, location = Api(settings.context), None, settings.location
    namespace, wanted = settings.state_namespace, settings.mac_or_node
    when = command.moment(settings.at) if settings.at else None
    with _errors():
        if settings.ask_cloudvision:
            reader = Reader(settings.cloudvision, _token(settings))
            location = location or deployed.read(api, namespace, os.environ).location()
        found = command.find(api, namespace, wanted, when, cloudvision=reader, location=location)
    _show(found, command.lines(found, wanted), settings.output)
    return 0 if found.holdings else 1


RECONCILE = """Compare what CloudVision shows with this cluster's runs.

Example: cvji reconcile --end

What is RUNNING at this LOCATION is compared. Tenants' jobs and ids of others are left alone. Exit codes: 0 both agree,
1 they differ or CloudVision may not be read, 2 bad usage or no answer.
"""


def reconcile(settings: ReconcileSettings) -> int:
    """`cvji reconcile`: see RECONCILE. Returns the exit code."""
    from cvji import deployed
    from cvji import reconcile as command
    from cvji.cloudvision.client import Client
    from cvji.cloudvision.reading import Reader
    from cvji.kube.client import Api

    api, namespace = Api(settings.context), settings.state_namespace
    server, token = settings.cloudvision, _token(settings)
    with _errors():
        informer = deployed.read(api, namespace, os.environ)
        place, reader = settings.location or informer.location(), Reader(server, token)
        found = command.compare(api, namespace, place, reader, informer)
    _show(found, command.lines(found, place), settings.output)
    left = len(found.orphans) + len(found.ended) + len(found.missing)
    ending = command.may_end(found) if settings.end else []
    if ending and not settings.yes:
        question = f"End {len(ending)} entries? If another cluster reports at {place}, they may be its own"
        typer.confirm(question, abort=True, err=True)
    client = Client(server, token)
    for job in ending:
        outcome = command.end(api, namespace, reader, client, job, time.time())
        left -= outcome.settled
        line = f"{job.name} ({job.key.id}): {outcome.words}"
        if settings.output is LogFormat.JSON:
            typer.echo(line, err=True)
        else:
            _print([line])
    return 1 if left or found.unread else 0


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


def _show(found: object, lines: "Iterable[str]", output: LogFormat) -> None:
    if output is LogFormat.JSON:
        _print_json(found)
        return
    _print(lines)


def _print(lines: "Iterable[str]") -> None:
    for line in lines:
        say_or_end("".join(char if char.isprintable() else " " for char in line), sys.stdout)


def _token(settings: Server) -> "Token":
    """The token for CloudVision. Raises SettingsError."""
    from cvji.cloudvision.client import Token

    return Token(settings.api_token, settings.api_token_file)


def _print_json(found: object) -> None:
    import msgspec

    say_or_end(msgspec.json.format(msgspec.json.encode(found)).decode(), sys.stdout)
