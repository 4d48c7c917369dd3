"""Pages of participants, which take longer than a small fit, for tests that do not look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bids_unires.config import RunConfig
from bids_unires.pipeline.participant import reporting, workflow
from bids_unires.pipeline.participant.reconstructed import ReconstructedParticipant
from bids_unires.report import page_path


@contextmanager
def without_pages() -> Iterator[None]:
    """Let the participant level write a page of one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "write_report", _one_line)
        yield


@contextmanager
def with_pages() -> Iterator[None]:
    """Let it write its pages, also within `without_pages`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "write_report", reporting.write_report)
        yield


def _one_line(
    participant: ReconstructedParticipant, config: RunConfig, warnings: Sequence[str]
) -> tuple[Path, ...]:
    path = page_path(config.output_dir, participant.plan.label)
    path.write_text(f"The page of {participant.plan.label}.\n", "utf-8")
    return (path,)
