"""From the cheapest witness to the most thorough: in which order a gradient is decided, and by whom."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from functools import partial

import numpy as np

from verify.gradients.arrays import Array, flatten, join, sufficient, unit_roundoff
from verify.gradients.claims import additivity, require_homogeneous
from verify.gradients.complex_step import ComplexUnsafe, complex_vjps
from verify.gradients.contract import Candidate, ContractError, DomainEdge
from verify.gradients.directional import Agreement, agreement
from verify.gradients.directions import MISS_PROBABILITY, random_cotangent
from verify.gradients.draws import COMPLEX_STEPS, Disagreement, Draw, Undecided
from verify.gradients.elementwise import Differentiate, Evidence, Float64Gradients, compare
from verify.gradients.kinks import Kinks
from verify.gradients.numerical import numerical_vjps
from verify.gradients.report import GradcheckReport, Subject, Verdict
from verify.gradients.samples import widened
from verify.gradients.verdict import WRONG, judge, passed
from verify.gradients.walks import contradiction

DIFFERENCES = "differences of f"
CONFIRMED = "the gradient is wrong, beyond the error bars of complex steps and of differences of f"
ALONE = "complex steps say that the gradient is wrong, by less than differences of f or paths can tell"


def decide(candidate: Candidate, kinks: Kinks | None, about: Subject) -> GradcheckReport:
    """The report on a candidate: a pass along directions, or what all elements say."""
    try:
        candidate = candidate.evaluated()
        if candidate.dtype.name != about.dtype:
            about = replace(about, dtype=candidate.dtype.name)
        agreed = _along_directions(candidate, kinks, about.seed)
        if isinstance(agreed, Agreement):
            if agreed.resolution <= sufficient(candidate.dtype):
                return passed(candidate, agreed, about)
            agreed = Undecided(f"errors up to {agreed.resolution:.1e} could have passed")
        return _by_elements(candidate, agreed, kinks, about)
    except DomainEdge as edge:
        return GradcheckReport("inconclusive", str(edge), about)
    except ContractError as broken:
        return GradcheckReport("fail", str(broken), about, diagnosis=broken.diagnosis)


def _along_directions(candidate: Candidate, kinks: Kinks | None, seed: int) -> Agreement | Undecided:
    """The quick way to a pass, or why it does not lead to one."""
    if not any(candidate.points[position].size for position in candidate.positions):
        return Undecided("there is nothing to compare")
    inputs = join(candidate.points, candidate.positions)
    if not np.isfinite(inputs.vector).all():
        return Undecided("an input is not finite")
    rng = np.random.default_rng(seed)
    a, b = (tuple(random_cotangent(rng, y) for y in candidate.outputs) for _ in range(2))
    try:
        claims = [candidate.gradients(dy) for dy in (a, b)]
        require_homogeneous(candidate, a, claims[0])  # bit by bit, which a random vjp is not
        _, _, missing = additivity(candidate, (a, b), claims)
        size = inputs.largest(abs(flatten(claims[0])) + abs(flatten(claims[1])))
        if not (missing <= _additive(candidate) * size).all():
            return Undecided("vjp(a + b) is not vjp(a) + vjp(b)")
        return agreement(candidate, inputs, [Draw(a, claims[0]), Draw(b, claims[1])], rng, kinks)
    except Undecided as reason:
        return reason
    except ContractError as broken:  # the derivatives of all elements say more about it
        return Undecided(str(broken))


def _by_elements(
    candidate: Candidate, why: Undecided, kinks: Kinks | None, about: Subject
) -> GradcheckReport:
    """The report on all elements; `why` directions did not decide.

    Raises:
        ContractError: f or vjp breaks its contract.
        DomainEdge: nothing is known beside the point.
    """
    wide = widened(candidate.f, candidate.points, candidate.outputs)
    if wide is not candidate.points:
        report = _in_float64(candidate, wide, why, kinks, about)
        if report is not None:
            return report
    sharper = _by_complex_steps(candidate, why, about)
    if sharper is not None and _confirmed(candidate, sharper[0], kinks):
        reason = CONFIRMED if sharper[1].reason == WRONG else sharper[1].reason
        return replace(sharper[1], reason=reason)
    evidence = compare(candidate, candidate.points, partial(numerical_vjps, kinks=kinks), about.seed)
    report = judge(candidate, evidence, about, str(why), DIFFERENCES)
    few_digits = candidate.dtype != np.float64
    if report.verdict != "pass" or not (few_digits or isinstance(why, Disagreement)):
        return report  # where differences are too noisy, f is computed in fewer digits than a path counts on
    # they leave room for errors that a path can see
    unseen = {c.position: c.resolution for c in evidence.comparisons}
    found = contradiction(candidate, unseen, np.random.default_rng(about.seed), kinks)
    if sharper is not None:
        verdict: Verdict = "fail" if found else "inconclusive"
        return replace(sharper[1], verdict=verdict, reason=found or ALONE)
    return replace(report, verdict="fail", reason=found) if found else report


def _by_complex_steps(
    candidate: Candidate, why: Undecided, about: Subject
) -> tuple[Evidence, GradcheckReport] | None:
    """What complex steps find wrong element by element, where they disagreed along directions; the steps of
    differences cost fifty times as much."""
    if not (isinstance(why, Disagreement) and why.witness == COMPLEX_STEPS):
        return None
    try:
        evidence = compare(candidate, candidate.points, complex_vjps, about.seed)
    except ComplexUnsafe:  # all inputs at once it may take, and no single one
        return None
    report = judge(candidate, evidence, about, str(why), COMPLEX_STEPS)
    return (evidence, report) if report.verdict == "fail" else None


def _confirmed(candidate: Candidate, evidence: Evidence, kinks: Kinks | None) -> bool:
    """Whether differences find the worst element of some input wrong, too, and on no kink."""
    for c in evidence.comparisons:
        ratio = np.where(c.failing, c.ratio, 0.0).reshape(len(c.ratio), -1)
        if ratio.any():
            row, element = (int(i) for i in np.unravel_index(int(ratio.argmax()), ratio.shape))
            again = numerical_vjps(
                candidate.f,
                candidate.points,
                c.position,
                flatten(c.dys[row])[None],
                elements=[element],
                kinks=kinks,
            )
            rows = (len(ratio), -1)
            claimed, own, lost = (
                float(part.reshape(rows)[row, element]) for part in (c.claimed, c.own, c.lost)
            )
            value, error, reason = (part.ravel()[element] for part in again[:3])
            if reason == "" and not abs(claimed - value) <= 2 * (error + own) + lost:
                return True
    return False


def _in_float64(
    candidate: Candidate, wide: tuple[Array, ...], why: Undecided, kinks: Kinks | None, about: Subject
) -> GradcheckReport | None:
    """The report on a vjp of fewer digits, from f in float64; None if that does not decide."""
    agreed: Agreement | Undecided = why
    try:
        same = replace(candidate, points=wide).evaluated()
        agreed = _along_directions(same, kinks, about.seed)
    except ContractError:  # f takes float64, vjp does not
        same = None
    if same is not None and isinstance(agreed, Agreement) and agreed.resolution <= sufficient(same.dtype):
        truth = Float64Gradients(same, agreed.resolution)
        method = f"its own in float64, which agree by {agreed.witness}"
        report = judge(candidate, compare(candidate, wide, truth, about.seed), about, str(why), method)
        if report.verdict == "pass":
            return replace(report, miss_probability=MISS_PROBABILITY)
    by: Differentiate = partial(numerical_vjps, kinks=kinks)
    method = DIFFERENCES
    if isinstance(agreed, Disagreement) and agreed.witness == COMPLEX_STEPS:
        by, method = complex_vjps, COMPLEX_STEPS  # a fiftieth of the calls
    try:
        report = judge(candidate, compare(candidate, wide, by, about.seed), about, str(why), method)
    except ComplexUnsafe:
        return None
    if report.verdict == "pass" and by is not complex_vjps:
        return report
    # what is wrong in float32 alone may be rounding, which differences in float32 know of
    if report.verdict == "fail" and same is not None and isinstance(agreed, Undecided):
        with contextlib.suppress(ContractError, DomainEdge):
            if _by_elements(same, agreed, kinks, about).verdict == "fail":
                return report
    return None


def _additive(candidate: Candidate) -> float:
    """What rounding may do to an element of a gradient, relative to the largest: sqrt(n) roundings in a sum
    of n terms, and at least 16."""
    terms = max(max(a.size for a in (*candidate.points, *candidate.outputs)), 256)
    return math.sqrt(terms) * unit_roundoff(candidate.dtype)
