"""One block of a sweep: consecutive numbers of a format, what a candidate makes of them, and its tally."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from refnet import OPS
from verify.arithmetic.bounds import SLACK
from verify.arithmetic.errors import CORRECT_ROUNDING
from verify.arithmetic.formats import FLOAT32, Format, Truth, error_in_ulp
from verify.arithmetic.interpolants import Run, numbers, runs
from verify.conformance.contract import ContractViolation, invoke, results_of
from verify.conformance.sweeps.question import Bools, CandidateFails, Floats, Question, Values
from verify.conformance.sweeps.tables import table
from verify.conformance.sweeps.tally import Offender, Tally, classes, worst
from verify.laws.subgradients import on_kink

PIECE = 2**18
"""Numbers that are handed to a candidate at once."""

SLICE = 2**15
"""Numbers that are looked at at once: their float64 fit a cache."""

SAMPLES = 5
"""Numbers of a run whose bounds are computed: it is so short that all others are between these."""

EITHER_SIDE = 2.0
"""How far an error must be from the sampled bounds to be judged by them: all others have their own."""

MOST_CERTIFIED = 2**17
"""Undecided numbers of a block that are certified one by one; where there are more, they lie half-way one and
all, as x / 2 does beside a gelu of subnormal numbers."""


class Suspects(NamedTuple):
    """What is not surely rounded right: inputs, results, distances from the exact results and what these are
    known to within, the ulps of the exact results; and whether the sampled bounds settle that the distance is
    granted (1), that it is not (-1), or neither (0)."""

    x: Values
    got: Values
    distance: Floats
    margin: Floats
    unit: Floats
    granted: Values

    def at(self, chosen: Values) -> Suspects:
        return Suspects(*(array[chosen] for array in self))


def examine(question: Question, function: Callable[..., object], first: int, count: int) -> Tally:
    """The tally of the numbers with bit patterns first, ..., first + count - 1, all of one sign.

    Raises:
        CandidateFails: it raises, or returns what cannot be judged.
    """
    fmt = question.fmt
    call = partial(_called, question, question.caller(function))
    finite = _finite_of(first, count, fmt)
    tally = _not_finite(question, call, first + finite, count - finite)
    if not finite:
        return tally
    scan = _against_table if fmt.precision < FLOAT32.precision else _against_runs
    found = Suspects(*map(np.concatenate, zip(*scan(question, call, first, finite), strict=True)))
    return tally + _tallied(question, found, finite)


def _finite_of(first: int, count: int, fmt: Format) -> int:
    """How many numbers from the first on are finite: the infinity of each sign comes after all of them."""
    within: int = first % 2 ** (8 * fmt.dtype.itemsize - 1)
    infinity = int(np.array([np.inf], fmt.dtype).view(f"u{fmt.dtype.itemsize}").item())
    return max(0, min(count, infinity - within))


def _called(question: Question, call: Callable[[Values], object], x: Values) -> Values:
    """The results, in memory of their own: a candidate may use its buffer again.

    Raises:
        CandidateFails: there are none; with the number that alone is enough for that, if there is one.
    """
    try:
        return _results(question, call, x)
    except ContractViolation as violation:
        alone = _alone(question, call, x, str(violation))
        anywhere = _violation(question, call, np.ones(1, x.dtype))
        at = f", at x = {_hex(alone[0])}" if alone.size == 1 and not anywhere else ""
        raise CandidateFails(f"{question.function}: {violation}{at}") from None


def _results(question: Question, call: Callable[[Values], object], x: Values) -> Values:
    (y,) = results_of(invoke(call, (x.copy(),), {}), (x.shape,), question.fmt.dtype)
    return y.copy()


def _alone(question: Question, call: Callable[[Values], object], x: Values, violation: str) -> Values:
    """The fewest numbers, halved again and again, that go wrong in the same way."""
    for half in (x[: x.size // 2], x[x.size // 2 :]) if x.size > 1 else ():
        if _violation(question, call, half) == violation:
            return _alone(question, call, half, violation)
    return x


def _violation(question: Question, call: Callable[[Values], object], x: Values) -> str:
    try:
        _results(question, call, x)
    except ContractViolation as violation:
        return str(violation)
    return ""


# ---------------------------------------------------------------------------------- what is surely right


def _against_table(
    question: Question, call: Callable[[Values], Values], first: int, count: int
) -> Iterator[Suspects]:
    """Beside the table of certified results; the distances are exact."""
    truth, fmt = table(question), question.fmt
    part = slice(first, first + count)
    due = Truth(truth.nearest[part], truth.fraction[part])
    x = numbers(first, count, fmt)
    got = call(x)
    errors, unit = error_in_ulp(got, due, fmt), due.ulp(fmt)
    unsettled = np.zeros(count, np.int8)
    every = Suspects(x, got, errors * unit, np.zeros(count), unit, unsettled)
    yield every.at(~(errors <= CORRECT_ROUNDING))


def _against_runs(
    question: Question, call: Callable[[Values], Values], first: int, count: int
) -> Iterator[Suspects]:
    """Beside polynomials through certified values, where they leave no doubt."""
    fmt, end = question.fmt, first + count
    pieces = [(start, min(PIECE, end - start)) for start in range(first, end, PIECE)]
    found = runs(question.certified, pieces, fmt)
    bounds = _sampled_bounds(question, found)
    start, got = first, np.empty(0, fmt.dtype)
    for run, granted in zip(found, bounds, strict=True):
        if run.first >= start + got.size:
            start = run.first
            got = call(numbers(start, min(PIECE, end - start), fmt))
        for begin in range(run.first, run.first + run.count, SLICE):
            size = min(SLICE, run.first + run.count - begin)
            part = got[begin - start : begin - start + size]
            yield _compared(run, numbers(begin, size, fmt), part, granted, fmt)


def _sampled_bounds(question: Question, found: Sequence[Run]) -> Floats:
    """The smallest and the largest of a few bounds of each run."""
    ends = np.array([(run.first, run.first + run.count - 1) for run in found], dtype=np.int64)
    at = np.rint(ends[:, :1] + np.ptp(ends, axis=1)[:, None] * np.linspace(0.0, 1.0, SAMPLES))
    x = at.astype(np.uint64).astype(f"u{question.fmt.dtype.itemsize}").view(question.fmt.dtype)
    bounds = question.bounds(x)
    return np.stack([bounds.min(axis=1), bounds.max(axis=1)], axis=1)


def _compared(run: Run, x: Values, got: Values, granted: Floats, fmt: Format) -> Suspects:
    """What of a slice is not surely rounded right."""
    if not run.coefficients:
        unknown = np.full(x.shape, np.inf)
        return Suspects(x, got, unknown, unknown, unknown, np.zeros(x.shape, np.int8))
    due = _at_most_the_next(run(x.astype(np.float64)), fmt)
    unit = _ulp(due, fmt)
    distance = np.abs(_at_most_the_next(got.astype(np.float64), fmt) - due)
    off = np.flatnonzero(~(distance <= CORRECT_ROUNDING * unit - run.margin))
    low, high = granted
    settled = np.zeros(off.shape, np.int8)
    if np.isfinite(high):
        settled += distance[off] <= low / EITHER_SIDE
        settled -= distance[off] > high * EITHER_SIDE
    return Suspects(x[off], got[off], distance[off], np.full(off.shape, run.margin), unit[off], settled)


def _ulp(due: Floats, fmt: Format) -> Floats:
    """ulp(r) of numbers in float64, from their bits."""
    exponent = (due.view(np.int64) >> 52) & 0x7FF
    biased = np.clip(exponent, fmt.emin + 1023, fmt.emax + 1023) - (fmt.precision - 1)
    return np.asarray((biased << 52).view(np.float64))


def _at_most_the_next(values: Floats, fmt: Format) -> Floats:
    """With 2^(emax + 1) for what is larger, infinity among it."""
    limit = np.ldexp(1.0, fmt.emax + 1)
    return np.asarray(np.clip(values, -limit, limit))


# ---------------------------------------------------------------------------------------- what is not


def _tallied(question: Question, suspects: Suspects, finite: int) -> Tally:
    """The counts of a block of so many finite numbers, of which all but the suspects are rounded right."""
    lost = np.isnan(suspects.got)
    with np.errstate(invalid="ignore"):  # where there is no polynomial both are infinite
        least = suspects.distance - suspects.margin
    undecided = ~lost & ~(least > CORRECT_ROUNDING * suspects.unit)
    unknown = undecided & np.isinf(suspects.margin)
    halfway = undecided & ~unknown
    with np.errstate(all="ignore"):
        errors = np.where(lost, np.nan, suspects.distance / suspects.unit)
    certain = undecided
    if halfway.sum() > MOST_CERTIFIED:
        certain = unknown
        errors[halfway], halfway[halfway] = _beside_the_middle(question, suspects.at(halfway))
    else:
        halfway = np.zeros_like(undecided)
    units = suspects.unit.copy()
    if certain.any():
        truth = question.certified(suspects.x[certain], question.fmt)
        errors[certain] = error_in_ulp(suspects.got[certain], truth, question.fmt)
        units[certain] = truth.ulp(question.fmt)
    off = ~(errors <= CORRECT_ROUNDING)
    counts = np.array(classes(errors))
    counts[0] += finite - errors.size
    tally = Tally(
        inputs=finite,
        certified=int(certain.sum()),
        halfway=int(halfway.sum()),
        errors=tuple(map(int, counts)),
    )
    known = suspects._replace(distance=errors * units, unit=units)
    return tally + _explained(question, known.at(off)) if off.any() else tally


def _beside_the_middle(question: Question, near: Suspects) -> tuple[Floats, Bools]:
    """The errors of results that are all but half an ulp off, and of which of them it is not known whether
    they are more than that.

    Of so many, the middles between two numbers lie on a line, as those of subnormal x / 2 do; the function is
    on one side of it, from binade to binade.
    """
    errors, unknown = np.full(near.x.shape, CORRECT_ROUNDING), np.ones(near.x.shape, dtype=bool)
    x, got = near.x.astype(np.float64), near.got.astype(np.float64)
    largest = np.abs(x).argmax()
    slope = float(2.0 ** np.rint(np.log2(np.abs(got[largest] / x[largest]))))
    middles = slope * x
    if not (np.abs(got - middles) == 0.5 * near.unit).all():
        return errors, unknown
    binades = np.frexp(x)[1]
    for binade in np.unique(binades):
        here = np.flatnonzero(binades == binade)
        ends = here[[np.abs(x[here]).argmin(), np.abs(x[here]).argmax()]]
        side = question.side_of_line(float(x[ends[0]]), float(x[ends[1]]), slope)
        if side:
            unknown[here] = False
            errors[here] = np.where(side * (got[here] - middles[here]) > 0, 0.5, np.nextafter(0.5, 1.0))
    return errors, unknown


def _explained(question: Question, off: Suspects) -> Tally:
    """Of what is not rounded right: the special classes, what is beyond its bound, and the worst.

    Where the exact result overflows no bound is finite; a result that lacks more than half of its digits is
    beyond all the same.
    """
    got = off.got.astype(np.float64)
    lost, infinite = np.isnan(got), np.isinf(got)
    beyond = (off.granted < 0) | lost
    unsure = (off.granted == 0) & ~lost
    if unsure.any():
        bounds, half = question.bounds(off.x[unsure]), 2.0 ** (question.fmt.precision // 2)
        granted = np.where(np.isfinite(bounds), bounds * SLACK, half * off.unit[unsure])
        beyond[unsure] = ~(off.distance[unsure] <= granted)
    if question.derivative and beyond.any():
        beyond[beyond] = ~_is_subgradient(question, off.x[beyond], off.got[beyond])
    tiny = off.distance < question.fmt.smallest_normal
    return Tally(
        beyond=int(beyond.sum()),
        flushed=int(((got == 0.0) & tiny).sum()),
        overflowed=int(infinite.sum()),
        saturated=int((np.abs(got) == question.fmt.largest).sum()),
        nan=int(lost.sum()),
        offenders=_offenders(question, off, beyond),
    )


def _is_subgradient(question: Question, x: Values, got: Values) -> Bools:
    """Whether a derivative at a kink is one that is accepted there, to within the rounding of the slope. Of a
    convention that is made of pieces the kinks are not stated: it may have the slope of a number beside."""
    allowed = np.zeros(x.shape, dtype=bool)
    two = 2.0 * question.fmt.unit_roundoff
    for kink in question.spec.kinks:
        slopes = [s for s in kink.allowed_under(question.keywords) if isinstance(s, float | int)]
        near = [np.abs(got.astype(np.float64) - slope) <= two * abs(slope) for slope in slopes]
        allowed |= on_kink(kink, [x], question.contract) & np.any(near, axis=0)
    if question.variant is not None and question.spec.kinks:
        for end in (-np.inf, np.inf):
            beside = np.nextafter(x, x.dtype.type(end))
            truth = question.certified(beside, question.fmt)
            allowed |= error_in_ulp(got, truth, question.fmt) <= 1.0
    return allowed


def _offenders(question: Question, off: Suspects, beyond: Bools) -> tuple[Offender, ...]:
    """The worst with their exact errors: of what is beyond its bound, or of all if nothing is."""
    off = off.at(beyond) if beyond.any() else off
    with np.errstate(all="ignore"):
        errors = off.distance / off.unit
    errors = np.where(np.isnan(errors), np.inf, errors)
    normal = off.unit > question.fmt.smallest_subnormal
    chosen = off.at(np.union1d(_largest(errors), _largest(np.where(normal, errors, 0.0))))
    truth, bounds = question.certified(chosen.x, question.fmt), question.bounds(chosen.x)
    exact = error_in_ulp(chosen.got, truth, question.fmt)
    with np.errstate(all="ignore"):
        ratios = exact * truth.ulp(question.fmt) / bounds
    ratios = np.where(np.isfinite(bounds) & ~np.isnan(ratios), ratios, np.inf)
    normals = np.abs(truth.nearest.astype(np.float64)) >= question.fmt.smallest_normal
    shown = zip(chosen.x, truth.nearest, chosen.got, exact, ratios, bounds, normals, strict=True)
    return worst(
        Offender(_hex(x), _hex(due), _hex(y), float(e), float(r), float(b), bool(n))
        for x, due, y, e, r, b, n in shown
    )


def _largest(errors: Floats) -> Values:
    """The places of the largest."""
    return np.argpartition(errors, -KEPT)[-KEPT:] if errors.size > KEPT else np.arange(errors.size)


KEPT = 16
"""Candidates for the worst of a block."""


def _hex(value: object) -> str:
    return float(np.asarray(value).astype(np.float64)).hex()


# ------------------------------------------------------------------------------------- infinities and NaN


def _not_finite(question: Question, call: Callable[[Values], Values], first: int, count: int) -> Tally:
    """An infinity, where the limit is due, and NaN, which must stay NaN; of the derivatives there, which may
    be constant or have no limit, nothing is asked, nor of anything if special values are not promised. The
    conventions of operators of one number have the limits of the reference."""
    if not count:
        return Tally()
    x = numbers(first, count, question.fmt)
    got = call(x)
    with np.errstate(all="ignore"):  # ml_dtypes raises the flag for a NaN that signals
        nan, lost = np.isnan(x), np.isnan(got)
        due = np.asarray(OPS[question.op](x[~nan], **question.keywords))
    asked = question.contract.specials and not question.derivative
    wrong = ~((got[~nan] == due) | (lost[~nan] & np.isnan(due)))
    told = tuple((_hex(a), _hex(b)) for a, b in zip(x[~nan], got[~nan], strict=True))
    return Tally(
        nans=int(nan.sum()),
        nan_lost=int((nan & ~lost).sum()) if asked else 0,
        limits_lost=int(wrong.sum()) if asked else 0,
        infinities=told,
    )
