"""Reports: pages that open from disk, with the figures they show beside them."""

from .citation import write_citation
from .content import FitHistory, ParticipantReport, ReportedContrast, ReportedScan, ScanFit
from .participant import write_participant_report

__all__ = [
    "FitHistory",
    "ParticipantReport",
    "ReportedContrast",
    "ReportedScan",
    "ScanFit",
    "write_citation",
    "write_participant_report",
]
