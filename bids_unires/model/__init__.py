"""The model: forward operator, prior, objective, solver and the fit that joins them."""

from ..config import ModelSettings
from ..space.grid import Grid
from ..space.labels import resample_labels
from .assess.residuals import ResidualStatement
from .assess.uncertainty import Uncertainty
from .fit.interpolation import interpolate
from .fit.result import Fit, Reconstruction
from .fit.super_resolution import super_resolve
from .intensity.noise import NoiseEstimate, estimate_noise
from .robust.verdict import SliceVerdict
from .scanner.forward import ForwardOperator
from .scanner.observation import Observation
from .scanner.profile import SliceProfile
from .solve.objective import Objective, ObjectiveValue
from .solve.solver import Progress, Solution, solve

__all__ = [
    "Fit",
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
    "Uncertainty",
    "estimate_noise",
    "interpolate",
    "resample_labels",
    "solve",
    "super_resolve",
]
