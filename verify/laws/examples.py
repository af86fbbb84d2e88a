"""Inputs made to hurt: one example of an operator's arguments, from a spec, a regime and a seed.

The same builder feeds the Hypothesis strategies and the plan of a conformance check, so that an example
found by one can be replayed by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from specs import SPECS, Domain, Input, Spec
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import FLOAT32, FORMATS, Format

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What "..." stands for in a signature, and the sizes of its free axes."""

    batch: tuple[int, ...]
    sizes: Mapping[str, int]

    def inputs_of(self, spec: Spec, settings: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, with the axes that are derived from the free ones."""
        return spec.laid_out(0, self.batch, all_sizes(spec, self.sizes, settings))


def dtype_of(domain: Domain, fmt: Format) -> np.dtype[Any]:
    """The dtype of an input: labels are int64, masks bool, and everything else is of the format."""
    if domain.is_integer:
        return np.dtype(np.int64)
    return np.dtype(bool) if domain is Domain.MASK else fmt.dtype


def shape_at(spec: Spec, sizes: Mapping[str, int]) -> Shape:
    """The shape at which an operator is looked at once: `sizes` of the usual axes and of the batch.

    An operator with shapes of its own has the smallest of them.
    """
    if spec.shapes:
        return Shape((sizes["batch"],) if spec.open else (), spec.shapes[0])
    rows = (sizes["batch"],) if spec.free_axes else (sizes["batch"], sizes["c"])
    return Shape(rows if spec.batched else (), sizes)


def all_sizes(spec: Spec, free: Mapping[str, int], settings: Mapping[str, Any]) -> Mapping[str, int]:
    """The sizes of all axes of a signature, those included that follow from others and the settings."""
    sizes = dict(free)
    for axis, size in spec.derived.items():
        sizes[axis] = size(sizes, settings)
    return sizes


@dataclass(frozen=True, slots=True)
class Example:
    """One call: the inputs, the settings, and a cotangent for each output."""

    inputs: tuple[Values, ...]
    settings: Mapping[str, Any]
    dy: Any
    """An array; of an operator with several outputs, a tuple of as many."""
    regime: str

    @property
    def axis(self) -> int:
        """The axis along which rows lie."""
        return int(self.settings.get("axis", -1))

    @property
    def cotangents(self) -> tuple[Values, ...]:
        return in_order(self.dy)

    def with_cotangents(self, change: Callable[[Values], Any]) -> Example:
        """The same example, with each cotangent changed."""
        changed = tuple(np.asarray(change(d)) for d in self.cotangents)
        return replace(self, dy=changed if isinstance(self.dy, tuple) else changed[0])

    def with_inputs(self, *inputs: Values) -> Example:
        return replace(self, inputs=inputs)

    def with_settings(self, **settings: Any) -> Example:
        return replace(self, settings={**self.settings, **settings})


# --------------------------------------------------------------------------------- regimes, by the domain

Draw = Callable[[np.random.Generator, tuple[int, ...], Format, Input], npt.NDArray[np.float64]]


def reach(fmt: Format, item: Input) -> float:
    """A magnitude up to which no honest computation overflows: a power of two, which every format holds.

    Of degree d, one term is at most (2 r)^d: two inputs of opposite signs may be subtracted first. 64 of
    them may be added: 64 (2 r)^d <= 2^8 r^d <= 2^emax, for d <= 2. The half formats compute in float32.
    """
    inner = max(fmt.emax, FLOAT32.emax)
    return float(2.0 ** min((fmt.emax - 8) // item.degree, (inner - 8) // item.inner_degree))


def _exponents(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Any:
    return rng.choice((-1.0, 1.0), shape) * np.exp2(rng.uniform(low, high, shape))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.standard_normal(shape)


def _either(*draws: Draw) -> Draw:
    """One of several manners, for a whole array."""
    return lambda rng, shape, fmt, item: draws[int(rng.integers(len(draws)))](rng, shape, fmt, item)


def _of_scale(*scales: float) -> Draw:
    """Of ordinary numbers, beside 1: constants that are added, such as eps, matter at one scale only, and
    most thresholds lie at another."""
    return lambda rng, shape, fmt, item: rng.standard_normal(shape) * rng.choice(scales)


def _tiny(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.standard_normal(shape) * float(fmt.unit_roundoff)


def _saturating(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """Where an exponential leaves the format: beyond log(largest), on both sides."""
    edge = 1.5 * np.log(float(fmt.largest))
    return rng.uniform(-edge, edge, shape)


def _offset(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """A large mean over a small spread, as far apart as half the digits of the format, or as a third: the
    mean of squares less the square of the mean has no digit left, or few, and x - mean has half of them.

    The mean is an odd number, so that no accident of its bits helps; half of the arrays have it below 0.
    """
    bits = fmt.precision // int(rng.choice((2, 2, 3)))
    mean = rng.choice((-1.0, 1.0)) * (2.0**bits - 1.0)
    return mean + rng.standard_normal(shape)


def _dominated(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """One entry of a row far above the rest, so that its probability rounds to 1."""
    x = rng.standard_normal(shape)
    if shape:
        top = rng.integers(shape[-1], size=shape[:-1])
        np.put_along_axis(x, np.asarray(top)[..., None], rng.uniform(20.0, 60.0), axis=-1)
    return x


def _one_or_nothing(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """One-hot rows of logits as large as float16 holds them: the probabilities are 0 and 1."""
    x = np.zeros(shape)
    if shape:
        top = rng.integers(shape[-1], size=shape[:-1])
        np.put_along_axis(x, np.asarray(top)[..., None], 2.0**13, axis=-1)
    return x


def _around(
    seams: Sequence[float], rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input
) -> Any:
    """At a seam, and on both sides of one at all binary orders of distance, from its last place to half of
    it."""
    seam = rng.choice(np.asarray(seams), shape)
    size = np.maximum(np.abs(seam), 1.0)
    away = size * _exponents(rng, shape, np.log2(fmt.unit_roundoff), -1.0)
    return np.where(rng.random(shape) < 0.125, seam, seam + away)


def _huge(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.uniform(-1.0, 1.0, shape) * reach(fmt, item)


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.integers(-8, 9, shape) * float(fmt.smallest_subnormal)


def _mixed(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """All binary orders of magnitude alike."""
    return _exponents(rng, shape, 0.9 * fmt.emin, np.log2(reach(fmt, item)))


def _few_numbers(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((-1.0, -0.0, 0.0, 1.0), shape)


def _equal_rows(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """The same number along each row: a spread of 0."""
    return np.broadcast_to(rng.standard_normal((*shape[:-1], 1)) if shape else rng.standard_normal(()), shape)


def _last_bit(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """Numbers that are equal but for the last place, and the one before it."""
    return rng.choice((-1.5, 1.5)) + rng.integers(-2, 3, shape) * 2.0 * fmt.unit_roundoff


def _probability(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.uniform(0.02, 0.98, shape)


def _certain(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((0.0, 1.0), shape)


def _near_certain(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """All orders of magnitude above 0, and all distances below 1 that the format has."""
    low = np.exp2(rng.uniform(0.9 * fmt.emin, -1.0, shape))
    high = 1.0 - np.exp2(np.floor(rng.uniform(1 - fmt.precision, -1.0, shape)))
    return np.where(rng.random(shape) < 0.5, low, high)


def _quarters(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((0.25, 0.5, 0.75), shape)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """Multiples of 1/128 that sum to exactly 1."""
    counts = rng.multinomial(128 - shape[-1], np.full(shape[-1], 1.0 / shape[-1]), size=shape[:-1]) + 1
    return counts / 128.0


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]


def _signs(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((-1.0, 1.0), shape)


def _normalised(draw: Draw) -> Draw:
    """The logarithms of distributions, from logits."""

    def logarithms(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
        z = draw(rng, shape, fmt, item)
        shifted = z - z.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    return logarithms


def _not_above_zero(draw: Draw) -> Draw:
    """Logarithms of any probabilities: what is linear in them needs no sum of 1."""

    def logarithms(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
        return -np.abs(draw(rng, shape, fmt, item))

    return logarithms


def _lopsided(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """Probabilities of all orders of magnitude; the definition does not need their sum to be exact."""
    p = np.exp2(rng.uniform(0.9 * fmt.emin, -1.0, shape))
    return p / np.maximum(p.sum(-1, keepdims=True), 1.0)


REAL_REGIMES: Mapping[str, Draw] = {
    "normal": _normal,
    "small": _either(_tiny, _of_scale(1e-3, 4.0)),
    "saturating": _either(_saturating, _saturating, _of_scale(10.0, 100.0, 1e4)),
    "dominated": _either(_dominated, _dominated, _one_or_nothing),
    "ties": _either(_few_numbers, _few_numbers, _equal_rows, _last_bit),
    "mixed": _mixed,
    "huge": _huge,
    "subnormal": _subnormal,
}
REGIMES = tuple(REAL_REGIMES)
"""The regimes in the order of a plan: the first of them are the ones that a quick check must have."""

CENTRED_INSTEAD = "saturating"
"""The regime in which an input whose mean is subtracted has a large one over a small spread: no exponential
saturates there."""


ALL_ORDERS = "mixed"
"""The regime in which what cancels is as small as can be: beside numbers of other orders it would leave no
digit of them, and no computation be better than another."""


def _without_sign(draw: Draw) -> Draw:
    return lambda rng, shape, fmt, item: np.abs(draw(rng, shape, fmt, item))


def _class_weights(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.uniform(0.25, 4.0, shape)


def _some_without_weight(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((0.0, 1.0, 2.0), shape)


_NONNEGATIVE: Mapping[str, Draw] = {regime: _without_sign(draw) for regime, draw in REAL_REGIMES.items()}
_DRAWS: Mapping[tuple[Domain, bool], Mapping[str, Draw]] = {
    (Domain.REAL, True): REAL_REGIMES,
    (Domain.REAL, False): REAL_REGIMES,
    (Domain.NONNEGATIVE, True): _NONNEGATIVE,
    (Domain.NONNEGATIVE, False): _NONNEGATIVE,
    (Domain.WEIGHT, False): {"ties": _some_without_weight},
    (Domain.PROBABILITY, True): {
        "small": _near_certain, "saturating": _near_certain, "mixed": _near_certain, "ties": _quarters,
        "subnormal": _near_certain,
    },
    (Domain.PROBABILITY, False): {"ties": _quarters, "normal": _probability},
    (Domain.DISTRIBUTION, True): {
        "small": _lopsided, "saturating": _lopsided, "mixed": _lopsided, "subnormal": _lopsided,
    },
    (Domain.DISTRIBUTION, False): {"normal": _weights, "small": _weights, "ties": _weights},
    (Domain.LOG_PROBABILITY, True): {
        **{regime: _not_above_zero(draw) for regime, draw in REAL_REGIMES.items()},
        "normal": _normalised(_normal), "dominated": _normalised(_dominated),
    },
    (Domain.SIGN, False): {},
}  # fmt: skip
_OTHERWISE: Mapping[tuple[Domain, bool], Draw] = {
    (Domain.WEIGHT, False): _class_weights,
    (Domain.PROBABILITY, True): _probability,
    (Domain.PROBABILITY, False): _certain,
    (Domain.DISTRIBUTION, True): _weights,
    (Domain.DISTRIBUTION, False): _one_hot,
    (Domain.SIGN, False): _signs,
}

UNBOUNDED = (Domain.REAL, Domain.NONNEGATIVE, Domain.LOG_PROBABILITY)
"""The domains that a format ends, and no number of their own."""

BESIDE = "dominated"
"""The regime of numbers in pairs: a long row with one large entry means nothing to what has no rows."""


def _paired(rng: np.random.Generator, item: Input, x: Values, other: Values, domain: Domain) -> Values:
    """Numbers at the distances `near` from others, and at the next ones before and after.

    The others are put on a grid first, so that float16 and wider formats hold the sums.
    """
    if domain in UNBOUNDED:
        other[...] = (np.round(8.0 * other.astype(np.float64)) / 8.0).astype(other.dtype)
    distance = rng.choice(item.near, x.shape) * rng.choice((-1.0, 1.0), x.shape)
    at = (other.astype(np.float64) + distance).astype(x.dtype)
    side = rng.integers(-1, 2, x.shape)
    below, above = (np.nextafter(at, x.dtype.type(end)) for end in (-np.inf, np.inf))
    return np.asarray(np.where(side < 0, below, np.where(side > 0, above, at)))


SEAMS = "dominated"
"""The regime in which an operator with seams meets them: of an elementwise one no entry dominates others."""


def make_example(
    spec: Spec, fmt: Format, shape: Shape, regime: str, settings: Mapping[str, Any], seed: Sequence[int]
) -> Example:
    """Build the example that these arguments determine, bit for bit."""
    rng = np.random.default_rng(seed)
    inputs: list[Values] = []
    sizes = all_sizes(spec, shape.sizes, settings)
    for item, dims in zip(spec.inputs, shape.inputs_of(spec, settings), strict=True):
        if not item.domain.is_floating:
            inputs.append(_of_its_own_kind(rng, item, dims, sizes, settings))
            continue
        key = (item.domain, item.differentiable)
        draw = _DRAWS[key].get(regime) or _OTHERWISE[key]
        if spec.seams and regime == SEAMS and item.domain is Domain.REAL:
            draw = partial(_around, spec.seams)
        if item.centred and regime == CENTRED_INSTEAD:
            draw = _offset
        if item.cancels and regime == ALL_ORDERS:
            draw = _subnormal
        drawn = np.asarray(draw(rng, dims, fmt, item))
        if item.domain in UNBOUNDED:
            drawn = np.clip(drawn, -reach(fmt, item), reach(fmt, item))
        inputs.append(np.asarray(drawn.astype(fmt.dtype)))
    for k, item in enumerate(spec.inputs):
        if item.near and regime == BESIDE:
            inputs[k] = _paired(rng, item, inputs[k], inputs[k + 1], spec.inputs[k + 1].domain)
    return Example(tuple(inputs), dict(settings), cotangent(spec, fmt, inputs, settings, rng), regime)


def _of_its_own_kind(
    rng: np.random.Generator,
    item: Input,
    dims: tuple[int, ...],
    sizes: Mapping[str, int],
    settings: Mapping[str, Any],
) -> Values:
    """Integers and masks, which no number format concerns."""
    if item.domain is Domain.MASK:
        return np.asarray(rng.random(dims) < 0.7)
    if item.domain is Domain.COUNT:
        return np.asarray(rng.choice((1, 2, 3, 10, 1000), dims))
    size = sizes[item.along]
    counted = np.asarray(rng.integers(size, size=dims))
    outside = settings.get(item.outside)
    if outside is None:
        return counted
    drawn = np.where(rng.random(dims) < 0.25, outside, counted)
    if drawn.size > 1 and size > 1 and (drawn == outside).all():  # something must be left
        drawn.flat[0] = (outside + 1) % size
    return drawn


COTANGENT_BITS: Mapping[str, int] = MappingProxyType(
    {"float64": 41, "float32": 15, "float16": 7, "bfloat16": 7}
)
"""More than any shorter format holds (float32 has 24, TF32 and float16 11, bfloat16 8), so that a cotangent
which is rounded to one shows. And fewer than the format's own by some: the sum of two is exact, and times a
gradient that is exactly representable in a few bits they do not end in an exact midpoint, which no working
precision could round."""


def cotangent(
    spec: Spec,
    fmt: Format,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> Any:
    """A cotangent of each output's shape: random signs, magnitudes in [1, 2) of `COTANGENT_BITS`."""
    one = 2 ** (COTANGENT_BITS[fmt.name] - 1)
    each = tuple(
        np.asarray(rng.choice((-1.0, 1.0), shape) * rng.integers(one, 2 * one, shape) / one).astype(fmt.dtype)
        for shape in output_shapes(spec, inputs, settings)
    )
    return each if len(each) > 1 else each[0]


def output_shapes(
    spec: Spec, inputs: Sequence[Values], settings: Mapping[str, Any]
) -> tuple[tuple[int, ...], ...]:
    """The shapes of the outputs: the axes of the signature, with `axis` and `reduction` applied."""
    if settings.get("reduction", "none") != "none":
        return ((),)
    if "axis" in settings:
        first = inputs[0].shape
        return (first if spec.output_axes[0] else tuple(np.delete(first, settings["axis"])),)
    batch, free = spec.sizes_of([x.shape for x in inputs])
    return spec.laid_out(1, batch, all_sizes(spec, free, settings))


# ------------------------------------------------------------------------------------------------ layouts


def _contiguous(x: Values) -> Values:
    return np.array(x, order="C")


def _column_major(x: Values) -> Values:
    """Fortran order: a candidate that walks the memory row by row transposes it."""
    return np.array(x, order="F")


def _strided(x: Values) -> Values:
    """Every second row of a buffer that begins one row early and holds poison in between."""
    poison: Any = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.nan  # True, of a mask
    buffer = np.full((2 * max(len(x), 1) + 1, *x.shape[1:]) if x.ndim else (3,), poison, x.dtype)
    if not x.ndim:
        buffer[1] = x
        return buffer[1:2].reshape(())
    view = buffer[1::2]
    view[...] = x
    return view


def _reversed(x: Values) -> Values:
    """Negative strides along every axis."""
    return np.flip(np.flip(x).copy()) if x.ndim else x.copy()


def _rolled(x: Values) -> Values:
    """The axes in another order than in memory: for three of them neither C nor Fortran order."""
    return np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if x.ndim else x.copy()


def _read_only(x: Values) -> Values:
    view = x.copy()
    view.flags.writeable = False
    return view


LAYOUTS: Mapping[str, Callable[[Values], Values]] = MappingProxyType(
    {
        "contiguous": _contiguous,
        "read-only": _read_only,
        "column-major": _column_major,
        "strided": _strided,
        "reversed": _reversed,
        "rolled": _rolled,
    }
)
"""Other arrays of the same values: how an array lies in memory is nobody's business."""


def laid_out(example: Example, layout: str) -> Example:
    """The same example in fresh arrays of another layout."""
    lay = LAYOUTS[layout]
    return replace(example, inputs=tuple(map(lay, example.inputs))).with_cotangents(lay)


# ------------------------------------------------------------------------------------------------ recipes


class Poke(NamedTuple):
    """One element set by hand: of which input, where (counted along the array, round and round), to what."""

    position: int
    at: int
    value: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that determines an example. It prints as the line that builds it again: `Recipe(...).build()`."""

    op: str
    format: str
    batch: tuple[int, ...]
    sizes: Mapping[str, int]
    regime: str
    settings: Mapping[str, Any]
    seed: int
    pokes: tuple[Poke, ...] = ()
    layout: str = "contiguous"

    def build(self) -> Example:
        """The example, bit for bit the same each time, in arrays of its own."""
        spec, fmt = SPECS[self.op], FORMATS[self.format]
        shape = Shape(self.batch, self.sizes)
        example = make_example(spec, fmt, shape, self.regime, self.settings, (self.seed,))
        for position, at, value in self.pokes:
            x = example.inputs[position].reshape(-1)
            if spec.inputs[position].domain is Domain.DISTRIBUTION:
                value = min(value, float(x[at % x.size]))  # the row must not sum to more than 1
            x[at % x.size] = value
        return laid_out(example, self.layout)
