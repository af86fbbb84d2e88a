"""The laws of single operators. Every tolerance is the sum of the rounding bounds of what is compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import refnet
from specs import Domain, Spec
from verify.arithmetic.bounds import composition_bound
from verify.arithmetic.formats import Format
from verify.laws.examples import Example, cotangent
from verify.laws.law import Floats, Law, LawViolation, NotApplicable, Subject, Values, require


def _exact_sum(x: Floats, axis: int) -> Floats:
    """Sums along an axis, rounded once."""
    return np.asarray(np.apply_along_axis(math.fsum, axis, x))


def _axis(example: Example) -> int:
    return int(example.settings.get("axis", -1))


def _require_finite(*arrays: Values) -> None:
    if not all(np.isfinite(np.asarray(a, dtype=np.float64)).all() for a in arrays):
        raise NotApplicable("the law is about finite numbers")


# --------------------------------------------------------------------------------------- values of a row


def _sums_to_one(subject: Subject, example: Example, fmt: Format) -> None:
    axis, y = _axis(example), subject.outputs(example)
    granted = _exact_sum(subject.output_bound(example, fmt), axis)
    require(_exact_sum(y, axis), 1.0, granted + float(np.finfo(np.float64).eps), "the sum of the row")


def _on_a_grid(x: Values) -> Floats:
    """Multiples of 1/8 within 16 of zero: adding 16 or 1024 to them is exact in every format that can."""
    limited = np.clip(np.nan_to_num(x.astype(np.float64)), -16.0, 16.0)
    return np.asarray(np.round(limited * 8.0) / 8.0)


def _shifted(example: Example, fmt: Format) -> tuple[Example, Example, float]:
    shift = 1024.0 if fmt.precision >= 24 else 16.0 if fmt.precision >= 11 else 1.0
    grid = _on_a_grid(example.inputs[0])
    if fmt.precision < 11:
        grid = np.round(grid)
    first, *rest = example.inputs
    before = example.with_inputs(grid.astype(first.dtype), *rest)
    return before, example.with_inputs((grid + shift).astype(first.dtype), *rest), shift


def _shift_invariant(subject: Subject, example: Example, fmt: Format) -> None:
    before, after, _ = _shifted(example, fmt)
    granted = subject.output_bound(before, fmt) + subject.output_bound(after, fmt)
    require(subject.outputs(after), subject.outputs(before), granted, "the value after a shift of the row")


def _shift_equivariant(subject: Subject, example: Example, fmt: Format) -> None:
    before, after, shift = _shifted(example, fmt)
    granted = subject.output_bound(before, fmt) + subject.output_bound(after, fmt)
    require(subject.outputs(after) - shift, subject.outputs(before), granted, "the value after a shift")


def _gradient_sums_to_zero(subject: Subject, example: Example, fmt: Format) -> None:
    axis = _axis(example)
    gradient, granted = subject.gradients(example)[0], subject.gradient_bounds(example, fmt)[0]
    sums = _exact_sum(gradient, axis)
    require(sums, 0.0, _exact_sum(granted, axis) * (1 + 2.0**-50), "the sum of the gradient along the row")


# ------------------------------------------------------------------------------------------------ ranges


def _unit_interval(subject: Subject, example: Example, fmt: Format) -> None:
    y, granted = subject.outputs(example), subject.output_bound(example, fmt)
    require(y, np.clip(y, 0.0, 1.0), granted, "a probability")


def _nonnegative(subject: Subject, example: Example, fmt: Format) -> None:
    y, granted = subject.outputs(example), subject.output_bound(example, fmt)
    require(y, np.maximum(y, 0.0), granted, "a value that cannot be negative")


def _nonpositive(subject: Subject, example: Example, fmt: Format) -> None:
    y, granted = subject.outputs(example), subject.output_bound(example, fmt)
    require(y, np.minimum(y, 0.0), granted, "a value that cannot be positive")


def _zero_when_perfect(subject: Subject, example: Example, fmt: Format) -> None:
    """Zero at p = t (made certain, where t is a distribution), and more than its bound at a wrong answer."""
    example = example.with_settings(reduction="none")
    target = np.asarray(example.inputs[1])
    if subject.spec.inputs[1].domain is not Domain.REAL:
        target = _made_certain(target, subject.spec)
    perfect = example.with_inputs(target.copy(), target)
    require(subject.outputs(perfect), 0.0, subject.output_bound(perfect, fmt), "the loss of a perfect answer")
    wrong = np.full_like(target, 0.5)
    if subject.spec.inputs[1].domain is Domain.REAL:
        wrong = target + np.maximum(np.abs(target), 1.0).astype(target.dtype)
        if not np.isfinite((wrong - target) * (wrong - target)).all():
            raise NotApplicable("the loss of a wrong answer overflows")
    imperfect = example.with_inputs(wrong, target)
    losses = subject.outputs(imperfect)
    if not (losses > subject.output_bound(imperfect, fmt)).all():
        raise LawViolation(f"the loss of a wrong answer is {losses.min()!r}, not above 0")


def _made_certain(target: Values, spec: Spec) -> Values:
    if spec.core_axes[1]:
        return (np.arange(target.shape[-1]) == target.argmax(-1)[..., None]).astype(target.dtype)
    return (target > 0.5).astype(target.dtype)


# -------------------------------------------------------------------------------------------- symmetries


def _mirrored(example: Example) -> Example:
    return example.with_inputs(-example.inputs[0], *example.inputs[1:])


def _reflection(subject: Subject, example: Example, fmt: Format) -> None:
    mirror = _mirrored(example)
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt) + 2.0**-53
    require(subject.outputs(example) + subject.outputs(mirror), 1.0, granted, "f(x) + f(-x)")


def _odd(subject: Subject, example: Example, fmt: Format) -> None:
    mirror = _mirrored(example)
    granted = subject.output_bound(example, fmt) + subject.output_bound(mirror, fmt)
    require(subject.outputs(mirror), -subject.outputs(example), granted, "f(-x)")


# ---------------------------------------------------------------------------------------------- the batch


def _reductions_agree(subject: Subject, example: Example, fmt: Format) -> None:
    each, total, mean = (example.with_settings(reduction=name) for name in ("none", "sum", "mean"))
    # without the cotangent, whose shape differs between the reductions
    losses = subject.outputs(each)
    _require_finite(losses)
    granted = math.fsum(subject.output_bound(each, fmt).ravel())
    summed = math.fsum(losses.ravel())
    slack = 2.0**-52 * math.fsum(np.abs(losses).ravel())
    require(
        subject.outputs(total),
        summed,
        granted + subject.output_bound(total, fmt) + slack,
        "the sum of the losses",
    )
    require(
        subject.outputs(mean),
        summed / losses.size,
        (granted + slack) / losses.size + subject.output_bound(mean, fmt),
        "the mean of the losses",
    )


def _batch_independent(subject: Subject, example: Example, fmt: Format) -> None:
    """The output of each example is what it would be alone."""
    whole = _per_example(example)
    shared = 1 if subject.spec.batched else 0
    first = whole.inputs[0]
    if first.ndim < 2 or not len(first) or _axis(whole) == 0:
        raise NotApplicable("no batch")
    outputs, granted = subject.outputs(whole), subject.output_bound(whole, fmt)
    for i in range(len(first)):
        alone = whole.with_inputs(
            *(x[i : i + 1] if shared or k == 0 else x for k, x in enumerate(whole.inputs))
        )
        bound = granted[i : i + 1] + subject.output_bound(alone, fmt)
        require(subject.outputs(alone), outputs[i : i + 1], bound, f"example {i} of the batch, alone")


def _per_example(example: Example) -> Example:
    return example.with_settings(reduction="none") if "reduction" in example.settings else example


def _nan_propagates(subject: Subject, example: Example, fmt: Format) -> None:
    """A NaN in the first input reaches the outputs that depend on it, and no others."""
    whole = _per_example(example)
    if _axis(whole) == 0 or not whole.inputs[0].size:
        raise NotApplicable("rows are the last axis here")
    poisoned = whole.inputs[0].copy()
    at = tuple(size // 2 for size in poisoned.shape)
    poisoned[at] = np.nan
    core = 1 if subject.spec.name == "linear" else len(subject.spec.core_axes[0])
    clean, dirty = subject.outputs(whole), subject.outputs(whole.with_inputs(poisoned, *whole.inputs[1:]))
    reached = at[: poisoned.ndim - core]
    if not np.isnan(dirty[reached]).all():
        raise LawViolation(f"NaN at {at} of the input, but the output there is {dirty[reached]!r}")
    same = np.isnan(dirty) == np.isnan(clean)
    same[reached] = True
    if not same.all():
        raise LawViolation(f"NaN at {at} of the input has spread beyond {reached} of the output")


# ----------------------------------------------------------------------------------------- the gradient


def _vjp_additive(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(a + b) = vjp(a) + vjp(b), with cotangents of a few bits so that a + b is exact."""
    dtype = example.dy.dtype
    a = np.asarray(np.round(example.dy.astype(np.float64) * 16.0) / 16.0)
    rng = np.random.default_rng(a.size)
    b = np.asarray(rng.integers(-16, 17, a.shape) / 16.0)
    parts = [
        Example(example.inputs, example.settings, np.asarray(d, dtype=dtype), "") for d in (a, b, a + b)
    ]
    first, second, both = (subject.gradients(part) for part in parts)
    bounds = [subject.gradient_bounds(part, fmt) for part in parts]
    for k, (da, db, dab) in enumerate(zip(first, second, both, strict=True)):
        granted = sum(bound[k] for bound in bounds) + 2.0**-52 * (np.abs(da) + np.abs(db))
        if np.isfinite(granted).all():
            require(dab, da + db, granted, f"gradient {k} of a sum of cotangents")


def _vjp_homogeneous(subject: Subject, example: Example, fmt: Format) -> None:
    """vjp(4 dy) = 4 vjp(dy) bit for bit, wherever nothing underflows: a power of two never rounds."""
    four_dy = np.asarray(example.dy * example.dy.dtype.type(4))
    scaled = Example(example.inputs, example.settings, four_dy, "")
    for k, (once, four) in enumerate(
        zip(subject.gradients(example), subject.gradients(scaled), strict=True)
    ):
        size = np.abs(once)
        safe = (size >= float(fmt.smallest_normal) * 2.0**40) & (size < float(fmt.largest) / 2.0**12)
        require(four[safe], 4.0 * once[safe], 0.0, f"gradient {k} of four times the cotangent")


def _pure(subject: Subject, example: Example, fmt: Format) -> None:
    """The inputs stay as they were, the results share no memory with them, a second call repeats the bits."""
    given = (*example.inputs, example.dy)
    before = [x.copy() for x in given]
    calls: list[Any] = [lambda: (subject.value(*example.inputs, **example.settings),)]
    if subject.vjp is not None:
        vjp = subject.vjp
        calls.append(lambda: tuple(vjp(example.dy, *example.inputs, **example.settings)))
    for call in calls:
        first = [np.asarray(y) for y in call()]
        kept = [y.copy() for y in first]
        second = [np.asarray(y) for y in call()]
        for x, old in zip(given, before, strict=True):
            if x.tobytes() != old.tobytes():
                raise LawViolation("an input was modified")
        for y, copy, again in zip(first, kept, second, strict=True):
            if any(np.may_share_memory(y, x) for x in given):
                raise LawViolation("a result shares memory with an input")
            if y.tobytes() != copy.tobytes() or copy.tobytes() != again.tobytes():
                raise LawViolation("a second call gave other bits")
            if np.may_share_memory(y, again):
                raise LawViolation("two calls share memory")


def _residuals_are_kept(subject: Subject, example: Example, fmt: Format) -> None:
    """backward may be called twice on the same residuals, and changes neither them nor the cotangent."""
    op = subject.reference if subject.vjp == subject.reference.vjp else None
    if op is None or fmt.precision < 24:
        raise NotApplicable("residuals are seen only in the reference, in the formats that it computes in")
    with np.errstate(all="ignore"):
        y, residuals = op.forward(*example.inputs, **example.settings)
        del y
        first = [np.array(g) for g in op.backward(residuals, example.dy)]
        second = [np.array(g) for g in op.backward(residuals, example.dy)]
    for a, b in zip(first, second, strict=True):
        if a.tobytes() != b.tobytes():
            raise LawViolation("a second backward on the same residuals gave other bits")


# ------------------------------------------------------------------------------------------ compositions


def _composition(subject: Subject, example: Example, fmt: Format) -> None:
    """The loss in logits is the loss in probabilities of the activation that it replaces."""
    z, target = example.inputs
    z = np.clip(z, -12.0, 12.0).astype(z.dtype)
    example = example.with_inputs(z, target)
    name = subject.spec.name
    if name == "binary_cross_entropy_with_logits":
        first, second = refnet.sigmoid, refnet.binary_cross_entropy
    elif name == "softmax_cross_entropy":
        first, second = refnet.softmax, refnet.categorical_cross_entropy
    else:
        first, second = refnet.softmax, refnet.categorical_cross_entropy
        target = np.asarray(target[..., None] == np.arange(z.shape[-1])).astype(z.dtype)
    with np.errstate(all="ignore"):
        composed = second(first(z), target, **example.settings)
    granted = composition_bound(first, second, z, target, example.settings, fmt)
    bound = granted + subject.output_bound(example, fmt)
    if np.isfinite(bound).all():
        require(subject.outputs(example), composed.astype(np.float64), bound, f"{first.name} then {second.name}")


def _batched(spec: Spec) -> bool:
    return spec.batched or spec.name == "linear"


def _has_reduction(spec: Spec) -> bool:
    return any(setting.name == "reduction" for setting in spec.settings)


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
            Law(
                "zero-when-perfect",
                "the loss is 0 at a perfect answer, and only there",
                _zero_when_perfect,
            ),
            Law("reflection", "f(x) + f(-x) = 1", _reflection),
            Law("odd", "f(-x) = -f(x)", _odd),
            Law("composition", "the loss in logits equals the composition it replaces", _composition),
            Law(
                "reductions-agree",
                "mean = sum / n, and sum = the sum of the losses of the examples",
                _reductions_agree,
                universal=True,
                applies=_has_reduction,
            ),
            Law(
                "batch-independent",
                "an example gives alone what it gives in a batch",
                _batch_independent,
                universal=True,
                applies=_batched,
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
                "four times the cotangent gives four times the gradient, bit for bit",
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
        )
    }
)


def laws_of(spec: Spec) -> tuple[Law, ...]:
    """The laws that an operator must obey: its own, then the universal ones."""
    own = [LAWS[name] for name in spec.laws]
    return (*own, *(law for law in LAWS.values() if law.universal and law.applies(spec)))
