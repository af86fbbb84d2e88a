"""Derivatives by one step along the imaginary axis: no difference is taken, and so no digit is lost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from verify.gradients.arrays import (
    Array,
    Floats,
    Function,
    Joined,
    as_tuple,
    is_floating,
    join,
    values_beside,
)
from verify.gradients.directions import ROUNDINGS
from verify.gradients.numerical import UNEXAMINED, Estimates

STEP = 2.0**-100
"""The largest element of a step. Its square is 2^-47 of a last place: truncation is nothing."""

PROOF_STEPS = (2.0**-10, 2.0**-18, 2.0**-2, 2.0**-6)
"""The largest of the three steps, one after the other half as long, of the differences that a complex step
must agree with: shorter where a kink is near, longer where f changes by a few last places only."""

PROVED = 2.0**-26
"""Half of the digits: what of a derivative a complex step may lose without being seen."""


class ComplexUnsafe(Exception):
    """f cannot be differentiated by a complex step; the message says why."""


def complex_slope(f: Function, inputs: Joined, direction: Floats, size: int) -> Floats:
    """The derivatives of all `size` outputs of f along a direction.

    f(x + i h u) = f(x) + i h f'(x) u + O(h^2) for a function that is analytic in every operation. Many are
    not, without a word: np.abs and norms return the modulus, comparisons and np.maximum order complex
    numbers by their real parts and ties by the imaginary ones, np.sign(z) is z / |z|. See `prove_safe`.

    Raises:
        ComplexUnsafe: f raises for complex numbers, drops imaginary parts with a warning, or returns
            something else than for real ones.
    """
    largest = float(abs(direction).max(initial=0.0))
    if not largest:
        return np.zeros(size)
    step = STEP / largest
    moved = inputs.split(inputs.vector + 1j * (step * direction))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            imaginary = [np.imag(np.asarray(y)).ravel() for y in as_tuple(f(*moved))]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is, be it SystemExit: not for complex numbers
        raise ComplexUnsafe(f"f raises {type(error).__name__} for complex numbers") from error
    whole = np.concatenate(imaginary) if imaginary else np.empty(0)
    if whole.dtype != np.float64 or whole.size != size:
        raise ComplexUnsafe("f returns something else for complex numbers")
    along = whole / step
    if not np.isfinite(along).all():
        raise ComplexUnsafe("f is not finite for complex numbers")
    return np.asarray(along)


def prove_safe(f: Function, inputs: Joined, direction: Floats, dy: Floats) -> float:
    """Compare the complex step with central differences along a direction of the size of the inputs.

    Returns the error of the differences: a part of the derivative that f loses for complex numbers is seen
    if it is larger.

    Raises:
        ComplexUnsafe: they disagree, or the differences resolve less than half of the digits.
    """
    terms = dy * complex_slope(f, inputs, direction, dy.size)
    slope, size = float(terms.sum()), math.sqrt(float(terms @ terms))
    least = PROVED * size
    for step in PROOF_STEPS:
        difference, error = _extrapolated(f, inputs, direction, dy, step)
        if error <= least and abs(difference - slope) <= error:
            return error
        least = min(least, error)  # a coarser agreement does not overrule a finer disagreement
    raise ComplexUnsafe("the complex step disagrees with real differences, or they are too noisy to tell")


def _extrapolated(
    f: Function, inputs: Joined, direction: Floats, dy: Floats, step: float
) -> tuple[float, float]:
    """The derivative of sum(dy * f) from three central differences, extrapolated twice, and its error: the
    last disagreement, and twice the rounding errors of f."""
    differences = []
    for h in (step, step / 2, step / 4):
        above, below = (
            values_beside(f, inputs.split(inputs.vector + sign * h * direction), dy.size) for sign in (1, -1)
        )
        with np.errstate(all="ignore"):
            differences.append(float(dy @ (above - below)) / (2 * h))
    # the finest difference enters with 64 / 45, the others with less together
    noise = float(abs(dy) @ np.maximum(abs(above), abs(below))) * 2.0**-52 / h
    once = [(4 * fine - coarse) / 3 for coarse, fine in pairwise(differences)]
    twice = (16 * once[1] - once[0]) / 15
    return twice, abs(twice - once[1]) + 2 * noise


def complex_vjps(
    f: Function,
    points: Sequence[Array],
    position: int,
    dys: Floats,
    *,
    stretch: float = 1.0,
    elements: Sequence[int] | None = None,
) -> Estimates:
    """What `numerical_vjps` returns, by a complex step for every element; f must be proved to be safe.

    The bar is a few roundings of the Euclidean norm of the terms of the sum. `stretch` multiplies the steps:
    what they are does not matter, but the roundings are other ones.

    Raises:
        ComplexUnsafe: f does not take complex numbers.
    """
    if not points[position].size:
        nothing = np.empty((len(dys), *points[position].shape))
        return Estimates(nothing, nothing, nothing.astype(str), np.empty((0, 2), dtype=np.intp))
    # all others are complex, too, as code that adds to them in place expects
    others = [
        x.astype(np.complex128) if is_floating(x) and p != position else x for p, x in enumerate(points)
    ]
    inputs = join(others, [position])
    shape = (len(dys), inputs.vector.size)
    value, error = np.full(shape, np.nan), np.full(shape, np.inf)
    for element in range(shape[1]) if elements is None else elements:
        direction = np.zeros(shape[1])
        direction[element] = stretch
        terms = dys * complex_slope(f, inputs, direction, dys.shape[1]) / stretch
        value[:, element] = terms.sum(axis=1)
        error[:, element] = ROUNDINGS * 2.0**-53 * np.sqrt((terms * terms).sum(axis=1))
    whole = (len(dys), *points[position].shape)
    reason = np.where(np.isfinite(error), "", UNEXAMINED)
    return Estimates(
        value.reshape(whole), error.reshape(whole), reason.reshape(whole), np.empty((0, 2), dtype=np.intp)
    )
