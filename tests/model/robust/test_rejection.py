"""Damaged slices are repaired or rejected by comparison with the others; good ones are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.model import Reconstruction, SliceVerdict, super_resolve
from bids_unires.model.intensity.noise import estimate_noise
from bids_unires.space.affines import scaling, translation
from bids_unires.space.volume import Volume
from tests.corrupted import DAMAGES, SCALE, SHIFT_MM, Examination, examine

NOISE = 0.015
# A given strength of the prior spares the search for it.
FIT = ModelSettings(voxel_size=(2.0,) * 3, reg_scale=4.0, learning_effort="brief")
COARSE_FIT = replace(FIT, voxel_size=(3.0,) * 3)


@dataclass(frozen=True, eq=False)
class Fitted:
    """An examination and what was made of it."""

    case: Examination
    result: Reconstruction

    @property
    def quality(self) -> float:
        return self.case.quality(self.result)[0]

    @property
    def verdicts(self) -> list[SliceVerdict]:
        found = self.result.fit.slice_verdicts
        assert found is not None
        return [verdict for scans in found for verdict in scans]

    @property
    def rejected(self) -> list[tuple[int, ...]]:
        return [verdict.rejected for verdict in self.verdicts]

    @property
    def repaired(self) -> list[tuple[int, ...]]:
        return [tuple(sorted(verdict.repaired)) for verdict in self.verdicts]

    @property
    def damaged(self) -> list[tuple[int, ...]]:
        return [tuple(done) for scans in self.case.damage for done in scans]


def fit(case: Examination, settings: ModelSettings, *, robust: bool) -> Fitted:
    settings = replace(settings, robust=robust)
    return Fitted(case, super_resolve(case.scans, settings, "cpu", poses=case.poses))


def weigh(case: Examination, settings: ModelSettings) -> Fitted:
    """The weights are found before the images, and these do not matter."""
    return fit(case, replace(settings, max_iter=1, tolerance=0.5), robust=True)


@pytest.fixture(scope="module")
def three_stacks() -> Fitted:
    return fit(examine("three stacks", NOISE, 0, 2.0), FIT, robust=False)


@pytest.fixture(scope="module")
def damaged_stacks(three_stacks: Fitted) -> Fitted:
    return fit(three_stacks.case.damaged(DAMAGES, seed=0), FIT, robust=True)


@pytest.fixture(scope="module")
def one_stack() -> Fitted:
    return fit(examine("one stack", NOISE, 0, 2.0), FIT, robust=False)


@pytest.fixture(scope="module")
def dark_stack() -> Fitted:
    case = examine("one stack", NOISE, 0, 3.0).damaged(["scaled"], seed=0)
    return weigh(case, COARSE_FIT)


@pytest.fixture(scope="module")
def strange_stacks(three_stacks: Fitted) -> Fitted:
    """Stacks of which one has a bright mirror image of another slice in the place of its own."""
    scans = [Volume(scan.data.copy(), scan.affine) for scan in three_stacks.case.scans[0]]
    strange = scans[0].data
    strange[..., 20] = 1.5 * strange[:, ::-1, 30]
    return weigh(replace(three_stacks.case, scans=(tuple(scans),)), FIT)


@pytest.mark.slow
def test_clean_slices_are_accepted_as_they_are(three_stacks: Fitted, one_stack: Fitted) -> None:
    one = weigh(one_stack.case, FIT)
    three = fit(three_stacks.case, FIT, robust=True)
    for verdict in (*one.verdicts, *three.verdicts):
        assert verdict.rejected == ()
        assert not verdict.repairs
        assert ((verdict.weights > 0) & (verdict.weights <= 1)).all()
        assert verdict.weights.mean() > 0.97
    assert three_stacks.quality - three.quality < 0.05


@pytest.mark.slow
def test_repeats_tell_all_damaged_slices_and_repair_them(damaged_stacks: Fitted) -> None:
    assert damaged_stacks.repaired == damaged_stacks.damaged
    assert damaged_stacks.rejected == [(), (), ()]
    for verdict, damage in zip(damaged_stacks.verdicts, damaged_stacks.case.damage[0], strict=True):
        for k, kind in damage.items():
            repair = verdict.repairs[k]
            assert bool(repair.stripes) == (kind == "spiked")
            assert repair.factor == pytest.approx(SCALE if kind == "scaled" else 1.0, rel=0.05)
            moved = np.linalg.norm(repair.shift)
            assert moved == pytest.approx(SHIFT_MM if kind == "shifted" else 0.0, abs=0.3)


@pytest.mark.slow
def test_damage_costs_little_where_repeats_show_the_place(
    three_stacks: Fitted, damaged_stacks: Fitted
) -> None:
    assert three_stacks.quality - damaged_stacks.quality < 0.2


@pytest.mark.slow
def test_damage_costs_little_where_a_stack_is_alone(one_stack: Fitted) -> None:
    found = fit(one_stack.case.damaged(DAMAGES, seed=0), FIT, robust=True)
    assert found.repaired == found.damaged
    assert one_stack.quality - found.quality < 0.5


@pytest.mark.slow
def test_one_stack_tells_its_dark_slices(dark_stack: Fitted) -> None:
    assert dark_stack.repaired == dark_stack.damaged


@pytest.mark.slow
def test_the_outermost_dark_slice_is_repaired_too(one_stack: Fitted) -> None:
    case = one_stack.case.damaged(["scaled"], seed=5)
    # The second one that shows a tenth of the head.
    assert min(case.damage[0][0]) == 4
    robust = fit(case, FIT, robust=True)
    assert robust.repaired == robust.damaged
    assert robust.quality > one_stack.quality - 0.5


@pytest.mark.slow
def test_slices_that_moved_near_the_ends_are_put_back(one_stack: Fitted) -> None:
    case = one_stack.case.damaged(["shifted"], seed=2)
    # The fifth slice that shows a tenth of the head: its neighbours do not tell where it lies.
    assert min(case.damage[0][0]) == 7
    robust = fit(case, FIT, robust=True)
    assert robust.repaired == robust.damaged
    for repair in robust.verdicts[0].repairs.values():
        assert np.linalg.norm(repair.shift) == pytest.approx(SHIFT_MM, abs=0.8)
    assert robust.quality > one_stack.quality - 0.5


@pytest.mark.slow
def test_what_cannot_be_repaired_is_left_out_and_nothing_read_off_it(
    strange_stacks: Fitted,
) -> None:
    assert strange_stacks.rejected == [(20,), (), ()]
    assert not strange_stacks.verdicts[0].repairs
    without = strange_stacks.case.scans[0][0].data.copy()
    without[..., 20] = np.nan
    assert strange_stacks.result.fit.noise[0][0] == estimate_noise(without)


@pytest.mark.slow
def test_neither_unit_nor_order_of_axes_matters(dark_stack: Fitted) -> None:
    (scan,) = dark_stack.case.scans[0]
    (before,) = weigh(dark_stack.case, COARSE_FIT).verdicts

    def of(data: np.ndarray, affine: np.ndarray) -> SliceVerdict:
        other = replace(dark_stack.case, scans=((Volume(data, affine),),))
        return weigh(other, COARSE_FIT).verdicts[0]

    np.testing.assert_allclose(of(100 * scan.data, scan.affine).weights, before.weights, rtol=0.02)
    # Slices first, in reverse order, and a mirrored row.
    turned = np.ascontiguousarray(np.transpose(scan.data, (2, 0, 1))[::-1, :, ::-1])
    order = np.zeros((4, 4))
    order[[2, 0, 1, 3], [0, 1, 2, 3]] = 1
    first = [len(turned) - 1, 0, turned.shape[2] - 1]
    other = of(turned, scan.affine @ order @ translation(first) @ scaling([-1, 1, -1]))
    assert other.axis == 0
    # Which slices are left out together changes with where the counting begins.
    np.testing.assert_allclose(other.weights[::-1], before.weights, atol=0.1)
    assert {len(turned) - 1 - k for k in other.repairs} == set(before.repairs)
    for k, repair in before.repairs.items():
        assert other.repairs[len(turned) - 1 - k].factor == pytest.approx(repair.factor, rel=0.05)
