"""How far results are from the truth, and whether that is granted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import SLACK
from verify.arithmetic.certified import SHARP
from verify.arithmetic.formats import Floats, Format, Truth, Values, error_in_ulp

Bools = npt.NDArray[np.bool_]

CORRECT_ROUNDING = 0.5
"""The error in ulp that no result can be asked to be below."""


@dataclass(frozen=True, slots=True)
class Errors:
    """|y - r| of results y that should be r, elementwise.

    Errors are compared in absolute terms, because bound / ulp overflows where the ulp is the smallest number
    of float64. A NaN or an infinity in the place of a number is infinitely far off.
    """

    in_ulp: Floats
    absolute: Floats
    ulp: Floats
    """ulp(r)."""

    @classmethod
    def of(cls, got: Values, truth: Truth, fmt: Format) -> Errors:
        """Those of an array of the format."""
        in_ulp, ulp = error_in_ulp(got, truth, fmt), truth.ulp(fmt)
        with np.errstate(all="ignore"):
            apart = np.abs(got.astype(np.float64) - truth.nearest.astype(np.float64))
            # 1 is more than 1e308 ulp of 5e-324
            absolute = np.where(np.isfinite(in_ulp), in_ulp * ulp, apart)
        return cls(in_ulp, absolute, ulp)

    @property
    def rounded(self) -> Bools:
        """Where a result is correctly rounded."""
        return np.asarray(self.in_ulp <= CORRECT_ROUNDING)

    def within(self, bound: Floats) -> Bools:
        """Where a result is correctly rounded, or as near as a bound grants, to which the error of the truth
        itself is added."""
        with np.errstate(all="ignore"):
            near = self.absolute <= bound * SLACK + SHARP * self.ulp
        return np.asarray(self.rounded | near)
