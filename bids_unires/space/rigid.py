"""Rigid motions: six parameters of the Lie algebra of SE(3) and their matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import RigidTransform

from .affines import Affine

_MEAN_STEPS = 20


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
        ``(6,)``, coordinates in `rigid_basis`: three translations in mm, then three rotations.
        The basis is orthonormal, so a rotation by ``a`` rad is a parameter vector of length
        ``sqrt(2) * a``.

    Returns
    -------
    Affine
        ``(4, 4)``, world mm to world mm.

    Raises
    ------
    ValueError
        If there are more or fewer than six parameters.

    Examples
    --------
    >>> rigid_matrix([1, 2, 3, 0, 0, 0])[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    values = np.asarray(parameters, dtype=np.float64)
    if values.shape != (6,):
        raise ValueError(f"a rigid motion has six parameters, got {values.shape}")
    coordinates = np.concatenate([_rotation_vector(values[3:]), values[:3]])
    return np.asarray(RigidTransform.from_exp_coords(coordinates).as_matrix())


def rigid_parameters(matrix: ArrayLike) -> NDArray[np.float64]:
    """Lie algebra parameters ``(6,)`` of a rigid motion: the inverse of `rigid_matrix`.

    Many parameter vectors describe the same motion. The one with the smallest rotation is
    returned, at most 180 degrees.

    Raises
    ------
    ValueError
        If the matrix ``(4, 4)`` is not rigid: its upper left block is not a rotation.
    """
    motion = np.asarray(matrix, dtype=np.float64)
    rotation = motion[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    if not orthonormal or np.linalg.det(rotation) < 0:
        raise ValueError(f"not a rigid motion: {motion.tolist()}")
    coordinates = RigidTransform.from_matrix(motion).as_exp_coords()
    x, y, z = coordinates[:3]
    return np.array([*coordinates[3:], *np.sqrt(2) * np.array([-z, y, -x])])


def mean_pose(poses: Sequence[Affine]) -> Affine:
    """Karcher mean of rigid motions ``(4, 4)``: relative to it, their logarithms add up to 0.

    Examples
    --------
    >>> shifts = [rigid_matrix([x, 0, 0, 0, 0, 0]) for x in (0.0, 4.0)]
    >>> mean_pose(shifts)[0, 3].item()
    2.0
    """
    mean = np.asarray(poses[0], dtype=np.float64)
    for _ in range(_MEAN_STEPS):
        into_mean = np.linalg.inv(mean)
        step = np.mean([rigid_parameters(into_mean @ pose) for pose in poses], axis=0)
        mean = mean @ rigid_matrix(step)
        if np.abs(step).max() < 1e-12:
            break
    return mean


def _rotation_vector(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle (rad) of the last three Lie algebra parameters."""
    xy, xz, yz = parameters
    return np.asarray(np.array([-yz, xz, -xy]) / np.sqrt(2))
