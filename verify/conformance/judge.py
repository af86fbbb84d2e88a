"""The judge: one array against its certified truth, element by element, with the derived bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import SLACK, ErrorBound
from verify.arithmetic.certified import SHARP
from verify.arithmetic.formats import Format, Truth, error_in_ulp, ulp_exponents
from verify.reports.record import Verdict

CORRECT_ROUNDING = 0.5
"""The error in ulp that no result can be asked to be below."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one array; `ratio`, `ulp` and `bound` are those of the worst element, at `index`."""

    verdict: Verdict
    ratio: float
    ulp: float
    index: tuple[int, ...]
    concerned: int
    """How many elements have the verdict of the array."""
    elements: int
    bound: float


def judge(got: npt.NDArray[Any], truth: Truth, bound: ErrorBound, fmt: Format) -> Judgement:
    """Fail beyond the deterministic bound, suspect beyond the statistical one, else pass.

    What is correctly rounded passes whatever the bound; to the bound of anything else the error of the truth
    itself is added. Errors are compared in absolute terms, because bound / ulp overflows where the ulp is the
    smallest number of float64. Where the deterministic bound is not finite nothing fails, and where neither
    is the element is undecided: the array is inconclusive then, if nothing else is wrong with it. A NaN or an
    infinity in the place of a number is infinitely far off.
    """
    if not got.size:
        return Judgement(Verdict.PASS, 0.0, 0.0, (), 0, 0, 0.0)
    with np.errstate(all="ignore"):
        ulp = np.ldexp(1.0, ulp_exponents(truth, fmt))
        in_ulp = error_in_ulp(got, truth, fmt)
        countable = np.isfinite(in_ulp)  # 1 is more than 1e308 ulp of 5e-324
        apart = np.abs(got.astype(np.float64) - truth.nearest.astype(np.float64))
        error = np.where(countable, in_ulp * ulp, apart)
        hard = np.broadcast_to(bound.deterministic, got.shape)
        soft = np.broadcast_to(bound.narrower, got.shape)
        own = SHARP * ulp
        correct = in_ulp <= CORRECT_ROUNDING
        proven, known = np.isfinite(hard), np.isfinite(soft)
        granted = correct | (error <= hard * SLACK + own) | ~proven
        likely = correct | (error <= soft * SLACK + own) & known
        widest = np.where(proven, hard, soft)
        allowance = np.maximum(np.where(known, widest / ulp, 0.0), CORRECT_ROUNDING)
        ratio = np.where(countable, in_ulp / allowance, error / widest)
    ratio = np.where(known | correct, np.where(np.isnan(ratio), np.inf, ratio), 0.0)
    of_verdict = {
        Verdict.FAIL: ~granted,
        Verdict.SUSPECT: granted & ~likely & known,
        Verdict.INCONCLUSIVE: ~likely & ~known,
        Verdict.PASS: likely,
    }
    verdict, concerned = next((v, elements) for v, elements in of_verdict.items() if elements.any())
    worst = int(np.argmax(np.where(concerned, ratio, -1.0)))
    index = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    return Judgement(
        verdict,
        float(ratio[index]),
        float(in_ulp[index]),
        index,
        int(concerned.sum()),
        got.size,
        float(widest[index]),
    )
