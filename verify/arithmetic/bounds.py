"""Rounding bounds: refnet's own code, run on arrays that carry (value, bound on the error).

The model of arithmetic is fl(a op b) = (a op b)(1 + d) + h with |d| <= u and |h| <= eta (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed., 2.2), and |d| <= 2 k u for an elementary function that is
accurate to k ulp. Running a forward or a backward on `Bounded` arrays adds these errors up along the way,
so no operator needs a bound of its own.

A sum of n terms t with value s, added in any order, has two bounds:

* deterministic: u ((n - 2) sum|t| + |s|) to first order. Each of the n - 2 inner additions rounds a partial
  sum of at most sum|t|, and the last one rounds s. A theorem: nothing correct exceeds it.
* statistical: lambda u sqrt(m^2 n^3 / 3 + v n^2 / 2) + u |s| + b, with m and v the mean and the variance of
  the terms. Independent roundings of mean zero give lambda u sqrt(sum of the squared partial sums) with
  probability 1 - 2 exp(-lambda^2 / 2) (Azuma's inequality), and the average of that sum over the orders is
  at most m^2 n^3 / 3 + v n^2 / 2. Lambda is such that of all the sums of a check together one exceeds it
  with the probability `FAILURE`.

  Roundings have another mean where terms are few numbers over and over, or below half an ulp of what has been
  added up before, which loses them (stagnation: Connolly, Higham & Mary, Stochastic rounding and its
  probabilistic backward error analysis, SIAM J. Sci. Comput. 43, 2021). So the bias b is the error of adding
  the terms in turn, as they lie or by their size, from either end: a partial sum is a multiple of its ulp,
  and each term is rounded to one.

Products that are summed (a matrix product) add one rounding for each term. A term added to a finished sum
is one more term of the same sum, because an implementation may start from it, as it does from a bias; and two
sums that are added are one, as where the patches of a convolution overlap. A term that is exactly 0 is none:
adding it rounds nothing, and padding consists of such terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from refnet import Operator
from refnet.smooth import normal_cdf, normal_density
from specs import Spec
from verify.arithmetic.certified import in_order
from verify.arithmetic.contracts import Grant, Promised, contract_of
from verify.arithmetic.formats import Format
from verify.arithmetic.instrumented import (
    REARRANGEMENTS,
    Instrumented,
    Move,
    Rules,
    as_saved,
    logaddexp_of_all,
)

Floats = npt.NDArray[np.float64]

FAMILY = 2**25
"""Results that one check may hold to the statistical bound: those of all operators, in all four formats at
level deep, are 21 million."""

FAILURE = 1e-6
"""The probability that any of them exceeds it, of right computations whose roundings are random."""

LAMBDA = math.sqrt(2.0 * math.log(2.0 * FAMILY / FAILURE))
"""Standard deviations in the statistical bound, 8.0: each of the results exceeds it with FAILURE / FAMILY."""

ELEMENTARY_ULP = {
    "exp": 3.0, "expm1": 3.0, "log": 3.0, "log1p": 3.0, "power": 8.0, "sqrt": 2.0, "tanh": 5.0,
    "erf": 4.0, "erfc": 5.0,
}  # fmt: skip
"""The largest error of an honest elementary function, in ulp: the maximum of the figures that CUDA
(CUDA C++ Programming Guide, mathematical functions), XLA and glibc document."""


SLACK = 1.0 + 2.0**-30
"""What a comparison grants beyond a bound: bounds are computed in float64 themselves, by some thousand
operations at most."""

MOST_TO_FIRST_ORDER = 0.25
"""n u up to which the bound of a sum is that of the first order, over 1 - n u. Beyond, as of 64 numbers that
are added in bfloat16, it is n u sum|t|, which holds for any n, products or not (Jeannerod and Rump, Improved
error bounds for inner products in floating-point arithmetic, SIAM J. Matrix Anal. Appl. 34, 2013)."""

SHORT = 48
"""Bits within which a constant is taken for exact: of those that are rounded to the 53 of float64, one in 32
ends in so many zeros."""

MOST_WITHOUT_BIAS = int(LAMBDA**2)
"""Terms, 63, of which the bias is within the statistical bound: sum|p| of n partial sums p is at most
sqrt(n sum(p^2)), by the inequality of Cauchy and Schwarz."""

FLOAT64_ORDERS = 1100
"""Orders of magnitude below 1 that float64 has, and more."""

MOST_ORDERS = 64
"""Orders of magnitude below the largest partial sum: what is off in smaller ones is nothing beside it."""

SQUARES_UNDERFLOW = 2.0**-900
"""Below, a sum of squares may have lost terms that count: terms of 1e-200 have squares of 0."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundingModel:
    """The arithmetic that an implementation is granted; each is itself alone, and serves as a key."""

    unit_roundoff: float
    underflow: float
    """The largest absolute error of a product or quotient that underflows."""
    statistical: bool
    fmt: Format
    flushed_below: float = 0.0
    """Numbers of smaller magnitude may be read, and stored, as 0."""
    memory: Format | None = None
    """The format in which results are kept, if it is a narrower one."""
    flushed_in_memory: float = 0.0
    """Numbers of smaller magnitude may be 0 where they are read or stored: those of a narrower format are
    larger."""
    operand_roundoff: float = 0.0
    """The relative error of reading an operand of a matrix product in a narrower format."""
    residuals: Format | None = None
    """The format in which a backward keeps what is neither an input nor the result, if it is narrower."""

    @classmethod
    def of(
        cls,
        fmt: Format,
        *,
        statistical: bool,
        flush_to_zero: bool,
        memory: Format | None = None,
        operand_roundoff: float = 0.0,
        residuals: Format | None = None,
    ) -> Self:
        underflow = fmt.smallest_normal if flush_to_zero else fmt.smallest_subnormal
        flushed_below = underflow if flush_to_zero else 0.0
        in_memory = max(flushed_below, memory.smallest_normal) if memory and flush_to_zero else flushed_below
        return cls(
            fmt.unit_roundoff,
            underflow,
            statistical,
            fmt,
            flushed_below,
            memory,
            in_memory,
            operand_roundoff,
            residuals,
        )

    def constant_error(self, value: Floats) -> Floats:
        """What a constant loses when it is stored: a learning rate of 0.1 is no number of any format.

        One that fills float64 to its last bits has been rounded already: 1 / 3, the square root of 2.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            kept = value.astype(self.fmt.dtype).astype(np.float64) == value
            short = np.ldexp(np.frexp(value)[0], SHORT)
            kept &= ~np.isfinite(value) | (short == np.rint(short))
        return np.where(kept, 0.0, self.unit_roundoff * np.abs(value))


@dataclass(frozen=True, slots=True)
class OpenSum:
    """What is known of the terms of finished sums, an array of them, so that more terms can join each."""

    count: Floats
    """How many terms are not 0."""
    magnitude: Floats
    """sum|t|, with the errors of the terms."""
    squares: Floats
    inherited: Floats
    """The sum of the errors of the terms."""
    products: Floats
    """sum(t^2) over the terms that are rounded products."""
    product_magnitude: Floats
    bias: Floats
    """The error of the sum in turn; the deterministic bound, which has no need of it, leaves it 0."""

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> OpenSum:
        """Sums of nothing yet."""
        nothing = np.zeros(shape)
        return cls(nothing, nothing, nothing, nothing, nothing, nothing, nothing)

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (
            self.count,
            self.magnitude,
            self.squares,
            self.inherited,
            self.products,
            self.product_magnitude,
            self.bias,
        )

    def each(self, move: Callable[[Floats], Any]) -> OpenSum:
        """The same sums in another place."""
        return OpenSum(*map(move, self.arrays))

    def joined(self, total: Floats, value: Floats, error: Floats, unit_roundoff: float) -> OpenSum:
        """With one more term each, beside which the others may be lost."""
        lost = vanishes(self.squares, self.count, total + value, unit_roundoff)
        return OpenSum(
            self.count + _is_term(value, error),
            self.magnitude + np.abs(value) + error,
            self.squares + value * value,
            self.inherited + error,
            self.products,
            self.product_magnitude,
            np.where(lost, np.abs(total), self.bias),
        )

    def merged(self, other: OpenSum) -> OpenSum:
        """With all the terms of other sums."""
        return OpenSum(*(mine + theirs for mine, theirs in zip(self.arrays, other.arrays, strict=True)))

    def error(self, total: Floats, model: RoundingModel) -> Floats:
        u, n = model.unit_roundoff, self.count
        few = n * u <= MOST_TO_FIRST_ORDER
        once = u / (1.0 - np.where(few, n * u, 0.0))
        # u times n, not n times the magnitude, which overflows for 64 terms as large as the format allows
        rounding = once * np.maximum(n - 2, 0) * self.magnitude + once * self.product_magnitude
        rounding = rounding + np.where(n > 1, once * np.abs(total), 0.0)
        rounding = np.where(few, rounding, u * n * self.magnitude)
        if model.statistical:
            mean = total / np.maximum(n, 1)
            variance = np.maximum(self.squares / np.maximum(n, 1) - mean * mean, 0.0)
            spread = np.where(n > 2, np.sqrt(mean * mean * n**3 / 3 + variance * n**2 / 2), 0.0)
            likely = LAMBDA * u * (spread + np.sqrt(self.products)) + u * np.abs(total) + self.bias
            told = self.squares > SQUARES_UNDERFLOW  # they may also overflow: then `likely` is not a number
            rounding = np.where(told, np.fmin(rounding, likely), rounding)
        flushed = np.where(self.magnitude > 0.0, n * model.flushed_below, 0.0)
        return np.asarray(self.inherited + rounding + flushed)


def in_turn(terms: Floats, axis: Any, unit_roundoff: float) -> Floats:
    """What sums along axes (all of them, if None) are off by if the terms are added one after the other: the
    most of four orders, as they lie and by their size, from either end."""
    axes = range(terms.ndim) if axis is None else np.atleast_1d(axis)
    apart = np.moveaxis(terms, tuple(axes), tuple(range(-len(axes), 0)))
    each, added = np.split(apart.shape, [terms.ndim - len(axes)])
    rows = apart.reshape(*each, math.prod(added))
    if rows.shape[-1] <= MOST_WITHOUT_BIAS:
        return np.zeros(rows.shape[:-1])
    by_size = np.take_along_axis(rows, np.argsort(np.abs(rows), axis=-1), axis=-1)
    orders = (rows, rows[..., ::-1], by_size, by_size[..., ::-1])
    return np.asarray(np.maximum.reduce([_off_in_turn(order, unit_roundoff) for order in orders]))


def products_in_turn(a: Floats, b: Floats, unit_roundoff: float) -> Floats:
    """The same of a matrix product, (..., m, k) by (..., k, n). The roundings of the products, at most
    u sum|t|, are within the bound whatever they have in common."""
    *_, rows, count = a.shape
    off = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, b.shape[-1]))
    if count > MOST_WITHOUT_BIAS:  # else there is nothing to loop for
        columns = np.ascontiguousarray(np.swapaxes(b, -1, -2))
        for row in range(rows):
            off[..., row, :] = in_turn(a[..., row, None, :] * columns, -1, unit_roundoff)
    return off


def _off_in_turn(rows: Floats, unit_roundoff: float) -> Floats:
    """The errors of partial sums of one order of magnitude are added up, and then their sizes: in parts, as
    of 8 sums beside each other, those of the small ones are met more often.

    The first term is no sum, a sum of 0 has lost nothing, and what overflows has no error.
    """
    with np.errstate(all="ignore"):
        sums = np.cumsum(rows, axis=-1)
        spacing = _spacing(sums, unit_roundoff)
        off = rows - spacing * np.rint(rows / spacing)
    off = np.where(np.isfinite(off) & (sums != 0.0), off, 0.0)[..., 1:]
    order = np.where(sums == 0.0, -FLOAT64_ORDERS, np.frexp(sums)[1])[..., 1:]
    largest = order.max(axis=-1, keepdims=True, initial=-FLOAT64_ORDERS)
    below = np.minimum(largest - order, MOST_ORDERS - 1)
    rows_apart = math.prod(off.shape[:-1])
    cells = np.arange(rows_apart).reshape(*off.shape[:-1], 1) * MOST_ORDERS + below
    each = np.bincount(cells.ravel(), off.ravel(), rows_apart * MOST_ORDERS)
    return np.asarray(np.abs(each).reshape(*off.shape[:-1], MOST_ORDERS).sum(axis=-1))


def vanishes(squares: Floats, count: Floats, total: Floats, unit_roundoff: float) -> npt.NDArray[np.bool_]:
    """Whether terms, by the mean of their squares, are below half an ulp of a total that others have made."""
    size = np.sqrt(squares / np.maximum(count, 1))
    return np.asarray((size > 0.0) & (size <= 0.5 * _spacing(total, unit_roundoff)))


def _spacing(x: Floats, unit_roundoff: float) -> Floats:
    """The distance between numbers of the size of x."""
    return np.ldexp(unit_roundoff, np.frexp(np.abs(x))[1])


def _is_term(value: Floats, error: Floats) -> Floats:
    """1 for a term of a sum, 0 for an exact 0."""
    return np.where((value == 0.0) & (error == 0.0), 0.0, 1.0)


class Bounded(Instrumented):
    """An array of values in float64, and for each a bound on the error of any honest computation of it."""

    def __init__(
        self, value: npt.ArrayLike, error: npt.ArrayLike, model: RoundingModel, terms: OpenSum | None = None
    ) -> None:
        self.value: Floats = np.asarray(value, dtype=np.float64)
        self.error: Floats = np.asarray(error, dtype=np.float64)
        if self.error.shape != self.value.shape:
            self.error = np.broadcast_to(self.error, self.value.shape)
        # float64 goes on where the format has overflowed, and knows nothing of what comes of that
        beyond = np.abs(self.value) > model.fmt.largest
        if beyond.any():
            self.error = np.where(beyond & np.isfinite(self.value), np.inf, self.error)
        self.model = model
        self.terms = terms

    @property
    def rules(self) -> Rules:
        return _RULES

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[np.float64]:
        return self.value.dtype

    @property
    def is_nothing(self) -> bool:
        return not (self.value.any() or self.error.any())

    def lift(self, x: Any) -> Bounded:
        return lift(x, self.model)

    def exactly(self, x: Any) -> Bounded:
        return Bounded(x, np.zeros(np.shape(x)), self.model)

    def cover(self, other: Bounded) -> Bounded:
        """Widened to the bound of another form, wherever that form has one at all."""
        usable = np.isfinite(other.value) & np.isfinite(other.error)
        error = np.where(usable, np.maximum(self.error, other.error), self.error)
        return Bounded(self.value, error, self.model)

    def decided(self, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """By the values alone."""
        return ufunc(*(x.value if isinstance(x, Bounded) else x for x in inputs), **kwargs)

    def assign(self, other: Bounded) -> Bounded:
        self.value, self.error, self.terms = other.value, other.error, other.terms
        return self

    def each(self, move: Move) -> Bounded:
        """The same rearrangement of values and errors; a sum stays open to more terms wherever it is."""
        terms = None if self.terms is None else self.terms.each(move)
        return Bounded(move(self.value), move(self.error), self.model, terms)

    def __setitem__(self, index: Any, item: Any) -> None:
        lifted = self.lift(item)
        terms = None
        if self.terms is not None and lifted.terms is not None:
            terms = self.terms.each(np.array)
            for array, part in zip(terms.arrays, lifted.terms.arrays, strict=True):
                array[index] = part
        self.value, self.error, self.terms = self.value.copy(), self.error.copy(), terms
        self.value[index], self.error[index] = lifted.value, lifted.error

    def astype(self, dtype: npt.DTypeLike) -> Bounded:
        """The same: values are float64 whatever the format, and what the format loses is in the errors."""
        return self.each(np.copy)

    def copy(self) -> Bounded:
        return self.each(np.copy)

    def argmax(self, axis: int) -> npt.NDArray[np.intp]:
        return np.asarray(self.value.argmax(axis))

    def kept(self) -> Bounded:
        """As it is kept in memory between two steps: rounded once more, where that is a half format."""
        return self if self.model.memory is None else stored(self, self.model.memory)

    def saved(self) -> Bounded:
        """Once more rounded, at whatever scale; but what surely is rounded to a number within its own error,
        as a sigmoid that is 1, is no farther off there. What is exact, as an input is, is kept as it is."""
        fmt = self.model.residuals
        if fmt is None:
            return self
        number = fmt.nearest(self.value)
        apart = np.abs(number - self.value)
        surely = apart + self.error < 0.5 * _half_an_ulp(np.abs(number), fmt)  # below a power of two too
        as_it_is = (apart <= self.error) & surely
        error = np.where(as_it_is | (self.error == 0.0), self.error, stored(self, fmt).error)
        return Bounded(self.value, error, self.model)

    def as_computed(self) -> Bounded:
        """The same values, taken for exact: what is subtracted and added again costs its roundings only."""
        return Bounded(self.value, 0.0, self.model)


def lift(x: Any, model: RoundingModel) -> Bounded:
    """A constant of the reference's own as a Bounded, exact if the format holds it."""
    if isinstance(x, Bounded):
        return x
    if isinstance(x, float) and x != 0.0:  # 0.0 and -0.0 are one key
        return _constant(x, model)
    value = np.asarray(x, dtype=np.float64)
    return Bounded(value, model.constant_error(value), model)


@lru_cache(maxsize=4096)
def _constant(x: float, model: RoundingModel) -> Bounded:
    value = np.asarray(x, dtype=np.float64)
    return Bounded(value, model.constant_error(value), model)


# ------------------------------------------------------------------------------------------------- rules

TWO_PER_SQRT_PI = 2.0 / math.sqrt(math.pi)

ERF, ERFC = np.frompyfunc(math.erf, 1, 1), np.frompyfunc(math.erfc, 1, 1)
CDF, DENSITY = np.frompyfunc(normal_cdf, 1, 1), np.frompyfunc(normal_density, 1, 1)
"""Functions of Python floats that become ufuncs by NumPy are known by their names, as its own are."""


def _cdf_of(x: Floats) -> Floats:
    return np.asarray(CDF(x), dtype=np.float64)


def _density_of(x: Floats) -> Floats:
    return np.asarray(DENSITY(x), dtype=np.float64)


def _rounded(value: Floats, error: Floats, model: RoundingModel, *, ulp: float = 0.5) -> Bounded:
    """A result that is rounded once: `ulp` units in the last place, at most 2 u |value| each.

    A sum that is subnormal is exact (it is a multiple of the smallest number), but it may be flushed.
    """
    size = np.abs(value)
    flushed = np.where((size < model.flushed_below) & (size + error > 0.0), model.flushed_below, 0.0)
    return Bounded(value, error + 2.0 * ulp * model.unit_roundoff * (size + error) + flushed, model)


def _add(a: Bounded, b: Bounded) -> Bounded:
    value = a.value + b.value
    if a.terms is not None and b.terms is not None and a.shape == b.shape:
        terms = a.terms.merged(b.terms)
        return Bounded(value, terms.error(value, a.model), a.model, terms)
    for total, term in ((a, b), (b, a)):
        if total.terms is not None and total.shape == value.shape:
            terms = total.terms.joined(total.value, term.value, term.error, a.model.unit_roundoff)
            return Bounded(value, terms.error(value, a.model), a.model, terms)
    return _rounded(value, a.error + b.error, a.model)


def _subtract(a: Bounded, b: Bounded) -> Bounded:
    return _rounded(a.value - b.value, a.error + b.error, a.model)


def _is_power_of_two(x: Bounded) -> npt.NDArray[np.bool_]:
    """Where a factor is 0 or an exact power of two, which multiplies without rounding."""
    mantissa, _ = np.frexp(np.abs(x.value))
    return np.asarray((x.error == 0.0) & ((mantissa == 0.5) | (x.value == 0.0)))


def _does_not_shrink(x: Bounded) -> npt.NDArray[np.bool_]:
    return np.asarray((x.value == 0.0) | (np.abs(x.value) >= 1.0))


def _multiply(a: Bounded, b: Bounded) -> Bounded:
    value = a.value * b.value
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    scales_a, scales_b = _is_power_of_two(a), _is_power_of_two(b)
    exact = scales_a | scales_b
    # nothing underflows by a factor of exactly 0, or by an exact power of two from 1 on
    safe = (scales_a & _does_not_shrink(a)) | (scales_b & _does_not_shrink(b))
    rounding = np.where(exact, 0.0, a.model.unit_roundoff * (np.abs(value) + error))
    return Bounded(value, error + rounding + np.where(safe, 0.0, a.model.underflow), a.model)


def _divide(a: Bounded, b: Bounded) -> Bounded:
    quotient = a.value / b.value
    distance = np.abs(b.value) - b.error
    zero = (a.value == 0.0) & (a.error == 0.0)
    error = (a.error + np.where(zero, 0.0, np.abs(quotient)) * b.error) / distance
    error = np.where(distance > 0.0, error, np.where(b.error == 0.0, 0.0, np.inf))
    scaled = _is_power_of_two(b)
    exact = zero | (scaled & (np.abs(b.value) <= 1.0))
    rounding = np.where(scaled, 0.0, a.model.unit_roundoff * (np.abs(quotient) + error))
    return Bounded(quotient, error + np.where(exact, 0.0, rounding + a.model.underflow), a.model)


def _exp(a: Bounded) -> Bounded:
    """k ulp, and u |x| for the scaling of the argument by 1 / log(2) inside the function."""
    value = np.exp(a.value)
    # beyond 1 the sum of value and error is what counts: at -1e300 with error 1e284 the other form is 0 * inf
    error = np.where(a.error < 1.0, value * np.expm1(np.minimum(a.error, 1.0)), np.exp(a.value + a.error))
    exact = (a.value == 0.0) & (a.error == 0.0) | np.isneginf(a.value)
    relative = a.model.unit_roundoff * (2.0 * ELEMENTARY_ULP["exp"] + np.abs(a.value))
    rounding = np.where(exact, 0.0, relative * (value + error) + a.model.underflow)
    return Bounded(value, np.where(np.isneginf(a.value), 0.0, error) + rounding, a.model)


def _expm1(a: Bounded) -> Bounded:
    """exp(x + h) - exp(x) = exp(x) (exp(h) - 1); k ulp, and u |x| exp(x) for the scaling of the argument, as
    in exp."""
    value = np.expm1(a.value)
    grown = np.exp(a.value)
    error = np.where(a.error < 1.0, grown * np.expm1(np.minimum(a.error, 1.0)), np.exp(a.value + a.error))
    error = np.where(a.error == 0.0, 0.0, error)
    scaling = np.where(grown == 0.0, 0.0, a.model.unit_roundoff * np.abs(a.value) * grown)
    rounded = _rounded(value, error + scaling, a.model, ulp=ELEMENTARY_ULP["expm1"])
    return Bounded(value, rounded.error + np.where(value == 0.0, 0.0, a.model.underflow), a.model)


def _log(a: Bounded) -> Bounded:
    value = np.log(a.value)
    ratio = a.error / a.value
    error = np.where(ratio < 1.0, -np.log1p(-ratio), np.inf)
    error = np.where(np.isneginf(value) & (a.error == 0.0), 0.0, error)
    finite = np.where(np.isfinite(value), value, 0.0)
    return Bounded(value, _rounded(finite, error, a.model, ulp=ELEMENTARY_ULP["log"]).error, a.model)


def _log1p(a: Bounded) -> Bounded:
    value = np.log1p(a.value)
    distance = 1.0 + a.value - a.error
    error = np.where(distance > 0.0, a.error / distance, np.inf)
    error = np.where(np.isneginf(value) & (a.error == 0.0), 0.0, error)
    finite = np.where(np.isfinite(value), value, 0.0)
    rounded = _rounded(finite, error, a.model, ulp=ELEMENTARY_ULP["log1p"])
    tiny = np.where(finite == 0.0, 0.0, a.model.underflow)
    return Bounded(value, rounded.error + tiny, a.model)


def _logaddexp(a: Bounded, b: Bounded) -> Bounded:
    """log(e^a + e^b), computed as the larger one + log1p(exp(-d)), d their distance.

    The derivatives by a and b are non-negative and sum to 1, so the errors of both cost at most the larger of
    them. The excess over the larger one is 0 to log(2); d is rounded once, exp adds k ulp and u d, and the
    derivative of log1p at t is at most log1p(t) / t.
    """
    value = np.logaddexp(a.value, b.value)
    distance = np.abs(a.value - b.value)
    distance = np.where(np.isfinite(distance), distance, 0.0)
    excess = np.log1p(np.exp(-distance))
    relative = 2.0 * (ELEMENTARY_ULP["exp"] + ELEMENTARY_ULP["log1p"] + distance)
    error = np.maximum(a.error, b.error) + a.model.unit_roundoff * relative * excess
    finite = np.where(np.isfinite(value), value, 0.0)
    return Bounded(value, _rounded(finite, error, a.model).error + a.model.underflow, a.model)


def _tanh(a: Bounded) -> Bounded:
    """The slope where it is steepest, nearest to 0, times the error; and no more than is left from there to
    the limit, 1 - tanh(s) <= 2 exp(-2 s): what is 2^1000 may be off by 2^950, and is 1 all the same.
    """
    value = np.tanh(a.value)
    nearest = np.minimum(np.maximum(np.abs(a.value) - a.error, 0.0), 300.0)
    error = np.minimum(a.error / np.cosh(nearest) ** 2, 2.0 * np.exp(-2.0 * nearest))
    rounded = _rounded(value, error, a.model, ulp=ELEMENTARY_ULP["tanh"])
    return Bounded(value, rounded.error + np.where(value == 0.0, 0.0, a.model.underflow), a.model)


def _sqrt(a: Bounded) -> Bounded:
    """sqrt(v) - sqrt(v - e) = e / (sqrt(v) + sqrt(v - e)) is the larger of the two changes; where the error
    reaches 0 the root is anything from there: an honest computation takes no root of a negative number. The
    ulps are those of a reciprocal root (CUDA's rsqrtf) and a quotient."""
    value = np.sqrt(a.value)
    low = np.sqrt(np.maximum(a.value - a.error, 0.0))
    above = np.sqrt(a.value + a.error) - value
    error = np.where(a.error <= a.value, a.error / (value + low), np.maximum(value, above))
    error = np.where(a.error == 0.0, 0.0, error)
    return _rounded(value, error, a.model, ulp=ELEMENTARY_ULP["sqrt"])


def _power(a: Bounded, b: Bounded) -> Bounded:
    """x^n of a positive x and an exact n: n relative errors of x, and the few ulp of a power function."""
    value = np.power(a.value, b.value)
    relative = np.abs(b.value) * a.error / np.abs(a.value)
    grown = np.where(relative < 1.0, np.expm1(2.0 * np.minimum(relative, 1.0)), np.inf)
    return _rounded(value, np.abs(value) * grown, a.model, ulp=ELEMENTARY_ULP["power"])


def _error_function(a: Bounded) -> Bounded:
    """k ulp; the derivative is at most 2 / sqrt(pi) times exp(-x^2) at the nearest point of the interval."""
    value = np.asarray(ERF(a.value), dtype=np.float64)
    nearest = np.maximum(np.abs(a.value) - a.error, 0.0)
    passed = a.error * TWO_PER_SQRT_PI * np.exp(-nearest * nearest)
    rounded = _rounded(value, _or_none(passed, a.error), a.model, ulp=ELEMENTARY_ULP["erf"])
    return Bounded(value, rounded.error + np.where(value == 0.0, 0.0, a.model.underflow), a.model)


def _complementary_error_function(a: Bounded) -> Bounded:
    """k ulp, and in the tail u x^2 for the rounding of the square in exp(-x^2) inside the function."""
    value = np.asarray(ERFC(a.value), dtype=np.float64)
    nearest = np.maximum(np.abs(a.value) - a.error, 0.0)
    passed = a.error * TWO_PER_SQRT_PI * np.exp(-nearest * nearest)
    square = np.where((a.value > 0.0) & (value > 0.0), a.value * a.value, 0.0)
    error = _or_none(passed, a.error) + a.model.unit_roundoff * square * value
    rounded = _rounded(value, error, a.model, ulp=ELEMENTARY_ULP["erfc"])
    return Bounded(value, rounded.error + a.model.underflow, a.model)


def _normal_cdf(a: Bounded) -> Bounded:
    """k ulp, as of erfc. The derivative is the density, at most that at the point nearest to 0."""
    value = _cdf_of(a.value)
    nearest = np.maximum(np.abs(a.value) - a.error, 0.0)
    passed = _or_none(a.error * _density_of(nearest), a.error)
    rounded = _rounded(value, passed, a.model, ulp=ELEMENTARY_ULP["erfc"])
    return Bounded(value, rounded.error + a.model.underflow, a.model)


def _normal_density(a: Bounded) -> Bounded:
    """k ulp, as of exp, and an ulp each for two products. The derivative is -x phi(x), whose size is at most
    the largest |x| of the interval times the density at the point nearest to 0."""
    value = _density_of(a.value)
    size = np.abs(a.value)
    steepest = (size + a.error) * _density_of(np.maximum(size - a.error, 0.0))
    passed = _or_none(a.error * steepest, a.error)
    rounded = _rounded(value, passed, a.model, ulp=2.0 * ELEMENTARY_ULP["exp"] + 2.0)
    return Bounded(value, rounded.error + a.model.underflow, a.model)


def _or_none(passed: Floats, error: Floats) -> Floats:
    """What an error is passed on as: nothing, where there is none; at infinity the product is NaN."""
    return np.where(error == 0.0, 0.0, passed)


def _maximum(a: Bounded, b: Bounded) -> Bounded:
    a_wins, b_wins = a.value - a.error > b.value + b.error, b.value - b.error > a.value + a.error
    error = np.where(a_wins, a.error, np.where(b_wins, b.error, np.maximum(a.error, b.error)))
    return Bounded(np.maximum(a.value, b.value), error, a.model)


def _minimum(a: Bounded, b: Bounded) -> Bounded:
    """-max(-a, -b): a choice, which rounds nothing."""
    larger = _maximum(Bounded(-a.value, a.error, a.model), Bounded(-b.value, b.error, b.model))
    return Bounded(-larger.value, larger.error, a.model)


def _sign(a: Bounded) -> Bounded:
    """-1, 0 or 1, and any of them where the error reaches 0."""
    value = np.sign(a.value)
    undecided = (np.abs(a.value) <= a.error) & (a.error > 0.0)
    return Bounded(value, np.where(undecided, 1.0 + np.abs(value), 0.0), a.model)


def _as_operand(x: Bounded) -> tuple[Floats, Floats]:
    """The magnitudes of an operand and their errors, with that of reading it."""
    size = np.abs(x.value)
    narrowed = x.model.operand_roundoff
    return size, x.error + narrowed * (size + x.error) if narrowed else x.error


def _matmul(a: Bounded, b: Bounded) -> Bounded:
    (av, ae), (bv, be) = map(_as_operand, (a, b))
    value = a.value @ b.value
    inherited = av @ be + ae @ bv + ae @ be
    count = _is_term(av, ae) @ _is_term(bv, be)
    squares = (av * av) @ (bv * bv)
    magnitude = av @ bv + inherited
    inherited = inherited + count * a.model.underflow
    bias = np.zeros_like(value)
    if a.model.statistical:
        left, right = np.atleast_2d(a.value), b.value[:, None] if b.ndim == 1 else b.value
        bias = products_in_turn(left, right, a.model.unit_roundoff).reshape(value.shape)
    terms = OpenSum(count, magnitude, squares, inherited, squares, magnitude, bias)
    return Bounded(value, terms.error(value, a.model), a.model, terms)


def _sum(a: Bounded, axis: Any = 0, keepdims: bool = False) -> Bounded:
    def total(x: Floats) -> Floats:
        return np.asarray(x.sum(axis=axis, keepdims=keepdims))

    value = total(a.value)
    nothing = bias = np.zeros_like(value)
    if a.model.statistical:
        bias = in_turn(a.value, axis, a.model.unit_roundoff).reshape(value.shape)
    terms = OpenSum(
        total(_is_term(a.value, a.error)),
        total(np.abs(a.value) + a.error),
        total(a.value * a.value),
        total(a.error),
        nothing,
        nothing,
        bias,
    )
    return Bounded(value, terms.error(value, a.model), a.model, terms)


def _largest(a: Bounded, axis: Any = 0, keepdims: bool = False, initial: Any = None) -> Bounded:
    """Off by the error of an entry that may be the largest: of one that is surely at least another one's
    least value. A score of -1e30 and its error of 1e14 are nothing beside one of 3."""
    at_least = {} if initial is None else {"initial": initial}
    value = a.value.max(axis=axis, keepdims=keepdims, **at_least)
    least = (a.value - a.error).max(axis=axis, keepdims=True, **at_least)
    error = np.where(a.value + a.error < least, 0.0, a.error)
    return Bounded(value, error.max(axis=axis, keepdims=keepdims, initial=0.0), a.model)


def _where(condition: Any, x: Any, y: Any) -> Bounded:
    model = x.model if isinstance(x, Bounded) else y.model
    x, y = lift(x, model), lift(y, model)
    return Bounded(np.where(condition, x.value, y.value), np.where(condition, x.error, y.error), model)


def _dot(a: Any, b: Any) -> Bounded:
    model = a.model if isinstance(a, Bounded) else b.model
    return _matmul(lift(a, model), lift(b, model))


def _joined(join: Callable[..., Any]) -> Callable[..., Bounded]:
    """Several arrays put together."""

    def put_together(parts: Sequence[Any], *args: Any, **kwargs: Any) -> Bounded:
        model = next(part.model for part in parts if isinstance(part, Bounded))
        lifted = [lift(part, model) for part in parts]
        value = join([part.value for part in lifted], *args, **kwargs)
        return Bounded(value, join([part.error for part in lifted], *args, **kwargs), model)

    return put_together


def _pad(a: Bounded, widths: Any, constant_values: float = 0.0) -> Bounded:
    """With a constant that every format holds."""
    value = np.pad(a.value, widths, constant_values=constant_values)
    return Bounded(value, np.pad(a.error, widths), a.model)


def _zeros_like(a: Bounded, shape: tuple[int, ...] | None = None) -> Bounded:
    """Sums of nothing yet."""
    nothing = np.zeros(a.shape if shape is None else shape)
    return Bounded(nothing, nothing, a.model, OpenSum.empty(nothing.shape))


_UFUNCS: dict[str, Callable[..., Bounded]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "negative": lambda a: Bounded(-a.value, a.error, a.model),
    "absolute": lambda a: Bounded(np.abs(a.value), a.error, a.model),
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "logaddexp": _logaddexp,
    "tanh": _tanh,
    "maximum": _maximum,
    "minimum": _minimum,
    "power": _power,
    "reciprocal": lambda a: _divide(lift(1.0, a.model), a),
    "sign": _sign,
    "sqrt": _sqrt,
    "square": lambda a: _multiply(a, a),
    ERF.__name__: _error_function,
    ERFC.__name__: _complementary_error_function,
    CDF.__name__: _normal_cdf,
    DENSITY.__name__: _normal_density,
}
_RULES = Rules(
    _UFUNCS,
    {"add": _sum, "maximum": _largest, "logaddexp": logaddexp_of_all},
    {
        "where": _where,
        "dot": _dot,
        "concatenate": _joined(np.concatenate),
        "stack": _joined(np.stack),
        "pad": _pad,
        "zeros_like": _zeros_like,
        **REARRANGEMENTS,
    },
)

# ------------------------------------------------------------------------------- the bounds of an operator


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Bounds on the absolute error of each element; not finite where the model cannot decide."""

    deterministic: Floats
    statistical: Floats

    @property
    def narrower(self) -> Floats:
        """The smaller of both, and the finite one if only one is."""
        return np.asarray(np.fmin(self.statistical, self.deterministic))


def value_bound(
    op: Operator,
    spec: Spec,
    inputs: Sequence[npt.NDArray[Any]],
    settings: Mapping[str, Any],
    grant: Grant,
) -> ErrorBound:
    """The bound of the operator's one output: the largest over refnet's code and the spec's other forms."""
    (bound,) = value_bounds(op, spec, inputs, settings, grant)
    return bound


def value_bounds(
    op: Operator,
    spec: Spec,
    inputs: Sequence[npt.NDArray[Any]],
    settings: Mapping[str, Any],
    grant: Grant,
) -> tuple[ErrorBound, ...]:
    """The bound of each output of an operator."""
    both = [bounded_values(op, spec, inputs, settings, grant, statistical) for statistical in (False, True)]
    return tuple(ErrorBound(d.error, s.error) for d, s in zip(*both, strict=True))


def vjp_bounds(
    op: Operator,
    spec: Spec,
    dy: Any,
    inputs: Sequence[npt.NDArray[Any]],
    settings: Mapping[str, Any],
    grant: Grant,
) -> tuple[ErrorBound, ...]:
    """The bounds of the gradients: the largest over refnet's code and the spec's other forms. Of several
    outputs, `dy` is a tuple.
    """
    both = [_bounded_vjp(op, spec, dy, inputs, settings, grant, statistical) for statistical in (False, True)]
    return tuple(ErrorBound(d.error, s.error) for d, s in zip(*both, strict=True))


def stated_bounds(
    gradients: Callable[..., tuple[Any, ...]],
    dy: npt.NDArray[Any],
    inputs: Sequence[npt.NDArray[Any]],
    settings: Mapping[str, Any],
    grant: Grant,
) -> tuple[ErrorBound, ...]:
    """The bounds of gradients that a convention states: those of its own formula."""
    both, output = [], contract_of(grant).output
    for statistical in (False, True):
        model = granted_model(grant, statistical=statistical)
        with np.errstate(all="ignore"):
            found = gradients(carried(dy, model), *in_model(inputs, model), **settings)
        both.append([stored(g, output) for g in found])
    return tuple(ErrorBound(d.error, s.error) for d, s in zip(*both, strict=True))


def granted_model(grant: Grant, *, statistical: bool) -> RoundingModel:
    """The arithmetic that results under a contract are granted."""
    return _granted_model(contract_of(grant).arithmetic(), statistical)


@lru_cache
def _granted_model(promised: Promised, statistical: bool) -> RoundingModel:
    output, inside, saved, _, products, flush = promised
    return RoundingModel.of(
        inside,
        statistical=statistical,
        flush_to_zero=flush,
        memory=output if output.precision < inside.precision else None,
        operand_roundoff=products.unit_roundoff if products.precision < inside.precision else 0.0,
        residuals=saved if saved.precision < inside.precision else None,
    )


def in_model(inputs: Sequence[Any], model: RoundingModel) -> list[Any]:
    """Inputs as they are read: exactly, but for subnormal numbers that may be flushed to zero.

    An input may be a Bounded already: the result of a step before.
    """
    return [x if isinstance(x, Bounded) or x.dtype.kind in "iub" else carried(x, model) for x in inputs]


def carried(x: npt.NDArray[Any], model: RoundingModel) -> Bounded:
    """One floating input with the error of reading it."""
    value = x.astype(np.float64)
    size = np.abs(value)
    return Bounded(value, np.where(size < model.flushed_in_memory, size, 0.0), model)


def _as_read(x: npt.NDArray[Any], model: RoundingModel) -> npt.NDArray[Any]:
    """An input with its subnormal numbers taken for 0, if they may be and there are any: at a kink in 0 the
    gradient is then that of the other side, which no error of the input shows."""
    if x.dtype.kind in "iu":
        return x
    size = np.abs(x.astype(np.float64))
    small = (size < model.flushed_in_memory) & (size > 0.0)
    return np.where(small, x.dtype.type(0), x) if small.any() else x


def _or_as(result: Bounded, other: Bounded) -> Bounded:
    """A bound that another computation of the same keeps to as well."""
    apart = np.abs(other.value - result.value) + other.error
    error = np.where(np.isnan(apart), result.error, np.maximum(result.error, apart))
    return Bounded(result.value, error, result.model)


def stored(result: Bounded, fmt: Format) -> Bounded:
    """A result in memory: a subnormal number may be flushed to zero, and a format that is narrower than that
    of the computation rounds once more."""
    size = np.abs(result.value)
    flushed = np.where(size < result.model.flushed_in_memory, size, 0.0)
    result = Bounded(result.value, np.maximum(result.error, flushed), result.model)
    if fmt.precision >= result.model.fmt.precision:
        return result
    error = result.error + _half_an_ulp(np.abs(result.value) + result.error, fmt)
    return Bounded(result.value, error, result.model)


def _half_an_ulp(size: Floats, fmt: Format) -> Floats:
    """What rounding to a format is off by at most, of numbers up to a size."""
    exponent = np.clip(np.frexp(size)[1] - 1, fmt.emin, fmt.emax) - fmt.precision
    return np.asarray(np.ldexp(1.0, exponent))


def bounded_values(
    op: Operator,
    spec: Spec,
    inputs: Sequence[Any],
    settings: Mapping[str, Any],
    grant: Grant,
    statistical: bool = False,
    memory: Format | None = None,
) -> tuple[Bounded, ...]:
    """The outputs of an operator, each with its bound: the largest over refnet's code and the other forms.

    They are as stored in the format of the contract's output, unless `memory` is another.
    """
    model, output = granted_model(grant, statistical=statistical), memory or contract_of(grant).output
    with np.errstate(all="ignore"):
        outputs, *forms = (
            _in_memory(y, output) for y in computed_values(op, spec, in_model(inputs, model), settings)
        )
    for others in forms:
        outputs = tuple(y.cover(other) for y, other in zip(outputs, others, strict=True))
    return outputs


def computed_values(
    op: Operator, spec: Spec, inputs: Sequence[Any], settings: Mapping[str, Any]
) -> Iterator[Any]:
    """The output, or the outputs, by refnet's own code, and then by the other forms of the spec."""
    yield op.forward(*inputs, **settings)[0]
    for form in spec.forms:
        if form.value is not None:
            yield form.value(*inputs, **settings)


def gradients_of_forms(
    spec: Spec, dy: Any, y: Any, inputs: Sequence[Any], settings: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """The gradients by the other forms of the spec."""
    for form in spec.forms:
        if form.vjp is not None:
            yield form.vjp(dy, y, *inputs, **settings)


def cotangent_like(outputs: Any, dy: Any, carry: Callable[[npt.NDArray[Any]], Any]) -> Any:
    """The cotangent, carried as the inputs are; of several outputs a record like theirs."""
    return tuple.__new__(type(outputs), map(carry, dy)) if isinstance(outputs, tuple) else carry(dy)


def _in_memory(results: Any, fmt: Format) -> tuple[Bounded, ...]:
    """Each result as it is stored: that of a variant may be larger than the reference's, and rounds more."""
    return tuple(stored(y, fmt) for y in in_order(results))


def _bounded_vjp(
    op: Operator,
    spec: Spec,
    dy: Any,
    inputs: Sequence[npt.NDArray[Any]],
    settings: Mapping[str, Any],
    grant: Grant,
    statistical: bool,
) -> tuple[Bounded, ...]:
    model, contract = granted_model(grant, statistical=statistical), contract_of(grant)
    fmt = contract.output
    with np.errstate(all="ignore"):
        outputs, residuals = op.forward(*in_model(inputs, model), **settings)
        cotangent = cotangent_like(outputs, dy, lambda d: carried(d, model))
        gradients = _in_memory(op.backward(as_saved(residuals), cotangent), fmt)
        read = [_as_read(x, model) for x in inputs]
        if any(changed is not x for changed, x in zip(read, inputs, strict=True)):
            _, residuals = op.forward(*in_model(read, model), **settings)
            others = _in_memory(op.backward(as_saved(residuals), cotangent), fmt)
            gradients = tuple(_or_as(g, other) for g, other in zip(gradients, others, strict=True))
        if spec.is_unary and model.residuals is not None:
            slope: Any = op.backward(residuals, carried(np.ones_like(dy), model))[0]
            by_slope = stored(cotangent * slope.saved(), fmt)
            gradients = (gradients[0].cover(by_slope),)
        if any(form.vjp is not None for form in spec.forms):
            memory = max(contract.result, fmt, key=lambda f: f.precision)
            each = bounded_values(op, spec, inputs, settings, grant, statistical, memory)
            if contract.result.precision < memory.precision:
                each = as_saved(each)
            y = each if isinstance(outputs, tuple) else each[0]
            for found in gradients_of_forms(spec, cotangent, y, in_model(inputs, model), settings):
                others = _in_memory(found, fmt)
                gradients = tuple(g.cover(other) for g, other in zip(gradients, others, strict=True))
    return gradients


def composition_bound(
    first: Operator,
    second: Operator,
    x: npt.NDArray[Any],
    other: npt.NDArray[Any],
    settings: Mapping[str, Any],
    grant: Grant,
) -> Floats:
    """The bound of `second(first(x), other)`, with the errors of the first carried through the second."""
    model, fmt = granted_model(grant, statistical=False), contract_of(grant).output
    with np.errstate(all="ignore"):
        inner: Any = first.forward(*in_model([x], model))[0]
        inner = stored(inner, fmt)
        outer: Any = second.forward(inner, *in_model([other], model), **settings)[0]
    return stored(outer, fmt).error
