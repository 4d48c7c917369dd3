from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bids_unires.errors import OutputError
from bids_unires.run.logs import holding_back, logging_to_file, logging_to_stderr

logger = logging.getLogger("bids_unires")


def say_everything() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "a %s", logging.getLevelName(level))


@pytest.mark.parametrize(
    ("verbosity", "lines"), [(-9, 1), (-2, 1), (-1, 2), (0, 3), (1, 4), (9, 4)]
)
def test_verbosity_chooses_the_levels(
    verbosity: int, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(verbosity):
        say_everything()
    say_everything()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    assert printed[-1].endswith("ERROR a ERROR")


def test_a_file_gets_everything_after_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest catches of the log cannot be sent from one process of tests to another.
    monkeypatch.setattr(logger, "propagate", False)
    path = tmp_path / "run.log"
    for _ in range(2):
        with logging_to_file(path):
            say_everything()
            logger.info("a name no encoding knows: \udcff")
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 10
    assert lines[0].endswith("DEBUG a DEBUG")
    assert lines[-1].endswith(r"INFO a name no encoding knows: \udcff")
    assert not logger.handlers


def test_a_file_begins_with_what_was_said_before_it_was_there(tmp_path: Path) -> None:
    files = [tmp_path / "first.log", tmp_path / "second.log"]
    with holding_back():
        logger.warning("%s passed over", "sub-01_T1w.nii.gz")
        for path in files:
            with logging_to_file(path):
                logger.info("work on %s", path.name)
            logger.info("afterwards")
    first, second = (path.read_text("utf-8").splitlines() for path in files)
    assert [line[24:] for line in first] == [
        "WARNING sub-01_T1w.nii.gz passed over",
        "INFO work on first.log",
    ]
    assert [line[24:] for line in second] == ["INFO work on second.log"]
    assert not logger.handlers


def test_a_file_that_cannot_be_is_an_error_of_output(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"run\.log cannot be created"),
        logging_to_file(tmp_path / "none" / "run.log"),
    ):
        pass


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (1, True)])
def test_tracebacks_are_for_the_file_and_for_who_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verbosity: int, shown: bool
) -> None:
    path = tmp_path / "run.log"
    # The file's handler comes first, and keeps the text of the traceback in the record.
    with logging_to_file(path), logging_to_stderr(verbosity):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logging.getLogger("bids_unires").warning("%s failed", "sub-01", exc_info=True)
    printed = capsys.readouterr().err
    assert "WARNING sub-01 failed" in printed
    assert ("Traceback" in printed) is shown
    assert "Traceback" in path.read_text("utf-8")
