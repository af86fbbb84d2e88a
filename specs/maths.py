"""Elementary functions on arrays of exact numbers.

A definition in `specs` calls these on object arrays, and the kind of the elements decides what comes out:
sympy expressions (to differentiate and to print), arb balls (certified values at any precision), rational
numbers (exact values of rational functions), and either of these on a tape (certified derivatives). Arrays
that are not object arrays pass through NumPy's own functions, which the forms of a spec rely on. This is an
untyped boundary: sympy and flint carry no types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import sympy
from flint import arb, fmpq


class NotRational(ArithmeticError):
    """A transcendental function was asked of a rational number: the value is not a rational number."""


class Indeterminate(ArithmeticError):
    """A ball is too wide to tell its sign: the working precision must grow."""


def exp(x: Any) -> Any:
    """e to the power x."""
    return _apply(x, "exp")


def log(x: Any) -> Any:
    """The natural logarithm; log(0) is minus infinity."""
    return _apply(x, "log")


def erf(x: Any) -> Any:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _apply(x, "erf")


def erfc(x: Any) -> Any:
    """1 - erf(x), only for forms: in exact arithmetic it is no different from the difference."""
    return 1 - erf(x) if _is_exact(x) else _apply(x, "erfc")


def sqrt(x: Any) -> Any:
    """The square root."""
    return _apply(x, "sqrt")


def pi(x: Any) -> Any:
    """The number pi, of the kind and in the shape of x."""
    return np.frompyfunc(lambda value: sympy.pi if isinstance(value, sympy.Basic) else _ball_pi(value), 1, 1)(
        x
    )


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, only for forms: the definition of `tanh` is written with `exp`."""
    return _apply(x, "tanh")


def log1p(x: Any) -> Any:
    """log(1 + x), only for forms: in exact arithmetic it is no different from `log`."""
    return log(1 + x) if _is_exact(x) else np.log1p(x)


def absolute(x: Any) -> Any:
    """|x|, elementwise; at 0, where its derivative jumps, the derivative that comes of it is 0."""
    return np.frompyfunc(_absolute, 1, 1)(x) if _is_exact(x) else np.abs(x)


def kept(x: Any) -> Any:
    """x as it is kept in memory, only for forms: half formats compute in float32 and round what they keep.

    Of arrays that carry no error nothing is rounded.
    """
    return x.kept() if hasattr(x, "kept") else x


def saved(x: Any) -> Any:
    """x as a backward may have kept it of its forward, only for forms: in a narrower format if granted."""
    return x.saved() if hasattr(x, "saved") else x


def as_computed(x: Any) -> Any:
    """x, whatever its error, only for forms: for a number that is subtracted and added again, as the largest
    entry of a row is, whose own error does not count twice.
    """
    return x.as_computed() if hasattr(x, "as_computed") else x


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere; a condition on symbols becomes a Piecewise."""
    if not any(map(_is_exact, (condition, x, y))):
        return np.where(condition, x, y)
    return np.frompyfunc(_choose, 3, 1)(condition, x, y)


def zeros(x: Any) -> Any:
    """0 for each number, whatever that is: 0 * x is NaN where x is.

    A plain 0 would leave exact arithmetic: divided by 3 it is a float.
    """
    return np.frompyfunc(_nought, 1, 1)(x) if _is_exact(x) else np.zeros_like(x)


def is_zero(x: Any) -> Any:
    """x = 0, elementwise, as a condition for `where`."""
    return np.frompyfunc(_zero, 1, 1)(x) if _is_exact(x) else np.equal(x, 0)


def is_positive(x: Any) -> Any:
    """x > 0, elementwise, as a condition for `where`."""
    return np.frompyfunc(_positive, 1, 1)(x) if _is_exact(x) else np.greater(x, 0)


def maximum(x: Any, y: Any) -> Any:
    """The larger of two; x where they are equal."""
    return where(is_positive(y - x), y, x)


def xlogy(x: Any, y: Any) -> Any:
    """x * log(y), and 0 where x = 0 for every y, as entropy requires (0 log 0 = 0)."""
    zero = is_zero(x)
    if not _is_exact(y):
        with np.errstate(all="ignore"):
            return np.where(zero, 0.0, x * np.log(np.where(zero, 1.0, y)))
    return where(zero, 0 * x * y, x * log(where(zero, 1 + 0 * y, y)))


# ------------------------------------------------------------------------------- single numbers of a kind


class Tape:
    """The operations of one evaluation, in their order: of each result the numbers that it was computed from,
    and its derivatives by these.

    From the last operation back to the first, the derivatives of one number by all others come of one pass.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[tuple[int, Any], ...]] = []

    def record(self, value: Any, *origins: tuple[int, Any]) -> Traced:
        """A number on the tape: one to differentiate by, or the result of an operation."""
        self._steps.append(origins)
        return Traced(value, self, len(self._steps) - 1)

    def derivatives(self, weighted: Iterable[tuple[Any, Any]]) -> list[Any]:
        """The derivatives of the sum of number times weight by each number on the tape, in its order: None
        where it does not depend on one.

        What has no part in the sum hands nothing on: 0 times the slope of log at 0 would be NaN.
        """
        found: list[Any] = [None] * len(self._steps)

        def add(place: int, term: Any) -> None:
            found[place] = term if found[place] is None else found[place] + term

        for number, weight in weighted:
            if isinstance(number, Traced):
                add(number.place, weight)
        for place in reversed(range(len(found))):
            if found[place] is not None and not _is_nothing(found[place]):
                for origin, derivative in self._steps[place]:
                    add(origin, found[place] * derivative)
        return found


class Traced:
    """An exact number on a tape.

    What meets an array leaves it to the array to go through its elements: of one without axes NumPy makes a
    number.
    """

    __slots__ = ("place", "tape", "value")

    def __init__(self, value: Any, tape: Tape, place: int) -> None:
        self.value, self.tape, self.place = value, tape, place

    def __neg__(self) -> Traced:
        return self.tape.record(-self.value, (self.place, -1))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self.tape.record(self.value + constant(other), (self.place, 1), *_by(other, 1))

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self.tape.record(self.value - constant(other), (self.place, 1), *_by(other, -1))

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        factor = constant(other)
        return self.tape.record(self.value * factor, (self.place, factor), *_by(other, self.value))

    def __truediv__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else _quotient(self.tape, self, other)

    def __rsub__(self, other: Any) -> Traced:
        return self.tape.record(other - self.value, (self.place, -1))

    def __rtruediv__(self, other: Any) -> Traced:
        return _quotient(self.tape, other, self)

    __radd__ = __add__
    __rmul__ = __mul__


def _is_nothing(number: Any) -> bool:
    """Whether a number is exactly 0, without any doubt."""
    return not isinstance(number, Exponential) and bool(number == 0)


def _by(number: Any, derivative: Any) -> tuple[tuple[int, Any], ...]:
    """The derivative by a number, if it is on the tape."""
    return ((number.place, derivative),) if isinstance(number, Traced) else ()


def _quotient(tape: Tape, numerator: Any, denominator: Any) -> Traced:
    below = constant(denominator)
    if isinstance(below, int | np.integer):
        below = fmpq(int(below))  # 1 / 3 of Python is a float
    quotient = constant(numerator) / below
    return tape.record(quotient, *_by(numerator, 1 / below), *_by(denominator, -quotient / below))


class Exponential:
    """mantissa * e^exponent, both balls: a number beyond the exponents of arb.

    exp(1e300) is no ball, and so the textbook softmax of a logit of 1e300 would be infinity over infinity.
    Kept apart, the exponents cancel in a quotient and come back out of a logarithm, as they do on paper.
    """

    __slots__ = ("exponent", "mantissa")

    def __init__(self, mantissa: Any, exponent: Any) -> None:
        self.mantissa, self.exponent = mantissa, exponent

    def ball(self) -> Any:
        """The number as a ball: infinite when it is too large, an interval around 0 when too small.

        NaN, which decides nothing, while the exponent or the sign is too blurred to say.
        """
        number = _settled(self.mantissa, self.exponent)
        if not isinstance(number, Exponential):
            return number
        if self.exponent < REACH:
            return self.mantissa * self.exponent.exp()
        if self.exponent >= REACH and self.mantissa != 0:
            return arb.pos_inf() if self.mantissa > 0 else arb.neg_inf()
        return arb.nan()

    def __neg__(self) -> Exponential:
        return Exponential(-self.mantissa, self.exponent)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Traced):
            return NotImplemented
        other = _exponential(other)
        difference = other.exponent - self.exponent
        if difference <= 0:
            return _settled(self.mantissa + other.mantissa * difference.exp(), self.exponent)
        return _settled(other.mantissa + self.mantissa * (-difference).exp(), other.exponent)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Traced):
            return NotImplemented
        other = _exponential(other)
        return _settled(self.mantissa * other.mantissa, self.exponent + other.exponent)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Traced):
            return NotImplemented
        other = _exponential(other)
        return _settled(self.mantissa / other.mantissa, self.exponent - other.exponent)

    def __pow__(self, power: int) -> Any:
        mantissa = self.mantissa
        for _ in range(abs(power) - 1):
            mantissa = mantissa * self.mantissa
        return _settled(1 / mantissa if power < 0 else mantissa, power * self.exponent)

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Traced) else self + -_exponential(other)

    def __rsub__(self, other: Any) -> Any:
        return _exponential(other) + -self

    def __rtruediv__(self, other: Any) -> Any:
        return _exponential(other) / self

    __radd__ = __add__
    __rmul__ = __mul__


REACH = 2**64
"""Arguments of exp up to here stay balls: the exponents of arb are integers, cheap up to 64 bits."""


def _exponential(value: Any) -> Exponential:
    return value if isinstance(value, Exponential) else Exponential(value, arb(0))


def _settled(mantissa: Any, exponent: Any) -> Any:
    """A ball again, if the number has come within reach.

    The mantissa may be beyond all exponents itself: exp(2e19) * exp(1e19)^(-2) is 1, and exp(1e19) is a ball.
    One that is 0 has no exponent: 0 exp(1e20) + 1 would be exp(-1e20) exp(1e20).
    """
    if mantissa == 0:
        return arb(0)
    if abs(exponent) < REACH:
        return mantissa * exponent.exp()
    if isinstance(mantissa, arb) and mantissa.is_finite() and mantissa != 0:
        moved = abs(mantissa).log().mid()
        if abs(exponent + moved) < REACH:
            return mantissa * (-moved).exp() * (exponent + moved).exp()
    return Exponential(mantissa, exponent)


def constant(value: Any) -> Any:
    """A number without what it was computed from."""
    return value.value if isinstance(value, Traced) else value


def elementary(name: str, value: Any) -> Any:
    """An elementary function of one exact number of any kind.

    Raises:
        NotRational: the number is rational, the function is not.
    """
    if isinstance(value, Unknown):
        return value
    if isinstance(value, sympy.Basic):
        return getattr(sympy, name)(value)
    if isinstance(value, Traced):
        result = elementary(name, value.value)
        return value.tape.record(result, (value.place, _SLOPES[name](value.value, result)))
    if isinstance(value, Exponential):
        if name == "log":
            return elementary("log", value.mantissa) + value.exponent
        value = value.ball()
    if isinstance(value, int):
        value = arb(value)
    if name == "sqrt" and isinstance(value, fmpq):
        return _rational_root(value)
    if not isinstance(value, arb):
        raise NotRational(f"{name}({value}) is not a rational number")
    if name == "exp" and abs(value) > REACH:
        return Exponential(arb(1), value)
    if name == "log" and value == 0:
        return arb.neg_inf()  # arb has NaN here
    return getattr(value, name)()


_SLOPES: Mapping[str, Callable[[Any, Any], Any]] = {
    "exp": lambda x, y: y,
    "log": lambda x, y: 1 / x,
    "sqrt": lambda x, y: 1 / (2 * y),
    "tanh": lambda x, y: 1 - y * y,
    "erf": lambda x, y: elementary("exp", -x * x) * (2 / arb.pi().sqrt()),
}
"""The derivatives of the elementary functions, from the argument and the value."""


class Unknown:
    """A number of which nothing is known, and all that is computed from it: NaN, as it spreads on paper.

    What `where` takes of it is known if the condition is, and takes the other one; unless the question is
    what may be computed from it, in some case: then nothing is `decided` by conditions.
    """

    __slots__ = ("decided",)

    def __init__(self, decided: bool) -> None:
        self.decided = decided

    def spread(self, *others: Any) -> Unknown:
        return self

    def __mul__(self, other: Any) -> Any:
        """By 0 it is NaN or 0, as some skip what is multiplied by 0: NaN is not due, and possible."""
        known = not isinstance(other, Unknown | np.ndarray | sympy.Basic)
        return other if self.decided and known and _is_nothing(other) else self

    __neg__ = __abs__ = spread
    __add__ = __radd__ = __sub__ = __rsub__ = spread
    __truediv__ = __rtruediv__ = __pow__ = spread
    __rmul__ = __mul__


def _rational_root(value: Any) -> Any:
    """The square root of a rational number, if it is one.

    Raises:
        NotRational: it is not.
    """
    root = fmpq(math.isqrt(int(abs(value.p))), math.isqrt(int(value.q)))
    if root * root != value:
        raise NotRational(f"sqrt({value}) is not a rational number")
    return root


def _is_exact(x: Any) -> bool:
    """An array of exact numbers, or a single one, as the sum of such an array is."""
    if isinstance(x, np.ndarray):
        return bool(x.dtype == object)
    return isinstance(x, arb | fmpq | Traced | Exponential | Unknown | sympy.Basic)


def _nought(value: Any) -> Any:
    return sympy.Integer(0) if isinstance(value, sympy.Basic) else fmpq(0)


def _zero(value: Any) -> Any:
    if isinstance(value, Unknown):
        return value
    return sympy.Eq(value, 0) if isinstance(value, sympy.Basic) else bool(_signed(value) == 0)


def _signed(value: Any) -> Any:
    """A number that has the same sign and is no exponential."""
    number = constant(value)
    return number.mantissa if isinstance(number, Exponential) else number


def _positive(value: Any) -> Any:
    if isinstance(value, Unknown):
        return value
    if isinstance(value, sympy.Basic):
        return value > 0
    number = _signed(value)
    if number > 0:
        return True
    if number <= 0:
        return False
    raise Indeterminate(f"the sign of {number}")


def _absolute(value: Any) -> Any:
    if isinstance(value, sympy.Basic):
        return sympy.Abs(value)
    if _zero(value):
        return 0 * value
    return value if _positive(value) else -value


def _choose(condition: Any, x: Any, y: Any) -> Any:
    if isinstance(condition, Unknown):
        return condition
    for value in (x, y):
        if isinstance(value, Unknown) and not value.decided:
            return value
    if isinstance(condition, bool | np.bool_ | sympy.logic.boolalg.BooleanAtom):
        return x if bool(condition) else y
    return sympy.Piecewise((x, condition), (y, True))


def _each(name: str) -> Callable[[Any], Any]:
    return lambda value: elementary(name, value)


_ELEMENTARY = {name: np.frompyfunc(_each(name), 1, 1) for name in ("exp", "log", "tanh", "erf", "sqrt")}

_OF_PYTHON = {"erf": np.frompyfunc(math.erf, 1, 1), "erfc": np.frompyfunc(math.erfc, 1, 1)}
"""What NumPy does not have."""


def _apply(x: Any, name: str) -> Any:
    if _is_exact(x):
        return _ELEMENTARY[name](x)
    if name not in _OF_PYTHON:
        return getattr(np, name)(x)
    values = _OF_PYTHON[name](x)
    return np.asarray(values).astype(x.dtype) if isinstance(x, np.ndarray | np.generic) else values


def _ball_pi(value: Any) -> Any:
    """pi as a ball, for balls.

    Raises:
        NotRational: for a rational number.
    """
    if not isinstance(constant(value), arb | Unknown):
        raise NotRational("pi is not a rational number")
    return arb.pi()
