"""What becomes of lesions is measured rightly, on spots whose fate is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.injection import InjectionParameters, inject
from evaluation.lesions import Lesions, survival

SIDE, TISSUE = 48, 60.0


def head() -> NDArray[np.float32]:
    """A ball of tissue with a little texture, in air."""
    at = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    texture = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((SIDE,) * 3), 1)
    ball = np.linalg.norm(at, axis=-1) < 0.48 * SIDE
    return np.where(ball, TISSUE + texture, 0).astype(np.float32)


def with_spots(
    *sides: int, difference: float = 20.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The head with a cube of each side along a line, and the mask of cubes."""
    mask = np.zeros((SIDE,) * 3, dtype=bool)
    for number, side in enumerate(sides):
        first = 10 + 10 * number
        mask[first : first + side, 22 : 22 + side, 22 : 22 + side] = True
    return head() + np.float32(difference) * mask, mask


def lesions_of(*sides: int, difference: float = 20.0) -> tuple[Lesions, NDArray[np.float32]]:
    truth, mask = with_spots(*sides, difference=difference)
    return Lesions(truth, mask, truth > 0), truth


def test_lesions_are_sorted_by_their_volume() -> None:
    lesions, truth = lesions_of(1, 2, 4)
    counts = [of_size.count for of_size in lesions.survival(truth).values()]
    assert counts == [1, 1, 0]
    assert sorted(lesions.volumes) == [1, 8, 64]


def test_lesions_that_touch_by_a_corner_are_one() -> None:
    truth, mask = with_spots(2)
    mask[12:14, 24:26, 24:26] = True
    assert Lesions(truth, mask, truth > 0).count == 1


@pytest.mark.parametrize("difference", [20.0, -20.0])
@pytest.mark.parametrize(("share", "erased"), [(1.0, 0.0), (0.6, 0.0), (0.4, 1.0), (-0.2, 1.0)])
def test_the_share_of_contrast_that_is_kept(difference: float, share: float, erased: float) -> None:
    lesions, truth = lesions_of(2, 2, difference=difference)
    image = head() + np.float32(share) * (truth - head())
    # The texture of the head adds a little to the contrast of both.
    found = lesions.survival(image)["5 to 30 mm3"]
    assert found.kept == pytest.approx(share, abs=0.05)
    assert found.erased == erased


def test_brightness_and_units_do_not_matter() -> None:
    lesions, truth = lesions_of(2, 3)
    np.testing.assert_allclose(lesions.kept(truth + 100), 1, rtol=1e-4)
    small = Lesions(truth / 1000, *(with_spots(2, 3)[1], truth > 0))
    image = ndimage.gaussian_filter(truth, 1)
    np.testing.assert_allclose(small.kept(image / 1000), lesions.kept(image), rtol=1e-3)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1)])
def test_it_does_not_matter_how_axes_are_ordered(order: tuple[int, int, int]) -> None:
    truth, mask = with_spots(2, 3, 4)
    image = ndimage.gaussian_filter(truth, (0.5, 1.5, 0.0))
    straight = Lesions(truth, mask, truth > 0).kept(image)
    parts = (part.transpose(order) for part in (truth, mask, truth > 0))
    turned = Lesions(*parts).kept(image.transpose(order))
    np.testing.assert_allclose(sorted(turned), sorted(straight), rtol=1e-5)


def test_lesions_of_several_heads_are_joined() -> None:
    found = survival(np.array([8, 8, 64]), np.array([0.2, 0.8, 1.0]))
    assert found["5 to 30 mm3"].erased == 0.5
    assert found["5 to 30 mm3"].kept == pytest.approx(0.5)
    assert found["30 to 100 mm3"].count == 1
    assert np.isnan(found["100 mm3 and more"].kept)


@pytest.mark.parametrize("difference", [20.0, -20.0])
def test_spots_that_are_not_there_are_counted(difference: float) -> None:
    lesions, truth = lesions_of(2, 2, difference=difference)
    assert lesions.false_spots(truth) == 0
    image = truth.copy()
    image[30:33, 10:13, 24:27] += difference
    image[20:23, 30:33, 34:37] += difference
    # Nor is a spot of the other sign one.
    image[30:33, 34:37, 14:17] -= difference
    assert lesions.false_spots(image) == 2


def test_a_fainter_image_has_no_false_spots() -> None:
    lesions, truth = lesions_of(2, 3)
    assert lesions.false_spots(ndimage.gaussian_filter(truth, 1.0)) == 0


def test_shapes_have_to_agree() -> None:
    truth, mask = with_spots(2)
    with pytest.raises(ValueError, match="shapes differ"):
        Lesions(truth, mask[1:], truth > 0)


MANY = InjectionParameters(count=6, volumes=(20.0, 80.0))


@pytest.mark.parametrize("brighter", [True, False])
def test_lesions_are_put_where_they_are_asked_for(brighter: bool) -> None:
    healthy = head()
    parameters = replace(MANY, brighter=brighter)
    ill, mask = inject(healthy, healthy > 0, parameters)
    lesions = Lesions(ill, mask, healthy > 0)
    assert lesions.count == MANY.count
    assert (np.sign(lesions.contrasts(ill)) == (1 if brighter else -1)).all()
    # The volume of an ellipsoid in voxels is only about the one it was made for.
    assert 10 <= lesions.volumes.min() <= lesions.volumes.max() <= 100
    far = ndimage.distance_transform_edt(~mask) > 3
    np.testing.assert_array_equal(ill[far], healthy[far])


def test_the_same_lesions_are_put_in_every_time() -> None:
    healthy = head()
    once, again = (inject(healthy, healthy > 0, MANY)[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    other = inject(healthy, healthy > 0, replace(MANY, seed=2))[0]
    assert not np.array_equal(once, other)


def test_a_head_without_room_gets_no_lesion() -> None:
    healthy = np.full((12, 12, 12), TISSUE, np.float32)
    ill, mask = inject(healthy, healthy > 0, MANY)
    np.testing.assert_array_equal(ill, healthy)
    assert not mask.any()
