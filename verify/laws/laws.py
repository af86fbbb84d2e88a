"""The laws of single operators. Every tolerance is the sum of the rounding bounds of what is compared.

refnet itself is held to more where its code promises more: a range is kept exactly, a perfect answer costs
exactly nothing. Another implementation is granted the rounding of an honest computation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

import refnet
from specs import Domain, Spec
from verify.arithmetic.bounds import composition_bound
from verify.arithmetic.formats import FLOAT16, FLOAT32, FLOAT64, Format
from verify.laws.examples import LAYOUTS, Example, cotangent, laid_out
from verify.laws.law import (
    SLACK,
    Comparison,
    Floats,
    Law,
    LawViolation,
    NotApplicable,
    Subject,
    Values,
    require,
    require_each,
)

ROW_AXIS = "c"
"""The axis of a signature along which every entry depends on every other: the classes of a row."""


def _exact_sum(x: Floats, axis: int) -> Floats:
    """Sums along an axis, rounded once; infinite if a term is."""
    return np.asarray(np.apply_along_axis(_total, axis, x))


def _total(x: Floats) -> float:
    return math.fsum(x.ravel()) if np.isfinite(x).all() else float(np.sum(x))


def _axis(example: Example) -> int:
    return int(example.settings.get("axis", -1))


def _require_finite(*arrays: Values) -> None:
    if not all(np.isfinite(np.asarray(a, dtype=np.float64)).all() for a in arrays):
        raise NotApplicable("the law is about finite numbers")


def _with_settings(subject: Subject, example: Example, fmt: Format, **settings: Any) -> Example:
    """The example under other settings, with a cotangent of the shape that the output then has."""
    changed = example.with_settings(**settings)
    rng = np.random.default_rng(changed.inputs[0].size)
    return replace(changed, dy=cotangent(subject.spec, fmt, changed.inputs, changed.settings, rng))


def _per_example(subject: Subject, example: Example, fmt: Format) -> Example:
    """The example with one loss for each row."""
    if example.settings.get("reduction", "none") == "none":
        return example
    return _with_settings(subject, example, fmt, reduction="none")


# --------------------------------------------------------------------------------------- values of a row


def _sums_to_one(subject: Subject, example: Example, fmt: Format) -> None:
    axis, y = _axis(example), subject.outputs(example)
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
    grid, axis = _on_a_grid(first, step), _axis(example)
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
    axis = _axis(example)
    gradient, granted = subject.gradients(example)[0], subject.gradient_bounds(example, fmt)[0]
    bound = _exact_sum(granted, axis) * SLACK
    require(_exact_sum(gradient, axis), 0.0, bound, "the sum of the gradient along the row")


def permuted_order(count: int) -> Values:
    """Another order of so many entries, which no rotation or reflection gives for more than three of them."""
    return np.argsort((np.arange(count) * 0.618034 + 0.5) % 1.0)


def _permutation_equivariant(subject: Subject, example: Example, fmt: Format) -> None:
    """Classes in another order: the same values in that order, gradients included."""
    spec, axis = subject.spec, _axis(example)
    count = example.inputs[0].shape[axis]
    if count < 2:
        raise NotApplicable("one entry has one order")
    order = permuted_order(count)
    _, _, output = spec.signature.partition("->")

    def reordered(x: Values, axes: Sequence[str]) -> Values:
        return np.asarray(np.take(x, order, axis)) if ROW_AXIS in axes else x

    inputs = [
        np.asarray(np.argsort(order)[x]) if item.domain is Domain.LABEL else reordered(x, axes)
        for item, axes, x in zip(spec.inputs, spec.core_axes, example.inputs, strict=True)
    ]
    out = (ROW_AXIS,) if ROW_AXIS in output else ()
    other = replace(example.with_inputs(*inputs), dy=reordered(example.dy, out))
    granted = reordered(subject.output_bound(example, fmt), out) + subject.output_bound(other, fmt)
    due = reordered(subject.outputs(example), out)
    parts = [Comparison(subject.outputs(other), due, granted, "the value for the row in another order")]
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
            axes = spec.core_axes[k]
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
    """Zero at p = t (made certain, where t is a distribution); above 0 at a wrong answer.

    A wrong answer is the example's own, or far from the target, and wrong is what refnet's loss less twice
    the bound says is above 0: one bound for refnet and one for the subject.
    """
    example = example.with_settings(reduction="none")
    target = np.asarray(example.inputs[1])
    far = np.full_like(target, 0.5)
    if subject.spec.inputs[1].domain is Domain.REAL:
        far = np.asarray(target + np.maximum(np.abs(target), 1.0)).astype(target.dtype)
    else:
        target = _made_certain(target, subject.spec)
    perfect = example.with_inputs(target.copy(), target)
    granted = 0.0 if subject.is_reference else subject.output_bound(perfect, fmt)
    require(subject.outputs(perfect), 0.0, granted, "the loss of a perfect answer")
    for answer in (far, example.inputs[0]):
        wrong = example.with_inputs(answer, target)
        losses, bound = subject.outputs(wrong), subject.output_bound(wrong, fmt)
        due = subject.reference(*wrong.inputs, **wrong.settings).astype(np.float64)
        surely = due > 2.0 * bound
        if not (losses[surely] > 0.0).all():
            raise LawViolation(f"the loss of a wrong answer is {losses[surely].min()!r}, not above 0")


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


def _zero_gradient(subject: Subject, example: Example, fmt: Format) -> None:
    """Without a gradient a step changes nothing, bit for bit; -0.0 is 0.0."""
    param, grad = example.inputs
    still = example.with_inputs(param, np.zeros_like(grad))
    require(subject.outputs(still), param.astype(np.float64), 0.0, "the parameter after a gradient of 0")


# ---------------------------------------------------------------------------------------------- the batch


def _reductions(subject: Subject, example: Example, fmt: Format) -> tuple[Example, Example, Example]:
    none, total, mean = (
        _with_settings(subject, example, fmt, reduction=name) for name in ("none", "sum", "mean")
    )
    return none, total, mean


def _reductions_agree(subject: Subject, example: Example, fmt: Format) -> None:
    none, total, mean = _reductions(subject, example, fmt)
    losses = subject.outputs(none)
    _require_finite(losses)
    granted = _total(subject.output_bound(none, fmt))
    summed = _total(losses)
    slack = 2.0 * FLOAT64.unit_roundoff * _total(np.abs(losses))
    sum_bound = granted + subject.output_bound(total, fmt) + slack
    mean_bound = (granted + slack) / losses.size + subject.output_bound(mean, fmt)
    require_each(
        [
            Comparison(subject.outputs(total), summed, sum_bound, "the sum of the losses"),
            Comparison(subject.outputs(mean), summed / losses.size, mean_bound, "the mean of the losses"),
        ]
    )


def _gradient_reductions_agree(subject: Subject, example: Example, fmt: Format) -> None:
    """d mean = d sum / n, and d sum is the gradient of the losses under a constant cotangent."""
    none, total, mean = _reductions(subject, example, fmt)
    examples = none.dy.size
    none = replace(none, dy=np.asarray(np.full_like(none.dy, total.dy)))
    mean = replace(mean, dy=total.dy)
    expected, granted = subject.gradients(total)[0], subject.gradient_bounds(total, fmt)[0]
    dividing = FLOAT64.unit_roundoff * np.abs(expected)
    require_each(
        Comparison(
            subject.gradients(other)[0],
            expected / share,
            granted / share + subject.gradient_bounds(other, fmt)[0] + dividing,
            f'the gradient under reduction="{other.settings["reduction"]}"',
        )
        for other, share in ((none, 1), (mean, examples))
    )


def _batch_independent(subject: Subject, example: Example, fmt: Format) -> None:
    """The output of each example is what it would be alone, and so is the gradient of the first input."""
    whole = _per_example(subject, example, fmt)
    spec, first = subject.spec, whole.inputs[0]
    core = len(spec.core_axes[0]) if spec.batched else 1
    if first.ndim <= core:
        raise NotApplicable("no batch")
    along = -1 if spec.batched and core and _axis(whole) % first.ndim == 0 else 0
    outputs, granted = subject.outputs(whole), subject.output_bound(whole, fmt)
    gradient, of_gradient = outputs, granted
    if subject.vjp is not None:
        gradient, of_gradient = subject.gradients(whole)[0], subject.gradient_bounds(whole, fmt)[0]
    parts = []
    for i in range(first.shape[along]):
        inputs = (np.take(x, [i], along) if spec.batched or k == 0 else x for k, x in enumerate(whole.inputs))
        alone = replace(whole.with_inputs(*inputs), dy=np.take(whole.dy, [i], along))
        due, bound = np.take(outputs, [i], along), np.take(granted, [i], along)
        what = f"example {i} of the batch, alone"
        parts.append(Comparison(subject.outputs(alone), due, 2.0 * bound, what))
        if subject.vjp is not None:
            due, bound = np.take(gradient, [i], along), np.take(of_gradient, [i], along)
            parts.append(Comparison(subject.gradients(alone)[0], due, 2.0 * bound, f"the gradient of {what}"))
    require_each(parts)


def _nan_propagates(subject: Subject, example: Example, fmt: Format) -> None:
    """A NaN in an input reaches the outputs that depend on it, and no others."""
    whole = _per_example(subject, example, fmt)
    spec = subject.spec
    if _axis(whole) == 0:
        raise NotApplicable("rows are the last axis here")
    clean = subject.outputs(whole)
    for k, (x, axes) in enumerate(zip(whole.inputs, spec.core_axes, strict=True)):
        if spec.inputs[k].domain is Domain.LABEL:
            continue
        poisoned = x.copy()
        at = tuple(size // 2 for size in x.shape)
        poisoned[at] = np.nan
        dirty = subject.outputs(whole.with_inputs(*whole.inputs[:k], poisoned, *whole.inputs[k + 1 :]))
        reached = _reached(spec, axes, at)
        if not np.isnan(dirty[reached]).all():
            raise LawViolation(f"NaN at {at} of input {k}, but the output there is {dirty[reached]!r}")
        same = np.asarray(np.isnan(dirty) == np.isnan(clean))
        same[reached] = True
        if not same.all():
            raise LawViolation(f"NaN at {at} of input {k} has spread beyond {reached} of the output")


def _reached(spec: Spec, axes: Sequence[str], at: tuple[int, ...]) -> tuple[Any, ...]:
    """The outputs that depend on the element `at` of an input: those that agree with it in every shared
    axis; a row (c) is one thing, of which every entry depends on every other."""
    _, _, output = spec.signature.partition("->")
    out = tuple(filter(None, output.strip("()").split(",")))
    split = len(at) - len(axes)
    place = dict(zip(axes, at[split:], strict=True))
    everything = slice(None)
    return (
        *at[:split],
        *(place.get(axis, everything) if axis != ROW_AXIS else everything for axis in out),
    )


# ----------------------------------------------------------------------------------------- the gradient


def _vjp_additive(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(a + b) = vjp(a) + vjp(b), with cotangents of seven bits so that a + b is exact."""
    a = example.dy.astype(np.float64)
    b = np.random.default_rng(a.size).integers(-64, 65, a.shape) / 64.0
    parts = [replace(example, dy=np.asarray(d).astype(example.dy.dtype)) for d in (a, b, a + b)]
    first, second, both = (subject.gradients(part) for part in parts)
    bounds = [subject.gradient_bounds(part, fmt) for part in parts]
    sums = []
    for k, (da, db, dab) in enumerate(zip(first, second, both, strict=True)):
        with np.errstate(invalid="ignore"):  # a gradient may be infinite: its bound is, too
            due = da + db
        adding = 2.0 * FLOAT64.unit_roundoff * (np.abs(da) + np.abs(db))
        granted = sum((bound[k] for bound in bounds), adding)
        sums.append(Comparison(dab, due, granted, f"gradient {k} of a sum of cotangents"))
    require_each(sums)


def _vjp_homogeneous(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(s dy) = s vjp(dy) for s = 4 and s = -1/2, bit for bit: neither a power of two nor a sign rounds.

    The half formats compute in float32 and round once, so intermediate results have the range of float32.
    """
    inner = fmt if fmt.precision >= FLOAT32.precision else FLOAT32
    example = _tame(subject.spec, example, inner)
    low = max(2.0 * fmt.smallest_normal, inner.smallest_normal * 2.0**40)
    high = min(fmt.largest / 8.0, inner.largest / 2.0**12)
    once = subject.gradients(example)
    parts = []
    for factor in (4.0, -0.5):
        scaled = replace(example, dy=np.asarray(example.dy * example.dy.dtype.type(factor)))
        for k, (one, found) in enumerate(zip(once, subject.gradients(scaled), strict=True)):
            safe = (np.abs(one) >= low) & (np.abs(one) < high)
            exactly = np.where(safe, 0.0, np.inf)
            due = factor * np.where(safe, one, 0.0)
            parts.append(Comparison(found, due, exactly, f"gradient {k} of {factor} dy"))
    require_each(parts)


def _tame(spec: Spec, example: Example, inner: Format) -> Example:
    """The example without the numbers that make products or exponentials underflow.

    A product that underflows is rounded, and a power of two times it is rounded elsewhere: at w = (1 + 2^-52,
    2^-1074), dy = 1.5 it decides a tie in the sum that it belongs to, and so changes the last bit. Nothing
    below is the eighth root of the smallest normal number, and no exponential of a difference its fourth.
    """
    tiny = inner.smallest_normal**0.125
    most = -math.log(tiny)

    def tamed(x: Values) -> Values:
        wide = x.astype(np.float64)
        wide = np.clip(np.where(np.abs(wide) < tiny, 0.0, wide), -most, most)
        return np.asarray(wide.astype(x.dtype))

    return example.with_inputs(
        *(
            tamed(x)
            if item.domain is Domain.REAL or (x.dtype.kind not in "iu" and not item.differentiable)
            else x
            for item, x in zip(spec.inputs, example.inputs, strict=True)
        )
    )


# ------------------------------------------------------------------------------------------------- purity


def _pure(subject: Subject, example: Example, fmt: Format) -> None:
    """The inputs stay as they were, the results share no memory with them, a second call repeats the bits."""
    given = (*example.inputs, example.dy)
    before = [x.tobytes() for x in given]
    calls: list[Any] = [lambda: (subject.value(*example.inputs, **example.settings),)]
    if subject.vjp is not None:
        vjp = subject.vjp
        calls.append(lambda: tuple(vjp(example.dy, *example.inputs, **example.settings)))
    for call in calls:
        first = [np.asarray(y) for y in call()]
        kept = [y.tobytes() for y in first]
        second = [np.asarray(y) for y in call()]
        if [x.tobytes() for x in given] != before:
            raise LawViolation("an input was modified")
        for y, bits, again in zip(first, kept, second, strict=True):
            if any(np.shares_memory(y, x) for x in given):
                raise LawViolation("a result shares memory with an input")
            if y.tobytes() != bits or bits != again.tobytes():
                raise LawViolation("a second call gave other bits")
            if np.shares_memory(y, again):
                raise LawViolation("two calls share memory")


def _residuals_are_kept(subject: Subject, example: Example, fmt: Format) -> None:
    """backward may be called twice on the same residuals; it changes neither them nor the cotangent, and no
    result shares memory with what is kept for the next call."""
    op = subject.parts
    if op is None:
        raise NotApplicable("residuals are seen only in the parts of an operator")
    inner = fmt if fmt.precision >= FLOAT32.precision else FLOAT32
    inputs = (x.copy() if x.dtype.kind in "iu" else x.astype(inner.dtype) for x in example.inputs)
    dy = example.dy.astype(inner.dtype)
    with np.errstate(all="ignore"):
        y, residuals = op.forward(*inputs, **example.settings)
        kept = [*_arrays(residuals), dy]
        before = [x.tobytes() for x in kept]
        first = op.backward(residuals, dy)
        bits = [g.tobytes() for g in first]
        second = op.backward(residuals, dy)
    if [x.tobytes() for x in kept] != before:
        raise LawViolation("backward has changed its residuals or the cotangent")
    if [g.tobytes() for g in second] != bits:
        raise LawViolation("a second backward on the same residuals gave other bits")
    if any(np.shares_memory(result, x) for result in (y, *first) for x in kept):
        raise LawViolation("a result shares memory with the residuals or the cotangent")


def _arrays(record: object) -> list[Values]:
    """The arrays in a record of residuals, however deep."""
    if isinstance(record, tuple):
        return [array for item in record for array in _arrays(item)]
    return [record] if isinstance(record, np.ndarray) else []


def _layout_independent(subject: Subject, example: Example, fmt: Format) -> None:
    """Strided, reversed, column-major and read-only arrays of the same values give the same results."""
    plain = laid_out(example, "contiguous")
    value, granted = subject.outputs(plain), 2.0 * subject.output_bound(plain, fmt)
    parts = []
    for layout in LAYOUTS:
        view = laid_out(example, layout)
        found = np.asarray(subject.value(*view.inputs, **view.settings)).astype(np.float64)
        parts.append(Comparison(found, value, granted, f"the value for {layout} arrays"))
    if subject.vjp is not None:
        gradients, bounds = subject.gradients(plain), subject.gradient_bounds(plain, fmt)
        for layout in LAYOUTS:
            view = laid_out(example, layout)
            others = subject.vjp(view.dy, *view.inputs, **view.settings)
            for k, (other, due, bound) in enumerate(zip(others, gradients, bounds, strict=True)):
                found = np.asarray(other).astype(np.float64)
                parts.append(Comparison(found, due, 2.0 * bound, f"gradient {k} for {layout} arrays"))
    require_each(parts)


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
    if subject.spec.inputs[1].domain is Domain.LABEL:
        target = target[..., None] == np.arange(z.shape[-1])
    target = np.asarray(target).astype(np.float64)
    composed = second(first(wide), target, **example.settings)
    bound = composition_bound(first, second, wide, target, example.settings, FLOAT64)
    granted = np.where(np.isnan(bound), np.inf, bound * SLACK) + subject.output_bound(example, fmt)
    require(subject.outputs(example), composed, granted, f"{first.name} then {second.name}")


def _has_reduction(spec: Spec) -> bool:
    return any(setting.name == "reduction" for setting in spec.settings)


def _has_rows(spec: Spec) -> bool:
    return any(ROW_AXIS in axes for axes in spec.core_axes)


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        law.name: law
        for law in (
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
            Law("zero-gradient", "a step along a gradient of 0 changes nothing", _zero_gradient),
            Law("composition", "the loss in logits equals the composition it replaces", _composition),
            Law(
                "permutation-equivariant",
                "the order of the classes does not matter",
                _permutation_equivariant,
                universal=True,
                applies=_has_rows,
            ),
            Law(
                "reductions-agree",
                "mean = sum / n, and sum = the sum of the losses of the examples",
                _reductions_agree,
                universal=True,
                applies=_has_reduction,
            ),
            Law(
                "gradient-reductions-agree",
                "the gradient of the mean is that of the sum over n, and that of the losses over n",
                _gradient_reductions_agree,
                universal=True,
                applies=_has_reduction,
                gradient=True,
            ),
            Law(
                "batch-independent",
                "an example gives alone what it gives in a batch",
                _batch_independent,
                universal=True,
            ),
            Law("nan-propagates", "NaN in, NaN out, and nowhere else", _nan_propagates, universal=True),
            Law(
                "vjp-additive",
                "the vjp of a sum of cotangents is the sum of the vjps",
                _vjp_additive,
                universal=True,
                gradient=True,
            ),
            Law(
                "vjp-homogeneous",
                "a power of two times the cotangent gives as many times the gradient, bit for bit",
                _vjp_homogeneous,
                universal=True,
                gradient=True,
            ),
            Law(
                "pure", "inputs untouched, nothing shared, equal calls give equal bits", _pure, universal=True
            ),
            Law(
                "residuals-are-kept",
                "backward leaves its residuals as they were",
                _residuals_are_kept,
                universal=True,
                gradient=True,
            ),
            Law(
                "layout-independent",
                "strided, reversed, column-major and read-only arrays give what plain ones give",
                _layout_independent,
                universal=True,
            ),
        )
    }
)
"""Every law of operators by its name."""


def laws_of(spec: Spec) -> tuple[Law, ...]:
    """The laws that an operator must obey: its own, then the universal ones."""
    own = [LAWS[name] for name in spec.laws]
    return (*own, *(law for law in LAWS.values() if law.universal and law.applies(spec)))
