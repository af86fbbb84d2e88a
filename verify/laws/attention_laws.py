"""Laws of what looks at other positions: of attention, and of the rotations that tell it where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specs import Domain, Spec
from verify.arithmetic.bounds import SLACK
from verify.arithmetic.formats import FLOAT64, Format
from verify.laws.examples import Example
from verify.laws.law import Comparison, Floats, Law, NotApplicable, Subject, Values, require, require_each
from verify.laws.value_laws import permuted_order

LOOKED_AT = ("k", "t")
"""The axes of a signature along which lie the positions that are looked at: keys with their values, or times.
The queries are the rows of the output."""


def _axes_looked_at(spec: Spec, position: int) -> tuple[int, ...]:
    """Those axes of an input, counted from its end."""
    named = spec.core_axes[position]
    return tuple(place - len(named) for place, axis in enumerate(named) if axis in LOOKED_AT)


def _count(spec: Spec, example: Example) -> int:
    """How many positions are looked at."""
    position = next(k for k in range(len(spec.inputs)) if _axes_looked_at(spec, k))
    return int(example.inputs[position].shape[_axes_looked_at(spec, position)[0]])


def _with_numbers_changed(spec: Spec, example: Example, change: Callable[[Values, int], Values]) -> Example:
    """The example with each floating input changed along the positions that are looked at."""
    inputs = list(example.inputs)
    for position, item in enumerate(spec.inputs):
        for axis in _axes_looked_at(spec, position) if item.domain.is_floating else ():
            inputs[position] = np.asarray(change(inputs[position], axis))
    return example.with_inputs(*inputs)


def _other_numbers(x: Values) -> Values:
    """Others of the same magnitudes: the signs turned, and 1 for 0."""
    return np.asarray(np.where(np.equal(x, 0), np.ones_like(x), -x))


def _order_of_keys(subject: Subject, example: Example, fmt: Format) -> None:
    """Keys and values in another order, the columns of the mask with them; their gradients follow."""
    spec, example = subject.spec, example.with_settings(causal=False)
    count = _count(spec, example)
    if count < 2:
        raise NotApplicable("one key has one order")
    order = permuted_order(count)

    def reordered(x: Values, position: int) -> Values:
        for axis in _axes_looked_at(spec, position):
            x = np.take(x, order, axis)
        return x

    other = example.with_inputs(*(reordered(x, k) for k, x in enumerate(example.inputs)))
    granted = subject.output_bound(example, fmt) + subject.output_bound(other, fmt)
    what = "for the keys in another order"
    parts = [Comparison(subject.outputs(other), subject.outputs(example), granted, f"the value {what}")]
    if subject.vjp is not None:
        found, before = subject.gradients(other), subject.gradients(example)
        bounds = zip(subject.gradient_bounds(other, fmt), subject.gradient_bounds(example, fmt), strict=True)
        for k, slope, due, (one, two) in zip(spec.differentiable, found, before, bounds, strict=True):
            bound = one + reordered(two, k)
            parts.append(Comparison(slope, reordered(due, k), bound, f"gradient {k} {what}"))
    require_each(parts)


def _convex_combination(subject: Subject, example: Example, fmt: Format) -> None:
    """Each output is between the least and the largest value of its column; one that takes nothing is 0."""
    _, _, v, _ = example.inputs
    values = v.astype(np.float64)
    low, high = (pick(values, axis=-2, keepdims=True) for pick in (np.min, np.max))
    y = subject.outputs(example)
    due = np.where(y == 0.0, 0.0, np.clip(y, low, high))
    require(y, due, subject.output_bound(example, fmt), "a mean of the values")


def _causal(subject: Subject, example: Example, fmt: Format) -> None:
    """Other numbers from the middle on: what comes before stays."""
    spec, example = subject.spec, example.with_settings(causal=True)
    count = _count(spec, example)
    if count < 2:
        raise NotApplicable("one position has no future")
    now = count // 2

    def change(x: Values, axis: int) -> Values:
        future = np.expand_dims(np.arange(count) >= now, tuple(range(1, -axis)))
        return np.asarray(np.where(future, _other_numbers(x), x))

    other = _with_numbers_changed(spec, example, change)
    granted = subject.output_bound(example, fmt) + subject.output_bound(other, fmt)
    found, due = subject.outputs(other), subject.outputs(example)
    past = np.s_[..., :now, :]
    require(found[past], due[past], granted[past], "the value before a change")


def _masked_key(subject: Subject, example: Example, fmt: Format) -> None:
    """A key that no query may attend to, with other numbers: the outputs stay; in self-attention those of the
    other positions, as the key is a query as well."""
    spec, count = subject.spec, _count(subject.spec, example)
    (where,) = (k for k, item in enumerate(spec.inputs) if item.domain is Domain.MASK)
    hidden = np.arange(count) == count // 2
    inputs = list(example.inputs)
    inputs[where] = inputs[where] & ~hidden

    def change(x: Values, axis: int) -> Values:
        return np.asarray(np.where(np.expand_dims(hidden, tuple(range(1, -axis))), _other_numbers(x), x))

    before = example.with_inputs(*inputs)
    other = _with_numbers_changed(spec, before, change)
    granted = subject.output_bound(before, fmt) + subject.output_bound(other, fmt)
    found, due = subject.outputs(other), subject.outputs(before)
    if spec.output_axes[0][0] in LOOKED_AT:
        granted[..., hidden, :] = np.inf
    require(found, due, granted, "the value with another masked key")


def pairs(x: Floats, layout: str) -> tuple[Floats, Floats]:
    """The two halves of the last axis, or its even and its odd entries."""
    half = x.shape[-1] // 2
    return (x[..., :half], x[..., half:]) if layout == "half" else (x[..., 0::2], x[..., 1::2])


def _scales_pairs(subject: Subject, example: Example, fmt: Format) -> None:
    """|y| = |x| |(cos, sin)| of each pair, for any cos and sin: 1 where they are those of an angle."""
    layout = str(example.settings["layout"])
    x, cos, sin = (a.astype(np.float64) for a in example.inputs)
    due = np.hypot(*pairs(x, layout)) * np.hypot(cos, sin)
    found = np.hypot(*pairs(subject.outputs(example), layout))
    granted = np.hypot(*pairs(subject.output_bound(example, fmt), layout))
    own = 8.0 * FLOAT64.unit_roundoff * (due + found) + 2.0 * FLOAT64.smallest_normal
    require(found, due, (granted + own) * SLACK, "the length of a pair")


ATTENTION_LAWS = (
    Law("order-of-keys", "the order of the keys, with their values, does not matter", _order_of_keys),
    Law("convex-combination", "an output is a mean of the values, or 0", _convex_combination),
    Law("causal", "what comes later does not matter", _causal),
    Law("masked-key", "a key that is masked for all does not matter", _masked_key),
    Law("scales-pairs", "the length of a pair is multiplied by that of (cos, sin)", _scales_pairs),
)
