"""Templates: heads in a standard space, with masks of brain and head.

The default template is packaged with the program, so that nothing has to be downloaded. All
others come from TemplateFlow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files

import numpy as np

from ..config import FieldOfView
from ..dataset.reading import load_volume
from ..errors import BadDataError, InputOutputError, MissingInputError, UsageError
from ..space.boxes import mask_box, network_grid
from ..space.grid import Grid
from ..space.volume import Volume
from .masks import head_mask
from .templateflow import TemplateFiles, cached_files, download

logger = logging.getLogger("bids_unires")

DEFAULT_TEMPLATE = "MNI152NLin2009cAsym"
LARGEST_SIDE = 256
PACKAGED_SOURCE = "packaged ICBM152 2009 head, 2 mm"


@dataclass(frozen=True, eq=False)
class Template:
    """A head that defines a standard space.

    Parameters
    ----------
    name
        Name of the space, one of TemplateFlow's.
    image
        T1w image with skull, voxels of about 1 or 2 mm.
    brain, head
        Masks, 1 inside and 0 outside; their grid may differ from the image's.
    source
        Origin of the image: a path or ``packaged ...``.
    """

    name: str
    image: Volume
    brain: Volume
    head: Volume
    source: str

    @property
    def is_packaged(self) -> bool:
        """Whether the image is the one that is packaged with the program."""
        return self.source == PACKAGED_SOURCE

    def mask(self, fov: FieldOfView) -> Volume:
        """Mask of the brain or of the head."""
        return self.brain if fov == "brain" else self.head


def load_template(name: str = DEFAULT_TEMPLATE) -> Template:
    """Find a template: in TemplateFlow's cache, by download, or packaged with the program.

    Parameters
    ----------
    name
        Name of a template in TemplateFlow, without ``tpl-``.

    Returns
    -------
    Template
        Image and masks. The masks of the default template are always the packaged ones, because
        the shared grid computed from them must not depend on the cache of a machine.

    Raises
    ------
    MissingInputError
        If the template is neither cached nor packaged and cannot be downloaded.
    BadDataError
        If a cached file cannot be read.
    """
    found = cached_files(name)
    problem = ""
    if found is None:
        try:
            found = download(name)
        except MissingInputError as error:
            problem = str(error)
    if name == DEFAULT_TEMPLATE:
        return _default_template(found, problem)
    if found is None:
        raise MissingInputError(problem)
    return _from_files(name, found)


def packaged_template() -> Template:
    """The template packaged with the program, the same on every machine."""
    parts = ("head_T1w", "brain_mask", "head_mask")
    image, brain, head = (_packaged(f"icbm152_{part}.nii.gz") for part in parts)
    return Template(DEFAULT_TEMPLATE, image, brain, head, PACKAGED_SOURCE)


def _default_template(found: TemplateFiles | None, problem: str) -> Template:
    packaged = packaged_template()
    if found is None:
        logger.info("%s; the packaged ICBM152 head takes its place", problem)
        return packaged
    try:
        return replace(packaged, image=load_volume(found.t1w), source=str(found.t1w))
    except (BadDataError, InputOutputError) as error:
        logger.warning("%s; the packaged ICBM152 head takes its place", error)
        return packaged


def _from_files(name: str, found: TemplateFiles) -> Template:
    image, brain = load_volume(found.t1w), load_volume(found.brain)
    head = Volume(head_mask(image.data, image.affine).astype(np.float32), image.affine)
    return Template(name, image, brain, head, str(found.t1w))


def _packaged(file_name: str) -> Volume:
    with as_file(files("bids_unires") / "templates" / file_name) as path:
        return load_volume(path)


def template_grid(template: Template, fov: FieldOfView, voxel_size: Sequence[float]) -> Grid:
    """The grid that all participants share: the template's box, with sides that suit networks.

    Parameters
    ----------
    template
        Template that gives the space and the bounding box.
    fov
        Field of view that the grid has to contain: brain or head.
    voxel_size
        In mm along each axis, ``(3,)``.

    Returns
    -------
    Grid
        Its axes are those of the template's world, and it is centred on the bounding box of
        brain or head. Every side has ``2^k`` or ``3 * 2^k`` voxels, at most `LARGEST_SIDE`.

    Raises
    ------
    UsageError
        If the voxels are so small that the box does not fit.
    ValueError
        If a voxel size is not positive.
    """
    mask = template.mask(fov)
    box = mask_box(mask.data > 0, mask.affine, voxel_size)
    if max(box.shape) > LARGEST_SIDE:
        extent = np.array(box.shape) * box.voxel_size
        raise UsageError(
            f"the template's {fov} takes {'x'.join(map(str, box.shape))} voxels of this size, "
            f"and a common grid has at most {LARGEST_SIDE} along each axis: use --voxel-size "
            f"{np.ceil(100 * extent.max() / LARGEST_SIDE) / 100:g} or more"
        )
    return network_grid(box, "pow23")
