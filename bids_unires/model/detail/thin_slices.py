"""Thin slices within thick ones, as networks predict them from planes in several directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .network import PlaneNetwork, Prediction
from .parameters import LearningParameters
from .planes import ObliquePatches, SlicePlanes, patches_at

_PATCHES_AT_ONCE = 4096
# Voxels of a changed scan are predicted again within so many voxels in the plane of a change.
_CHANGED = 2
# A smaller difference, as a share of the largest intensity, is no change.
_ROUNDING = 1e-5
_POINTS = SliceProfile("point", "point")


@dataclass(frozen=True, eq=False)
class _Guided:
    """Predictions with a guide; see `ThinSlices.add_guided`."""

    network: PlaneNetwork
    axes: tuple[int, ...]
    guide: Tensor
    where: Tensor


@dataclass(frozen=True, eq=False)
class _Unguided:
    """Predictions without a guide, in more directions where ``uncertain``, ``(K, M, N)`` bool."""

    network: PlaneNetwork
    where: Tensor
    uncertain: Tensor | None


class ThinSlices:
    """Sums of the predictions of thin voxels from each plane through them.

    Parameters
    ----------
    planes
        The planes of the scan.
    parameters
        Parameters of learning.
    """

    def __init__(self, planes: SlicePlanes, parameters: LearningParameters) -> None:
        self._parameters = parameters
        self._predictions: list[_Guided | _Unguided] = []
        slices, rows, columns = planes.data.shape
        self.planes = planes
        self._values = planes.data.new_zeros((slices, planes.ratio, rows, columns))
        self._precision = torch.zeros_like(self._values)
        self._planes_through = planes.data.new_zeros((slices, rows, columns))
        self.head = planes.head.clone()
        # Detail of the outermost slices depends on what lies beyond them, which was not measured.
        self.head[[0, -1]] = False

    def not_predicted(self) -> Tensor:
        """Voxels of the head without any prediction so far, ``(K, M, N)`` bool."""
        return self.head & (self._planes_through == 0)

    def add_guided(
        self, network: PlaneNetwork, axes: Sequence[int], guide: Tensor, where: Tensor
    ) -> None:
        """Add the predictions of a network that is guided by another contrast.

        Parameters
        ----------
        network
            It was trained along ``axes`` (1 or 2), and predicts along the other in-plane axis.
        axes
            Axes of the planes.
        guide
            ``(K * ratio, M, N)``, the other contrast on the thin voxels; NaN where missing.
        where
            ``(K, M, N)`` bool: thick voxels to divide.
        """
        self._add_guided(_Guided(network, tuple(axes), guide, where))

    def _add_guided(self, prediction: _Guided) -> None:
        self._predictions.append(prediction)
        planes, network = self.planes, prediction.network
        for axis in prediction.axes:
            along = 3 - axis
            thick, thin = planes.data.movedim(along, 1), prediction.guide.movedim(along, 1)
            for k, voxels in enumerate(prediction.where):
                places = voxels.nonzero().T
                first, second = places if along == 1 else places.flip(0)
                here = torch.full_like(first, k)
                patches = patches_at(thick, here, first, second, guided=True)
                views = planes.views_at(thin, here * planes.ratio, first, second)
                self._add(k, places, network.predict(patches, views), 1.0)

    def add_unguided(
        self,
        network: PlaneNetwork,
        where: Tensor,
        helpers: Executor | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """Add the predictions of a network from planes of the scan alone.

        Parameters
        ----------
        network
            Trained without a guide.
        where
            ``(K, M, N)`` bool: thick voxels to divide.
        helpers
            Threads to predict with; None to use the calling thread alone.
        on_progress
            Called after each direction with the share of the work that is done.
        """
        self._add_unguided(_Unguided(network, where, None), helpers, on_progress)

    def _add_unguided(
        self,
        wanted: _Unguided,
        helpers: Executor | None,
        on_progress: Callable[[float], None] | None,
    ) -> None:
        network, among = wanted.network, None
        oblique = ObliquePatches(self.planes.data, wanted.where)
        for number, degrees in enumerate(self._parameters.directions):
            if number == self._parameters.first_directions:
                among = self._is_uncertain() if wanted.uncertain is None else wanted.uncertain
            way = number % len(network.ways)
            for k, first, second, patches in oblique.cut(degrees, among):
                prediction = _predicted(network, patches, way, helpers)
                self._add(k, torch.stack([first, second]), prediction, self._parameters.share)
            if on_progress is not None:
                on_progress((number + 1) / len(self._parameters.directions))
        self._predictions.append(replace(wanted, uncertain=among))

    def of_changed(self, planes: SlicePlanes, helpers: Executor | None = None) -> ThinSlices:
        """Thin slices of a scan that differs in a few places, by the networks learned already.

        Parameters
        ----------
        planes
            The planes of the changed scan. Voxels are divided again where these differ from the
            planes before, and next to such places.
        helpers
            As for `add_unguided`.
        """
        near = _near(planes.data, self.planes.data)
        changed = ThinSlices(planes, self._parameters)
        for prediction in self._predictions:
            again = replace(prediction, where=prediction.where & near)
            if isinstance(again, _Guided):
                changed._add_guided(again)
            else:
                changed._add_unguided(again, helpers, None)
        for new, old in (
            (changed._values, self._values),
            (changed._precision, self._precision),
        ):
            new.copy_(torch.where(near[:, None], new, old))
        changed._planes_through = torch.where(near, changed._planes_through, self._planes_through)
        return changed

    def _is_uncertain(self) -> Tensor:
        """Voxels ``(K, M, N)`` that are not among those of the head with the smallest errors."""
        through = self._planes_through.clamp_min(self._parameters.share)
        precision = self._precision.mean(dim=1) / through
        of_head = precision[self.head].sort(descending=True).values
        return precision <= of_head[int(self._parameters.smooth_share * len(of_head))]

    def _add(self, k: int, places: Tensor, prediction: Prediction, share: float) -> None:
        """Add a prediction of the voxels at ``places`` ``(2, N)`` of slice k, with its weight."""
        first, second = places
        values, variances = prediction
        is_known = values.isfinite().all(dim=1, keepdim=True)
        weight = torch.where(is_known, share / variances, 0)
        self._values[k][:, first, second] += (weight * values.nan_to_num()).T
        self._precision[k][:, first, second] += weight.T
        self._planes_through[k][first, second] += share * is_known[:, 0]

    def scan(self, scan: Observation, trust: float) -> Observation:
        """The scan with thin slices, and the mean precision of the planes through each voxel.

        Parameters
        ----------
        scan
            The scan with thick slices.
        trust
            Factor on the precisions.
        """
        planes = self.planes
        data = self._values / self._precision.clamp_min(torch.finfo(torch.float32).tiny)
        # A voxel with any prediction has at least the weight of one direction.
        through = self._planes_through.clamp_min(self._parameters.share)
        weight = planes.known / (through * planes.unit**2)
        precision = trust * self._precision * weight[:, None]
        return Observation(
            self._as_acquired(data * planes.unit),
            planes.thin_affine,
            self._as_acquired(precision),
            replace(_POINTS, axis=planes.slice_axis),
            scan.pose,
            zero_is_missing=False,
        )

    def _as_acquired(self, thin: Tensor) -> NDArray[np.float32]:
        """Values ``(K, ratio, M, N)`` with the axes in the order of the scan."""
        slices = thin.flatten(0, 1).cpu().numpy()
        return np.ascontiguousarray(np.moveaxis(slices, 0, self.planes.slice_axis))


def _predicted(
    network: PlaneNetwork, patches: Tensor, way: int, helpers: Executor | None
) -> Prediction:
    def predict(some: Tensor) -> Prediction:
        return network.predict(some, some.new_empty((len(some), 0, 0)), way)

    if helpers is None:
        return predict(patches)
    # The number of parts does not depend on that of threads, nor does the result.
    parts = torch.split(patches, _PATCHES_AT_ONCE)
    return Prediction.joined(helpers.map(predict, parts))


def _near(after: Tensor, before: Tensor) -> Tensor:
    """Voxels ``(K, M, N)`` that differ, and those around them."""
    differs = (after - before).nan_to_num().abs() > _ROUNDING * before.nan_to_num().abs().max()
    reach = (1, _CHANGED, _CHANGED)
    sides = [2 * side + 1 for side in reach]
    return torch.nn.functional.max_pool3d(differs[None].float(), sides, 1, reach)[0] > 0
