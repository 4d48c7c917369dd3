"""Whether a scan tells how thick its slices are: ``python -m evaluation.slice_width HEAD ...``.

Heads of full resolution are cut to slices of known thickness, without noise. The width is then
estimated by comparing the blur across slices with that along them. Averaged along one axis of the
plane over the thickness of the slices, an isotropic texture changes along this axis as it does
across slices. `docs/decisions/thickness-from-the-scan.md` says what came of it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import fft, interpolate, ndimage

from bids_unires.demo.scanner import Plane, scan_grid, thick_slices
from bids_unires.space.volume import Volume

PLANES: tuple[Plane, ...] = ("transverse", "coronal", "sagittal")
RATIOS = (0.6, 0.8, 1.0, 1.2)
# Widths that are tried, as shares of the slice spacing.
_WIDTHS = np.arange(0.4, 1.601, 0.05)
# The head is what exceeds this share of the 99.9th percentile.
_HEAD = 0.08
_BRIGHTEST = 99.9


@dataclass(frozen=True)
class WidthCase:
    """A head cut to slices, and the widths found, as shares of the slice spacing.

    Parameters
    ----------
    head
        Name of the head.
    plane
        Plane of the slices.
    spacing
        Distance between the centres of neighbouring slices in mm.
    ratio
        Thickness over spacing, the truth.
    found
        The width by comparison with each axis of the plane; None where no width fits.
    """

    head: str
    plane: Plane
    spacing: float
    ratio: float
    found: tuple[float | None, float | None]

    @property
    def errors(self) -> list[float]:
        """How far each width that was found is off."""
        return [width - self.ratio for width in self.found if width is not None]


def squared_differences(
    scan: NDArray[np.float32], inside: NDArray[np.bool_], reach: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean squared difference between voxels by their distance along the first and last axis.

    Parameters
    ----------
    scan
        ``(X, Y, Z)``.
    inside
        Voxels that count, ``(X, Y, Z)``.
    reach
        Largest distances ``(n, m)`` along the first and the last axis, in voxels.

    Returns
    -------
    ndarray
        ``(n + 1, m + 1)``, the mean over both directions of the first axis.
    """
    counted = inside.astype(np.float64)
    values = np.where(inside, scan, 0).astype(np.float64)
    shape = [fft.next_fast_len(scan.shape[a] + r) for a, r in zip((0, 2), reach, strict=True)]
    ones, first, second = (
        fft.rfftn(each, s=shape, axes=(0, 2)) for each in (counted, values, values**2)
    )
    products = second * ones.conj() + ones * second.conj() - 2 * first * first.conj()
    total, pairs = (
        fft.irfftn(each.sum(axis=1), s=shape) for each in (products, ones * ones.conj())
    )
    forth = np.arange(reach[0] + 1)
    both = [each[forth] + each[-forth] for each in (total, pairs)]
    table = both[0][:, : reach[1] + 1] / np.maximum(both[1][:, : reach[1] + 1], 1)
    table[0, 0] = 0.0
    return np.asarray(table)


def width_along(table: NDArray[np.float64], spacing: float) -> float | None:
    """The width at which averages along an axis of the plane look as slices do across it.

    Compared is the mean squared difference of neighbours over that of every second one.

    Parameters
    ----------
    table
        From `squared_differences`, at least ``4 * spacing + 4`` voxels and two slices far.
    spacing
        Slice spacing in voxels of the plane.

    Returns
    -------
    float or None
        The width as a share of the spacing; None if no width between 0.4 and 1.6 fits.
    """
    apart = np.array([_difference(table, width * spacing, spacing) for width in _WIDTHS])
    (changes,) = np.nonzero(np.sign(apart[:-1]) != np.sign(apart[1:]))
    if not changes.size:
        return None
    at = changes[0]
    share = apart[at] / (apart[at] - apart[at + 1])
    return float(_WIDTHS[at] + share * (_WIDTHS[at + 1] - _WIDTHS[at]))


def _difference(table: NDArray[np.float64], width: float, spacing: float) -> float:
    """Logarithm of the ratio across slices over that along the plane, averaged over a width."""
    weights = _average(width)
    overlap = np.correlate(weights, weights, "full")
    offsets = np.arange(overlap.size) - weights.size + 1
    own = overlap @ table[np.abs(offsets), 0]
    across = [overlap @ table[np.abs(offsets), slices] - own for slices in (1, 2)]
    lags = np.arange(table.shape[0] - weights.size)
    along = [overlap @ table[np.abs(offsets + lag), 0] - own for lag in lags]
    near, far = interpolate.CubicSpline(lags, along)([spacing, 2 * spacing])
    return float(np.log(across[0] / across[1]) - np.log(near / far))


def _average(width: float) -> NDArray[np.float64]:
    """Weights on voxels of the variance of a rectangle, ``width^2 / 12`` with the width in voxels.

    They are equal, but for the outermost two. Of ``2 n + 1`` equal ones it is ``n (n + 1) / 3``.
    """
    variance = width**2 / 12
    whole = int((np.sqrt(1 + 12 * variance) - 1) / 2)
    equal = 2 * whole + 1
    lacking = equal * (variance - whole * (whole + 1) / 3)
    weights = np.ones(equal + 2)
    weights[[0, -1]] = lacking / (2 * ((whole + 1) ** 2 - variance))
    return np.asarray(weights / weights.sum())


def estimate_widths(
    scan: NDArray[np.float32], voxel_size: Sequence[float]
) -> tuple[float | None, float | None]:
    """Width of the slices as a share of their spacing, by comparison with each axis of the plane.

    Parameters
    ----------
    scan
        ``(X, Y, Z)`` without noise, slices along the last axis.
    voxel_size
        Sides of a voxel in mm.
    """
    brightest = float(np.percentile(scan, _BRIGHTEST))
    smooth = ndimage.gaussian_filter(scan, 1.0)
    inside = ndimage.binary_closing(smooth > _HEAD * brightest, iterations=2)
    found = []
    for axis in (0, 1):
        spacing = voxel_size[2] / voxel_size[axis]
        reach = int(np.ceil(4 * spacing)) + 4
        turned, within = np.swapaxes(scan, 0, axis), np.swapaxes(inside, 0, axis)
        found.append(width_along(squared_differences(turned, within, (reach, 2)), spacing))
    return found[0], found[1]


def cases(
    heads: Sequence[Path], spacings: Sequence[float], planes: Sequence[Plane] = PLANES
) -> Iterator[WidthCase]:
    """Cut heads to slices of each plane, spacing and thickness, and estimate their widths."""
    for path in heads:
        image = nib.as_closest_canonical(nib.load(path))
        sides = image.header.get_zooms()[:3]
        truth = Volume(image.get_fdata(dtype=np.float32), np.diag([*map(float, sides), 1.0]))
        for plane, spacing, ratio in itertools.product(planes, spacings, RATIOS):
            grid = scan_grid(truth.grid, plane, spacing)
            scan = thick_slices(truth, grid, ratio * spacing, np.eye(4))
            found = estimate_widths(scan, grid.voxel_size.tolist())
            yield WidthCase(path.name.split(".")[0], plane, spacing, ratio, found)


def summary(found: Sequence[WidthCase], agreement: float) -> str:
    """How good the means of both widths are where both were found and differ by at most so much."""
    pairs = [(each, each.found) for each in found if None not in each.found]
    errors = np.array(
        [
            sum(each.errors) / 2
            for each, (first, second) in pairs
            if first is not None and second is not None and abs(first - second) <= agreement
        ]
    )
    if not errors.size:
        return f"axes within {agreement:g}: none of {len(found)}"
    return (
        f"axes within {agreement:g}: {errors.size} of {len(found)}, of which "
        f"{np.mean(np.abs(errors) <= 0.1):.0%} within 0.1 of the truth, standard deviation "
        f"{errors.std():.2f}, largest error {np.abs(errors).max():.2f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each case, and how good the widths are where both axes agree."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.slice_width", description="Widths of slices from scans."
    )
    parser.add_argument("heads", type=Path, nargs="+", help="images with voxels of about 1 mm")
    parser.add_argument("--spacings", type=float, nargs="+", default=[4.0], help="in mm")
    arguments = parser.parse_args(argv)
    found = []
    for each in cases(arguments.heads, arguments.spacings):
        widths = ", ".join("none" if width is None else f"{width:.2f}" for width in each.found)
        print(f"{each.head}, {each.plane}, {each.spacing:g} mm, {each.ratio:g}: {widths}")
        found.append(each)
    for agreement in (2.0, 0.2, 0.1, 0.05):
        print(summary(found, agreement))


if __name__ == "__main__":
    main()
