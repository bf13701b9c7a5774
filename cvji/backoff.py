"""How long to wait before a retry: one rule for every server. Pure, so that the queues' rules can use it."""


def backoff(first: float, most: float, failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: doubling from `first` to `most`, up to half of it taken off.

    `jitter`, in [0, 1), spreads those that failed together.
    """
    return min(first * 2.0 ** min(max(failures - 1, 0), 30), most) * (0.5 + jitter / 2)
