"""Interpolations of SimpleITK and ANTs, by small programs that run in their environments."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation.peers.cases import fine_grid
from evaluation.peers.environments import ANTS, SIMPLEITK, Environment
from evaluation.peers.peer import Job, Peer
from evaluation.peers.scans import read_scan

PROGRAMS = Path(__file__).with_name("programs")


def _interpolation(
    name: str, program: str, kind: str, settings: str, environment: Environment
) -> Peer:
    script = "interpolate_simpleitk.py" if environment is SIMPLEITK else "interpolate_ants.py"

    def words(job: Job) -> list[str]:
        grid = fine_grid(read_scan(job.scan).grid)
        told = job.folder / "grid.json"
        told.write_text(json.dumps({"shape": grid.shape, "affine": grid.affine.tolist()}), "utf-8")
        return [
            *(str(job.python), str(PROGRAMS / script)),
            *(kind, str(job.scan), str(told), str(job.folder / "image.nii.gz")),
        ]

    return Peer(name, program, settings, environment, words)


def interpolations() -> tuple[Peer, ...]:
    """All of them."""
    itk = f"SimpleITK {SIMPLEITK.pinned('simpleitk')}"
    ants = f"antspyx {ANTS.pinned('antspyx')}"
    return (
        _interpolation("SimpleITK, nearest", itk, "nearest", "sitkNearestNeighbor", SIMPLEITK),
        _interpolation("SimpleITK, linear", itk, "linear", "sitkLinear", SIMPLEITK),
        _interpolation("SimpleITK, B-spline", itk, "bspline", "sitkBSpline, cubic", SIMPLEITK),
        _interpolation("SimpleITK, Lanczos", itk, "lanczos", "sitkLanczosWindowedSinc", SIMPLEITK),
        _interpolation("ANTs, B-spline", ants, "bSpline", "bSpline, cubic", ANTS),
        _interpolation("ANTs, Lanczos", ants, "lanczosWindowedSinc", "lanczosWindowedSinc", ANTS),
    )
