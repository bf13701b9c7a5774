"""What the judge is given beside the cluster's log: the rules' delays, and when somebody could see what happened."""

from collections.abc import Iterable, Iterator

import msgspec

INFINITY = float("inf")


class Rules(msgspec.Struct, frozen=True):
    """The delays of docs/design.md#runs in seconds, and the tolerances that the judge grants."""

    stability: float = 5.0  # STABILITY_DELAY
    wait: float = 60.0  # START_MAX_WAIT
    lag: float = 1.5  # from a change, or a moment that is due, to the decision
    grain: float = 2.0  # objects give whole seconds: a duration by two of them is off by so much
    delivery: float = 8.0  # from the decision to CloudVision, while nothing fails
    recorded: float = 6.0  # from the decision until it outlives its process
    retry: float = 35.0  # the longest pause between attempts


class Evidence:
    """What could be seen, when. Times are seconds since the epoch.

    `leaders`: when processes began to lead. `live`: windows in which one leader heard everything at once. `calm`: the parts of them in which CloudVision took
    what it was told. `seen`: places in the log of those changes of job objects that a leader saw, by event or by
    list, and outlived for long enough to record. `node_mode_from`: when JOBCONFIG_MODE became node. `ownerless`: by job,
    when the leader had not seen the owner that it has.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.until = INFINITY
        self.leaders: list[float] = []
        self.live: list[list[float]] = []
        self.calm: list[list[float]] = []
        self.seen: set[int] = set()
        self.node_mode_from = INFINITY
        self.ownerless: dict[str, list[list[float]]] = {}
        self._leader: int | None = None
        self._calm = False

    def note(self, at: float, leader: int | None, calm: bool) -> None:
        """At `at` this leader hears everything (None: nobody does), and CloudVision takes what it is told."""
        if leader is not None:
            if leader == self._leader:
                self.live[-1][1] = at
            else:
                self.live.append([at, at])
        if calm:
            if self._calm and leader == self._leader:
                self.calm[-1][1] = at
            else:
                self.calm.append([at, at])
        self._leader, self._calm = leader, calm

    def note_ownerless(self, at: float, uid: str) -> None:
        """At `at` the leader does not see the owner of a job."""
        known = self.ownerless.setdefault(uid, [])
        if known and at - known[-1][1] < 1:
            known[-1][1] = at
        else:
            known.append([at, at])

    @classmethod
    def undisturbed(cls, began: float, until: float, changes: int) -> "Evidence":
        """One leader that heard everything, all the time."""
        found = cls(began)
        found.until = until
        found.live, found.calm = [[began, until]], [[began, until]]
        found.seen = set(range(changes))
        return found

    def window(self, begin: float, end: float) -> list[float] | None:
        """The live window that has all of this in it, if there is one."""
        return next((one for one in self.live if one[0] <= begin and min(end, self.until - 1.0) <= one[1]), None)

    def overlaps(self, begin: float, end: float) -> Iterator[tuple[float, float]]:
        """The parts of an interval in which a leader heard everything."""
        for first, last in self.live:
            if first < end and last > begin:
                yield max(first, begin), min(last, end)

    def overlap(self, begin: float, end: float) -> float:
        """The longest such part, in seconds."""
        return max((last - first for first, last in self.overlaps(begin, end)), default=0.0)

    def took_over(self, since: float, until: float) -> bool:
        """Whether a process began to lead between these, which did not see what was gone before."""
        return any(since <= at <= until for at in self.leaders)

    def recorded(self, begin: float, end: float, rules: Rules) -> bool:
        """Whether a leader saw for long enough what was so between these, and lived to record it."""
        return any(
            min(last, end) - max(first, begin) >= rules.lag
            and last >= min(max(first, begin) + rules.lag + rules.recorded, self.until - 1.0)
            for first, last in self.live
        )

    def noticed(self, at: float, lasting: float = 0.0) -> float:
        """When a leader first sees what is so from `at` on, and goes on seeing everything for `lasting` seconds."""
        seen = (max(first, at) for first, last in self.live if last >= min(max(first, at) + lasting, self.until - 1.0))
        return min((since for since in seen), default=INFINITY)

    def first_seen(self, spans: Iterable[tuple[float, float]]) -> float:
        """When a leader first sees anything of these."""
        return min((first for begin, end in spans for first, _ in self.overlaps(begin, end)), default=INFINITY)

    def settled(self, at: float, within: float) -> float:
        """The end of the first calm stretch of `within` seconds that begins at `at` or later."""
        starts = (max(first, at) for first, last in self.calm if last - max(first, at) >= within)
        return min(starts, default=INFINITY) + within
