"""Kernels and solver are as quick as they were, beside torch's own interpolation."""

from __future__ import annotations

import pytest

from benchmarks.baseline import SLOWER, measure, recorded

pytestmark = [pytest.mark.slow, pytest.mark.timing]


@pytest.mark.timeout(900)
def test_nothing_takes_longer_than_before() -> None:
    before, now = recorded(), measure()
    assert now.keys() == before.keys()
    slower = {name: now[name] / before[name] for name in now if now[name] > SLOWER * before[name]}
    assert not slower
