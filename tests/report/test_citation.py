"""Methods text and references."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bids_unires.config import AnatomicalReference, Method, ModelSettings, SpaceSettings
from bids_unires.report.citation import cited, methods_text, references, write_citation


@pytest.mark.parametrize("method", ["super-resolution", "denoise", "linear"])
@pytest.mark.parametrize("align", ["none", "rigid", "similarity"])
def test_every_reference_of_the_text_is_listed(method: Method, align: str) -> None:
    text = methods_text(ModelSettings(method=method), SpaceSettings(align=align))  # type: ignore[arg-type]
    keys = set(re.findall(r"@(\w+)", text))
    assert keys
    assert keys == {reference.key for reference in cited(text)}
    assert ("fonov2009" in keys) == (align != "none")
    assert ("brudfors2019" in keys) == (method != "linear")


def test_the_text_follows_the_settings() -> None:
    plain = methods_text(ModelSettings(), SpaceSettings())
    other = methods_text(
        ModelSettings(
            voxel_size=(0.8, 0.8, 1.5), unified_rigid=False, coregister=False, tolerance=1e-3
        ),
        SpaceSettings(),
    )
    assert "1 mm isotropic" in plain
    assert "2e-5" in plain
    assert "refined" in plain
    assert "0.8 x 0.8 x 1.5 mm" in other
    assert "1e-3" in other
    assert "refined" not in other
    assert "aligned" not in other


def test_the_text_holds_of_a_participant_with_one_scan() -> None:
    plain = methods_text(ModelSettings(), SpaceSettings(align="rigid"))
    sentences = plain.replace("(SimpleITK [@lowekamp2013])", "").split(". ")
    for done in ("to each other", "refined within the fit"):
        (told,) = (sentence for sentence in sentences if done in sentence)
        assert told.startswith("Where a ")
        assert "had several scans" in told
    assert "Scans were aligned rigidly to a head in the space of the template" in plain
    linear = methods_text(ModelSettings(method="linear"), SpaceSettings())
    assert "averaged where a contrast had several" in linear


def test_visits_on_one_grid_are_told() -> None:
    def told(reference: AnatomicalReference) -> str:
        return methods_text(ModelSettings(), SpaceSettings(), reference)

    assert told("sessionwise") == methods_text(ModelSettings(), SpaceSettings())
    assert "aligned rigidly to the first by robust" in told("first-lex")
    assert "aligned rigidly to their mean position by robust" in told("unbiased")
    assert "reuter2010" in {reference.key for reference in cited(told("unbiased"))}
    headers = methods_text(ModelSettings(coregister=False), SpaceSettings(), "unbiased")
    assert "Visits" not in headers


def test_denoised_images_have_the_voxels_of_the_scans() -> None:
    native = methods_text(ModelSettings((0, 0, 0), method="denoise"), SpaceSettings())
    assert "at the voxel size of the scans" in native
    chosen = methods_text(ModelSettings((2, 2, 2), method="denoise"), SpaceSettings())
    assert "at a voxel size of 2 mm isotropic" in chosen


def test_bibtex_is_balanced_and_starts_with_its_key() -> None:
    for key, reference in references().items():
        assert reference.key == key
        assert reference.bibtex.startswith(f"@{reference.kind}{{{key},")
        assert reference.bibtex.count("{") == reference.bibtex.count("}")
        assert re.search(r"doi = |url = ", reference.bibtex)


def files_of(output_dir: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (output_dir / "logs").iterdir()}


def test_files_tell_of_all_runs(tmp_path: Path) -> None:
    full = methods_text(ModelSettings(), SpaceSettings())
    linear = methods_text(ModelSettings(method="linear"), SpaceSettings(align="rigid"))
    write_citation(tmp_path, full)
    alone = files_of(tmp_path)
    assert set(alone) == {"CITATION.md", "CITATION.bib"}
    assert alone["CITATION.md"].startswith(f"# Methods\n\n{full}\n\n# References\n\n- [@")
    assert alone["CITATION.bib"].count("@inproceedings") == 1
    write_citation(tmp_path, linear)
    both = files_of(tmp_path)
    paragraphs = both["CITATION.md"].split("\n\n")
    assert paragraphs[2:4] == [linear, full]
    assert {"fonov2009", "brudfors2018"} <= set(
        re.findall(r"^@\w+{(\w+),", both["CITATION.bib"], re.M)
    )
    write_citation(tmp_path, full)
    assert files_of(tmp_path)["CITATION.md"].split("\n\n")[2:4] == [full, linear]


def test_files_that_say_it_stay(tmp_path: Path) -> None:
    text = methods_text(ModelSettings(), SpaceSettings())
    write_citation(tmp_path, text)
    path = tmp_path / "logs" / "CITATION.md"
    inode = path.stat().st_ino
    write_citation(tmp_path, text)
    assert path.stat().st_ino == inode
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"CITATION.md", "CITATION.bib"}
