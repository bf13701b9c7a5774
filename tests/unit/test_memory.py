"""What is given back after the start comes back when it is needed."""

import subprocess
import sys

SCRIPT = """
import re, ssl
from cvji.memory import give_back_files

def resident(kind):
    return int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

ssl.create_default_context()
import ctypes
before, written = resident("RssFile"), resident("RssAnon")
give_back_files()
print(before, resident("RssFile"), written, resident("RssAnon"))
ssl.create_default_context()
"""


def test_pages_of_files_are_given_back_and_what_was_written_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    before, after, written, still = map(int, done.stdout.split())
    assert after < before / 2
    assert written <= still < written + 500
