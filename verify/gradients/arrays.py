"""The point of a check and the results of a function, as arrays whose numbers can be relied on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.op import is_plain

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Function = Callable[..., object]


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
    return min(dtypes, key=lambda dtype: dtype.itemsize)


def unit_roundoff(dtype: np.dtype[np.floating]) -> float:
    """Half the distance from 1 to the next number."""
    return float(np.finfo(dtype).eps) / 2


def sufficient(dtype: np.dtype[np.floating]) -> float:
    """The resolution that a pass takes: half of the digits, and two bits. The best forward difference could
    reach it, and it is far below what an error of a formula does to the element that it hits."""
    return 4 * math.sqrt(unit_roundoff(dtype))


def as_tuple(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def evaluate(f: Function, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of f as arrays, without floating-point warnings: the steps may leave the domain of f."""
    with np.errstate(all="ignore"):
        return tuple(as_output(y) for y in as_tuple(f(*(x.copy() for x in inputs))))


def attempted(f: Function, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
    """`evaluate`, or None where f is not defined: it raises whatever it is, be it SystemExit."""
    try:
        return evaluate(f, inputs)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def values_beside(f: Function, inputs: Sequence[Array], size: int) -> Floats:
    """All outputs of f beside a point in one vector of `size`; NaN where f is not defined, or returns more
    or less."""
    outputs = attempted(f, inputs)
    vector = np.empty(0) if outputs is None else flatten(outputs)
    return vector if vector.size == size else np.full(size, np.nan)


def as_output(y: object) -> Array:
    """One output of f as an array of its own.

    Raises:
        TypeError: it is not a floating array or number.
    """
    if not isinstance(y, np.ndarray | np.floating | float):
        raise TypeError(f"f returns a {type(y).__name__}; required: a floating array, or a tuple of them")
    array = np.array(y)
    if isinstance(y, np.ndarray) and not is_plain(y):
        raise TypeError(f"f returns a {type(y).__name__}; required: plain arrays")
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
    given: object = inputs
    if not isinstance(given, Sequence):
        raise TypeError(f"inputs is {given!r}; required: a sequence with one array for each argument, [x]")
    for position, x in enumerate(inputs):
        if isinstance(x, np.ndarray) and not is_plain(x):
            raise TypeError(
                f"input {position} is a {type(x).__name__}; required: a plain array. np.asarray takes the "
                "bare numbers: fill or drop masked entries before"
            )
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


@dataclass(frozen=True, slots=True)
class Joined:
    """Inputs of which some are seen as one float64 vector: a direction through all of them is one, too.

    `positions` are those inputs, none of them empty; `starts` is where each begins in the vector.
    """

    points: tuple[Array, ...]
    positions: tuple[int, ...]
    starts: Array
    vector: Floats

    def split(self, vector: Array) -> list[Array]:
        """The inputs with other numbers, in float64 or complex128."""
        inputs = list(self.points)
        for position, start in zip(self.positions, self.starts, strict=True):
            x = self.points[position]
            inputs[position] = vector[start : start + x.size].reshape(x.shape)
        return inputs

    def take(self, positions: Sequence[int], arrays: Sequence[Array]) -> Floats:
        """Of arrays that belong to some positions those of the joined inputs, as one vector."""
        return flatten([a for p, a in zip(positions, arrays, strict=True) if p in self.positions])

    def largest(self, sizes: Floats) -> Floats:
        """For each element of a vector without negative ones, the largest of its input."""
        counts = np.diff(np.append(self.starts, len(sizes)))
        return np.asarray(np.repeat(np.maximum.reduceat(sizes, self.starts), counts))


def join(points: Sequence[Array], positions: Sequence[int]) -> Joined:
    """Some of the inputs as one vector; at least one element must be in it."""
    wide = tuple(x.astype(np.float64) if is_floating(x) else x for x in points)
    used = tuple(position for position in positions if wide[position].size)
    sizes = [wide[position].size for position in used]
    return Joined(wide, used, np.cumsum([0, *sizes[:-1]]), np.concatenate([wide[p].ravel() for p in used]))
