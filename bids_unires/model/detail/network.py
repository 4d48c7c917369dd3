"""A small network that tells what a thick voxel holds from the voxels around it.

A few hidden layers and a linear map beside them, trained by regression. Patches are brought to
the same size of contrast first, so that what is learned at a strong edge holds at a weak one.
Where another contrast shows the same place with thin voxels, that is looked at, too.

Heads have no direction along the axis across slices, so patches are looked at in two ways,
turned round along it or not, and the mean of the answers counts (Timofte, Rothe & Van Gool 2016,
"Seven ways to improve example-based single image super resolution").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .one_cycle import descend_in_one_cycle
from .parameters import Effort

_BATCH = 1024
# Small heads are known by heart after more: no step is of use that sees a pair more often.
_EPOCHS = 20
# How far a step of the optimiser may go.
_FASTEST = 1e-2
_RIDGE = 1e-3
# Relative spread of intensities below which it is rounding.
_ALIKE = 1e-5
# Axes of a patch along which it is turned round. Along the other axis, too, it would gain 0.02 dB
# more, and looking would cost twice as much, which is as much as learning.
_TURNS: tuple[tuple[int, ...], ...] = ((), (0,))


class Pairs(NamedTuple):
    """What there is to see, and what is there.

    Attributes
    ----------
    patches
        ``(N, P, Q)`` intensities of thick voxels, P and Q odd, thick along the first of these
        axes; the middle one is asked for.
    views
        ``(N, V, W)`` intensities of another contrast around the middle voxel, in its own unit; V
        is 0 where there is none.
    finer
        ``(N, R)``: what the middle voxel consists of.
    """

    patches: Tensor
    views: Tensor
    finer: Tensor


class _Layers(NamedTuple):
    """Weights and biases of the layers, and the linear map beside them."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    shortcut: Tensor

    def __call__(self, seen: Tensor) -> Tensor:
        """What they make ``(N, R)`` of all there is to see ``(N, F)``."""
        found = seen
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            found = torch.relu(torch.addmm(bias, found, weight))
        return torch.addmm(self.biases[-1], found, self.weights[-1]) + seen @ self.shortcut

    def behind(self, basis: Tensor, mean: Tensor) -> _Layers:
        """Layers that answer to ``x`` as these do to ``(x - mean) @ basis``."""
        first, *others = self.weights
        biases = [*self.biases]
        biases[0] = biases[0] - (mean @ basis @ first)[0]
        biases[-1] = biases[-1] - (mean @ basis @ self.shortcut)[0]
        return _Layers((basis @ first, *others), tuple(biases), basis @ self.shortcut)

    def turned(self, features: Tensor, axes: Sequence[int]) -> _Layers:
        """Layers that answer as these do where features ``(F,)`` change places."""
        first, *others, last = self.weights
        bias, shortcut = self.biases[-1], self.shortcut[features]
        if 0 in axes:
            last, bias, shortcut = last.flip(1), bias.flip(0), shortcut.flip(1)
        return _Layers((first[features], *others, last), (*self.biases[:-1], bias), shortcut)


class _Usual(NamedTuple):
    """Mean and standard deviation ``(1, B)`` of how bright places are, and of their contrast.

    In units of these, neither the unit nor the zero of intensities matters.
    """

    mean: Tensor
    sd: Tensor


@dataclass(frozen=True, eq=False)
class PlaneNetwork:
    """Maps a patch to the finer voxels within its middle one.

    Parameters
    ----------
    ways
        The layers as they were learned, and as they see turned patches.
    usual
        How bright places usually are.
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

    ways: tuple[_Layers, ...]
    usual: _Usual
    noise_sd: float
    variance: Tensor
    error_sd: float
    explained: float

    def predict(
        self, patches: Tensor, views: Tensor, way: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Intensities of the finer voxels and the variances of their errors.

        Parameters
        ----------
        patches, views
            As of `Pairs`, with the same sides.
        way
            Which of `ways` to look in; None for the mean of all, whose errors' variances
            are told either way.

        Returns
        -------
        tuple of Tensor
            Both ``(N, R)``.
        """
        middle, contrast, scaled = _scaled(patches, views, self.noise_sd, self.usual)
        constant, slope = self.variance
        ways = self.ways if way is None else self.ways[way : way + 1]
        return middle + contrast * _answer(ways, scaled), constant + slope * contrast.square()


def train(
    pairs: Pairs, held_out: Pairs, noise_sd: float, effort: Effort, chance: torch.Generator
) -> PlaneNetwork:
    """Learn from pairs.

    Parameters
    ----------
    pairs
        What to learn from.
    held_out
        Others, which tell how far off it is.
    noise_sd
        Of the patches.
    effort
        Layers and steps; the pairs are those given.
    chance
        Of the beginning and of the order of the pairs, drawn on the CPU: in the same state it
        gives the same network, for the same number of threads.
    """
    # In an order by chance, so that every batch is like any other.
    order = torch.randperm(len(pairs.patches), generator=chance).to(pairs.patches.device)
    patches, views, finer = (part[order] for part in pairs)
    usual = _usual(patches, views, noise_sd)
    middle, contrast, scaled = _scaled(patches, views, noise_sd, usual)
    # Errors count as they are, not as shares of the contrast.
    importance = contrast.square() / contrast.square().mean()
    layers = _learned((scaled, (finer - middle) / contrast, importance), effort, chance)
    ways = tuple(layers.turned(_turned(patches, views, axes), axes) for axes in _TURNS)
    middle, contrast, scaled = _scaled(held_out.patches, held_out.views, noise_sd, usual)
    wanted = held_out.finer - middle
    errors = (contrast * _answer(ways, scaled) - wanted).square()
    return PlaneNetwork(
        ways,
        usual,
        noise_sd,
        _variance(errors, contrast.square()),
        math.sqrt(float(errors.mean())),
        1 - float(errors.mean() / wanted.square().mean()),
    )


def _scaled(
    patches: Tensor, views: Tensor, noise_sd: float, usual: _Usual
) -> tuple[Tensor, Tensor, Tensor]:
    """Middle voxels ``(N, 1)``, contrasts ``(N, 1)``, and all there is to see in their units.

    How bright the place is in each contrast, and how strong its own, is to be seen, too: it
    tells tissues apart, and so how much of which a voxel is likely to hold.
    """
    middle, contrast = _middle_and_contrast(patches, noise_sd)
    seen = [(patches.flatten(1) - middle) / contrast]
    if views.shape[1]:
        seen.append((views.flatten(1) - views.mean(dim=(1, 2))[:, None]) / contrast)
    place = (_brightness(patches, views, noise_sd) - usual.mean) / usual.sd
    return middle, contrast, torch.cat([*seen, place], dim=1)


def _middle_and_contrast(patches: Tensor, noise_sd: float) -> tuple[Tensor, Tensor]:
    patches = patches.flatten(1)
    middle = patches[:, patches.shape[1] // 2, None]
    above = patches - middle
    return middle, (above.square().mean(dim=1, keepdim=True) + noise_sd**2).sqrt()


def _brightness(patches: Tensor, views: Tensor, noise_sd: float) -> Tensor:
    """How bright places are, and alone the logarithm of their contrast, ``(N, B)``."""
    middle, contrast = _middle_and_contrast(patches, noise_sd)
    if views.shape[1]:
        return torch.cat([middle, views.mean(dim=(1, 2))[:, None]], dim=1)
    return torch.cat([middle, patches.mean(dim=(1, 2))[:, None], contrast.log()], dim=1)


def _usual(patches: Tensor, views: Tensor, noise_sd: float) -> _Usual:
    found = _brightness(patches, views, noise_sd)
    if views.shape[1]:
        # Seen any better, the brightness of another contrast carries its lesions over.
        return _Usual(torch.zeros_like(found[:1]), torch.ones_like(found[:1]))
    sd, mean = torch.std_mean(found, dim=0, keepdim=True)
    # Where all places are alike there is nothing to tell by.
    return _Usual(mean, torch.where(sd > _ALIKE * mean.abs(), sd, torch.inf))


def _turned(patches: Tensor, views: Tensor, axes: Sequence[int]) -> Tensor:
    """Where each feature of `_scaled` goes as patches and views are turned round, ``(F,)``."""
    places, count = [], 0
    for part in (patches, views):
        own = count + torch.arange(part[0].numel(), device=part.device)
        places.append(own.reshape(part.shape[1:]).flip(tuple(axes)).flatten())
        count += len(own)
    beside = 2 if views.shape[1] else 3
    return torch.cat([*places, count + torch.arange(beside, device=patches.device)])


def _answer(ways: Sequence[_Layers], seen: Tensor) -> Tensor:
    found = ways[0](seen)
    for way in ways[1:]:
        found += way(seen)
    return found / len(ways)


def _learned(
    used: tuple[Tensor, Tensor, Tensor], effort: Effort, chance: torch.Generator
) -> _Layers:
    """Layers that tell from ``(N, F)`` what is wanted ``(N, R)``, which counts so much."""
    seen, wanted, importance = used
    basis, mean = _evening(seen, importance)
    used = ((seen - mean) @ basis, wanted, importance)
    weights, biases = _layers((seen.shape[1], wanted.shape[1]), effort, chance, seen.device)
    count = len(weights)

    def loss(parameters: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
        some, asked, counts = batch
        *others, shortcut = parameters
        error = _Layers(tuple(others[:count]), tuple(others[count:]), shortcut)(some) - asked
        return (error.square() * counts).mean()

    steps = min(effort.steps, math.ceil(_EPOCHS * len(seen) / _BATCH))
    *others, shortcut = descend_in_one_cycle(
        loss,
        [*weights, *biases, _least_squares(*used)],
        used,
        batch_size=_BATCH,
        steps=steps,
        fastest=_FASTEST,
    )
    layers = _Layers(tuple(others[:count]), tuple(others[count:]), shortcut)
    return layers.behind(basis, mean)


def _evening(seen: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Basis ``(F, F)`` and mean ``(1, F)`` to see with.

    Principal components, those that vary much made smaller: neighbours are much alike, and what
    they share would be learned long before what they differ in.
    """
    share = importance / importance.sum()
    mean = (seen * share).sum(dim=0, keepdim=True)
    above = seen - mean
    # So small a matrix a GPU's library takes longer to be loaded for than the CPU to decompose.
    variance, directions = torch.linalg.eigh(((above * share).T @ above).double().cpu())
    scale = (variance.clamp_min(0) + variance.mean()).sqrt()
    return (directions / scale).float().to(seen.device), mean


def _layers(
    ends: tuple[int, int], effort: Effort, chance: torch.Generator, device: torch.device
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    sides = (ends[0], *(effort.hidden,) * effort.layers, ends[1])
    weights = [
        torch.randn(pair, generator=chance) * math.sqrt(2 / pair[0]) for pair in pairwise(sides)
    ]
    # The linear map is the beginning; the rest has to earn its place.
    weights[-1] *= 0.1
    biases = [torch.zeros(side, device=device) for side in sides[1:]]
    return tuple(weight.to(device) for weight in weights), tuple(biases)


def _least_squares(patches: Tensor, wanted: Tensor, importance: Tensor) -> Tensor:
    weighted = patches * importance
    ridge = _RIDGE * len(patches) * torch.eye(patches.shape[1])
    squares, products = (weighted.T @ patches).cpu(), (weighted.T @ wanted).cpu()
    shortcut: Tensor = torch.linalg.solve(squares + ridge, products)
    return shortcut.to(patches.device)


def _variance(errors: Tensor, squares: Tensor) -> Tensor:
    """Line through squared errors ``(N, R)`` over squared contrasts ``(N, 1)``: ``(2, R)``.

    Neither part is negative, and the constant not 0.
    """
    spread = squares - squares.mean()
    slope = ((spread * errors).sum(dim=0) / spread.square().sum()).clamp_min(0)
    least = 0.1 * errors.mean(dim=0)
    constant = torch.maximum(errors.mean(dim=0) - slope * squares.mean(), least)
    return torch.stack([constant, slope])
