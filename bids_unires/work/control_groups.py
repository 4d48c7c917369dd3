"""Limits of the control groups around a process: a container's, or those of a cluster's job.

Both versions of the kernel's interface are read. Of nested groups the tightest limit holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Bytes that all processes of the group may use together; None if nothing says so."""
    found = [
        int(text)
        for group in _groups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(group / name)).isdecimal()
    ]
    return min(found, default=None)


def core_limit() -> float | None:
    """Cores' worth of time that the group may use; None if nothing says so."""
    found = []
    for group in _groups("cpu"):
        shares = _read(group / "cpu.max").split() or [
            _read(group / "cpu.cfs_quota_us"),
            _read(group / "cpu.cfs_period_us"),
        ]
        if all(text.isdecimal() for text in shares):
            quota, period = map(int, shares)
            found.append(quota / period)
    return min(found, default=None)


def threads_and_limits() -> Iterator[tuple[int, int]]:
    """Threads and processes of each group that has a limit of them, and that limit."""
    for group in _groups("pids"):
        now, most = _read(group / "pids.current"), _read(group / "pids.max")
        if now.isdecimal() and most.isdecimal():
            yield int(now), int(most)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, each followed by those around it.

    A container may show the names that its groups have outside of it: their folders are not there,
    but the outermost one is, and it is the container's own.
    """
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = MOUNT / controller if controllers else MOUNT
        group = mount / path.lstrip("/")
        yield group
        while group != mount:
            group = group.parent
            yield group


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
