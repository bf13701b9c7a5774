"""Random histories in simulated time: at quiet time CloudVision equals the truth. Seeds replay a history."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests.torture.model import History

# CVJI_HISTORIES asks for more; each seed found to differ on the way is kept here for good.
COUNT = int(os.environ.get("CVJI_HISTORIES", "200"))
FIRST = int(os.environ.get("CVJI_FIRST_SEED", "0"))
CHUNK = 20


# Found on the way: a job first seen late or through lagging watches and ended before it was steady (267, 579,
# 965, 2037); nodes removed while nobody looked, found before the checkpoint was taken over (1, 2).
REGRESSIONS = (1, 2, 267, 579, 965, 2037)
# With claims and a standby: one that took over with watches that had gone silent, and reported from memory what had
# ended since; and (432) that reported nothing of a job which had run long enough while it stood by.
TAKEOVERS = (41, 45, 62, 76, 87, 88, 99, 432)
# NICs or an end that were said late, and a refusal after an outage (44910); the others differed by the judge's fault.
LATE = [(seed, False) for seed in (20811, 22248, 20996, 25127, 27683, 41937)]
NARROW = [(seed, True) for seed in (23150, 44910, 20701, 43552)]


def differences(seeds: Iterable[int], **options: Any) -> list[str]:
    wrong = []
    for seed in seeds:
        history = History(seed, **options)
        history.run()
        wrong += history.judge()
    return wrong


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, CHUNK))
def test_histories(first: int) -> None:
    seeds = range(first, min(first + CHUNK, FIRST + COUNT))
    assert differences(seeds, claims=0.4, warm=True, narrow=first // CHUNK % 2 == 1) == []


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_histories_that_once_differed(seed: int) -> None:
    assert differences([seed]) == []


@pytest.mark.parametrize("seed", TAKEOVERS)
def test_takeovers_that_once_differed(seed: int) -> None:
    assert differences([seed], claims=0.4, warm=True) == []


@pytest.mark.parametrize(("seed", "narrow"), LATE + NARROW)
def test_late_news_that_once_differed(seed: int, narrow: bool) -> None:
    assert differences([seed], claims=0.4, warm=True, narrow=narrow) == []
