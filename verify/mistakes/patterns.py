"""The shape of an error that no known mistake explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import refnet
from verify.arithmetic.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from verify.mistakes.evidence import Bools, Compared, Evidence, Floats, Values, converted, near
from verify.mistakes.variations import NETWORK
from verify.reports.record import Diagnosis

FEW_ULP = 4.0
"""How far off a result may be that was computed in a format, in units in its last place: an elementary
function, rounded between two operations."""


TYPICAL = 64.0
"""An error is rarely smaller than this part of an ulp: of uniform ones, one in 32."""


def pattern(op: str, evidence: Sequence[Evidence], keeps: str) -> tuple[Diagnosis, ...]:
    """What all elements that are wrong have in common, else a relation of what came back to what was due, the
    contract that all results keep, or the precision that has errors of this size."""
    compared = [c for e in evidence for c in e.compared()]
    for name, summary, holds in _KINDS:
        if all((holds(c) | ~c.wrong).all() for c in compared):
            return (Diagnosis(name, summary),)
    if all(not c.got.any() for c in compared):
        return (Diagnosis("zero", "the result is 0 everywhere"),)
    for describe, factor in _FACTORS:
        tells = any(factor(e) != 1.0 for e in evidence)  # the mean of one example is its sum
        if tells and all(_is_multiple(c, factor(e)) for e in evidence for c in e.compared()):
            return (Diagnosis(describe, f"the result is the right one times {describe}"),)
    constant = _constant_factor(compared)
    if constant is not None:
        return (Diagnosis(constant, f"the result is the right one times {constant}"),)
    if keeps:
        summary = f"no error is larger than that of a computation which promises {keeps}"
        return (Diagnosis("another-contract", summary),)
    for low in (FLOAT32, FLOAT16, BFLOAT16):
        if _is_of_the_size_of(low, op, evidence):
            summary = f"errors of the size of {low.name}: computed in lower precision"
            return (Diagnosis(f"precision-of-{low.name}", summary),)
    if any((c.wrong & _not_finite(c)).any() for c in compared):
        summary = "a NaN or an infinity where the answer is a number, and wrong numbers elsewhere"
        return (Diagnosis("not-finite", summary),)
    return ()


# ----------------------------------------------------------------------------------- what one element shows


def _not_finite(c: Compared) -> Bools:
    return np.asarray(~np.isfinite(c.got) & np.isfinite(c.due))


def _finite_for_infinite(c: Compared) -> Bools:
    return np.asarray(np.isfinite(c.got) & np.isinf(c.due))


def _number_for_nan(c: Compared) -> Bools:
    return np.asarray(~np.isnan(c.got) & np.isnan(c.due))


def _flushed(c: Compared) -> Bools:
    return np.asarray((c.got == 0) & (c.due != 0) & (np.abs(c.due) < c.fmt.smallest_normal))


_KINDS: tuple[tuple[str, str, Callable[[Compared], Bools]], ...] = (
    ("not-finite", "a NaN or an infinity where the answer is a number", _not_finite),
    (
        "finite-for-infinite",
        "a number where the answer is infinite, as of a logarithm that is clipped or has a constant added",
        _finite_for_infinite,
    ),
    ("number-for-nan", "a number where the answer is NaN", _number_for_nan),
)

FLUSHED = Diagnosis("flushed-to-zero", "0 where the answer is below the smallest normal number")


def only_flushed(evidence: Sequence[Evidence]) -> bool:
    """Whether all that is wrong is 0 where a subnormal number is due, which many a mistake makes as well."""
    return all((_flushed(c) | ~c.wrong).all() for e in evidence for c in e.compared())


# --------------------------------------------------------------------------------------------- the factors


def _is_multiple(c: Compared, factor: float, uncertainty: float = 0.0) -> bool:
    with np.errstate(all="ignore"):
        due = factor * c.due
        slack = uncertainty * np.where(np.isfinite(due), np.abs(due), 0.0)
        return bool(near(c.got, due, abs(factor) * c.bound, c.fmt, slack).all())


def _constant_factor(compared: Sequence[Compared]) -> str | None:
    """The quotient of the largest elements, if it is that of all others: of one other at least."""
    largest, size, others = None, 0.0, -1
    for c in compared:
        sized = np.where(np.isfinite(c.due) & np.isfinite(c.got) & np.isfinite(c.bound), np.abs(c.due), 0.0)
        others += int((sized > c.bound).sum())
        if sized.size and sized.max() > size:
            at = np.unravel_index(int(sized.argmax()), sized.shape)
            size, largest = float(sized[at]), (float(c.got[at]), float(c.due[at]), float(c.bound[at]))
    if largest is None or others < 1:
        return None
    got, due, bound = largest
    factor, uncertainty = got / due, bound / abs(due) + compared[0].fmt.unit_roundoff
    if factor == 0 or not all(_is_multiple(c, factor, 2.0 * uncertainty) for c in compared):
        return None
    text = f"{factor:.6g}"
    return None if text == "1" else text  # an error in a few last places is no factor


def _examples(evidence: Evidence) -> int:
    first = _first_array(evidence)
    return max(len(first) if first.ndim else 1, 1)


def _entries(evidence: Evidence) -> int:
    return max(_first_array(evidence).size, 1)


def _first_array(evidence: Evidence) -> Values:
    """The examples: of a network they come after its layers, which are a list."""
    inputs: tuple[Any, ...] = evidence.example.inputs
    return next(x for x in inputs if isinstance(x, np.ndarray))


_FACTORS: tuple[tuple[str, Callable[[Evidence], float]], ...] = (
    ("-1 (the sign)", lambda e: -1.0),
    ("1/2", lambda e: 0.5),
    ("2", lambda e: 2.0),
    ("the number of examples (mean and sum mixed up)", lambda e: float(_examples(e))),
    ("one over the number of examples (sum and mean mixed up)", lambda e: 1.0 / _examples(e)),
    ("the number of entries", lambda e: float(_entries(e))),
    ("one over the number of entries", lambda e: 1.0 / _entries(e)),
)


# ------------------------------------------------------------------------------------------- the precision


def _is_of_the_size_of(low: Format, op: str, evidence: Sequence[Evidence]) -> bool:
    """Whether no error is larger than a less precise format explains, and most are as large as it makes them.

    Only where that format has normal numbers its errors are known: below, a clipped result is off as little.
    """
    typical = normal = 0
    for e in evidence:
        if e.format not in (FLOAT32, FLOAT64) or low.precision >= e.format.precision:
            return False  # some last places of float16 are one of bfloat16
        for c, inherited in zip(e.compared(), _inherited(low, op, e), strict=True):
            with np.errstate(all="ignore"):
                error = np.abs(c.got - c.due)
                moved = np.where(np.isfinite(inherited), inherited, 0.0)
                expected = 2.0 * low.unit_roundoff * np.where(np.isfinite(c.due), np.abs(c.due), 0.0) + moved
                granted = FEW_ULP * (expected + low.smallest_subnormal) + c.bound
                vanishes = (c.got == 0) & (np.abs(c.due) < low.smallest_normal)  # 1 / what overflows
                overflows = ~np.isfinite(c.got) & ((np.abs(c.due) > low.largest) | ~np.isfinite(inherited))
                if not ((error <= granted) | vanishes | overflows | ~c.wrong).all():
                    return False
                seen = c.wrong & (np.abs(c.due) >= low.smallest_normal) & np.isfinite(error)
                normal += int(seen.sum())
                typical += int((seen & (error >= expected / TYPICAL)).sum())
    return 0 < normal <= 2 * typical


def _inherited(low: Format, op: str, evidence: Evidence) -> Iterator[Floats]:
    """What the right results move by when the arguments are stored in the format."""
    right: Any = refnet.OPS.get(op) or (getattr(refnet, op) if op in NETWORK else None)
    if right is not None and evidence.aspect == "vjp":
        right = right.vjp

    def stored(*arguments: Any, **settings: Any) -> Any:
        return right(*converted(converted(arguments, low), evidence.format), **settings)

    moved = next(evidence.runs(partial(_itself, stored)), None) if right is not None else None
    for k, truth in enumerate(evidence.truths):
        due = truth.nearest.astype(np.float64)
        with np.errstate(all="ignore"):
            yield np.abs(moved[0][k].astype(np.float64) - due) if moved else np.zeros(due.shape)


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
