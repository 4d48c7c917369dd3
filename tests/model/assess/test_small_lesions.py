"""Small lesions have the size they are said to have, and lie where tissue is even."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.assess.lesion_contrast import lesion_contrasts
from bids_unires.model.assess.small_lesions import (
    EvenTissue,
    LesionKind,
    choose_places,
    even_tissue,
    put_lesions,
)
from bids_unires.space.grid import Grid

SIDE = 60


def random() -> np.random.Generator:
    return np.random.default_rng(4)


def head(scale: float = 1.0) -> np.ndarray:
    """A ball of even tissue with a dark core and a folded rim, in air."""
    at = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    radius = np.linalg.norm(at, axis=-1)
    rim = 60 + 40 * np.sin(at[..., 0] * 2) * np.cos(at[..., 1] * 2)
    image = np.where(radius < 26, np.where(radius < 20, 100.0, rim), 0.0)
    image[radius < 6] = 20
    return (scale * (image + random().normal(size=image.shape))).astype(np.float32)


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.5)])
@pytest.mark.parametrize("diameter", [2.0, 3.0, 6.0])
def test_lesions_have_their_volume(sizes: tuple[float, float, float], diameter: float) -> None:
    grid = Grid((30, 30, 30), np.diag([*sizes, 1.0]))
    places = np.array([[8, 8, 8], [20, 20, 20]])
    lesions = put_lesions(places, [LesionKind(diameter, 0.5)], 2.0, grid, random())
    volume = lesions.added.sum() * np.prod(sizes) / (2.0 * 0.5)
    assert volume == pytest.approx(2 * np.pi * diameter**3 / 6, rel=0.05)
    assert lesions.added.max() <= 1.0
    assert set(np.unique(lesions.labels)) == {0, 1, 2}


@pytest.mark.parametrize("diameter", [1.5, 3.0, 4.0, 6.0])
def test_lesions_lie_at_their_places(diameter: float) -> None:
    """Within half a voxel, by which their middles are moved at random."""
    grid = Grid((30, 30, 30), np.diag([0.8, 1.0, 1.5, 1.0]))
    places = np.array([[8, 9, 10], [20, 19, 18]])
    lesions = put_lesions(places, [LesionKind(diameter, 0.5)], 2.0, grid, random())
    for number, place in enumerate(places, start=1):
        assert lesions.labels[tuple(place)] in (0, number)
        near = tuple(slice(at - 6, at + 7) for at in place)
        share = lesions.added[near]
        middle = [(share * at).sum() / share.sum() - 6 for at in np.indices(share.shape)]
        np.testing.assert_allclose(middle, 0, atol=0.55)
        drawn = np.argwhere(lesions.labels == number)
        np.testing.assert_allclose(drawn.mean(axis=0), place, atol=1.0)


def test_lesions_are_dark_where_they_take_intensity_away() -> None:
    grid = Grid((30, 30, 30), np.eye(4))
    places = np.array([[15, 15, 15]])
    bright, dark = (
        put_lesions(places, [LesionKind(4.0, 0.3)], unit, grid, random()) for unit in (10.0, -10.0)
    )
    assert np.array_equal(bright.added, -dark.added)
    everywhere = np.ones(grid.shape, dtype=bool)
    contrast = lesion_contrasts(dark.added, dark.labels, everywhere)
    assert -3.0 <= contrast[0] < -1.5


def test_even_tissue_is_neither_rim_nor_core_nor_air() -> None:
    grid = Grid((SIDE,) * 3, np.eye(4))
    tissue = even_tissue(head(), grid, 50.0)
    at = np.argwhere(tissue.places) - (SIDE - 1) / 2
    radius = np.linalg.norm(at, axis=1)
    assert len(at) > 1000
    assert radius.max() < 20
    assert radius.min() > 6
    assert tissue.intensity == pytest.approx(100, abs=1)


def test_even_tissue_does_not_depend_on_the_unit_of_intensity() -> None:
    grid = Grid((SIDE,) * 3, np.eye(4))
    one, other = (even_tissue(head(scale), grid, 50.0 * scale) for scale in (1.0, 8.0))
    assert np.mean(one.places != other.places) < 1e-3
    assert other.intensity == pytest.approx(8 * one.intensity, rel=0.01)


@pytest.mark.parametrize("image", [np.zeros((9, 9, 9)), np.ones((9, 9, 9))])
def test_there_is_no_place_in_nothing(image: np.ndarray) -> None:
    tissue = even_tissue(image.astype(np.float32), Grid((9, 9, 9), np.eye(4)), 2.0)
    assert not tissue.places.any()


def test_lesions_of_all_images_are_apart() -> None:
    tissue = EvenTissue(np.ones((40, 40, 40), dtype=bool), 1.0)
    apart = np.array([5, 6, 9])
    chosen = choose_places([tissue, tissue], apart, random())
    assert abs(len(chosen[0]) - len(chosen[1])) <= 1
    places = np.concatenate(chosen)
    assert len(places) > 20
    distance = np.abs(places[:, None] - places[None])
    distance[np.arange(len(places)), np.arange(len(places))] = 99
    assert (distance >= apart).any(axis=2).all()
    assert (places >= apart).all()
    assert (places < 40 - apart).all()
