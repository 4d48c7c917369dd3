"""Datasets of one small head, and runs that are watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bids_unires.cli.main import main
from bids_unires.kernels.runtime import kernel_cache
from bids_unires.run.devices import THREAD_VARIABLES
from tests.faults.heads import QUICK, Place, Told, snapshot


@pytest.fixture
def place(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """A dataset of one good scan; home and working directory are watched too."""
    place = Place(tmp_path)
    place.describe()
    place.write("sub-01_T1w")
    for name in ("home", "cwd"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("WARP_CACHE_PATH", str(kernel_cache()))
    # Caches, of compiled kernels above all, may be kept; nothing else in the home.
    for variable in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    return place


@pytest.fixture
def watched_run(place: Place, capfd: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Give a function that runs the program, and fails if anything but the output changed."""

    def run(*options: str, output: Path | None = None, level: str = "participant") -> Told:
        before = snapshot(place.root, but=place.out)
        arguments = [str(place.raw), str(output or place.out), level, *QUICK, *options]
        code = main(arguments)
        said = capfd.readouterr()
        assert snapshot(place.root, but=place.out) == before
        assert not list(place.out.rglob("*.part"))
        return Told(code, said.out, said.err)

    return run


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    """Undo what runs set for the whole process."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in THREAD_VARIABLES:
            patch.setenv(variable, "1")
        yield
