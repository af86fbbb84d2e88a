"""Gradients without any formula: sums of numerical derivatives, each with an error bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verify.gradients.ladder import (
    EDGE,
    KINK,
    REASONS,
    RESOLVED,
    Bools,
    Codes,
    Derivative,
    Floats,
    differentiate,
    exponents,
)

Array = npt.NDArray[Any]
Function = Callable[..., object]

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


def snap(x: Array) -> Array:
    """A copy of x whose floats have their two lowest bits cleared: x + h and x - h are then exact.

    The rounding of x + h is not an error of f but of the point, and divided by h it would be the largest
    error of a numerical derivative: 1e-8 of the value at h = 1e-8 |x|. Zero and small integers are unmoved;
    nothing moves by more than 3 ulp, nor away from zero. Gradients must be compared at the snapped point.
    """
    if not is_floating(x):
        return x.copy()
    mantissa, exponent = np.frexp(x)
    digits = np.finfo(x.dtype).nmant + 1
    kept = np.trunc(np.ldexp(mantissa, digits - 2))
    return np.asarray(np.where(np.isfinite(x), np.ldexp(kept, exponent - (digits - 2)), x), dtype=x.dtype)


def is_floating(x: Array) -> bool:
    """Whether x is of a dtype that can be differentiated: not bfloat16 (kind "V"), not a long double."""
    return x.dtype.kind == "f" and x.dtype.itemsize <= 8


def coarsest(arrays: Sequence[Array]) -> np.dtype[np.floating]:
    """The dtype of the least precise floating array; float64 if there is none."""
    dtypes = (np.dtype(np.float64), *(a.dtype for a in arrays if is_floating(a)))
    return max(dtypes, key=lambda dtype: float(np.finfo(dtype).eps))


def unit_roundoff(dtype: np.dtype[np.floating]) -> float:
    """Half the distance from 1 to the next number."""
    return float(np.finfo(dtype).eps) / 2


def as_tuple(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


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
        value, error, reason = numerical_vjps(f, points, position, dys, stretch=stretch)
        estimates.append(Estimate(value[0], error[0], reason[0], points[position]))
    return tuple(estimates)


def evaluate(f: Function, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of f as arrays, without floating-point warnings: the steps may leave the domain of f."""
    with np.errstate(all="ignore"):
        return tuple(as_output(y) for y in as_tuple(f(*(x.copy() for x in inputs))))


def as_output(y: object) -> Array:
    """One output of f as an array of its own.

    Raises:
        TypeError: it is not a floating array or number.
    """
    if not isinstance(y, np.ndarray | np.floating | float):
        raise TypeError(f"f returns a {type(y).__name__}; required: a floating array, or a tuple of them")
    array = np.array(y)
    if not is_floating(array):
        raise TypeError(f"f returns dtype {array.dtype}; required: float16, float32 or float64")
    return array


def as_points(inputs: Sequence[npt.ArrayLike]) -> tuple[Array, ...]:
    """The inputs as arrays, snapped (see `snap`); integers and booleans stay as they are.

    Raises:
        TypeError: `inputs` is one array, or a dtype is neither of these: it would pass unchecked.
    """
    if isinstance(inputs, np.ndarray):
        raise TypeError("inputs is an array; required: a sequence with one array for each argument, [x]")
    points = tuple(snap(np.asarray(x)) for x in inputs)
    for position, x in enumerate(points):
        if not is_floating(x) and x.dtype.kind not in "biu":
            raise TypeError(
                f"input {position} has dtype {x.dtype}; required: float16, float32, float64, or integers. "
                "Close over what is no number: lambda *inputs: f(*inputs, other)"
            )
    return points


def flatten(arrays: Sequence[Array]) -> Floats:
    """All elements in one new float64 vector: f may return an input, which is about to change."""
    return np.concatenate([np.empty(0), *(np.asarray(a, dtype=np.float64).ravel() for a in arrays)])


def numerical_vjps(
    f: Function,
    points: Sequence[Array],
    position: int,
    dys: Floats,
    *,
    stretch: float = 1.0,
    elements: Sequence[int] | None = None,
) -> tuple[Floats, Floats, npt.NDArray[np.str_]]:
    """`numerical_vjp` of one input for several flat cotangents (rows of `dys`) at the price of one.

    `points` must be snapped. Returns value, error and reason, each of shape (cotangents, *input shape);
    `elements` are the flat indices to compute, the others are NaN.
    """
    outputs = evaluate(f, points)
    centre = flatten(outputs)
    x = points[position]
    dtype = coarsest([x, *outputs])
    shape = (len(dys), x.size)
    value, error = np.full(shape, np.nan), np.full(shape, np.inf)
    code = np.full(shape, EDGE, dtype=np.uint8)
    chosen = np.arange(x.size) if elements is None else np.asarray(elements, dtype=np.intp)
    ladder = stretch * 2.0 ** -exponents(np.finfo(x.dtype).nmant + 1)
    size = max(1, CHUNK // max(1, len(ladder) * centre.size))
    for start in range(0, len(chosen), size):
        chunk = chosen[start : start + size]
        jacobian = _jacobian(f, points, position, chunk, ladder, centre, dtype)
        value[:, chunk], error[:, chunk], code[:, chunk] = _contract(jacobian, dys)
    whole = (len(dys), *x.shape)
    return value.reshape(whole), error.reshape(whole), np.array(REASONS)[code].reshape(whole)


def _jacobian(
    f: Function,
    points: Sequence[Array],
    position: int,
    chunk: Array,
    ladder: Floats,
    centre: Floats,
    dtype: np.dtype[np.floating],
) -> Derivative:
    """The derivatives of all outputs by some elements of one input, of shape (elements, outputs).

    The ladder starts at the scale of the array; elements that it leaves unresolved are tried at the scales
    of `_scales` too, and every derivative keeps its best estimate. Where two of them contradict each other,
    one scale has overlooked something, nothing tells which, and the bar covers both.
    """
    shape = (len(chunk), centre.size)
    value, error = np.full(shape, np.nan), np.full(shape, np.inf)
    code = np.full(shape, EDGE, dtype=np.uint8)
    finest = np.full(len(chunk), np.inf)
    for scale in _scales(points[position], chunk):
        tried = np.flatnonzero(np.isfinite(scale) & _unresolved(value, error, code, unit_roundoff(dtype)))
        if not tried.size:
            continue
        plus = np.empty((len(ladder), len(tried), centre.size))
        minus = np.empty_like(plus)
        for column, element in enumerate(tried):
            steps = scale[element] * ladder
            _sample(f, points, position, int(chunk[element]), steps, plus[:, column], minus[:, column])
        found = _differentiate(ladder, plus, minus, centre, dtype)
        with np.errstate(over="ignore"):
            new_value, new_error = (part / scale[tried, None] for part in (found.value, found.error))
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
        code[tried] = np.where(better, new_code, code[tried])
    return Derivative(value, error, code)


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
    value[moves], error[moves], code[moves] = differentiate(
        ladder, plus[:, moves], minus[:, moves], still, dtype
    )
    return Derivative(value, error, code)


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


def _sample(
    f: Function,
    points: Sequence[Array],
    position: int,
    element: int,
    steps: Floats,
    plus: Floats,
    minus: Floats,
) -> None:
    """Write f(x + h) and f(x - h) for every step h of one element; NaN where f raises or changes shape."""
    moved = list(points)
    moved[position] = x = points[position].copy()
    centre = float(x.flat[element])
    for sign, rows in ((1.0, plus), (-1.0, minus)):
        for row, h in zip(rows, steps, strict=True):
            with np.errstate(over="ignore"):
                x.flat[element] = centre + sign * h
            try:
                outputs = flatten(evaluate(f, moved))
            except KeyboardInterrupt:
                raise
            except BaseException:  # whatever it is, be it SystemExit: f is not defined there
                outputs = np.empty(0)
            row[:] = outputs if outputs.size == row.size else np.nan


def _contract(jacobian: Derivative, dys: Floats) -> tuple[Floats, Floats, Codes]:
    """sum(dy * J) for every cotangent and element, its bar, and the worst code among the terms.

    The sum itself is exact, each product is rounded once; the bars add up, as errors of outputs that share
    an input are not independent. Entries of dy that are 0 take no part.
    """
    shape = (len(dys), len(jacobian.value))
    value, error, code = np.empty(shape), np.empty(shape), np.empty(shape, dtype=np.uint8)
    for row, dy in enumerate(dys):
        used = np.flatnonzero(dy)
        products = jacobian.value[:, used] * dy[used]
        code[row] = jacobian.code[:, used].max(axis=1, initial=RESOLVED)
        known = code[row] <= KINK
        error[row] = (jacobian.error[:, used] * abs(dy[used])).sum(axis=1)
        error[row] += np.where(known, 2.0**-53 * abs(products).sum(axis=1), 0)
        value[row] = [math.fsum(p) if sure else np.nan for p, sure in zip(products, known, strict=True)]
    return value, error, code
