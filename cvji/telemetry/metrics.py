"""What is counted, in Prometheus' terms. A registry of its own, so that tests may have several."""

from collections.abc import Callable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cvji import __version__, build


class Watch(msgspec.Struct, frozen=True):
    """One watch: how often it was restarted, objects it could not read, seconds since it was last heard."""

    restarts: int
    decode_failures: int
    silence: float


class Moment(msgspec.Struct, frozen=True):
    """The informer as it stands at a scrape. `oldest` is in seconds."""

    jobs: Mapping[str, int]  # by state
    nodes: int
    leads: bool
    outbox: int
    oldest: float
    watches: Mapping[str, Watch]  # by resource


class _Moments(Collector):
    """Looks at the informer at each scrape, so that nothing is computed that nobody reads."""

    def __init__(self, look: Callable[[], Moment]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        now = self._look()
        jobs = GaugeMetricFamily("cvji_jobs", "Jobs followed: pending are not reported yet.", labels=["state"])
        for state, count in now.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily("cvji_nodes", "Nodes whose NICs CloudVision holds.", now.nodes)
        yield GaugeMetricFamily("cvji_leader", "1 where this process reports, 0 on a standby.", float(now.leads))
        yield GaugeMetricFamily("cvji_outbox_depth", "Jobs and nodes with something undelivered.", now.outbox)
        yield GaugeMetricFamily("cvji_outbox_oldest_seconds", "For how long the oldest of them has waited.", now.oldest)
        restarts = CounterMetricFamily("cvji_watch_restarts", "How often a watch was restarted.", labels=["resource"])
        failures = CounterMetricFamily("cvji_decode_failures", "Objects that could not be read.", labels=["resource"])
        silence = GaugeMetricFamily(
            "cvji_watch_silence_seconds", "Seconds since a watch was last heard.", labels=["resource"]
        )
        for resource, watch in now.watches.items():
            restarts.add_metric([resource], watch.restarts)
            failures.add_metric([resource], watch.decode_failures)
            silence.add_metric([resource], watch.silence)
        yield from (restarts, failures, silence)


def _build_info(registry: CollectorRegistry) -> None:
    gauge = Gauge("cvji_build_info", "Always 1.", ["version", "commit"], registry=registry)
    gauge.labels(__version__, build.COMMIT).set(1)


class Metrics:
    """What is counted in one informer."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.reports = Counter(
            "cvji_reports_total", "Attempts to deliver a report, by outcome.", ["outcome"], registry=registry
        )
        self.delivery_seconds = Histogram(
            "cvji_delivery_seconds",
            "Seconds from a report being due to CloudVision having taken it.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
            registry=registry,
        )
        self.problems = Counter(
            "cvji_object_problems_total", "Objects or parts of them that were skipped.", registry=registry
        )
        self.errors = Counter(
            "cvji_internal_errors_total", "Faults of this program that it survived.", registry=registry
        )
        _build_info(registry)

    def look(self, look: Callable[[], Moment]) -> None:
        """Ask `look` at each scrape; it is called by the scrape's thread."""
        self.registry.register(_Moments(look))


class DiscoveryMetrics:
    """The counters and gauges of one node's discovery."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.scan_seconds = Histogram(
            "cvji_scan_cpu_seconds",
            "CPU seconds of one look at the node's NICs.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
            registry=registry,
        )
        self.writes = Counter(
            "cvji_node_state_writes_total", "Rounds, by what became of the state.", ["outcome"], registry=registry
        )
        self.nics = Gauge("cvji_node_nics", "NICs of this node, by type.", ["type"], registry=registry)
        self.synced = Gauge("cvji_node_synced", "1 where the last look succeeded.", registry=registry)
        _build_info(registry)

    def show(self, interfaces: int, vfs: int, *, synced: bool) -> None:
        """Set the gauges by what the node has."""
        self.nics.labels("interface").set(interfaces)
        self.nics.labels("vf").set(vfs)
        self.synced.set(synced)
