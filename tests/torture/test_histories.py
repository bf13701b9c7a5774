"""Random histories in simulated time: what CloudVision shows, and showed, is what happened. A seed is a history."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests.torture.cluster import Options
from tests.torture.play import Faults, History
from tests.torture.reference import ReferenceDriver

# CVJI_HISTORIES asks for more; a seed that is found to differ is kept here for good.
COUNT = int(os.environ.get("CVJI_HISTORIES", "225"))
FIRST = int(os.environ.get("CVJI_FIRST_SEED", "0"))
CHUNK = 25
EACH = CHUNK if "CVJI_HISTORIES" in os.environ else 10  # of a chunk are played

CLAIMS = Options(claims=0.4)
DRIVEN = Options(claims=0.2, drivers=0.6)
OWNED = Options(claims=0.2, drivers=0.8, rays=0.4)
# What chunks of seeds are played as, in turn.
VARIANTS: list[tuple[Options, Faults]] = [
    (CLAIMS, Faults(any=False)),
    (CLAIMS, Faults()),
    (CLAIMS, Faults(warm=True)),
    (CLAIMS, Faults(warm=True, narrow=True)),
    (Options(), Faults(mode_changes=True)),
    (Options(), Faults(any=False)),
    (DRIVEN, Faults(any=False)),
    (OWNED, Faults(apart=True)),
    (OWNED, Faults(apart=True, warm=True)),
]
# Seeds and variants in which the program, or the judge, was once wrong: starts and ends of runs that end before they are
# told, NICs of an earlier run, pods that begin after the end, a Pending pod that goes with its job, a blind leader, a job
# that was outlived and is listed last, pods whose owner, a pod, goes first.
REGRESSIONS = {
    0: (150, 210, 315, 928, 955, 1148, 1278, 1400, 1440, 1543, 1632, 2110, 2390, 17709, 18306, 21613),
    1: (159, 750, 945, 1524, 1910, 5585, 14134, 6113, 27025, 29445),
    2: (362, 516, 720, 1370, 1766, 2400, 17754, 19266, 20977, 22553),
    3: (1669, 2797, 23027, 23198),
    4: (25767,),
    5: (238, 414, 617, 657, 840, 1431, 1435, 1696, 17395, 23097),
    6: (13, 16, 51, 824, 2633),
    7: (53, 88, 112, 150, 209, 256, 272, 285, 1078, 8508),
    8: (69, 79, 221, 292, 295, 6054),
}
# The same, where the reference program was judged to be wrong, and it or the judge was.
REFERENCE_REGRESSIONS = {2: (11090,), 7: (4226,), 8: (662, 2244, 3579, 10339, 12354, 20466)}
CHUNKS = list(range(FIRST, FIRST + COUNT, CHUNK))


def differences(seeds: Iterable[int], options: Options, faults: Faults, driver: Any = None) -> list[str]:
    wrong = []
    for seed in seeds:
        history = History(seed, options=options, faults=faults, driver=driver)
        history.run()
        wrong += history.judge()
    return wrong


def variant(first: int) -> tuple[Options, Faults]:
    return VARIANTS[first // CHUNK % len(VARIANTS)]


@pytest.mark.parametrize("first", CHUNKS)
def test_histories(first: int) -> None:
    assert differences(range(first, min(first + EACH, FIRST + COUNT)), *variant(first)) == []


def test_histories_that_were_once_judged_wrong() -> None:
    assert [text for number, seeds in REGRESSIONS.items() for text in differences(seeds, *VARIANTS[number])] == []


def test_histories_of_the_reference_that_were_once_judged_wrong() -> None:
    played = ((seeds, VARIANTS[number]) for number, seeds in REFERENCE_REGRESSIONS.items())
    assert [text for seeds, how in played for text in differences(seeds, *how, driver=ReferenceDriver())] == []


@pytest.mark.parametrize("first", CHUNKS)
def test_the_judge_accepts_a_program_that_does_what_the_design_says(first: int) -> None:
    seeds = range(first, min(first + EACH, FIRST + COUNT))
    assert differences(seeds, *variant(first), driver=ReferenceDriver()) == []


def test_children_are_seen_before_their_owners_and_pods_outlive_the_pods_that_own_them() -> None:
    ownerless, orphans = 0, 0
    for seed in range(10):
        history = History(seed, options=OWNED, faults=Faults(apart=True), driver=ReferenceDriver())
        history.run()
        ownerless += len(history.evidence.ownerless)
        history = History(seed, options=DRIVEN, faults=Faults(any=False), driver=ReferenceDriver())
        history.run()
        gone = {change.uid: change.at for change in history.cluster.log if change.kind == "pods" and change.gone}
        last = {change.object.owner: change.at for change in history.cluster.log if change.kind == "pods"}
        orphans += sum(last[owner] > at for owner, at in gone.items() if owner in last)
    assert ownerless > 10
    assert orphans > 5


@pytest.mark.parametrize(("options", "faults"), VARIANTS)
def test_a_seed_is_a_history(options: Options, faults: Faults) -> None:
    first, second = (History(11, options=options, faults=faults, driver=ReferenceDriver()) for _ in range(2))
    first.run()
    second.run()
    assert first.cluster.log == second.cluster.log
    assert first.shown.jobs == second.shown.jobs
    assert first.evidence.live == second.evidence.live
