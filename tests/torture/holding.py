"""What may be told of a run while it holds something: one reading of docs/design.md#runs, piece by piece of its time.

Knows how long what is held must stay the same, and no more; what is held, and counts, is in `expected.py`.
"""

from collections.abc import Iterator

import msgspec

from tests.torture.evidence import Rules
from tests.torture.truth import Macs, Piece


class Holding(msgspec.Struct, frozen=True):
    """What was last told may be anything between `least` and `most`; nothing yet if `told` is False.

    `since`: when what is held began to differ from it, if it does.
    """

    least: Macs
    most: Macs
    told: bool = True
    since: float | None = None


class Shows(msgspec.Struct, frozen=True):
    """Between `by` and `until` CloudVision shows RUNNING with exactly this."""

    by: float
    until: float
    holds: Macs


class Stretch(msgspec.Struct, frozen=True):
    """A piece of a run's time. `held` then, and what `counts`; since when that is so, and since when for the same pods."""

    piece: Piece
    held: Macs
    counts: Holding
    steady: float
    alike: float

    def after(
        self, option: Holding, first: float, begin: float, rules: Rules, until: float
    ) -> Iterator[tuple[Holding, float]]:
        """What may be told at its end if `option` was before, and when that was certain.

        The run begins at `begin`, a leader sees it from `first` on, and nobody from `until` on.
        """
        piece, value = self.piece, self.counts
        p0, p1 = max(piece.begin, first), min(piece.end, until)
        if not self.held:  # nothing can be told; whether that is a change to wait for is open
            yield option, p0
            if option.since is not None:
                yield Holding(option.least, option.most, option.told), p0
            return
        if not option.told:
            certain = max(p0, first + rules.wait)
            if not piece.perhaps:
                certain = min(certain, p0 + rules.stability)
            earliest = max(p0, begin + rules.wait)
            if not piece.hindered:
                earliest = min(earliest, self.alike + rules.stability)
        else:
            if option.least == option.most == value.least == value.most:
                yield Holding(option.least, option.most), p0
                return
            since = option.since if option.since is not None else p0
            latest = max(p0, since + rules.wait)
            earliest, certain = min(self.steady + rules.stability, latest), min(p0 + rules.stability, latest)
        if p1 >= certain + rules.lag:
            yield value, certain + rules.lag
            return
        if p1 >= earliest - rules.lag:
            yield value, p1
        yield (Holding(option.least, option.most, True, since) if option.told else option), p1
