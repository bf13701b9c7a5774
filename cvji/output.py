"""Lines on stdout, which may be full, closed, or a pipe that nobody reads any more."""

import os
from contextlib import suppress
from typing import TextIO


def say(text: str, out: TextIO) -> str:
    """Print a line at once. Returns why it could not be written, "" if it was."""
    try:
        print(text, file=out, flush=True)
    except OSError as err:
        with suppress(OSError, ValueError):  # or the interpreter, at its end, would try again and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return f"stdout: {err.strerror}"
    return ""


def say_or_end(text: str, out: TextIO) -> None:
    """Print a line at once; where that cannot be, end with exit code 1 and one line on stderr."""
    if wrong := say(text, out):
        raise SystemExit(f"cvji: {wrong}")
