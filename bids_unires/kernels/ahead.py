"""Compile every kernel before it is needed: ``python -m bids_unires.kernels.ahead``.

The build of a container image does this once, into the folder in ``WARP_CACHE_PATH``. A run then
finds its kernels there and writes nothing.

Kernels for a GPU are compiled by the first run that has one; this takes a few seconds.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import warp as wp

import bids_unires.kernels as package

from . import runtime


def compile_kernels() -> Path:
    """Compile the kernels of all modules of this package for the CPU.

    Returns
    -------
    Path
        The folder with the compiled kernels.
    """
    runtime.start()
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != __name__.rpartition(".")[2]:
            importlib.import_module(f"{package.__name__}.{module.name}")
    wp.load_module(package.__name__, device="cpu", recursive=True)
    return Path(str(wp.config.kernel_cache_dir))


if __name__ == "__main__":
    print(f"kernels for the CPU are in {compile_kernels()}")
