"""Limits of containers and jobs, as either version of the kernel's interface shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bids_unires.work import control_groups

GIB = 2**30
FakeGroups = Callable[[str, dict[str, str]], None]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGroups:
    """Give a function that says which groups a process is in and what their files hold."""

    def make(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr(control_groups, "MOUNT", tmp_path / "mount")

    return make


def test_a_container(groups: FakeGroups) -> None:
    groups("0::/\n", {"memory.max": str(4 * GIB), "cpu.max": "250000 100000"})
    assert control_groups.memory_limit() == 4 * GIB
    assert control_groups.core_limit() == 2.5


def test_a_step_of_a_job_has_the_limit_of_its_job(groups: FakeGroups) -> None:
    job = "system.slice/slurmstepd.scope/job_7"
    files = {
        f"{job}/step_0/user/memory.max": "max",
        f"{job}/memory.max": str(8 * GIB),
        f"{job}/cpu.max": "max 100000",
        "system.slice/memory.max": str(64 * GIB),
    }
    groups(f"0::/{job}/step_0/user\n", files)
    assert control_groups.memory_limit() == 8 * GIB
    assert control_groups.core_limit() is None


def test_the_tightest_of_nested_limits_applies(groups: FakeGroups) -> None:
    """Also where a job is given less than its step, or than the node."""
    files = {
        "job_7/step_0/cpu.max": "400000 100000",
        "job_7/cpu.max": "200000 100000",
        "cpu.max": "800000 100000",
        "job_7/step_0/memory.max": str(4 * GIB),
        "job_7/memory.max": str(2 * GIB),
        "memory.max": str(8 * GIB),
    }
    groups("0::/job_7/step_0\n", files)
    assert control_groups.core_limit() == 2
    assert control_groups.memory_limit() == 2 * GIB


def test_the_first_version(groups: FakeGroups) -> None:
    files = {
        "memory/slurm/job_7/memory.limit_in_bytes": str(2 * GIB),
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "cpu/slurm/cpu.cfs_quota_us": "-1",
        "cpu/slurm/cpu.cfs_period_us": "100000",
        "cpu/cpu.cfs_quota_us": "150000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    groups("4:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm\n0::/\n", files)
    assert control_groups.memory_limit() == 2 * GIB
    assert control_groups.core_limit() == 1.5


def test_names_from_outside_of_a_container(groups: FakeGroups) -> None:
    groups("4:memory:/docker/0a1b\n", {"memory/memory.limit_in_bytes": str(GIB)})
    assert control_groups.memory_limit() == GIB
    groups("0::/../../job_7\n", {"memory.max": str(3 * GIB)})
    assert control_groups.memory_limit() == 3 * GIB


@pytest.mark.parametrize("text", ["max", "", "nonsense"])
def test_no_limit(groups: FakeGroups, text: str) -> None:
    groups("0::/\n", {"memory.max": text, "cpu.max": text})
    assert control_groups.memory_limit() is None
    assert control_groups.core_limit() is None


def test_a_system_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "none")
    assert control_groups.memory_limit() is None
    assert control_groups.core_limit() is None
