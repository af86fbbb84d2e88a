"""Laws of what an operator computes: rows, ranges, symmetries, compositions.

Every tolerance is the sum of the rounding bounds of what is compared. refnet itself is held to more where its
code promises more: a range is kept exactly, a perfect answer costs exactly nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import refnet
from specs import SPECS, Domain, Spec
from specs.spec import BATCH
from verify.arithmetic.bounds import SLACK, composition_bound, value_bound
from verify.arithmetic.formats import FLOAT16, FLOAT32, FLOAT64, Format
from verify.laws.examples import Example
from verify.laws.law import (
    ROW_AXIS,
    Comparison,
    Floats,
    Law,
    LawViolation,
    NotApplicable,
    Subject,
    Values,
    exact_total,
    require,
    require_each,
)
from verify.laws.subgradients import on_kink


def _exact_sum(x: Floats, axis: int) -> Floats:
    """Sums along an axis, rounded once; infinite if a term is."""
    return np.asarray(np.apply_along_axis(exact_total, axis, x))


# --------------------------------------------------------------------------------------- values of a row


def _sums_to_one(subject: Subject, example: Example, fmt: Format) -> None:
    axis, y = example.axis, subject.outputs(example)
    granted = _exact_sum(subject.output_bound(example, fmt), axis) + FLOAT64.unit_roundoff
    require(_exact_sum(y, axis), 1.0, granted * SLACK, "the sum of the row")


def _on_a_grid(x: Values, step: float) -> Floats:
    """Multiples of the step within 16 of zero, to which a shift can be added exactly."""
    limited = np.clip(np.nan_to_num(x.astype(np.float64)), -16.0, 16.0)
    return np.asarray(np.round(limited / step) * step)


def _shifted(example: Example, fmt: Format) -> tuple[Example, tuple[tuple[Example, Floats], ...]]:
    """The first input on a grid; and with every row of it shifted, exactly, neighbouring rows in opposite
    directions, and all of them the other way: beyond every exponential where the format allows it.

    1024 + 16 in steps of 1/8 needs 14 bits, 32 in steps of 1/8 needs 8, 17 in steps of 1 needs 5: float32 has
    24, float16 has 11, bfloat16 has 8.
    """
    wide, medium = fmt.precision >= FLOAT32.precision, fmt.precision >= FLOAT16.precision
    step, shift = (0.125, 1024.0) if wide else (0.125, 16.0) if medium else (1.0, 1.0)
    first, *rest = example.inputs
    grid, axis = _on_a_grid(first, step), example.axis
    rows = np.indices(grid.shape).sum(axis=0).take([0], axis)  # one entry of each row, by its place
    amounts = np.asarray(np.where(rows % 2 == 0, shift, -shift))

    def moved_by(by: Any) -> Example:
        return example.with_inputs(np.asarray((grid + by).astype(first.dtype)), *rest)

    return moved_by(0.0), tuple((moved_by(by), by.squeeze(axis)) for by in (amounts, -amounts))


def _shift_invariant(subject: Subject, example: Example, fmt: Format) -> None:
    before, others = _shifted(example, fmt)
    expected, granted = subject.outputs(before), subject.output_bound(before, fmt)
    require_each(
        Comparison(
            subject.outputs(after),
            expected,
            granted + subject.output_bound(after, fmt),
            "the value after a shift of each row",
        )
        for after, _ in others
    )


def _shift_equivariant(subject: Subject, example: Example, fmt: Format) -> None:
    before, others = _shifted(example, fmt)
    expected, granted = subject.outputs(before), subject.output_bound(before, fmt)
    require_each(
        Comparison(
            subject.outputs(after) - shifts,
            expected,
            granted + subject.output_bound(after, fmt),
            "the value less the shift of its row",
        )
        for after, shifts in others
    )


def _gradient_sums_to_zero(subject: Subject, example: Example, fmt: Format) -> None:
    axis = example.axis
    gradient, granted = subject.gradients(example)[0], subject.gradient_bounds(example, fmt)[0]
    bound = _exact_sum(granted, axis) * SLACK
    require(_exact_sum(gradient, axis), 0.0, bound, "the sum of the gradient along the row")


def permuted_order(count: int) -> Values:
    """Another order of so many entries, which no rotation or reflection gives for more than three of them."""
    return np.argsort((np.arange(count) * 0.618034 + 0.5) % 1.0)


def _along(axes: Sequence[str], example: Example) -> int:
    """The axis of an array along which the entries of a row lie."""
    if "axis" in example.settings:
        return example.axis
    place = axes.index(ROW_AXIS)
    return place - len(axes) if BATCH in axes[:place] else place


def _counted_anew(indices: Values, places: Values) -> Values:
    """The new places of the entries; what counts none of them stays."""
    counting = (indices >= 0) & (indices < len(places))
    return np.asarray(np.where(counting, places[np.where(counting, indices, 0)], indices))


def _permutation_equivariant(subject: Subject, example: Example, fmt: Format) -> None:
    """Classes in another order: the same values in that order, gradients included."""
    spec = subject.spec
    groups, out = spec.groups(0), spec.groups(1)
    if example.settings.get("reduction", "none") != "none":
        out = ((),)
    first = next(k for k, axes in enumerate(groups) if ROW_AXIS in axes)
    count = example.inputs[first].shape[_along(groups[first], example)]
    if count < 2:
        raise NotApplicable("one entry has one order")
    order = permuted_order(count)
    places = np.argsort(order)

    def reordered(x: Values, axes: Sequence[str]) -> Values:
        return np.asarray(np.take(x, order, _along(axes, example))) if ROW_AXIS in axes else x

    inputs = [
        _counted_anew(x, places)
        if item.domain is Domain.INDEX and item.along == ROW_AXIS
        else reordered(x, axes)
        for item, axes, x in zip(spec.inputs, groups, example.inputs, strict=True)
    ]
    cotangents = tuple(reordered(d, axes) for d, axes in zip(example.cotangents, out, strict=True))
    indices = {s.name: example.settings[s.name] for s in spec.settings if s.along == ROW_AXIS}
    moved = {name: int(_counted_anew(np.asarray(index), places)) for name, index in indices.items()}
    other = replace(
        example.with_settings(**moved).with_inputs(*inputs),
        dy=cotangents if isinstance(example.dy, tuple) else cotangents[0],
    )
    results = zip(
        out,
        subject.results(other),
        subject.results(example),
        subject.result_bounds(other, fmt),
        subject.result_bounds(example, fmt),
        strict=True,
    )
    what = "the value for the row in another order"
    parts = [
        Comparison(found, reordered(before, axes), one + reordered(two, axes), what)
        for axes, found, before, one, two in results
    ]
    if subject.vjp is not None:
        gradients = zip(
            spec.differentiable,
            subject.gradients(other),
            subject.gradients(example),
            subject.gradient_bounds(other, fmt),
            subject.gradient_bounds(example, fmt),
            strict=True,
        )
        for k, found, before, one, two in gradients:
            axes = groups[k]
            what = f"the gradient of input {k} for the row in another order"
            parts.append(Comparison(found, reordered(before, axes), one + reordered(two, axes), what))
    require_each(parts)


# ------------------------------------------------------------------------------------------------ ranges


def _within(subject: Subject, example: Example, fmt: Format, low: float, high: float, what: str) -> None:
    """A range, kept exactly by refnet: rounding is monotone, and no step of its code leaves the range."""
    y = subject.outputs(example)
    granted = 0.0 if subject.is_reference else subject.output_bound(example, fmt)
    require(y, np.clip(y, low, high), granted, what)


def _unit_interval(subject: Subject, example: Example, fmt: Format) -> None:
    _within(subject, example, fmt, 0.0, 1.0, "a probability")


def _nonnegative(subject: Subject, example: Example, fmt: Format) -> None:
    _within(subject, example, fmt, 0.0, math.inf, "a value that cannot be negative")


def _nonpositive(subject: Subject, example: Example, fmt: Format) -> None:
    _within(subject, example, fmt, -math.inf, 0.0, "a value that cannot be positive")


def _zero_when_perfect(subject: Subject, example: Example, fmt: Format) -> None:
    """Zero at a perfect answer: p = t (made certain, where t is a distribution), or the logarithm of that;
    above 0 at a wrong one.

    A wrong answer is the example's own, or far from the target, and wrong is what refnet's loss less twice
    the bound says is above 0: one bound for refnet and one for the subject.
    """
    example = example.with_settings(reduction="none")
    right, far, target = _answers(subject.spec, *example.inputs)
    perfect = example.with_inputs(right, target)
    granted = 0.0 if subject.is_reference else subject.output_bound(perfect, fmt)
    require(subject.outputs(perfect), 0.0, granted, "the loss of a perfect answer")
    for answer in (far, example.inputs[0]):
        wrong = example.with_inputs(answer, target)
        losses, bound = subject.outputs(wrong), subject.output_bound(wrong, fmt)
        due = Subject.of_reference(subject.spec.name).outputs(wrong)
        surely = due > 2.0 * bound
        if not (losses[surely] > 0.0).all():
            raise LawViolation(f"the loss of a wrong answer is {losses[surely].min()!r}, not above 0")


def _answers(spec: Spec, given: Values, target: Values) -> tuple[Values, Values, Values]:
    """A perfect answer, one that is far from it, and the target that they answer."""
    domain = spec.inputs[1].domain
    if domain is Domain.REAL:
        return (
            target.copy(),
            np.asarray(target + np.maximum(np.abs(target), 1.0)).astype(target.dtype),
            target,
        )
    if domain is Domain.SIGN:
        return target.copy(), np.asarray(-target), target
    if domain is Domain.INDEX:
        certain = np.equal(np.arange(given.shape[-1]), target[..., None]).astype(given.dtype)
    else:
        target = certain = _made_certain(target, spec)
    if spec.inputs[0].domain is Domain.LOG_PROBABILITY:  # -1 for log(0): wrong enough, and finite
        return certain - certain.dtype.type(1), np.full_like(certain, -1.0), target
    return certain.copy(), np.full_like(certain, 0.5), target


def _made_certain(target: Values, spec: Spec) -> Values:
    certain: Values = np.asarray(np.greater(target, 0.5))
    if spec.core_axes[1]:
        certain = np.equal(np.arange(target.shape[-1]), target.argmax(-1)[..., None])
    return certain.astype(target.dtype)


# -------------------------------------------------------------------------------------------- symmetries


def _mirrored(example: Example) -> Example:
    return example.with_inputs(np.asarray(-example.inputs[0]), *example.inputs[1:])


def _reflection(subject: Subject, example: Example, fmt: Format) -> None:
    mirror = _mirrored(example)
    rounding_of_the_sum = 2.0 * FLOAT64.unit_roundoff
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt) + rounding_of_the_sum
    require(subject.outputs(example) + subject.outputs(mirror), 1.0, granted, "f(x) + f(-x)")


def _odd(subject: Subject, example: Example, fmt: Format) -> None:
    mirror = _mirrored(example)
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt)
    require(subject.outputs(mirror), -subject.outputs(example), granted, "f(-x)")


def _difference_is_x(subject: Subject, example: Example, fmt: Format) -> None:
    """The difference is computed in float64, which rounds it once more."""
    mirror = _mirrored(example)
    here, there = subject.outputs(example), subject.outputs(mirror)
    size = np.abs(here) + np.abs(there)
    rounding = 2.0 * FLOAT64.unit_roundoff * np.where(np.isfinite(size), size, 0.0)
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt) + rounding
    with np.errstate(invalid="ignore"):
        difference = here - there
    require(difference, example.inputs[0].astype(np.float64), granted, "f(x) - f(-x)")


def _homogeneous(subject: Subject, example: Example, fmt: Format, *, positive: bool) -> None:
    """f(2 x) = 2 f(x): doubling rounds nothing."""
    (x,) = example.inputs
    if positive:
        x = np.asarray(np.abs(x))
    once, twice = example.with_inputs(x), example.with_inputs(np.asarray(x + x))
    granted = 2.0 * subject.output_bound(once, fmt) + subject.output_bound(twice, fmt)
    require(subject.outputs(twice), 2.0 * subject.outputs(once), granted, "f(2 x)")


def _positively_homogeneous(subject: Subject, example: Example, fmt: Format) -> None:
    _homogeneous(subject, example, fmt, positive=False)


def _linear_on_positives(subject: Subject, example: Example, fmt: Format) -> None:
    _homogeneous(subject, example, fmt, positive=True)


def _sign_preserving(subject: Subject, example: Example, fmt: Format) -> None:
    """Above 0 nothing negative, below 0 nothing positive; refnet exactly, others up to rounding."""
    x, y = example.inputs[0].astype(np.float64), subject.outputs(example)
    granted = 0.0 if subject.is_reference else subject.output_bound(example, fmt)
    due = np.where(x > 0, np.maximum(y, 0.0), np.where(x < 0, np.minimum(y, 0.0), y))
    require(y, due, granted, "a value of the sign of x")


def _even(subject: Subject, example: Example, fmt: Format) -> None:
    """The gradient then changes its sign, but on a kink, where it may be that of either side."""
    mirror = example.with_inputs(*(np.asarray(-x) for x in example.inputs))
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt)
    parts = [Comparison(subject.outputs(mirror), subject.outputs(example), granted, "f(-p, -t)")]
    if subject.vjp is not None:
        due, found = subject.gradients(example)[0], subject.gradients(mirror)[0]
        bounds = (subject.gradient_bounds(each, fmt)[0] for each in (example, mirror))
        granted = np.add(*bounds)
        for kink in subject.spec.kinks:
            granted = np.where(on_kink(kink, example.inputs, subject.granted(fmt)), np.inf, granted)
        parts.append(Comparison(found, -due, granted, "the gradient at (-p, -t)"))
    require_each(parts)


def _gibbs(subject: Subject, example: Example, fmt: Format) -> None:
    """sum t log(t / p) >= -log(sum p) for a distribution t: the log-sum inequality (Cover & Thomas, 2.7.1).

    With log-probabilities that are normalised it says that a divergence is not negative; that of rounded ones
    may be, and so it says by how much.
    """
    example = example.with_settings(reduction="none")
    log_p, t = (x.astype(np.float64) for x in example.inputs)
    if not (t.sum(axis=-1) == 1.0).all():
        raise NotApplicable("targets that do not sum to exactly 1")
    op = refnet.logsumexp
    least = -op(log_p)
    slack = value_bound(op, SPECS["logsumexp"], [log_p], {}, FLOAT64).deterministic
    y, granted = subject.outputs(example), subject.output_bound(example, fmt) + slack * SLACK
    require(y, np.maximum(y, least), np.where(np.isnan(granted), np.inf, granted), "the divergence")


# ------------------------------------------------------------------------------------------ compositions


def _composition(subject: Subject, example: Example, fmt: Format) -> None:
    """The loss in logits is the loss in probabilities of the activation that it replaces.

    The composition is computed in float64, whatever the format of the subject: it loses digits where a
    probability is close to 1, and its bound says how many. Beyond 12 it has few left.
    """
    z, target = example.inputs
    z = np.asarray(np.clip(z.astype(np.float64), -12.0, 12.0).astype(z.dtype))
    example = example.with_inputs(z, target)
    if subject.spec.name == "binary_cross_entropy_with_logits":
        first, second = refnet.OPS["sigmoid"], refnet.OPS["binary_cross_entropy"]
    else:
        first, second = refnet.OPS["softmax"], refnet.OPS["categorical_cross_entropy"]
    wide = z.astype(np.float64)
    if subject.spec.inputs[1].domain is Domain.INDEX:
        target = target[..., None] == np.arange(z.shape[-1])
    target = np.asarray(target).astype(np.float64)
    composed = second(first(wide), target, **example.settings)
    bound = composition_bound(first, second, wide, target, example.settings, FLOAT64)
    granted = np.where(np.isnan(bound), np.inf, bound * SLACK) + subject.output_bound(example, fmt)
    require(subject.outputs(example), composed, granted, f"{first.name} then {second.name}")


def _has_rows(spec: Spec) -> bool:
    return any(ROW_AXIS in axes for axes in spec.core_axes)


VALUE_LAWS = (
    Law("sums-to-one", "the probabilities of a row sum to 1", _sums_to_one),
    Law("shift-invariant", "adding a constant to a row changes nothing", _shift_invariant),
    Law("shift-equivariant", "adding a constant to a row adds it to the value", _shift_equivariant),
    Law(
        "gradient-sums-to-zero",
        "the gradient of a shift-invariant function sums to 0 along the row",
        _gradient_sums_to_zero,
        gradient=True,
    ),
    Law("unit-interval", "a probability is between 0 and 1", _unit_interval),
    Law("nonnegative", "the value is never negative", _nonnegative),
    Law("nonpositive", "the value is never positive", _nonpositive),
    Law("zero-when-perfect", "the loss is 0 at a perfect answer, and only there", _zero_when_perfect),
    Law("reflection", "f(x) + f(-x) = 1", _reflection),
    Law("odd", "f(-x) = -f(x)", _odd),
    Law("difference-is-x", "f(x) - f(-x) = x", _difference_is_x),
    Law("positively-homogeneous", "f(2 x) = 2 f(x)", _positively_homogeneous),
    Law("linear-on-positives", "f(2 x) = 2 f(x) for x >= 0", _linear_on_positives),
    Law("sign-preserving", "f(x) has the sign of x, or is 0", _sign_preserving),
    Law("even", "f(-p, -t) = f(p, t)", _even),
    Law("gibbs", "no divergence is below minus the logarithm of what the probabilities sum to", _gibbs),
    Law("composition", "the loss in logits equals the composition it replaces", _composition),
    Law(
        "permutation-equivariant",
        "the order of the classes does not matter",
        _permutation_equivariant,
        universal=True,
        applies=_has_rows,
    ),
)
