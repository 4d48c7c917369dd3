"""The model: from the scans of one head to one image for each contrast.

- `scanner`: what a scan measures of an image: slice profile and gap (`profile`), forward operator.
- `intensity`: noise, contrast and relative brightness of the scans.
- `prior`: joint total variation and its weight.
- `detail`: detail within thick slices; `detail.learning` creates `LearnedDetail` from scans, and
  `detail.term` from the images of an earlier fit.
- `state`: one contrast, and all that is known of it during a fit.
- `solve`: the objective and its solver; in `solve.solver`, `Descent.bound` and then `Descent.step`
  are one iteration.
- `robust`: damaged slices; `robust.rejection` rejects or repairs them.
- `slice_motion`: poses of groups of slices of a stack.
- `guided`: sharp contrasts are solved for first, and guide the others.
- `assess`: residuals of the scans, standard deviations of the images, and what small lesions would
  become.
- `fit`: `super_resolve` and `interpolate`, which put all of this together.

Where `super_resolve` is given the path of a scan, slice axis and slice gap are read from the JSON
file of the same name beside it (``T1.json`` beside ``T1.nii.gz``). Of scans in memory, nothing but
voxels and affine is known: give a `SliceProfile` for each if slices have gaps.
"""

from ..config import ModelSettings
from ..space.grid import Grid
from ..space.labels import resample_labels
from .assess.detectability import Detectability, LesionOdds
from .assess.residuals import ResidualStatement
from .assess.small_lesions import LesionKind, LesionLook
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
    "Detectability",
    "Fit",
    "ForwardOperator",
    "Grid",
    "LesionKind",
    "LesionLook",
    "LesionOdds",
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
