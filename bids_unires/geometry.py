"""Affine arithmetic: pure functions of arrays, no state.

An affine is a float64 array ``(4, 4)`` that maps voxel indices (from 0) to world
coordinates in mm (RAS+). A rigid pose is the same kind of matrix, world to world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]

# Voxels beyond a face that are rounding: what lies on it lies inside.
_ON_A_FACE = 1e-4
# Stands for 0 where a line runs along a face.
_ALMOST_ACROSS = 1e-12


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels in world space.

    Parameters
    ----------
    shape
        Number of voxels along each axis, all at least 1.
    affine
        ``(4, 4)``, voxel index to world mm; finite and invertible.

    Raises
    ------
    ValueError
        If the shape or the affine cannot describe a box.
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid needs three sides of at least one voxel, got {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"a grid needs a finite 4x4 affine, got {affine!r}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError(f"the affine cannot be inverted: {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def voxel_size(self) -> NDArray[np.float64]:
        """Voxel size in mm along each axis, ``(3,)``."""
        return voxel_size(self.affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=1e-6))


def padded(grid: Grid, margin: int) -> Grid:
    """Grid grown by ``margin`` voxels on every side (shrunk if negative).

    Examples
    --------
    >>> padded(Grid((2, 3, 4), np.eye(4)), 1).shape
    (4, 5, 6)
    """
    x, y, z = (side + 2 * margin for side in grid.shape)
    return Grid((x, y, z), grid.affine @ translation([-margin] * 3))


def inside(grid: Grid, box: Grid) -> NDArray[np.bool_]:
    """Which voxels of ``grid`` have their centre within the outer faces of ``box``.

    Returns
    -------
    ndarray
        Bool, of the shape of ``grid``.

    Examples
    --------
    >>> thick = Grid((1, 1, 1), np.diag([3.0, 3.0, 3.0, 1.0]))
    >>> inside(Grid((4, 1, 1), np.eye(4)), thick)[:, 0, 0].tolist()
    [True, True, False, False]
    """
    into_box = np.linalg.inv(box.affine) @ grid.affine
    x, y = np.ogrid[: grid.shape[0], : grid.shape[1]]
    first, last = np.zeros(grid.shape[:2]), np.full(grid.shape[:2], grid.shape[2] - 1.0)
    # A line of voxels enters the box once and leaves it once.
    for (a, b, c, offset), side in zip(into_box[:3], box.shape, strict=True):
        start = a * x + b * y + offset
        along = c if abs(c) > _ALMOST_ACROSS else _ALMOST_ACROSS
        ends = [(face - start) / along for face in (-0.5 - _ON_A_FACE, side - 0.5 + _ON_A_FACE)]
        first = np.maximum(first, np.ceil(np.minimum(*ends)))
        last = np.minimum(last, np.floor(np.maximum(*ends)))
    entered, left = (
        np.clip(bound, -1, grid.shape[2]).astype(np.int32)[:, :, None] for bound in (first, last)
    )
    z = np.arange(grid.shape[2], dtype=np.int32)
    return np.asarray((z >= entered) & (z <= left))


def voxel_size(affine: ArrayLike) -> NDArray[np.float64]:
    """Length in mm of each column of an affine, ``(3,)``.

    Examples
    --------
    >>> voxel_size(np.diag([2.0, 3.0, 4.0, 1.0])).tolist()
    [2.0, 3.0, 4.0]
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    return np.asarray(np.sqrt((columns**2).sum(axis=0)))


def translation(offset: ArrayLike) -> Affine:
    """Affine that moves points by ``offset`` ``(3,)``."""
    affine = np.eye(4)
    affine[:3, 3] = offset
    return affine


def scaling(factors: ArrayLike) -> Affine:
    """Affine that multiplies each axis by one of ``factors`` ``(3,)``."""
    affine = np.eye(4)
    affine[[0, 1, 2], [0, 1, 2]] = factors
    return affine


def apply_affine(affine: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map points ``(..., 3)`` through an affine ``(4, 4)``.

    Examples
    --------
    >>> apply_affine(translation([1, 2, 3]), [[0, 0, 0], [1, 1, 1]]).tolist()
    [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    """
    matrix = np.asarray(affine, dtype=np.float64)
    return np.asarray(np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


def centre_of(grid: Grid) -> NDArray[np.float64]:
    """World mm of the centre of a grid's box, ``(3,)``.

    Examples
    --------
    >>> centre_of(Grid((3, 5, 2), np.diag([1.0, 1.0, 4.0, 1.0]))).tolist()
    [1.0, 2.0, 2.0]
    """
    return apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)


def corners(shape: Shape, edge: float = 0.0) -> NDArray[np.float64]:
    """Voxel indices of a box's eight corners, ``(8, 3)``.

    ``edge`` moves them outwards from the centres of the corner voxels: 0.5
    reaches the outer faces.
    """
    low = np.full(3, -edge)
    high = np.asarray(shape, dtype=np.float64) - 1 + edge
    picks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(np.where(picks == 0, low, high))


def slice_axis(affine: ArrayLike) -> int:
    """The through-plane axis: the one with the largest voxel size, the last of equals.

    Examples
    --------
    >>> slice_axis(np.diag([1.0, 5.0, 1.0, 1.0]))
    1
    """
    sizes = voxel_size(affine)
    return int(2 - np.argmax(np.round(sizes[::-1], 6)))


def slice_spacing(affine: ArrayLike, axis: int) -> float:
    """Distance in mm between neighbouring slices, perpendicular to them.

    It is the voxel size along ``axis`` where that axis is perpendicular to the other two,
    and less where it is not, as in CT with a tilted gantry.

    Examples
    --------
    >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 3, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    >>> slice_spacing(tilted, 2), float(voxel_size(tilted)[2])
    (4.0, 5.0)
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    first, second = (columns[:, other] for other in range(3) if other != axis)
    normal = np.cross(first, second)
    return float(abs(normal @ columns[:, axis]) / np.linalg.norm(normal))


def shear_angle(affine: ArrayLike) -> float:
    """Largest deviation of an affine's axes from right angles, in degrees.

    Examples
    --------
    >>> shear_angle(np.diag([1.0, 2.0, 3.0, 1.0]))
    0.0
    >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    >>> round(shear_angle(tilted), 6)
    45.0
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    directions = columns / np.linalg.norm(columns, axis=0)
    cosines = (directions.T @ directions)[np.triu_indices(3, k=1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines).max(), 0, 1))))


def rigid_basis() -> NDArray[np.float64]:
    """Orthonormal basis of the Lie algebra se(3), ``(6, 4, 4)``.

    Translations along x, y and z, then rotations in the planes xy, xz and yz.
    """
    basis = np.zeros((6, 4, 4))
    basis[[0, 1, 2], [0, 1, 2], 3] = 1
    rows, columns = np.triu_indices(3, k=1)
    basis[[3, 4, 5], rows, columns] = np.sqrt(0.5)
    basis[[3, 4, 5], columns, rows] = -np.sqrt(0.5)
    return basis


def rigid_matrix(parameters: ArrayLike) -> Affine:
    """Rigid motion from its six Lie algebra parameters, the exponential of se(3).

    Parameters
    ----------
    parameters
        ``(6,)``: coordinates in `rigid_basis`: three translations in mm, then three
        rotations. The basis is orthonormal, so a rotation by
        an angle of ``a`` rad is a parameter vector of length ``sqrt(2) * a``.

    Returns
    -------
    Affine
        ``(4, 4)``, world mm to world mm.

    Notes
    -----
    Closed form (Rodrigues) after Blanco, *A tutorial on SE(3) transformation
    parameterizations and on-manifold optimization*, 2010, section 9.

    Examples
    --------
    >>> rigid_matrix([1, 2, 3, 0, 0, 0])[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    values = np.asarray(parameters, dtype=np.float64)
    if values.shape != (6,):
        raise ValueError(f"a rigid motion has six parameters, got {values.shape}")
    vector = _rotation_vector(values[3:])
    skew = _skew(vector)
    angle = float(np.linalg.norm(vector))
    matrix = np.eye(4)
    matrix[:3, :3] += np.sinc(angle / np.pi) * skew + _versine_ratio(angle) * skew @ skew
    matrix[:3, 3] = _translation_jacobian(vector) @ values[:3]
    return matrix


def rigid_parameters(matrix: ArrayLike) -> NDArray[np.float64]:
    """Lie algebra parameters ``(6,)`` of a rigid motion: the inverse of `rigid_matrix`.

    Of the many parameter vectors of one motion it is the one with the smallest
    rotation, at most 180 degrees.

    Raises
    ------
    ValueError
        If the matrix ``(4, 4)`` is not rigid: its upper left block is no rotation.
    """
    motion = np.asarray(matrix, dtype=np.float64)
    rotation = motion[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    if not orthonormal or np.linalg.det(rotation) < 0:
        raise ValueError(f"not a rigid motion: {motion.tolist()}")
    scalar, imaginary = _quaternion(rotation)
    sine = float(np.linalg.norm(imaginary))
    angle = 2 * float(np.arctan2(sine, scalar))
    # 2 / sinc(angle/2) stretches the imaginary part to the rotation vector, also at zero.
    vector = imaginary * 2 / np.sinc(angle / (2 * np.pi))
    parameters = np.empty(6)
    parameters[:3] = np.linalg.solve(_translation_jacobian(vector), motion[:3, 3])
    parameters[3:] = np.sqrt(2) * np.array([-vector[2], vector[1], -vector[0]])
    return parameters


def _rotation_vector(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle (rad) of the last three Lie algebra parameters."""
    return np.asarray(np.array([-parameters[2], parameters[1], -parameters[0]]) / np.sqrt(2))


def _skew(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix of the cross product with a vector, ``(3, 3)``."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _translation_jacobian(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """What turns the translation parameters into a translation, ``(3, 3)``."""
    skew = _skew(vector)
    angle = float(np.linalg.norm(vector))
    return np.asarray(
        np.eye(3) + _versine_ratio(angle) * skew + _sine_remainder(angle) * skew @ skew
    )


def _versine_ratio(angle: float) -> float:
    """``(1 - cos(angle)) / angle^2``, from the half angle so that nothing cancels."""
    return float(0.5 * np.sinc(angle / (2 * np.pi)) ** 2)


def _sine_remainder(angle: float) -> float:
    """``(angle - sin(angle)) / angle^3``, by its series where the difference would cancel."""
    if angle < 0.1:
        square = angle * angle
        return 1 / 6 - square / 120 + square**2 / 5040 - square**3 / 362880
    return float((angle - np.sin(angle)) / angle**3)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Unit quaternion of a rotation: its real part, never below 0, and imaginary part.

    The dominant eigenvector of a symmetric matrix (Bar-Itzhack 2000, *New method
    for extracting the quaternion from a rotation matrix*), accurate at every angle.
    """
    r = rotation
    anti = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    symmetric = np.empty((4, 4))
    symmetric[:3, :3] = r + r.T - np.trace(r) * np.eye(3)
    symmetric[:3, 3] = symmetric[3, :3] = anti
    symmetric[3, 3] = np.trace(r)
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    if quaternion[3] < 0:
        quaternion = -quaternion
    return float(quaternion[3]), quaternion[:3]
