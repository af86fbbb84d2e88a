"""Gradients without any formula: sums of numerical derivatives, each with an error bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import (
    Array,
    Bools,
    Floats,
    Function,
    as_points,
    as_tuple,
    coarsest,
    evaluate,
    flatten,
    is_floating,
    unit_roundoff,
)
from verify.gradients.kinks import Kinks
from verify.gradients.ladder import EDGE, KINK, REASONS, RESOLVED, Codes, Derivative, differentiate, exponents
from verify.gradients.samples import Sampler, sampler

UNEXAMINED = "unexamined"
"""The reason of elements that were left out."""

CHUNK = 1 << 18
"""Samples that are analysed at once: a few megabytes for every intermediate array."""


class Estimate(NamedTuple):
    """The gradient of `sum(dy * f)` for one input, element by element.

    `error` bounds `|value - truth|`, infinite where nothing is known. `reason` is empty where the value is
    certified; "kink" where the one-sided derivatives differ, and then value - error to value + error is the
    interval that they span; "noise" where no step resolves the derivative (rounding noise, a jump, an
    infinite slope); "domain edge" where f raises or is not finite around the point. `point` is the input
    at which all this holds: the given one, snapped (see `snap`).
    """

    value: Floats
    error: Floats
    reason: npt.NDArray[np.str_]
    point: Array


def numerical_vjp(
    f: Function,
    inputs: Sequence[npt.ArrayLike],
    dy: object,
    *,
    differentiable: Sequence[int] | None = None,
    stretch: float = 1.0,
) -> tuple[Estimate, ...]:
    """The gradients of `sum(dy * f(*inputs))`, without any formula.

    Every element of every differentiable input is moved by a ladder of about 20 steps to both sides (about
    40 calls of f for each element, up to three times as many where the scale of f is not the scale of its
    inputs). Outputs are differentiated one by one, each with the steps that suit it, and the derivatives
    are then contracted with dy, exactly (`math.fsum`): the difference of two sums would lose what the sum
    has in common. Deterministic.

    Args:
        f: takes the inputs, returns a floating array or a tuple of them; modifies nothing.
        inputs: the point; it is snapped, see `Estimate.point`.
        dy: the cotangent, shaped like the output (a tuple if the output is one).
        differentiable: positions of the inputs to differentiate; all floating ones if None.
        stretch: multiplies every step. 1 and 1.5 have no step in common: two witnesses.

    Raises:
        TypeError: an input or an output has a dtype that cannot be differentiated.
        ValueError: dy is not shaped like the output.
        Exception: whatever f raises at the point itself.
    """
    points = as_points(inputs)
    outputs = evaluate(f, points)
    cotangent = tuple(np.asarray(v) for v in as_tuple(dy))
    if [v.shape for v in cotangent] != [y.shape for y in outputs]:
        raise ValueError(
            f"dy has shapes {[v.shape for v in cotangent]}; the output has {[y.shape for y in outputs]}"
        )
    if differentiable is None:
        differentiable = [position for position, x in enumerate(points) if is_floating(x)]
    dys = flatten(cotangent)[None]
    estimates = []
    for position in differentiable:
        several = numerical_vjps(f, points, position, dys, stretch=stretch)
        estimates.append(Estimate(several.value[0], several.error[0], several.reason[0], points[position]))
    return tuple(estimates)


class Estimates(NamedTuple):
    """`Estimate` for several cotangents: arrays of shape (cotangents, *shape of the input)."""

    value: Floats
    error: Floats
    reason: npt.NDArray[np.str_]
    kinked: Array
    """The elements and outputs, flat indices in two columns, that have a kink at the point to be judged."""


def numerical_vjps(
    f: Function,
    points: Sequence[Array],
    position: int,
    dys: Floats,
    *,
    stretch: float = 1.0,
    elements: Sequence[int] | None = None,
    kinks: Kinks | None = None,
) -> Estimates:
    """`numerical_vjp` of one input for several flat cotangents (rows of `dys`) at the price of one.

    `points` must be snapped. `elements` are the flat indices to compute, the others are NaN. What is known
    of the kinks of f keeps the steps on one branch, and turns the interval of a kink into the one value
    that a convention asks for.
    """
    samples = sampler(f, points, position, kinks)
    x, centre = points[position], samples.centre
    dtype = coarsest([x, *samples.outputs])
    shape = (len(dys), x.size)
    value, error = np.full(shape, np.nan), np.full(shape, np.inf)
    code = np.full(shape, EDGE, dtype=np.uint8)
    chosen = np.arange(x.size) if elements is None else np.asarray(elements, dtype=np.intp)
    ladder = stretch * 2.0 ** -exponents(np.finfo(x.dtype).nmant + 1)
    size = max(1, CHUNK // max(1, len(ladder) * max(centre.size, x.size)))
    kinked = [np.empty((0, 2), dtype=np.intp)]
    for start in range(0, len(chosen), size):
        chunk = chosen[start : start + size]
        jacobian = _jacobian(samples, chunk, ladder, centre, dtype)
        value[:, chunk], error[:, chunk], code[:, chunk] = _contract(jacobian, dys, kinks)
        if not (kinks and kinks.convention == "any"):
            rows, outputs = np.nonzero(jacobian.code == KINK)
            kinked.append(np.stack([chunk[rows], outputs], axis=1))
    whole = (len(dys), *x.shape)
    reason = np.array(REASONS)[code]
    if elements is not None:
        reason[:, np.isin(np.arange(x.size), chosen, invert=True)] = UNEXAMINED
    return Estimates(
        value.reshape(whole), error.reshape(whole), reason.reshape(whole), np.concatenate(kinked)
    )


def _jacobian(
    samples: Sampler, chunk: Array, ladder: Floats, centre: Floats, dtype: np.dtype[np.floating]
) -> Derivative:
    """The derivatives of all outputs by some elements of one input, of shape (elements, outputs).

    The ladder starts at the scale of the array; elements that it leaves unresolved are tried at the scales
    of `_scales` too, and every derivative keeps its best estimate. Where two of them contradict each other,
    one scale has overlooked something, nothing tells which, and the bar covers both.
    """
    shape = (len(chunk), centre.size)
    value, error, jump = np.full(shape, np.nan), np.full(shape, np.inf), np.zeros(shape)
    code = np.full(shape, EDGE, dtype=np.uint8)
    finest = np.full(len(chunk), np.inf)
    for scale in _scales(samples.points[samples.position], chunk):
        tried = np.flatnonzero(np.isfinite(scale) & _unresolved(value, error, code, unit_roundoff(dtype)))
        if not tried.size:
            continue
        plus, minus = samples.around(chunk[tried], ladder[:, None] * scale[tried])
        found = _differentiate(ladder, plus, minus, centre, dtype)
        with np.errstate(over="ignore"):
            new_value, new_error, new_jump = (
                part / scale[tried, None] for part in (found.value, found.error, found.jump)
            )
        new_code = found.code
        better = (new_code < code[tried]) | ((new_code == code[tried]) & (new_error < error[tried]))
        # coarser steps may be less noisy, but the kink or the noise that finer ones have seen they overlook
        coarser = (scale[tried] > finest[tried])[:, None]
        better &= ~coarser | (code[tried] == RESOLVED)
        finest[tried] = np.minimum(finest[tried], scale[tried])
        both = (new_code == RESOLVED) & (code[tried] == RESOLVED)
        apart = np.where(both, abs(new_value - value[tried]), 0)
        apart = np.where(apart > new_error + error[tried], apart + np.maximum(new_error, error[tried]), 0)
        new_error, error[tried] = np.maximum(new_error, apart), np.maximum(error[tried], apart)
        value[tried] = np.where(better, new_value, value[tried])
        error[tried] = np.where(better, new_error, error[tried])
        jump[tried] = np.where(better, new_jump, jump[tried])
        code[tried] = np.where(better, new_code, code[tried])
    return Derivative(value, error, code, jump)


def _differentiate(
    ladder: Floats, plus: Floats, minus: Floats, centre: Floats, dtype: np.dtype[np.floating]
) -> Derivative:
    """`differentiate` for samples of shape (steps, elements, outputs).

    Most entries of a Jacobian are 0, as most outputs do not depend on most elements: outputs that no step
    moves are not analysed. What rounding can hide at the largest step is the bar of their 0.
    """
    moves = ((plus != centre) | (minus != centre)).any(axis=0) | ~np.isfinite(centre)
    info = np.finfo(dtype)
    hidden = (float(info.eps) * abs(centre) + float(info.smallest_subnormal)) / ladder[0]
    value, code = np.zeros(moves.shape), np.full(moves.shape, RESOLVED, dtype=np.uint8)
    error = np.tile(hidden, (len(moves), 1))
    still = np.broadcast_to(centre, moves.shape)[moves]
    jump = np.zeros(moves.shape)
    value[moves], error[moves], code[moves], jump[moves] = differentiate(
        ladder, plus[:, moves], minus[:, moves], still, dtype
    )
    return Derivative(value, error, code, jump)


def _scales(x: Array, chunk: Array) -> list[Floats]:
    """The scales to try for each element, powers of two; NaN where one would repeat an earlier one.

    That of the array first: an element near 0 among elements near 1 is one of them. Then its own, for
    functions such as log whose scale is their argument. Then 1, for functions that have a scale of their
    own (a sigmoid at 1e-12, alone or beside 1e12). Steps must stay multiples of the point's last kept bit,
    and that of the smallest number: no scale is smaller than the element's own, or subnormal.
    """
    near = 16.0  # closer scales share all but four steps: nothing new would be seen
    smallest = float(np.finfo(x.dtype).tiny)
    flat = np.abs(x.ravel().astype(np.float64))
    flat = np.where(np.isfinite(flat), flat, 0.0)
    largest = _power_of_two(flat.max(initial=0.0))
    array = np.where(np.isfinite(x.ravel()[chunk]), max(largest, smallest) if largest else 1.0, np.nan)
    own = np.array([max(_power_of_two(v), smallest) if v else np.nan for v in flat[chunk]])
    own = np.where(own * near <= array, own, np.nan)
    one = (np.fmin(array, own) * near <= 1) & ~((array > 1 / near) & (array < near))
    return [array, own, np.where(one, 1.0, np.nan)]


def _power_of_two(v: float) -> float:
    """The largest power of two that is not above v; 0 for 0."""
    return math.ldexp(1.0, math.frexp(v)[1] - 1) if v else 0.0


def _unresolved(value: Floats, error: Floats, code: Codes, u: float) -> Bools:
    """Elements worth another scale: not certified, or to fewer digits than a check needs (see `gradcheck`).

    Four bits better than sqrt(u), which is what `gradcheck` asks for. An element on which nothing depends
    is measured against the largest derivative of its chunk.
    """
    if not value.size:
        return np.zeros(len(value), dtype=bool)
    size = np.nansum(abs(value), axis=1)
    size = np.where(size > 0, size, size.max())
    return np.asarray((code != RESOLVED).any(axis=1) | ~(error.sum(axis=1) <= math.sqrt(u) / 16 * size))


def _contract(jacobian: Derivative, dys: Floats, kinks: Kinks | None) -> tuple[Floats, Floats, Codes]:
    """sum(dy * J) for every cotangent and element, its bar, and the worst code among the terms.

    The sum itself is exact, each product is rounded once; the bars add up, as errors of outputs that share
    an input are not independent. Entries of dy that are 0 take no part.
    """
    shape = (len(dys), len(jacobian.value))
    value, error, code = np.empty(shape), np.empty(shape), np.empty(shape, dtype=np.uint8)
    side = {"left": -0.5, "middle": 0.0, "right": 0.5}.get(kinks.convention if kinks else "between")
    for row, dy in enumerate(dys):
        used = np.flatnonzero(dy)
        slopes, bars, codes = jacobian.value[:, used], jacobian.error[:, used], jacobian.code[:, used]
        if side is not None:
            # the bar of a kink is half of the jump and an error: with a convention only that is left
            jumps = np.where(codes == KINK, jacobian.jump[:, used], 0)
            slopes, bars = slopes + side * jumps, bars - abs(jumps) / 2
            codes = np.where(codes == KINK, RESOLVED, codes)
        elif kinks and kinks.convention == "any":
            bars = np.where(codes == KINK, np.inf, bars)
        products = slopes * dy[used]
        code[row] = codes.max(axis=1, initial=RESOLVED)
        known = code[row] <= KINK
        error[row] = (bars * abs(dy[used])).sum(axis=1)
        error[row] += np.where(known, 2.0**-53 * abs(products).sum(axis=1), 0)
        value[row] = [math.fsum(p) if sure else np.nan for p, sure in zip(products, known, strict=True)]
    return value, error, code
