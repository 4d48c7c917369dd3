"""Importing the package starts nothing, writes nothing and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

# The libraries come first: what those do when they are imported is not of this package.
IMPORT = """
import importlib, json, os, pkgutil, sys
import SimpleITK, nibabel, nitransforms.linear, numpy, scipy.linalg, torch, warp

def state():
    folder = "/proc/self/fd"
    described = {name: os.stat(f"{folder}/{name}") for name in ("0", "1", "2")}
    return {
        "environment": dict(os.environ),
        "open files": sorted(os.readlink(f"{folder}/{name}") for name in os.listdir(folder)[:-1]),
        "standard streams": [(about.st_dev, about.st_ino) for about in described.values()],
        "threads": sorted(os.listdir("/proc/self/task")),
        "warp runs": warp.config.kernel_cache_dir is not None,
    }

before = state()
for name in sys.argv[1:]:
    package = importlib.import_module(name.rstrip("*"))
    if name.endswith("*"):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    after = state()
    changed = [about for about in before if before[about] != after[about]]
    if changed:
        told = "; ".join(f"{about}: {before[about]} -> {after[about]}" for about in changed)
        sys.exit(f"{name}: {told}")
"""


# What a program imports first comes first: whoever changes something is named.
NAMES = (
    *("bids_unires", "bids_unires.kernels", "bids_unires.model"),
    *("bids_unires.kernels*", "bids_unires.model*", "bids_unires.registration*"),
    *("bids_unires.demo*", "bids_unires.pipeline*", "bids_unires.report*", "bids_unires.run*"),
    "bids_unires.dicom*",
)


def test_importing_starts_nothing(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT, *NAMES],
        cwd=ROOT,
        env={**kept, **folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
