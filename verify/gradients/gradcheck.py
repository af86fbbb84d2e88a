"""Is a vjp the vjp of a function? Three answers, each with the error bars that it rests on."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import (
    Array,
    Bools,
    Floats,
    Function,
    as_points,
    flatten,
    is_floating,
    join,
    unit_roundoff,
)
from verify.gradients.claims import additivity, require_additive, require_homogeneous, rounding_error
from verify.gradients.contract import Candidate, ContractError, DomainEdge, require_deterministic
from verify.gradients.diagnosis import diagnose
from verify.gradients.directional import Agreement, Draw, Undecided, agreement
from verify.gradients.directions import MISS_PROBABILITY, random_cotangent
from verify.gradients.kinks import Kinks
from verify.gradients.numerical import Estimates, numerical_vjps
from verify.gradients.report import Element, GradcheckReport, Subject, Verdict
from verify.gradients.samples import widened

TOP = 5


class Comparison(NamedTuple):
    """One input under every cotangent; all arrays are (cotangents, *shape of the input)."""

    position: int
    claimed: Floats
    numerical: Floats
    bar: Floats
    ratio: Floats
    reason: npt.NDArray[np.str_]
    failing: Bools
    doubted: Bools
    scale: Floats
    zero: Bools
    """For each cotangent: no element is distinguishable from 0."""


class Evidence(NamedTuple):
    """What a check has seen: the comparison of every floating input, and a broken law of all vjps."""

    comparisons: list[Comparison]
    unit_roundoff: float
    nonlinear: ContractError | None = None


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
        pass: the directions agree, or every element lies within its bar, and `resolution` <= sqrt(u), u the
            unit roundoff of the least precise array. That is half of the digits: what the best forward
            difference could reach, and far below what an error of a formula does to the element that it
            hits. Elements on a kink (relu at 0) whose claims lie between the one-sided derivatives, or are
            what `kinks.convention` asks for, are allowed, if each input has more elements that are not.
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
    points = as_points(inputs)
    candidate = Candidate(
        partial(f, **settings) if settings else f,
        partial(vjp, **settings) if settings else vjp,
        points,
        _positions(points, differentiable),
        _names(f),
    )
    about = Subject(_called(f), _called(vjp), int(seed))
    try:
        candidate = candidate.evaluated()
        agreed = _along_directions(candidate, kinks, about.seed)
        if agreed and agreed.resolution <= math.sqrt(unit_roundoff(candidate.dtype)):
            return _passed(candidate, agreed, about)
        wide = widened(candidate.f, candidate.points, candidate.outputs)
        report = _judge(candidate, _compare(candidate, wide, kinks, about.seed), about)
        if report.verdict == "inconclusive" and wide is not candidate.points:
            report = _judge(candidate, _compare(candidate, candidate.points, kinks, about.seed), about)
    except DomainEdge as edge:
        return GradcheckReport("inconclusive", str(edge), about)
    except ContractError as broken:
        return GradcheckReport("fail", str(broken), about, diagnosis=broken.diagnosis)
    return report


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
    if not set(wanted) <= set(floating):
        raise ValueError(
            f"differentiable is {tuple(wanted)}; required: positions of floating inputs, some of {floating}"
        )
    return tuple(position for position in floating if position in wanted)


def _names(f: Function) -> tuple[str, ...]:
    """What f calls its positional arguments; nothing if it does not say, or takes any number."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(
        itertools.takewhile(
            bool,
            (p.name if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) else "" for p in parameters),
        )
    )


def _called(function: Function) -> str:
    name = getattr(function, "__name__", None) or getattr(function, "name", None)
    return name if isinstance(name, str) else type(function).__name__


def _along_directions(candidate: Candidate, kinks: Kinks | None, seed: int) -> Agreement | None:
    """The quick way to a pass; None if it does not lead to one, whatever the reason."""
    if not any(candidate.points[position].size for position in candidate.positions):
        return None
    inputs = join(candidate.points, candidate.positions)
    if not np.isfinite(inputs.vector).all():
        return None
    rng = np.random.default_rng(seed)
    a, b = (tuple(random_cotangent(rng, y) for y in candidate.outputs) for _ in range(2))
    try:
        claims = [candidate.gradients(dy) for dy in (a, b)]
        require_homogeneous(candidate, a, claims[0], [-3])  # bit by bit, which a random vjp is not
        _, claim, missing = additivity(candidate, (a, b), claims)
        if not (missing <= _additive(candidate) * inputs.largest(abs(flatten(claim)))).all():
            return None
        return agreement(candidate, inputs, [Draw(a, claims[0]), Draw(b, claims[1])], rng, kinks)
    except (ContractError, Undecided):  # the derivatives of all elements say more about it
        return None


def _additive(candidate: Candidate) -> float:
    """What rounding may do to an element of a gradient, relative to the largest: sqrt(n) roundings in a sum
    of n terms, and at least 16."""
    terms = max(max(a.size for a in (*candidate.points, *candidate.outputs)), 256)
    return math.sqrt(terms) * unit_roundoff(candidate.dtype)


def _passed(candidate: Candidate, agreed: Agreement, about: Subject) -> GradcheckReport:
    return GradcheckReport(
        "pass",
        "every gradient agrees with f along random directions",
        about,
        method=agreed.witness,
        resolution=agreed.resolution,
        single=agreed.single,
        miss_probability=MISS_PROBABILITY,
        elements=sum(candidate.points[position].size for position in candidate.positions),
    )


def _compare(candidate: Candidate, wide: Sequence[Array], kinks: Kinks | None, seed: int) -> Evidence:
    """Compare all floating inputs; f is differentiated at `wide`, the candidate's point in any format.

    Raises:
        ContractError: f or vjp breaks its contract, in more than linearity.
    """
    u = unit_roundoff(candidate.dtype)
    if not candidate.positions:
        return Evidence([], u)
    points, outputs = candidate.points, candidate.outputs
    rng = np.random.default_rng(seed)
    a, b = (tuple(random_cotangent(rng, y) for y in outputs) for _ in range(2))
    cotangents = [a, b]
    if len(outputs) > 1:
        cotangents += [
            tuple(v if i == j else np.zeros_like(v) for j, v in enumerate(a)) for i in range(len(outputs))
        ]
    dys = np.stack([flatten(dy) for dy in cotangents])
    estimates = [numerical_vjps(candidate.f, wide, p, dys, kinks=kinks) for p in candidate.positions]
    numerical = [estimate.value[0] for estimate in estimates]
    claims = [candidate.gradients(dy, numerical=numerical) for dy in cotangents]
    require_deterministic(candidate, a, claims[0])
    rounding = [
        rounding_error(candidate, dy, claim, rng) for dy, claim in zip(cotangents, claims, strict=True)
    ]
    unseen = [np.where(e.reason == "kink", 0.0, e.error)[:2].sum(axis=0) for e in estimates]
    nonlinear: ContractError | None = None
    try:
        require_homogeneous(candidate, a, claims[0])
        require_additive(candidate, (a, b), claims, rounding, unseen, rng)
    except ContractError as broken:  # the numbers say more about it
        nonlinear = broken

    natural = abs(dys) @ np.nan_to_num(abs(flatten(outputs)), posinf=0.0)
    comparisons = []
    for order, (position, estimate) in enumerate(zip(candidate.positions, estimates, strict=True)):
        claimed = np.stack([np.asarray(c[order], dtype=np.float64) for c in claims])
        scale, zero = _scale(points[position], estimate.value, estimate.error, natural)
        own = np.stack([r[order] for r in rounding])
        failing, doubted = _confirm(candidate.f, wide, position, dys, claimed, estimate, own, kinks)
        bar = estimate.error + own
        with np.errstate(all="ignore"):
            ratio = np.where(claimed == estimate.value, 0.0, abs(claimed - estimate.value) / bar)
        ratio = np.where(np.isfinite(claimed), ratio, np.inf)
        ratio = np.where(np.isfinite(estimate.error), ratio, 0.0)
        comparisons.append(
            Comparison(
                position, claimed, estimate.value, bar, ratio, estimate.reason, failing, doubted, scale, zero
            )
        )
    return Evidence(comparisons, u, nonlinear)


def _scale(x: Array, value: Floats, error: Floats, natural: Floats) -> tuple[Floats, Bools]:
    """What the errors of one input are relative to, for each cotangent: its largest gradient.

    Where every element may be 0 there is none; then the gradient of a function that changes by itself over
    the size of its input, `sum |dy f| / max |x|`, and where even that is 0, the cotangent's 1.
    """
    rows = (len(value), -1)
    value, error = np.nan_to_num(value).reshape(rows), error.reshape(rows)
    zero: Bools = np.all(abs(value) <= error, axis=1)
    size = float(np.max(abs(x), initial=0.0, where=np.isfinite(x))) or 1.0
    with np.errstate(over="ignore"):
        fallback = np.where(natural > 0, natural / size, 1.0)
    return np.where(zero, fallback, abs(value).max(axis=1, initial=0.0)), zero


def _confirm(
    f: Function,
    points: Sequence[Array],
    position: int,
    dys: Floats,
    claimed: Floats,
    estimate: Estimates,
    own: Floats,
    kinks: Kinks | None,
) -> tuple[Bools, Bools]:
    """Claims outside their bars: those that a second ladder finds wrong too, and those that stay in doubt."""
    value, error, reason = estimate
    with np.errstate(all="ignore"):
        outside = np.isfinite(error) & ~(abs(claimed - value) <= error + own)
        suspects = np.flatnonzero(outside.any(axis=0))
        if not suspects.size:
            return outside, outside
        again, bar, _ = numerical_vjps(
            f, points, position, dys, stretch=1.5, elements=suspects.tolist(), kinks=kinks
        )
        # the interval of a kink counts once: it is the same for both
        bars = np.where(reason == "kink", np.maximum(error, bar) + abs(error - bar), error + bar)
        margin = bars + abs(value - again)
        # an infinite change of a claim that is itself finite says nothing; a claim that is not finite does
        margin = np.where(np.isfinite(claimed) | ~np.isfinite(bar), margin + 2 * own, margin)
        wrong = ~(abs(claimed - value) <= margin) & ~(abs(claimed - again) <= margin)
    failing = outside & np.isfinite(bar) & wrong
    return failing, outside & ~failing


def _judge(candidate: Candidate, evidence: Evidence, about: Subject) -> GradcheckReport:
    comparisons = evidence.comparisons
    elements = sum(c.claimed[0].size for c in comparisons)
    if not elements:
        return GradcheckReport("inconclusive", "vacuous: no floating element to differentiate by", about)
    failing = [_any(c.failing) for c in comparisons]
    undecided = [
        _any((c.reason != "") | c.doubted) & ~fails for c, fails in zip(comparisons, failing, strict=True)
    ]
    resolution = max(map(_resolution, comparisons))
    verdict, reason = _verdict(candidate, evidence, undecided, resolution)
    broken = evidence.nonlinear.diagnosis if evidence.nonlinear else ()
    top = sorted(
        (element for c in comparisons for element in _elements(candidate, c)),
        key=lambda element: element.ratio,
        reverse=True,
    )[:TOP]
    return GradcheckReport(
        verdict,
        reason,
        about,
        method="differences of f, element by element",
        resolution=resolution,
        single=resolution,
        elements=elements,
        failing=sum(int(fails.sum()) for fails in failing),
        unresolved=sum(int(unknown.sum()) for unknown in undecided),
        worst=top[0] if top else None,
        top=tuple(top),
        diagnosis=broken + tuple(text for c in comparisons for text in _diagnose(candidate, c)),
    )


def _any(elements: Bools) -> Bools:
    """Whether it holds for some cotangent."""
    return np.asarray(elements.any(axis=0))


def _diagnose(candidate: Candidate, c: Comparison) -> Iterator[str]:
    """The hypotheses that explain one input's gradient, under the first cotangent that shows an error."""
    rows = np.flatnonzero(c.failing.reshape(len(c.failing), -1).any(axis=1))
    if rows.size:
        sizes = {
            size: f"axis {axis}" + (f" of input {position}" if position != c.position else "")
            for position, x in sorted(enumerate(candidate.points), key=lambda item: item[0] != c.position)[
                ::-1
            ]
            for axis, size in enumerate(x.shape)
        }
        row = int(rows[0])
        for text in diagnose(c.claimed[row], c.numerical[row], c.bar[row], c.failing[row], sizes):
            yield f"{candidate.label(c.position)}: {text}"


def _verdict(
    candidate: Candidate, evidence: Evidence, undecided: Sequence[Bools], resolution: float
) -> tuple[Verdict, str]:
    """The first of the sentences that applies."""
    comparisons, sufficient = evidence.comparisons, math.sqrt(evidence.unit_roundoff)
    if evidence.nonlinear:
        return "fail", str(evidence.nonlinear)
    if any(c.failing.any() for c in comparisons):
        return "fail", "the gradient is wrong, beyond the error bars of two independent ladders of steps"
    for c, unknown in zip(comparisons, undecided, strict=True):
        where = f"of {unknown.size} elements of {candidate.label(c.position)}"
        for why in ("domain edge", "noise"):
            if count := int(_any(c.reason == why).sum()):
                return "inconclusive", f"{why} at {count} {where}"
        if count := int(_any(c.doubted).sum()):
            return "inconclusive", (
                f"{count} {where} lie outside their error bars, but not by the margin of a fail"
            )
        if 2 * (count := int(unknown.sum())) >= unknown.size > 0:
            return "inconclusive", f"kink at {count} {where}"
    if all(c.zero.all() for c in comparisons):
        return "inconclusive", "vacuous: every gradient is 0 here, within its error; choose another point"
    if not resolution <= sufficient:
        return "inconclusive", (
            f"relative errors up to {resolution:.1e} could have passed; required: sqrt(u) = {sufficient:.1e}."
            " The function or the gradient is too noisy at this point"
        )
    kinks = sum(int(unknown.sum()) for unknown in undecided)
    beside = f"; {kinks} on kinks, between the one-sided derivatives" if kinks else ""
    return "pass", f"every gradient agrees with numerical derivatives within their error bars{beside}"


def _resolution(c: Comparison) -> float:
    """The largest relative error with which a decided element could have passed.

    |claimed - truth| <= |claimed - numerical| + |numerical - truth|: what is seen, up to a bar, and a bar.
    """
    decided = (c.reason == "") & ~c.doubted
    with np.errstate(all="ignore"):
        seen = np.fmin(abs(c.claimed - c.numerical), c.bar)
        errors = np.where(decided, seen + c.bar, 0.0).reshape(len(c.bar), -1).max(axis=1, initial=0.0)
        worst = float((errors / c.scale).max(initial=0.0)) if c.claimed.size else 0.0
    return worst if decided.any() or not decided.size else math.inf


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
