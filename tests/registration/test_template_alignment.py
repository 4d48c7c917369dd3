"""Alignment to a template: known moves of the template itself are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_unires.errors import BadDataError
from bids_unires.registration import Template, align_to_template, load_template, templateflow
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

MILLIMETRES = 0.5
SCALE_SHARE = 0.005
AXIAL = Grid((110, 130, 44), scaling((1.8, 1.8, 5.0)) @ translation((-55, -65, -22)))
SAGITTAL = Grid(
    (120, 120, 40),
    np.array([[0, 0, 4.6, -92], [2, 0, 0, -120], [0, -2, 0, 110], [0, 0, 0, 1.0]]),
)


@pytest.fixture(scope="module")
def template() -> Template:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLATEFLOW_HOME", "/proc/no-such-folder")
        patch.setattr(templateflow, "SERVER", "http://127.0.0.1:9")
        return load_template()


def similarity(degrees: tuple[float, ...], offset: tuple[float, ...], scale: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = offset
    return matrix


def scan_of(template: Template, matrix: Affine, grid: Grid, gamma: float = 1.0) -> Volume:
    """The template's head where ``matrix`` puts a scan onto it, with slices and noise."""
    image = template.image
    into_image = np.linalg.inv(image.affine) @ matrix @ grid.affine
    # Sub-slices averaged: a scan measures slabs, not planes.
    thick = int(np.argmax(grid.voxel_size))
    step = np.eye(3)[thick]
    parts = [
        ndimage.affine_transform(
            image.data, into_image @ translation(step * shift), output_shape=grid.shape, order=1
        )
        for shift in (-0.375, -0.125, 0.125, 0.375)
    ]
    intensity = 200 * (np.mean(parts, axis=0) / 255) ** gamma
    noise = np.random.default_rng(0).normal(scale=4.0, size=(2, *grid.shape))
    return Volume(np.hypot(intensity + noise[0], noise[1]).astype(np.float32), grid.affine)


def assert_found(template: Template, found: Affine, expected: Affine) -> None:
    """Every point of the brain is within half a millimetre of where it belongs."""
    brain = apply_affine(template.brain.affine, np.argwhere(template.brain.data > 0)[::100])
    back = apply_affine(found @ np.linalg.inv(expected), brain)
    assert np.linalg.norm(back - brain, axis=1).max() < MILLIMETRES


@pytest.mark.parametrize(
    ("degrees", "offset", "scale", "grid", "gamma"),
    [
        ((6.0, -4.0, 9.0), (5.0, -9.0, 12.0), 1.12, AXIAL, 1.0),
        pytest.param(
            *((-20.0, 12.0, -15.0), (-14.0, 20.0, 18.0), 1.0, SAGITTAL, 0.5),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["small head", "far off, other contrast"],
)
def test_moves_of_the_template_are_found(
    template: Template,
    degrees: tuple[float, ...],
    offset: tuple[float, ...],
    scale: float,
    grid: Grid,
    gamma: float,
) -> None:
    expected = similarity(degrees, offset, scale)
    volume = scan_of(template, expected, grid, gamma)
    alignment = align_to_template(volume, template, kind="similarity", threads=2)
    assert alignment.kind == "similarity"
    assert abs(alignment.scale / scale - 1) < SCALE_SHARE
    assert_found(template, alignment.matrix, expected)


def test_rigid_alignment_keeps_sizes_and_the_middle_of_the_brain(template: Template) -> None:
    expected = similarity((4.0, 7.0, -11.0), (8.0, 6.0, -10.0), 1.1)
    volume = scan_of(template, expected, AXIAL)
    rigid = align_to_template(volume, template, kind="rigid", threads=2)
    rotation = rigid.matrix[:3, :3]
    assert rigid.scale == 1.0
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(rotation, expected[:3, :3] / 1.1, atol=0.01)
    middle = apply_affine(template.brain.affine, np.argwhere(template.brain.data > 0)).mean(axis=0)
    moved = apply_affine(rigid.matrix @ np.linalg.inv(expected), middle)
    np.testing.assert_allclose(moved, middle, atol=MILLIMETRES)


@pytest.mark.slow
def test_part_of_the_head_is_enough(template: Template) -> None:
    expected = similarity((-5.0, 3.0, 8.0), (4.0, 10.0, 6.0), 1.08)
    whole = scan_of(template, expected, AXIAL)
    first = np.array([0, 0, 16.0])
    part = Volume(whole.data[:, :, 16:36], whole.affine @ translation(first), Path("part.nii.gz"))
    alignment = align_to_template(part, template, kind="similarity", threads=2)
    brain = apply_affine(template.brain.affine, np.argwhere(template.brain.data > 0)[::100])
    back = apply_affine(alignment.matrix @ np.linalg.inv(expected), brain)
    assert np.linalg.norm(back - brain, axis=1).mean() < 1.0


@pytest.mark.slow
def test_ct_is_aligned_by_the_skull(template: Template) -> None:
    """Nothing to see in the brain, and air at -1000."""
    expected = similarity((5.0, -6.0, 4.0), (-6.0, 8.0, 9.0), 1.1)
    tissue, brain, head = (
        scan_of(replace(template, image=part), expected, AXIAL).data
        for part in (template.image, brightened(template.brain), brightened(template.head))
    )
    hounsfield = np.where(head > 100, 40 + 4 * tissue, -1000)
    ct = Volume(np.where(brain > 100, 30, hounsfield).astype(np.float32), AXIAL.affine)
    alignment = align_to_template(ct, template, kind="similarity", threads=2)
    brain_points = apply_affine(template.brain.affine, np.argwhere(template.brain.data > 0)[::100])
    back = apply_affine(alignment.matrix @ np.linalg.inv(expected), brain_points)
    assert np.linalg.norm(back - brain_points, axis=1).mean() < 2.0


def brightened(mask: Volume) -> Volume:
    return Volume(255 * mask.data, mask.affine)


def test_what_is_no_head_is_refused(template: Template) -> None:
    blank = Volume(np.full((20, 20, 20), 3, dtype=np.float32), np.eye(4), Path("flat.nii.gz"))
    with pytest.raises(BadDataError, match=r"flat\.nii\.gz"):
        align_to_template(blank, template, kind="rigid", threads=1)


def test_what_was_not_measured_is_outside_the_field_of_view(template: Template) -> None:
    """A slab in the middle of a dark image, oblique to its voxels."""
    expected = similarity((8.0, 5.0, -8.0), (6.0, 15.0, -15.0), 1.05)
    whole = scan_of(template, expected, AXIAL)
    voxels = np.moveaxis(np.indices(AXIAL.shape), 0, -1)
    height = apply_affine(similarity((15.0, 5.0, 0.0), (0.0, 0, 0), 1.0) @ AXIAL.affine, voxels)
    measured = np.abs(height[..., 2] - 10) < 20
    slab = Volume(np.where(measured, whole.data, np.float32(0)), whole.affine)
    found = align_to_template(slab, template, kind="similarity", threads=2, measured=measured)
    brain = apply_affine(template.brain.affine, np.argwhere(template.brain.data > 0)[::100])
    back = apply_affine(found.matrix @ np.linalg.inv(expected), brain)
    assert np.linalg.norm(back - brain, axis=1).mean() < 1.0


@pytest.mark.slow
def test_heads_too_small_for_the_template_are_told_what_to_do(template: Template) -> None:
    newborn = scan_of(template, similarity((4.0, -3, 5), (5.0, 5, 8), 1 / 0.62), AXIAL)
    with pytest.raises(BadDataError, match=r"newborn\.nii\.gz does not fit.*--template none"):
        align_to_template(
            replace(newborn, path=Path("newborn.nii.gz")), template, kind="rigid", threads=2
        )
