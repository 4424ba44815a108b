"""Memory that is kept between steps, and given back behind them."""

import platform
import resource
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator for what it does"
)
FRESH = """
import ctypes, resource, torch
from tomopick.training.heap import kept_heap

libc, size = ctypes.CDLL("libc.so.6"), 48 * 2**20
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        place = libc.malloc(size)
        ctypes.memset(place, 1, size)
        libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

plain = faults()
with kept_heap(torch.device("cpu")):
    faults()
    print(plain, faults(), end=" ")
    held = resident()
print((held - resident()) // 2**20)
"""


@glibc
def test_memory_is_taken_once_and_given_back():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    plain, kept, given_back = map(int, done.stdout.split())
    pages = 48 * 2**20 // resource.getpagesize()
    assert plain > 2 * pages and kept < pages / 10 and given_back > 40
