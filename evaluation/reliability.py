"""Compare standard deviations with errors: ``python -m evaluation.reliability``.

For every contrast of every case it prints

- the percentage of errors inside the head within 1, 2 and 3 standard deviations,
- the percentage within 2 at edges (the quarter of the voxels where the truth is steepest) and
  elsewhere,
- Spearman's correlation of the standard deviation with the absolute error,
- the factor from the calibration,
- the extra time for the standard deviations, in units of a fit without them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from bids_unires.config import DEFAULT_SAMPLES
from bids_unires.model import Reconstruction, super_resolve
from evaluation.cases import COLIN27, Case, Examination, examine
from evaluation.methods import SETTINGS, default_profile, measured

CASES = (
    Case("one stack", 3.0, noise=0.03),
    *(Case("one stack", noise=noise) for noise in (0.01, 0.03, 0.05)),
    Case("one stack", 6.0),
    *(Case("three stacks", noise=noise) for noise in (0.01, 0.03, 0.05)),
    Case("three stacks", 6.0, noise=0.03),
    *(Case("three contrasts", noise=noise) for noise in (0.01, 0.05)),
    Case("one stack", 3.0, noise=0.03, head="Colin27"),
    *(Case("one stack", noise=noise, head="Colin27") for noise in (0.01, 0.05)),
    Case("one stack", 6.0, head="Colin27"),
    *(Case("three stacks", noise=noise, head="Colin27") for noise in (0.01, 0.05)),
    Case("three stacks", 6.0, noise=0.03, head="Colin27"),
)
_LARGEST_SAMPLE = 100_000


def main() -> None:
    """Print one line for every contrast of every case."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.reliability")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    only = parser.parse_args().only
    print("| case | 1 sd | 2 sd | 3 sd | edges | flat | rank correlation | scale | fits |")
    print("| --- |" + " --- |" * 8)
    for case in (case for case in CASES if only in str(case)):
        if case.head == "Colin27" and not COLIN27.is_file():
            continue
        report(case, examine(case))


def report(case: Case, examination: Examination) -> None:
    """Print the lines of one case, one for each contrast."""
    _, plain = fitted(examination, None)
    result, seconds = fitted(examination, DEFAULT_SAMPLES)
    assert result.fit.uncertainty is not None
    inside = measured(examination)
    for c, truth in enumerate(examination.truths):
        errors = np.abs(result.images[c] - truth.data)[inside]
        sds = result.fit.uncertainty.sds[c][inside]
        slope = np.linalg.norm(np.gradient(truth.data), axis=0)[inside]
        edges = slope > np.percentile(slope, 75)
        within = [float(np.mean(errors < k * sds)) for k in (1, 2, 3)]
        within += [float(np.mean((errors < 2 * sds)[where])) for where in (edges, ~edges)]
        step = 1 + errors.size // _LARGEST_SAMPLE
        correlation = float(spearmanr(errors[::step], sds[::step]).statistic)
        cells = " | ".join(f"{100 * share:.1f}" for share in within)
        print(
            f"| {case}, {c + 1} | {cells} | {correlation:.2f} | "
            f"{result.fit.uncertainty.scales[c].sampled:.2f} | {seconds / plain - 1:.1f} |",
            flush=True,
        )


def fitted(examination: Examination, samples: int | None) -> tuple[Reconstruction, float]:
    """Reconstruct at known poses; also return the wall time in s."""
    began = time.perf_counter()
    result = super_resolve(
        examination.scans,
        replace(SETTINGS, uncertainty=samples),
        "cpu",
        profiles=[
            [default_profile(scan, gap) for scan, gap in zip(scans, gaps, strict=True)]
            for scans, gaps in zip(examination.scans, examination.gaps, strict=True)
        ],
        poses=examination.poses,
        grid=examination.truths[0].grid,
    )
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
