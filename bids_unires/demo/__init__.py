"""The built-in demonstration: two simulated participants, scanned and reconstructed.

- `study`: the participants, the protocols and the motion of the heads.
- `phantom`: simulates the anatomy of the participants.
- `scanner`: simulates scans with thick slices.
- `dataset`: writes the scans as a BIDS dataset, and the truth beside it.
- `score`: compares images with the truth.
- `run`: runs all of this, and both levels of the program.
"""

from .run import run_demo

__all__ = ["run_demo"]
