"""Kernels for GPUs compile; no GPU is needed for that."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import warp as wp

from bids_unires.kernels import runtime

# What a GPU runs; slabs are for the CPU, whose compiler knows vectors.
ON_GPUS = ("descent", "edges", "motion", "pyramid", "sharpening", "voxels")
# Turing, the oldest that torch supports, and Hopper.
ARCHITECTURES = (75, 90)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_GPUS)
def test_kernels_compile_for_gpus(name: str, tmp_path: Path) -> None:
    runtime.start()
    module = importlib.import_module(f"bids_unires.kernels.{name}")
    compiled = wp.compile_aot_module(module, arch=ARCHITECTURES, module_dir=tmp_path)
    assert len(compiled) == len(ARCHITECTURES)
    assert all(file.stat().st_size > 0 for file in compiled)
