from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.dataset.entities import contrast_name, natural_key

LABELS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1)


@pytest.mark.parametrize("label", ["ax", "axial", "tra", "cor", "coronal", "sag", "sagittal"])
@pytest.mark.parametrize("number", ["", "2", "01"])
def test_orientation_is_no_contrast(label: str, number: str) -> None:
    for spelling in (label, label.upper(), label.capitalize()):
        assert contrast_name({"acquisition": spelling + number, "suffix": "T1w"}) == "T1w"


@pytest.mark.parametrize("label", ["sagmprage", "axT1", "mprage", "tse3", "2d", "ax2x"])
def test_other_acquisitions_are_contrasts(label: str) -> None:
    assert contrast_name({"acquisition": label, "suffix": "T1w"}) == f"acq-{label}_T1w"


@given(run=st.integers(0, 99), chunk=st.integers(0, 99), ceagent=LABELS, other=LABELS)
def test_repeats_share_a_name_and_contrasts_do_not(
    run: int, chunk: int, ceagent: str, other: str
) -> None:
    plain = {"subject": "01", "ceagent": ceagent, "suffix": "T1w"}
    repeat = {**plain, "run": str(run), "chunk": str(chunk)}
    assert contrast_name(plain) == contrast_name(repeat)
    same = contrast_name({**plain, "ceagent": other}) == contrast_name(plain)
    assert same is (other == ceagent)


@given(st.lists(st.integers(0, 1000)))
def test_natural_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    ordered = sorted((f"run-{number}_T1w" for number in numbers), key=natural_key)
    assert ordered == [f"run-{number}_T1w" for number in sorted(numbers)]
