"""Slices divided into thin ones, as networks see them from planes in several directions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .network import PlaneNetwork
from .parameters import LearningParameters
from .planes import SlicePlanes, oblique_patches, patches_at

_PATCHES_AT_ONCE = 4096
_POINTS = SliceProfile("point", "point")


class ThinSlices:
    """Thin voxels as they are found: sums of what each plane through them says.

    Parameters
    ----------
    planes
        Whose slices are divided.
    helpers
        Threads to look with; None to look alone.
    parameters
        Of learning.
    """

    def __init__(
        self, planes: SlicePlanes, helpers: Executor | None, parameters: LearningParameters
    ) -> None:
        self._helpers = helpers
        self._parameters = parameters
        slices, rows, columns = planes.data.shape
        self._planes = planes
        self._values = planes.data.new_zeros((slices, planes.ratio, rows, columns))
        self._precision = torch.zeros_like(self._values)
        self._planes_through = planes.data.new_zeros((slices, rows, columns))
        self.head = planes.head.clone()
        # What the outermost slices hold depends on what lies beyond them, which was not seen.
        self.head[[0, -1]] = False

    def unseen(self) -> Tensor:
        """Voxels of the head of which nothing was found yet, ``(K, M, N)`` bool."""
        return self.head & (self._planes_through == 0)

    def look_beside(
        self, network: PlaneNetwork, axes: Sequence[int], shown: Tensor, where: Tensor
    ) -> None:
        """What a network says of the voxels in ``where`` ``(K, M, N)`` beside another contrast.

        It has learned along ``axes``, and looks along the axis that remains beside each.
        """
        planes = self._planes
        for axis in axes:
            along = 3 - axis
            thick, views = planes.data.movedim(along, 1), shown.movedim(along, 1)
            for k, voxels in enumerate(where):
                places = voxels.nonzero().T
                first, second = places if along == 1 else places.flip(0)
                here = torch.full_like(first, k)
                patches = patches_at(thick, here, first, second, beside=True)
                seen = planes.views_at(views, here * planes.ratio, first, second)
                self._add(k, places, network.predict(patches, seen), 1.0)

    def look_around(self, network: PlaneNetwork, where: Tensor) -> None:
        """What a network says of the voxels in ``where`` ``(K, M, N)`` from planes alone."""
        for number, degrees in enumerate(self._parameters.directions):
            way = number % len(network.ways)
            for k, first, second, patches in oblique_patches(self._planes.data, degrees, where):
                found = self._predicted(network, patches, way)
                self._add(k, torch.stack([first, second]), found, self._parameters.share)

    def _predicted(self, network: PlaneNetwork, patches: Tensor, way: int) -> tuple[Tensor, Tensor]:
        def predict(some: Tensor) -> tuple[Tensor, Tensor]:
            return network.predict(some, some.new_empty((len(some), 0, 0)), way)

        if self._helpers is None:
            return predict(patches)
        # Not in as many parts as there are threads: what comes out must not depend on these.
        parts = self._helpers.map(predict, torch.split(patches, _PATCHES_AT_ONCE))
        values, variances = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(variances)

    def _add(self, k: int, places: Tensor, told: tuple[Tensor, Tensor], share: float) -> None:
        """What a plane says ``(N, ratio)`` of voxels ``(2, N)`` of a slice, and its share."""
        first, second = places
        found, variance = told
        is_found = found.isfinite().all(dim=1, keepdim=True)
        weight = torch.where(is_found, share / variance, 0)
        self._values[k][:, first, second] += (weight * found.nan_to_num()).T
        self._precision[k][:, first, second] += weight.T
        self._planes_through[k][first, second] += share * is_found[:, 0]

    def scan(self, scan: Observation, trust: float) -> Observation:
        """The scan with its slices divided, and the precision that planes have on average."""
        planes = self._planes
        data = self._values / self._precision.clamp_min(torch.finfo(torch.float32).tiny)
        # Where any plane told anything, at least one did.
        through = self._planes_through.clamp_min(self._parameters.share)
        counted = planes.known / (through * planes.unit**2)
        precision = trust * self._precision * counted[:, None]
        return Observation(
            self._as_acquired(data * planes.unit),
            planes.thin_affine,
            self._as_acquired(precision),
            replace(_POINTS, axis=planes.slice_axis),
            scan.pose,
            zero_is_missing=False,
        )

    def _as_acquired(self, thin: Tensor) -> NDArray[np.float32]:
        slices = thin.flatten(0, 1).cpu().numpy()
        return np.ascontiguousarray(np.moveaxis(slices, 0, self._planes.slice_axis))
