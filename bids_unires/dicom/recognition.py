"""Tell from what headers say which contrast an image has, or why it is left out.

Times of 1.5 T and 3 T protocols; see D. W. McRobbie et al., *MRI from Picture to Proton*, for the
ranges of T1, T2 and proton density weighting.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..config import CT_SUFFIX
from .conversion import ConvertedImage
from .headers import SeriesHeader

# Fewer slices than this are a localiser, or no volume.
LEAST_SLICES = 5
# Spin echoes have longer repetition times than this, in ms.
LONGEST_GRADIENT_TR = 100.0
# Steady-state sequences, whose weighting is mixed, have larger flip angles than spoiled ones with
# such short repetition times (ms); in degrees.
SHORT_TR, LARGEST_SPOILED_FLIP = 20.0, 40.0
# Values of ImageType that name what was computed from other images, or is no image of the head.
_COMPUTED = {
    "ADC": "a map (ADC)",
    "FA": "a map (FA)",
    "TRACEW": "a diffusion series",
    "DIFFUSION": "a diffusion series",
    "MPR": "a reformatted image",
    "REFORMATTED": "a reformatted image",
    "MIP": "a projection",
    "PROJECTION IMAGE": "a projection",
    "MNIP": "a projection",
    "SUBTRACTION": "a difference of images",
    "PERFUSION": "perfusion",
    "ASL": "perfusion",
    "FMRI": "functional MRI",
    "SWI": "a susceptibility-weighted image",
    "PHASE MAP": "a phase image",
    "PHASE": "a phase image",
    "P": "a phase image",
    "T1 MAP": "a map (T1)",
    "T2 MAP": "a map (T2)",
    "T2_STAR MAP": "a map (T2*)",
    "FAT": "an image of fat",
    "OPP_PHASE": "an image in opposed phase",
    "REAL": "a real part",
    "IMAGINARY": "an imaginary part",
    "LOCALIZER": "a localiser",
}
# The same in names, for headers that do not say it.
_NAMES = (
    (r"loc(ali[sz]er)?|pilot|scout|survey|3[ -]?plane|aahead\w*|topogram|scanogram", "a localiser"),
    (r"dwi|dti|diff\w*|trace\w*|ep2d\w*|b1000", "a diffusion series"),
    (r"adc|e?adc|fa|cbf|cbv|mtt|ttp|t[12]map|b0map|field\w*map\w*|b1map", "a map"),
    (r"mip|mpr|mnip", "a projection or a reformatted image"),
    (r"sub(traction)?", "a difference of images"),
    (r"perf\w*|asl|pcasl|pasl|dsc|dce", "perfusion"),
    (r"bold|fmri|rest", "functional MRI"),
    (r"swi|swan|venbold|qsm", "a susceptibility-weighted image"),
    (r"tof|mra|angio\w*|mrv|pca", "an angiogram"),
    (r"\w*spine|hws|bws|lws|knee|shoulder|pelvis|abdomen|heart", "of another part of the body"),
    (r"ciss|fiesta|tru(e?fisp|fi)|b?-?ffe|drive|psif", "a steady-state sequence"),
    (r"inv[12]", "one inversion of MP2RAGE"),
    (r"phantom|qa", "a phantom"),
    (r"screen\w*|dose|protocol|report|summary", "a screenshot or report"),
)
_HEAD = re.compile(r"HEAD|BRAIN|SKULL|NEURO|KOPF|SCHAEDEL|CRAN|TETE|CEREBR|IAC|ORBIT|PITUIT|FACE")
_AFTER_AGENT = re.compile(r"\+ ?c|gd|gado\w*|km|kontrast\w*|post\w*|ce|cm")


@dataclass(frozen=True)
class Recognised:
    """What an image was taken for, and why.

    Parameters
    ----------
    suffix
        BIDS suffix of its contrast; None if the image is left out.
    reason
        Why, in words.
    """

    suffix: str | None
    reason: str


def recognise(image: ConvertedImage, header: SeriesHeader) -> Recognised:
    """Tell which contrast an image has.

    What the header says decides. Names, which operators choose, are only believed where they say
    that an image is to be left out, and of an inversion that the header does not state.
    """
    against = itertools.chain(
        _reasons_in_header(header), _reasons_in_type(image, header), _reasons_in_image(image)
    )
    if reason := next(against, None):
        return Recognised(None, reason)
    if header.modality == "CT":
        return Recognised(CT_SUFFIX, "CT")
    return _weighting(image, header)


def why_no_head(header: SeriesHeader) -> str | None:
    """Why a series is no scan of a head, by what its header says it is of; None if it may be."""
    return next(_reasons_in_header(header), None)


def why_not_usable(image: ConvertedImage) -> str | None:
    """Why an image cannot be used, whatever the user takes it for; None if it can."""
    volumes = int(np.prod(image.shape[3:]))
    if volumes > 1:
        return f"{volumes} volumes (4-D)"
    if len(image.shape) < 3 or image.shape[2] < 2:
        return "a single slice"
    return None


def plane_of(image: ConvertedImage) -> str:
    """Plane of the slices, ``tra``, ``cor`` or ``sag``: the nearest one where they are oblique.

    Slices lie across the third axis of an image of dcm2niix, unless a 3-D scan was turned.
    """
    normal = np.abs(image.affine[:3, 2])
    return ("sag", "cor", "tra")[int(np.argmax(normal))]


def is_3d(image: ConvertedImage) -> bool:
    """Whether a slab was excited and not slices."""
    return image.metadata.get("MRAcquisitionType") == "3D"


def is_gradient_echo(image: ConvertedImage) -> bool:
    """Whether the sequence is a gradient echo and no spin echo.

    Where the header names neither, as of sequences that are not in DICOM ("research mode"), a
    short repetition time tells.
    """
    words = _words(image.metadata.get("ScanningSequence"))
    if words & {"GR", "SE"}:
        return "SE" not in words
    _, tr, _ = _times(image)
    return tr is not None and tr < LONGEST_GRADIENT_TR


def shows_agent(header: SeriesHeader) -> bool:
    """Whether a contrast agent was given: the header says so, or else the name."""
    return header.has_agent or _is_called(_AFTER_AGENT.pattern, header.description)


def times_of(image: ConvertedImage) -> str:
    """TE, TR and TI in words, those that are known."""
    known = zip(("TE", "TR", "TI"), _times(image), strict=True)
    return ", ".join(f"{name} {value:.4g} ms" for name, value in known if value is not None)


def _reasons_in_header(header: SeriesHeader) -> Iterator[str]:
    """Why a series shows no head, by what it is of."""
    if "Secondary Capture" in header.kind or "SCREEN SAVE" in header.image_type:
        yield "a screenshot, by its kind (secondary capture)"
    if header.modality not in ("MR", "CT"):
        yield f"of the modality {header.modality or 'unknown'}, not MR or CT"
    if header.is_phantom:
        yield "a phantom, by the name of the patient"
    if header.body_part and not _HEAD.search(header.body_part):
        yield f"of the body part {header.body_part}"


def _reasons_in_type(image: ConvertedImage, header: SeriesHeader) -> Iterator[str]:
    """Why an image is no plain scan, by its image type, its b-values or its name."""
    words = {*header.image_type, *_words(image.metadata.get("ImageType"))}
    for word, what in _COMPUTED.items():
        if word in words:
            yield f"{what}, by its image type"
    if image.has_b_values:
        yield "a diffusion series, by its b-values"
    if header.image_type[:1] == ("DERIVED",):
        yield "derived from other images, by its image type"
    for pattern, what in _NAMES:
        if _is_called(pattern, header.description):
            yield f"{what}, by its name"


def _reasons_in_image(image: ConvertedImage) -> Iterator[str]:
    """Why an image is no volume."""
    if reason := why_not_usable(image):
        yield reason
    elif min(image.shape[:3]) < LEAST_SLICES:
        yield f"only {min(image.shape[:3])} slices"


def _weighting(image: ConvertedImage, header: SeriesHeader) -> Recognised:
    te, tr, ti = _times(image)
    said = times_of(image) or "without echo and repetition time"
    sequence = _words(image.metadata.get("ScanningSequence"))
    if "EP" in sequence:
        return Recognised(None, "echo-planar imaging")
    if te is None or tr is None:
        return Recognised(None, f"not recognised: {said}")
    gradient = is_gradient_echo(image)
    what = "gradient echo" if gradient else "spin echo"
    if ti:
        suffix = _inverted(te, ti, gradient)
        what = f"inversion recovery, {what}"
    elif gradient:
        flip = image.metadata.get("FlipAngle")
        suffix = _gradient_echo(te, tr, flip if isinstance(flip, int | float) else None)
    elif _is_called(r"\w*flair\w*|dark|fluid|darkfluid", header.description):
        suffix = "FLAIR" if te >= 60 and tr >= 4000 else "T1w" if te < 40 and tr < 3500 else None
        what = "inversion recovery by its name, since no TI is stated"
    else:
        suffix = _spin_echo(te, tr)
    return Recognised(suffix, f"{'' if suffix else 'not recognised: '}{what}, {said}")


def _inverted(te: float, ti: float, gradient: bool) -> str | None:
    """Weighting after an inversion; times in ms."""
    if gradient:
        return "T1w" if te < 10 and 300 <= ti <= 1600 else None
    # TI of some 2500 ms nulls fluid, of some 150 ms fat, and of 800 ms makes T1 stronger.
    if ti >= 1500 and te >= 60:
        return "FLAIR"
    return "T1w" if 400 <= ti < 1500 and te < 40 else None


def _spin_echo(te: float, tr: float) -> str | None:
    """Weighting of a spin echo; times in ms."""
    if tr <= 1200:
        return "T1w" if te <= 35 else None
    if te >= 60:
        return "T2w" if tr >= 1500 else None
    return "PDw" if te <= 45 and tr >= 1500 else None


def _gradient_echo(te: float, tr: float, flip: float | None) -> str | None:
    """Weighting of a gradient echo; times in ms, flip angle in degrees."""
    if te >= 12:
        return "T2starw"
    if tr <= SHORT_TR and flip is not None and flip > LARGEST_SPOILED_FLIP:
        return None
    return "T1w" if te < 10 and tr <= 600 else None


def _times(image: ConvertedImage) -> tuple[float | None, float | None, float | None]:
    """Echo, repetition and inversion time in ms; None if not stated."""
    stated = [image.metadata.get(f"{name}Time") for name in ("Echo", "Repetition", "Inversion")]
    te, tr, ti = (
        1000 * value if isinstance(value, int | float) and value > 0 else None for value in stated
    )
    return te, tr, ti


def _words(value: object) -> frozenset[str]:
    parts = value if isinstance(value, list) else re.split(r"[\\_/ ]+", str(value or ""))
    return frozenset(str(part).upper() for part in parts)


def _is_called(pattern: str, name: str) -> bool:
    """Whether a word of a name, or two in a row, fits a pattern as a whole."""
    words = re.sub(r"[^0-9a-z+]+", " ", name.lower()).split()
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(words)]
    return any(re.fullmatch(pattern, word) for word in (*words, *pairs))
