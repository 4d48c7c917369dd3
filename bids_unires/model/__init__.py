"""The model: forward operator, prior, objective, solver and the fit that joins them."""

from ..config import ModelSettings
from ..geometry import Grid
from .fit import super_resolve
from .forward import ForwardOperator
from .interpolation import interpolate
from .labels import resample_labels
from .noise import NoiseEstimate, estimate_noise
from .objective import Objective, ObjectiveValue
from .observation import Observation
from .profile import SliceProfile
from .residuals import ResidualStatement
from .result import Reconstruction, SuperResolution
from .slice_verdict import SliceVerdict
from .solver import Progress, Solution, solve
from .uncertainty import Uncertainty

__all__ = [
    "ForwardOperator",
    "Grid",
    "ModelSettings",
    "NoiseEstimate",
    "Objective",
    "ObjectiveValue",
    "Observation",
    "Progress",
    "Reconstruction",
    "ResidualStatement",
    "SliceProfile",
    "SliceVerdict",
    "Solution",
    "SuperResolution",
    "Uncertainty",
    "estimate_noise",
    "interpolate",
    "resample_labels",
    "solve",
    "super_resolve",
]
