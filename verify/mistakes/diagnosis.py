"""From a failure to the mistake that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from verify.arithmetic.formats import FLOAT32, ulp
from verify.mistakes.catalogue import MISTAKES
from verify.mistakes.evidence import Compared, Evidence, Floats, Function, Values, granted, near
from verify.mistakes.mistake import Mistake
from verify.mistakes.patterns import FLUSHED, only_flushed, pattern
from verify.mistakes.variations import variations_of
from verify.reports.record import Diagnosis

__all__ = ["Evidence", "diagnose"]

DECISIVE = 4.0
"""How many times what is granted between two roundings of one result a mistake must be off somewhere."""

COINCIDENCE = 3.0
"""Bits that two wrong results must have in common: where an error is of n units in the last place, another of
its size is the same with probability 1 / n. The half formats have too few numbers for this."""


def diagnose(op: str, evidence: Sequence[Evidence], keeps: str = "") -> tuple[Diagnosis, ...]:
    """The known mistakes that reproduce every failing case, else the shape of the error; `keeps` says which
    contract all results keep, if any.

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
    return pattern(op, evidence, keeps)


def _named(mistake: Mistake, evidence: Sequence[Evidence]) -> Iterator[Diagnosis]:
    """The mistake with the first of its constants that explains everything."""
    aspects = {e.aspect for e in evidence}
    if any(mistake.function(aspect) is None for aspect in aspects):
        return
    for constant in mistake.constants or (None,):
        bits = COINCIDENCE if constant is None else np.inf  # of so many constants one fits by chance
        if _explains([partial(_made, mistake, e.aspect, constant) for e in evidence], evidence, bits):
            summary = mistake.summary if constant is None else f"{mistake.summary} (epsilon = {constant:.3g})"
            yield Diagnosis(mistake.name, summary)
            return


def _made(mistake: Mistake, aspect: str, constant: float | None) -> Function:
    function = mistake.function(aspect)
    assert function is not None
    return function if constant is None else partial(function, epsilon=constant)


def _explains(
    makes: Sequence[Callable[[], Function]], evidence: Sequence[Evidence], coincidence: float
) -> bool:
    """Whether all cases are reproduced, in one of them where the mistake is decisively wrong as well.

    Or to the last bit, where that is no coincidence: what loses digits is off by a few bounds at times.
    """
    told, bits = False, 0.0
    for make, e in zip(makes, evidence, strict=True):
        results = _reproduced(make, e)
        if results is None:
            return False
        for theirs, mine in zip(e.compared(), e.compare(results), strict=True):
            told = told or _tells(theirs, mine)
            bits += _bits_in_common(theirs, mine)
    return told or bits >= coincidence


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


def _bits_in_common(theirs: Compared, mine: Compared) -> float:
    """The logarithm of the errors in ulp that are the same; minus infinity if this shows nothing."""
    if theirs.fmt.precision < FLOAT32.precision:
        return -np.inf
    if not ((mine.got == theirs.got) | (np.isnan(mine.got) & np.isnan(theirs.got))).all():
        return -np.inf
    with np.errstate(all="ignore"):
        places = np.abs(theirs.got - theirs.due) / ulp(theirs.due, theirs.fmt)
        bits = np.log2(np.maximum(places, 1.0))
    return float(np.sum(bits, where=theirs.wrong & mine.wrong & np.isfinite(bits)))
