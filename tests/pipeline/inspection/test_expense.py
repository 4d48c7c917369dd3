"""Before anything is computed, a user learns about how much time and memory it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest

from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.pipeline.inspection.expense import Expense, unit_seconds
from bids_unires.pipeline.inspection.inspection import inspect
from bids_unires.pipeline.inspection.table import as_json, describe
from tests.paths import SHARED
from tests.pipeline.conftest import scan_of_head, write_dataset

COARSE = ModelSettings(voxel_size=(5.0, 5.0, 5.0))
Estimate = Callable[..., Expense]


@pytest.fixture
def estimate(tmp_path: Path) -> Estimate:
    """Give a function that estimates the expense of named scans of a participant."""

    def find(
        names: tuple[str, ...], settings: ModelSettings = COARSE, unit: float | None = 0.02
    ) -> Expense:
        root = tmp_path / f"raw-{len(list(tmp_path.iterdir()))}"
        write_dataset(root, {f"sub-01_{name}": scan_of_head(2) for name in names})
        config = RunConfig(root, tmp_path / "out", "participant", model=settings)
        (plan,) = plan_participants(config)
        found = inspect(plan, config, unit).expense
        assert found is not None
        return found

    return find


def test_finer_images_take_longer_and_more_memory(estimate: Estimate) -> None:
    coarse = estimate(("T1w",))
    fine = estimate(("T1w",), replace(COARSE, voxel_size=(2.0, 2.0, 2.0)))
    assert fine.memory > coarse.memory
    assert _processor(fine) > _processor(coarse)


def test_each_contrast_costs(estimate: Estimate) -> None:
    one, two = estimate(("T1w",)), estimate(("T1w", "FLAIR"))
    assert two.memory > one.memory
    assert _processor(two) > 1.5 * _processor(one)


def test_repeats_which_learn_nothing_cost_less_than_contrasts(estimate: Estimate) -> None:
    repeats, contrasts = estimate(("run-1_T1w", "run-2_T1w")), estimate(("T1w", "FLAIR"))
    assert _processor(repeats) < _processor(contrasts)


def test_without_learned_detail_it_costs_less(estimate: Estimate) -> None:
    settings = replace(COARSE, learned_detail=False)
    assert _processor(estimate(("T1w",), settings)) < _processor(estimate(("T1w",)))


def test_a_slower_machine_takes_longer(estimate: Estimate) -> None:
    slow, fast = estimate(("T1w",), unit=0.04), estimate(("T1w",), unit=0.02)
    assert _processor(fast) < _processor(slow) < 2 * _processor(fast)
    assert slow.memory == fast.memory


def test_more_threads_are_faster_but_not_without_limit(estimate: Estimate) -> None:
    found = estimate(("T1w",))
    one, two, many = (found.seconds(threads) for threads in (1, 2, 64))
    assert one is not None
    assert two is not None
    assert many is not None
    assert one > two > many > one / 5


@pytest.mark.parametrize("settings", [{"robust": True}, {"slice_motion": True}, {"uncertainty": 4}])
def test_no_time_is_stated_that_hangs_on_the_scans(
    estimate: Estimate, settings: dict[str, object]
) -> None:
    found = estimate(("T1w",), replace(COARSE, **settings))  # type: ignore[arg-type]
    assert found.seconds(2) is None
    assert found.memory > 0


def test_no_time_is_stated_for_a_gpu(estimate: Estimate) -> None:
    assert estimate(("T1w",), unit=None).seconds(2) is None


def test_an_interpolation_takes_some_time() -> None:
    assert 0 < unit_seconds() < 5


def test_the_table_and_the_json_state_both(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", {"sub-01_T1w": scan_of_head(2)})
    config = RunConfig(root, tmp_path / "out", "participant", model=COARSE)
    (plan,) = plan_participants(config)
    found = inspect(plan, config, 0.02)
    assert "with 2 threads, and" in describe(found, 2).splitlines()[-1]
    (stated,) = as_json([found], 2)["participants"]
    assert stated["estimated_seconds"] > 0
    assert stated["estimated_memory"] > 5e8


def test_scans_that_cannot_be_used_have_no_estimate(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", {"sub-01_T1w": _constant()})
    config = RunConfig(root, tmp_path / "out", "participant", model=COARSE)
    (plan,) = plan_participants(config)
    assert inspect(plan, config, 0.02).expense is None


@pytest.mark.realdata
@pytest.mark.slow
def test_a_clinical_session_is_estimated_within_a_factor_of_two(tmp_path: Path) -> None:
    data = SHARED / "data" / "ms-clinical"
    if not data.is_dir():
        pytest.skip("no shared/data/ms-clinical")
    config = RunConfig(data, tmp_path / "out", "participant")
    plan = plan_participants(config)[0]
    # It took 183 s of processor where a million voxels were interpolated in 0.0268 s, 128 s with
    # two threads, and 2.8 GB; with lesions 232 s, 164 s and 4.9 GB.
    found = inspect(plan, config, 0.0268).expense
    with_lesions = inspect(plan, replace(config, detectability=True), 0.0268).expense
    assert found is not None
    assert 183 / 1.5 < _processor(found) < 183 * 1.5
    assert 128 / 1.5 < (found.seconds(2) or 0) < 128 * 1.5
    assert found.memory == pytest.approx(2.84e9, rel=0.25)
    assert with_lesions is not None
    assert 232 / 1.5 < _processor(with_lesions) < 232 * 1.5
    assert with_lesions.memory == pytest.approx(4.9e9, rel=0.25)


def _processor(found: Expense) -> float:
    assert found.processor is not None
    return found.processor


def _constant() -> nib.Nifti1Image:
    image = scan_of_head(2)
    return nib.Nifti1Image(0 * image.get_fdata(), image.affine)
