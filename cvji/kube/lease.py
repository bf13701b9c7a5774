"""Leader election on a Lease, by client-go's rules: its holder leads, everybody else waits.

Another's clock is never trusted: a lease has expired when it has not changed for its own duration, as this
process measures it. Knows nothing of what leaders do.
"""

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from cvji.kube.client import Api, ApiError
from cvji.kube.reading import one
from cvji.kube.served import decode

log = logging.getLogger(__name__)

# client-go's defaults for control-plane components, in seconds.
LEASE_DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
TIMEOUT = 5.0  # of one request; two of them fit into the renew deadline
LABELS = {"app": "cv-job-informer", "app.kubernetes.io/name": "cvji", "app.kubernetes.io/component": "lease"}


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None


class _Lease(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


_LEASE = msgspec.json.Decoder(_Lease)


class Elector:
    """Acquires a Lease and keeps it. `valid_for` may be called by any thread."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`clock` must go on while the process is stopped, as CLOCK_MONOTONIC does."""
        self._api = api
        self._base = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._clock, self._wall, self._jitter = clock, wall, jitter
        self._seen: _Spec | None = None
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._renewed: float | None = None  # when the request that last renewed it was started
        self._stop = threading.Event()
        self._trying = threading.Lock()  # so that a release is not followed by a renewal

    def valid_for(self) -> float:
        """For how many seconds this process may go on as the leader without a renewal; 0 if it is not."""
        renewed = self._renewed
        return 0.0 if renewed is None else max(renewed + RENEW_DEADLINE - self._clock(), 0.0)

    def run(self, elected: Callable[[int], None], lost: Callable[[], None], waiting: Callable[[], None]) -> None:
        """Wait for the lease, calling `waiting` if another holds it; call `elected` with its transitions, and keep it.

        Calls `lost` and returns when it could not be kept.
        """
        for attempt in itertools.count():
            if self._stop.is_set() or self._try():
                break
            if not attempt:
                waiting()
            self._stop.wait(self._retry_wait())
        if self._stop.is_set():
            return
        log.info("elected leader as %s", self._identity)
        elected(self._seen.lease_transitions or 0 if self._seen else 0)
        while not self._stop.wait(RETRY_PERIOD):
            if not self._try() and self.valid_for() <= 0:
                if not self._stop.is_set():
                    log.error("the lease could not be renewed: no longer the leader")
                    self._renewed = None
                    lost()
                return

    def stop(self, *, release: bool) -> None:
        """Stop; with `release`, let a successor acquire it at once."""
        self._stop.set()
        if not release:
            return
        with self._trying:
            if self.valid_for() <= 0:
                return
            self._renewed = None
            try:
                lease = self._get()
                if lease is not None and lease.spec.holder_identity == self._identity:
                    self._write(lease, holder="")
            except ApiError as err:
                log.warning("the lease was not released: %s", err)

    def _retry_wait(self) -> float:
        """Seconds until the next look at another's lease: soon, and at the moment at which it expires if unrenewed."""
        wait = RETRY_PERIOD * (1 + self._jitter()) / 2
        if self._seen is None or not self._seen.holder_identity:
            return wait
        left = self._seen_at + (self._seen.lease_duration_seconds or LEASE_DURATION) - self._clock()
        return min(wait, left + 0.01) if left > 0 else wait

    def _try(self) -> bool:
        """Take or renew the lease if that is allowed; whether it is ours now."""
        with self._trying:
            return not self._stop.is_set() and self._take_or_renew()

    def _take_or_renew(self) -> bool:
        began = self._clock()
        try:
            lease = self._get()
            silence, self._looked_at = self._clock() - self._looked_at, self._clock()
            # Gone is a change like others: its holder may lead on, and if it does, makes it anew within its time.
            spec = lease.spec if lease else self._seen and msgspec.structs.replace(self._seen, renew_time=None)
            if spec is not None:
                # What is gone once more after a silence may have been there meanwhile.
                if spec != self._seen or (lease is None and silence > LEASE_DURATION - RENEW_DEADLINE):
                    self._seen, self._seen_at = spec, self._looked_at
                # While it is gone, only a holder whose time still runs knows that no other had it meanwhile.
                ours = spec.holder_identity == self._identity and (lease is not None or self.valid_for() > 0)
                duration = spec.lease_duration_seconds or LEASE_DURATION
                if spec.holder_identity and not ours:
                    self._renewed = None
                    if self._seen_at + duration > self._clock():
                        return False
            self._write(lease, holder=self._identity)
        except ApiError as err:
            log.log(logging.DEBUG if err.code == 409 else logging.WARNING, "lease %s: %s", self._name, err)
            return False
        self._renewed = began
        return True

    def _timeout(self) -> float:
        """Of one request, in seconds: a leader's ends before its lease does, so that it notices the loss by then."""
        left = 0.0 if self._renewed is None else self._renewed + LEASE_DURATION - self._clock()
        return min(TIMEOUT, left) if left > 0 else TIMEOUT

    def _get(self) -> _Lease | None:
        body = one(self._api, f"{self._base}/{self._name}", timeout=self._timeout())
        return None if body is None else decode(_LEASE, body)

    def _write(self, lease: _Lease | None, holder: str) -> None:
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = lease.spec if lease else _Spec()
        ours = old.holder_identity == holder
        spec = _Spec(
            holder_identity=holder,
            lease_duration_seconds=int(LEASE_DURATION) if holder else 1,
            acquire_time=old.acquire_time if ours and old.acquire_time else now,
            renew_time=now,
            lease_transitions=(old.lease_transitions or 0) + (0 if ours or not holder else 1),
        )
        version = lease.metadata.resource_version if lease else ""
        metadata = _Metadata(self._name, resource_version=version, labels=LABELS)
        body = msgspec.json.encode(_Lease(metadata, spec))
        method, path = ("PUT", f"{self._base}/{self._name}") if lease else ("POST", self._base)
        self._seen = decode(_LEASE, self._api.send(method, path, body, timeout=self._timeout())).spec
        self._seen_at = self._clock()
