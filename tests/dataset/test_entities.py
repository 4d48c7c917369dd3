from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.dataset.entities import contrast_name, listing, natural_key, parse_name

LABELS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1)


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
    assert sorted(["²", "10", "9"], key=natural_key) == ["9", "10", "²"]


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_acq-my scan_T1w.nii.gz",
        "sub-01_T1w copy.nii.gz",
        "sub-01__T1w.nii.gz",
        "sub-01_acq-a-b_T1w.nii.gz",
        "sub-01_acq-_T1w.nii.gz",
        "sub-01_run-1_run-2_T1w.nii.gz",
        "sub-01_run-1a_T1w.nii.gz",
        "sub-01_echo-\u0662_T1w.nii.gz",
        "sub-01_part-Phase_T1w.nii.gz",
        "sub-01_mt-ON_MTR.nii.gz",
        "sub-01_acq-Größe_T1w.nii.gz",
        "sub-..%2f_T1w.nii.gz",
        "sub-01_T1w\n.nii.gz",
        "sub-01_'_T1w.nii.gz",
        ".nii.gz",
        "",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"the (suffix|part|value)"):
        parse_name(name)


@given(st.lists(st.sampled_from(["sub", "acq", "ce", "desc"]), unique=True), LABELS, LABELS)
def test_names_are_taken_apart_and_put_together(keys: list[str], label: str, suffix: str) -> None:
    name = parse_name("_".join([*(f"{key}-{label}" for key in keys), f"{suffix}.nii.gz"]))
    assert name.entities == dict.fromkeys(keys, label)
    assert (name.suffix, name.extension) == (suffix, ".nii.gz")


def test_numbers_are_compared_as_numbers() -> None:
    first, second = parse_name("sub-01_run-01_T1w.nii"), parse_name("sub-01_run-1_T1w.nii")
    assert first.comparable == second.comparable
    assert parse_name("sub-1_T1w.nii").comparable != parse_name("sub-01_T1w.nii").comparable


def test_long_listings_are_cut() -> None:
    assert listing(["a", "b", "c"], most=2, separator=" ") == "a b and 1 more"
