"""Foreign implementations: found, called with care, and judged against the reference."""

from verify.conformance.assertions import assert_conforms
from verify.conformance.candidate import TargetError, UsageError
from verify.conformance.check import check
from verify.conformance.sweeps import SweepError, SweepReport, sweep

__all__ = [
    "SweepError",
    "SweepReport",
    "TargetError",
    "UsageError",
    "assert_conforms",
    "check",
    "sweep",
]
