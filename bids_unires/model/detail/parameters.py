"""What learning of detail may cost, and what it makes of what it finds."""

from __future__ import annotations

from dataclasses import dataclass

from ...config import LearningEffort


@dataclass(frozen=True)
class Effort:
    """What training one network may cost.

    Parameters
    ----------
    pairs
        To learn from.
    hidden
        Width of the hidden layers.
    layers
        How many of these.
    steps
        Of the optimiser, at most.
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
    alone
        Effort where planes alone tell. Three times the steps gain 0.2 to 0.4 dB on real heads,
        and half as wide again with a third more steps another 0.06 dB.
    beside
        Effort where another contrast guides.
    if_seen
        Effort where another contrast shows edges within the slices to the prior but not to the
        network, and detail counts little. With 300 steps in place of 1000, a fifth more of the
        errors stay.
    clear
        Where guides explain less of the detail than this share, planes alone are asked, too.
    as_good
        Planes alone join where they explain at most this much less than guides do. Beside a real
        PDw they explain 0.01 less of a real T1w to 0.01 more than with it, and the mean of both
        gains 0.2 dB. In simulated heads of 3 to 5 % noise they explain 0.02 to 0.06 less, and it
        loses as much.
    directions
        Of planes through the slices, in degrees from the first of their axes to the second, in
        voxels. Eight, every other one with its patches turned round, gain 0.06 to 0.15 dB of real
        heads over two with patches both ways; four gain half of that.
    """

    alone: Effort = Effort(pairs=400_000, hidden=192, layers=3, steps=4000)
    beside: Effort = Effort(pairs=250_000, hidden=96, layers=2, steps=1500)
    if_seen: Effort = Effort(pairs=250_000, hidden=96, layers=2, steps=300)
    clear: float = 0.8
    as_good: float = 0.015
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
        """For how much one direction counts; however many there are, they count as two planes."""
        return 2 / len(self.directions)
