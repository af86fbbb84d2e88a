"""Inputs made to hurt: one example of an operator's arguments, from a spec, a regime and a seed.

The same builder feeds the Hypothesis strategies and the plan of a conformance check, so that an example
found by one can be replayed by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from specs import SPECS, Domain, Input, Spec
from verify.arithmetic.formats import FORMATS, Format

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """The batch axes, and the sizes of the named axes of a signature."""

    batch: tuple[int, ...]
    sizes: Mapping[str, int]

    def of(self, axes: Sequence[str]) -> tuple[int, ...]:
        return (*self.batch, *(self.sizes[axis] for axis in axes))


@dataclass(frozen=True, slots=True)
class Example:
    """One call: the inputs, the settings, and a cotangent for the output."""

    inputs: tuple[Values, ...]
    settings: Mapping[str, Any]
    dy: Values
    regime: str

    @property
    def axis(self) -> int:
        """The axis along which rows lie."""
        return int(self.settings.get("axis", -1))

    def with_inputs(self, *inputs: Values) -> Example:
        return replace(self, inputs=inputs)

    def with_settings(self, **settings: Any) -> Example:
        return replace(self, settings={**self.settings, **settings})


# --------------------------------------------------------------------------------- regimes, by the domain

Draw = Callable[[np.random.Generator, tuple[int, ...], Format, Input], npt.NDArray[np.float64]]


def reach(fmt: Format, item: Input) -> float:
    """A magnitude up to which no honest computation overflows: a power of two, which every format holds.

    Of degree d, one term is at most (2 r)^d: two inputs of opposite signs may be subtracted first. 64 of
    them may be added: 64 (2 r)^d <= 2^8 r^d <= 2^emax, for d <= 2.
    """
    return float(2.0 ** ((fmt.emax - 8) // item.degree))


def _exponents(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Any:
    return rng.choice((-1.0, 1.0), shape) * np.exp2(rng.uniform(low, high, shape))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.standard_normal(shape)


def _small(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.standard_normal(shape) * float(fmt.unit_roundoff)


def _saturating(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """Where an exponential leaves the format: beyond log(largest), on both sides."""
    edge = 1.5 * np.log(float(fmt.largest))
    return rng.uniform(-edge, edge, shape)


def _dominated(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """One entry of a row far above the rest, so that its probability rounds to 1."""
    x = rng.standard_normal(shape)
    if shape:
        top = rng.integers(shape[-1], size=shape[:-1])
        np.put_along_axis(x, np.asarray(top)[..., None], rng.uniform(20.0, 60.0), axis=-1)
    return x


def _huge(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.uniform(-1.0, 1.0, shape) * reach(fmt, item)


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.integers(-8, 9, shape) * float(fmt.smallest_subnormal)


def _mixed(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """All binary orders of magnitude alike."""
    return _exponents(rng, shape, 0.9 * fmt.emin, np.log2(reach(fmt, item)))


def _ties(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.choice((-1.0, -0.0, 0.0, 1.0), shape)


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
    "small": _small,
    "saturating": _saturating,
    "dominated": _dominated,
    "ties": _ties,
    "mixed": _mixed,
    "huge": _huge,
    "subnormal": _subnormal,
}
REGIMES = tuple(REAL_REGIMES)
"""The regimes in the order of a plan: the first of them are the ones that a quick check must have."""

_DRAWS: Mapping[tuple[Domain, bool], Mapping[str, Draw]] = {
    (Domain.REAL, True): REAL_REGIMES,
    (Domain.REAL, False): REAL_REGIMES,
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
    (Domain.PROBABILITY, True): _probability,
    (Domain.PROBABILITY, False): _certain,
    (Domain.DISTRIBUTION, True): _weights,
    (Domain.DISTRIBUTION, False): _one_hot,
    (Domain.SIGN, False): _signs,
}

UNBOUNDED = (Domain.REAL, Domain.LOG_PROBABILITY)
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


def make_example(
    spec: Spec, fmt: Format, shape: Shape, regime: str, settings: Mapping[str, Any], seed: Sequence[int]
) -> Example:
    """Build the example that these arguments determine, bit for bit."""
    rng = np.random.default_rng(seed)
    inputs: list[Values] = []
    for item, axes in zip(spec.inputs, spec.core_axes, strict=True):
        if item.domain is Domain.LABEL:
            inputs.append(np.asarray(rng.integers(shape.sizes["c"], size=shape.of(axes))))
            continue
        key = (item.domain, item.differentiable)
        draw = _DRAWS[key].get(regime) or _OTHERWISE[key]
        drawn = np.asarray(draw(rng, shape.of(axes), fmt, item))
        if item.domain in UNBOUNDED:
            drawn = np.clip(drawn, -reach(fmt, item), reach(fmt, item))
        inputs.append(np.asarray(drawn.astype(fmt.dtype)))
    for k, item in enumerate(spec.inputs):
        if item.near and regime == BESIDE:
            inputs[k] = _paired(rng, item, inputs[k], inputs[k + 1], spec.inputs[k + 1].domain)
    return Example(tuple(inputs), dict(settings), cotangent(spec, fmt, inputs, settings, rng), regime)


def cotangent(
    spec: Spec,
    fmt: Format,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> Values:
    """A cotangent of the output's shape: random signs, multiples of 1/64 with magnitudes in [1, 2).

    Seven bits: the sum of two is exact in every format, and so few bits times a gradient that is exactly
    representable do not end in an exact midpoint, which no working precision could round.
    """
    shape = output_shape(spec, inputs, settings)
    return np.asarray(rng.choice((-1.0, 1.0), shape) * rng.integers(64, 128, shape) / 64.0).astype(fmt.dtype)


def output_shape(spec: Spec, inputs: Sequence[Values], settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the output: batch and core axes of the signature, with `axis` and `reduction` applied."""
    if settings.get("reduction", "none") != "none":
        return ()
    _, _, output = spec.signature.partition("->")
    out = tuple(filter(None, output.strip("()").split(",")))
    sizes: dict[str, int] = {}
    for x, axes in zip(inputs, spec.core_axes, strict=True):
        sizes.update(zip(axes, x.shape[x.ndim - len(axes) :], strict=True))
    first, axes = inputs[0], spec.core_axes[0]
    if "axis" in settings:
        return first.shape if out else tuple(np.delete(first.shape, settings["axis"]))
    return (*first.shape[: first.ndim - len(axes)], *(sizes[axis] for axis in out))


# ------------------------------------------------------------------------------------------------ layouts


def _contiguous(x: Values) -> Values:
    return np.array(x, order="C")


def _column_major(x: Values) -> Values:
    """Fortran order: a candidate that walks the memory row by row transposes it."""
    return np.array(x, order="F")


def _strided(x: Values) -> Values:
    """Every second row of a buffer that begins one row early and holds poison in between."""
    poison: Any = np.nan if x.dtype.kind not in "iu" else np.iinfo(x.dtype).max
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
    return replace(example, inputs=tuple(map(lay, example.inputs)), dy=lay(example.dy))


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
