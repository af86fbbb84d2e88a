"""From a failure to the mistake that explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import ErrorBound
from verify.arithmetic.formats import FORMATS, Truth, error_in_ulp, ulp
from verify.laws.examples import Example
from verify.laws.law import SLACK
from verify.mistakes.catalogue import MISTAKES
from verify.reports.record import Diagnosis

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A failing case: what came back, and what was due."""

    aspect: str
    example: Example
    got: tuple[Values, ...]
    truths: tuple[Truth, ...]
    bounds: tuple[ErrorBound, ...]


def diagnose(op: str, evidence: Sequence[Evidence]) -> tuple[Diagnosis, ...]:
    """The known mistakes that reproduce every failing case, else the shape of the error.

    Nothing is said of results that are right: a mistake often agrees with the right function.
    """
    evidence = [e for e in evidence if not _is_right(e)]
    if not evidence:
        return ()
    known = tuple(
        Diagnosis(mistake.name, mistake.summary)
        for mistake in MISTAKES
        if mistake.op == op and all(_reproduces(mistake.function(e.aspect), e) for e in evidence)
    )
    return known or _pattern(evidence)


def _is_right(evidence: Evidence) -> bool:
    """Whether all results are within their bounds."""
    for got, truth, bound in zip(evidence.got, evidence.truths, evidence.bounds, strict=True):
        fmt = FORMATS[truth.nearest.dtype.name]
        with np.errstate(all="ignore"):
            granted = np.maximum(bound.deterministic * SLACK / ulp(truth.nearest, fmt), 0.5)
        if not (error_in_ulp(np.asarray(got), truth, fmt) <= granted).all():
            return False
    return True


def _reproduces(function: Callable[..., Any] | None, evidence: Evidence) -> bool:
    """Whether the mistake gives what the candidate gave, within the rounding that was granted."""
    if function is None:
        return False
    example = evidence.example
    arguments = example.inputs if evidence.aspect == "value" else (example.dy, *example.inputs)
    try:
        with np.errstate(all="ignore"):
            results = _as_tuple(function(*_copied(arguments), **example.settings))
    except (ValueError, IndexError, TypeError):  # a mistake may not bear every shape
        return False
    if len(results) != len(evidence.got):
        return False
    return all(
        _near(np.asarray(mine, np.float64), np.asarray(got, np.float64), bound)
        for mine, got, bound in zip(results, evidence.got, evidence.bounds, strict=True)
    )


def _near(mine: Values, theirs: Values, bound: ErrorBound) -> bool:
    if mine.shape != theirs.shape:
        return False
    with np.errstate(all="ignore"):
        granted = 2.0 * np.where(np.isfinite(bound.deterministic), bound.deterministic, 0.0)
        near = np.abs(mine - theirs) <= granted
    return bool((near | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))).all())


def _copied(arguments: Any) -> Any:
    """Copies, however deep in lists: some mistakes write to their arguments."""
    if isinstance(arguments, list | tuple):
        return type(arguments)(_copied(item) for item in arguments)
    return arguments.copy() if isinstance(arguments, np.ndarray) else arguments


def _as_tuple(results: Any) -> tuple[Any, ...]:
    """One array, or the arrays of nested tuples and lists in order."""
    if not isinstance(results, tuple | list):
        return (results,)
    return tuple(leaf for item in results for leaf in _as_tuple(item))


def _pattern(evidence: Sequence[Evidence]) -> tuple[Diagnosis, ...]:
    """One factor between what came back and what was due, in every failing case."""
    if any(not np.isfinite(np.asarray(g, np.float64)).all() for e in evidence for g in e.got):
        return (Diagnosis("not-finite", "a NaN or an infinity where the answer is a number"),)
    if all(not np.asarray(g).any() for e in evidence for g in e.got):
        return (Diagnosis("zero", "the result is 0 everywhere"),)
    for describe, factor in _FACTORS:
        if all(_explained(e, factor(e)) for e in evidence):
            return (Diagnosis(describe, f"the result is the right one times {describe}"),)
    return ()


def _explained(evidence: Evidence, factor: float) -> bool:
    for got, truth, bound in zip(evidence.got, evidence.truths, evidence.bounds, strict=True):
        due = factor * np.asarray(truth.nearest, np.float64)
        with np.errstate(all="ignore"):
            granted = 2.0 * abs(factor) * bound.deterministic + np.spacing(np.abs(due))
            if not (np.abs(np.asarray(got, np.float64) - due) <= granted).all():
                return False
    return True


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
