"""Laws of how an operator is called: batches, NaN, cotangents, memory. Nearly all hold for every operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from specs import Domain, Spec
from specs.maths import Indeterminate
from verify.arithmetic.certified import in_order, unknown_outputs
from verify.arithmetic.formats import FLOAT64, Format
from verify.laws.examples import LAYOUTS, Example, cotangent, laid_out
from verify.laws.law import (
    Comparison,
    Law,
    LawViolation,
    NotApplicable,
    Subject,
    Values,
    exact_total,
    require_each,
)

EXAMPLES = "n"
"""The axis of a signature along which examples lie, where they are not in batch axes."""


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
    none = none.with_cotangents(lambda d: np.full_like(d, total.dy))
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


def _has_examples(spec: Spec) -> bool:
    """Whether there are batch axes, or an axis n of examples."""
    return spec.batched or EXAMPLES in spec.core_axes[0][:1]


def _one_by_one(axes: tuple[str, ...], batched: bool, spec: Spec) -> bool:
    """Whether an array with these axes has a part for each example."""
    return batched if spec.batched else axes[:1] == (EXAMPLES,)


def _batch_independent(subject: Subject, example: Example, fmt: Format) -> None:
    """The outputs of each example are what they would be alone, and so are the gradients of its inputs."""
    whole = _per_example(subject, example, fmt)
    spec = subject.spec
    of_inputs = [_one_by_one(*item, spec) for item in zip(spec.core_axes, spec.batched_inputs, strict=True)]
    of_outputs = [_one_by_one(*y, spec) for y in zip(spec.output_axes, spec.batched_outputs, strict=True)]
    first = of_inputs.index(True)
    x, core = whole.inputs[first], len(spec.core_axes[first]) if spec.batched else 0
    if x.ndim <= core:
        raise NotApplicable("no batch")
    along = -1 if spec.batched and core and whole.axis % x.ndim == 0 else 0
    gradients = [k for k in spec.differentiable if of_inputs[k]] if subject.vjp is not None else []
    every, granted = subject.results(whole), subject.result_bounds(whole, fmt)
    slopes, of_slopes = _gradients_by_input(subject, whole, fmt) if gradients else ({}, {})

    def part(array: Values, i: int, taken: bool) -> Values:
        return np.asarray(np.take(array, [i], along)) if taken else array

    parts = []
    for i in range(x.shape[along]):
        inputs = (part(x, i, taken) for x, taken in zip(whole.inputs, of_inputs, strict=True))
        cotangents = tuple(part(d, i, taken) for d, taken in zip(whole.cotangents, of_outputs, strict=True))
        dy: Any = cotangents if isinstance(whole.dy, tuple) else cotangents[0]
        alone, what = replace(whole.with_inputs(*inputs), dy=dy), f"example {i} of the batch, alone"
        for y, found, bound, taken in zip(every, subject.results(alone), granted, of_outputs, strict=True):
            if taken:
                parts.append(Comparison(found, part(y, i, True), 2.0 * part(bound, i, True), what))
        if gradients:
            own = dict(zip(spec.differentiable, subject.gradients(alone), strict=True))
            for k in gradients:
                due, bound = part(slopes[k], i, True), part(of_slopes[k], i, True)
                parts.append(Comparison(own[k], due, 2.0 * bound, f"gradient {k} of {what}"))
    require_each(parts)


def _gradients_by_input(
    subject: Subject, example: Example, fmt: Format
) -> tuple[dict[int, Values], dict[int, Values]]:
    """The gradients by the positions of their inputs, and their bounds."""
    positions = subject.spec.differentiable
    gradients, bounds = subject.gradients(example), subject.gradient_bounds(example, fmt)
    return dict(zip(positions, gradients, strict=True)), dict(zip(positions, bounds, strict=True))


TAME = 8.0
"""Up to here no definition needs more than balls of a few digits."""


def _nan_propagates(subject: Subject, example: Example, fmt: Format) -> None:
    """A NaN in an input reaches the outputs that are computed from it, and no others.

    The definition says which those are, run on numbers of which one is unknown.
    """
    spec = subject.spec
    whole = _per_example(subject, example, fmt)
    whole = whole.with_inputs(
        *(
            np.asarray(np.clip(x, -TAME, TAME).astype(x.dtype)) if item.domain.is_floating else x
            for x, item in zip(whole.inputs, spec.inputs, strict=True)
        )
    )
    clean = subject.results(whole)
    for k, x in enumerate(whole.inputs):
        if not spec.inputs[k].domain.is_floating or not x.size:
            continue
        at = _place(spec, whole, k)
        poisoned = x.copy()
        poisoned[at] = np.nan
        others = whole.inputs[:k], whole.inputs[k + 1 :]
        dirty = subject.results(whole.with_inputs(*others[0], poisoned, *others[1]))
        try:
            reached, possible = (
                unknown_outputs(spec.definition, whole.inputs, k, at, whole.settings, decided=decided)
                for decided in (True, False)
            )
        except Indeterminate as error:
            raise NotApplicable("exactly between two formulas") from error
        for before, after, must, may in zip(clean, dirty, reached, possible, strict=True):
            hidden = must & ~np.isnan(after)
            if hidden.any():
                index = tuple(int(i) for i in np.argwhere(hidden)[0])
                raise LawViolation(f"NaN at {at} of input {k}, but the output at {index} is {after[index]!r}")
            spread = np.isnan(after) & ~np.isnan(before) & ~may
            if spread.any():
                index = tuple(int(i) for i in np.argwhere(spread)[0])
                raise LawViolation(f"NaN at {at} of input {k} has spread to the output at {index}")


def _place(spec: Spec, example: Example, k: int) -> tuple[int, ...]:
    """An element in the middle of an input; of log-probabilities the one at the label, if there are labels,
    because a loss that picks that one depends on no other."""
    at = tuple(size // 2 for size in example.inputs[k].shape)
    picked = spec.inputs[k].domain is Domain.LOG_PROBABILITY and spec.inputs[-1].domain is Domain.INDEX
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


# ----------------------------------------------------------------------------------------- the gradient


STEPS = 8.0
"""Operations that an honest gradient puts a cotangent through, beside the sum that it may end in."""


def _vjp_additive(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(a + b) = vjp(a) + vjp(b), with cotangents of so few bits that a + b is exact.

    The bound of the right gradient is enough for the right one. One that is wrong and linear all the same
    rounds its own numbers, which may be far larger: dy x (1 - x) is 1e15 at x = 3e7, where the gradient of
    the sigmoid is 0. It is granted the rounding of these; an infinite gradient shows nothing.
    """

    def other(d: Values) -> Values:
        return np.random.default_rng(d.size).integers(-64, 65, d.shape) / 64.0

    parts = [
        example,
        example.with_cotangents(lambda d: other(d).astype(d.dtype)),
        example.with_cotangents(lambda d: (d.astype(np.float64) + other(d)).astype(d.dtype)),
    ]
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
    inner = subject.granted(fmt).inside
    terms = [np.zeros(gradient.shape) for gradient in subject.gradients(example)]
    counts = [np.zeros_like(total) for total in terms]
    for output, at in ((k, at) for k, d in enumerate(example.cotangents) for at in np.ndindex(d.shape)):
        alone = [np.zeros_like(d) for d in example.cotangents]
        alone[output][at] = example.cotangents[output][at]
        parts = subject.gradients(
            replace(example, dy=tuple(alone) if isinstance(example.dy, tuple) else alone[0])
        )
        with np.errstate(over="ignore"):
            terms = [total + np.abs(part) for total, part in zip(terms, parts, strict=True)]
        counts = [count + (part != 0) for count, part in zip(counts, parts, strict=True)]
    once = 0.0 if inner == fmt else fmt.unit_roundoff
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

    The half formats compute in float32 and round once, so intermediate results have the range of float32; a
    candidate that keeps some of them in float16, where they may underflow, is granted its bound.
    """
    inner = subject.granted(fmt).inside
    example = _tame(subject.spec, example, inner)
    low = max(2.0 * fmt.smallest_normal, inner.smallest_normal * 2.0**40)
    high = min(fmt.largest / 8.0, inner.largest / 2.0**12)
    once = subject.gradients(example)
    parts = []
    for factor in (4.0, -0.5):
        scaled = example.with_cotangents(partial(_times, factor))
        bounds: Sequence[Any] = [0.0] * len(once)
        if inner != fmt and not subject.is_reference:
            bounds = subject.gradient_bounds(scaled, fmt)
        for k, (one, found) in enumerate(zip(once, subject.gradients(scaled), strict=True)):
            safe = (np.abs(one) >= low) & (np.abs(one) < high)
            exactly = np.where(safe, 2.0 * bounds[k], np.inf)
            due = factor * np.where(safe, one, 0.0)
            parts.append(Comparison(found, due, exactly, f"gradient {k} of {factor} dy"))
    require_each(parts)


def _times(factor: float, d: Values) -> Values:
    return np.asarray(d * d.dtype.type(factor))


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
            if item.domain in (Domain.REAL, Domain.NONNEGATIVE)
            or (item.domain.is_floating and not item.differentiable)
            else x
            for item, x in zip(spec.inputs, example.inputs, strict=True)
        )
    )


# ------------------------------------------------------------------------------------------------- purity


def _pure(subject: Subject, example: Example, fmt: Format) -> None:
    """The inputs stay as they were, the results share no memory with them, a second call repeats the bits."""
    given = (*example.inputs, *example.cotangents)
    before = [x.tobytes() for x in given]
    calls: list[Any] = [lambda: in_order(subject.value(*example.inputs, **example.settings))]
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
    inner = subject.granted(fmt).inside
    inputs = (x.copy() if x.dtype.kind in "iub" else x.astype(inner.dtype) for x in example.inputs)
    cotangents = [d.astype(inner.dtype) for d in example.cotangents]
    with np.errstate(all="ignore"):
        y, residuals = op.forward(*inputs, **example.settings)
        dy: Any = tuple.__new__(type(y), cotangents) if isinstance(y, tuple) else cotangents[0]
        kept = [*_arrays(residuals), *cotangents]
        before = [x.tobytes() for x in kept]
        first = op.backward(residuals, dy)
        bits = [g.tobytes() for g in first]
        second = op.backward(residuals, dy)
    if [x.tobytes() for x in kept] != before:
        raise LawViolation("backward has changed its residuals or the cotangent")
    if [g.tobytes() for g in second] != bits:
        raise LawViolation("a second backward on the same residuals gave other bits")
    if any(np.shares_memory(result, x) for result in (*in_order(y), *first) for x in kept):
        raise LawViolation("a result shares memory with the residuals or the cotangent")


def _arrays(record: object) -> list[Values]:
    """The arrays in a record of residuals, however deep."""
    if isinstance(record, tuple):
        return [array for item in record for array in _arrays(item)]
    return [record] if isinstance(record, np.ndarray) else []


def _layout_independent(subject: Subject, example: Example, fmt: Format) -> None:
    """Strided, reversed, column-major and read-only arrays of the same values give the same results."""
    plain = laid_out(example, "contiguous")
    values, granted = subject.results(plain), subject.result_bounds(plain, fmt)
    parts = []
    for layout in LAYOUTS:
        view = laid_out(example, layout)
        results = in_order(subject.value(*view.inputs, **view.settings))
        for result, due, bound in zip(results, values, granted, strict=True):
            found = np.asarray(result).astype(np.float64)
            parts.append(Comparison(found, due, 2.0 * bound, f"the value for {layout} arrays"))
    if subject.vjp is not None:
        gradients, bounds = subject.gradients(plain), subject.gradient_bounds(plain, fmt)
        for layout in LAYOUTS:
            view = laid_out(example, layout)
            others = subject.vjp(view.dy, *view.inputs, **view.settings)
            for k, (other, due, bound) in enumerate(zip(others, gradients, bounds, strict=True)):
                found = np.asarray(other).astype(np.float64)
                parts.append(Comparison(found, due, 2.0 * bound, f"gradient {k} for {layout} arrays"))
    require_each(parts)


def _is_mean_over_examples(spec: Spec) -> bool:
    return "reduction" in spec.defaults and spec.mean_over == "the examples"


CALL_LAWS = (
    Law(
        "reductions-agree",
        "mean = sum / n, and sum = the sum of the losses of the examples",
        _reductions_agree,
        universal=True,
        applies=_is_mean_over_examples,
    ),
    Law(
        "gradient-reductions-agree",
        "the gradient of the mean is that of the sum over n, and that of the losses over n",
        _gradient_reductions_agree,
        universal=True,
        applies=_is_mean_over_examples,
        gradient=True,
    ),
    Law(
        "batch-independent",
        "an example gives alone what it gives in a batch",
        _batch_independent,
        universal=True,
        applies=_has_examples,
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
