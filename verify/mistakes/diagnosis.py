"""From a failure to the mistake that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from verify.mistakes.catalogue import MISTAKES
from verify.mistakes.evidence import Compared, Evidence, Function, Values, near
from verify.mistakes.mistake import Mistake
from verify.mistakes.patterns import pattern
from verify.mistakes.variations import variations_of
from verify.reports.record import Diagnosis

__all__ = ["Evidence", "diagnose"]


def diagnose(op: str, evidence: Sequence[Evidence]) -> tuple[Diagnosis, ...]:
    """The known mistakes that reproduce every failing case, else the shape of the error.

    A mistake that is right in all of these cases explains none: it often agrees with the right function, and
    so reproduces whatever is nearly right. One with a constant explains only what none without one does: a
    constant that is small enough changes nothing. Nothing is said of results that are right.
    """
    evidence = [e for e in evidence if any(c.wrong.any() for c in e.compared())]
    if not evidence:
        return ()
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


def _alike(theirs: Compared, mine: Compared, moves: float | Values) -> bool:
    return bool(near(mine.got, theirs.got, theirs.bound, theirs.fmt, moves).all())


def _tells(theirs: Compared, mine: Compared) -> bool:
    """Whether both are wrong in some element, and much closer to each other than to what is due there."""
    with np.errstate(all="ignore"):
        same = (mine.got == theirs.got) | (np.isnan(mine.got) & np.isnan(theirs.got))
        closer = same | (np.abs(mine.got - theirs.got) <= np.abs(theirs.got - theirs.due) / 2.0)
    return bool((theirs.wrong & mine.wrong & closer).any())
