"""How small lesions look in a contrast."""

from __future__ import annotations

from ...dataset.scans import Contrast
from ...model import LesionLook

# Of multiple sclerosis and small vessel disease in T1w, of microbleeds in the others.
_DARK = ("T1w", "UNIT1", "T2starw", "T2star", "swi")


def lesion_look(contrast: Contrast) -> LesionLook:
    """Whether small lesions are brighter or darker than white matter.

    With a contrast agent, lesions that take it up are bright.
    """
    dark = contrast.entities["suffix"] in _DARK and "ceagent" not in contrast.entities
    return "dark" if dark else "bright"
