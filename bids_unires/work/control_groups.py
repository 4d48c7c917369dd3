"""Limits of the Linux control groups of this process, set by a container or a cluster job.

Versions 1 and 2 of the kernel interface are read. Where groups are nested, the lowest limit
applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Memory in bytes that all processes of the group may use together; None if unlimited."""
    found = [
        int(text)
        for group in _groups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(group / name)).isdecimal()
    ]
    return min(found, default=None)


def core_limit() -> float | None:
    """Processor time that the group may use, in number of cores; None if unlimited."""
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
    """Current number of threads and processes, and its limit, of each group that has a limit."""
    for group in _groups("pids"):
        now, most = _read(group / "pids.current"), _read(group / "pids.max")
        if now.isdecimal() and most.isdecimal():
            yield int(now), int(most)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the groups of this process, each followed by its parent groups.

    Inside a container, the group may have the name that it has outside. A folder of that name does
    not exist inside. The topmost folder does, and it belongs to the container.
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
