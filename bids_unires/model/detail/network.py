"""A small network that predicts the thin voxels within a thick one from the voxels around it.

It has a few hidden layers and a linear map parallel to them (a shortcut), and is trained by
regression. Patches are normalised by their contrast, so that what is learned at strong edges also
holds at weak ones. If another contrast shows the same place with thin voxels, it is an input, too.

Heads have no preferred direction across slices. The prediction is the mean over the patch and the
patch flipped across the slices (Timofte, Rothe & Van Gool 2016, "Seven ways to improve
example-based single image super resolution").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .layers import Layers
from .one_cycle import descend_in_one_cycle
from .parameters import Effort

_BATCH = 1024
# With more, networks of small heads overfit: steps that see a pair more often are of no use.
_EPOCHS = 20
# Largest learning rate of the optimiser, and that of further steps.
_LEARNING_RATE, _LATER_RATE = 1e-2, 5e-3
# Further steps are worth their time where at least this share of the detail is explained: what is
# left is then little, and a small share more is a large part of it.
_WORTH_MORE = 0.8
_RIDGE = 1e-3
# Pairs whose covariance is computed at once.
_AT_ONCE = 16_384
# A smaller relative spread of intensities is due to rounding.
_ROUNDING = 1e-5
# Axes along which patches are flipped. Flips along the other axis, too, would gain 0.02 dB more and
# double the time of predicting, which would then equal that of learning.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (0,))


class Pairs(NamedTuple):
    """Inputs of a network, and the thin voxels that it is to predict.

    Attributes
    ----------
    patches
        ``(N, P, Q)`` intensities of thick voxels, P and Q odd, thick along the first of these
        axes. The middle one is to be divided.
    views
        ``(N, V, W)`` intensities of a guide, another contrast, around the middle voxel, in units of
        its own contrast; V is 0 without one.
    finer
        ``(N, R)`` intensities of the thin voxels within the middle one.
    """

    patches: Tensor
    views: Tensor
    finer: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """All pairs of several sets, at least one."""
        return cls(
            torch.cat([part.patches for part in parts]),
            torch.cat([part.views for part in parts]),
            torch.cat([part.finer for part in parts]),
        )


class Prediction(NamedTuple):
    """Thin voxels that a network predicts.

    Attributes
    ----------
    values
        ``(N, R)`` intensities.
    variances
        ``(N, R)``, variances of their errors.
    """

    values: Tensor
    variances: Tensor

    @classmethod
    def joined(cls, parts: Iterable[Prediction]) -> Prediction:
        """The predictions of several sets of patches, at least one."""
        every = list(parts)
        return cls(
            torch.cat([part.values for part in every]),
            torch.cat([part.variances for part in every]),
        )


class _Examples(NamedTuple):
    """Features ``(N, F)``, outputs ``(N, R)`` and importances ``(N, 1)``."""

    features: Tensor
    wanted: Tensor
    importance: Tensor


class _Standard(NamedTuple):
    """Mean and standard deviation ``(1, B)`` of `_brightness`, which standardise it."""

    mean: Tensor
    sd: Tensor


@dataclass(frozen=True, eq=False)
class PlaneNetwork:
    """Predicts the thin voxels within the middle one of a patch.

    Parameters
    ----------
    ways
        The layers for patches as they are, and for flipped patches.
    standard
        Mean and standard deviation of the brightness of patches.
    noise_sd
        Standard deviation of the noise of patches, in intensity. Patches of less contrast are not
        amplified.
    variance
        ``(2, R)``: variance of the error of each thin voxel, as a constant and a factor on the
        squared contrast of the patch.
    error_sd
        Root mean square error, in intensity, of held-out pairs.
    explained
        Share of the variance of thin voxels, relative to the middle voxel of their patch, that is
        explained in held-out pairs.
    """

    ways: tuple[Layers, ...]
    standard: _Standard
    noise_sd: float
    variance: Tensor
    error_sd: float
    explained: float

    def predict(self, patches: Tensor, views: Tensor, way: int | None = None) -> Prediction:
        """Predict the thin voxels within the middle of each patch.

        Parameters
        ----------
        patches, views
            As in `Pairs`, with the same sides.
        way
            Index of one of `ways`; None for the mean of all. The variances are those of the mean
            in both cases.
        """
        middle, contrast, features = _features(patches, views, self.noise_sd, self.standard)
        constant, slope = self.variance
        ways = self.ways if way is None else self.ways[way : way + 1]
        values = middle + contrast * _mean_output(ways, features)
        return Prediction(values, constant + slope * contrast.square())


def train(
    pairs: Pairs,
    held_out: Pairs,
    noise_sd: float,
    effort: Effort,
    random: torch.Generator,
    on_progress: Callable[[float], None] | None = None,
) -> PlaneNetwork:
    """Train a network.

    Parameters
    ----------
    pairs
        Pairs to learn from.
    held_out
        Other pairs, from which the error of the network is estimated.
    noise_sd
        Standard deviation of the noise of the patches, in intensity.
    effort
        Layers and steps; its number of pairs is not used.
    random
        Generator of initial weights and of the order of the pairs, on the CPU. In the same state
        it gives the same network, for the same number of threads.
    on_progress
        Called now and then with the share of the steps that are done; with 1 during further steps.
    """
    # In random order, so that all batches are similar.
    order = torch.randperm(len(pairs.patches), generator=random).to(pairs.patches.device)
    standard = _standard(pairs.patches, pairs.views, noise_sd)
    examples, basis, mean = _examples(pairs, noise_sd, standard, order)
    layers = _first_layers(examples, effort, random)

    def network_of(layers: Layers) -> PlaneNetwork:
        return _assessed(layers.after_map(basis, mean), held_out, noise_sd, standard)

    layers = _descended(layers, examples, effort.steps, _LEARNING_RATE, on_progress)
    network = network_of(layers)
    if effort.more_steps and network.explained > _WORTH_MORE:
        done = None if on_progress is None else lambda share: on_progress(1.0)
        network = network_of(_descended(layers, examples, effort.more_steps, _LATER_RATE, done))
    return network


def _examples(
    pairs: Pairs, noise_sd: float, standard: _Standard, order: Tensor
) -> tuple[_Examples, Tensor, Tensor]:
    """What a network learns from, in an order, and the map of its features (`_whitening`)."""
    middle, contrast, features = _features(pairs.patches, pairs.views, noise_sd, standard)
    # Errors are minimised in intensity, not relative to the contrast.
    importance = contrast.square() / contrast.square().mean()
    basis, mean = _whitening(features, importance)
    wanted = (pairs.finer - middle) / contrast
    whitened = features.sub_(mean) @ basis
    # There are hundreds of MB of features: no more copies than needed.
    del features
    return _Examples(whitened[order], wanted[order], importance[order]), basis, mean


def _assessed(
    layers: Layers, held_out: Pairs, noise_sd: float, standard: _Standard
) -> PlaneNetwork:
    """A network of layers, with its errors in held-out pairs."""
    patches, views, finer = held_out
    ways = tuple(layers.flipped(_flipped_features(patches, views, axes), axes) for axes in _FLIPS)
    middle, contrast, features = _features(patches, views, noise_sd, standard)
    wanted = finer - middle
    errors = (contrast * _mean_output(ways, features) - wanted).square()
    return PlaneNetwork(
        ways,
        standard,
        noise_sd,
        _variance(errors, contrast.square()),
        math.sqrt(float(errors.mean())),
        1 - float(errors.mean() / wanted.square().mean()),
    )


def _features(
    patches: Tensor, views: Tensor, noise_sd: float, standard: _Standard
) -> tuple[Tensor, Tensor, Tensor]:
    """Middle voxels ``(N, 1)``, contrasts ``(N, 1)``, and normalised features ``(N, F)``.

    The features include the brightness of the place, which separates tissues and so tells how much
    of each a voxel is likely to hold.
    """
    middle, above, contrast = _contrasts(patches, noise_sd)
    brightness = (_brightness(middle, above, contrast, views) - standard.mean) / standard.sd
    features = [above.div_(contrast)]
    if views.shape[1]:
        features.append((views.flatten(1) - views.mean(dim=(1, 2))[:, None]) / contrast)
    return middle, contrast, torch.cat([*features, brightness], dim=1)


def _contrasts(patches: Tensor, noise_sd: float) -> tuple[Tensor, Tensor, Tensor]:
    """Middle voxels ``(N, 1)``, differences from them ``(N, F)``, and contrasts ``(N, 1)``.

    The contrast is the root mean square difference, with noise.
    """
    patches = patches.flatten(1)
    middle = patches[:, patches.shape[1] // 2, None]
    above = patches - middle
    mean_square = torch.linalg.vector_norm(above, dim=1, keepdim=True).square() / above.shape[1]
    return middle, above, (mean_square + noise_sd**2).sqrt()


def _brightness(middle: Tensor, above: Tensor, contrast: Tensor, views: Tensor) -> Tensor:
    """Brightness of each place, ``(N, B)``; without a guide also the logarithm of its contrast."""
    if views.shape[1]:
        return torch.cat([middle, views.mean(dim=(1, 2))[:, None]], dim=1)
    return torch.cat([middle, middle + above.mean(dim=1, keepdim=True), contrast.log()], dim=1)


def _standard(patches: Tensor, views: Tensor, noise_sd: float) -> _Standard:
    brightness = _brightness(*_contrasts(patches, noise_sd), views)
    if views.shape[1]:
        # Standardised brightness of a guide would transfer its lesions to this contrast.
        return _Standard(torch.zeros_like(brightness[:1]), torch.ones_like(brightness[:1]))
    sd, mean = torch.std_mean(brightness, dim=0, keepdim=True)
    # A feature that is the same everywhere is set to 0.
    return _Standard(mean, torch.where(sd > _ROUNDING * mean.abs(), sd, torch.inf))


def _flipped_features(patches: Tensor, views: Tensor, axes: Sequence[int]) -> Tensor:
    """Index of each feature of `_features` when patches and views are flipped, ``(F,)``."""
    places, count = [], 0
    for part in (patches, views):
        indices = count + torch.arange(part[0].numel(), device=part.device)
        places.append(indices.reshape(part.shape[1:]).flip(tuple(axes)).flatten())
        count += len(indices)
    brightness = 2 if views.shape[1] else 3
    return torch.cat([*places, count + torch.arange(brightness, device=patches.device)])


def _mean_output(ways: Sequence[Layers], features: Tensor) -> Tensor:
    total = ways[0](features)
    for way in ways[1:]:
        total += way(features)
    return total / len(ways)


def _first_layers(examples: _Examples, effort: Effort, random: torch.Generator) -> Layers:
    """Layers to start from: the best linear map, and a small random contribution."""
    sides = (examples.features.shape[1], examples.wanted.shape[1])
    weights, biases = _layers(sides, effort, random, examples.features.device)
    return Layers(weights, biases, _least_squares(*examples))


def _descended(
    layers: Layers,
    examples: _Examples,
    steps: int,
    fastest: float,
    on_progress: Callable[[float], None] | None,
) -> Layers:
    """Layers after one cycle of steps."""
    count = len(layers.weights)

    def loss(parameters: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
        inputs, outputs, importances = batch
        *others, shortcut = parameters
        error = Layers(tuple(others[:count]), tuple(others[count:]), shortcut)(inputs) - outputs
        return (error.square() * importances).mean()

    *others, shortcut = descend_in_one_cycle(
        loss,
        [*layers.weights, *layers.biases, layers.shortcut],
        examples,
        batch_size=_BATCH,
        steps=min(steps, math.ceil(_EPOCHS * len(examples.features) / _BATCH)),
        fastest=fastest,
        on_progress=on_progress,
    )
    return Layers(tuple(others[:count]), tuple(others[count:]), shortcut)


def _whitening(features: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Basis ``(F, F)`` and mean ``(1, F)`` that make features vary about equally.

    The basis are principal components, those of large variance scaled down. Neighbouring voxels
    are similar: without scaling, their mean is learned long before their differences.
    """
    share = importance / importance.sum()
    mean = (features * share).sum(dim=0, keepdim=True)
    covariance = features.new_zeros((features.shape[1],) * 2)
    for part, weight in zip(
        torch.split(features, _AT_ONCE), torch.split(share, _AT_ONCE), strict=True
    ):
        above = part - mean
        covariance += (above * weight).T @ above
    # On a GPU, loading the library would take longer than decomposing so small a matrix on the CPU.
    variance, directions = torch.linalg.eigh(covariance.double().cpu())
    scale = (variance.clamp_min(0) + variance.mean()).sqrt()
    directions = directions * _signs(directions)
    return (directions / scale).float().to(features.device), mean


def _signs(directions: Tensor) -> Tensor:
    """Sign of each column ``(F,)`` by which all libraries agree on a set of eigenvectors.

    Both signs of an eigenvector are right. Components of patches are even or odd, so that their
    largest entries may come in pairs: what decides is a fixed vector without any symmetry.
    """
    places = torch.arange(1, len(directions) + 1, dtype=directions.dtype)
    return torch.where(places.sqrt().cos() @ directions < 0, -1.0, 1.0)


def _layers(
    ends: tuple[int, int], effort: Effort, random: torch.Generator, device: torch.device
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Initial weights and biases of layers with so many inputs and outputs."""
    sides = (ends[0], *effort.widths, ends[1])
    weights = [
        torch.randn(pair, generator=random) * math.sqrt(2 / pair[0]) for pair in pairwise(sides)
    ]
    # Training starts from the linear map, with a small contribution of the hidden layers.
    weights[-1] *= 0.1
    biases = [torch.zeros(side, device=device) for side in sides[1:]]
    return tuple(weight.to(device) for weight in weights), tuple(biases)


def _least_squares(patches: Tensor, wanted: Tensor, importance: Tensor) -> Tensor:
    """The linear map ``(F, R)`` of least weighted squares, with a ridge."""
    weighted = patches * importance
    ridge = _RIDGE * len(patches) * torch.eye(patches.shape[1])
    squares, products = (weighted.T @ patches).cpu(), (weighted.T @ wanted).cpu()
    shortcut: Tensor = torch.linalg.solve(squares + ridge, products)
    return shortcut.to(patches.device)


def _variance(errors: Tensor, squares: Tensor) -> Tensor:
    """Regression of squared errors ``(N, R)`` on squared contrasts ``(N, 1)``.

    Returns the constant, above 0, and the slope, not negative: ``(2, R)``.
    """
    spread = squares - squares.mean()
    slope = ((spread * errors).sum(dim=0) / spread.square().sum()).clamp_min(0)
    least = 0.1 * errors.mean(dim=0)
    constant = torch.maximum(errors.mean(dim=0) - slope * squares.mean(), least)
    return torch.stack([constant, slope])
