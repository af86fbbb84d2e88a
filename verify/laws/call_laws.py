"""Laws of how an operator is called: batches, NaN, cotangents, memory. Nearly all hold for every operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from specs import Domain, Spec
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format
from verify.laws.examples import LAYOUTS, Example, cotangent, laid_out
from verify.laws.law import (
    ROW_AXIS,
    Comparison,
    Law,
    LawViolation,
    NotApplicable,
    Subject,
    Values,
    exact_total,
    require_each,
)


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


# ---------------------------------------------------------------------------------------------- the batch


def _reductions(subject: Subject, example: Example, fmt: Format) -> tuple[Example, Example, Example]:
    none, total, mean = (
        _with_settings(subject, example, fmt, reduction=name) for name in ("none", "sum", "mean")
    )
    return none, total, mean


def _reductions_agree(subject: Subject, example: Example, fmt: Format) -> None:
    none, total, mean = _reductions(subject, example, fmt)
    losses = subject.outputs(none)
    if not np.isfinite(losses).all():
        raise NotApplicable("the law is about finite numbers")
    granted = exact_total(subject.output_bound(none, fmt))
    summed = exact_total(losses)
    slack = 2.0 * FLOAT64.unit_roundoff * exact_total(np.abs(losses))
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
    along = -1 if spec.batched and core and whole.axis % first.ndim == 0 else 0
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
    if whole.axis == 0:
        raise NotApplicable("rows are the last axis here")
    clean = subject.outputs(whole)
    for k, (x, axes) in enumerate(zip(whole.inputs, spec.core_axes, strict=True)):
        if spec.inputs[k].domain is Domain.LABEL:
            continue
        poisoned = x.copy()
        at = _place(spec, whole, k)
        poisoned[at] = np.nan
        dirty = subject.outputs(whole.with_inputs(*whole.inputs[:k], poisoned, *whole.inputs[k + 1 :]))
        reached = _reached(spec, axes, at)
        if not np.isnan(dirty[reached]).all():
            raise LawViolation(f"NaN at {at} of input {k}, but the output there is {dirty[reached]!r}")
        same = np.asarray(np.isnan(dirty) == np.isnan(clean))
        same[reached] = True
        if not same.all():
            raise LawViolation(f"NaN at {at} of input {k} has spread beyond {reached} of the output")


def _place(spec: Spec, example: Example, k: int) -> tuple[int, ...]:
    """An element in the middle of an input; of log-probabilities the one at the label, if there are labels,
    because a loss that picks that one depends on no other."""
    at = tuple(size // 2 for size in example.inputs[k].shape)
    picked = spec.inputs[k].domain is Domain.LOG_PROBABILITY and spec.inputs[-1].domain is Domain.LABEL
    return (*at[:-1], int(example.inputs[-1][at[:-1]])) if picked else at


def _nan_reaches_gradients(subject: Subject, example: Example, fmt: Format) -> None:
    """What changes with an element of the first input is NaN where that element is.

    Asked of the subject itself, at two other values: the derivative of sigmoid is even, that of tanh too.
    """
    first, *others = example.inputs
    at = tuple(size // 2 for size in first.shape)

    def gradients(value: Any) -> list[Values]:
        moved = first.copy()
        moved[at] = value
        return [np.asarray(g, np.float64) for g in subject.gradients(example.with_inputs(moved, *others))]

    before, lost = gradients(first[at]), gradients(np.nan)
    changed = [np.zeros(g.shape, bool) for g in before]
    for value in (-first[at], first[at] / 2 + 1):
        after = gradients(value)
        changed = [c | (a != b) for c, a, b in zip(changed, after, before, strict=True)]
    if not any(c.any() for c in changed):
        raise NotApplicable("no gradient depends on this element")
    for k, (depends, found) in enumerate(zip(changed, lost, strict=True)):
        hidden = depends & ~np.isnan(found)
        if hidden.any():
            index = tuple(int(i) for i in np.argwhere(hidden)[0])
            raise LawViolation(f"NaN at {at} of the input, but gradient {k} at {index} is {found[index]!r}")


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


STEPS = 8.0
"""Operations that an honest gradient puts a cotangent through, beside the sum that it may end in."""


def _vjp_additive(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(a + b) = vjp(a) + vjp(b), with cotangents of seven bits so that a + b is exact.

    The bound of the right gradient is enough for the right one. One that is wrong and linear all the same
    rounds its own numbers, which may be far larger: dy x (1 - x) is 1e15 at x = 3e7, where the gradient of
    the sigmoid is 0. It is granted the rounding of these; an infinite gradient shows nothing.
    """
    a = example.dy.astype(np.float64)
    b = np.random.default_rng(a.size).integers(-64, 65, a.shape) / 64.0
    parts = [replace(example, dy=np.asarray(d).astype(example.dy.dtype)) for d in (a, b, a + b)]
    gradients = [subject.gradients(part) for part in parts]
    bounds = [subject.gradient_bounds(part, fmt) for part in parts]

    def compare(own: Sequence[Values]) -> None:
        sums = []
        for k, (da, db, dab) in enumerate(zip(*gradients, strict=True)):
            with np.errstate(invalid="ignore"):  # a gradient may be infinite: its bound is, too
                due = da + db
            adding = 2.0 * FLOAT64.unit_roundoff * (np.abs(da) + np.abs(db))
            granted = sum((bound[k] for bound in bounds), adding + own[k])
            sums.append(Comparison(dab, due, granted, f"gradient {k} of a sum of cotangents"))
        require_each(sums)

    try:
        compare([np.zeros(()) for _ in gradients[0]])
    except LawViolation:
        if subject.is_reference:
            raise
        one, two = (_rounding_of_gradients(subject, part, fmt) for part in parts[:2])
        # |a + b| <= |a| + |b|: the third gradient rounds at most what the first two do
        compare([2.0 * (first + second) for first, second in zip(one, two, strict=True)])


def _rounding_of_gradients(subject: Subject, example: Example, fmt: Format) -> list[Values]:
    """What the subject's own gradients may lose: (n + k) u sum_j |dy_j D_j| for n terms that are not 0.

    A gradient that is linear in dy is sum_j dy_j D_j. Its D_j may be wrong, but are the same bits for every
    dy; what differs are k roundings on the way of each dy_j, and n of the sum (Higham, Accuracy and Stability
    of Numerical Algorithms, 2nd ed., 3.1). dy_j D_j is the gradient under dy_j alone. The half formats
    compute in float32 and round once. Infinite where a gradient is.
    """
    inner = fmt if fmt.precision >= FLOAT32.precision else FLOAT32
    terms = [np.zeros(gradient.shape) for gradient in subject.gradients(example)]
    counts = [np.zeros_like(total) for total in terms]
    for at in np.ndindex(example.dy.shape):
        alone = np.zeros_like(example.dy)
        alone[at] = example.dy[at]
        parts = subject.gradients(replace(example, dy=alone))
        with np.errstate(over="ignore"):
            terms = [total + np.abs(part) for total, part in zip(terms, parts, strict=True)]
        counts = [count + (part != 0) for count, part in zip(counts, parts, strict=True)]
    once = 0.0 if inner is fmt else fmt.unit_roundoff
    own = []
    for total, count in zip(terms, counts, strict=True):
        steps = count + STEPS
        with np.errstate(over="ignore", invalid="ignore"):
            rounding = (steps * inner.unit_roundoff + once) * total + steps * fmt.smallest_normal
        # 0 times an infinite D_j is NaN, of an element whose gradient is infinite
        own.append(np.where(np.isfinite(total), rounding, np.inf))
    return own


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


def _has_reduction(spec: Spec) -> bool:
    return any(setting.name == "reduction" for setting in spec.settings)


CALL_LAWS = (
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
        "nan-reaches-gradients",
        "a gradient that depends on an input is NaN where the input is",
        _nan_reaches_gradients,
        gradient=True,
    ),
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
    Law("pure", "inputs untouched, nothing shared, equal calls give equal bits", _pure, universal=True),
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
