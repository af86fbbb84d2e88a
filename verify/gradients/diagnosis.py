"""What a wrong gradient looks like: hypotheses that would explain all of it, within the error bars."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from verify.gradients.arrays import Bools, Floats


def diagnose(
    claimed: Floats, numerical: Floats, bar: Floats, failing: Bools, sizes: Mapping[int, str]
) -> tuple[str, ...]:
    """The hypotheses that hold for one input; empty if none does.

    A hypothesis maps the numerical gradient to what a mistaken vjp would have returned, and holds when
    every element that is resolved lies within the (mapped) bar of the claim. As the bars are far below the
    gradients, a hypothesis does not hold by chance. `sizes` names the sizes of axes that a sum or a mean
    may have been taken over.
    """
    if not np.isfinite(claimed).all():
        return ("the gradient is not finite",)
    if not claimed.any():
        return ("the gradient is zero everywhere: detached, masked, or never written",)
    known = np.isfinite(numerical) & np.isfinite(bar)
    found = [*_factor(claimed, numerical, bar, known, {claimed.size: "N", **sizes})] or _confined(failing)
    if not found and known.all():
        found = [*_rearranged(claimed, numerical, bar), *_missing_terms(claimed, numerical, bar)]
    return tuple(found)


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
    names = {"1": 1.0, "2": 2.0, "1/2": 0.5}
    for size, name in sizes.items():
        if size > 2:
            names |= {f"{size} ({name})": float(size), f"1/{size} ({name})": 1 / size}
    for name, value in names.items():
        if abs(abs(c) / value - 1) <= 4 * relative:
            if value == 1.0:
                yield "sign flipped" if c < 0 else "equal within the bars of the largest element"
            else:
                yield f"constant factor {'-' if c < 0 else ''}{name}"
            return
    yield f"constant factor {c:.6g}"


def _rearranged(claimed: Floats, numerical: Floats, bar: Floats) -> Iterator[str]:
    def holds(n: Floats, b: Floats) -> bool:
        return bool((abs(claimed - n) <= 2 * b + bar).all())

    if claimed.ndim == 2 and claimed.shape[0] == claimed.shape[1] and holds(numerical.T, bar.T):
        yield "transposed"
    for axis in range(claimed.ndim):
        if holds(np.flip(numerical, axis), np.flip(bar, axis)):
            yield f"reversed along axis {axis}"
        for shift in (1, -1):
            if holds(np.roll(numerical, shift, axis), np.roll(bar, shift, axis)):
                yield f"shifted by {shift} along axis {axis}"


def _missing_terms(claimed: Floats, numerical: Floats, bar: Floats) -> Iterator[str]:
    """claimed - numerical, or claimed / numerical, the same all along an axis."""
    for axis, size in enumerate(claimed.shape):
        if size < 2:
            continue
        first = (slice(None),) * axis + (slice(0, 1),)
        error = claimed - numerical
        if (abs(error - error[first]) <= bar + bar[first]).all():
            yield f"missing sum or mean: the error is the same along axis {axis}"
        elif claimed.ndim > 1:
            # a n' - a' n = 0 for the elements a, n and the largest ones a', n' of their line
            line = np.argmax(abs(numerical), axis=axis, keepdims=True)
            a, n, b = (np.take_along_axis(part, line, axis) for part in (claimed, numerical, bar))
            if (abs(claimed * n - a * numerical) <= abs(claimed) * b + abs(a) * bar).all():
                yield f"a factor that is the same along axis {axis}"


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
