"""`python -m benchmarks.robust`: loss of accuracy by damaged slices, with and without --robust.

For every case it prints the PSNR inside the head, in dB, of clean scans fitted without --robust.
Then it prints how much is lost when clean scans are fitted with --robust, and when damaged scans
are fitted without it, with it, and by an oracle that leaves out exactly the damaged slices. It
also prints how many damaged slices were found, and how many of these were repaired.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from bids_unires.model import ModelSettings, Reconstruction, super_resolve
from tests.corrupted import DAMAGES, Damage, Examination, Kind, examine


def fit(case: Examination, side_mm: float, *, robust: bool) -> tuple[Reconstruction, float]:
    """Fit at the true poses; also return the CPU time of all threads in s.

    CPU time is used because other work on the machine hardly changes it.
    """
    began = time.process_time()
    settings = ModelSettings(voxel_size=(side_mm,) * 3, robust=robust)
    result = super_resolve(case.scans, settings, "cpu", poses=case.poses)
    return result, time.process_time() - began


def found(case: Examination, result: Reconstruction) -> str:
    """Numbers of damaged slices, of those found and repaired, and of good slices called damaged."""
    assert result.fit.slice_verdicts is not None
    hit = mended = bad = wrong = 0
    for done, verdicts in zip(case.damage, result.fit.slice_verdicts, strict=True):
        for damage, verdict in zip(done, verdicts, strict=True):
            seen = {*verdict.rejected, *verdict.repaired}
            hit += len(seen & set(damage))
            mended += len(set(verdict.repaired) & set(damage))
            bad += len(damage)
            wrong += len(seen - set(damage))
    return f"{hit} of {bad} found ({mended} mended), {wrong} others"


def decibels(values: list[float]) -> str:
    """The values in dB as text, one for each contrast."""
    return " ".join(f"{value:6.2f}" for value in values)


def measure(kind: Kind, damages: tuple[Damage, ...], noise: float, seed: int, side: float) -> None:
    """Measure one case and print its results."""
    clean = examine(kind, noise, seed, side)
    name = f"{kind}, {'+'.join(damages)}, noise {100 * noise:g} %, seed {seed}"
    plain, seconds = fit(clean, side, robust=False)
    robust, robust_seconds = fit(clean, side, robust=True)
    before = clean.quality(plain)
    print(f"{name}: clean {decibels(before)}", end="", flush=True)
    loss = np.subtract(before, clean.quality(robust)).tolist()
    print(f", robust loses {decibels(loss)} and takes {robust_seconds / seconds:.2f} times as long")
    bad = clean.damaged(damages, seed)
    for label, case, is_robust in (
        ("plain", bad, False),
        ("robust", bad, True),
        ("oracle", bad.without_damage(), False),
    ):
        result, took = fit(case, side, robust=is_robust)
        loss = np.subtract(before, case.quality(result)).tolist()
        more = f"; {found(case, result)}" if is_robust else ""
        print(f"    {label}: loses {decibels(loss)}, {took:.0f} s{more}", flush=True)


def main() -> None:
    """Measure the cases selected on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=["one stack", "three stacks"])
    parser.add_argument("--damages", nargs="+", choices=("mixed", *DAMAGES), default=["mixed"])
    parser.add_argument("--noise", type=float, default=0.015)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--side", type=float, default=1.0, help="voxels of head and result, mm")
    given = parser.parse_args()
    for kind in given.kinds:
        for seed in given.seeds:
            for damage in given.damages:
                damages = DAMAGES if damage == "mixed" else (damage,)
                measure(kind, damages, given.noise, seed, given.side)


if __name__ == "__main__":
    main()
