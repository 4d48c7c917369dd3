"""A Slurm of one node, where it is installed and can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NODE = Path(__file__).with_name("slurm-node.sh")
TOOLS = ("slurmctld", "slurmd", "munged", "sbatch")

Slurm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Configuration file of a running Slurm; none of its daemons outlives the tests."""
    if "CLUSTER_TESTS" not in os.environ:
        pytest.skip("takes minutes: make cluster-test")
    if os.getuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS):
        pytest.skip("needs root and Debian's slurm-wlm")
    # munged refuses sockets in folders that others may not enter.
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    try:
        subprocess.run([NODE, "start", folder], check=True)
        yield folder / "slurm.conf"
    finally:
        subprocess.run([NODE, "stop", folder], check=True)
        left = [pid for pid in folder.glob("*.pid") if _runs(int(pid.read_text()))]
        assert not left, left


def _runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def slurm(slurm_conf: Path, tmp_path: Path) -> Slurm:
    """Run one of Slurm's commands and give what it says."""

    def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "SLURM_CONF": str(slurm_conf), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
