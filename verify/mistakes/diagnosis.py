"""From a failure to the mistake that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from verify.mistakes.catalogue import MISTAKES
from verify.mistakes.evidence import Compared, Evidence, Floats, Function, Values, granted, near
from verify.mistakes.mistake import Mistake
from verify.mistakes.patterns import FLUSHED, only_flushed, pattern
from verify.mistakes.variations import variations_of
from verify.reports.record import Diagnosis

__all__ = ["Evidence", "diagnose"]

DECISIVE = 4.0
"""How many times what is granted between two roundings of one result a mistake must be off somewhere."""


def diagnose(op: str, evidence: Sequence[Evidence]) -> tuple[Diagnosis, ...]:
    """The known mistakes that reproduce every failing case, else the shape of the error.

    A mistake that is right in all of these cases explains none: it often agrees with the right function, and
    so reproduces whatever is nearly right. One with a constant explains only what none without one does: a
    constant that is small enough changes nothing. Nothing is said of results that are right.
    """
    evidence = [e for e in evidence if any(c.wrong.any() for c in e.compared())]
    if not evidence:
        return ()
    if only_flushed(evidence):
        return (FLUSHED,)
    plain = [mistake for mistake in MISTAKES if mistake.op == op and not mistake.constants]
    families = [mistake for mistake in MISTAKES if mistake.op == op and mistake.constants]
    for known in (plain, families, variations_of(op)):
        named = tuple(d for mistake in known for d in _named(mistake, evidence))
        if named:
            return named
    return pattern(op, evidence)


def _named(mistake: Mistake, evidence: Sequence[Evidence]) -> Iterator[Diagnosis]:
    """The mistake with the first of its constants that explains everything."""
    aspects = {e.aspect for e in evidence}
    if any(mistake.function(aspect) is None for aspect in aspects):
        return
    for constant in mistake.constants or (None,):
        if _explains([partial(_made, mistake, e.aspect, constant) for e in evidence], evidence):
            summary = mistake.summary if constant is None else f"{mistake.summary} (epsilon = {constant:.3g})"
            yield Diagnosis(mistake.name, summary)
            return


def _made(mistake: Mistake, aspect: str, constant: float | None) -> Function:
    function = mistake.function(aspect)
    assert function is not None
    return function if constant is None else partial(function, epsilon=constant)


def _explains(makes: Sequence[Callable[[], Function]], evidence: Sequence[Evidence]) -> bool:
    """Whether all cases are reproduced, in one of them where the mistake is wrong as well."""
    told = False
    for make, e in zip(makes, evidence, strict=True):
        results = _reproduced(make, e)
        if results is None:
            return False
        told = told or any(map(_tells, e.compared(), e.compare(results)))
    return told


def _reproduced(make: Callable[[], Function], evidence: Evidence) -> tuple[Values, ...] | None:
    """The results of the mistake, if they are those of the candidate, each granted its rounding."""
    for results, moves in evidence.runs(make):
        both = list(zip(evidence.compared(), evidence.compare(results), strict=True))
        if all(_alike(theirs, mine, 0.0) for theirs, mine in both):
            return results
        moved = moves()
        if all(_alike(*pair, move) for pair, move in zip(both, moved, strict=True)):
            return results
    return None


def _alike(theirs: Compared, mine: Compared, moves: float | Floats) -> bool:
    return bool(near(mine.got, theirs.got, theirs.bound, theirs.fmt, moves).all())


def _tells(theirs: Compared, mine: Compared) -> bool:
    """Whether in some element both are wrong, far beyond what is granted, and in the same way.

    By a few bounds everything is off that is rounded once too often, and so are, in single elements, most of
    the mistakes that only lose digits.
    """
    with np.errstate(all="ignore"):
        error, apart = np.abs(theirs.got - theirs.due), np.abs(mine.got - theirs.got)
        same = (mine.got == theirs.got) | (np.isnan(mine.got) & np.isnan(theirs.got))
        close = same | (apart <= error / 2.0)
        far = ~(error < DECISIVE * granted(mine.got, theirs.got, theirs.bound, theirs.fmt))
    return bool((theirs.wrong & mine.wrong & close & far).any())
