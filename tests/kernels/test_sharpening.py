"""Sharpening before interpolation: a symmetric filter, the same everywhere it runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bids_unires.kernels.sharpening import Coefficients, add_sharpened, sharpen

SIDES = st.tuples(*[st.integers(1, 9)] * 3)
COEFFICIENTS = st.tuples(*[st.floats(0, 0.125)] * 3)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sharpened(image: Tensor, coefficients: Coefficients) -> Tensor:
    result = torch.full_like(image, torch.nan)
    sharpen(image, coefficients, result)
    return result


@settings(max_examples=60, deadline=None)
@given(sides=SIDES, coefficients=COEFFICIENTS)
def test_compiled_and_plain_agree(sides: tuple[int, int, int], coefficients: Coefficients) -> None:
    image = noise(sides, 0)
    expected = sharpened(image.double(), coefficients)
    torch.testing.assert_close(sharpened(image, coefficients).double(), expected, rtol=0, atol=1e-5)
    target, plain = noise(sides, 1), noise(sides, 1).double()
    add_sharpened(image, coefficients, target)
    add_sharpened(image.double(), coefficients, plain)
    torch.testing.assert_close(target.double(), plain, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(sides=SIDES, coefficients=COEFFICIENTS)
def test_it_is_its_own_transpose_and_keeps_the_mean(
    sides: tuple[int, int, int], coefficients: Coefficients
) -> None:
    a, b = noise(sides, 0).double(), noise(sides, 1).double()
    forth, back = (sharpened(a, coefficients) * b).sum(), (a * sharpened(b, coefficients)).sum()
    assert float(forth) == pytest.approx(float(back), abs=1e-9)
    assert float(sharpened(a, coefficients).sum()) == pytest.approx(float(a.sum()), abs=1e-9)


def test_it_undoes_the_mean_blur_of_interpolation_half_way() -> None:
    wave = torch.sin(0.4 * torch.arange(64, dtype=torch.float64)).reshape(1, 1, 64)
    exact = torch.sin(0.4 * (torch.arange(63, dtype=torch.float64) + 0.5))

    def half_way(image: Tensor) -> Tensor:
        return (image[0, 0, 1:] + image[0, 0, :-1]) / 2

    inner = slice(2, -2)
    plain = (half_way(wave) - exact)[inner].abs().max()
    corrected = (half_way(sharpened(wave, (0.0, 0.0, 0.125))) - exact)[inner].abs().max()
    assert corrected < 0.1 * plain


@pytest.mark.gpu
def test_the_gpu_does_the_same() -> None:
    image, coefficients = noise((9, 8, 21), 0), (0.1, 0.05, 0.08)
    on_gpu = sharpened(image.cuda(), coefficients).cpu()
    torch.testing.assert_close(on_gpu, sharpened(image, coefficients), rtol=0, atol=1e-6)
