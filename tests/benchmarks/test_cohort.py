"""The group level's memory does not grow with the cohort."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow


def test_memory_is_that_of_one_participant() -> None:
    command = [sys.executable, "-m", "benchmarks.cohort", "3", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    few, many = (json.loads(line) for line in done.stdout.splitlines())
    assert (few["rows done"], many["rows done"]) == (3, 12)
    assert many["peak MB"] < min(few["peak MB"] + 30, 1500)
