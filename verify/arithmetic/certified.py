"""Certified values: a spec's definition, evaluated until the format can be in no doubt.

The definition runs on balls of arb, intervals that are guaranteed to hold the real number. Both ends of a
ball are rounded to the format in integer arithmetic; where they round alike, so does the real number,
because rounding is monotone. Where they do not, the working precision grows (Ziv's strategy; Muller et al.,
Handbook of Floating-Point Arithmetic, 2nd ed., 10.5).

No precision separates a real number that lies exactly between two numbers of the format. Such a number is
rational, and so are the functions that reach it: the definition then runs on rational numbers.

Derivatives come from the same definition, on numbers that keep what they were computed from: one pass from
the last operation back to the first finds them for all inputs. No formula of an operator's derivative enters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from flint import arb, ctx, fmpq

from specs.maths import Exponential, Indeterminate, NotRational, Tape, Unknown
from verify.arithmetic.formats import Format, Truth, Values

Definition = Callable[..., Any]
Exact = npt.NDArray[np.object_]
Floats = npt.NDArray[np.float64]
Kind = Callable[[float], Any]
"""A kind of exact number: how to make one from a float."""

PRECISIONS = (96, 384, 1536, 6144, 12288)
"""Working precisions in bits. The first decides nearly all; what is 0 for a float64 needs the third, and the
last where the cube of one of the largest is an exponent."""

SHARP = 2.0**-24
"""How closely the fraction of an ulp must be known."""


MOST_THROUGH_FLOAT64 = 24
"""The precision up to which a number may be rounded to float64 on its way, away from the middles."""

CLEAR = 60
"""Bits of a ball that leave its float64 in no doubt, to within its last place."""


class Undecided(ArithmeticError):
    """No working precision decides how a value rounds: the oracle does not know it."""


class Rounded(NamedTuple):
    """The number `multiple * 2^exponent` of a format that is nearest to r, and (r - nearest) / ulp(r)."""

    multiple: int
    exponent: int
    fraction: float

    @property
    def value(self) -> float:
        """As a float64, which holds the numbers of every format; 2^(emax + 1) is stored as infinity."""
        try:
            return math.ldexp(self.multiple, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.multiple)


def certify(
    definition: Definition, inputs: Sequence[Values], fmt: Format, settings: Mapping[str, Any]
) -> Truth:
    """The output of a definition at finite inputs: correctly rounded, with what was rounded off.

    Raises:
        Undecided: the definition is not defined there, or no precision of `PRECISIONS` suffices.
    """
    (truth,) = certify_each(definition, inputs, fmt, settings)
    return truth


def certify_each(
    definition: Definition, inputs: Sequence[Values], fmt: Format, settings: Mapping[str, Any]
) -> tuple[Truth, ...]:
    """The same for every output of a definition, which may return a tuple of arrays.

    Raises:
        Undecided: as for `certify`.
    """
    shapes: list[tuple[int, ...]] = []

    def evaluate(kind: Kind) -> Exact:
        outputs = _outputs(definition, [_lifted(x, kind) for x in inputs], settings, kind)
        shapes[:] = [y.shape for y in outputs]
        return _joined(outputs)

    return _apart(decide(evaluate, fmt), shapes)


def _apart(whole: Truth, shapes: Sequence[tuple[int, ...]]) -> tuple[Truth, ...]:
    """The arrays that were joined."""
    ends = np.cumsum([0, *map(math.prod, shapes)])
    return tuple(
        Truth(whole.nearest[a:b].reshape(shape), whole.fraction[a:b].reshape(shape))
        for (a, b), shape in zip(pairwise(ends), shapes, strict=True)
    )


def certify_vjp(
    definition: Definition,
    inputs: Sequence[Values],
    differentiable: Sequence[int],
    dy: Any,
    fmt: Format,
    settings: Mapping[str, Any],
) -> tuple[Truth, ...]:
    """The gradients of `sum(dy * definition(*inputs))` for the inputs at the given positions; of several
    outputs, `dy` is a tuple.

    At a kink, the derivative of the branch that the definition takes there.

    Raises:
        Undecided: as for `certify`.
    """

    def evaluate(kind: Kind) -> Exact:
        lifted = [_lifted(x, kind) for x in inputs]
        weights = [_lifted(d, kind) for d in in_order(dy)]
        return _joined(pulled_back(definition, lifted, differentiable, weights, settings, kind))

    return _apart(decide(evaluate, fmt), [inputs[position].shape for position in differentiable])


def pulled_back(
    definition: Definition,
    inputs: Sequence[Any],
    differentiable: Sequence[int],
    weights: Sequence[Exact],
    settings: Mapping[str, Any],
    kind: Kind,
) -> list[Exact]:
    """The gradients of the weighted sum of the outputs, on exact numbers of a kind."""
    tape, arguments = Tape(), [*inputs]
    for position in differentiable:
        arguments[position] = _each(tape.record, inputs[position])
    outputs = _outputs(definition, arguments, settings, kind)
    derivatives = tape.derivatives(zip(_joined(outputs), _joined(weights), strict=True))

    def derivative(x: Any) -> Any:
        found = derivatives[x.place]
        return kind(0.0) if found is None else found

    return [_each(derivative, arguments[position]) for position in differentiable]


def _each(function: Callable[[Any], Any], x: Exact) -> Exact:
    """The results for all elements, in the shape of x."""
    results = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        results[index] = function(x[index])
    return results


def _outputs(
    definition: Definition, arguments: Sequence[Any], settings: Mapping[str, Any], kind: Kind
) -> tuple[Exact, ...]:
    exact = {name: kind(v) if isinstance(v, float) else v for name, v in settings.items()}
    return tuple(np.asarray(y, dtype=object) for y in in_order(definition(*arguments, **exact)))


def in_order(results: Any) -> tuple[Any, ...]:
    """The results of an operator: one array, or the arrays of a tuple."""
    return results if isinstance(results, tuple) else (results,)


def _joined(arrays: Sequence[Exact]) -> Exact:
    return np.concatenate([np.empty(0, dtype=object), *(array.ravel() for array in arrays)])


def _lifted(x: Values, kind: Kind) -> Any:
    """An array of exact numbers; integers and masks stay what they are."""
    if x.dtype.kind in "iub":
        return x
    return _each(lambda value: kind(float(value)), x)


def unknown_outputs(
    definition: Definition,
    inputs: Sequence[Values],
    position: int,
    at: tuple[int, ...],
    settings: Mapping[str, Any],
    *,
    decided: bool,
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Where the outputs are computed from one element of one input; if not `decided`, where they may be, for
    other values of the inputs that decide between formulas.

    Raises:
        Indeterminate: no working precision tells which formula is taken.
    """
    lifted = [_lifted(x, BALLS) for x in inputs]
    lifted[position] = lifted[position].copy()
    lifted[position][at] = Unknown(decided)
    for bits in PRECISIONS:
        with ctx.workprec(bits):
            try:
                outputs = _outputs(definition, lifted, settings, BALLS)
            except Indeterminate:
                continue
        return tuple(np.array([isinstance(v, Unknown) for v in y.ravel()]).reshape(y.shape) for y in outputs)
    raise Indeterminate(f"a condition of the definition, {bits} bits after the point")


def side_of_line(
    definition: Definition, near: float, far: float, slope: float, settings: Mapping[str, Any]
) -> int:
    """On which side of slope * x a function of one number lies between two of the same sign, `near` the one
    nearer to 0: 1 above, -1 below, 0 if that is not known.

    It does so at `near`, and goes farther away from there to `far`, where its derivative, as a ball over all
    of the interval, does not let it come back.
    """
    line = arb(slope)
    outward = 1 if far > near else -1
    for bits in PRECISIONS[1:]:
        with ctx.workprec(bits):
            interval = arb(near).union(arb(far))
            tape = Tape()
            at_near = np.asarray(definition(np.array([arb(near)], dtype=object), **settings))[0]
            over = np.asarray(definition(np.array([tape.record(interval)], dtype=object), **settings))[0]
            (found, *_) = tape.derivatives([(over, arb(1))])
            apart, turning = at_near - line * arb(near), (found - line) * outward
            for side in (1, -1):
                if side * apart > 0 and (near == far or side * turning >= 0):
                    return side
    return 0


# ---------------------------------------------------------------------------------- Ziv's strategy, arrays


def decide(evaluate: Callable[[Kind], Exact], fmt: Format) -> Truth:
    """Round the exact numbers that `evaluate` returns, at growing precision until every one is decided.

    Raises:
        Undecided: some element stays in doubt.
    """
    numbers: Exact | None = None
    nearest, fraction, settled = (np.empty(0), np.empty(0), np.empty(0, dtype=bool))
    for numbers in _refinements(evaluate):
        if settled.size != numbers.size or not settled.any():
            nearest, fraction, settled = _through_float64(numbers, fmt)
        for position in np.flatnonzero(~settled):
            rounded = _decided(numbers.flat[position], fmt)
            if rounded is not None:
                nearest[position], fraction[position] = rounded.value, rounded.fraction
                settled[position] = True
        if settled.all():
            break
    if numbers is None:
        raise Undecided("no working precision tells which formula is taken")
    with ctx.workprec(PRECISIONS[-1]):
        for position in np.flatnonzero(~settled):
            rounded = _between_neighbours(numbers.flat[position], fmt)
            nearest[position], fraction[position] = rounded.value, rounded.fraction
    with np.errstate(over="ignore"):
        in_format = nearest.reshape(numbers.shape).astype(fmt.dtype)
    return Truth(in_format, fraction.reshape(numbers.shape))


def _through_float64(numbers: Exact, fmt: Format) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Sharp balls rounded to float64 first, all together: the nearest numbers of the format, what was rounded
    off, and where that leaves no doubt.

    A ball of `CLEAR` bits is within 2^-51 of its float64: 2^-27 ulp of a format of 24 bits. Only what is
    farther than `SHARP` from the middle between two numbers of it is clear.
    """
    if fmt.precision > MOST_THROUGH_FLOAT64:
        return np.empty(numbers.size), np.empty(numbers.size), np.zeros(numbers.size, dtype=bool)
    sharp = [isinstance(v, arb) and v.is_finite() and v.rel_accuracy_bits() >= CLEAR for v in numbers.flat]
    wide = np.array([float(v) if fine else 0.0 for v, fine in zip(numbers.flat, sharp, strict=True)])
    truth = Truth.rounding(wide, fmt)
    clear = np.array(sharp, dtype=bool) & (np.abs(truth.fraction) < 0.5 - SHARP)
    return truth.nearest.astype(np.float64) + 0.0, truth.fraction, clear


def _refinements(evaluate: Callable[[Kind], Exact]) -> Iterator[Exact]:
    """The values as balls at growing precision, then as rational numbers if they are."""
    for bits in PRECISIONS:
        with ctx.workprec(bits):
            try:
                yield evaluate(BALLS)
            except (Indeterminate, ZeroDivisionError):  # a branch cannot be chosen yet, or an integer is 0
                continue
    try:
        with ctx.workprec(PRECISIONS[-1]):  # of the irrational constants, if there are any
            yield evaluate(RATIONALS)
    except (NotRational, ZeroDivisionError):
        return


def _rational(x: float) -> Any:
    return fmpq(*x.as_integer_ratio())


BALLS: Kind = arb
RATIONALS: Kind = _rational


def _decided(value: Any, fmt: Format) -> Rounded | None:
    """The rounded number if both ends of the ball round to it, else None."""
    value = value.ball() if isinstance(value, Exponential) else value
    if isinstance(value, fmpq | int):
        exact = fmpq(value)
        return round_ratio(int(exact.p), int(exact.q), fmt)
    if not value.is_finite():
        infinite = value > 0 or value < 0  # false for NaN and for a ball that is the whole line
        return _infinity(1 if value > 0 else -1, fmt) if infinite and value.is_exact() else None
    if value.is_exact():
        return _round_end(value, fmt)
    low, high = (_round_end(end, fmt) for end in (value.lower(), value.upper()))
    alike = low[:2] == high[:2] or low.value == high.value
    if not alike or abs(low.fraction - high.fraction) > SHARP:
        return None
    return _round_end(value.mid(), fmt)


def _between_neighbours(value: Any, fmt: Format) -> Rounded:
    """Round a number that no precision tells from the middle between two numbers of the format.

    Either of them is off by half an ulp, to within the width of the ball, and the fraction says so. Such is
    dy - e^(-1e300), where dy is a sum of two numbers of the format.

    Raises:
        Undecided: the ball is wider than that, or none.
    """
    value = value.ball() if isinstance(value, Exponential) else value
    if isinstance(value, arb) and value.is_finite():
        low, high = (_round_end(end, fmt) for end in (value.lower(), value.upper()))
        if low.exponent == high.exponent:
            distance = high.multiple - low.multiple + (high.fraction - low.fraction)
            if abs(distance) <= SHARP:
                return low
    raise Undecided(f"{value} may round to more than one number of {fmt.name}")


def _round_end(point: Any, fmt: Format) -> Rounded:
    """Round a ball of radius 0, which is a dyadic number."""
    mantissa, exponent = point.man_exp()
    return round_dyadic(int(mantissa), int(exponent), fmt)


# ------------------------------------------------------------------------- rounding, in integer arithmetic


def round_dyadic(mantissa: int, exponent: int, fmt: Format) -> Rounded:
    """Round mantissa * 2^exponent to the nearest number of the format, ties to even."""
    top = abs(mantissa).bit_length() + exponent
    if top > fmt.emax + 2:  # also keeps the integers below small
        return _infinity(1 if mantissa > 0 else -1, fmt)
    if mantissa == 0 or top < fmt.quantum - 64:
        return Rounded(0, fmt.quantum, 0.0)
    if exponent >= 0:
        return round_ratio(mantissa << exponent, 1, fmt)
    return round_ratio(mantissa, 1 << -exponent, fmt)


def round_ratio(numerator: int, denominator: int, fmt: Format) -> Rounded:
    """Round a rational number (denominator > 0) to the nearest number of the format, ties to even."""
    sign, size = (-1, -numerator) if numerator < 0 else (1, numerator)
    binade = size.bit_length() - denominator.bit_length()
    if size << max(-binade, 0) < denominator << max(binade, 0):
        binade -= 1  # now 2^binade <= size / denominator < 2^(binade + 1)
    if binade > fmt.emax:
        return _infinity(sign, fmt)
    exponent = max(binade, fmt.emin) - fmt.precision + 1
    scaled, unit = (size << -exponent, denominator) if exponent < 0 else (size, denominator << exponent)
    multiple, rest = divmod(scaled, unit)
    if 2 * rest > unit or (2 * rest == unit and multiple & 1):
        multiple, rest = multiple + 1, rest - unit
    return Rounded(sign * multiple, exponent, sign * (rest / unit))


def _infinity(sign: int, fmt: Format) -> Rounded:
    return Rounded(sign << fmt.precision, fmt.emax - fmt.precision + 1, 0.0)
