"""The judge: one array against its certified truth, element by element, with the derived bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import ErrorBound
from verify.arithmetic.formats import Format, Truth, error_in_ulp, ulp
from verify.reports.record import Verdict

CORRECT_ROUNDING = 0.5
"""The error in ulp that no result can be asked to be below."""

SLACK = 1.0 + 2.0**-30
"""The bounds are themselves computed in float64, by some hundred operations at most."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one array; `ratio` and `ulp` belong to the element at `index`, the worst one."""

    verdict: Verdict
    ratio: float
    ulp: float
    index: tuple[int, ...]
    failing: int
    elements: int
    bound: float


def judge(got: npt.NDArray[Any], truth: Truth, bound: ErrorBound, fmt: Format) -> Judgement:
    """Fail beyond the deterministic bound, suspect beyond the statistical one, else pass.

    An element whose bound is not finite is undecided, unless it is exactly right; then the verdict on the
    array is inconclusive, if nothing else is wrong with it.
    """
    if not got.size:
        return Judgement(Verdict.PASS, 0.0, 0.0, (), 0, 0, 0.0)
    with np.errstate(all="ignore"):
        error = np.asarray(error_in_ulp(got, truth, fmt), dtype=np.float64)
        unit = np.asarray(ulp(truth.nearest, fmt), dtype=np.float64)
        hard = np.maximum(bound.deterministic / unit * SLACK, CORRECT_ROUNDING)
        soft = np.maximum(bound.statistical / unit * SLACK, CORRECT_ROUNDING)
        undecided = ~np.isfinite(hard) & ~(error <= CORRECT_ROUNDING)
        hard = np.where(np.isfinite(hard), hard, np.inf)
        failing = ~(error <= hard) | (~np.isfinite(error) & ~undecided)
        ratio = np.where(np.isfinite(error), error / np.where(np.isfinite(hard), hard, 1.0), np.inf)
        ratio = np.where(undecided & ~failing, 0.0, ratio)
        suspect = ~failing & ~undecided & ~(error <= soft)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    if failing.any():
        verdict = Verdict.FAIL
    elif suspect.any():
        verdict = Verdict.SUSPECT
    else:
        verdict = Verdict.INCONCLUSIVE if undecided.any() else Verdict.PASS
    return Judgement(
        verdict,
        float(ratio[index]),
        float(error[index]),
        index,
        int(failing.sum()),
        got.size,
        float(np.broadcast_to(bound.deterministic, got.shape)[index]),
    )
