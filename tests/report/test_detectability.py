"""What the page says of small lesions."""

from __future__ import annotations

from bids_unires.model import Detectability, LesionKind, LesionOdds
from bids_unires.report.detectability import odds_table


def odds(diameter: float, contrast: float, count: int = 27) -> LesionOdds:
    return LesionOdds(LesionKind(diameter, contrast), count, 0.4, 0.55, 0.43, 0.21)


def test_the_summary_is_about_small_lesions_of_the_middle_contrast() -> None:
    every = tuple(odds(mm, step) for mm in (2.0, 3.0, 6.0) for step in (0.15, 0.3, 0.6))
    table = odds_table(Detectability("bright", "MR", every))
    assert table.summary == (
        "Of lesions 3 mm wide and 30 % brighter than the tissue around them, 45 % would be drawn "
        "with at least half of their contrast, and 20 % would be missed."
    )
    assert table.contrasts == ("15 % brighter", "30 % brighter", "60 % brighter")
    assert [mm for mm, _ in table.rows] == [2.0, 3.0, 6.0]


def test_lesions_of_ct_are_told_in_hounsfield_units() -> None:
    table = odds_table(Detectability("dark", "CT", (odds(4.0, 20.0),)))
    assert table.contrasts == ("20 HU darker",)
    assert "4 mm wide and 20 HU darker" in table.summary


def test_kinds_of_which_nothing_is_known_leave_their_places_empty() -> None:
    few = (odds(2.0, 0.15), odds(3.0, 0.15, count=9), odds(3.0, 0.3))
    table = odds_table(Detectability("bright", "MR", few))
    assert table.rows[0][1] == (few[0], None)
    assert table.fewest == 9
