"""The record of what small lesions would become, in the sidecar of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from ..model import Detectability, LesionOdds
from .entries import Record, entry, list_of, number, positive, text, whole


@dataclass(frozen=True, eq=False)
class LesionOddsRecord(Record):
    """What becomes of small lesions of one kind.

    Parameters
    ----------
    diameter
        mm.
    contrast
        Difference from the tissue around them, in the units of the record that it belongs to.
    count
        Number of lesions that were put into the scans.
    kept
        Median share of their contrast that the image keeps.
    erased
        Share of lesions that keep less than half of it, 0 to 1.
    drawn
        Share of lesions that keep at least half of it and are not missed, 0 to 1.
    missed
        Share of lesions that do not stand out in the image, 0 to 1: one in twenty places without a
        lesion has as much contrast or more.
    """

    has_all_keys: ClassVar[bool] = True

    diameter: float | None = entry("Diameter", positive)
    contrast: float | None = entry("Contrast", positive)
    count: int | None = entry("Count", whole)
    kept: float | None = entry("Kept", number)
    erased: float | None = entry("Erased", number)
    drawn: float | None = entry("Drawn", number)
    missed: float | None = entry("Missed", number)

    @classmethod
    def of_odds(cls, odds: LesionOdds) -> Self:
        """Make the record of one kind of lesion."""
        return cls(
            odds.kind.diameter,
            odds.kind.contrast,
            odds.count,
            round(odds.kept, 3),
            round(odds.erased, 3),
            round(odds.drawn, 3),
            round(odds.missed, 3),
        )


@dataclass(frozen=True, eq=False)
class DetectabilityRecord(Record):
    """What small lesions would become that this contrast alone shows.

    Parameters
    ----------
    look
        ``bright`` or ``dark``: how the lesions differ from the tissue around them.
    units
        Units of their contrasts: shares of the intensity of tissue, or HU.
    lesions
        For each kind of lesion, what becomes of it.
    """

    look: str | None = entry("Look", text)
    units: str | None = entry("Units", text)
    lesions: tuple[LesionOddsRecord, ...] | None = entry("Lesions", list_of(LesionOddsRecord))

    @classmethod
    def of_statement(cls, statement: Detectability) -> Self:
        """Make the record of what a fit says of small lesions."""
        units = "HU" if statement.modality == "CT" else "share of the intensity of tissue"
        return cls(statement.look, units, tuple(map(LesionOddsRecord.of_odds, statement.odds)))
