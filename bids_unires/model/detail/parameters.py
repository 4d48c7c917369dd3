"""How detail within slices is learned: size of the networks, steps of training, directions."""

from __future__ import annotations

from dataclasses import dataclass

from ...config import LearningEffort


@dataclass(frozen=True)
class Effort:
    """Size and training of one network.

    Parameters
    ----------
    pairs
        Number of pairs to learn from.
    widths
        Width of each hidden layer.
    steps
        Steps of the optimiser, at most.
    more_steps
        Further steps of a network that explains most of the detail.
    """

    pairs: int
    widths: tuple[int, ...]
    steps: int
    more_steps: int = 0


@dataclass(frozen=True)
class LearningParameters:
    """How detail within slices is learned.

    Parameters
    ----------
    unguided
        Effort of a network that sees planes of the scan alone. Three layers of 192 and 4000 steps
        take 3 times as long, and explain up to 0.007 more of the detail: at most 0.04 dB in planes
        of real heads. Where most is explained, as in simulated heads, it would be 0.45 dB.
    guided
        Effort of a network that sees another contrast, too (a guide).
    if_resolved
        Effort where another contrast resolves the slices, so that it guides the prior, but cannot
        guide the network. Detail then has little weight. With 300 steps in place of 1000, a fifth
        more of the errors stay.
    guide_suffices
        If guided networks explain at least this share of the detail, no unguided one is trained
        for the voxels that they predict.
    unguided_margin
        The unguided network contributes to those voxels if it explains at most this much less than
        the guided ones. With a real PDw as guide of a real T1w it explains between 0.01 less and
        0.01 more, and the mean of both gains 0.2 dB. In simulated heads with 3 to 5 % noise it
        explains 0.02 to 0.06 less, and the mean loses as much.
    directions
        Directions of planes through the slices, in degrees from the first in-plane axis to the
        second, in voxels. Eight, every other one with its patches flipped, gain 0.06 to 0.15 dB in
        real heads over two with patches both ways; four gain half of that.
    first_directions
        So many of the directions are predicted everywhere.
    smooth_share
        Share of the head that needs no more directions: where the error is smallest. It costs
        0.01 dB; after only two directions it would be 0.05 dB.
    """

    unguided: Effort = Effort(pairs=400_000, widths=(192, 96, 96), steps=2500, more_steps=7000)
    guided: Effort = Effort(pairs=250_000, widths=(96, 96), steps=1500)
    if_resolved: Effort = Effort(pairs=250_000, widths=(96, 96), steps=300)
    guide_suffices: float = 0.8
    unguided_margin: float = 0.015
    directions: tuple[float, ...] = (0.0, 90.0, 45.0, 135.0, 22.5, 112.5, 67.5, 157.5)
    first_directions: int = 4
    smooth_share: float = 0.4

    @classmethod
    def of(cls, effort: LearningEffort) -> LearningParameters:
        """Parameters of an effort that settings may name."""
        if effort == "full":
            return cls()
        brief = Effort(pairs=50_000, widths=(32, 32), steps=200)
        return cls(brief, brief, brief)

    @property
    def share(self) -> float:
        """Weight of one direction; however many there are, together they weigh as two planes."""
        return 2 / len(self.directions)
