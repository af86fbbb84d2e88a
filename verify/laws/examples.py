"""Inputs made to hurt: one example of an operator's arguments, from a spec, a regime and a seed.

The same builder feeds the Hypothesis strategies and the plan of a conformance check, so that an example
found by one can be replayed by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from specs import Domain, Input, Spec
from verify.arithmetic.formats import Format

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

    def with_inputs(self, *inputs: Values) -> Example:
        return replace(self, inputs=inputs)

    def with_settings(self, **settings: Any) -> Example:
        return replace(self, settings={**self.settings, **settings})


# --------------------------------------------------------------------------------- regimes, by the domain

Draw = Callable[[np.random.Generator, tuple[int, ...], Format, Input], npt.NDArray[np.float64]]


def _reach(fmt: Format, item: Input) -> float:
    """The largest magnitude at which no honest computation of up to 64 terms overflows."""
    return float(float(fmt.largest) / 64.0) ** (1.0 / item.degree)


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
    return rng.uniform(-1.0, 1.0, shape) * _reach(fmt, item)


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    return rng.integers(-8, 9, shape) * float(fmt.smallest_subnormal)


def _mixed(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, item: Input) -> Any:
    """All binary orders of magnitude alike."""
    return _exponents(rng, shape, 0.9 * fmt.emin, np.log2(_reach(fmt, item)))


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
}  # fmt: skip
_OTHERWISE: Mapping[tuple[Domain, bool], Draw] = {
    (Domain.PROBABILITY, True): _probability,
    (Domain.PROBABILITY, False): _certain,
    (Domain.DISTRIBUTION, True): _weights,
    (Domain.DISTRIBUTION, False): _one_hot,
}


def make_example(
    spec: Spec, fmt: Format, shape: Shape, regime: str, settings: Mapping[str, Any], seed: Sequence[int]
) -> Example:
    """Build the example that these arguments determine, bit for bit."""
    rng = np.random.default_rng(seed)
    inputs: list[Values] = []
    for item, axes in zip(spec.inputs, spec.core_axes, strict=True):
        if item.domain is Domain.LABEL:
            inputs.append(rng.integers(shape.sizes["c"], size=shape.of(axes)))
            continue
        key = (item.domain, item.differentiable)
        draw = _DRAWS[key].get(regime) or _OTHERWISE[key]
        inputs.append(np.asarray(draw(rng, shape.of(axes), fmt, item)).astype(fmt.dtype))
    return Example(tuple(inputs), dict(settings), cotangent(spec, fmt, inputs, settings, rng), regime)


def cotangent(
    spec: Spec,
    fmt: Format,
    inputs: Sequence[Values],
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> Values:
    """A cotangent of the output's shape: magnitudes in [1, 2), random signs, never constant."""
    shape = output_shape(spec, inputs, settings)
    return np.asarray(rng.choice((-1.0, 1.0), shape) * (1.0 + rng.random(shape))).astype(fmt.dtype)


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
