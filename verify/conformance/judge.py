"""The judge: one array against its certified truth, element by element, with the derived bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import ErrorBound
from verify.arithmetic.errors import CORRECT_ROUNDING, Errors
from verify.arithmetic.formats import Format, Truth
from verify.reports.record import Verdict


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

    What is correctly rounded passes whatever the bound. Where the deterministic bound is not finite nothing
    fails, and where neither is the element is undecided: the array is inconclusive then, if nothing else is
    wrong with it.
    """
    if not got.size:
        return Judgement(Verdict.PASS, 0.0, 0.0, (), 0, 0, 0.0)
    errors = Errors.of(got, truth, fmt)
    correct = errors.rounded
    hard = np.broadcast_to(bound.deterministic, got.shape)
    soft = np.broadcast_to(bound.narrower, got.shape)
    proven, known = np.isfinite(hard), np.isfinite(soft)
    granted = errors.within(hard) | ~proven
    likely = correct | errors.within(soft) & known
    widest = np.where(proven, hard, soft)
    with np.errstate(all="ignore"):
        allowance = np.maximum(np.where(known, widest / errors.ulp, 0.0), CORRECT_ROUNDING)
        countable = np.isfinite(errors.in_ulp)
        ratio = np.where(countable, errors.in_ulp / allowance, errors.absolute / widest)
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
        float(errors.in_ulp[index]),
        index,
        int(concerned.sum()),
        got.size,
        float(widest[index]),
    )
