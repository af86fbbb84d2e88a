"""Foreign implementations: found, called with care, and judged against the reference."""

from verify.conformance.assertions import assert_conforms
from verify.conformance.candidate import TargetError, UsageError
from verify.conformance.check import check

__all__ = ["TargetError", "UsageError", "assert_conforms", "check"]
