"""Recognise slice orientations in ``acq-`` labels, because they do not distinguish contrasts."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Usual words for slice orientations, in the languages of scanner software.
_AXIAL = (
    *("ax", "axi", "axial", "tra", "tran", "trans", "transv", "transverse", "transversal"),
    *("transaxial", "horizontal"),
)
_SAGITTAL = ("sag", "sagi", "sagit", "sagitt", "sagittal", "sagital")
_CORONAL = ("cor", "coro", "coron", "coronal")
_OBLIQUE = ("obl", "obliq", "oblique")
# "Cor" after one of these means a correction, as in "MoCor", and not a coronal orientation.
_CORRECTED = ("mo", "motion", "dist", "distortion", "bias", "norm", "field", "b0", "b1")


def _as_written(words: Sequence[str]) -> str:
    """Pattern of words in lower case, upper case or capitalised, with the longest word first."""
    spelled = {form for word in words for form in (word, word.upper(), word.capitalize())}
    return "|".join(sorted(spelled, key=len, reverse=True))


_NO_CORRECTION = "".join(f"(?i:(?<!{word}))" for word in _CORRECTED)
_ANY_PLANE = f"{_as_written(_AXIAL + _SAGITTAL)}|{_NO_CORRECTION}(?:{_as_written(_CORONAL)})"
_ANY_OBLIQUE = _as_written(_OBLIQUE)
_WORD = (
    rf"(?:{_ANY_OBLIQUE}|{_as_written(['para'])})?(?:{_ANY_PLANE})(?:{_ANY_OBLIQUE})?"
    rf"|{_ANY_OBLIQUE}"
)
# Names of sequences that may directly precede or follow an orientation.
_SEQUENCES = (
    *("t1", "t2", "pd", "flair", "stir", "tirm", "tse", "fse", "tfe", "ffe", "gre", "spgr"),
    *("mprage", "bravo", "space", "cube", "vista", "haste", "blade", "swi", "2d", "3d"),
)
# A word begins at the start of the label, after a digit or "+", at an upper-case letter after a
# lower-case one ("tseAx"), at a lower-case letter after upper-case ones ("TSEax"), or after the
# name of a sequence.
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
# In "ax2" the number counts scans and belongs to the orientation. In "ax3D" and "ax2mm" it belongs
# to a word that distinguishes contrasts.
_NUMBER = r"(?:\d+(?![\da-zD]))?"
_ORIENTATION = re.compile(rf"(?:{_BEGIN})(?:{_WORD})(?:{_END}){_NUMBER}")
_RESEMBLES = re.compile(r"^(?:ax|tra|cor|sag|obl)|(?:ax|axi|axial|tra|cor|sag)$", re.IGNORECASE)
# Other names of a suffix that labels may repeat.
_SAME_AS_SUFFIX = {"FLAIR": "t2flair", "T2starw": "t2s"}


def without_orientation(label: str, suffix: str) -> str:
    """The part of an ``acq-`` label that distinguishes contrasts; empty if there is none.

    Names of planes are removed wherever they are a separate word, together with a number that
    follows. If the rest only repeats the suffix, as in ``axT2`` of a ``T2w``, it is removed too.

    Parameters
    ----------
    label
        The label without ``acq-``.
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
    """Whether a label begins or ends like the name of a plane but was not recognised as one."""
    return without_orientation(label, suffix) == label and bool(_RESEMBLES.search(label))
