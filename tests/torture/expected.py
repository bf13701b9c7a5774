"""A second reading of docs/design.md#runs, from facts alone: which runs CloudVision must, may or must not show.

`Expected` answers for one job. A candidate for a run is a span of fragments i..j: the job held something in each of
them, and between them nothing. What the text leaves open, and what faults hide, is said in `judge.py`.
"""

import enum
from collections.abc import Iterator

import msgspec

from tests.torture.cluster import Job
from tests.torture.evidence import INFINITY, Evidence, Rules
from tests.torture.holding import Holding, Shows, Stretch
from tests.torture.truth import NONE, Macs, Piece, PodLife, Subject


class Split(enum.Enum):
    """Whether the run after a gap is another one than that before it."""

    ALWAYS = "always"
    MAYBE = "maybe"
    NEVER = "never"


class Ending(msgspec.Struct, frozen=True):
    """One right way to say that a run ended, and when it was certain to have."""

    at: float
    state: str
    earliest: float
    latest: float
    cause: str


class Expected:
    """One job's runs by docs/design.md#runs."""

    def __init__(self, subject: Subject, evidence: Evidence, rules: Rules) -> None:
        self.subject, self.evidence, self.rules = subject, evidence, rules
        self.fragments = subject.fragments

    # --- where runs begin and end -------------------------------------------------------------------

    def next_begin(self, j: int) -> float:
        return self.fragments[j + 1].begin if j + 1 < len(self.fragments) else self.evidence.until

    def open(self, j: int) -> bool:
        """Whether it still holds something when the history is over."""
        return self.fragments[j].end >= self.evidence.until

    def causes(self, j: int) -> list[Ending]:
        """Everything between fragments j and j+1 that ends a run, in order."""
        subject, rules = self.subject, self.rules
        empty, again = self.fragments[j].end, self.next_begin(j)
        if self.open(j):
            return []
        noticed = self.evidence.noticed(empty) + rules.lag
        let_go = self.let_go(j) - rules.grain
        found = [Ending(empty + rules.wait, "CANCELLED", let_go, noticed, "empty")]
        ended = gone = suspended = False
        asked = empty
        before = [one for one in subject.states if one[0] < empty][-1:]
        for since, job, number in [*before, *(one for one in subject.states if empty <= one[0] < again)]:
            at = max(since, empty)
            if job is None:
                if not gone:
                    latest = self.evidence.noticed(at) + rules.lag
                    found.append(Ending(at, "CANCELLED", min(asked - rules.grain, let_go), latest, "gone"))
                gone = True
            elif job.end and not ended:
                ended = True
                found.append(self.ended(at, job.end.state, job.end.at, number, j))
            elif job.suspended and not suspended:
                suspended = True
                found.append(Ending(at, "CANCELLED", let_go, noticed, "suspended"))
            if job and job.deleting:
                asked = min(asked, since)
        return sorted((one for one in found if one.at < again), key=lambda one: one.at)

    def let_go(self, j: int) -> float:
        """The first moment at which it may seem to hold nothing: what is held for less than `lag` may not be seen."""
        while j and self.fragments[j].end - self.fragments[j].begin < self.rules.lag:
            j -= 1
        return self.fragments[j].end

    def ended(self, at: float, state: str, said: int | None, number: int, j: int) -> Ending:
        """An end by the object, at the time that it says, or else at the latest finish of its pods, or now."""
        cause = "end, seen" if number in self.evidence.seen else "end"
        if said is not None:
            return Ending(at, state, said, said, cause)
        ended = [life for life in self.subject.pods if life.ended <= at + 1]
        latest = max(self.evidence.noticed(at) + self.rules.lag, *(life.pod.finished or 0.0 for life in ended))
        if self.evidence.window(at - 1, at + self.rules.lag):  # what runs on holds something, whatever ended before
            goes_on = [life for life in self.subject.pods if life.holds(at - 1) and life.ended > at + self.rules.lag]
            ended = goes_on or ended
        earliest = min([at - self.rules.grain, *(life.pod.finished for life in ended if life.pod.finished)])
        return Ending(at, state, earliest, latest, cause)

    def split(self, j: int) -> Split:
        """Whether the fragments before and after a gap are two runs."""
        rules, evidence = self.rules, self.evidence
        empty, again = self.fragments[j].end, self.next_begin(j)
        for cause in self.causes(j):
            if cause.cause == "gone":
                return Split.ALWAYS
            if cause.cause == "empty":
                since = ((max(first, empty) + rules.wait, last) for first, last in evidence.live if last > empty)
                if any(at <= last and evidence.recorded(at, min(again, last), rules) for at, last in since):
                    return Split.ALWAYS
            elif evidence.recorded(cause.at, self.undone(cause, again), rules):
                return Split.ALWAYS
        blind = evidence.window(empty, again + rules.lag) is None
        paused = any(job and job.suspended for at, job, _ in self.subject.states if at <= evidence.noticed(again))
        paused = paused or again == empty  # without claims, that is
        later = [(one.begin, one.end) for one in self.fragments[j + 1 :]]
        seen = evidence.first_seen(later) if later else evidence.noticed(again)
        if self.causes(j) or (blind and paused) or seen + rules.lag >= empty + rules.wait:
            return Split.MAYBE
        return Split.NEVER

    def undone(self, cause: Ending, again: float) -> float:
        """When an object was un-ended or resumed."""
        stays = (lambda job: job.suspended) if cause.cause == "suspended" else (lambda job: job.end is not None)
        later = (at for at, job, _ in self.subject.states if at > cause.at and job and not stays(job))
        return min(again, min(later, default=INFINITY))

    def endings(self, j: int) -> list[Ending]:
        """Every right way to say how a run that fragment j closes ended; none: it is RUNNING."""
        causes = self.causes(j)
        if not causes:
            if self.open(j) or self.split(j) is Split.NEVER:
                return []
            empty = self.fragments[j].end
            noticed = self.evidence.noticed(empty) + self.rules.lag
            return [Ending(empty + self.rules.wait, "CANCELLED", empty - self.rules.grain, noticed, "empty")]
        certain = [one for one in causes if one.cause == "end, seen"]
        causes = [one for one in causes if not (certain and one.cause == "gone" and one.at >= certain[0].at)]
        first = causes[0].at
        whole = self.evidence.window(self.fragments[j].end, first + self.rules.lag + self.rules.recorded)
        if whole and causes[0].cause != "end":
            return [one for one in causes if one.at <= first + self.rules.lag]
        return causes

    def closed(self, j: int) -> float:
        """When the run that fragment j closes is over by a reading that sees everything at once."""
        causes = self.causes(j)
        return causes[0].at if causes else self.evidence.until

    def objects(self, i: int, j: int) -> list[Job]:
        """The job's object as it was from the begin of fragment i until the run that fragment j closes was over.

        A suspension may take its start away, and its end may set it.
        """
        begin, over = self.fragments[i].begin, self.closed(j) + self.rules.lag
        before = [job for at, job, _ in self.subject.states if at <= begin and job][-1:]
        return before + [job for at, job, _ in self.subject.states if begin < at <= over and job]

    # --- its start ----------------------------------------------------------------------------------

    def starts(self, i: int, j: int, before: float | None) -> tuple[set[int], set[int]]:
        """Right start times: by the job's object, and by pods. `before`: the end told of the run before."""
        pieces = [piece for n in range(i, j + 1) for piece in self.fragments[n].pieces]
        own = {piece.job.started for piece in pieces if piece.job.started is not None}
        kept = {at for at in own if before is None or at >= before}
        pods = set[int]()
        mine = [life for life in self.subject.pods if life.ran < pieces[-1].end and life.ended > pieces[0].begin]
        before_it = self.fragments[i - 1].end if i else 0.0
        end, over = pieces[-1].end, self.closed(j)
        never = [life for life in self.subject.pods if not life.had]  # which NICs they had was never published
        bare = [one for one in never if before_it < one.ended <= pieces[0].begin or end <= one.ran <= over]
        more = [*mine, *self.leftovers(pieces[0].begin), *bare]
        for moment in [*(piece.begin for piece in pieces), end, end + self.rules.lag, over]:
            there = [life for life in mine if life.ran <= moment < life.gone]
            seen = [life for life in mine if life.ran <= moment]
            also = [life for life in more if life.ran <= moment < life.gone]
            holders = [life for life in there if life.had and life.macs[0][0] <= moment]
            for lives in (there, seen, also, holders):
                for times in ([life.pod.started for life in lives], [life.pod.ran_from for life in lives]):
                    pods.add(min((at for at in times if at is not None), default=0))
        if self.evidence.window(pieces[0].begin, pieces[-1].end) is None:
            pods |= {at for life in self.subject.pods for at in (life.pod.started, life.pod.ran_from) if at is not None}
        if self.subject.master_end is not None:
            pods |= {int(self.subject.master_end), int(self.subject.since)}
        return kept, pods

    # --- whether it is told -------------------------------------------------------------------------

    def pieces(self, i: int, j: int) -> list[Piece]:
        """All of its time from the begin of fragment i to the end of fragment j."""
        begin, end = self.fragments[i].begin, self.fragments[j].end
        return [piece for piece in self.subject.pieces if piece.begin >= begin and piece.end <= end]

    def must(self, i: int, j: int) -> bool:
        """Whether this run is certain to be told."""
        return self.told_by(i, j) < INFINITY or self.must_at_end(i, j)

    def told_by(self, i: int, j: int) -> float:
        """When it is certain to have been told as running, and recorded; never, if it is not."""
        rules, begin = self.rules, self.fragments[i].begin
        found, pieces = INFINITY, self.pieces(i, j)
        for piece in pieces:
            for first, last in self.evidence.live:
                p0, p1 = max(piece.begin, first), min(piece.end, last)
                if not piece.macs or piece.job.end or p1 <= p0:
                    continue
                seen = min(max(begin, first, one.begin) for one in pieces if one.macs and one.end > first)
                due = max(p0, seen + rules.wait)
                if not piece.perhaps:
                    due = min(due, p0 + rules.stability)
                safe = last >= self.evidence.until - 1 or last >= due + rules.lag + rules.recorded
                if p1 >= due + rules.lag and safe:
                    found = min(found, due + rules.lag + rules.recorded)
        return found

    def must_at_end(self, i: int, j: int) -> bool:
        """Whether its pods show, at its end, that it held something for long enough."""
        rules, evidence, over = self.rules, self.evidence, self.closed(j)
        if self.open(j) or not evidence.window(self.fragments[i].begin, over + rules.lag + rules.recorded):
            return False
        mine, waiting = self.members(i, j)
        end, sure = self.fragments[j].end, over + self.rules.lag
        shown = [life for life in mine if life.gone > sure and life.told_until > sure]
        late = [life for life in self.subject.pods if life.born < end <= life.ran]  # had not run while NICs were held
        causes = self.causes(j)
        if not shown or len(shown) < len(mine) or waiting or late or not causes:
            return False
        says = causes[0]
        ends = [life.ended for life in mine] + [float(life.pod.finished or INFINITY) for life in mine]
        begins = [life.macs[0][0] for life in mine if life.macs] + [float(life.pod.ran_from or 0) for life in mine]
        return min(*ends, says.earliest) - max(*begins, self.fragments[i].begin) >= rules.stability + rules.grain

    def never(self, i: int, j: int, told: float) -> bool:
        """Whether this run was certain to be too short to be told until `told`."""
        rules, begin, over = self.rules, self.fragments[i].begin, self.closed(j)
        if not self.evidence.window(begin, over + rules.stability + rules.lag):
            return False
        if over - begin >= rules.wait - rules.lag:
            return False
        steady, before = begin, None
        for piece in self.pieces(i, j):
            state = (piece.macs, piece.pods)
            if state != before:
                steady, before = piece.begin, state
            if not piece.hindered and piece.end - steady >= rules.stability - rules.lag:
                return False
        mine, waiting = self.members(i, j, sure=True)
        unseen = [life for life in waiting if self.evidence.took_over(life.gone, told)]  # by who decided on this run
        waiting = [life for life in waiting if life not in (*unseen, *self.belated(j))]
        finishes = [float(life.pod.finished) for life in mine if life.pod.finished]
        ran = [life for life in self.subject.pods if life.ran <= over and life.ended > begin]
        begins = [float(life.pod.ran_from) for life in ran if life.pod.ran_from]
        says = max((one.latest for one in self.endings(j)), default=over)
        span = max([over, says, *finishes]) - min([begin, *begins])
        return span < (rules.wait if any(not life.pod.finished for life in waiting) else rules.stability) - rules.grain

    def members(self, i: int, j: int, *, sure: bool = False) -> tuple[list[PodLife], list[PodLife]]:
        """The pods that ran in a run, and those that never did: there at its end for certain (`sure`), or in it at all."""
        begin, end, over = self.fragments[i].begin, self.fragments[j].end, self.closed(j)
        mine = [life for life in self.subject.pods if life.ran < end and life.ended > begin]
        since = over + self.rules.lag if sure else begin
        there = (life for life in self.subject.pods if life.born < end and life.gone > since)
        return mine, [life for life in there if life.ran > over]

    # --- what it holds ------------------------------------------------------------------------------

    def ever(self, i: int, j: int, nodes: bool) -> Macs:
        """All that it can be said to have held."""
        begin, end = self.fragments[i].begin, self.fragments[j].end
        found = [life for life in self.subject.pods if life.ran < end and life.ended > begin]
        found += [*self.leftovers(begin), *self.belated(j)]
        return frozenset().union(*({life.pod.node} if nodes else life.had for life in found))

    def belated(self, j: int) -> list[PodLife]:
        """Pods that began after the end that the job's object says, but by their node's clock before it."""
        over, again = self.closed(j), self.next_begin(j)
        later = (life for life in self.subject.pods if over <= life.ran < min(over + self.rules.wait, again))
        return [life for life in later if (life.pod.ran_from or INFINITY) <= over]

    def leftovers(self, begin: float) -> list[PodLife]:
        """Pods of an earlier run that a leader who did not see them end may take for a part of this one."""
        unseen = (life for life in self.subject.pods if life.ended <= begin < life.gone and life.ran < INFINITY)
        return [life for life in unseen if not self.evidence.window(life.ended, begin)]

    def counts(self, at: float, i: int, j: int, nodes: bool) -> tuple[Macs, Macs]:
        """What pods that succeeded in the run left to it by `at`: for certain, and at most."""
        begin, told = self.fragments[i].begin, self.told_by(i, j)
        least, most = set[str](), set[str]()
        for life in self.subject.pods:
            if life.succeeded > at or life.succeeded == INFINITY:
                continue
            holds = {life.pod.node} if nodes else life.had
            whole = self.evidence.window(begin, at) is not None
            if life.succeeded <= begin:
                if not self.evidence.window(life.succeeded, begin) and life.gone > begin:
                    most |= holds
                continue
            most |= holds
            holds = {life.pod.node} if nodes else life.surely
            until = life.gone if nodes else life.told_until
            here = self.evidence.window(life.succeeded, at + self.rules.lag + self.rules.recorded)
            window = self.evidence.window(life.succeeded, until)
            recorded = window and window[1] >= max(until + self.rules.recorded, told)
            if nodes and window and window[0] < self.evidence.node_mode_from:  # recorded in the other mode
                recorded = False
            if not whole and self.subject.master_end is not None:
                continue
            published = max((since for since, _ in life.macs), default=life.ran)
            known = self.evidence.overlap(published, at) > 0 and until > self.evidence.noticed(
                at, self.rules.lag + self.rules.recorded
            )
            if known or here or recorded:
                least |= holds
        return frozenset(least), frozenset(most)

    def holdings(self, i: int, j: int, nodes: bool) -> tuple[list[Holding], list[Shows]]:
        """What may last have been told of it before its end; and what CloudVision is certain to show on the way."""
        begin, end = self.fragments[i].begin, min(self.fragments[j].end, self.evidence.until)
        window = self.evidence.window(end, end + self.rules.lag + self.rules.recorded)
        if window is None:
            return [Holding(NONE, self.ever(i, j, nodes))], []
        whole = window[0] <= begin
        seen = (max(one.begin, window[0]) for one in self.pieces(i, j) if one.macs and one.end > window[0])
        first = min(seen, default=max(begin, window[0]))
        options = [Holding(NONE, NONE, told=False)]
        if not whole:
            options.append(Holding(NONE, self.ever(i, j, nodes)))
        shows: list[Shows] = []
        for stretch in self.stretches(i, j, first, nodes):
            found: dict[Holding, float] = {}
            for option in options:
                for new, by in stretch.after(option, first, begin, self.rules, self.evidence.until):
                    found[new] = max(by, found.get(new, 0.0))
            options = list(found)
            only, piece, value = options[0], stretch.piece, stretch.counts
            if whole and len(options) == 1 and only.told and only.least == only.most == value.least:
                shows.append(Shows(max(found[only], piece.begin), piece.end, value.least))
        return options, shows

    def stretches(self, i: int, j: int, first: float, nodes: bool) -> Iterator[Stretch]:
        """What counts in each piece from `first` on."""
        same = alike = first
        value: Holding | None = None
        state: object = None
        for piece in self.pieces(i, j):
            held = piece.holds(nodes)
            least, most = self.counts(max(piece.begin, first), i, j, nodes) if held else (NONE, NONE)
            now = Holding(least | held, most | held)
            if value is None or not now.least | value.least <= now.most & value.most:
                value, same = now, piece.begin
            else:  # may be what it was
                value = Holding(now.least | value.least, now.most & value.most)
            if (same, piece.pods) != state:
                state, alike = (same, piece.pods), piece.begin
            if piece.end > first:
                yield Stretch(piece, held, now, max(same, first), max(alike, first))
