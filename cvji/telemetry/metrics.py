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
