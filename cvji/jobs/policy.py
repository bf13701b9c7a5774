"""What the operator chose about jobs."""

import math

import msgspec

from cvji.settings import Mode, OwnerPolicy

# Stands in for a START_MAX_WAIT of `never` in every rule but the one for which it is `never`.
MAX_WAIT = 60.0


class Policy(msgspec.Struct, frozen=True):
    """What the operator chose. Both delays are in seconds; `start_max_wait` may be infinite."""

    mode: Mode = Mode.INTERFACE
    owner: OwnerPolicy = OwnerPolicy.ROOT
    stability_delay: float = 5.0
    start_max_wait: float = MAX_WAIT

    @property
    def max_wait(self) -> float:
        """START_MAX_WAIT in the rules that need an end to the waiting."""
        return self.start_max_wait if math.isfinite(self.start_max_wait) else MAX_WAIT
