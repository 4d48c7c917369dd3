"""Images are as close to the truth as they were."""

from __future__ import annotations

import pytest

from evaluation.baseline import CASES, SCATTER, psnr_of, recorded
from evaluation.cases import Case
from tests.documented import find_table

pytestmark = pytest.mark.learns


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_documentation_shows_what_the_defaults_reach(case: Case) -> None:
    shown = float(find_table("case", "auto", "over best")[str(case)]["auto"])
    assert recorded()[str(case)]["defaults"] == pytest.approx(shown, abs=SCATTER)


@pytest.mark.slow
@pytest.mark.accuracy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_images_are_no_further_from_the_truth_than_before(case: Case) -> None:
    before, now = recorded()[str(case)], psnr_of(case)
    assert now == pytest.approx(before, abs=SCATTER)
