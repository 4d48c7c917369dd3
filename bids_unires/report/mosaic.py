"""From intensities in a plane to pictures: grey, colours, lines, and their files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .planes import Values, in_hounsfield_units

Pixels = NDArray[np.uint8]

BRAIN_WINDOW_HU = (-10.0, 90.0)
"""What Hounsfield units are shown in."""

_BRIGHTEST = 99.5
_COLD, _WARM = np.array([70.0, 160.0, 255.0]), np.array([255.0, 150.0, 40.0])
_NOWHERE = 26
# Blurs away noise and steps between slices, before edges are looked for.
_EDGE_SD_MM = 1.6
# Of the steepest slopes, but for a few: what is flatter is no edge worth showing.
_LEAST_SLOPE = 0.3
_STEEPEST = 98.0
_QUALITY = 88


def window_of(values: Values) -> tuple[float, float]:
    """Intensities to show as black and as white.

    Parameters
    ----------
    values
        Of the pixels; NaN where there are none. Hounsfield units are shown in the window
        for brain, whatever they show.
    """
    if in_hounsfield_units(values):
        return BRAIN_WINDOW_HU
    measured = values[values > 0]
    if measured.size == 0:
        return 0.0, 1.0
    return 0.0, max(float(np.percentile(measured, _BRIGHTEST)), 1e-30)


def grey(values: Values, window: tuple[float, float]) -> Pixels:
    """Grey levels between the ends of a window, of the shape of ``values``; NaN is black.

    Examples
    --------
    >>> grey(np.array([[np.nan, -1, 1, 9]], dtype=np.float32), (0.0, 2.0)).tolist()
    [[0, 0, 128, 255]]
    """
    low, high = window
    scaled = (np.nan_to_num(values, nan=low) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))


def diverging(values: Values, limit: float) -> Pixels:
    """Colours ``(H, W, 3)`` from blue over black to orange at ``limit``; NaN is dark grey."""
    share = np.clip(np.nan_to_num(values) / np.float32(limit), -1, 1)
    # The square root makes what is small visible next to what is far out.
    level = np.rint(127 * np.sign(share) * np.sqrt(np.abs(share))).astype(np.int16) + 127
    ramp = np.abs(np.linspace(-1, 1, 255))[:, None]
    table = ramp * np.where(np.arange(255)[:, None] < 127, _COLD, _WARM)
    table = np.vstack([table, [_NOWHERE] * 3]).astype(np.uint8)
    return np.asarray(table[np.where(np.isnan(values), 255, level)])


def edges(values: Values, pixel_mm: float) -> NDArray[np.bool_]:
    """Lines where intensities change most, ``(H, W)``.

    Zero crossings of the Laplacian of a Gaussian (Marr & Hildreth 1980), where the slope is
    steep.

    Parameters
    ----------
    values
        Of the pixels; NaN where there are none.
    pixel_mm
        Side of a pixel.
    """
    measured = np.isfinite(values)
    filled = np.where(measured, values, np.float32(0))
    sd = _EDGE_SD_MM / pixel_mm
    convex = ndimage.gaussian_laplace(filled, sd) > 0
    slope = ndimage.gaussian_gradient_magnitude(filled, sd)
    crossing = np.zeros(values.shape, dtype=bool)
    crossing[:, :-1] |= convex[:, :-1] != convex[:, 1:]
    crossing[:-1] |= convex[:-1] != convex[1:]
    # The rim of the data is no edge of the anatomy.
    crossing &= ndimage.binary_erosion(measured, iterations=max(1, round(2 * sd)))
    steep = _LEAST_SLOPE * float(np.percentile(slope[measured], _STEEPEST)) if measured.any() else 0
    crossing &= slope > steep
    # One pixel would hardly be seen.
    crossing[1:] |= crossing[:-1].copy()
    return crossing


def outline(values: Values) -> NDArray[np.bool_]:
    """Rim of what is above one half, ``(H, W)``, two pixels wide: the last inside, the first out.

    Parameters
    ----------
    values
        Share of each pixel that a mask covers; NaN is none.
    """
    inside = np.nan_to_num(values) > 0.5
    return np.asarray(ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside))


def encode_webp(pixels: Pixels, quality: int = _QUALITY) -> bytes:
    """Grey ``(H, W)`` or coloured ``(H, W, 3)`` pixels as a small WebP file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=0)
    return file.getvalue()


def encode_lines(lines: NDArray[np.bool_], colour: str) -> bytes:
    """Lines ``(H, W)`` of one colour (``#rrggbb``), else transparent, as a PNG file."""
    picture = Image.fromarray(lines.astype(np.uint8))
    picture.putpalette(bytes(3) + bytes.fromhex(colour.removeprefix("#")))
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=0, bits=1)
    return file.getvalue()
