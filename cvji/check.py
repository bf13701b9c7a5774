"""`cvji check`: every check in turn, one line a result. Wiring and text; nothing is written anywhere."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from cvji.checks import cloudvision, cluster, workloads
from cvji.checks.result import Level, Result, failure, skipped
from cvji.checks.site import Site
from cvji.kube.client import ApiError

Check = Callable[[Site], Iterable[Result]]

# In the order in which they are printed; the first one's failure leaves the rest of the cluster's out.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("kubernetes", cluster.kubernetes),
    ("clock of kubernetes", cluster.clock),
    ("CRDs", cluster.crds),
    ("permissions", cluster.permissions),
    ("job kinds", cluster.kinds),
    ("informer", workloads.informer),
    ("leader", workloads.leader),
    ("memory", workloads.memory),
    ("discovery", workloads.discovery),
    ("cloudvision", cloudvision.cloudvision),
    ("reports", workloads.reports),
)


def run(site: Site) -> Iterator[Result]:
    """Each result as soon as it is known. What may not be read is skipped, and the line says so."""
    if site.settings.unread:
        yield skipped("settings", site.settings.unread)
    reached = True
    for name, check in CHECKS:
        if not reached and check is not cloudvision.cloudvision:
            continue
        try:
            yield from check(site)
        except ApiError as err:
            if err.code == 401 and name == "kubernetes":
                reached = False
                yield failure(name, f"{site.api.host}: {err}", "the credentials of KUBECONFIG are not accepted")
            elif err.code in (401, 403):
                yield skipped(name, f"may not be read: {err}", workloads.ELSEWHERE)
            elif name == "kubernetes" or not err.code:
                reached = False
                yield failure(name, f"{site.api.host}: {err}", "check KUBECONFIG, and that the API server is reached")
            elif err.code == 404:
                yield skipped(name, f"{err}")
            else:
                yield failure(name, f"{err}", "see the API server's log")
        except (msgspec.MsgspecError, UnicodeError) as err:
            yield failure(name, f"an object cannot be read: {err}", "see who has written it")


_MARK = {Level.OK: "ok", Level.SKIPPED: "skip", Level.WARNING: "warn", Level.FAILURE: "FAIL"}


def line(result: Result) -> str:
    """One result for people; control characters of foreign words are not passed on."""
    text = f"{_MARK[result.level]:<4}  {result.name}: {result.message}"
    text += f"\n      -> {result.advice}" if result.advice else ""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
