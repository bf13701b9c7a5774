"""Large blocks of memory that are freed go back to the kernel."""

import platform
import subprocess
import sys

import pytest

BLOCKS = """
import re, threading
from cvji.malloc import give_back_large_blocks

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
