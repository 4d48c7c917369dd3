"""A small network that tells what a thick voxel holds from the voxels around it.

Two hidden layers and a linear map beside them, trained by regression. Patches are brought to
the same size of contrast first, so that what is learned at a strong edge holds at a weak one.
Where another contrast shows the same place with thin voxels, that is looked at, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

_HIDDEN = 96
_BATCH = 1024
# Of Adam, in the middle of one cycle that begins and ends low (Smith & Topin 2019).
_LEARNING_RATE = 1e-2
# Of the pairs are kept to find out how far off predictions are.
_KEPT_SHARE = 0.1
_RIDGE = 1e-3


class Pairs(NamedTuple):
    """What there is to see, and what is there.

    Attributes
    ----------
    patches
        ``(N, P)`` intensities of thick voxels, P odd; the middle one is asked for.
    views
        ``(N, V)`` intensities of another contrast around the middle voxel, in its own unit; V is
        0 where there is none.
    finer
        ``(N, R)``: what the middle voxel consists of.
    """

    patches: Tensor
    views: Tensor
    finer: Tensor


@dataclass(frozen=True, eq=False)
class PlaneNetwork:
    """Maps a patch to the finer voxels within its middle one.

    Parameters
    ----------
    weights, biases
        Of the layers.
    shortcut
        The linear map beside them.
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

    def predict(self, patches: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities of the finer voxels and the variances of their errors.

        Parameters
        ----------
        patches, views
            As of `Pairs`, with the same V.

        Returns
        -------
        tuple of Tensor
            Both ``(N, R)``.
        """
        middle, contrast, scaled = _scaled(patches, views, self.noise_sd)
        constant, slope = self.variance
        found = _network(scaled, self.shortcut, self.weights, self.biases)
        return middle + contrast * found, constant + slope * contrast.square()


def train(pairs: Pairs, noise_sd: float, steps: int, chance: torch.Generator) -> PlaneNetwork:
    """Learn from pairs.

    Parameters
    ----------
    pairs
        What to learn from.
    noise_sd
        Of the patches.
    steps
        Of the optimiser.
    chance
        Of the beginning and of the order of the pairs, drawn on the CPU: in the same state it
        gives the same network, for the same number of threads.
    """
    # In an order by chance, so that any part of them is like any other.
    order = torch.randperm(len(pairs.patches), generator=chance).to(pairs.patches.device)
    patches, views, finer = (part[order] for part in pairs)
    middle, contrast, scaled = _scaled(patches, views, noise_sd)
    wanted = (finer - middle) / contrast
    # Errors count as they are, not as shares of the contrast.
    squares = contrast.square()
    importance = squares / squares.mean()
    kept = int(_KEPT_SHARE * len(order))
    used = (scaled[kept:], wanted[kept:], importance[kept:])
    shortcut = _least_squares(*used)
    weights, biases = _layers(scaled.shape[1], finer.shape[1], chance, patches.device)
    parameters = [shortcut, *weights, *biases]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for seen, asked, counts in _batches(used, steps):
        error = _network(seen, shortcut, weights, biases) - asked
        optimizer.zero_grad(set_to_none=True)
        (error.square() * counts).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    found = _network(scaled[:kept], shortcut, weights, biases)
    errors = ((found - wanted[:kept]) * contrast[:kept]).square()
    return PlaneNetwork(
        weights,
        biases,
        shortcut,
        noise_sd,
        _variance(errors, squares[:kept]),
        math.sqrt(float(errors.mean())),
        1 - float(errors.mean() / (wanted[:kept] * contrast[:kept]).square().mean()),
    )


def _scaled(patches: Tensor, views: Tensor, noise_sd: float) -> tuple[Tensor, Tensor, Tensor]:
    """Middle voxels ``(N, 1)``, contrasts ``(N, 1)``, and all there is to see in their units.

    Where there are views, how bright the place is in both contrasts is to be seen, too: it
    tells tissues apart.
    """
    middle = patches[:, patches.shape[1] // 2, None]
    above = patches - middle
    contrast = (above.square().mean(dim=1, keepdim=True) + noise_sd**2).sqrt()
    if views.shape[1] == 0:
        return middle, contrast, above / contrast
    level = views.mean(dim=1, keepdim=True)
    seen = [above / contrast, (views - level) / contrast, middle, level]
    return middle, contrast, torch.cat(seen, dim=1)


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


def _batches(parts: Sequence[Tensor], steps: int) -> Iterator[list[Tensor]]:
    """One after the other, and from the beginning again."""
    starts = range(0, max(1, len(parts[0]) - _BATCH + 1), _BATCH)
    for start in islice(cycle(starts), steps):
        yield [part[start : start + _BATCH] for part in parts]


def _variance(errors: Tensor, squares: Tensor) -> Tensor:
    """Line through squared errors ``(N, R)`` over squared contrasts ``(N, 1)``: ``(2, R)``.

    Neither part is negative, and the constant not 0.
    """
    spread = squares - squares.mean()
    slope = ((spread * errors).sum(dim=0) / spread.square().sum()).clamp_min(0)
    least = 0.1 * errors.mean(dim=0)
    constant = torch.maximum(errors.mean(dim=0) - slope * squares.mean(), least)
    return torch.stack([constant, slope])
