"""Stochastic arithmetic: refnet's own code, run many times at once with a random error in every operation.

In place of a bound, each operation has an error drawn at random, of the standard deviation that the model of
rounding gives it. The spread of the results is what the roundings do to them, with all the correlations
that a bound must leave out: of a difference of two numbers that were computed alike, of a mean that is
subtracted from what it was taken of, of the layers of a network, whose bounds multiply and whose errors do
not. To first order it estimates

    sqrt(sum over the operations of (dy / d delta)^2 var(delta)).

The idea is Monte Carlo arithmetic (Parker, Monte Carlo Arithmetic, UCLA CSD-970002, 1997), as in CADNA
(Jezequel and Chesneaux, Comput. Phys. Commun. 178, 2008), which flips the rounding of each operation, and in
Verificarlo (Denis, de Oliveira Castro, Petit, ARITH 2016), which does it in a compiler. Here it is done in
float64, to the reference, so that nothing need be known of the code that is judged.

The deviations. A rounding is off by at most u |v|, and anything up to that alike: u |v| / sqrt(3). An
elementary function of k ulp has k times that. A sum of n terms t of mean m and variance v, in an average
order, has u sqrt((m^2 n^3 / 3 + v n^2 / 2) / 3), see `bounds`; if the terms are rounded products
u sqrt((m^2 n^3 / 3 + v n^2 / 2 + sum(t^2)) / 3); one of two terms rounds once. Errors are drawn from a normal
distribution, which also reaches what a rounding seldom does: the other side of a kink.

All runs are one leading axis of an array. The first of them rounds nothing and is the reference; what no
error has reached yet has a leading axis of length 1. So what is exact is seen to be, and is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet import Operator
from specs import Spec
from specs.spec import BATCH
from verify.arithmetic.bounds import (
    CDF,
    DENSITY,
    ELEMENTARY_ULP,
    ERF,
    ERFC,
    LAMBDA,
    SQUARES_UNDERFLOW,
    Floats,
    RoundingModel,
    computed_values,
    cotangent_like,
    gradients_of_forms,
    granted_model,
    in_turn,
    products_in_turn,
    vanishes,
)
from verify.arithmetic.certified import in_order
from verify.arithmetic.contracts import Contract, Grant, contract_of
from verify.arithmetic.formats import FLOAT64, Format
from verify.arithmetic.instrumented import (
    REARRANGEMENTS,
    Instrumented,
    Move,
    Rules,
    as_saved,
    logaddexp_of_all,
)

Samples = npt.NDArray[Any]
"""An array with the runs in front: (1 + samples, ...), or (1, ...) where all runs have the same."""

SAMPLES = 32
"""Runs with errors. The root mean square of 32 is off by an eighth of itself, by half of itself once in ten
million times. If one of them crosses a kink, the spread is the jump over sqrt(32), and LAMBDA times that is
the jump: more runs would need a larger LAMBDA."""

SHARE_OF_MEDIAN = 0.5
"""A spread is taken for accidentally small below this share of what is usual in its row."""

UNIFORM = 1.0 / math.sqrt(3.0)
"""The standard deviation of what is distributed evenly between -1 and 1."""

EXACT = RoundingModel(0.0, 0.0, statistical=True, fmt=FLOAT64)
"""A model in which no operation rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic:
    """The arithmetic of several runs: its model, and where their errors come from."""

    model: RoundingModel
    rng: np.random.Generator
    samples: int = SAMPLES

    @classmethod
    def of(
        cls, grant: Grant, *, model: RoundingModel | None = None, seed: int = 0, samples: int = SAMPLES
    ) -> Arithmetic:
        """That which results under a contract are granted, with errors that the seed determines."""
        granted = granted_model(grant, statistical=True) if model is None else model
        return cls(granted, np.random.default_rng(seed), samples)

    def read(self, x: npt.NDArray[Any]) -> Noisy:
        """An input: exact, but for subnormal numbers, which half of the runs flush to zero."""
        return Noisy(
            _flushed(self._every_run(x.astype(np.float64)), self.model, self.model.flushed_in_memory), self
        )

    def _every_run(self, value: Floats) -> Samples:
        size = np.abs(value)
        flushed = (size < self.model.flushed_in_memory) & (size > 0.0)
        return np.repeat(value[None], 1 + self.samples, axis=0) if flushed.any() else value[None]

    def arguments(self, inputs: Sequence[Any]) -> list[Any]:
        """Inputs as they are read. One may be noisy already: the result of a step before."""
        return [x if isinstance(x, Noisy) or x.dtype.kind in "iub" else self.read(x) for x in inputs]

    def rounded(self, value: Samples, deviation: Floats) -> Samples:
        """Numbers (runs, ...), each run with errors of the given standard deviation, (1 or runs, ...)."""
        if not self.model.unit_roundoff or not deviation.any():
            return value
        found = np.empty((1 + self.samples, *value.shape[1:]))
        found[...] = value
        errors = self.rng.standard_normal(found[1:].shape, dtype=np.float32)
        found[1:] += errors * (deviation[1:] if len(deviation) > 1 else deviation)
        if not np.isfinite(found).all():  # what is infinite has an infinite deviation, and no error
            found = np.where(np.isfinite(value), found, value)
        return _flushed(found, self.model, self.model.flushed_below)


def _flushed(found: Samples, model: RoundingModel, below: float) -> Samples:
    """What the format cannot hold: infinite beyond it; and in every second run 0 where that is granted, since
    flushing is a mode of the whole machine. The reference is left as it is."""
    if len(found) == 1:
        return found
    size = np.abs(found[1:])
    if size.max(initial=0.0) > model.fmt.largest:
        found[1:] = np.where(size > model.fmt.largest, np.copysign(np.inf, found[1:]), found[1:])
    if below:
        small = size[1::2] < below
        if small.any():
            found[2::2] = np.where(small, 0.0, found[2::2])
    return found


# ------------------------------------------------------------------------------------------------ open sums


@dataclass(frozen=True, slots=True)
class OpenSum:
    """Finished sums of which the terms are still known, so that more terms can join each.

    All have the runs in front; what is known of the terms is that of the reference alone.
    """

    total: Samples
    """The sum, with the errors of the terms and none of its own."""
    count: Floats
    """How many terms are not 0."""
    squares: Floats
    products: Floats
    """sum(t^2) over the terms that are rounded products."""
    untold: Floats
    """sum|t| where the squares do not tell: of 1e-200 they are 0, of 1e200 infinite."""
    bias: Floats
    """The error of the sum in turn."""

    @property
    def arrays(self) -> tuple[Samples, ...]:
        return self.total, self.count, self.squares, self.products, self.untold, self.bias

    def each(self, move: Callable[[Samples], Samples]) -> OpenSum:
        """The same sums in another place."""
        return OpenSum(*map(move, self.arrays))

    def merged(self, other: OpenSum) -> OpenSum:
        """With all the terms of other sums."""
        return OpenSum(*(mine + theirs for mine, theirs in zip(self.arrays, other.arrays, strict=True)))

    def joined(self, term: Samples, unit_roundoff: float) -> OpenSum:
        """With one more term each, beside which the others may be lost."""
        merged = self.merged(_single(term))
        lost = vanishes(self.squares, self.count, merged.total[:1], unit_roundoff)
        return replace(merged, bias=np.where(lost, np.abs(self.total[:1]), merged.bias))

    def deviation(self, unit_roundoff: float) -> Floats:
        n, total = self.count, self.total[:1]
        mean = total / np.maximum(n, 1)
        variance = np.maximum(self.squares / np.maximum(n, 1) - mean * mean, 0.0)
        partial_sums = np.where(n > 2, mean * mean * n**3 / 3 + variance * n**2 / 2, total * total)
        partial_sums = np.where((n > 1) & (self.squares > 0.0), partial_sums, 0.0)
        return np.asarray(UNIFORM * unit_roundoff * (np.sqrt(partial_sums + self.products) + n * self.untold))


def _of_terms(total: Samples, count: Floats, squares: Floats, magnitude: Callable[[], Floats]) -> OpenSum:
    """A sum whose terms are no products. The magnitude, sum|t|, is asked for only where the squares do not
    tell."""
    told = (squares > SQUARES_UNDERFLOW) & (squares < 1.0 / SQUARES_UNDERFLOW)
    nothing = np.zeros_like(squares)
    if told.all() or not count.any():
        return OpenSum(total, count, squares, nothing, nothing, nothing)
    untold = np.where(told | (count == 0.0), 0.0, magnitude())
    return OpenSum(total, count, np.where(told, squares, 0.0), nothing, untold, nothing)


def _single(term: Samples) -> OpenSum:
    """A sum of one term."""
    reference = term[:1]
    return _of_terms(term, (reference != 0.0) * 1.0, reference * reference, lambda: np.abs(reference))


# ------------------------------------------------------------------------------------------------- the array


class Noisy(Instrumented):
    """An array in all runs of an arithmetic; of numbers, or of choices and places that depend on the run."""

    def __init__(self, samples: Samples, arithmetic: Arithmetic, terms: OpenSum | None = None) -> None:
        self.samples = samples
        self.arithmetic = arithmetic
        self.terms = terms

    @property
    def rules(self) -> Rules:
        return _RULES

    @property
    def shape(self) -> tuple[int, ...]:
        return self.samples.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.samples.dtype

    @property
    def is_nothing(self) -> bool:
        return not self.samples.any()

    def __bool__(self) -> bool:
        """The reference decides for all: which way the code goes is one question, not one for each run."""
        return bool(self.samples[0])

    def lift(self, x: Any) -> Noisy:
        return lift(x, self.arithmetic)

    def exactly(self, x: Any) -> Noisy:
        return Noisy(np.asarray(x, dtype=np.float64)[None], self.arithmetic)

    def each(self, move: Move) -> Noisy:
        """The rearrangement of the places tells where each number comes from, in all runs."""
        shape, size = self.shape, self.size
        places = move(np.arange(size).reshape(shape))

        def moved(samples: Samples) -> Samples:
            return samples.reshape(len(samples), size)[:, places]

        terms = None if self.terms is None else self.terms.each(moved)
        return Noisy(moved(self.samples), self.arithmetic, terms)

    def cover(self, other: Noisy) -> Noisy:
        """Each run takes this form or the other one, as implementations do."""
        mine, theirs = _aligned(self.samples, other.samples)
        runs = 1 + self.arithmetic.samples
        others = self.arithmetic.rng.random((runs, *(1,) * (mine.ndim - 1))) < 0.5
        others[0] = False
        return Noisy(np.where(others, theirs, mine), self.arithmetic)

    def decided(self, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """In each run by its own numbers; a plain array where all runs agree."""
        return _agreed(ufunc(*_aligned(*map(_raw, inputs)), **kwargs), self.arithmetic)

    def assign(self, other: Noisy) -> Noisy:
        self.samples, self.terms = other.samples, other.terms
        return self

    def __setitem__(self, index: Any, item: Any) -> None:
        lifted, size = self.lift(item), self.size
        places = np.arange(size).reshape(self.shape)[index]

        def put(target: Samples, part: Samples) -> Samples:
            runs = max(len(target), len(part))
            changed = np.repeat(target, runs // len(target), axis=0).reshape(runs, size)
            changed[:, places] = _padded(part, np.ndim(places))
            return changed.reshape(runs, *self.shape)

        terms = None
        if self.terms is not None and lifted.terms is not None:
            terms = OpenSum(*map(put, self.terms.arrays, lifted.terms.arrays))
        self.samples, self.terms = put(self.samples, lifted.samples), terms

    def astype(self, dtype: npt.DTypeLike) -> Noisy:
        """Numbers are float64 whatever the format; what it loses is in the errors."""
        return Noisy(self.samples.astype(np.float64), self.arithmetic, self.terms)

    def copy(self) -> Noisy:
        return Noisy(self.samples, self.arithmetic, self.terms)

    def argmax(self, axis: int) -> Any:
        return _agreed(self.samples.argmax(_behind_runs(axis)), self.arithmetic)

    def any(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Of choices."""
        axes = _all_axes(self, axis)
        return _agreed(np.asarray(self.samples.any(axis=axes, keepdims=keepdims)), self.arithmetic)

    def kept(self) -> Noisy:
        """As it is kept in memory between two steps: rounded once more, where that is a half format."""
        memory = self.arithmetic.model.memory
        return self if memory is None else Noisy(_rounded_to(self.samples, memory, self), self.arithmetic)

    def saved(self) -> Noisy:
        """Once more rounded, but for what is a number of the format as far as the runs can tell."""
        fmt = self.arithmetic.model.residuals
        if fmt is None or len(self.samples) == 1 or self.samples.dtype.kind in "iub":
            return self
        reference = self.samples[:1]
        apart = np.abs(self.samples - reference).max(axis=0)
        as_it_is = np.abs(fmt.nearest(reference) - reference) <= apart
        rounded = _rounded_to(self.samples, fmt, self)
        return Noisy(np.where(as_it_is | (apart == 0.0), self.samples, rounded), self.arithmetic)

    def as_computed(self) -> Noisy:
        """The same: what is subtracted and added again has the same error both times, in each run."""
        return self


def _rounded_to(samples: Samples, fmt: Format, like: Noisy) -> Samples:
    size = np.abs(samples)
    return like.arithmetic.rounded(samples, UNIFORM * (fmt.unit_roundoff * size + fmt.smallest_subnormal))


def _raw(x: Any) -> Samples:
    return x.samples if isinstance(x, Noisy) else np.asarray(x)[None]


def _padded(samples: Samples, ndim: int) -> Samples:
    """With as many axes behind the runs."""
    runs, *shape = samples.shape
    return samples.reshape(runs, *(1,) * (ndim - len(shape)), *shape)


def _aligned(*operands: Samples) -> tuple[Samples, ...]:
    """Broadcastable: the runs stay in front, whatever axes there are behind them."""
    ndim = max(samples.ndim for samples in operands)
    return tuple(s if s.ndim == ndim else _padded(s, ndim - 1) for s in operands)


def _agreed(samples: Samples, arithmetic: Arithmetic) -> Any:
    same = len(samples) == 1 or bool((samples == samples[:1]).all())
    return samples[0] if same else Noisy(samples, arithmetic)


def _behind_runs(axis: int) -> int:
    return axis if axis < 0 else axis + 1


def _all_axes(a: Noisy, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(1, a.ndim + 1))
    return tuple(map(_behind_runs, axis)) if isinstance(axis, tuple) else (_behind_runs(axis),)


def lift(x: Any, arithmetic: Arithmetic) -> Noisy:
    """A constant of the reference's own, rounded in each run if the format does not hold it."""
    if isinstance(x, Noisy):
        return x
    value = np.asarray(x)
    exact = value.dtype.kind in "iub"
    numbers = value.astype(np.float64)[None]
    if exact or not arithmetic.model.unit_roundoff:
        return Noisy(numbers, arithmetic)
    error = arithmetic.model.constant_error(numbers)
    return Noisy(arithmetic.rounded(numbers, UNIFORM * error), arithmetic)


# ------------------------------------------------------------------------------------------------ arithmetic


def _add(a: Noisy, b: Noisy) -> Noisy:
    if a.terms is not None and b.terms is not None and a.shape == b.shape:
        return _finished(a.terms.merged(b.terms), a.arithmetic)
    mine, theirs = _aligned(a.samples, b.samples)
    value = mine + theirs
    for total, term in ((a, theirs), (b, mine)):
        if total.terms is not None and total.shape == value.shape[1:]:
            terms = total.terms.joined(term, a.arithmetic.model.unit_roundoff)
            return _finished(terms, a.arithmetic)
    return _total(value, mine, theirs, a.arithmetic)


def _total(value: Samples, a: Samples, b: Samples, arithmetic: Arithmetic) -> Noisy:
    """The sum of two numbers. No number of the format is nearer to it than the rounded one, the larger one
    included: at most the smaller one is lost. 1e30 + 0 is exact, and 1e30 + 0.7 is not off by 1e22."""
    lost = UNIFORM * arithmetic.model.unit_roundoff * np.abs(value)
    deviation = np.minimum(lost, np.minimum(np.abs(a), np.abs(b)))
    return Noisy(arithmetic.rounded(value, deviation), arithmetic)


def _finished(terms: OpenSum, arithmetic: Arithmetic, underflow: Floats | float = 0.0) -> Noisy:
    """The bias is no random number: every other run has it up, and the others down, by sqrt(2) of it, because
    the squares of what is random are added to its own."""
    deviation = terms.deviation(arithmetic.model.unit_roundoff) + underflow
    total = arithmetic.rounded(terms.total, deviation)
    if terms.bias.any() and len(total) > 1:
        runs = np.arange(len(total)).reshape(-1, *(1,) * (total.ndim - 1))
        total = total + np.where(runs == 0, 0.0, np.where(runs % 2, 1.0, -1.0)) * (
            math.sqrt(2.0) / LAMBDA * terms.bias
        )
    return Noisy(total, arithmetic, terms)


def _subtract(a: Noisy, b: Noisy) -> Noisy:
    mine, theirs = _aligned(a.samples, b.samples)
    return _total(mine - theirs, mine, theirs, a.arithmetic)


def _is_power_of_two(samples: Samples) -> npt.NDArray[np.bool_]:
    """Where a factor is 0 or the same power of two in all runs, which multiplies without rounding."""
    mantissa, _ = np.frexp(np.abs(samples[:1]))
    found = (mantissa == 0.5) | (samples[:1] == 0.0)
    if len(samples) > 1 and found.any():
        found &= (samples == samples[:1]).all(axis=0)
    return np.asarray(found)


def _does_not_shrink(samples: Samples) -> npt.NDArray[np.bool_]:
    return np.asarray((samples[:1] == 0.0) | (np.abs(samples[:1]) >= 1.0))


def _multiply(a: Noisy, b: Noisy) -> Noisy:
    mine, theirs = _aligned(a.samples, b.samples)
    scales_a, scales_b = _is_power_of_two(mine), _is_power_of_two(theirs)
    safe = (scales_a & _does_not_shrink(mine)) | (scales_b & _does_not_shrink(theirs))
    return _product(mine * theirs, scales_a | scales_b, safe, a.arithmetic)


def _divide(a: Noisy, b: Noisy) -> Noisy:
    mine, theirs = _aligned(a.samples, b.samples)
    scaled = _is_power_of_two(theirs)
    nothing = (mine[:1] == 0.0) & (len(mine) == 1 or (mine == 0.0).all(axis=0))
    safe = nothing | (scaled & (np.abs(theirs[:1]) <= 1.0))
    return _product(mine / theirs, scaled | nothing, safe, a.arithmetic)


def _product(
    value: Samples,
    exact: npt.NDArray[np.bool_],
    safe: npt.NDArray[np.bool_],
    arithmetic: Arithmetic,
) -> Noisy:
    """Rounded once, unless it is exact; and off by the underflow, unless it is safe from that."""
    model, size = arithmetic.model, np.abs(value)
    deviation = np.where(exact, 0.0, UNIFORM * model.unit_roundoff * size)
    may_underflow = ~safe & (size < model.underflow / (UNIFORM * model.unit_roundoff or 1.0))
    if not may_underflow.any():
        return Noisy(arithmetic.rounded(value, deviation), arithmetic)
    found = arithmetic.rounded(value, deviation + np.where(may_underflow, UNIFORM * model.underflow, 0.0))
    return Noisy(_of_the_same_sign(found, value), arithmetic)


def _of_the_same_sign(found: Samples, value: Samples) -> Samples:
    """What has lost its sign to an underflow has become 0: none changes the sign."""
    turned = found * np.sign(value) < 0.0
    return np.where(turned, 0.0, found) if turned.any() else found


@dataclass(frozen=True, slots=True)
class Elementary:
    """An elementary function: its error in roundings, and what the scaling of its argument inside adds."""

    function: Callable[[Samples], Samples]
    ulp: float
    scaling: Callable[[Samples, Samples], Samples] | None = None
    """Of argument and value, in units of u."""
    underflows: bool = True
    exact: float = math.nan
    """The argument at which the value is exact, and not 0."""

    def __call__(self, a: Noisy) -> Noisy:
        x, model = a.samples, a.arithmetic.model
        value = np.asarray(self.function(x), dtype=np.float64)
        deviation = self.ulp * np.abs(value)
        if self.scaling is not None:
            deviation = np.hypot(deviation, self.scaling(x, value))
        underflow = model.underflow * (~np.isinf(x) & (x != 0.0)) if self.underflows else 0.0
        deviation = UNIFORM * np.where(x == self.exact, 0.0, model.unit_roundoff * deviation + underflow)
        found = a.arithmetic.rounded(value, deviation)
        return Noisy(_of_the_same_sign(found, value) if self.underflows else found, a.arithmetic)


def _of_python(function: np.ufunc) -> Callable[[Samples], Samples]:
    return lambda x: np.asarray(function(x), dtype=np.float64)


def _scaling_of_exp(x: Samples, value: Samples) -> Samples:
    """u |x|, for the scaling of the argument by 1 / log(2)."""
    return np.where(value == 0.0, 0.0, np.abs(x) * value)


def _scaling_of_expm1(x: Samples, value: Samples) -> Samples:
    grown = np.exp(x)
    return np.where(grown == 0.0, 0.0, np.abs(x) * grown)


def _scaling_of_erfc(x: Samples, value: Samples) -> Samples:
    """u x^2 in the tail, for the rounding of the square in exp(-x^2)."""
    return np.where((x > 0.0) & (value > 0.0), x * x * value, 0.0)


ELEMENTARY: Mapping[str, Elementary] = {
    "exp": Elementary(np.exp, ELEMENTARY_ULP["exp"], _scaling_of_exp, exact=0.0),
    "expm1": Elementary(np.expm1, ELEMENTARY_ULP["expm1"], _scaling_of_expm1),
    "log": Elementary(np.log, ELEMENTARY_ULP["log"], underflows=False),
    "log1p": Elementary(np.log1p, ELEMENTARY_ULP["log1p"]),
    "tanh": Elementary(np.tanh, ELEMENTARY_ULP["tanh"]),
    "sqrt": Elementary(np.sqrt, ELEMENTARY_ULP["sqrt"], underflows=False),
    ERF.__name__: Elementary(_of_python(ERF), ELEMENTARY_ULP["erf"]),
    ERFC.__name__: Elementary(_of_python(ERFC), ELEMENTARY_ULP["erfc"], _scaling_of_erfc),
    CDF.__name__: Elementary(_of_python(CDF), ELEMENTARY_ULP["erfc"]),
    DENSITY.__name__: Elementary(_of_python(DENSITY), 2.0 * ELEMENTARY_ULP["exp"] + 2.0),
}
"""The same figures as those of the bounds, where their sources are."""


def _logaddexp(a: Noisy, b: Noisy) -> Noisy:
    """The larger one + log1p(exp(-d)), d their distance: of the excess exp and log1p lose their ulps, and the
    rounding of d its u d; then the sum is rounded."""
    mine, theirs = _aligned(a.samples, b.samples)
    model = a.arithmetic.model
    distance = np.abs(mine - theirs)
    distance = np.where(np.isfinite(distance), distance, 0.0)
    roundings = np.hypot(math.hypot(ELEMENTARY_ULP["exp"], ELEMENTARY_ULP["log1p"]), distance)
    error = model.unit_roundoff * roundings * np.log1p(np.exp(-distance)) + model.underflow
    value = np.logaddexp(mine, theirs)
    deviation = UNIFORM * (model.unit_roundoff * np.abs(value) + error)
    return Noisy(a.arithmetic.rounded(value, deviation), a.arithmetic)


def _power(a: Noisy, b: Noisy) -> Noisy:
    value = np.power(*_aligned(a.samples, b.samples))
    deviation = UNIFORM * a.arithmetic.model.unit_roundoff * ELEMENTARY_ULP["power"] * np.abs(value)
    return Noisy(a.arithmetic.rounded(value, deviation), a.arithmetic)


def _exact(function: Callable[..., Samples]) -> Callable[..., Noisy]:
    """A choice, or a change of sign: it rounds nothing."""
    return lambda *operands: Noisy(
        function(*_aligned(*(a.samples for a in operands))), operands[0].arithmetic
    )


# ------------------------------------------------------------------------------------------ sums and products


def _as_operand(samples: Samples, like: Noisy) -> Samples:
    """An operand of a product as it is read, rounded where that is in a narrower format."""
    narrowed = like.arithmetic.model.operand_roundoff
    return like.arithmetic.rounded(samples, UNIFORM * narrowed * np.abs(samples)) if narrowed else samples


def _matmul(a: Noisy, b: Noisy) -> Noisy:
    """Of vectors and matrices, and of as many of them as there are in front."""
    left = a.samples[..., None, :] if a.ndim == 1 else a.samples
    right = b.samples[..., None] if b.ndim == 1 else b.samples
    left, right = (_as_operand(samples, a) for samples in _aligned(left, right))
    bias = products_in_turn(left[0], right[0], a.arithmetic.model.unit_roundoff)[None]
    squares = np.matmul(left[:1] ** 2, right[:1] ** 2)
    count = np.matmul((left[:1] != 0.0) * 1.0, (right[:1] != 0.0) * 1.0)
    terms = _of_terms(
        np.matmul(left, right), count, squares, lambda: np.matmul(np.abs(left[:1]), np.abs(right[:1]))
    )
    terms = replace(terms, products=terms.squares, bias=bias)
    if a.ndim == 1 or b.ndim == 1:
        none = tuple(axis for axis, one in ((-1, b.ndim == 1), (-2, a.ndim == 1)) if one)
        terms = terms.each(lambda samples: samples.squeeze(none))
    return _finished(terms, a.arithmetic, UNIFORM * a.arithmetic.model.underflow * np.sqrt(terms.count))


def _sum(a: Noisy, axis: Any = 0, keepdims: bool = False) -> Noisy:
    axes = _all_axes(a, axis)

    def total(x: Samples) -> Samples:
        return np.asarray(x.sum(axis=axes, keepdims=keepdims))

    reference = a.samples[:1]
    terms = _of_terms(
        total(a.samples),
        total((reference != 0.0) * 1.0),
        total(reference * reference),
        lambda: total(np.abs(reference)),
    )
    bias = in_turn(reference, axes, a.arithmetic.model.unit_roundoff).reshape(terms.count.shape)
    return _finished(replace(terms, bias=bias), a.arithmetic)


def _largest(a: Noisy, axis: Any = 0, keepdims: bool = False, initial: Any = None) -> Noisy:
    at_least = {} if initial is None else {"initial": initial}
    largest = a.samples.max(axis=_all_axes(a, axis), keepdims=keepdims, **at_least)
    return Noisy(np.asarray(largest), a.arithmetic)


# ------------------------------------------------------------------------------------------- array functions


def _of_any(parts: Iterable[Any]) -> Arithmetic:
    return next(part.arithmetic for part in parts if isinstance(part, Noisy))


def _where(condition: Any, x: Any, y: Any) -> Any:
    """By the choices of each run. Places, as of a largest entry, stay places."""
    arithmetic = _of_any((condition, x, y))
    if all(_raw(part).dtype.kind in "iub" for part in (x, y)):
        return _agreed(np.where(*_aligned(_raw(condition), _raw(x), _raw(y))), arithmetic)
    x, y = lift(x, arithmetic), lift(y, arithmetic)
    return Noisy(np.where(*_aligned(_raw(condition), x.samples, y.samples)), arithmetic)


def _dot(a: Any, b: Any) -> Noisy:
    arithmetic = _of_any((a, b))
    return _matmul(lift(a, arithmetic), lift(b, arithmetic))


def _joined(join: Callable[..., Samples]) -> Callable[..., Noisy]:
    """Several arrays put together."""

    def put_together(parts: Sequence[Any], axis: int = 0) -> Noisy:
        arithmetic = _of_any(parts)
        lifted = [lift(part, arithmetic).samples for part in parts]
        runs = max(map(len, lifted))
        each = [np.repeat(part, runs // len(part), axis=0) for part in lifted]
        return Noisy(join(each, axis=_behind_runs(axis)), arithmetic)

    return put_together


def _pad(a: Noisy, widths: Any, constant_values: float = 0.0) -> Noisy:
    """With a constant that every format holds."""
    each = np.broadcast_to(widths, (a.ndim, 2))
    padded = np.pad(a.samples, ((0, 0), *map(tuple, each.tolist())), constant_values=constant_values)
    return Noisy(padded, a.arithmetic)


def _zeros_like(a: Noisy, shape: tuple[int, ...] | None = None) -> Noisy:
    """Sums of nothing yet."""
    nothing = np.zeros((1, *(a.shape if shape is None else shape)))
    return Noisy(nothing, a.arithmetic, OpenSum(nothing, nothing, nothing, nothing, nothing, nothing))


def _take_along_axis(a: Any, places: Any, axis: int) -> Noisy:
    """At places that may be others in each run."""
    if not isinstance(places, Noisy):
        moved: Noisy = REARRANGEMENTS["take_along_axis"](a, places, axis)
        return moved
    samples, runs = _raw(a), len(places.samples)
    everywhere = np.repeat(samples, runs // len(samples), axis=0)
    return Noisy(np.take_along_axis(everywhere, places.samples, _behind_runs(axis)), places.arithmetic)


_RULES = Rules(
    {
        "add": _add,
        "subtract": _subtract,
        "multiply": _multiply,
        "divide": _divide,
        "matmul": _matmul,
        "negative": _exact(np.negative),
        "absolute": _exact(np.abs),
        "maximum": _exact(np.maximum),
        "minimum": _exact(np.minimum),
        "sign": _exact(np.sign),
        "logaddexp": _logaddexp,
        "power": _power,
        "reciprocal": lambda a: _divide(a.exactly(1.0), a),
        "square": lambda a: _multiply(a, a),
        **ELEMENTARY,
    },
    {"add": _sum, "maximum": _largest, "logaddexp": logaddexp_of_all},
    {
        "where": _where,
        "dot": _dot,
        "concatenate": _joined(np.concatenate),
        "stack": _joined(np.stack),
        "pad": _pad,
        "zeros_like": _zeros_like,
        **REARRANGEMENTS,
        "take_along_axis": _take_along_axis,
    },
)

# ----------------------------------------------------------------------------------------------- tolerances


def value_spreads(
    op: Operator,
    spec: Spec,
    inputs: Sequence[Any],
    settings: Mapping[str, Any],
    grant: Grant,
    *,
    model: RoundingModel | None = None,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[Floats, ...]:
    """The tolerances of each output of an operator: the largest over refnet's code and the spec's forms."""
    arithmetic = Arithmetic.of(grant, model=model, seed=seed, samples=samples)
    with np.errstate(all="ignore"):
        return tolerances(
            computed_values(op, spec, arithmetic.arguments(inputs), settings), contract_of(grant).output
        )


def vjp_spreads(
    op: Operator,
    spec: Spec,
    dy: Any,
    inputs: Sequence[Any],
    settings: Mapping[str, Any],
    grant: Grant,
    *,
    model: RoundingModel | None = None,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[Floats, ...]:
    """The tolerances of the gradients: the largest over refnet's code and the spec's forms. Of several
    outputs, `dy` is a tuple."""
    arithmetic = Arithmetic.of(grant, model=model, seed=seed, samples=samples)
    read = arithmetic.arguments(inputs)
    with np.errstate(all="ignore"):
        outputs, residuals = op.forward(*read, **settings)
        cotangent = cotangent_like(outputs, dy, arithmetic.read)
        found = [op.backward(as_saved(residuals), cotangent)]
        if spec.is_unary and arithmetic.model.residuals is not None:
            slope: Any = op.backward(residuals, arithmetic.read(np.ones_like(dy)))[0]
            found.append((cotangent * slope.saved(),))
        if any(form.vjp is not None for form in spec.forms):
            kept = _as_kept(op, spec, read, settings, arithmetic, contract_of(grant))
            y = kept if isinstance(outputs, tuple) else kept[0]
            found += gradients_of_forms(spec, cotangent, y, read, settings)
        return tolerances(found, contract_of(grant).output)


def tolerances(computations: Iterable[Any], fmt: Format) -> tuple[Floats, ...]:
    """The tolerances of results, each computed in several ways: refnet's own first, of which the first run is
    the reference of all.

    LAMBDA times the root mean square of the deviations, and what storing the result costs. Where refnet's own
    code is not finite in every run nothing is known. Of a form, which may overflow where the reference does
    not, those runs count that are finite.
    """
    with np.errstate(all="ignore"):
        own, *others = (in_order(results) for results in computations)
        return tuple(_tolerance(each[0], each[1:], fmt) for each in zip(own, *others, strict=True))


def _tolerance(own: Noisy, others: Sequence[Noisy], fmt: Format) -> Floats:
    reference, spread = own.samples[0], _not_accidental(_spread(own, own), own.samples[0])
    for other in others:
        of_form = _not_accidental(_spread(other, own, overflows=True), reference)
        spread = np.maximum(spread, of_form)
    return np.asarray(LAMBDA * spread + _lost_in_memory(reference, own.arithmetic.model, fmt))


def _spread(result: Noisy, own: Noisy, *, overflows: bool = False) -> Floats:
    """The root mean square deviation from the reference. Infinite where a run is not finite; of a computation
    that may overflow, that of its finite runs, and 0 if there is none."""
    runs = result.samples[1:] if len(result.samples) > 1 else result.samples
    reference = own.samples[:1]
    apart = np.where(runs == reference, 0.0, runs - reference)
    if not np.isfinite(apart).all():
        apart = np.where(np.isfinite(apart), apart, 0.0 if overflows else np.inf)
    counted = np.isfinite(runs).sum(axis=0) if overflows else len(runs)
    scale = np.maximum(np.abs(apart).max(axis=0), np.finfo(np.float64).tiny)  # squares of 1e-200 are 0
    spread = scale * np.sqrt(np.sum((apart / scale) ** 2, axis=0) / np.maximum(counted, 1))
    return np.where(np.isnan(spread), np.inf, spread)


def _not_accidental(spread: Floats, reference: Floats) -> Floats:
    """At least half of what is usual in its row, both in absolute terms and relative to the result.

    Where sensitivities happen to cancel, a spread may be small that in the next digit of the input is not.
    In absolute terms alone, a small result would be granted the errors of its large neighbours, a probability
    of 1e-20 those of one of 0.1; in relative terms alone, one that is nearly 0 has none to be small beside.
    What has no spread at all is exact, and stays so.
    """
    if not spread.ndim or not spread.size:
        return spread
    size = np.abs(reference)
    usual = np.median(spread, axis=-1, keepdims=True)
    relative = np.where(size > 0.0, spread / np.where(size > 0.0, size, 1.0), np.inf)
    floor = SHARE_OF_MEDIAN * np.fmin(usual, np.median(relative, axis=-1, keepdims=True) * size)
    return np.where((spread > 0.0) & np.isfinite(floor), np.maximum(spread, floor), spread)


def _lost_in_memory(reference: Floats, model: RoundingModel, fmt: Format) -> Floats:
    """The final rounding, and the whole of a number that may be flushed to zero."""
    size = np.where(np.isfinite(reference), np.abs(reference), 0.0)
    flushed = np.where(size < model.flushed_in_memory, size, 0.0)
    return fmt.unit_roundoff * size + fmt.smallest_subnormal + flushed


def _as_kept(
    op: Operator,
    spec: Spec,
    read: Sequence[Any],
    settings: Mapping[str, Any],
    arithmetic: Arithmetic,
    contract: Contract,
) -> tuple[Any, ...]:
    """The outputs as a backward may have kept them: with the errors of the worst of the forms, of which its
    own computations know nothing; and rounded to the format they are kept in."""
    narrower = contract.result.precision < contract.inside.precision
    own, *others = (in_order(y) for y in computed_values(op, spec, read, settings))
    kept = []
    for y, *forms in zip(own, *others, strict=True):
        spreads = [_spread(y, y), *(_spread(other, y, overflows=True) for other in forms)]
        noisy = arithmetic.rounded(y.samples[:1], np.maximum.reduce(spreads)[None])
        result = Noisy(noisy, arithmetic)
        kept.append(result.kept().saved() if narrower else result)
    return tuple.__new__(type(own), kept) if type(own) is not tuple else tuple(kept)


# ---------------------------------------------------------------------------------- what the problem permits

PERTURBATION = 2.0**-20
"""Relative changes of the inputs: small enough for the problem to be linear, large beside the roundings."""

MOST_CONDITION = LAMBDA * UNIFORM
"""The most that is granted, in root mean squares r = sqrt(sum (J_ij x_j)^2) of changes by u of random signs.

Inputs that are each rounded once can do u sum |J_ij x_j|, which is sqrt(n) r for n inputs of equal weight.
For many of them that is too much to grant: their roundings are independent, have the deviation r / sqrt(3),
and reach the sum with no probability. As everywhere, LAMBDA of these deviations are granted at most."""

ULP_OF_RESULT = ELEMENTARY_ULP["exp"]
"""The errors of the result itself, in ulp: those of one elementary function, which is seldom rounded
correctly however well it is made."""


def condition_spreads(
    op: Operator,
    spec: Spec,
    inputs: Sequence[Any],
    settings: Mapping[str, Any],
    fmt: Format,
    dy: Any = None,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[Floats, ...]:
    """The tolerances of what is as accurate as the problem permits: that is off by no more than if each input
    had been rounded once, and the result had the error of one elementary function. Of the outputs; with a
    cotangent of the gradients.

    Nothing in them is of an algorithm, and good ones may fail: log_softmax of the winning class by a
    difference, the derivative of tanh from its output. It is a badge, and no verdict.
    """
    arithmetic = Arithmetic(EXACT, np.random.default_rng(seed), samples)
    moved = [x if x.dtype.kind in "iub" else _perturbed(x, arithmetic) for x in inputs]
    with np.errstate(all="ignore"):
        results, residuals = op.forward(*moved, **settings)
        if dy is not None:
            cotangent = cotangent_like(results, dy, lambda d: _perturbed(d, arithmetic))
            results = op.backward(residuals, cotangent)
        granted = min(math.sqrt(_depends_on(spec, inputs, settings, dy)), MOST_CONDITION)
        return tuple(_permitted(y, fmt, granted) for y in in_order(results))


def _depends_on(spec: Spec, inputs: Sequence[Any], settings: Mapping[str, Any], dy: Any) -> int:
    """How many numbers an element of a result depends on, at most."""
    numbers = [x for x in (*inputs, *in_order(dy)) if x is not None and x.dtype.kind not in "iub"]
    elementwise = all(group == (BATCH,) for side in (0, 1) for group in spec.groups(side))
    alone = elementwise and settings.get("reduction", "none") == "none"
    return sum(1 if alone else x.size for x in numbers)


def _perturbed(x: npt.NDArray[Any], arithmetic: Arithmetic) -> Noisy:
    value = x.astype(np.float64)[None]
    signs = arithmetic.rng.choice((-1.0, 1.0), (arithmetic.samples, *value.shape[1:]))
    moved = np.concatenate([value, value * (1.0 + PERTURBATION * signs)])
    return Noisy(moved, arithmetic)


def _permitted(y: Noisy, fmt: Format, granted: float) -> Floats:
    scale = fmt.unit_roundoff / PERTURBATION
    reference = y.samples[0]
    lost = _lost_in_memory(reference, granted_model(fmt, statistical=True), fmt)
    of_function = 2.0 * ULP_OF_RESULT * fmt.unit_roundoff * np.abs(reference)
    return np.asarray(granted * scale * _spread(y, y) + of_function + lost)
