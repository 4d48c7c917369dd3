"""Pictures: levels, colours, edges, files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bids_unires.report.mosaic import (
    BRAIN_WINDOW_HU,
    diverging,
    edges,
    encode_lines,
    encode_webp,
    outline,
    window_of,
)


def test_a_few_bright_voxels_do_not_darken_the_rest() -> None:
    values = np.full((100, 100), 100, dtype=np.float32)
    values[0, :10] = 1e6
    low, high = window_of(values)
    assert (low, high) == (0, 100)


def test_a_window_is_never_empty() -> None:
    for values in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), -3.0)):
        low, high = window_of(values.astype(np.float32))
        assert high > low


def test_ct_has_the_window_for_brain() -> None:
    assert window_of(np.array([[-1000, 3000]], dtype=np.float32)) == BRAIN_WINDOW_HU


def test_ct_that_was_stored_without_a_sign_has_a_window_of_its_own() -> None:
    assert window_of(np.array([[0, 255]], dtype=np.float32)) != BRAIN_WINDOW_HU


def test_colours_tell_the_sign_and_zero_is_black() -> None:
    values = np.array([[-9, -1, 0, 1, 9, np.nan]], dtype=np.float32)
    far_below, below, zero, above, far_above, nowhere = diverging(values, 4.0)[0].astype(int)
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert zero.max() <= 1
    assert far_below.sum() > below.sum()
    assert far_above.sum() > above.sum()
    assert len(set(nowhere.tolist())) == 1


def test_edges_lie_on_the_border_of_a_disc_and_nowhere_else() -> None:
    row, column = np.indices((120, 140))
    radius = np.hypot(row - 60, column - 70)
    noise = np.random.default_rng(0).normal(scale=2, size=radius.shape)
    found = edges((np.where(radius < 35, 100.0, 20.0) + noise).astype(np.float32), 1.0)
    assert found.sum() > 100
    assert np.abs(radius[found] - 35).max() < 3


def test_the_rim_of_the_data_is_no_edge() -> None:
    values = np.full((80, 80), 100, dtype=np.float32)
    values[:, :20] = np.nan
    values += np.linspace(0, 1, 80, dtype=np.float32)[:, None]
    assert not edges(values, 1.0)[:, :26].any()


def test_pictures_come_back_from_their_files() -> None:
    pixels = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 40, axis=0)
    again = np.asarray(Image.open(io.BytesIO(encode_webp(pixels))).convert("L"))
    assert np.abs(again.astype(int) - pixels).max() < 8


def test_lines_are_opaque_in_their_colour_and_the_rest_is_transparent() -> None:
    lines = np.eye(9, dtype=bool)
    picture = np.asarray(Image.open(io.BytesIO(encode_lines(lines, "#0a80ff"))).convert("RGBA"))
    np.testing.assert_array_equal(picture[..., 3], np.where(lines, 255, 0))
    assert picture[lines][0].tolist() == [10, 128, 255, 255]


@pytest.mark.parametrize("shape", [(1, 1), (3, 200)])
def test_small_pictures_have_no_edges_and_no_errors(shape: tuple[int, int]) -> None:
    assert edges(np.ones(shape, dtype=np.float32), 1.0).shape == shape


def test_an_outline_goes_around_a_mask() -> None:
    values = np.full((20, 20), np.nan, dtype=np.float32)
    values[2:18, 2:18] = 0.4
    values[5:15, 6:14] = 1
    lines = outline(values)
    assert lines[4:6, 6:14].all()
    assert not lines[7:13, 8:12].any()
    assert not lines[:4].any()
    assert not outline(np.full((5, 5), np.nan, dtype=np.float32)).any()
