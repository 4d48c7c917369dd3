"""What the headers of one visit say of where the head lies: prior for the pose of a scan.

The scanner knows where every scan of a visit lies. Between them, people move: most by a fraction
of a millimetre to two, a few by a centimetre. A Student distribution of few degrees of freedom has
that form: it draws an uncertain pose to that of the header, and leaves a large motion alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..space.affines import apply_affine
from .local_likelihood import RADIUS_MM, LocalAlignment, Values, motion_about

_ROUNDS = 30
_SETTLED = 1e-7


@dataclass(frozen=True)
class HeaderPrior:
    """Distribution of the motion between two scans of a visit.

    Parameters
    ----------
    scale
        Scale in mm of each of the six components of a motion at the surface of the head: three
        shifts, and three rotations times its radius over the square root of 3/2, so that all
        displace it alike.
    degrees_of_freedom
        Of the Student distribution: the fewer, the more often large motions occur.
    """

    scale: float = 1.0
    degrees_of_freedom: float = 2.0

    def applied(self, found: LocalAlignment, unit: float = 1.0) -> LocalAlignment:
        """The most probable pose, given the pose found in the images and the headers.

        Parameters
        ----------
        found
            The pose found, whose covariance holds all of its errors.
        unit
            Size of the head relative to a human head.

        Notes
        -----
        The maximum of ``-1/2 (x - x0)' C^-1 (x - x0) - (d + 6)/2 log(1 + x' P x / d)`` is found by
        repeated least squares: the prior has the weight of a Gaussian, which falls with x.
        """
        length = RADIUS_MM * unit * np.sqrt(2 / 3)
        widths = self.scale * unit * np.array([1, 1, 1, *(3 * [1 / length])])
        precision = np.diag(1 / widths**2)
        data = np.linalg.inv(found.covariance)
        measured = _motion_of(found)
        motion = measured
        weight = 1.0
        for _ in range(_ROUNDS):
            before = motion
            distance = float(motion @ precision @ motion)
            weight = (self.degrees_of_freedom + 6) / (self.degrees_of_freedom + distance)
            drawn = np.linalg.solve(data + weight * precision, data @ measured)
            motion = np.asarray(drawn, dtype=np.float64)
            if np.abs(motion - before).max() < _SETTLED:
                break
        covariance: Values = np.asarray(np.linalg.inv(data + weight * precision), dtype=np.float64)
        pose = motion_about(motion, found.centre)
        return replace(found, pose=pose, covariance=covariance)


def _motion_of(found: LocalAlignment) -> Values:
    """Shift of the centre (mm) and rotation vector (rad) from header to pose, ``(6,)``."""
    turn = Rotation.from_matrix(found.pose[:3, :3]).as_rotvec()
    return np.concatenate([apply_affine(found.pose, found.centre) - found.centre, turn])
