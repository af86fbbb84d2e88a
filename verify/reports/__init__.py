"""The record of a check, and the forms in which it is read: by people at a terminal, and by programs."""

from verify.reports.console import print_report
from verify.reports.json_report import from_json, to_json, write_json
from verify.reports.record import Diagnosis, Outcome, Report, Verdict, Worst

__all__ = [
    "Diagnosis",
    "Outcome",
    "Report",
    "Verdict",
    "Worst",
    "from_json",
    "print_report",
    "to_json",
    "write_json",
]
