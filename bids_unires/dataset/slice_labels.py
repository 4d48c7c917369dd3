"""What an ``acq-`` label says of how slices lie, which makes no contrast."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Usual spellings, of the languages that scanners speak.
_AXIAL = (
    *("ax", "axi", "axial", "tra", "tran", "trans", "transv", "transverse", "transversal"),
    *("transaxial", "horizontal"),
)
_SAGITTAL = ("sag", "sagi", "sagit", "sagitt", "sagittal", "sagital")
_CORONAL = ("cor", "coro", "coron", "coronal")
_OBLIQUE = ("obl", "obliq", "oblique")
# "MoCor" and the like are corrections.
_CORRECTED = ("mo", "motion", "dist", "distortion", "bias", "norm", "field", "b0", "b1")


def _as_written(words: Sequence[str]) -> str:
    """Pattern of some words in small letters, in capitals, or with one; the longest goes first."""
    spelled = {form for word in words for form in (word, word.upper(), word.capitalize())}
    return "|".join(sorted(spelled, key=len, reverse=True))


_NO_CORRECTION = "".join(f"(?i:(?<!{word}))" for word in _CORRECTED)
_ANY_PLANE = f"{_as_written(_AXIAL + _SAGITTAL)}|{_NO_CORRECTION}(?:{_as_written(_CORONAL)})"
_ANY_OBLIQUE = _as_written(_OBLIQUE)
_WORD = (
    rf"(?:{_ANY_OBLIQUE}|{_as_written(['para'])})?(?:{_ANY_PLANE})(?:{_ANY_OBLIQUE})?"
    rf"|{_ANY_OBLIQUE}"
)
# Kinds of sequences that are written next to it without a capital letter.
_SEQUENCES = (
    *("t1", "t2", "pd", "flair", "stir", "tirm", "tse", "fse", "tfe", "ffe", "gre", "spgr"),
    *("mprage", "bravo", "space", "cube", "vista", "haste", "blade", "swi", "2d", "3d"),
)
# A word begins where the label does, after a number or "+", with a capital letter after a small
# one ("tseAx"), with a small one after capital ones ("TSEax"), or after the name of a sequence.
_BEGIN = "|".join(
    [
        *(r"^", r"(?<=[\d+])", r"(?<=[a-z])(?=[A-Z])", r"(?<=[A-Z][A-Z])(?=[a-z])"),
        *(f"(?i:(?<={sequence}))" for sequence in _SEQUENCES),
    ]
)
_END = "|".join(
    [
        *(r"$", r"(?=[\d+])", r"(?<=[a-z])(?=[A-Z])", r"(?<=[A-Z][A-Z])(?=[a-z])"),
        f"(?=(?i:{'|'.join(_SEQUENCES)}))",
    ]
)
# "ax2" is the second of its kind; "ax3D" and "ax2mm" go on with what makes a contrast.
_NUMBER = r"(?:\d+(?![\da-zD]))?"
_ORIENTATION = re.compile(rf"(?:{_BEGIN})(?:{_WORD})(?:{_END}){_NUMBER}")
_RESEMBLES = re.compile(r"^(?:ax|tra|cor|sag|obl)|(?:ax|axi|axial|tra|cor|sag)$", re.IGNORECASE)
# Suffixes and other names of the same, which labels repeat.
_SAME_AS_SUFFIX = {"FLAIR": "t2flair", "T2starw": "t2s"}


def without_orientation(label: str, suffix: str) -> str:
    """The part of an ``acq-`` label that makes a contrast; empty if nothing does.

    Names of planes are taken out wherever they stand as a word of their own, and a number that
    follows one. What is left only repeats the suffix in labels such as ``axT2`` of a ``T2w``.

    Parameters
    ----------
    label
        Without ``acq-``.
    suffix
        Suffix of the image.

    Examples
    --------
    >>> [without_orientation(label, "T2w") for label in ("sag2", "axiT2", "corTSE", "mprage")]
    ['', '', 'TSE', 'mprage']
    """
    left = label
    while (shorter := _ORIENTATION.sub("", left).strip("+")) != left:
        left = shorter
    known = {suffix.lower(), suffix.lower().removesuffix("w"), _SAME_AS_SUFFIX.get(suffix)}
    return "" if left != label and left.lower() in known else left


def resembles_orientation(label: str, suffix: str) -> bool:
    """Whether a label begins or ends like a plane and is not taken for one."""
    return without_orientation(label, suffix) == label and bool(_RESEMBLES.search(label))
