"""Other programs are pinned, and nothing of ours depends on them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from evaluation.peers.environments import ANTS, ECLARE, SIMPLEITK, Environment, packages
from evaluation.peers.interpolations import PROGRAMS
from tests.paths import ROOT

ALL = (ECLARE, SIMPLEITK, ANTS)
FOREIGN = {"eclare", "radifox", "ants", "antspyx", "dipy"}


@pytest.mark.parametrize("environment", ALL, ids=lambda environment: environment.name)
def test_every_requirement_is_pinned(environment: Environment) -> None:
    lines = environment.requirements.read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(line.count("==") == 1 for line in pins)
    names = [line.partition("==")[0].lower() for line in pins]
    assert len(set(names)) == len(names)


def test_the_version_of_a_package() -> None:
    assert packages("# eclare==9\nEclare==1.0.1\n") == {"eclare": "1.0.1"}
    with pytest.raises(KeyError, match="torch"):
        ANTS.pinned("torch")


@pytest.mark.parametrize("environment", ALL, ids=lambda environment: environment.name)
def test_every_requirement_is_installed_once(environment: Environment) -> None:
    python = Path("python")
    words = [word for line in environment.installations(python) for word in line if "==" in word]
    pins = packages(environment.requirements.read_text("utf-8"))
    assert sorted(words) == sorted(f"{name}=={version}" for name, version in pins.items())


def test_what_asks_for_other_versions_is_installed_alone() -> None:
    first, last = ECLARE.installations(Path("python"))
    assert "--no-deps" not in first
    assert "--no-deps" in last
    assert {word.partition("==")[0] for word in last if "==" in word} == set(ECLARE.loose)


def test_an_environment_is_made_again_when_its_requirements_change(tmp_path: Path) -> None:
    assert not ECLARE.is_made(tmp_path)
    stamp = ECLARE.folder(tmp_path) / "installed.lock"
    stamp.parent.mkdir()
    stamp.write_text(ECLARE.requirements.read_text("utf-8") + "other==1\n", "utf-8")
    assert not ECLARE.is_made(tmp_path)
    stamp.write_text(ECLARE.requirements.read_text("utf-8"), "utf-8")
    assert ECLARE.is_made(tmp_path)


def imported(file: Path) -> set[str]:
    """Names of the packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_other_program_is_imported() -> None:
    files = [*ROOT.glob("bids_unires/**/*.py"), *ROOT.glob("evaluation/**/*.py")]
    ours = [file for file in files if file.parent != PROGRAMS]
    assert len(ours) > 100
    assert {file for file in ours if imported(file) & FOREIGN} == set()
    for name in ("pyproject.toml", "requirements.lock"):
        text = (ROOT / name).read_text("utf-8").lower()
        assert not any(f"{foreign}=" in text or f'"{foreign}' in text for foreign in FOREIGN)


def test_what_runs_in_other_environments_imports_nothing_of_ours() -> None:
    scripts = sorted(PROGRAMS.glob("*.py"))
    assert [script.name for script in scripts] == [
        "interpolate_ants.py",
        "interpolate_simpleitk.py",
    ]
    for script in scripts:
        assert not imported(script) & {"bids_unires", "evaluation", "eclare"}
