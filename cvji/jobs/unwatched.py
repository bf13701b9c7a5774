"""What pods' own times say of a run that ended before it was reported: too short, or nobody was looking.

That may be asked again, as the ends of its pods are seen one by one.
"""

from collections.abc import Iterable

from cvji.jobs import replacement
from cvji.jobs.pods import Pod, Stage

_LOST = (Stage.FAILED, Stage.RELEASED)


def pending(pods: Iterable[Pod], before: frozenset[str]) -> frozenset[str]:
    """The uids of pods that have not run; and of those that had not `before`, and are not there any more."""
    everyone = list(pods)
    there = {pod.uid for pod in everyone}
    return frozenset(pod.uid for pod in everyone if pod.stage is Stage.PENDING) | (before - there)


def held_long_enough(
    pods: Iterable[Pod], ended_at: int, now: int, delay: float, wait: float, before: frozenset[str]
) -> list[Pod]:
    """The pods of a run that ran and were not replaced, if it should have been reported; else none.

    That is if they ran for `delay` seconds with every pod of the run having run, or for `wait` seconds at all. What
    still runs is taken to run until the job ended. Pods of which `before` has the uids had not run when that was asked
    last: one that is gone by now never did, and one that began after the end is not of the run. Times are seconds since
    the epoch.
    """
    everyone = list(pods)
    until = min(ended_at, now)
    waited = before | {pod.uid for pod in everyone if pod.stage is Stage.RUNNING}
    late = {pod.uid for pod in everyone if pod.uid in waited and (pod.ran_from or 0) >= ended_at}
    complete = before <= {pod.uid for pod in everyone}
    lost = [pod for pod in everyone if pod.stage in _LOST]
    replaced = {pod.uid for pod in lost} - {pod.uid for pod in replacement.missing(everyone, lost)}
    there = [pod for pod in everyone if pod.uid not in replaced and (pod.ran or not pod.deleting)]
    found = [pod for pod in there if pod.ran and pod.uid not in late]
    if not found:
        return []
    starts = [pod.ran_from or pod.started or until for pod in found]
    finish = max(pod.finished or until for pod in found)
    steady = complete and len(found) == len(there) and finish - max(starts) >= delay
    return found if steady or finish - min(starts) >= wait else []
