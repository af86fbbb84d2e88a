"""What a wrong gradient looks like: hypotheses that would explain all of it, within the error bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from verify.gradients.arrays import Array, Bools, Floats

MOST_AXES = 4
"""Of more axes not all permutations and reversals are tried."""


class Context(NamedTuple):
    """What a mistaken vjp had at hand.

    `sizes` names the sizes of axes that a sum or a mean may have been taken over; `arrays` are inputs,
    outputs and cotangents of the shape of the gradient; `ids` are integer inputs, which may be indices of
    its first axis.
    """

    sizes: Mapping[int, str]
    arrays: Mapping[str, Floats]
    ids: Mapping[str, Array]


def diagnose(
    claimed: Floats, numerical: Floats, bar: Floats, failing: Bools, context: Context
) -> tuple[str, ...]:
    """The hypotheses that hold for one input; empty if none does.

    A hypothesis maps the numerical gradient to what a mistaken vjp would have returned, and holds when
    every element that is resolved lies within the (mapped) bar of the claim. As the bars are far below the
    gradients, a hypothesis does not hold by chance.
    """
    if not np.isfinite(claimed).all():
        return ("the gradient is not finite",)
    if not claimed.any():
        return ("the gradient is zero everywhere: detached, masked, or never written",)
    known = np.isfinite(numerical) & np.isfinite(bar)
    sizes = {claimed.size: "N", **context.sizes}
    found = [*_factor(claimed, numerical, bar, known, sizes)] or [*_repeated(failing, context.ids)]
    found = found or _confined(failing)
    if not found and known.all():
        found = [
            *_rearranged(claimed, numerical, bar),
            *_chain_rule(claimed, numerical, bar, context.arrays),
            *_missing_terms(claimed, numerical, bar, context.arrays),
        ]
    return tuple(found or [*_in_triangle(failing), *_at_borders(failing)])


def explain_shape(claimed: Floats, shape: tuple[int, ...], numerical: Floats | None) -> tuple[str, ...]:
    """Why a gradient may have the wrong shape: transposed, axes of length 1, or a sum that is missing.

    Where only axes of length 1 differ nothing is left to be summed, and so no sum can be missing.
    """
    if claimed.ndim == 2 and claimed.shape[::-1] == shape:
        return ("transposed",)
    surplus = claimed.ndim - len(shape)
    if surplus and [n for n in claimed.shape if n != 1] == [n for n in shape if n != 1]:
        what = "an axis" if abs(surplus) == 1 else f"{abs(surplus)} axes"
        return (f"{what} of length 1 too {'many' if surplus > 0 else 'few'}",)
    found = []
    for axes in _subsets(claimed.ndim):
        for name, reduce in (("sum", np.sum), ("mean", np.mean)):
            for keepdims in (False, True):
                reduced = np.asarray(reduce(claimed, axis=axes, keepdims=keepdims))
                if reduced.shape != shape or numerical is None:
                    continue
                # sqrt(u): half of the digits agree, which no unrelated gradient does
                if (abs(reduced - numerical) <= 2.0**-26 * abs(numerical).max(initial=0)).all():
                    found.append(f"missing {name} over axes {axes}")
    return tuple(dict.fromkeys(found))


def _subsets(ndim: int) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(
        itertools.combinations(range(ndim), count) for count in range(1, ndim + 1)
    )


def _factor(
    claimed: Floats, numerical: Floats, bar: Floats, known: Bools, sizes: Mapping[int, str]
) -> Iterator[str]:
    """One factor c for all elements; c is known to within the relative bar of the largest of them."""
    a, n, b = claimed[known], numerical[known], bar[known]
    if not n.any():
        return
    largest = int(np.argmax(abs(n)))
    c = float(a[largest] / n[largest])
    relative = float(b[largest] / abs(n[largest]))
    if n.size < 2 and not any(abs(abs(c) / k - 1) <= 2 * relative for k in (1.0, 2.0, 0.5)):
        return  # one number is always a multiple of another
    if not (abs(a - c * n) <= (1 + abs(c)) * (b + relative * abs(n))).all():
        return
    for name, value in _factors(sizes):
        if abs(abs(c) / value - 1) <= 4 * relative:
            if value == 1.0:
                yield from ("sign flipped",) if c < 0 else ()
            else:
                yield f"constant factor {'-' if c < 0 else ''}{name}"
            return
    if abs(c) > 2 * relative:
        yield f"constant factor {c:.6g}"


def _factors(sizes: Mapping[int, str]) -> Iterator[tuple[str, float]]:
    """Factors that mistakes are made of: means for sums, scales of attention, variances by n - 1."""
    yield from (("1", 1.0), ("2", 2.0), ("1/2", 0.5))
    for size, name in sizes.items():
        if size > 2:
            yield f"{size} ({name}): a sum where a mean is due", float(size)
            yield f"1/{size} ({name}): a mean where a sum is due", 1 / size
    for size, name in sizes.items():
        if size > 2:
            yield f"sqrt({size}) ({name})", math.sqrt(size)
            yield f"1/sqrt({size}) ({name})", 1 / math.sqrt(size)
            yield f"{size}/{size - 1} ({name}): divided by n - 1", size / (size - 1)
            yield f"{size - 1}/{size} ({name}): divided by n where n - 1 is due", (size - 1) / size


def _rearranged(claimed: Floats, numerical: Floats, bar: Floats) -> Iterator[str]:
    def holds(n: Floats, b: Floats) -> bool:
        return bool((abs(claimed - n) <= 2 * b + bar).all())

    axes = tuple(range(claimed.ndim))
    for order in itertools.permutations(axes) if len(axes) <= MOST_AXES else ():
        turned = numerical.transpose(order)
        if order != axes and turned.shape == claimed.shape and holds(turned, bar.transpose(order)):
            yield "transposed" if len(axes) == 2 else f"transposed: axes in the order {order}"
    square = claimed.ndim == 2 and claimed.shape[0] == claimed.shape[1]
    if square and holds((numerical + numerical.T) / 2, (bar + bar.T) / 2):
        yield "its symmetric part alone, as for a symmetric input: see `through` and `symmetric`"
    for chosen in _subsets(claimed.ndim) if len(axes) <= MOST_AXES else ():
        if holds(np.flip(numerical, chosen), np.flip(bar, chosen)):
            yield f"reversed along axis {chosen[0]}" if len(chosen) == 1 else f"reversed along axes {chosen}"
    for axis in axes:
        for shift in (1, -1):
            if holds(np.roll(numerical, shift, axis), np.roll(bar, shift, axis)):
                yield f"shifted by {shift} along axis {axis}"


def _chain_rule(
    claimed: Floats, numerical: Floats, bar: Floats, arrays: Mapping[str, Floats]
) -> Iterator[str]:
    """A factor that is a known array, or a simple function of one, too many or missing."""
    for name, array in arrays.items():
        for text, factor in ((name, array), (f"1 - {name}", 1 - array), (f"1 - {name}^2", 1 - array * array)):
            if not np.isfinite(factor).all() or not np.ptp(factor):
                continue
            if (abs(claimed - numerical * factor) <= 2 * bar * (1 + abs(factor))).all():
                yield f"a factor {text} too many"
            elif (abs(claimed * factor - numerical) <= 2 * bar * (1 + abs(factor))).all():
                yield f"the factor {text} is missing"


def _missing_terms(
    claimed: Floats, numerical: Floats, bar: Floats, arrays: Mapping[str, Floats]
) -> Iterator[str]:
    """claimed - numerical, or claimed / numerical, the same all along an axis, or so in a known array."""
    error = claimed - numerical
    for axis, size in enumerate(claimed.shape):
        if size < 2:
            continue
        first = (slice(None),) * axis + (slice(0, 1),)
        if (abs(error - error[first]) <= bar + bar[first]).all():
            yield f"missing sum or mean: the error is the same along axis {axis}"
            continue
        if claimed.ndim > 1 and _proportional(claimed, numerical, bar, bar, axis):
            yield f"a factor that is the same along axis {axis}"
        for name, array in arrays.items():
            if np.isfinite(array).all() and np.ptp(array) and _proportional(error, array, bar, 0 * bar, axis):
                yield f"missing term: {name} times what is the same along axis {axis}"


def _proportional(a: Floats, n: Floats, a_bar: Floats, n_bar: Floats, axis: int) -> bool:
    """a n' - a' n = 0 for the elements a, n and the largest ones a', n' of their line, within the bars."""
    line = np.argmax(abs(n), axis=axis, keepdims=True)
    a_, n_, a_bar_, n_bar_ = (np.take_along_axis(part, line, axis) for part in (a, n, a_bar, n_bar))
    bar = abs(n_) * a_bar + abs(n) * a_bar_ + abs(a) * n_bar_ + abs(a_) * n_bar
    # what is 0 within its bars is a multiple of anything
    clear = (abs(a) > 2 * a_bar).sum(axis=axis) >= min(2, a.shape[axis])
    return bool(clear.any() and (abs(a * n_ - a_ * n) <= bar).all())


def _repeated(failing: Bools, ids: Mapping[str, Array]) -> Iterator[str]:
    """Failures at the rows that an input of indices names more than once, and at no others."""
    rows = set(np.argwhere(failing)[:, 0].tolist()) if failing.ndim else set()
    for name, index in ids.items():
        values, counts = np.unique(index, return_counts=True)
        if rows and rows <= set((values[counts > 1] % len(failing)).tolist()):
            yield f"only rows that {name} names more than once: assigned where they should be added up"


def _confined(failing: Bools) -> list[str]:
    """Failures that are one element, or fill a few slices of an axis and nothing else."""
    where = np.argwhere(failing)
    if len(where) == 1 < failing.size:
        return [f"one element only: {tuple(map(int, where[0]))}"]
    found = []
    for axis in range(failing.ndim):
        touched = np.unique(where[:, axis])
        if len(touched) <= failing.shape[axis] // 2:
            found.append(f"only at {touched[:5].tolist()} of axis {axis}")
    return found


def _in_triangle(failing: Bools) -> Iterator[str]:
    """Failures on one side of the diagonals of square matrices, all of one side."""
    if failing.ndim > 1 and failing.shape[-1] == failing.shape[-2] > 2:
        above = np.triu(np.ones(failing.shape[-2:], dtype=bool), 1)
        for side, name in ((above, "above"), (above.T, "below")):
            if failing[..., side].all() and not failing[..., ~side].any():
                yield f"only {name} the diagonal, and everywhere there: a mask is missing, or a half"


def _at_borders(failing: Bools) -> Iterator[str]:
    """Failures at the first and last elements of axes, and nowhere else."""
    wide = tuple(axis for axis, size in enumerate(failing.shape) if size > 2)
    inside = tuple(slice(1, -1) if axis in wide else slice(None) for axis in range(failing.ndim))
    if failing.any() and wide and not failing[inside].any():
        yield f"only at the borders of axes {wide}"
