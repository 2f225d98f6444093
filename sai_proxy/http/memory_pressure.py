"""Whether the process is close to its container's memory limit, where the kernel would end it with all its
streams. Source: cgroups v2 and v1, and proc(5).
"""

import ctypes
import os
from pathlib import Path

SHED_SHARE = 0.9

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_UNLIMITED = 1 << 60


def memory_limit(files: tuple[Path, ...] = _LIMIT_FILES) -> int | None:
    """The container's limit in bytes, None without one."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < _UNLIMITED else None
    return None


def resident_bytes() -> int:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def return_freed_memory() -> None:
    """Give the kernel back what was freed in this process and is kept for later. Where the C library has no such
    call, nothing happens. Source: malloc_trim(3)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_short_of_memory(limit: int) -> bool:
    """Whether this process has reached SHED_SHARE of `limit` bytes."""
    return resident_bytes() >= SHED_SHARE * limit
