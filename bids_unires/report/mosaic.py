"""Pictures from intensities in planes: grey levels, colours, lines, and image files."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .planes import Values, in_hounsfield_units

Pixels = NDArray[np.uint8]

BRAIN_WINDOW_HU = (-10.0, 90.0)
"""Window in which CT is shown first, in Hounsfield units."""

OTHER_WINDOWS_HU: Mapping[str, tuple[float, float]] = {
    "stroke": (15.0, 55.0),
    "bone": (-500.0, 1500.0),
}
"""Further windows in which CT is shown: of a width of 40 HU about 35 HU, in which an early infarct
can be seen, and of 2000 HU about 500 HU."""

# Percentile of the intensities that is shown as white.
_BRIGHTEST = 99.5
_COLD, _WARM = np.array([70.0, 160.0, 255.0]), np.array([255.0, 150.0, 40.0])
_NOWHERE = 26
# Blur before edges are detected; it removes noise and steps between slices.
_EDGE_SD_MM = 1.6
# An edge is shown if its slope is at least this fraction of the steep slopes. These are taken at
# the percentile below, without the few steepest.
_LEAST_SLOPE = 0.3
_STEEPEST = 98.0
_QUALITY = 88


def window_of(values: Values) -> tuple[float, float]:
    """Intensities to show as black and as white.

    Parameters
    ----------
    values
        Intensities of the pixels, of any shape; NaN outside the image. Hounsfield units are
        always shown in the window for brain.

    Returns
    -------
    tuple of float
        Intensity of black and of white.
    """
    if in_hounsfield_units(values):
        return BRAIN_WINDOW_HU
    measured = values[values > 0]
    if measured.size == 0:
        return 0.0, 1.0
    return 0.0, max(float(np.percentile(measured, _BRIGHTEST)), 1e-30)


def grey(values: Values, window: tuple[float, float]) -> Pixels:
    """Grey levels from black to white over a window, with the shape of ``values``; NaN is black.

    Examples
    --------
    >>> grey(np.array([[np.nan, -1, 1, 9]], dtype=np.float32), (0.0, 2.0)).tolist()
    [[0, 0, 128, 255]]
    """
    low, high = window
    scaled = (np.nan_to_num(values, nan=low) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))


def diverging(values: Values, limit: float, *, lifted: bool = True) -> Pixels:
    """Colours ``(H, W, 3)`` of values ``(H, W)``: blue below 0, black at 0, orange above.

    Colours are full at ``-limit`` and ``limit``; NaN is dark grey. If ``lifted``, they grow with
    the square root of values, which makes small ones visible beside large ones.
    """
    share = np.clip(np.nan_to_num(values) / np.float32(limit), -1, 1)
    size = np.sqrt(np.abs(share)) if lifted else np.abs(share)
    level = np.rint(127 * np.sign(share) * size).astype(np.int16) + 127
    ramp = np.abs(np.linspace(-1, 1, 255))[:, None]
    table = ramp * np.where(np.arange(255)[:, None] < 127, _COLD, _WARM)
    table = np.vstack([table, [_NOWHERE] * 3]).astype(np.uint8)
    return np.asarray(table[np.where(np.isnan(values), 255, level)])


def tinted(pixels: Pixels, share: Values) -> Pixels:
    """Grey levels ``(H, W)`` as colours ``(H, W, 3)``, tinted orange by a share from 0 to 1.

    NaN is a share of 0.

    Examples
    --------
    >>> tinted(np.array([[80, 80]], dtype=np.uint8), np.array([[0.0, 1.0]])).tolist()
    [[[80, 80, 80], [255, 150, 40]]]
    """
    weight = np.clip(np.nan_to_num(share), 0, 1)[..., None]
    mixed = (1 - weight) * pixels[..., None] + weight * _WARM
    return np.asarray(np.rint(mixed).astype(np.uint8))


def edges(values: Values, pixel_mm: float) -> NDArray[np.bool_]:
    """Edges: lines where intensities change most, bool ``(H, W)``.

    They are zero crossings of the Laplacian of a Gaussian (Marr & Hildreth 1980), where the slope
    is steep.

    Parameters
    ----------
    values
        Intensities of the pixels, ``(H, W)``; NaN outside the image.
    pixel_mm
        Side of a pixel in mm.
    """
    measured = np.isfinite(values)
    filled = np.where(measured, values, np.float32(0))
    sd = _EDGE_SD_MM / pixel_mm
    convex = ndimage.gaussian_laplace(filled, sd) > 0
    slope = ndimage.gaussian_gradient_magnitude(filled, sd)
    crossing = np.zeros(values.shape, dtype=bool)
    crossing[:, :-1] |= convex[:, :-1] != convex[:, 1:]
    crossing[:-1] |= convex[:-1] != convex[1:]
    # The border of the data is not an edge of the anatomy.
    crossing &= ndimage.binary_erosion(measured, iterations=max(1, round(2 * sd)))
    steep = _LEAST_SLOPE * float(np.percentile(slope[measured], _STEEPEST)) if measured.any() else 0
    crossing &= slope > steep
    # Lines of one pixel would hardly be visible.
    crossing[1:] |= crossing[:-1].copy()
    return crossing


def outline(values: Values) -> NDArray[np.bool_]:
    """Outline of the pixels above one half, bool ``(H, W)``.

    It is two pixels wide: the last pixel inside and the first outside.

    Parameters
    ----------
    values
        Fraction of each pixel that a mask covers, ``(H, W)``; NaN counts as 0.
    """
    inside = np.nan_to_num(values) > 0.5
    return np.asarray(ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside))


def encode_webp(pixels: Pixels, quality: int = _QUALITY) -> bytes:
    """Grey ``(H, W)`` or colour ``(H, W, 3)`` pixels as a WebP file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=0)
    return file.getvalue()


def encode_lines(lines: NDArray[np.bool_], colour: str) -> bytes:
    """Lines, bool ``(H, W)``, in one colour (``#rrggbb``), else transparent, as a PNG file."""
    picture = Image.fromarray(lines.astype(np.uint8))
    picture.putpalette(bytes(3) + bytes.fromhex(colour.removeprefix("#")))
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=0, bits=1)
    return file.getvalue()
