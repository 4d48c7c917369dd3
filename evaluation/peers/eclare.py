"""ECLARE, by its command line: it learns within slices what it then adds across them.

Remedios et al. 2024, "ECLARE: efficient cross-planar learning for anisotropic resolution
enhancement". The program is under the GPL 3; it is run, never imported.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.peers.environments import ECLARE
from evaluation.peers.peer import Job, Peer

CPU_PATCHES = 50_000
"""Patches that it learns from on a CPU, where its own number takes days for a head."""

GPU_PATCHES = 1_000_000
"""Patches that it learns from by default."""


def eclare(patches: int, gpu: bool = False) -> Peer:
    """ECLARE with so many patches; its own schedule of learning follows from their number."""

    def words(job: Job) -> list[str]:
        profile = job.folder / "profile.npy"
        np.save(profile, box_profile(job.case.thickness))
        return [
            str(job.python.with_name("run-eclare")),
            *("--in-fpath", str(job.scan), "--out-dir", str(job.folder), "--suffix", "_eclare"),
            *("--n-patches", str(patches)),
            *("--relative-slice-profile-fpath", str(profile)),
            *("--relative-slice-thickness", str(job.case.thickness)),
            *(("--gpu-id", "0") if gpu else ()),
        ]

    settings = f"{patches} patches (its default is {GPU_PATCHES}), our slice profile"
    return Peer(
        f"ECLARE, {patches} patches" if patches != GPU_PATCHES else "ECLARE",
        f"ECLARE {ECLARE.pinned('eclare')}",
        settings + (", on a GPU" if gpu else ""),
        ECLARE,
        words,
        "scan_eclare.nii.gz",
    )


def box_profile(width: float) -> NDArray[np.float64]:
    """Weights ``(N,)`` of voxels in a slice with a rectangular profile; N is odd, their sum is 1.

    Parameters
    ----------
    width
        Width of the slice in voxels, at least 1.

    Examples
    --------
    >>> box_profile(4).tolist()
    [0.125, 0.25, 0.25, 0.25, 0.125]
    """
    reach = int(np.ceil((width - 1) / 2))
    at = np.arange(-reach, reach + 1)
    inside = np.minimum(at + 0.5, width / 2) - np.maximum(at - 0.5, -width / 2)
    return np.asarray(np.clip(inside, 0, None) / width)
