"""Is a vjp the vjp of a function? Three answers, each with the error bars that it rests on."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import (
    Array,
    Function,
    as_points,
    flatten,
    is_floating,
    join,
    sufficient,
    unit_roundoff,
)
from verify.gradients.claims import additivity, require_homogeneous
from verify.gradients.complex_step import ComplexUnsafe, complex_vjps
from verify.gradients.contract import Candidate, ContractError, DomainEdge
from verify.gradients.directional import Agreement, agreement
from verify.gradients.directions import MISS_PROBABILITY, random_cotangent
from verify.gradients.draws import COMPLEX_STEPS, Disagreement, Draw, Undecided
from verify.gradients.elementwise import Evidence, Float64Gradients, compare
from verify.gradients.kinks import Kinks
from verify.gradients.numerical import numerical_vjps
from verify.gradients.report import GradcheckReport, Subject
from verify.gradients.samples import widened
from verify.gradients.verdict import WRONG, judge, passed
from verify.gradients.walks import contradiction

DIFFERENCES = "differences of f"
CONFIRMED = "the gradient is wrong, beyond the error bars of complex steps and of differences of f"
ALONE = "complex steps say that the gradient is wrong, by less than differences of f or paths can tell"


def gradcheck(
    f: Function,
    vjp: Function,
    inputs: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
    differentiable: Sequence[int] | None = None,
    kinks: Kinks | None = None,
) -> GradcheckReport:
    """Compare a claimed vjp with numerical derivatives of f, at one point.

    `f(*inputs, **settings)` returns a floating array or a tuple of them. `vjp(dy, *inputs, **settings)`
    returns the gradients of `sum(dy * f(*inputs))` for the differentiable inputs in order, one array if
    there is one, else a tuple; dy is a tuple when f returns one. An operator of refnet is such a pair:
    `gradcheck(softmax, softmax.vjp, [x])`. The point is `inputs` with the two lowest bits of every float
    cleared (see `snap`).

    Checked without any derivative: number, type, shape and dtype of the gradients, arguments left
    unmodified, no gradient in the memory of an input, the same bits from equal calls, 0 for dy = 0,
    `vjp(2^p dy) = 2^p vjp(dy)` and `vjp(a + b) = vjp(a) + vjp(b)`.

    Then the gradients along random directions (`agreement`), against a complex step if f takes complex
    numbers and differences prove that it takes them rightly, else against the change of f along a path.
    They take a few calls and end in a pass or in nothing. What they leave open is compared element by
    element with differences of f (`numerical_vjp`), for two random cotangents, and one for each output if
    there are several, so that none is drowned. No cotangent is constant, and none has an element near 0:
    softmax and layer norm have gradient 0 for a constant one, and an element of the Jacobian that is wrong
    by e shows in the gradient with at least e. float32 and float16 functions that take float64 and return
    the same there are differentiated in float64.

    Verdicts:
        fail: a contract is broken, or a claim lies outside the numerical bars of two ladders without a
            common step by more than both bars, the disagreement of the ladders and twice the rounding
            error of the claim; for a kink, outside the interval of the one-sided derivatives by as much.
            A claim that is not finite where the derivative is fails.
        pass: the directions agree, or every element lies within its bar, and `resolution` <= 4 sqrt(u), u
            the unit roundoff of the least precise array. That is half of the digits but two bits: what the
            best forward difference could reach, and far below what an error of a formula does to the
            element that it hits. Elements on a kink (relu at 0) whose claims lie between the one-sided
            derivatives, or are what `kinks.convention` asks for, are allowed, if each input has more
            elements that are not.
        inconclusive: everything else, with the reason: noise, domain edge, mostly kinks, too low a
            resolution, or a check without content (no elements, or every gradient 0 at this point).

    Not seen is what is narrower than the finest step, which is 2^-30 of the scale of the input (2^-20 in
    float32, 2^-7 in float16), and no higher than rounding noise may be: the sines in x + 1e-10 sin(3e9 x)
    count as noise, and its slope as 1 +- `resolution`, though it goes from 0.7 to 1.3.

    Args:
        seed: of the cotangents and directions; the report repeats it.
        settings: keyword arguments of both functions.
        differentiable: positions of the inputs that have a gradient; all floating ones if None. Integer
            inputs never have one.
        kinks: where f is not smooth, if that is known; see `Kinks`.

    Raises:
        TypeError: an input has a dtype that cannot be differentiated, or `inputs` is no sequence of them.
        ValueError: seed is not an integer of at least 0, or `differentiable` names no floating input.
    """
    given: object = seed
    if not isinstance(given, int | np.integer) or isinstance(given, bool) or given < 0:
        raise ValueError(f"seed is {seed!r}; required: an integer of at least 0. Choose any, such as seed=0")
    known: object = kinks
    if not isinstance(known, Kinks | None):
        raise TypeError(f"kinks is {known!r}; required: verify.Kinks(...), such as Kinks(convention='left')")
    points = as_points(inputs)
    candidate = Candidate(
        partial(f, **settings) if settings else f,
        partial(vjp, **settings) if settings else vjp,
        points,
        _positions(points, differentiable),
        _names(f),
    )
    options = {"settings": settings, "differentiable": differentiable, "kinks": kinks}
    about = Subject(
        _called(f),
        _called(vjp),
        int(seed),
        candidate.dtype.name,
        "".join(f", {name}={value!r}" for name, value in options.items() if value is not None),
    )
    with np.errstate(all="ignore"):  # huge numbers, and steps that leave a domain
        return _report(candidate, kinks, about)


def _report(candidate: Candidate, kinks: Kinks | None, about: Subject) -> GradcheckReport:
    try:
        candidate = candidate.evaluated()
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


def assert_gradients(
    f: Function,
    vjp: Function,
    inputs: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
    differentiable: Sequence[int] | None = None,
    kinks: Kinks | None = None,
) -> None:
    """Raise unless `gradcheck` passes.

    Raises:
        AssertionError: the report, as text.
    """
    report = gradcheck(
        f, vjp, inputs, seed=seed, settings=settings, differentiable=differentiable, kinks=kinks
    )
    if report.verdict != "pass":
        raise AssertionError(str(report))


def _positions(points: Sequence[Array], wanted: Sequence[int] | None) -> tuple[int, ...]:
    floating = tuple(position for position, x in enumerate(points) if is_floating(x))
    if wanted is None:
        return floating
    given: object = wanted
    if not isinstance(given, Sequence):
        raise TypeError(f"differentiable is {given!r}; required: a sequence of positions, such as [0]")
    if not set(wanted) <= set(floating):
        raise ValueError(
            f"differentiable is {tuple(wanted)}; required: positions of floating inputs, some of {floating}"
        )
    return tuple(position for position in floating if position in wanted)


def _names(f: Function) -> tuple[str, ...]:
    """What f calls its positional arguments; nothing if it does not say, or takes any number."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except Exception:  # foreign code may have any __signature__
        return ()
    known = (p.name if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) else "" for p in parameters)
    return tuple(itertools.takewhile(bool, known))


def _called(function: Function) -> str:
    for attribute in ("__name__", "name"):
        try:
            name = getattr(function, attribute, None)
        except Exception:  # foreign code may have any __getattr__
            continue
        if isinstance(name, str):
            return name
    return type(function).__name__


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
        return (
            replace(sharper[1], reason=found)
            if found
            else replace(sharper[1], verdict="inconclusive", reason=ALONE)
        )
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
        row, element = (int(i) for i in np.unravel_index(int(ratio.argmax()), ratio.shape))
        if ratio[row, element]:
            again = numerical_vjps(
                candidate.f,
                candidate.points,
                c.position,
                flatten(c.dys[row])[None],
                elements=[element],
                kinks=kinks,
            )
            rows = (len(ratio), -1)
            claimed, own = (float(part.reshape(rows)[row, element]) for part in (c.claimed, c.own))
            value, error, reason = (part.ravel()[element] for part in again[:3])
            if reason == "" and not abs(claimed - value) <= 2 * (error + own) + c.lost[row]:
                return True
    return False


def _in_float64(
    candidate: Candidate, wide: tuple[Array, ...], why: Undecided, kinks: Kinks | None, about: Subject
) -> GradcheckReport | None:
    """The report on a vjp of fewer digits, from f in float64; None if that does not decide."""
    agreed: Agreement | Undecided
    try:
        same = replace(candidate, points=wide).evaluated()
        agreed = _along_directions(same, kinks, about.seed)
    except (ContractError, DomainEdge):
        same, agreed = candidate, why
    if isinstance(agreed, Agreement) and agreed.resolution <= sufficient(np.dtype(np.float64)):
        evidence = compare(candidate, wide, Float64Gradients(same, agreed.resolution), about.seed)
        report = judge(
            candidate, evidence, about, str(why), f"its own in float64, which agree by {agreed.witness}"
        )
        if report.verdict == "pass":
            return replace(report, miss_probability=MISS_PROBABILITY)
    evidence = compare(candidate, wide, partial(numerical_vjps, kinks=kinks), about.seed)
    report = judge(candidate, evidence, about, str(why), DIFFERENCES)
    # what is wrong in float32 alone may be rounding, which differences in float32 know of
    if report.verdict == "fail" and not _wrong_in_float64(candidate, wide, kinks, about):
        return None
    return None if report.verdict == "inconclusive" else report


def _wrong_in_float64(
    candidate: Candidate, wide: tuple[Array, ...], kinks: Kinks | None, about: Subject
) -> bool:
    """Whether vjp is wrong for the same numbers in float64 too; no if it does not take them."""
    try:
        same = replace(candidate, points=wide).evaluated()
        agreed = _along_directions(same, kinks, about.seed)
        return not isinstance(agreed, Agreement) and (
            _by_elements(same, agreed, kinks, about).verdict == "fail"
        )
    except (ContractError, DomainEdge):
        return False


def _additive(candidate: Candidate) -> float:
    """What rounding may do to an element of a gradient, relative to the largest: sqrt(n) roundings in a sum
    of n terms, and at least 16."""
    terms = max(max(a.size for a in (*candidate.points, *candidate.outputs)), 256)
    return math.sqrt(terms) * unit_roundoff(candidate.dtype)
