"""The embedded demonstration: two simulated participants, scanned and reconstructed.

``phantom`` makes their anatomy, ``scanner`` the thick-slice scans, ``dataset`` writes
them as BIDS, ``score`` compares images with the truth, and ``run`` tells the story.
"""

from .run import run_demo

__all__ = ["run_demo"]
