"""Memory that only the start needed, or only a moment did."""

DONTNEED = 4  # madvise's MADV_DONTNEED
# mallopt's parameters (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE = 128 * 1024  # bytes; glibc's own threshold, until it moves it


def give_back_files() -> None:
    """Unmap the pages of program and libraries; those in use are mapped again, from the page cache, when next touched.

    Only what cannot be written and never was: the rest would come back without what was written to it.
    """
    import ctypes

    try:
        madvise = ctypes.CDLL(None).madvise
        with open("/proc/self/smaps") as lines:  # noqa: PTH123
            for line in lines:
                words = line.split()
                if not words[0].endswith(":"):
                    addresses, rights = words[:2]
                    file = words[-1].startswith("/")
                elif words[:2] == ["Anonymous:", "0"] and rights[1] == "-" and file:
                    start, end = (int(address, 16) for address in addresses.split("-"))
                    madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONTNEED)
    except OSError:
        pass  # no such kernel: it stays as it is


def started() -> None:
    """Give back what only the start needed: an executable's maps nearly all there is in it, an interpreter's little."""
    if "__compiled__" in globals():
        give_back_files()


def give_back_large_blocks() -> None:
    """Have glibc return large blocks to the kernel when they are freed: a list's pages are several MB each.

    By itself it raises the size from which it does so with every block that is freed, and keeps a heap for every few
    threads. Another libc is left as it is.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE)):
        mallopt(parameter, value)
