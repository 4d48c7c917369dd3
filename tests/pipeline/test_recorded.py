"""A small cohort gets from both levels what it got when the record was made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipeline.recorded import RECORD, described, differences
from tests.pipeline.study import Study

# Beyond what another processor, or another number of threads, makes of the same scans.
RELATIVE = 0.03
ABSOLUTE = {"images": 0.05, "transforms": 0.05}


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text("utf-8")))


@pytest.fixture(scope="module")
def now(aligned: Study) -> dict[str, Any]:
    return described(aligned.out)


@pytest.mark.parametrize("part", ["files", "images", "sidecars", "transforms", "table", "pages"])
def test_a_small_cohort_gets_what_it_got(
    part: str, now: dict[str, Any], before: dict[str, Any]
) -> None:
    found = list(differences(now[part], before[part], RELATIVE, ABSOLUTE.get(part, 0.005), part))
    assert not found, (
        "after a change that is meant: python -m tests.pipeline.recorded\n" + "\n".join(found[:30])
    )
