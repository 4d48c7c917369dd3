"""What to cite, and how to say in a paper what was done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..config import NO_TEMPLATE, ModelSettings, SpaceSettings
from ..dataset.naming import resolution_text
from ..dataset.writing import write_text
from ..records.study import GridSettingsRecord
from .group_content import SharedGrid


@dataclass(frozen=True)
class Reference:
    """A publication.

    Parameters
    ----------
    key
        What the text refers to it by.
    kind
        BibTeX's kind of entry.
    fields
        BibTeX's fields and their values, in the order they are written.
    """

    key: str
    kind: str
    fields: dict[str, str]

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", ",\n".join(lines), "}"])

    @property
    def text(self) -> str:
        """Authors, year, title and where to find it, in one line."""
        authors = self.fields["author"].replace(" and ", "; ")
        where = self.fields.get("journal") or self.fields.get("booktitle") or "arXiv"
        found = f"doi:{self.fields['doi']}" if "doi" in self.fields else self.fields.get("url", "")
        return (
            f"{authors} ({self.fields['year']}). {self.fields['title']}. {where}. {found}".strip()
        )


REFERENCES = {
    "brudfors2018": Reference(
        "brudfors2018",
        "inproceedings",
        {
            "author": "Brudfors, Mikael and Balbastre, Yaël and Nachev, Parashkev and "
            "Ashburner, John",
            "title": "MRI Super-Resolution Using Multi-channel Total Variation",
            "booktitle": "Medical Image Understanding and Analysis (MIUA 2018)",
            "publisher": "Springer",
            "pages": "217--228",
            "year": "2018",
            "url": "https://arxiv.org/abs/1810.03422",
        },
    ),
    "brudfors2019": Reference(
        "brudfors2019",
        "article",
        {
            "author": "Brudfors, Mikael and Balbastre, Yaël and Nachev, Parashkev and "
            "Ashburner, John",
            "title": "A Tool for Super-Resolving Multimodal Clinical MRI",
            "journal": "arXiv:1909.01140",
            "year": "2019",
            "url": "https://arxiv.org/abs/1909.01140",
        },
    ),
    "chouzenoux2011": Reference(
        "chouzenoux2011",
        "article",
        {
            "author": "Chouzenoux, Emilie and Idier, Jérôme and Moussaoui, Saïd",
            "title": "A Majorize-Minimize Strategy for Subspace Optimization Applied to Image "
            "Restoration",
            "journal": "IEEE Transactions on Image Processing",
            "volume": "20",
            "number": "6",
            "pages": "1517--1528",
            "year": "2011",
            "doi": "10.1109/TIP.2010.2103083",
        },
    ),
    "ramani2008": Reference(
        "ramani2008",
        "article",
        {
            "author": "Ramani, Sathish and Blu, Thierry and Unser, Michael",
            "title": "Monte-Carlo SURE: A Black-Box Optimization of Regularization Parameters for "
            "General Denoising Algorithms",
            "journal": "IEEE Transactions on Image Processing",
            "volume": "17",
            "number": "9",
            "pages": "1540--1554",
            "year": "2008",
            "doi": "10.1109/TIP.2008.2001404",
        },
    ),
    "zhao2021": Reference(
        "zhao2021",
        "article",
        {
            "author": "Zhao, Can and Dewey, Blake E. and Pham, Dzung L. and Calabresi, Peter A. "
            "and Reich, Daniel S. and Prince, Jerry L.",
            "title": "SMORE: A Self-Supervised Anti-Aliasing and Super-Resolution Algorithm for "
            "MRI Using Deep Learning",
            "journal": "IEEE Transactions on Medical Imaging",
            "volume": "40",
            "number": "3",
            "pages": "805--817",
            "year": "2021",
            "doi": "10.1109/TMI.2020.3037187",
        },
    ),
    "gorgolewski2016": Reference(
        "gorgolewski2016",
        "article",
        {
            "author": "Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others",
            "title": "The brain imaging data structure, a format for organizing and describing "
            "outputs of neuroimaging experiments",
            "journal": "Scientific Data",
            "volume": "3",
            "pages": "160044",
            "year": "2016",
            "doi": "10.1038/sdata.2016.44",
        },
    ),
    "lowekamp2013": Reference(
        "lowekamp2013",
        "article",
        {
            "author": "Lowekamp, Bradley C. and Chen, David T. and Ibáñez, Luis and Blezek, Daniel",
            "title": "The Design of SimpleITK",
            "journal": "Frontiers in Neuroinformatics",
            "volume": "7",
            "pages": "45",
            "year": "2013",
            "doi": "10.3389/fninf.2013.00045",
        },
    ),
    "fonov2009": Reference(
        "fonov2009",
        "article",
        {
            "author": "Fonov, Vladimir S. and Evans, Alan C. and McKinstry, Robert C. and "
            "Almli, C. Robert and Collins, D. Louis",
            "title": "Unbiased nonlinear average age-appropriate brain templates from birth to "
            "adulthood",
            "journal": "NeuroImage",
            "volume": "47",
            "pages": "S102",
            "year": "2009",
            "doi": "10.1016/S1053-8119(09)70884-5",
        },
    ),
}
"""By key, in the order of the text."""


def methods_text(model: ModelSettings, space: SpaceSettings) -> str:
    """What was done, for the methods section of a paper; references as ``[@key]``.

    Parameters
    ----------
    model, space
        Settings of the run.
    """
    return " ".join([_origin(), *_placing(model, space), *_reconstruction(model)])


def group_methods_text(
    model: ModelSettings, shared: SharedGrid | None, methods: Collection[str]
) -> str:
    """What was done with a whole cohort; as `methods_text`.

    Parameters
    ----------
    model
        Settings that the participants' images were made with.
    shared
        The grid that they all came to, if there is one.
    methods
        How they came to it: ``refit``, ``reslice`` or both.
    """
    placed = _placing(model, SpaceSettings())
    study = _study(shared, methods) if shared else []
    return " ".join([_origin(), *placed, *_reconstruction(model), *study])


def cited(text: str) -> tuple[Reference, ...]:
    """The publications that a text refers to, in the order of `REFERENCES`."""
    return tuple(reference for key, reference in REFERENCES.items() if f"@{key}" in text)


def write_citation(output_dir: Path, text: str) -> None:
    """Write ``logs/CITATION.md`` and ``logs/CITATION.bib``, of this run and of those before it.

    Runs into one folder may differ in method and version, and what earlier ones made may still
    be there.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    text
        What this run did: `methods_text` or `group_methods_text`.

    Raises
    ------
    UniResError
        If they cannot be written.
    """
    path = output_dir / "logs" / "CITATION.md"
    before = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    texts = [text, *(line for line in before.splitlines() if line.startswith(_BEGINNING))]
    texts = list(dict.fromkeys(texts))
    references = cited("".join(texts))
    listed = "\n".join(f"- [@{each.key}] {each.text}" for each in references)
    heading = ["# Methods", _SEVERAL] if len(texts) > 1 else ["# Methods"]
    content = "\n\n".join([*heading, *texts, "# References", listed]) + "\n"
    bibtex = "\n\n".join(each.bibtex for each in references) + "\n"
    # Participants of one run, which say the same, do not write over each other's.
    if content != before or not path.with_suffix(".bib").is_file():
        write_text(path.with_suffix(".bib"), bibtex)
        write_text(path, content)


_BEGINNING = "Scans organised as BIDS [@gorgolewski2016] were processed with bids_unires"
_SEVERAL = (
    "Of all runs into this folder, the latest first. The sidecar of an image tells which version "
    "and settings it was made with."
)


def _origin() -> str:
    return f"{_BEGINNING} {__version__}."


def _study(shared: SharedGrid, methods: Collection[str]) -> list[str]:
    stated = shared.settings
    sentences = []
    if stated.align != "none":
        kind = "by similarity transforms" if stated.align == "similarity" else "rigidly"
        to_template = stated.template != NO_TEMPLATE
        reference = f"the template {stated.template} [@fonov2009]" if to_template else "their mean"
        sentences.append(f"All participants were aligned {kind} to {reference}.")
    shape = " x ".join(map(str, shared.grid.shape))
    size = resolution_text(shared.grid.voxel_size.tolist())
    sentences.append(
        f"They share a grid of {shape} voxels of {size}, the smallest box {_sides(stated)} that "
        f"holds every {stated.fov} with a margin of {stated.grid_margin:g} mm."
    )
    ways = [text for way, text in _WAYS.items() if way in methods]
    if ways:
        sentences.append(f"Images were {' or '.join(ways)}.")
    return sentences


_WAYS = {
    "refit": "reconstructed again on this grid from the scans",
    "reslice": "interpolated once on it by cubic B-splines",
}


def _sides(stated: GridSettingsRecord) -> str:
    policy = stated.grid_policy
    if policy == "multiple":
        return f"with sides that are multiples of {stated.grid_multiple} voxels"
    return "with sides of 2^k voxels" if policy == "pow2" else "with sides of 2^k or 3*2^k voxels"


def _placing(model: ModelSettings, space: SpaceSettings) -> list[str]:
    sentences = []
    if model.coregister:
        sentences.append(
            "Where a participant had several scans, they were aligned rigidly to each other by "
            "maximising mutual information (SimpleITK [@lowekamp2013])."
        )
    if space.align != "none":
        kind = "rigidly" if space.align == "rigid" else "by a similarity transform"
        sentences.append(
            f"Scans were aligned {kind} to the template {space.template} [@fonov2009]."
        )
    if space.common_output:
        sentences.append(
            "Images of all participants lie on one grid that holds the "
            f"{space.fov} of the template."
        )
    return sentences


def _reconstruction(model: ModelSettings) -> list[str]:
    size = (
        f"a voxel size of {resolution_text(model.voxel_size)}"
        if any(model.voxel_size)
        else "the voxel size of the scans (the finest where they differed)"
    )
    if model.method == "linear":
        return [
            f"Scans were interpolated trilinearly to {size}, and averaged where a contrast had "
            "several."
        ]
    prior = "a joint total-variation prior over all contrasts"
    weight = (
        "(its weights chosen by Stein's unbiased estimate of the risk [@ramani2008])"
        if model.reg_scale == "auto"
        else f"(regularisation {model.reg_scale:g})"
    )
    if model.method == "denoise":
        what = f"The images were denoised with {prior} {weight} at {size}"
    else:
        what = (
            f"One image of each contrast was reconstructed from all of its scans at {size}, as the "
            "maximum a posteriori estimate under a model of slice profiles and gaps, noise and "
            f"pose of every scan, and {prior} {weight}"
        )
    sentences = [
        f"{what} [@brudfors2018; @brudfors2019].",
        "The noise of each scan was estimated from its own intensities.",
    ]
    if model.learned_detail and model.method == "super-resolution":
        sentences.append(
            "Where a contrast had a single scan of thick slices, what lies within them was "
            "predicted by a regression learned from the planes of the scan itself, in the manner "
            "of [@zhao2021], together with another contrast where that had its planes across the "
            "slices; it entered the fit with a share of the precision it had in these planes."
        )
    if model.unified_rigid:
        sentences.append(
            "Where a contrast had several scans, their rigid poses were refined within the fit."
        )
    if model.slice_motion:
        sentences.append(
            "Groups of slices of 2-D scans had rigid poses of their own where the head had moved "
            "during a scan."
        )
    if model.interleave_correction:
        sentences.append(
            "A difference in intensity between odd and even slices was estimated for every scan."
        )
    if model.robust:
        sentences.append(
            "Every slice was compared with its prediction from all other slices, and weighted by a "
            "Student-t model of the differences; slices of low weight were corrected in brightness "
            "or place where that brought them in line with the others, or left out. Where a "
            "contrast had a single MR scan, slices that lay elsewhere than a template of the head "
            "[@fonov2009], bent to the scan by B-splines (SimpleITK [@lowekamp2013]), has them "
            "were put there. Stripes of spikes in k-space were subtracted."
        )
    sentences.append(
        "The objective was minimised by a majorise-minimise memory-gradient method "
        f"[@chouzenoux2011], to a relative tolerance of {_power(model.tolerance)}."
    )
    return sentences


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")
