"""Reads the records for commands that look once; one that cannot be read is passed over and named."""

from collections.abc import Callable, Iterator

from cvji.jobs.report import RunReport
from cvji.kube.client import Api
from cvji.kube.reading import one, pages
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import RESOURCES, ListedRecord, RecordError, object_name, read


def runs(api: Api, namespace: str, passed_over: Callable[[str], None]) -> Iterator[tuple[RunReport, ListedRecord]]:
    """Every JobReport. Raises ApiError."""
    for raw in pages(api, RESOURCES["job"].path(namespace)):
        try:
            found = read("job", raw)
        except RecordError as err:
            passed_over(str(err))
            continue
        if isinstance(found.record.report, RunReport):
            yield found.record.report, found


def run(api: Api, namespace: str, run_id: str) -> ListedRecord | None:
    """The JobReport of one run. Raises ApiError or RecordError."""
    body = one(api, RESOURCES["job"].path(namespace, object_name(run_id)))
    return None if body is None else read("job", body)


def node(api: Api, namespace: str, name: str) -> NodeReport | None:
    """What is reported of a node. Raises ApiError or RecordError."""
    body = one(api, RESOURCES["node"].path(namespace, object_name(name)))
    report = read("node", body).record.report if body is not None else None
    return report if isinstance(report, NodeReport) else None
