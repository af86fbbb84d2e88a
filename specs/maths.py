"""Elementary functions on arrays of exact numbers.

A definition in `specs` calls these on object arrays, and the kind of the elements decides what comes out:
sympy expressions (to differentiate and to print), arb balls (certified values at any precision), power
series of balls (certified derivatives), or fractions (exactly rounded rational functions). Arrays that
are not object arrays pass through NumPy's own functions. This is an untyped boundary: sympy and flint
carry no types.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from flint import arb, arb_series


class NotRational(ArithmeticError):
    """A transcendental function was asked of a fraction: the value is not a rational number."""


def exp(x: Any) -> Any:
    """e to the power x."""
    return _apply(x, "exp")


def log(x: Any) -> Any:
    """The natural logarithm; log(0) is minus infinity."""
    return _apply(x, "log")


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, only for forms: the definition of `tanh` is written with `exp`."""
    return _apply(x, "tanh")


def log1p(x: Any) -> Any:
    """log(1 + x), only for forms: in exact arithmetic it is no different from `log`."""
    return log(1 + x) if _is_exact(x) else np.log1p(x)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere; a condition on symbols becomes a Piecewise."""
    if not any(map(_is_exact, (condition, x, y))):
        return np.where(condition, x, y)
    return np.frompyfunc(_choose, 3, 1)(condition, x, y)


def is_zero(x: Any) -> Any:
    """x = 0, elementwise, as a condition for `where`."""
    if not _is_exact(x):
        return np.equal(x, 0)
    return np.frompyfunc(lambda v: sympy.Eq(v, 0) if isinstance(v, sympy.Basic) else _constant(v) == 0, 1, 1)(
        x
    )


def is_positive(x: Any) -> Any:
    """x > 0, elementwise, as a condition for `where`."""
    if not _is_exact(x):
        return np.greater(x, 0)
    return np.frompyfunc(lambda v: v > 0 if isinstance(v, sympy.Basic) else bool(_constant(v) > 0), 1, 1)(x)


def xlogy(x: Any, y: Any) -> Any:
    """x * log(y), and 0 where x = 0 for every y, as entropy requires (0 log 0 = 0)."""
    zero = is_zero(x)
    if not _is_exact(y):
        with np.errstate(all="ignore"):
            return np.where(zero, 0.0, x * np.log(np.where(zero, 1.0, y)))
    return where(zero, 0 * x, x * log(where(zero, 1 + 0 * y, y)))


def _is_exact(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object


def _constant(value: Any) -> Any:
    """The value of a number, the constant term of a power series."""
    return value[0] if isinstance(value, arb_series) else value


def _choose(condition: Any, x: Any, y: Any) -> Any:
    if isinstance(condition, bool | np.bool_ | sympy.logic.boolalg.BooleanAtom):
        return x if bool(condition) else y
    return sympy.Piecewise((x, condition), (y, True))


def _elementary(name: str) -> Callable[[Any], Any]:
    symbolic = getattr(sympy, name)

    def evaluate(value: Any) -> Any:
        if isinstance(value, sympy.Basic):
            return symbolic(value)
        if isinstance(value, arb | arb_series):
            return getattr(value, name)()
        raise NotRational(f"{name}({value}) is not a rational number")

    return evaluate


_ELEMENTARY = {name: np.frompyfunc(_elementary(name), 1, 1) for name in ("exp", "log", "tanh")}


def _apply(x: Any, name: str) -> Any:
    return _ELEMENTARY[name](x) if _is_exact(x) else getattr(np, name)(x)


def rational(value: float | Fraction | int) -> Fraction:
    """The exact value of a float."""
    return Fraction(value)
