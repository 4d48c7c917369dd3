"""Kernels and model run where nothing but torch, numpy, scipy and warp is installed."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT

IMPORT_ALL = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for name in {packages!r}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
"""
PACKAGES = ("bids_unires.kernels", "bids_unires.model")
ABSENT = {
    "SimpleITK",
    "bids",
    "bids_validator",
    "isal",
    "nibabel",
    "nitransforms",
    "pandas",
    "rich",
    "templateflow",
}


def test_torch_numpy_scipy_and_warp_are_enough() -> None:
    script = IMPORT_ALL.format(absent=ABSENT, packages=PACKAGES)
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in ROOT.joinpath(*package.split(".")).rglob("[!_]*.py")
    }
    assert modules
    assert modules <= set(result.stdout.split())
