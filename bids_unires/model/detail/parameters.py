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
    hidden
        Width of the hidden layers.
    layers
        Number of hidden layers.
    steps
        Steps of the optimiser, at most.
    """

    pairs: int
    hidden: int
    layers: int
    steps: int


@dataclass(frozen=True)
class LearningParameters:
    """How detail within slices is learned.

    Parameters
    ----------
    unguided
        Effort of a network that sees planes of the scan alone. Three times the steps gain 0.2 to
        0.4 dB in real heads; half as wide again with a third more steps gains another 0.06 dB.
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
    """

    unguided: Effort = Effort(pairs=400_000, hidden=192, layers=3, steps=4000)
    guided: Effort = Effort(pairs=250_000, hidden=96, layers=2, steps=1500)
    if_resolved: Effort = Effort(pairs=250_000, hidden=96, layers=2, steps=300)
    guide_suffices: float = 0.8
    unguided_margin: float = 0.015
    directions: tuple[float, ...] = tuple(180 / 8 * number for number in range(8))

    @classmethod
    def of(cls, effort: LearningEffort) -> LearningParameters:
        """Parameters of an effort that settings may name."""
        if effort == "full":
            return cls()
        brief = Effort(pairs=50_000, hidden=32, layers=2, steps=200)
        return cls(brief, brief, brief)

    @property
    def share(self) -> float:
        """Weight of one direction; however many there are, together they weigh as two planes."""
        return 2 / len(self.directions)
