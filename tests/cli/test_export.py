from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.cli.export import export_parser
from bids_unires.cli.main import main
from bids_unires.dataset.description import write_dataset_files
from tests.export.conftest import DatasetMaker, plans, results  # noqa: F401


def test_it_says_what_was_handed_over(
    results: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "d"
    assert main(["export", "raw", str(results), str(tmp_path / "handed")]) == 0
    assert "7 images of 4 participants or sessions" in capsys.readouterr().out
    command = ["export", "nnunet", str(results), str(folder), "--contrasts", "FLAIR", "T1w"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        "channels: 0 FLAIR, 1 T1w",
        f"2 cases in {folder}: 4 images written, 0 replaced, 0 unchanged",
        "sub-02_ses-b is left out: it lacks FLAIR",
        "sub-03 is left out: it lacks FLAIR",
    ]
    assert main(command) == 0
    assert "0 images written, 0 replaced, 4 unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["raw", "OUT", "there", "--link", "--integers"], 64, "not allowed with"),
        (["pdf", "OUT", "there"], 64, "invalid choice: 'pdf'"),
        (["nnunet", "OUT", "there", "--contrasts", "T1w", "T1w"], 64, "names one twice"),
        (["raw", "nowhere", "there"], 66, "nowhere does not exist"),
        (["raw", "OUT", "there", "--participant-label", "sub-01"], 18, "no results of participant"),
    ],
)
def test_a_mistake_gets_one_line(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset_files(tmp_path / "OUT", make_dataset("sub-01_T1w"))
    assert main(["export", *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "there").exists()


def test_help_names_the_formats() -> None:
    text = export_parser().format_help()
    assert "raw" in text
    assert "nnunet" in text
