"""The model: forward operator, prior, objective, solver and the fit that joins them."""

from ..config import ModelSettings
from ..geometry import Grid
from .fit import SuperResolution, super_resolve
from .forward import ForwardOperator
from .noise import NoiseEstimate, estimate_noise
from .objective import Objective, ObjectiveValue
from .observation import Observation
from .profile import SliceProfile
from .solver import Progress, Solution, solve

__all__ = [
    "ForwardOperator",
    "Grid",
    "ModelSettings",
    "NoiseEstimate",
    "Objective",
    "ObjectiveValue",
    "Observation",
    "Progress",
    "SliceProfile",
    "Solution",
    "SuperResolution",
    "estimate_noise",
    "solve",
    "super_resolve",
]
