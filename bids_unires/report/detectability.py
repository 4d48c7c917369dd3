"""What could hide in a scan: the table of small lesions, and the sentence that sums it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model import Detectability, LesionOdds

# Where most kinds are as good as always drawn or missed, the summary is about the one in between.
_TYPICAL_MM = 3.0


@dataclass(frozen=True)
class OddsTable:
    """Small lesions of one contrast, by size and contrast.

    Parameters
    ----------
    contrasts
        Headings of the columns, such as ``30 % brighter``.
    rows
        For each diameter in mm the odds in each column; None where nothing is known.
    summary
        What becomes of a typical small lesion, in a sentence.
    fewest
        Least number of lesions of one kind.
    """

    contrasts: tuple[str, ...]
    rows: tuple[tuple[float, tuple[LesionOdds | None, ...]], ...]
    summary: str
    fewest: int


def odds_table(found: Detectability) -> OddsTable:
    """Arrange what becomes of small lesions by size and contrast.

    Parameters
    ----------
    found
        What the fit says of at least one kind of lesion.
    """
    by_kind = {(odds.kind.diameter, odds.kind.contrast): odds for odds in found.odds}
    diameters = sorted({diameter for diameter, _ in by_kind})
    contrasts = sorted({contrast for _, contrast in by_kind})
    rows = tuple((mm, tuple(by_kind.get((mm, step)) for step in contrasts)) for mm in diameters)
    return OddsTable(
        tuple(_difference(step, found) for step in contrasts),
        rows,
        _summary(_typical(found.odds), found),
        min(odds.count for odds in found.odds),
    )


def _difference(contrast: float, found: Detectability) -> str:
    how = "darker" if found.look == "dark" else "brighter"
    return f"{contrast:g} HU {how}" if found.modality == "CT" else f"{100 * contrast:g} % {how}"


def _typical(odds: Sequence[LesionOdds]) -> LesionOdds:
    """Odds of lesions nearest to 3 mm wide, of the middle contrast."""
    width = min((each.kind.diameter for each in odds), key=lambda mm: abs(mm - _TYPICAL_MM))
    own = [each for each in odds if each.kind.diameter == width]
    return sorted(own, key=lambda each: each.kind.contrast)[len(own) // 2]


def _summary(odds: LesionOdds, found: Detectability) -> str:
    return (
        f"Of lesions {odds.kind.diameter:g} mm wide and "
        f"{_difference(odds.kind.contrast, found)} than the tissue around them, "
        f"{rounded(odds.drawn)} % would be drawn with at least half of their contrast, and "
        f"{rounded(odds.missed)} % would be missed."
    )


def rounded(share: float) -> int:
    """A share in percent, as exactly as some dozen lesions tell it.

    Examples
    --------
    >>> rounded(0.537), rounded(0.01)
    (55, 0)
    """
    return 5 * round(20 * share)
