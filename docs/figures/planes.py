"""Planes through volumes, for the pictures of the documentation."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from bids_unires.demo.score import resample
from bids_unires.space.affines import Affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

STEP = 0.5
"""Side of a pixel in mm."""

BAR_MM = 20


@dataclass(frozen=True)
class Window:
    """The part of a plane that is shown.

    Parameters
    ----------
    centre
        Its middle in world mm.
    width, height
        Its size in mm.
    """

    centre: tuple[float, float, float]
    width: float
    height: float


def viewing_plane(axis: int, position: float, window: Window) -> Grid:
    """A grid one voxel thick; its first axis runs right, its second up.

    Parameters
    ----------
    axis
        The world axis (0 x, 1 y, 2 z) that the view looks along.
    position
        Where the view cuts that axis, in mm.
    window
        What is shown.
    """
    right, up = [other for other in range(3) if other != axis]
    shape = [1, 1, 1]
    affine = np.eye(4)
    affine[:3, 3] = window.centre
    affine[axis, 3] = position
    for other, length in ((right, window.width), (up, window.height)):
        shape[other] = round(length / STEP)
        affine[other, other] = STEP
        affine[other, 3] -= length / 2
    return Grid((shape[0], shape[1], shape[2]), affine)


def cut(volume: Volume, plane: Grid, to_volume: Affine, order: int) -> NDArray[np.float32]:
    """Interpolate a volume on a plane; rows run down.

    Parameters
    ----------
    volume
        The volume.
    plane
        One voxel thick; see `viewing_plane`.
    to_volume
        ``(4, 4)``, world mm of the plane -> world mm of the volume.
    order
        Order of the spline: 1 linear, 3 cubic.
    """
    image = resample(volume, plane, to_volume, order=order, mode="constant")
    return np.flipud(image.squeeze(plane.shape.index(1)).T)


def scale_bar(axes: plt.Axes, window: Window) -> None:
    """Draw a bar of ``BAR_MM`` in the lower right corner, legible on light and dark."""
    outline = [withStroke(linewidth=3.5, foreground="black")]
    right, bottom = window.width / STEP - 16, window.height / STEP - 12
    left = right - BAR_MM / STEP
    axes.plot([left, right], [bottom, bottom], color="white", linewidth=2, path_effects=outline)
    axes.text(
        (left + right) / 2,
        bottom - 6,
        f"{BAR_MM} mm",
        color="white",
        ha="center",
        fontsize=9,
        path_effects=outline,
    )
