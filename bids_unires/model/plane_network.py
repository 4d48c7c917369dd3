"""A small network that tells what a thick voxel holds from the voxels around it.

One hidden representation of a patch and a linear map beside it, trained by regression. Patches
are brought to the same size of contrast first, so that what is learned at a strong edge holds at
a weak one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_HIDDEN = 96
_BATCH = 1024
# Of Adam, in the middle of one cycle that begins and ends low (Smith & Topin 2019).
_LEARNING_RATE = 1e-2
# Of the pairs are kept to find out how far off predictions are.
_KEPT_SHARE = 0.1
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class PlaneNetwork:
    """Maps a patch to the finer voxels within its middle one.

    Parameters
    ----------
    weights, biases
        Of the layers.
    shortcut
        ``(P, R)``: the linear map beside them.
    noise_sd
        Of the patches, in intensity: patches of less contrast are not amplified.
    variance
        ``(2, R)``: variance of the error of each finer voxel, as a constant and a multiple
        of the patch's squared contrast.
    error_sd
        Root mean square of the errors of pairs that were not learned from, in intensity.
    explained
        Share of the differences between finer voxels and the middle of their patch that it
        explains of these pairs.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    shortcut: Tensor
    noise_sd: float
    variance: Tensor
    error_sd: float
    explained: float

    def predict(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities of the finer voxels and the variances of their errors.

        Parameters
        ----------
        patches
            ``(N, P)``, the middle voxel in the middle.

        Returns
        -------
        tuple of Tensor
            Both ``(N, R)``.
        """
        middle, contrast, scaled = _scaled(patches, self.noise_sd)
        constant, slope = self.variance
        found = _network(scaled, self.shortcut, self.weights, self.biases)
        return middle + contrast * found, constant + slope * contrast.square()


def train(
    patches: Tensor, finer: Tensor, noise_sd: float, steps: int, chance: torch.Generator
) -> PlaneNetwork:
    """Learn from pairs.

    Parameters
    ----------
    patches
        ``(N, P)`` intensities, P odd.
    finer
        ``(N, R)``: what the middle voxel of each patch consists of.
    noise_sd
        Of the patches.
    steps
        Of the optimiser.
    chance
        Of the beginning and of the order of the pairs, drawn on the CPU: in the same state it
        gives the same network, for the same number of threads.
    """
    middle, contrast, scaled = _scaled(patches, noise_sd)
    wanted = (finer - middle) / contrast
    # Errors count as they are, not as shares of the contrast.
    squares = contrast.square()
    importance = squares / squares.mean()
    order = torch.randperm(len(scaled), generator=chance).to(patches.device)
    kept, used = order[: int(_KEPT_SHARE * len(order))], order[int(_KEPT_SHARE * len(order)) :]
    shortcut = _least_squares(scaled[used], wanted[used], importance[used])
    weights, biases = _layers(scaled.shape[1], finer.shape[1], chance, patches.device)
    parameters = [shortcut, *weights, *biases]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for batch in _batches(used, steps, chance):
        error = _network(scaled[batch], shortcut, weights, biases) - wanted[batch]
        optimizer.zero_grad(set_to_none=True)
        (error.square() * importance[batch]).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    error = (_network(scaled[kept], shortcut, weights, biases) - wanted[kept]) * contrast[kept]
    errors = error.square()
    return PlaneNetwork(
        weights,
        biases,
        shortcut,
        noise_sd,
        _variance(errors, squares[kept]),
        math.sqrt(float(errors.mean())),
        1 - float(errors.mean() / (wanted[kept] * contrast[kept]).square().mean()),
    )


def _scaled(patches: Tensor, noise_sd: float) -> tuple[Tensor, Tensor, Tensor]:
    """Middle voxels ``(N, 1)``, contrasts ``(N, 1)``, and patches in units of both."""
    middle = patches[:, patches.shape[1] // 2, None]
    above = patches - middle
    contrast = (above.square().mean(dim=1, keepdim=True) + noise_sd**2).sqrt()
    return middle, contrast, above / contrast


def _network(
    patches: Tensor, shortcut: Tensor, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]
) -> Tensor:
    found = patches
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        found = torch.relu(torch.addmm(bias, found, weight))
    return torch.addmm(biases[-1], found, weights[-1]) + patches @ shortcut


def _layers(
    inputs: int, outputs: int, chance: torch.Generator, device: torch.device
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    sides = (inputs, _HIDDEN, _HIDDEN, outputs)
    weights = [
        torch.randn(pair, generator=chance) * math.sqrt(2 / pair[0]) for pair in pairwise(sides)
    ]
    # The linear map is the beginning; the rest has to earn its place.
    weights[-1] *= 0.1
    biases = [torch.zeros(side, device=device) for side in sides[1:]]
    return tuple(weight.to(device) for weight in weights), tuple(biases)


def _least_squares(patches: Tensor, wanted: Tensor, importance: Tensor) -> Tensor:
    weighted = patches * importance
    ridge = _RIDGE * len(patches) * torch.eye(patches.shape[1], device=patches.device)
    shortcut: Tensor = torch.linalg.solve(weighted.T @ patches + ridge, weighted.T @ wanted)
    return shortcut


def _batches(pairs: Tensor, steps: int, chance: torch.Generator) -> Iterator[Tensor]:
    for _ in range(steps):
        yield pairs[torch.randint(len(pairs), (_BATCH,), generator=chance).to(pairs.device)]


def _variance(errors: Tensor, squares: Tensor) -> Tensor:
    """Line through squared errors ``(N, R)`` over squared contrasts ``(N, 1)``: ``(2, R)``.

    Neither part is negative, and the constant not 0.
    """
    spread = squares - squares.mean()
    slope = ((spread * errors).sum(dim=0) / spread.square().sum()).clamp_min(0)
    least = 0.1 * errors.mean(dim=0)
    constant = torch.maximum(errors.mean(dim=0) - slope * squares.mean(), least)
    return torch.stack([constant, slope])
