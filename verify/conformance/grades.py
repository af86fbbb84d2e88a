"""What a function is worth beyond its verdict: how accurate its results are, and which promise they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from verify.arithmetic.contracts import DEFAULTS, Contract
from verify.arithmetic.errors import Errors
from verify.arithmetic.formats import FORMATS, Format
from verify.conformance.contract import Values
from verify.conformance.judge import judge
from verify.conformance.trial import Attempt, Expected, Task, Trial, refused_ranks
from verify.reports.record import Accuracy, Verdict

Expectation = Callable[[Contract, Trial], Sequence[Expected]]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Conditions = Callable[[Trial], Sequence[Values]]


BEYOND_LUCK = 32
"""Results that a computation in a narrower format seldom rounds right all at once: if each is with a
probability of 2 in 3, all are once in 400,000 times."""


def strictest(
    attempts: Sequence[Attempt], task: Task, expect: Expectation, ladder: Sequence[Contract]
) -> Contract | None:
    """The first contract of a ladder that all results keep, as far as it is known what is due; None if none
    is kept, or there is nothing to tell it by, or there are no results where there must be some.

    More than the default is claimed only where it shows: some case has to tell it from the next contract.
    """
    known = [each for each in attempts if each.call is not None and expect(ladder[-1], each.trial)]
    refused = refused_ranks(attempts)
    broken = any(each.violation and each.trial.rank not in refused for each in attempts)
    if broken or not known:
        return None
    kept = (k for k, rung in enumerate(ladder) if all(_keeps(each, task, expect, rung) for each in known))
    first = next(kept, None)
    if first is None:
        return None
    default = ladder.index(DEFAULTS[ladder[0].output.name])
    shown = (k for k in range(first, default) if _is_told(known, expect, ladder[k], ladder[k + 1]))
    return ladder[next(shown, max(first, default))]


def _is_told(known: Sequence[Attempt], expect: Expectation, stricter: Contract, looser: Contract) -> bool:
    """Whether results that keep the stricter of two contracts could not as well come of the looser one: there
    are subnormal numbers that it would have for 0, or so many results that are as luck does not have them."""
    flushing = stricter.flush != looser.flush
    needed = 1 if flushing else BEYOND_LUCK
    for each in known:
        for at_most, granted in zip(expect(stricter, each.trial), expect(looser, each.trial), strict=True):
            needed -= int(_telling(at_most, granted, flushing=flushing).sum())
            if needed <= 0:
                return True
    return False


def _telling(at_most: Expected, granted: Expected, *, flushing: bool) -> Bools:
    """Where the looser of two contracts grants a number that the stricter does not: where they differ in what
    is flushed, 0 in the place of a subnormal number, of which the stricter does not grant the half."""
    if not flushing:
        return np.asarray(_farthest(at_most) < _farthest(granted))
    fmt = FORMATS[granted.truth.nearest.dtype.name]
    size = np.abs(granted.truth.nearest.astype(np.float64))
    flushed = (size < fmt.smallest_normal) & (granted.bound.narrower >= size)
    return np.asarray(flushed & (at_most.bound.narrower < 0.5 * size))


def _farthest(due: Expected) -> Floats:
    """The error, in ulp, of the number within the bound that is farthest from the truth."""
    fmt = FORMATS[due.truth.nearest.dtype.name]
    rest = np.abs(due.truth.fraction)
    with np.errstate(all="ignore"):
        granted = due.bound.narrower / due.truth.ulp(fmt)
        beyond, before = np.floor(granted + rest) - rest, np.floor(granted - rest) + rest
    return np.asarray(np.fmax(np.fmax(beyond, before), rest))


def _keeps(tried: Attempt, task: Task, expect: Expectation, contract: Contract) -> bool:
    if tried.call is None:
        return True
    due = task.allow(tried.trial, expect(contract, tried.trial), tried.call.results)
    verdicts = {
        judge(got, expected.truth, expected.bound, contract.output).verdict
        for got, expected in zip(tried.call.results, due, strict=True)
    }
    return not verdicts & {Verdict.FAIL, Verdict.SUSPECT}


def accuracy(
    attempts: Sequence[Attempt],
    task: Task,
    due: Callable[[Trial], Sequence[Expected]],
    conditions: Conditions,
    fmt: Format,
) -> Accuracy | None:
    """The class of the least accurate of all results that are within their bounds; None if there are none.

    `conditions` are the errors that a relative perturbation of the inputs by the unit roundoff makes, with
    the rounding of the result.
    """
    found: Accuracy | None = None
    for tried in attempts:
        expectations = due(tried.trial)
        if tried.call is None or not expectations:
            continue
        allowed = task.allow(tried.trial, expectations, tried.call.results)
        each = _class_of(tried.trial, tried.call.results, allowed, conditions, fmt)
        found = each if found is None else max(found, each, key=list(Accuracy).index)
        if found is Accuracy.BOUNDED:
            break
    return found


def _class_of(
    trial: Trial,
    results: Sequence[Values],
    due: Sequence[Expected],
    conditions: Conditions,
    fmt: Format,
) -> Accuracy:
    errors = [Errors.of(got, e.truth, fmt) for got, e in zip(results, due, strict=True)]
    if all(error.rounded.all() for error in errors):
        return Accuracy.CORRECTLY_ROUNDED
    permitted = zip(errors, conditions(trial), strict=True)
    if all(error.within(granted).all() for error, granted in permitted):
        return Accuracy.CONDITIONED
    return Accuracy.BOUNDED
