"""What is counted, in Prometheus' terms. A registry of its own, so that tests may have several."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cvji import __version__


class Metrics:
    """The counters and gauges of one informer."""

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
        self.outbox_depth = Gauge("cvji_outbox_depth", "Jobs and nodes with something undelivered.", registry=registry)
        self.outbox_oldest = Gauge(
            "cvji_outbox_oldest_seconds", "For how long the oldest of them has waited.", registry=registry
        )
        self.problems = Counter(
            "cvji_object_problems_total", "Objects or parts of them passed over.", registry=registry
        )
        self.errors = Counter(
            "cvji_internal_errors_total", "Faults of this program that it survived.", registry=registry
        )
        self.jobs = Gauge(
            "cvji_tracked", "Jobs CloudVision was told of, by state, and nodes.", ["state"], registry=registry
        )
        self.leader = Gauge("cvji_leader", "1 where this process reports, 0 on a standby.", registry=registry)
        self.build = Gauge("cvji_build_info", "Always 1.", ["version"], registry=registry)
        self.build.labels(__version__).set(1)
        self.watch_restarts = Gauge(
            "cvji_watch_restarts", "How often a watch was begun anew.", ["resource"], registry=registry
        )
        self.decode_failures = Gauge(
            "cvji_decode_failures", "Objects that could not be read.", ["resource"], registry=registry
        )
        self.watch_age = Gauge(
            "cvji_watch_silence_seconds",
            "Seconds since a watch was last heard.",
            ["resource"],
            registry=registry,
        )


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
        self.build = Gauge("cvji_build_info", "Always 1.", ["version"], registry=registry)
        self.build.labels(__version__).set(1)

    def show(self, interfaces: int, vfs: int, *, synced: bool) -> None:
        """Set the gauges by what the node has."""
        self.nics.labels("interface").set(interfaces)
        self.nics.labels("vf").set(vfs)
        self.synced.set(synced)
