"""How glibc's malloc keeps and gives back memory."""

import ctypes

# mallopt's parameters (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE = 128 * 1024  # bytes; glibc's own threshold, until it moves it


def give_back_large_blocks() -> None:
    """Have glibc return large blocks to the kernel when they are freed: a list's pages are several MB each.

    By itself it raises the size from which it does so with every block that is freed, and keeps a heap for every few
    threads. Another libc is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE)):
        mallopt(parameter, value)
