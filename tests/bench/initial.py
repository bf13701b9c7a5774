"""What the first look at every pod costs the informer and the API server: pages, or a stream (sendInitialEvents).

docs/design.md says what was decided by it.
"""

import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from cvji.jobs.kinds import Registry
from cvji.jobs.pods import Pod, read_pod
from cvji.kube.client import Api
from cvji.kube.events import Listed
from cvji.kube.objects import WatchEvent
from cvji.kube.reflector import PAGE_SIZE, Reflector, identity
from cvji.kube.served import PODS
from tests.bench.clusters import JOB_SIZE, NICS, QUIET
from tests.bench.figures import Row, Usage, bench
from tests.bench.real import RealSide
from tests.cluster.controlplane import ControlPlane

ROUNDS = 7  # the medians of them: garbage collection in the API server doubles its share of every third
LAST = b"k8s.io/initial-events-end"  # the annotation of the bookmark after the last of the initial events
_EVENT = msgspec.json.Decoder(WatchEvent)


class Streamed(Reflector[Pod]):
    """Reads what exists from a watch, as KEP-3157 has it; the same objects, in the same batches."""

    def _list(self) -> None:
        self._begin_list()
        query = {"watch": "1", "sendInitialEvents": "true", "allowWatchBookmarks": "true"}
        batch = []
        for line in self._api.watch(self._path, query | {"resourceVersionMatch": "NotOlderThan"}):
            event = _EVENT.decode(line)
            if event.type == "BOOKMARK" and LAST in bytes(event.object):
                break
            assert event.type == "ADDED", line
            if (found := self._applied(event.object, identity(event.object))) is not None:
                batch.append(found)
            if len(batch) == PAGE_SIZE:
                self._emit(batch)
                batch = []
        else:
            raise AssertionError("the stream ended before all was told")
        self._emit([*batch, Listed(PODS)])


class Cost(msgspec.Struct, frozen=True):
    """Of one first look, at the informer's side: seconds, CPU seconds, MB."""

    pods: int
    took: float
    cpu: float
    peak: float


def look(kind: type[Reflector[Pod]]) -> Cost:
    """Read every pod, in a process of its own."""
    seen: list[int] = []
    reflector = kind(Api(), PODS, partial(read_pod, Registry()), lambda batch: seen.append(len(batch)))
    usage = Usage(os.getpid())
    usage.forget_peak()
    began, used = time.monotonic(), time.process_time()
    reflector._list()
    took, used = time.monotonic() - began, time.process_time() - used
    return Cost(sum(seen) - 1, took, used, usage.peak())  # the one is Listed


def allocated(plane: ControlPlane) -> float:
    """MB that the API server has allocated since it started."""
    text = plane.request("GET", "/metrics").text
    found = re.search(r"^go_memstats_alloc_bytes_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1]) / 1e6


@bench
def initial_list(folder: Path, pods: int = 8_000) -> Iterator[Row]:
    """8,000 pods, by pages and by a stream, in turn."""
    assert folder
    kinds: dict[str, type[Reflector[Pod]]] = {"pages": Reflector, "a stream": Streamed}
    costs: dict[str, list[dict[tuple[str, str], float]]] = {name: [] for name in kinds}
    with ControlPlane() as plane:
        RealSide(plane).fill(pods // JOB_SIZE, JOB_SIZE, NICS)
        server = Usage(plane.processes["apiserver"])
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for _ in range(ROUNDS):
                for name, kind in kinds.items():
                    server.quiet(QUIET)
                    made, used, rss = allocated(plane), server.cpu(), server.rss()
                    server.forget_peak()
                    cost = pool.apply(look, [kind])
                    assert cost.pods == pods
                    costs[name].append(
                        {
                            ("took", "s"): cost.took,
                            ("CPU of the informer's side", "s"): cost.cpu,
                            ("peak RSS of its process", "MB"): cost.peak,
                            ("CPU of the API server", "s"): server.cpu() - used,
                            ("its RSS grew by", "MB"): server.peak() - rss,
                            ("it allocated", "MB"): allocated(plane) - made,
                        }
                    )
    for name, rounds in costs.items():
        for figure, unit in rounds[0]:
            values = [cost[figure, unit] for cost in rounds]
            note = f"median of {ROUNDS}: {min(values):.3g} to {max(values):.3g}"
            yield Row(f"{pods:,} pods by {name}", figure, statistics.median(values), unit, note=note)
