"""What pods' own times say of a run that ended before it was reported: too short, or nobody was looking."""

from collections.abc import Container, Iterable

from cvji.jobs import replacement
from cvji.jobs.pods import Pod, Stage

_LOST = (Stage.FAILED, Stage.RELEASED)


def held_long_enough(
    pods: Iterable[Pod], until: int, delay: float, wait: float, *, complete: bool = True, late: Container[str] = ()
) -> list[Pod]:
    """The pods of a run that ran and were not replaced, if it should have been reported; else none.

    That is if they ran for `delay` seconds with every pod of the run having run, or for `wait` seconds at all. What
    still runs is taken to run until `until` (seconds since the epoch). Not `complete`: a pod went that had not run.
    `late` are the uids of those that began to run after the job had ended.
    """
    everyone = list(pods)
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
