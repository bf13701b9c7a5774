"""Which lost pods of a job were replaced by another pod, and which are missing.

By the API server's order alone: creationTimestamp is its clock, startedAt and finishedAt are the nodes'.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from cvji.jobs.pods import Pod, Stage

# A controller creates the pods of one job in a row: those made within a second of the one before are made together,
# and none of them in place of another. (creationTimestamp has whole seconds.)
TOGETHER = 1


def missing(pods: Iterable[Pod], lost: Iterable[Pod]) -> list[Pod]:
    """Those of the `lost` pods of a job that no other of its `pods` was made in place of.

    Where the operator numbers places, or names them, a newer pod of the same place replaces a lost one. Elsewhere any
    later pod of the same owner may, unless it was made together with the lost one, and each replaces one.
    """
    everyone = list(pods)
    newest: dict[tuple[str | None, str], Pod] = {}
    for pod in everyone:
        place = (pod.owner, pod.slot or pod.name)
        if place not in newest or _age(newest[place]) <= _age(pod):
            newest[place] = pod
    found: list[Pod] = []
    unplaced: dict[str | None, list[Pod]] = defaultdict(list)
    for pod in lost:
        if newest.get((pod.owner, pod.slot or pod.name)) is pod:
            (found if pod.slot else unplaced[pod.owner]).append(pod)
    for owner, failures in unplaced.items():
        created = sorted((pod.created for pod in everyone if pod.owner == owner), reverse=True)
        together = _ends_of_rows(created)
        failures.sort(key=lambda pod: pod.created, reverse=True)
        found += [
            pod
            for number, pod in enumerate(failures)
            if number >= len(created) or created[number] <= together[pod.created]
        ]
    return found


def lacking(pods: list[Pod]) -> bool:
    """Whether a pod of a job has failed, stays, and was not replaced."""
    return bool(missing(pods, [pod for pod in pods if pod.stage is Stage.FAILED and not pod.deleting]))


def _age(pod: Pod) -> tuple[int, bool]:
    """Orders the pods of one place; created in the same second, a lost one is the older."""
    return (pod.created, pod.stage not in (Stage.FAILED, Stage.RELEASED))


def _ends_of_rows(created: list[int]) -> dict[int, int]:
    """For each time, latest first, the latest that was made together with it."""
    ends = {created[0]: created[0]} if created else {}
    for later, earlier in pairwise(created):
        ends.setdefault(earlier, ends[later] if later - earlier <= TOGETHER else earlier)
    return ends
