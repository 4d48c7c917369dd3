"""A small network learns what finer voxels are from patches, and how far off it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bids_unires.model.detail.network import Effort, Pairs, PlaneNetwork, train

SIDE = 9
NOISE_SD = 0.02
EFFORT = Effort(pairs=50_000, widths=(96, 96), steps=1000)
BRIEF = replace(EFFORT, steps=50)


def pairs(count: int, seed: int, shade: float = 0.0) -> Pairs:
    """Patches across an edge somewhere within their middle voxel, and the halves of that voxel.

    With a shade, which may be negative, another contrast shows these halves in it.
    """
    random = torch.Generator().manual_seed(seed)
    edge = torch.rand((count, 1), generator=random)
    step = torch.randn((count, 1), generator=random)
    level = 10 * torch.randn((count, 1), generator=random)
    places = torch.arange(SIDE) - SIDE // 2
    # Shares of each voxel that lie beyond the edge.
    patches = level + step * ((places + 1 - edge).clamp(0, 1))
    halves = level + step * torch.cat(
        [(2 * (0.5 - edge)).clamp(0, 1), (2 * (1 - edge)).clamp(0, 1)], dim=1
    )
    noise = NOISE_SD * torch.randn(patches.shape, generator=random)
    views = shade * halves[:, :, None] if shade else halves[:, :0, None]
    return Pairs((patches + noise)[:, :, None], views, halves)


@pytest.fixture(scope="module")
def network() -> PlaneNetwork:
    return train(
        pairs(50_000, 1), pairs(5_000, 8), NOISE_SD, EFFORT, torch.Generator().manual_seed(2)
    )


def test_it_finds_what_no_linear_map_can(network: PlaneNetwork) -> None:
    patches, views, halves = pairs(5_000, 3)
    middle = patches[:, SIDE // 2]
    above = patches[:, :, 0] - middle
    linear = torch.linalg.lstsq(above, halves - middle).solution
    best_linear = (above @ linear - (halves - middle)).square().mean()
    assert (network.predict(patches, views)[0] - halves).square().mean() < best_linear / 4


def test_the_mean_of_both_ways_is_what_it_says(network: PlaneNetwork) -> None:
    patches, views, _ = pairs(100, 3)
    both, variance = network.predict(patches, views)
    ways = [network.predict(patches, views, way) for way in (0, 1)]
    torch.testing.assert_close((ways[0][0] + ways[1][0]) / 2, both, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ways[0][0], ways[1][0], rtol=1e-3)
    # A flipped patch is to the one way what the patch is to the other, and so is the prediction.
    flipped = network.predict(patches.flip(1), views, 0)[0].flip(1)
    torch.testing.assert_close(flipped, ways[1][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ways[1][1], variance)


def test_it_knows_how_far_off_it_is(network: PlaneNetwork) -> None:
    patches, views, halves = pairs(5_000, 4)
    found, variance = network.predict(patches, views)
    errors = (found - halves).square()
    assert float(errors.mean()) == pytest.approx(network.error_sd**2, rel=0.25)
    assert float(errors.mean() / variance.mean()) == pytest.approx(1, abs=0.25)
    explained = 1 - float(errors.mean() / (halves - patches[:, SIDE // 2]).square().mean())
    assert explained == pytest.approx(network.explained, abs=0.02)


def test_more_steps_are_taken_where_most_of_the_detail_is_explained() -> None:
    def explained(noise: float, more_steps: int) -> float:
        taught, held_out = (
            part._replace(finer=part.finer + noise * torch.randn(part.finer.shape))
            for part in (pairs(20_000, 1), pairs(5_000, 8))
        )
        effort = replace(EFFORT, steps=50, more_steps=more_steps)
        random = torch.Generator().manual_seed(2)
        return train(taught, held_out, NOISE_SD, effort, random).explained

    with torch.random.fork_rng():
        for noise in (0.0, 1.0):
            found = []
            for more_steps in (0, 150):
                torch.manual_seed(5)
                found.append(explained(noise, more_steps))
            if noise:
                # Most of what is to be explained is noise.
                assert found[0] < 0.8
                assert found[1] == found[0]
            else:
                assert found[0] > 0.8
                assert 1 - found[1] < 0.95 * (1 - found[0])


def test_training_tells_how_far_it_is() -> None:
    told: list[float] = []
    random = torch.Generator().manual_seed(2)
    effort = replace(EFFORT, widths=(8, 8))
    train(pairs(60_000, 1), pairs(5_000, 8), NOISE_SD, effort, random, told.append)
    assert told == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(("factor", "offset"), [(100.0, 50.0), (0.01, -3.0)])
def test_units_do_not_matter(network: PlaneNetwork, factor: float, offset: float) -> None:
    taught, held_out = (
        Pairs(*(factor * part + offset for part in pairs(count, seed)))
        for count, seed in ((50_000, 1), (5_000, 8))
    )
    other = train(
        taught,
        held_out,
        factor * NOISE_SD,
        EFFORT,
        torch.Generator().manual_seed(2),
    )
    fresh, views, _ = pairs(2_000, 5)
    found, variance = network.predict(fresh, views)
    moved, its_variance = other.predict(factor * fresh + offset, views)
    off = (moved - (factor * found + offset)).square().mean().sqrt()
    # Rounding is amplified on the way, but never beyond what the network gets wrong anyhow.
    assert float(off) < 0.5 * factor * network.error_sd
    assert float(its_variance.mean() / variance.mean()) == pytest.approx(factor**2, rel=0.1)


def test_the_same_seed_gives_the_same_network() -> None:
    few = pairs(3_000, 1)
    first, second = (
        train(few, few, NOISE_SD, BRIEF, torch.Generator().manual_seed(6)) for _ in range(2)
    )
    assert torch.equal(first.predict(*few[:2])[0], second.predict(*few[:2])[0])


@pytest.mark.parametrize("shade", [1.0, -0.5])
def test_it_learns_in_what_shade_another_contrast_shows_them(
    network: PlaneNetwork, shade: float
) -> None:
    taught, held_out = pairs(50_000, 1, shade), pairs(5_000, 8, shade)
    shown = train(taught, held_out, NOISE_SD, EFFORT, torch.Generator().manual_seed(2))
    assert shown.error_sd < 0.75 * network.error_sd


def test_few_pairs_are_learned_from_again_and_again() -> None:
    random = torch.Generator().manual_seed(2)
    few = train(pairs(2_000, 1), pairs(2_000, 8), NOISE_SD, BRIEF, random)
    assert few.explained > 0


def test_pairs_held_out_say_how_far_off_it_is() -> None:
    few = pairs(200, 1)
    network = train(few, pairs(2_000, 8), NOISE_SD, EFFORT, torch.Generator().manual_seed(2))
    patches, views, halves = pairs(2_000, 3)
    off = float((network.predict(patches, views)[0] - halves).square().mean())
    assert network.error_sd**2 == pytest.approx(off, rel=0.3)


def test_it_says_the_same_of_patches_flipped(network: PlaneNetwork) -> None:
    patches, views, _ = pairs(2_000, 7)
    found, variance = network.predict(patches, views)
    flipped, its_variance = network.predict(patches.flip(1), views.flip(1))
    torch.testing.assert_close(flipped.flip(1), found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(its_variance, variance)
