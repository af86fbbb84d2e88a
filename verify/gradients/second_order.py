"""Second derivatives through a vjp: the Hessian of sum(dy * f) times a direction, and its symmetry.

A claimed product `hvp(u, dy, *inputs)` needs nothing of its own. The Hessian is symmetric, so that it is the
vjp of the vjp: `gradcheck(partial(vjp, dy), lambda u, *x: hvp(u, dy, *x), inputs)` compares it with complex
steps through vjp, with integrals of it along paths, or with differences of vjp.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import (
    Array,
    Floats,
    Function,
    Joined,
    as_points,
    as_tuple,
    coarsest,
    evaluate,
    flatten,
    is_floating,
    join,
    values_beside,
)
from verify.gradients.claims import CANCELLED, SHRUNK, neighbour
from verify.gradients.complex_step import ComplexUnsafe, complex_slope, prove_safe
from verify.gradients.directions import as_seed, signed
from verify.gradients.draws import COMPLEX_STEPS, SPREAD, STRETCHES
from verify.gradients.ladder import RESOLVED, differentiate, exponents
from verify.gradients.report import GradcheckReport, Subject

PAIRS = 3
"""Pairs of directions for which the Hessian is shown to be symmetric."""


class HessianProduct(NamedTuple):
    """The Hessian of `sum(dy * f)` times a direction: one array for each input, and error bars.

    `error` bounds `|value - truth|`, infinite where nothing is known. `method` is "complex steps" or
    "differences".
    """

    value: tuple[Floats, ...]
    error: tuple[Floats, ...]
    method: str


def hessian_vector_product(
    vjp: Function, inputs: Sequence[npt.ArrayLike], dy: object, direction: Sequence[npt.ArrayLike]
) -> HessianProduct:
    """The derivative of `vjp(dy, *inputs)` along a direction, for all floating inputs.

    By a complex step through vjp, if differences prove that it takes complex numbers rightly, which gives
    all digits; else by a ladder of differences (see `differentiate`).

    Args:
        vjp: returns the gradients of `sum(dy * f)` for the floating inputs; f itself is not needed.
        inputs: the point; it is snapped, see `snap`.
        dy: the cotangent, as vjp takes it.
        direction: one array for each floating input, shaped like it.

    Raises:
        TypeError: an input has a dtype that cannot be differentiated.
        ValueError: the direction is not shaped like the floating inputs, or they have no element.
        Exception: whatever vjp raises at the point itself.
    """
    points, gradient, joined = _problem(vjp, inputs, dy)
    along = [np.asarray(u, np.float64) for u in direction]
    wanted = [points[p].shape for p, x in enumerate(points) if is_floating(x)]
    if [u.shape for u in along] != wanted:
        raise ValueError(f"direction has shapes {[u.shape for u in along]}; required: {wanted}")
    value, error, method = _product(points, gradient, joined, flatten(along), np.random.default_rng(0))
    return HessianProduct(_parts(points, value), _parts(points, error), method)


def check_hessian_symmetry(
    vjp: Function, inputs: Sequence[npt.ArrayLike], dy: object, *, seed: int = 0
) -> GradcheckReport:
    """Whether a vjp is a gradient at all: the Hessian H that it has must be symmetric.

    u^T H w = w^T H u for random directions, within the error bars of the products. No f is needed, which
    makes it the check of a backward whose forward is out of reach. It is necessary, not sufficient: twice a
    gradient is symmetric, too. See `hessian_vector_product` for the arguments.
    """
    seed = as_seed(seed)
    points, gradient, joined = _problem(vjp, inputs, dy)
    rng = np.random.default_rng(seed)
    about = Subject("f", getattr(vjp, "__name__", type(vjp).__name__), seed)
    size = joined.largest(abs(joined.vector))
    worst, scale, method = 0.0, 0.0, ""
    for _ in range(PAIRS):
        u, w = (np.where(size > 0, size, 1.0) * signed(rng, size.shape, 20) for _ in range(2))
        (hu, hu_error, method), (hw, hw_error, _) = (
            _product(points, gradient, joined, direction, rng) for direction in (u, w)
        )
        bar = float(abs(w) @ hu_error + abs(u) @ hw_error)
        scale = max(scale, math.sqrt(float(((w * hu) ** 2).sum())))
        if not math.isfinite(bar):
            return GradcheckReport("inconclusive", "a second derivative is not resolved", about, method)
        if not abs(float(w @ hu - u @ hw)) <= bar:
            return GradcheckReport(
                "fail",
                f"the Hessian of vjp is not symmetric: {float(w @ hu):.6g} one way and "
                f"{float(u @ hw):.6g} the other, ± {bar:.1e}",
                about,
                method,
                diagnosis=("vjp is the gradient of no function: a term of it is wrong",),
            )
        worst = max(worst, bar)
    if not scale > worst:
        return GradcheckReport("inconclusive", "vacuous: every second derivative is 0 here", about, method)
    return GradcheckReport("pass", "the Hessian of vjp is symmetric", about, method, worst / scale)


def _problem(
    vjp: Function, inputs: Sequence[npt.ArrayLike], dy: object
) -> tuple[tuple[Array, ...], Callable[..., tuple[Array, ...]], Joined]:
    points = as_points(inputs)
    positions = [p for p, x in enumerate(points) if is_floating(x) and x.size]
    if not positions:
        raise ValueError("inputs have no floating element; required: at least one, to differentiate by")
    cotangent = tuple(map(np.asarray, dy)) if isinstance(dy, tuple) else np.asarray(dy)
    floating = [x.shape for x in points if is_floating(x)]
    given = [np.shape(g) for g in as_tuple(vjp(cotangent, *(x.copy() for x in points)))]
    if given != floating:
        raise ValueError(
            f"vjp returns gradients of shapes {given}; required: {floating}, as the floating inputs"
        )
    return points, lambda *x: as_tuple(vjp(cotangent, *x)), join(points, positions)


def _product(
    points: Sequence[Array],
    gradient: Callable[..., tuple[Array, ...]],
    joined: Joined,
    direction: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, str]:
    """The derivative of the gradient along a direction, its error, and the method."""
    dtype = coarsest(points)
    centre = flatten(evaluate(gradient, points))
    try:
        prove_safe(gradient, joined, direction, signed(rng, centre.shape, 20))
        value = complex_slope(gradient, joined, direction, centre.size)
        return value, _rounding(gradient, joined, direction, value, rng), COMPLEX_STEPS
    except ComplexUnsafe:
        steps = 2.0 ** -exponents(np.finfo(dtype).nmant + 1)

        def beside(step: float) -> Floats:
            moved = joined.split(joined.vector + step * direction)
            at = [np.asarray(x, dtype=point.dtype) for x, point in zip(moved, points, strict=True)]
            return values_beside(gradient, at, centre.size)

        plus, minus = (np.array([beside(sign * h) for h in steps]) for sign in (1, -1))
        found = differentiate(steps, plus, minus, centre, dtype)
        sure = found.code == RESOLVED
        # what terms that cancel leave of the gradient, over the largest step (see `claims.cancelled`)
        smaller = [values_beside(gradient, joined.split(k * joined.vector), centre.size) for k in SHRUNK]
        largest = float(np.nanmax(abs(np.array([centre, *smaller])), initial=0.0))
        error = found.error + CANCELLED * float(np.finfo(dtype).eps) * largest / steps[0]
        return np.where(sure, found.value, 0.0), np.where(sure, error, np.inf), "differences"


def _rounding(
    gradient: Callable[..., tuple[Array, ...]],
    joined: Joined,
    direction: Floats,
    value: Floats,
    rng: np.random.Generator,
) -> Floats:
    """The rounding error of a complex step: its own, what it changes by with the last bits of the inputs, and
    what terms that cancel may leave, of which smaller inputs show the size (see `claims.cancelled`)."""
    change, largest = np.zeros_like(value), float(abs(value).max())
    for stretch in STRETCHES:
        near = replace(joined, vector=neighbour(rng, joined.vector))
        moved = complex_slope(gradient, near, stretch * direction, value.size) / stretch
        change = np.maximum(change, abs(moved - value))
    for factor in SHRUNK:
        with contextlib.suppress(ComplexUnsafe):  # outside of the domain
            smaller = replace(joined, vector=factor * joined.vector)
            terms = complex_slope(gradient, smaller, direction, value.size)
            largest = max(largest, float(abs(terms).max()))
    return SPREAD * change + CANCELLED * float(np.finfo(np.float64).eps) * largest


def _parts(points: Sequence[Array], vector: Floats) -> tuple[Floats, ...]:
    shapes = [x.shape for x in points if is_floating(x)]
    cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return tuple(part.reshape(shape) for part, shape in zip(np.split(vector, cuts), shapes, strict=True))
