"""Files for citing, contributing and releasing say the same as the program and its pins."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bids_unires import __version__
from tests.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def pins(name: str) -> dict[str, str]:
    """Pinned versions of a lock, by the name of the package."""
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def test_the_citation_is_of_a_version_in_the_changes() -> None:
    citation = content(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    heading = f"## [{citation['version']}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGES.md").read_text("utf-8").splitlines()


def test_hooks_have_the_pinned_versions() -> None:
    (repository,) = content(ROOT / ".pre-commit-config.yaml")["repos"]
    needed = {pin for hook in repository["hooks"] for pin in hook["additional_dependencies"]}
    assert f"ruff=={pins('requirements.lock')['ruff']}" in needed


def test_the_documentation_needs_no_other_version_of_what_the_program_needs() -> None:
    assert not set(pins("requirements-docs.lock")) & set(pins("requirements.lock"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_that_are_there(path: Path) -> None:
    jobs = content(path)["jobs"].values()
    typed = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    targets = {name for text in typed for name in re.findall(r"\bmake ([a-z-]+)", text)}
    lanes = [
        name for job in jobs for name in job.get("strategy", {}).get("matrix", {}).get("lane", ())
    ]
    assert path.stem in {"container", "release"} or targets or lanes
    if targets or lanes:
        subprocess.run(["make", "-n", *targets, *lanes], cwd=ROOT, check=True, capture_output=True)


def test_every_supported_python_is_tested() -> None:
    matrix = content(ROOT / ".github/workflows/check.yml")["jobs"]["test"]["strategy"]["matrix"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert matrix["python-version"] == re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', project
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(path: Path) -> None:
    # Sphinx follows those of the pages in docs.
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
