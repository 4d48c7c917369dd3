"""Rigid motions: six parameters of the Lie algebra of SE(3) and their matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .affines import Affine


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
