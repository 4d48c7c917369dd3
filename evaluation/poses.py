"""How far scans of several contrasts are put from where they lay: ``python -m evaluation.poses``.

Heads at 1 mm in three contrasts are cut to thick slices with motions that are known, and aligned to
the first contrast: without fits, some seconds for each case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.kernels.runtime import thread_count
from bids_unires.registration import coregister
from bids_unires.space.affines import Affine, apply_affine, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

Row = Mapping[str, Any]
Heads = Mapping[str, Volume]

_PLANES: Mapping[str, tuple[Plane, Plane, Plane]] = {
    "axial": ("transverse", "transverse", "transverse"),
    "three planes": ("sagittal", "transverse", "coronal"),
}
_RADIUS_MM = 70.0
_BRIGHTEST = 99.9


@dataclass(frozen=True)
class PoseCase:
    """One examination whose poses are known.

    Parameters
    ----------
    head
        Name of the head.
    planes
        ``axial`` or ``three planes``.
    motion
        How far the head moves between scans, in mm, and how far it turns, in degrees.
    seed
        Of the directions of these motions, of where slices lie and of the noise.
    thickness
        Of the slices, without gaps, in mm.
    noise
        Standard deviation of the noise in each complex channel, as a share of the 99.9th
        percentile of the head.
    """

    head: str
    planes: str
    motion: float
    seed: int
    thickness: float = 5.0
    noise: float = 0.012


@dataclass(frozen=True, eq=False)
class PlacedStack:
    """A stack of slices and where the head lay: ``(4, 4)``, world mm of the scan -> of the head."""

    scan: Volume
    pose: Affine


def main(words: Sequence[str] | None = None) -> None:
    """Align all cases; print and write a table."""
    arguments = _parser().parse_args(words)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for case, images in _cases(arguments):
        rows += rows_of(case, images)
    (arguments.output_dir / "poses.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("\n" + table(rows))


def rows_of(case: PoseCase, images: Heads) -> list[Row]:
    """Align one case by mutual information alone and as the program does; one row per contrast."""
    stacks = acquired(case, images)
    scans = [stack.scan for stack in stacks]
    roughly = coregister(scans, threads=thread_count())
    found = coregister(scans, threads=thread_count(), contrasts=list(images))
    rows: list[Row] = []
    for name, stack, rough, fine in list(zip(images, stacks, roughly, found, strict=True))[1:]:
        rows.append(
            {
                "head": case.head,
                "planes": case.planes,
                "motion": case.motion,
                "seed": case.seed,
                "contrast": name,
                "mutual information": pose_error(rough.pose, stack.pose),
                "defaults": pose_error(fine.pose, stack.pose),
                "stated": fine.uncertainty,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def acquired(case: PoseCase, images: Heads) -> list[PlacedStack]:
    """Scan each contrast once; the first lies as its header says."""
    stacks = []
    for number, (plane, truth) in enumerate(
        zip(_PLANES[case.planes], images.values(), strict=True)
    ):
        rng = np.random.default_rng([case.seed, number])
        pose = random_motion(case.motion if number else 0.0, rng)
        grid = scan_grid(truth.grid, plane, case.thickness)
        grid = Grid(grid.shape, grid.affine @ translation([0, 0, rng.uniform(-0.5, 0.5)]))
        clean = thick_slices(truth, grid, case.thickness, pose)
        sd = case.noise * float(np.percentile(truth.data, _BRIGHTEST))
        stacks.append(PlacedStack(Volume(add_rician_noise(clean, sd, rng), grid.affine), pose))
    return stacks


def random_motion(size: float, rng: np.random.Generator) -> Affine:
    """A shift of so many mm and a rotation of so many degrees, ``(4, 4)``, of random directions."""
    shift, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(size * axis, degrees=True).as_matrix()
    motion[:3, 3] = size * shift
    return motion


def pose_error(found: Affine, true: Affine) -> float:
    """Mean distance in mm between where two poses put points 70 mm from the origin."""
    directions = np.random.default_rng(0).normal(size=(400, 3))
    points = _RADIUS_MM * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    moved = apply_affine(np.linalg.inv(true) @ found, points) - points
    return round(float(np.linalg.norm(moved, axis=1).mean()), 3)


def table(rows: Sequence[Row]) -> str:
    """Markdown table: mean and largest error of each kind of case in mm, and what was stated."""
    lines = ["| head, slices, motion | contrast | mutual information | defaults | stated |"]
    lines.append("|" + " --- |" * 5)
    keys = dict.fromkeys((r["head"], r["planes"], r["motion"], r["contrast"]) for r in rows)
    for head, planes, motion, contrast in keys:
        own = [
            row
            for row in rows
            if (row["head"], row["planes"], row["motion"], row["contrast"])
            == (head, planes, motion, contrast)
        ]
        cells = [_summary([row[key] for row in own]) for key in ("mutual information", "defaults")]
        stated = [row["stated"] for row in own if row["stated"] is not None]
        told = f"{np.mean(stated):.2f}" if stated else "-"
        lines.append(
            f"| {head}, {planes}, {motion:g} mm and degrees | {contrast} | "
            f"{' | '.join(cells)} | {told} |"
        )
    return "\n".join(lines)


def _summary(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} (at most {np.max(values):.2f})"


def _simulated() -> Heads:
    """The head of the demo in the contrasts of its protocol."""
    anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
    return {
        protocol.suffix: _centred(anatomy.image(protocol.intensities, protocol.texture_gain))
        for protocol in PROTOCOLS[:3]
    }


def read_contrasts(paths: Sequence[str]) -> Heads:
    """Contrasts of a head from NIfTI files on one grid with voxels of 1 mm."""
    return {Path(p).name.split(".")[0]: _centred(nib.load(p).get_fdata()) for p in paths}


def _centred(data: NDArray[Any]) -> Volume:
    return Volume(data.astype(np.float32), translation(-(np.array(data.shape) - 1) / 2))


def _cases(arguments: argparse.Namespace) -> Iterator[tuple[PoseCase, Heads]]:
    heads: dict[str, Callable[[], Heads]] = {
        name: lambda paths=paths: read_contrasts(paths) for name, *paths in arguments.real
    }
    if arguments.simulated:
        heads["simulated"] = _simulated
    for name, load in heads.items():
        images = load()
        for planes in arguments.planes:
            for motion in arguments.motions:
                for seed in range(arguments.seeds):
                    yield PoseCase(name, planes, motion, seed, arguments.thickness), images


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.poses", description="Poses of scans of several contrasts."
    )
    parser.add_argument("output_dir", type=Path, nargs="?", default=Path("evaluation_out"))
    parser.add_argument(
        "--real",
        nargs=4,
        action="append",
        default=[],
        metavar=("NAME", "FIRST", "SECOND", "THIRD"),
        help="a head at 1 mm in three contrasts, on one grid",
    )
    parser.add_argument("--simulated", action="store_true", help="also the head of the demo")
    parser.add_argument("--planes", nargs="+", choices=[*_PLANES], default=[*_PLANES])
    parser.add_argument("--motions", nargs="+", type=float, default=[0.0, 1.0, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, default=2, help="cases of each kind")
    parser.add_argument("--thickness", type=float, default=5.0, help="of the slices, in mm")
    return parser


if __name__ == "__main__":
    main()
