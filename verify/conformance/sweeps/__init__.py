"""Every input of a format, or of a unary operator: nothing is drawn, nothing is left out."""

from verify.conformance.sweeps.question import CandidateFails, Question, SweepError, unary_operators
from verify.conformance.sweeps.run import sweep
from verify.conformance.sweeps.tally import Offender, SweepReport, Tally

__all__ = [
    "CandidateFails",
    "Offender",
    "Question",
    "SweepError",
    "SweepReport",
    "Tally",
    "sweep",
    "unary_operators",
]
