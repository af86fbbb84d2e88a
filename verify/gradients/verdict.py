"""From evidence to a report: the verdict, its reason, and what the mistake looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from verify.gradients.arrays import Bools, is_floating, sufficient
from verify.gradients.contract import Candidate, Cotangent
from verify.gradients.diagnosis import Context, diagnose
from verify.gradients.directional import Agreement
from verify.gradients.directions import MISS_PROBABILITY
from verify.gradients.elementwise import Comparison, Evidence
from verify.gradients.numerical import UNEXAMINED
from verify.gradients.report import Element, GradcheckReport, Subject, Verdict

WRONG = "the gradient is wrong, beyond the error bars of two sets of steps without a common one"

TOP = 5
"""Elements that a report shows."""


def passed(candidate: Candidate, agreed: Agreement, about: Subject) -> GradcheckReport:
    """The report on claims that agree along directions."""
    return GradcheckReport(
        "pass",
        "every gradient agrees with f along random directions",
        about,
        method=agreed.witness,
        resolution=agreed.resolution,
        single=agreed.single,
        miss_probability=MISS_PROBABILITY,
        ratio=agreed.needed,
        elements=sum(candidate.points[position].size for position in candidate.positions),
    )


def judge(
    candidate: Candidate, evidence: Evidence, about: Subject, directions: str, method: str
) -> GradcheckReport:
    """The report on a comparison; `directions` says why those did not decide."""
    comparisons = evidence.comparisons
    elements = sum(c.claimed[0].size for c in comparisons)
    if not elements:
        return GradcheckReport("inconclusive", "vacuous: no floating element to differentiate by", about)
    failing = [c.any(c.failing) for c in comparisons]
    undecided = [
        c.any(~c.decided & (c.reason != UNEXAMINED)) & ~fails
        for c, fails in zip(comparisons, failing, strict=True)
    ]
    resolution = max(c.resolution for c in comparisons)
    verdict, reason = _verdict(candidate, evidence, undecided, resolution, directions)
    broken = evidence.broken_law.diagnosis if evidence.broken_law else ()
    top = sorted(
        (element for c in comparisons for element in _elements(candidate, c)),
        key=lambda element: element.ratio,
        reverse=True,
    )[:TOP]
    return GradcheckReport(
        verdict,
        reason,
        about,
        method=f"{method}, element by element",
        resolution=resolution,
        single=resolution,
        ratio=top[0].ratio if top else 0.0,
        elements=elements,
        failing=sum(int(fails.sum()) for fails in failing),
        unresolved=sum(int(unknown.sum()) for unknown in undecided),
        worst=top[0] if top else None,
        top=tuple(top),
        diagnosis=broken + tuple(text for c in comparisons for text in _diagnose(candidate, c)),
    )


def _diagnose(candidate: Candidate, c: Comparison) -> Iterator[str]:
    """The hypotheses that explain one input's gradient, under the first cotangent that shows an error."""
    rows = np.flatnonzero(c.failing.reshape(len(c.failing), -1).any(axis=1))
    if rows.size:
        row = int(rows[0])
        context = _context(candidate, c.position, c.dys[row])
        for text in diagnose(c.claimed[row], c.numerical[row], c.bar[row], c.failing[row], context):
            yield f"{candidate.label(c.position)}: {text}"


def _context(candidate: Candidate, position: int, dy: Cotangent) -> Context:
    points = candidate.points
    others = [p for p in range(len(points)) if p != position]
    sizes = {
        size: f"axis {axis}" + (f" of {candidate.label(p)}" if p != position else "")
        for p in (*others[::-1], position)
        for axis, size in enumerate(points[p].shape)
    }
    named = {candidate.label(p): points[p] for p in (position, *others) if is_floating(points[p])}
    for kind, arrays in (("output", candidate.outputs), ("dy", dy)):
        named |= {f"{kind} {i}" if len(arrays) > 1 else kind: a for i, a in enumerate(arrays)}
    shape = points[position].shape
    return Context(
        sizes,
        {name: a.astype(np.float64) for name, a in named.items() if a.shape == shape},
        {candidate.label(p): points[p] for p in others if points[p].dtype.kind in "iu"},
    )


def _verdict(
    candidate: Candidate,
    evidence: Evidence,
    undecided: Sequence[Bools],
    resolution: float,
    directions: str,
) -> tuple[Verdict, str]:
    """The first of the sentences that applies."""
    comparisons, required = evidence.comparisons, sufficient(candidate.dtype)
    if evidence.broken_law:
        return "fail", str(evidence.broken_law)
    if any(c.failing.any() for c in comparisons):
        if not any((c.failing & (c.reason != "kink")).any() for c in comparisons):
            return "fail", (
                "at kinks the gradient is wrong: it lies outside of the one-sided derivatives. (Several "
                "kinks that meet may add up to that; Kinks(convention='any') leaves them unjudged)"
            )
        return "fail", WRONG
    for c, unknown in zip(comparisons, undecided, strict=True):
        examined = np.count_nonzero(c.reason[0] != UNEXAMINED)
        where = f"of {examined} elements of {candidate.label(c.position)}"
        for why in ("domain edge", "noise"):
            if count := int(c.any(c.reason == why).sum()):
                return "inconclusive", f"{why} at {count} {where}"
        if count := int(c.any(c.doubted).sum()):
            return "inconclusive", (
                f"{count} {where} lie outside their error bars, but not by the margin of a fail"
            )
        if 2 * (count := int(unknown.sum())) >= examined > 0:
            return "inconclusive", f"kink at {count} {where}"
    if all(c.zero.all() for c in comparisons):
        return "inconclusive", "vacuous: every gradient is 0 here, within its error; choose another point"
    for c in comparisons:
        if c.zero.all() and (abs(c.claimed) > c.lost).any():
            return "inconclusive", (
                f"vacuous for {candidate.label(c.position)}: its gradient is 0 here within the error bars, "
                "so that what vjp claims is not tested; choose another point"
            )
    if not resolution <= required:
        return "inconclusive", (
            f"relative errors up to {resolution:.1e} could have passed; "
            f"required: 4 sqrt(u) = {required:.1e}. "
            + _noisiest(candidate, max(comparisons, key=lambda c: c.resolution))
        )
    for c in comparisons:
        if left := np.count_nonzero(c.reason[0] == UNEXAMINED):
            examined = c.reason[0].size - left
            return "inconclusive", (
                f"{examined} elements of {candidate.label(c.position)} are right, {left} were not "
                f"differentiated, as there are too many; along directions: {directions}"
            )
    kinks = sum(int(unknown.sum()) for unknown in undecided)
    beside = f"; {kinks} on kinks, between the one-sided derivatives" if kinks else ""
    zeros = [candidate.label(c.position) for c in comparisons if c.zero.all() and c.zero.size]
    if zeros:
        beside += f"; that of {', '.join(zeros)} is 0 here, which tests little"
    return "pass", f"every gradient agrees with numerical derivatives within their error bars{beside}"


def _noisiest(candidate: Candidate, c: Comparison) -> str:
    """Where the widest bar is, and whose it is."""
    passable = np.nan_to_num(c.passable(), nan=math.inf)
    row, *index = (int(i) for i in np.unravel_index(int(passable.argmax()), passable.shape))
    at = (row, *index)
    if c.own[at] > c.bar[at] / 2:
        why = f"the gradient changes by {c.own[at]:.1e} with the last bits of its arguments"
    else:
        known = f"the derivative of f is known to ± {c.bar[at] - c.own[at]:.1e} only"
        why = f"{known}: noise, or a kink nearby (see Kinks)"
    return f"At {candidate.label(c.position)} [{', '.join(map(str, index))}] {why}"


def _elements(candidate: Candidate, c: Comparison) -> Iterator[Element]:
    """The worst elements of one input, each under the cotangent that shows most; the failing ones first."""
    if not c.claimed[0].size:
        return
    rows = (len(c.claimed), -1)
    ratio, failing = c.ratio.reshape(rows), c.failing.reshape(rows)
    if failing.any():
        ratio = np.where(failing, ratio, 0.0)
    for flat in np.argsort(-ratio.max(axis=0), kind="stable")[:TOP]:
        if failing.any() and not failing[:, flat].any():
            return
        row = int(np.argmax(ratio[:, flat]))
        claimed, numerical, bar = (
            float(part.reshape(rows)[row, flat]) for part in (c.claimed, c.numerical, c.bar)
        )
        point = candidate.points[c.position]
        index = tuple(int(i) for i in np.unravel_index(int(flat), point.shape))
        worst = float(ratio[row, flat])
        yield Element(
            candidate.label(c.position),
            c.position,
            index,
            claimed,
            numerical,
            bar,
            worst,
            float(point.flat[flat]),
        )
