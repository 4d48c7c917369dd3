"""The layers of a small network, and what becomes of them when its inputs are mapped or flipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layers(NamedTuple):
    """A network of fully connected layers, and a linear map parallel to them.

    Attributes
    ----------
    weights
        ``(I, O)`` of each layer.
    biases
        ``(O,)`` of each layer.
    shortcut
        ``(F, R)``, the linear map from features to output.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    shortcut: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Output ``(N, R)`` from features ``(N, F)``."""
        hidden = features
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.addmm(bias, hidden, weight).relu_()
        return torch.addmm(self.biases[-1], hidden, self.weights[-1]) + features @ self.shortcut

    def after_map(self, basis: Tensor, mean: Tensor) -> Layers:
        """Layers whose output at ``x`` is that of these at ``(x - mean) @ basis``."""
        first, *others = self.weights
        biases = [*self.biases]
        biases[0] = biases[0] - (mean @ basis @ first)[0]
        biases[-1] = biases[-1] - (mean @ basis @ self.shortcut)[0]
        return Layers((basis @ first, *others), tuple(biases), basis @ self.shortcut)

    def flipped(self, features: Tensor, axes: Sequence[int]) -> Layers:
        """Layers for unflipped patches whose output is that of these for flipped ones.

        ``features`` ``(F,)`` is the index of each feature in a flipped patch.
        """
        first, *others, last = self.weights
        bias, shortcut = self.biases[-1], self.shortcut[features]
        if 0 in axes:
            last, bias, shortcut = last.flip(1), bias.flip(0), shortcut.flip(1)
        return Layers((first[features], *others, last), (*self.biases[:-1], bias), shortcut)
