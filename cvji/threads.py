"""Threads without which the process is of no use."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start_or_end(work: Callable[[], None], name: str) -> None:
    """Do `work` in a thread of its own; where the system gives none, end with exit code 1. For the main thread."""
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as err:
        log.error("the %s thread cannot be started: %s; exiting", name, err)
        raise SystemExit(1) from None
