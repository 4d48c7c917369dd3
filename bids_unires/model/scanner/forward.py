"""The forward operator: from the wanted image to what the scanner measures of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.data_term import ComposedDataTerm, DataTerm, SharpenedDataTerm, SlabDataTerm
from ...kernels.reference import ReferenceBackend
from ...kernels.sampling import Sampling
from ...kernels.sharpening import Coefficients, sharpen
from ...kernels.tensors import floating_tensor
from ...kernels.warp_backend import VoxelBackend, WarpBackend
from ...space.affines import Affine, scaling, translation
from ...space.arrays import Numbers, array_of
from ...space.grid import Grid
from .interleave import interleave_factors
from .profile import POINTS, SliceProfile, profile_weights, subdivision

BackendName = Literal["auto", "reference", "warp", "warp-voxels"]


@dataclass(frozen=True, eq=False)
class IntermediateGrid:
    """Grid along the axes of a scan on which the image is sampled before the slice profile.

    Attributes
    ----------
    grid
        The voxels of the scan, each divided along its axes, with a margin on both sides as wide as
        half the slice profile (Brudfors et al. 2018, section 2.2).
    ratio
        Into how many parts a voxel of the scan is divided along each axis.
    weights
        Weights of the profile along each axis, ``(L,)`` each with L odd.
    """

    grid: Grid
    ratio: tuple[int, int, int]
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]


def intermediate_grid(target: Grid, source: Grid, profile: SliceProfile) -> IntermediateGrid:
    """Divide the voxels of a scan until they are no larger than those of the image.

    Parameters
    ----------
    target
        Grid of the wanted image.
    source
        Grid of the scan.
    profile
        Slice profile of the scan. An axis along which it samples points is not divided.
    """
    slice_axis = profile.slice_axis(source)
    every = [profile.every if axis == slice_axis else 1 for axis in range(3)]
    # A slice of a group is sampled at the same points as in the stack that it belongs to.
    stack = Grid(source.shape, source.affine @ scaling(1 / np.array(every)))
    ratio, weights = [], []
    for axis, steps in enumerate(subdivision(target, stack)):
        shape = profile.through_plane if axis == slice_axis else profile.in_plane
        gap = profile.gap if axis == slice_axis else 0.0
        # Overlapping slices reach beyond their voxels, whatever the size of these.
        blurred = shape not in POINTS and (steps > 1 or gap < 0)
        ratio.append(steps * every[axis] if blurred else 1)
        weights.append(profile_weights(shape, (1 - gap) * steps) if blurred else np.ones(1))
    margin = [(len(w) - 1) // 2 for w in weights]
    affine = source.affine @ scaling(1 / np.array(ratio)) @ translation([-m for m in margin])
    lengths = np.array([len(w) for w in weights])
    x, y, z = ((np.array(source.shape) - 1) * ratio + lengths).tolist()
    return IntermediateGrid(
        Grid((x, y, z), affine),
        (ratio[0], ratio[1], ratio[2]),
        (weights[0], weights[1], weights[2]),
    )


def mean_interpolation_blur(sampling: Sampling) -> NDArray[np.float64]:
    """Mean of ``f (1 - f) / 2`` over samples; f: distance from the voxel below, in voxels.

    Parameters
    ----------
    sampling
        Where the samples lie in the image.

    Returns
    -------
    ndarray
        ``(3,)``, along each axis of the image in voxels squared: 0 if all samples lie on voxels,
        1/8 if all lie half-way between them, and 1/12 if they lie anywhere.
    """
    steps = [np.unique(np.linspace(0, n - 1, 23).astype(int)) for n in sampling.intermediate_shape]
    samples = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    at = samples @ sampling.matrix[:, :3].T + sampling.matrix[:, 3]
    inside = ((at >= 0) & (at <= np.array(sampling.target_shape) - 1)).all(axis=1)
    if not inside.any():
        return np.zeros(3)
    fraction = at[inside] % 1.0
    return np.asarray((fraction * (1 - fraction) / 2).mean(axis=0))


class _Backend(Protocol):
    def forward(self, image: Tensor) -> Tensor: ...

    def add_adjoint(self, scan: Tensor, image: Tensor) -> None: ...


class ForwardOperator:
    """A: what the scanner measures of an image (Brudfors et al. 2018, equation 2).

    Trilinear samples on the intermediate grid, a weighted sum over the slice profile,
    and a factor for even and odd slices. :meth:`adjoint` is the exact transpose.

    Images and scans are tensors; arrays and nested lists are copied into tensors on the CPU.

    Parameters
    ----------
    target
        Grid of the wanted image.
    source
        Grid of the scan.
    pose
        ``(4, 4)`` rigid matrix, scan world mm -> image world mm; None for the identity.
    profile
        Slice profile of the scan.
    interleave
        Logarithm s of the factor of even slices (0, 2, ...); odd ones have exp(-s).
    backend
        ``reference`` is plain torch in any precision; ``warp`` compiled kernels in
        float32; ``warp-voxels`` those of the GPU on every device; ``auto`` takes
        ``warp`` for float32 and ``reference`` for any other type.

    Examples
    --------
    >>> fine = Grid((4, 4, 8), np.eye(4))
    >>> thick = Grid((4, 4, 2), np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> scan = ForwardOperator(fine, thick).forward(torch.ones(4, 4, 8))
    >>> tuple(scan.shape)
    (4, 4, 2)
    """

    def __init__(
        self,
        target: Grid,
        source: Grid,
        *,
        pose: Numbers | None = None,
        profile: SliceProfile | None = None,
        interleave: float = 0.0,
        backend: BackendName = "auto",
    ) -> None:
        self.target = target
        self.source = source
        self.profile = profile or SliceProfile()
        self.slice_axis = self.profile.slice_axis(source)
        self.intermediate = intermediate_grid(target, source, self.profile)
        self._interleave = interleave
        self._backend_name = backend
        pose_matrix: Affine = np.eye(4) if pose is None else array_of(pose, np.float64)
        matrix = np.linalg.inv(target.affine) @ pose_matrix @ self.intermediate.grid.affine
        self.sampling = Sampling(
            target_shape=target.shape,
            source_shape=source.shape,
            matrix=matrix[:3],
            ratio=self.intermediate.ratio,
            weights=self.intermediate.weights,
        )
        self.sharpening = self._sharpening()
        self._backends: dict[tuple[torch.dtype, torch.device], _Backend] = {}

    def forward(self, image: Numbers) -> Tensor:
        """A image: target shape in, source shape out, same type and device."""
        image = floating_tensor(image)
        self._check(image, self.target, "image")
        return self._backend(image).forward(self.sharpened(image)) * self.slice_scale(image)

    def adjoint(self, scan: Numbers) -> Tensor:
        """A' scan: source shape in, target shape out, same type and device."""
        scan = floating_tensor(scan)
        self._check(scan, self.source, "scan")
        image = scan.new_zeros(self.target.shape)
        self._backend(scan).add_adjoint(scan * self.slice_scale(scan), image)
        return self.sharpened(image)

    def normal(self, image: Numbers) -> Tensor:
        """A'A image: target shape in and out."""
        return self.adjoint(self.forward(image))

    def sharpened(self, image: Tensor) -> Tensor:
        """The image, corrected for the mean blur of trilinear interpolation, ``(X, Y, Z)``.

        The correction acts along axes where the scan samples points of the image (`SliceProfile`).
        It is 0 if all samples lie on voxels, and the image is then returned as it is.
        """
        if not any(self.sharpening):
            return image
        result = torch.empty_like(image, memory_format=torch.contiguous_format)
        sharpen(image.contiguous(), self.sharpening, result)
        return result

    def data_term(
        self, scan: Tensor, precision: Tensor, workspace: Tensor | None = None
    ) -> DataTerm:
        """The term ``sum(precision * (A y - scan)^2) / 2`` of the objective.

        Parameters
        ----------
        scan
            Measured intensities, source shape; finite.
        precision
            Weight of every voxel, source shape; 0 where it is missing.
        workspace
            ``(2, X, Y, Z)``, memory for two images that several data terms may share. If None,
            the term allocates its own where it needs any.
        """
        # sum P (E B y - x)^2 = sum P E^2 (B y - x / E)^2: kernels need not know the factors E.
        scale = self.slice_scale(scan)
        scan, precision = scan / scale, precision * scale**2
        term: DataTerm
        if self._fused(scan):
            term = SlabDataTerm(self.sampling, scan, precision)
        else:
            term = ComposedDataTerm(self._backend(scan), scan, precision)
        if not any(self.sharpening):
            return term
        if workspace is None:
            workspace = scan.new_empty((2, *self.target.shape))
        return SharpenedDataTerm(term, self.sharpening, workspace)

    def slice_scale(self, like: Tensor) -> Tensor:
        """Factors exp(+-s) of even and odd slices, broadcastable over the scan."""
        sides = [1, 1, 1]
        sides[self.slice_axis] = count = self.source.shape[self.slice_axis]
        factors = interleave_factors(self._interleave, count).reshape(sides)
        return torch.as_tensor(factors, dtype=like.dtype, device=like.device)

    def _sharpening(self) -> Coefficients:
        """Mean blur of interpolation along each axis of the image; 0 unless it samples points."""
        shapes = [self.profile.in_plane] * 3
        shapes[self.slice_axis] = self.profile.through_plane
        sampled = np.array([shape == "point" for shape in shapes])
        if not sampled.any():
            return (0.0, 0.0, 0.0)
        # Share of each axis of the image that lies along those axes of the scan.
        directions = self.sampling.matrix[:, :3] / np.linalg.norm(
            self.sampling.matrix[:, :3], axis=0
        )
        squares = directions**2
        share = squares[:, sampled].sum(axis=1) / squares.sum(axis=1)
        x, y, z = (share * mean_interpolation_blur(self.sampling)).tolist()
        return (x, y, z)

    def _fused(self, like: Tensor) -> bool:
        return (
            self._kind(like) == "warp"
            and like.device.type == "cpu"
            and len(self.sampling.blurred_axes) <= 1
        )

    def _kind(self, like: Tensor) -> BackendName:
        if self._backend_name == "auto":
            return "warp" if like.dtype == torch.float32 else "reference"
        return self._backend_name

    def _backend(self, like: Tensor) -> _Backend:
        key = (like.dtype, like.device)
        if key not in self._backends:
            kind = self._kind(like)
            if kind == "reference":
                self._backends[key] = ReferenceBackend(self.sampling)
            elif like.dtype != torch.float32:
                raise TypeError(f"the compiled kernels work in float32, got {like.dtype}")
            else:
                backend = VoxelBackend if kind == "warp-voxels" else WarpBackend
                self._backends[key] = backend(self.sampling, like.device)
        return self._backends[key]

    @staticmethod
    def _check(values: Tensor, grid: Grid, name: str) -> None:
        if tuple(values.shape) != grid.shape:
            raise ValueError(f"the {name} must have shape {grid.shape}, got {tuple(values.shape)}")
