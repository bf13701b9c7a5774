"""What is given back after the start comes back when it is needed."""

import platform
import subprocess
import sys

import pytest

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


BLOCKS = """
import re, threading
from cvji.memory import give_back_large_blocks

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

give_back_large_blocks()
before = resident()
kept = []

def read_page():
    page = bytes(4_000_000)
    kept.append(bytes(2_000))

for _ in range(20):
    thread = threading.Thread(target=read_page)
    thread.start()
    thread.join()
print(before, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_blocks_go_back_to_the_kernel_though_small_ones_were_made_after_them() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKS], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert after < before + 1000
