"""What sidecars say of learned detail is read again as it was meant."""

from __future__ import annotations

import pytest

from bids_unires.model.detail.term import DetailStatement
from bids_unires.pipeline.participant.provenance import detail_from_record


@pytest.mark.parametrize("shown", [False, True])
def test_a_statement_is_read_from_its_record(shown: bool) -> None:
    record = {"ErrorSD": 12.5, "ExplainedShare": 0.8, "OtherContrast": shown}
    assert detail_from_record(record) == DetailStatement(12.5, 0.8, shown)


@pytest.mark.parametrize(
    "record",
    [
        None,
        "0.8",
        {},
        {"ErrorSD": 12.5},
        {"ErrorSD": 0, "ExplainedShare": 0.8},
        {"ErrorSD": float("nan"), "ExplainedShare": 0.8},
        {"ErrorSD": 12.5, "ExplainedShare": 1.2},
        {"ErrorSD": "much", "ExplainedShare": 0.8},
    ],
)
def test_what_is_no_statement_is_none(record: object) -> None:
    assert detail_from_record(record) is None
