"""A contrast gains from the others, or at least loses nothing: in sharpness, noise and error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bids_unires.config import ModelSettings
from bids_unires.demo.scanner import Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.score import psnr
from bids_unires.model.guided import group_by_sharpness, solve_guided
from bids_unires.model.intensity.noise import NoiseEstimate, estimate_noise
from bids_unires.model.prior.weight import prior_weight
from bids_unires.model.scanner.coverage import footprint_margin
from bids_unires.model.scanner.observation import Observation
from bids_unires.model.scanner.profile import profile_for_voxels
from bids_unires.model.solve.problem import Stop
from bids_unires.model.solve.solver import Progress, solve
from bids_unires.space.affines import Affine, translation
from bids_unires.space.grid import Grid, padded
from bids_unires.space.volume import Volume
from tests.model.states import contrast_of, problem_of

Image = NDArray[np.float32]

SHAPE = (44, 48, 44)
# Centre, radii in mm, turn about z in radians; each replaces what lies below.
LAYERS = (
    ((0, 0, 0), (19, 21, 19), 0.0),
    ((0, 0, 0), (16, 18, 16), 0.0),
    ((0, 1, 0), (12, 14, 12), 0.3),
    ((-4, 0, 1), (2, 8, 4), 0.2),
    ((4, 0, 1), (2, 8, 4), -0.2),
    ((6, -5, -4), (3, 4, 3), 0.4),
    ((-7, 5, 5), (2, 2, 2), 0.0),
)
INTENSITIES = {
    "T1w": (900, 560, 800, 180, 180, 620, 560),
    "FLAIR": (480, 560, 420, 90, 90, 500, 900),
    "T2w": (520, 480, 340, 950, 950, 430, 720),
}
SHARP = {"T1w": None, "FLAIR": ("transverse", 5.0), "T2w": ("coronal", 4.0)}
THICK = {"T1w": ("sagittal", 4.0), "FLAIR": ("transverse", 4.0), "T2w": ("coronal", 4.0)}
# What coregistration leaves: a third of a millimetre.
MISALIGNED = {"FLAIR": translation([0.2, -0.1, 0.2]), "T2w": translation([-0.15, 0.2, 0.15])}
FIELD_OF_VIEW = Grid(SHAPE, translation([-(side - 1) / 2 for side in SHAPE]))
NOISE = 20.0
SETTINGS = ModelSettings()


def truth(contrast: str) -> Image:
    points = np.moveaxis(np.indices(SHAPE), 0, -1) + FIELD_OF_VIEW.affine[:3, 3]
    image = np.zeros(SHAPE)
    for (centre, radii, turn), value in zip(LAYERS, INTENSITIES[contrast], strict=True):
        cosine, sine = np.cos(turn), np.sin(turn)
        turned = (points - centre) @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        inside = (1 - np.linalg.norm(turned / radii, axis=-1)) * min(radii) + 0.5
        amount = np.clip(inside, 0, 1)
        image = image * (1 - amount) + value * amount
    return image.astype(np.float32)


def scan(contrast: str, slices: tuple[Plane, float] | None, seed: int) -> Volume:
    """Scanned by code that shares nothing with the model."""
    moved: Affine = MISALIGNED.get(contrast, np.eye(4))
    whole = Volume(truth(contrast), FIELD_OF_VIEW.affine)
    grid, thickness = FIELD_OF_VIEW, 1e-3
    if slices is not None:
        grid, thickness = scan_grid(FIELD_OF_VIEW, *slices), slices[1]
    clean = np.maximum(thick_slices(whole, grid, thickness, moved), 0)
    return Volume(add_rician_noise(clean, NOISE, np.random.default_rng(seed)), grid.affine)


class Study:
    """Scans of the phantom, and fits of any of them on one grid."""

    def __init__(self, protocol: dict[str, tuple[Plane, float] | None]) -> None:
        volumes = [scan(name, slices, c) for c, (name, slices) in enumerate(protocol.items())]
        self.noise: list[list[NoiseEstimate]] = [[estimate_noise(v.data)] for v in volumes]
        self.scans = [
            [Observation(v.data, v.affine, noise[0].tau, profile_for_voxels(v.grid, 1.0))]
            for v, noise in zip(volumes, self.noise, strict=True)
        ]
        margin = footprint_margin(
            FIELD_OF_VIEW, [scan for repeats in self.scans for scan in repeats]
        )
        self.grid = padded(FIELD_OF_VIEW, margin)
        self.inner = tuple(slice(margin, -margin) for _ in SHAPE)
        self.truths = [truth(name) for name in protocol]

    def fit(self, contrasts: Sequence[int]) -> tuple[torch.Tensor, list[Progress]]:
        groups = group_by_sharpness([self.scans[c] for c in contrasts], self.grid)
        together = {place: len(group) for group in groups for place in group}
        states = []
        for place, c in enumerate(contrasts):
            weight = prior_weight(self.noise[c], SETTINGS, "MR", together[place])
            states.append(contrast_of(self.scans[c], weight, self.noise[c][0]))
        seen = list[Progress]()
        stop = Stop(SETTINGS.tolerance, SETTINGS.max_iter)
        problem = problem_of(*states, grid=self.grid)
        found = solve_guided(problem, stop, on_progress=seen.append)
        assert found.solution.converged
        assert found.solution.history == tuple(seen)
        return found.solution.images, seen

    def alone(self) -> list[torch.Tensor]:
        return [self.fit([c])[0][0] for c in range(len(self.scans))]

    def psnr(self, contrast: int, image: torch.Tensor) -> float:
        expected = self.truths[contrast]
        return psnr(image[self.inner].numpy(), expected, truth("T1w") > 90)


@pytest.fixture(scope="module")
def sharp() -> Study:
    return Study(SHARP)


def test_thick_slices_gain_from_a_sharp_contrast_that_loses_nothing(sharp: Study) -> None:
    alone, (joint, _) = sharp.alone(), sharp.fit([0, 1, 2])
    assert torch.equal(joint[0], alone[0])
    for c in (1, 2):
        assert sharp.psnr(c, joint[c]) > sharp.psnr(c, alone[c]) + 0.2


def test_a_prior_shared_by_all_would_leave_noise_in_the_sharp_contrast(sharp: Study) -> None:
    published = [4 / np.sqrt(3) / noise[0].contrast for noise in sharp.noise]
    images = solve(sharp.scans, sharp.grid, published, device="cpu").images
    assert sharp.psnr(0, images[0]) < sharp.psnr(0, sharp.fit([0])[0][0]) - 0.3


def test_contrasts_of_thick_slices_gain_from_each_other() -> None:
    study = Study(THICK)
    alone, (joint, _) = study.alone(), study.fit([0, 1, 2])
    for c in range(3):
        assert study.psnr(c, joint[c]) > study.psnr(c, alone[c])


def test_the_order_of_contrasts_does_not_matter(sharp: Study) -> None:
    (one, _), (other, progress) = sharp.fit([0, 1]), sharp.fit([1, 0])
    torch.testing.assert_close(other, one.flip(0), rtol=0, atol=0)
    seconds, products, _ = (np.array(column) for column in zip(*progress, strict=True))
    assert (np.diff(seconds) >= 0).all()
    assert (np.diff(products) >= 0).all()


def test_sharp_contrasts_come_first(sharp: Study) -> None:
    t1w, flair, t2w = sharp.scans
    assert group_by_sharpness([flair, t1w, t2w], sharp.grid) == ((1,), (0, 2))
    assert group_by_sharpness([flair, t2w], sharp.grid) == ((0, 1),)
    assert group_by_sharpness([t1w], sharp.grid) == ((0,),)
    # One sharp repeat is enough.
    assert group_by_sharpness([flair, [*flair, *t1w]], sharp.grid) == ((1,), (0,))
