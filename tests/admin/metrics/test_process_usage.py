"""What a process uses, as it reads it of itself."""

import mmap
import os
import resource
import time

from edge.admin.metrics.process_usage import read_usage


def test_it_is_about_this_process():
    before = read_usage()
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(7)]
    size = 32 << 20
    memory = mmap.mmap(-1, size)  # `bytes` may take room that the process has had before
    memory.write(bytes(size))
    began = time.process_time()
    while time.process_time() < began + 0.02:
        pass
    after = read_usage()
    for file in files:
        os.close(file)
    assert after.open_fds - before.open_fds == 7
    assert after.resident_bytes - before.resident_bytes > 0.8 * size
    assert after.cpu_seconds - before.cpu_seconds >= 0.02
    assert after.max_fds == max(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
