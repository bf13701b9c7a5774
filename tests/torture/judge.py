"""The judge: what CloudVision holds, and held, against a second reading of docs/design.md#runs, from the cluster's log.

It shares no code with the program. `truth.py` has the facts, `expected.py` the rules; here what CloudVision shows is
laid beside them. Each job's runs, in the order of their ids, are matched with the times in which it held something,
in that way which leaves the fewest differences; then states, starts, ends and NICs must agree run by run.

Undisturbed histories are judged exactly, but for these tolerances (`Rules`): a decision may come `lag` after it is
due, so what lasts within `lag` of a delay may fall on either side; times in objects are whole seconds; `delivery`
passes until CloudVision shows a decision. Of what faults hide, each right reading is accepted:

- A run that nobody saw in full may be told or not, merged with the next one or not, and hold anything that its pods
  held. It must be told if a leader saw it for long enough and lived to record that.
- How a run ended must be told as its object said, if a leader saw that (an event of a watch that was replayed, or a
  list) and lived for `recorded` seconds. Otherwise every cause until it held something again is right.
- NICs of succeeded pods that are gone must be told if one leader saw both, and lived; otherwise they may. Of a run
  that need not be told, only what its pods' objects still say when it is.

- A cluster may be told to outlive its job by a leader that had not heard that its pods, or it, had ended; it must be
  told to have ended.
- A leader that has not seen the owner of a cluster may tell of it as a job of its own, until it sees that; where the
  owner has ended by then, that run may go on.

Where docs/design.md#runs is silent, this is how it is read:

1. Holding is of running pods: a job whose pods have all succeeded holds nothing. It is CANCELLED after
   START_MAX_WAIT if its object does not say how it ended; a cause that comes within `lag` of that moment may win.
2. Runs that were never told take no number: ids count what CloudVision was told.
3. A pod's start is its status.startTime or its first container's startedAt: either, of the pods known at some moment
   of the run. A job that is resumed while a pod is stuck starts by its object, and may leave out what succeeded pods
   held before. If it is before the end of the run before (clocks), that end is right too. After a run that was too
   short to be told, both the object's start and the pods' are right.
4. A cluster that outlives its job may start at its pods' start, at the end of the job, or START_MAX_WAIT after that.
5. Made together: pods created within 3 s may be siblings or not. A Failed pod that is being deleted, and a Pending
   one, may hinder or not. A newer pod replaces a failed one for as long as it exists.
6. "Held something for STABILITY_DELAY with every pod having run" (a run that ended before it was told): it must be
   told if all of its pods ran at once for that long, and still exist; it must not if the time from the first start to
   the last finish is shorter, or a pod was Pending at its end and the run shorter than START_MAX_WAIT; who took over
   when that pod was gone does not know of it.
7. Such a report has what still counts, and may have all that its pods held. One of a FAILED job is told, though
   nothing counts any more.
8. The end of a job that is gone may be any time from its deletion's request (or the last pod's end) to the moment
   that a leader notices; of one that holds nothing, that of its last pod, by the API server or by its node's clock.
   What is held for less than `lag` may not be seen.
9. While nothing is held, whether START_MAX_WAIT for a change runs on or begins again is open.
10. What a node's clock that is off says of a pod stands: one that began after the end that the object says counts in a
   report at the end if by its own time it began before. One that begins in the moment of that end may count or not.
11. Pods that run and whose NICs are not published (yet) may count for the start of a run or not, also those that ended
   before it held anything. The start that a suspension or an end takes from the object may stand or not.
12. Where the object has no time of its end, a run whose pods run on ends when a leader notices; else with any finish
   of its pods.
13. Who cannot see claims may see a run end, or break, where claims alone go on; who learns late of an end may have told
   of pods that began after it, and then reports them at the end too.
14. A run told in one JOBCONFIG_MODE and ended near its change may stay in the old one; a RUNNING one may not.

For every MAC, at every moment: a run that CloudVision shows as RUNNING with it had a pod that held it, or one that
succeeded with it, at that moment or less than START_MAX_WAIT + STABILITY_DELAY + `delivery` of calm time before.
That is more than the rule for pairs asks (of two such runs both must have), and implies it.
"""

from collections.abc import Sequence
from functools import cache

from tests.torture.cluster import Change, Node
from tests.torture.evidence import INFINITY, Evidence, Rules
from tests.torture.expected import Expected, Split
from tests.torture.holding import Holding
from tests.torture.shown import Entry, Shown
from tests.torture.truth import Macs, Subject, read_log

Found = tuple[str, ...]


def judge(log: Sequence[Change], evidence: Evidence, shown: Shown, rules: Rules) -> list[str]:
    """Every difference between what happened and what CloudVision shows, in words."""
    wrong = list(shown.refused)
    runs = by_job(shown)
    for subject in read_log(log, rules, evidence.until):
        wrong += JobJudge(subject, runs.pop(subject.uid, []), evidence, rules).differences()
    wrong += [f"{uid} is no job" for uid in runs]
    return wrong + judge_nodes(log, shown)


def by_job(shown: Shown) -> dict[str, list[tuple[str, list[Entry]]]]:
    """The runs of each job, in the order of their numbers."""
    found: dict[str, list[tuple[int, str, list[Entry]]]] = {}
    for run, entries in shown.jobs.items():
        uid, _, number = run.partition(".")
        found.setdefault(uid, []).append((int(number or 1), run, entries))
    return {uid: [(run, entries) for _, run, entries in sorted(runs)] for uid, runs in found.items()}


def judge_nodes(log: Sequence[Change], shown: Shown) -> list[str]:
    """NodeConfigs at the end."""
    nodes: dict[str, Node | None] = {}
    for change in log:
        if change.kind == "nodes":
            nodes[change.uid] = None if change.gone else change.object
    wrong = []
    for name in nodes.keys() | shown.nodes.keys():
        node, told = nodes.get(name), shown.nodes.get(name, [])
        right = frozenset([node.mac]) if node else frozenset[str]()
        if (told[-1] if told else frozenset()) != right:
            wrong.append(f"{name} is {told[-1:]}, not {sorted(right)}")
    return sorted(wrong)


class JobJudge:
    """One job: its runs as CloudVision shows them, and as they must be."""

    def __init__(self, subject: Subject, runs: list[tuple[str, list[Entry]]], evidence: Evidence, rules: Rules) -> None:
        self.subject, self.runs, self.evidence, self.rules = subject, runs, evidence, rules
        self.expected = Expected(subject, evidence, rules)
        self.undisturbed = evidence.calm[:1] == [[evidence.began, evidence.until]]

    def differences(self) -> list[str]:
        uid = self.subject.uid
        numbers = [run for run, _ in self.runs]
        right = [uid if number == 0 else f"{uid}.{number + 1}" for number in range(len(numbers))]
        wrong = [f"{uid}: runs are {numbers}, not {right}"] if numbers != right else []
        return [*wrong, *self.match(), *self.held_wrongly()]

    def match(self) -> Found:
        """The differences that are left by the best matching of runs with what was held."""
        fragments, expected = self.subject.fragments, self.expected
        splits = [expected.split(j) for j in range(len(fragments) - 1)]

        @cache
        def best(run: int, first: int) -> Found:
            if first == len(fragments):
                left = [(name, entries) for name, entries in self.runs[run:] if not self.believed(entries)]
                return tuple(f"{name}: {describe(entries[-1])}, and was not" for name, entries in left)
            choices = []
            believed = run < len(self.runs) and self.believed(self.runs[run][1])
            if believed:
                choices.append(best(run + 1, first))
            for last in range(first, len(fragments)):
                if believed and self.goes_on(self.runs[run][1], last):
                    choices.append(best(run + 1, last + 1))
                if last == len(fragments) - 1 or splits[last] is not Split.NEVER:
                    if run < len(self.runs):
                        choices.append(self.compare(run, first, last) + best(run + 1, last + 1))
                    untold = (self.missing(first, last),) if expected.must(first, last) else ()
                    choices.append(untold + best(run, last + 1))
                if last < len(splits) and splits[last] is Split.ALWAYS:
                    break
            return min(choices, key=len)

        return best(0, 0)

    def believed(self, entries: list[Entry]) -> bool:
        """Whether a leader may tell of a run though nothing was held.

        It took a cluster for a job of its own, since its watch of pods stood still, or that of its owner; or, by their
        nodes' clocks alone, pods ran before the end.
        """
        end = entries[-1].end
        if end is None:
            return False
        early = [life for life in self.subject.pods if life.ran > end >= (life.pod.ran_from or end + 1)]
        if entries[0].state != "RUNNING" and entries[-1].macs <= frozenset().union(*(life.had for life in early)):
            return bool(early)
        if entries[-1].state != "CANCELLED":
            return False
        rules = self.rules
        for first, last in self.evidence.ownerless.get(self.subject.uid, ()):
            noticed = self.evidence.noticed(last, rules.lag + rules.recorded) + rules.lag
            goes_on = self.subject.since - rules.wait <= noticed and last - first > rules.stability - rules.lag
            if first <= entries[-1].at and (end <= max(noticed, entries[-1].start) or goes_on):
                return entries[-1].macs <= frozenset().union(*(life.had for life in self.subject.pods))
        if self.subject.master_end is None:
            return False
        gone = next((at for at, job, _ in self.subject.states if job is None), INFINITY)
        blind = (life for life in self.subject.pods if self.unheard(min(life.ended, gone), entries[0].at))
        return entries[-1].macs <= frozenset().union(*(life.had for life in blind))

    def unheard(self, at: float, told: float) -> bool:
        """Whether a leader may not have heard of what happened at `at` when it decided on what it told at `told`."""
        until = min(told, at + self.rules.wait)
        return not self.evidence.overlap(at, until) or self.evidence.settled(at, self.rules.delivery) >= until

    def goes_on(self, entries: list[Entry], last: int) -> bool:
        """Whether a run that was told before its job's owner was seen may have gone on in a fragment, too."""
        end = entries[-1].end or 0.0
        return self.subject.uid in self.evidence.ownerless and end >= self.subject.fragments[last].begin

    def missing(self, first: int, last: int) -> str:
        fragments, uid = self.subject.fragments, self.subject.uid
        return f"{uid}: no run for what it held from {fragments[first].begin:.1f} to {fragments[last].end:.1f}"

    def compare(self, run: int, first: int, last: int) -> Found:
        """How one run differs from one time of holding."""
        name, entries = self.runs[run]
        entry, expected = entries[-1], self.expected
        wrong = []
        if expected.never(first, last, entries[0].at):
            wrong.append("was too short to be told")
        before = self.runs[run - 1][1][-1].end if run else None
        wrong += self.compare_start(entry, first, last, before, untold=first > run)
        wrong += self.compare_end(entries, first, last)
        wrong += self.compare_holds(entries, first, last)
        if self.undisturbed:
            wrong += self.compare_course(entries, first, last)
        spans = ", ".join(f"{one.begin:.1f}-{one.end:.1f}" for one in self.subject.fragments[first : last + 1])
        return tuple(f"{name} ({describe(entry)}; held {spans}): {text}" for text in wrong)

    def compare_start(self, entry: Entry, first: int, last: int, before: float | None, *, untold: bool) -> list[str]:
        own, pods = self.expected.starts(first, last, before)
        right: set[float] = {float(at) for at in own}
        blind = self.evidence.window(self.subject.fragments[first].begin, self.subject.fragments[last].end) is None
        changed = any(job.started not in own for job in self.expected.objects(first, last))
        if not own or untold or blind or changed:
            right |= {float(job.started) for _, job, _ in self.subject.states if blind and job and job.started}
            right |= {max(at, before or 0) for at in pods} | set(pods)
        if entry.start in right:
            return []
        return [f"starts at {entry.start:.1f}, not {sorted(right)}"]

    def compare_end(self, entries: list[Entry], first: int, last: int) -> list[str]:
        entry = entries[-1]
        endings = self.expected.endings(last)
        if not endings or entry.state == "RUNNING":
            ok = not endings and entry.state == "RUNNING" and entry.end is None
            return [] if ok else [f"is {entry.state}, not {[one.state for one in endings] or 'RUNNING'}"]
        told = next(one.at for one in entries if one.state != "RUNNING")
        seen = self.evidence.window(self.subject.fragments[last].end, told) is not None
        mine, _ = self.expected.members(first, last)
        finished = {life.pod.finished for life in mine if life.pod.finished}
        for one in endings:
            if one.state != entry.state or entry.end is None:
                continue
            earliest, latest = one.earliest, one.latest
            if not seen and earliest != latest:  # not all of its pods were seen to hold something, nor to end
                latest = max(latest, told)
                if not one.cause.startswith("end"):
                    earliest = min([earliest, *(life.ended - self.rules.grain for life in mine)])
            if earliest <= entry.end <= latest or (entry.end == entry.start and one.latest <= entry.start):
                return []
            told_late = one.earliest != one.latest and entries[0].state != "RUNNING"  # what the pods show was awaited
            if (not one.cause.startswith("end") or told_late) and entry.end in finished:
                return []
        return [f"ended {entry.state} at {entry.end}, not {endings}"]

    def in_nodes(self, entry: Entry) -> bool | None:
        """Whether an entry is by nodes; None if it has both lists, or none."""
        return bool(entry.nodes) if bool(entry.macs) != bool(entry.nodes) else None

    def compare_holds(self, entries: list[Entry], first: int, last: int) -> list[str]:
        entry, expected = entries[-1], self.expected
        nodes = self.in_nodes(entry)
        if nodes is None:
            return [f"has NICs {sorted(entry.macs)} and nodes {sorted(entry.nodes)}"]
        changed = self.evidence.node_mode_from
        over = expected.closed(last)
        too_soon = nodes and entry.at < changed
        if too_soon or (not nodes and entry.state == "RUNNING" and changed < self.evidence.until):
            return [f"is by {'nodes' if nodes else 'NICs'} in the other JOBCONFIG_MODE"]
        holds = entry.nodes if nodes else entry.macs
        end = self.subject.fragments[last].end
        options, _ = expected.holdings(first, last, nodes)
        if expected.endings(last):
            least, most = expected.counts(min(over, end + self.rules.wait), first, last, nodes)
            if entries[0].state != "RUNNING" and not expected.must(first, last):
                least &= self.still_said(entry.at, nodes)
            ever = expected.ever(first, last, nodes)
            running = self.at_end(entries, first, last, nodes)
            if entries[0].state != "RUNNING":
                running |= self.unseen(end, entry.at, nodes)
            options = [
                Holding(one.least | least, one.most | most | running) if one.told else Holding(least, ever)
                for one in options
            ]
            if changed < self.evidence.until:  # told in one mode, what counts in the other
                options.append(Holding(frozenset(), ever))
        early = self.before_start(entry, nodes)
        if any(one.least - early <= holds <= one.most for one in options):
            return []
        return [f"holds {sorted(holds)}, not {' or '.join(words(one) for one in options)}"]

    def before_start(self, entry: Entry, nodes: bool) -> Macs:
        """What only pods held that had succeeded before the start that is told."""
        had = [(life.succeeded < entry.start, {life.pod.node} if nodes else life.had) for life in self.subject.pods]
        before = frozenset[str]().union(*(held for early, held in had if early))
        return before - frozenset().union(*(held for early, held in had if not early))

    def still_said(self, at: float, nodes: bool) -> Macs:
        """What its pods' objects say at `at` that they held."""
        there = [life for life in self.subject.pods if (life.gone if nodes else life.told_until) > at]
        return frozenset().union(*({life.pod.node} if nodes else life.had for life in there))

    def at_end(self, entries: list[Entry], first: int, last: int, nodes: bool) -> Macs:
        """What a leader may have seen held when it learnt of the end, and what it had told until then."""
        fragments, lag = self.subject.fragments, self.rules.lag
        begin, end, over = fragments[first].begin, fragments[last].end, self.expected.closed(last)
        told = frozenset().union(*(entry.macs | entry.nodes for entry in entries if entry.state == "RUNNING"))
        around = max(self.evidence.noticed(end), over) + lag
        learnt = max(self.evidence.noticed(max(over, one.at)) + lag for one in self.expected.endings(last))
        found: Macs = frozenset()
        for piece in self.subject.pieces:
            if piece.begin >= begin and piece.end >= end and piece.begin <= learnt:
                found |= piece.holds(nodes) if piece.begin <= around else piece.holds(nodes) & told
        return found

    def unseen(self, end: float, at: float, nodes: bool) -> Macs:
        """What pods held that were made before `end`, and of which nobody who tells at `at` saw when they began."""
        pods = [life for life in self.subject.pods if life.born < end and life.ran < at]
        return frozenset().union(
            *({life.pod.node} if nodes else life.had for life in pods if not self.evidence.window(life.ran, at))
        )

    def compare_course(self, entries: list[Entry], first: int, last: int) -> list[str]:
        """In an undisturbed history: what it must show on the way, and that its end is told in time."""
        _, shows = self.expected.holdings(first, last, False)
        wrong = []
        for one in shows:
            at = one.by + self.rules.delivery
            if at <= one.until:
                now = next((entry for entry in reversed(entries) if entry.at <= at), None)
                if now is None or now.state != "RUNNING" or now.macs != one.holds:
                    wrong.append(f"at {at:.1f} showed {now and describe(now)}, not {sorted(one.holds)}")
        endings = self.expected.endings(last)
        if endings and entries[-1].at > (due := max(one.at for one in endings) + self.rules.lag + self.rules.delivery):
            wrong.append(f"its end was told at {entries[-1].at:.1f}, later than {due:.1f}")
        return wrong

    def held_wrongly(self) -> list[str]:
        """MACs that CloudVision showed as held by a running run of this job when none of its pods had them."""
        wrong = []
        calm = self.rules.wait + self.rules.stability + self.rules.delivery
        calm += 0.0 if self.undisturbed else self.rules.retry
        for run, entries in self.runs:
            for number, entry in enumerate(entries):
                until = entries[number + 1].at if number + 1 < len(entries) else self.evidence.until
                if entry.state != "RUNNING":
                    continue
                lost = {mac: at for mac in entry.macs if (at := self.lost(mac, entry.at)) is not None}
                wrong += [
                    f"{run} showed {mac} from {entry.at:.1f} to {until:.1f}; let go at {at:.1f}"
                    for mac, at in lost.items()
                    if until > self.evidence.settled(self.vacant(at), calm)
                ]
        return wrong

    def vacant(self, at: float) -> float:
        """Since when the job holds nothing, where it does START_MAX_WAIT after `at`, and can only be ended; else `at`."""
        due = at + self.rules.wait
        if any(one.begin <= due < one.end for one in self.subject.fragments):
            return at
        return max([at, *(one.end for one in self.subject.fragments if one.end <= due)])

    def lost(self, mac: str, at: float) -> float | None:
        """Since when the job has not had a MAC that is shown at `at`; None: it has it until the history ends."""
        had = [life for life in self.subject.pods if mac in life.had]
        until = [life.ended for life in had]
        for life in had:
            if life.succeeded <= life.ended:
                until.append(self.over(life.ended))
            if life.ran <= at and not self.evidence.window(life.ended, at):  # taken for a part of the run that is
                until.append(life.gone)
        found = max(until, default=self.evidence.began)
        return None if found >= self.evidence.until else found

    def over(self, at: float) -> float:
        """When the run in which something happened is over for certain."""
        for j in range(len(self.subject.fragments)):
            last = j + 1 == len(self.subject.fragments)
            if self.subject.fragments[j].end >= at and (last or self.expected.split(j) is Split.ALWAYS):
                return max(self.expected.closed(j), at)
        return at


def describe(entry: Entry) -> str:
    end = f" to {entry.end:.0f}" if entry.end is not None else ""
    return f"{entry.state} from {entry.start:.0f}{end} with {sorted(entry.macs | entry.nodes)}"


def words(one: Holding) -> str:
    return f"{sorted(one.least)}" if one.least == one.most else f"{sorted(one.least)}..{sorted(one.most)}"
