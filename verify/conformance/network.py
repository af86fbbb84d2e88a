"""The functions of a whole network: their cases, what they should return, and how far off they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

import specs.network
import specs.optimizers
from refnet import linear, relu, softmax_cross_entropy_with_integer_labels
from specs import SPECS
from verify.arithmetic.bounds import Bounded, ErrorBound, cover, granted_model
from verify.arithmetic.certified import certify, certify_vjp
from verify.arithmetic.formats import FLOAT64, Format, Truth, ulp

Values = npt.NDArray[Any]

SIZES = ((5, 4, 3), (3, 6, 2), (4, 3, 5, 3), (2, 3), (6, 1, 4))
"""The widths of the layers: one hidden layer, two, none, one of a single neuron."""

BATCHES = (3, 1, 5, 2)

LEARNING_RATES = (0.125, 0.5, 0.0078125)
"""Powers of two, so that the learning rate is the same number in every format."""


@dataclass(frozen=True, slots=True)
class NetworkCase:
    """One call of a network function, and its results in the order in which they are flattened."""

    arguments: tuple[Any, ...]
    settings: Mapping[str, float]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self) -> dict[str, Any]:
        return {f"argument {k}": item for k, item in enumerate(self.arguments)}


@dataclass(frozen=True, slots=True)
class NetworkFunction:
    """`make` draws a case; `expect` gives the truth and the bound of each of its results."""

    aspect: str
    make: Callable[[np.random.Generator, Format, int], NetworkCase]
    expect: Callable[[NetworkCase, Format], Sequence[tuple[Truth, ErrorBound]]]


def network_case(name: str, fmt: Format, number: int, seed: int) -> NetworkCase:
    """The case of this number, reproduced by the number and the seed alone."""
    rng = np.random.default_rng((seed, crc32(name.encode()), fmt.precision, number))
    return NETWORK_FUNCTIONS[name].make(rng, fmt, number)


# ------------------------------------------------------------------------------------------------- cases


def _parameters(rng: np.random.Generator, fmt: Format, sizes: Sequence[int]) -> list[tuple[Values, Values]]:
    return [
        (rng.standard_normal((k, m)).astype(fmt.dtype), rng.standard_normal(m).astype(fmt.dtype))
        for k, m in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def _flat(params: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [array for layer in params for array in layer]


def _names(params: Sequence[Any], prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{kind}{k}" for k in range(len(params)) for kind in ("w", "b"))


def _network(rng: np.random.Generator, fmt: Format, number: int) -> tuple[Any, Values, Values]:
    sizes, batch = SIZES[number % len(SIZES)], BATCHES[number % len(BATCHES)]
    params = _parameters(rng, fmt, sizes)
    x = rng.standard_normal((batch, sizes[0])).astype(fmt.dtype)
    return params, x, rng.integers(sizes[-1], size=batch)


def _make_mlp(rng: np.random.Generator, fmt: Format, number: int) -> NetworkCase:
    params, x, _ = _network(rng, fmt, number)
    return NetworkCase((x, params), {}, ("z",), ((len(x), len(params[-1][1])),))


def _make_gradients(rng: np.random.Generator, fmt: Format, number: int) -> NetworkCase:
    params, x, labels = _network(rng, fmt, number)
    shapes = tuple(array.shape for array in _flat(params))
    return NetworkCase((params, x, labels), {}, _names(params, "d"), shapes)


def _make_epoch(rng: np.random.Generator, fmt: Format, number: int) -> NetworkCase:
    params, x, labels = _network(rng, fmt, number)
    shapes = tuple(array.shape for array in _flat(params))
    settings = {"learning_rate": LEARNING_RATES[number % len(LEARNING_RATES)] / 4}
    return NetworkCase((params, x, labels), settings, _names(params, ""), shapes)


def _make_step(rng: np.random.Generator, fmt: Format, number: int) -> NetworkCase:
    shape = (3, 5) if number % 2 else (7,)
    scale = 2.0 ** rng.integers(-20, 21, shape)
    param = (rng.standard_normal(shape) * scale).astype(fmt.dtype)
    grad = (rng.standard_normal(shape) * rng.permutation(scale.ravel()).reshape(shape)).astype(fmt.dtype)
    settings = {"learning_rate": LEARNING_RATES[number % len(LEARNING_RATES)]}
    return NetworkCase((param, grad), settings, ("param",), (shape,))


# ------------------------------------------------------------------------------- the truth and its bounds


def _bounded(arrays: Sequence[Values], fmt: Format, statistical: bool) -> list[Bounded]:
    model = granted_model(fmt, statistical, flush_to_zero=True)
    return [Bounded(a.astype(np.float64), 0.0, model) for a in arrays]


def _layers(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _forward(x: Any, params: Sequence[tuple[Any, Any]]) -> tuple[Any, list[Any]]:
    """The operators of the network in turn, with their residuals."""
    residuals: list[Any] = []
    for number, (w, b) in enumerate(params):
        if number:
            x, kept = relu.forward(x)
            residuals.append(kept)
        x, kept = linear.forward(x, w, b)
        residuals.append(kept)
    return x, residuals


def _gradients(x: Any, labels: Values, params: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The gradients of the mean loss; the slope of the loss has the bound of the loosest of its forms."""
    loss = softmax_cross_entropy_with_integer_labels
    z, residuals = _forward(x, params)
    one: Any = Bounded(1.0, 0.0, z.model)
    value, kept = loss.forward(z, labels)
    slope: Any = loss.backward(kept, one).z
    for form in SPECS[loss.name].forms:
        if form.vjp is not None:
            slope = cover(slope, form.vjp(one, value, z, labels)[0])
    gradients: list[Any] = []
    for number in range(len(params) - 1, -1, -1):
        layer = linear.backward(residuals[2 * number], slope)
        gradients = [layer.w, layer.b, *gradients]
        if number:
            slope = relu.backward(residuals[2 * number - 1], layer.x).x
    return gradients


def _both_models(run: Callable[[bool], Sequence[Bounded]]) -> list[ErrorBound]:
    with np.errstate(all="ignore"):
        return [ErrorBound(d.error, s.error) for d, s in zip(run(False), run(True), strict=True)]


def _expect_mlp(case: NetworkCase, fmt: Format) -> list[tuple[Truth, ErrorBound]]:
    x, params = case.arguments

    def run(statistical: bool) -> list[Any]:
        inner = _bounded([x, *_flat(params)], fmt, statistical)
        return [_forward(inner[0], _layers(inner[1:]))[0]]

    truth = certify(specs.network.mlp, (x, *_flat(params)), fmt, {})
    return list(zip([truth], _both_models(run), strict=True))


def _expect_gradients(case: NetworkCase, fmt: Format) -> list[tuple[Truth, ErrorBound]]:
    params, x, labels = case.arguments
    flat = _flat(params)

    def run(statistical: bool) -> list[Any]:
        inner = _bounded([x, *flat], fmt, statistical)
        return _gradients(inner[0], labels, _layers(inner[1:]))

    one = np.ones((), fmt.dtype)
    where = tuple(range(2, 2 + len(flat)))
    truths = certify_vjp(specs.network.mlp_loss, (x, labels, *flat), where, one, fmt, {})
    return list(zip(truths, _both_models(run), strict=True))


def _expect_epoch(case: NetworkCase, fmt: Format) -> list[tuple[Truth, ErrorBound]]:
    """The steps by hand, in float64 with their own bound: what the oracle does not know is granted too."""
    params, x, labels = case.arguments
    flat, rate = _flat(params), case.settings["learning_rate"]

    def run(inner_format: Format, statistical: bool) -> list[Any]:
        xs, *inner = _bounded([x, *flat], inner_format, statistical)
        for sample in range(len(x)):
            one = slice(sample, sample + 1)
            steps = _gradients(xs[one], labels[one], _layers(inner))
            inner = [p - rate * g for p, g in zip(inner, steps, strict=True)]
        return inner

    granted = _both_models(lambda statistical: run(fmt, statistical))
    with np.errstate(all="ignore"):
        oracle = run(FLOAT64, False)
    return [
        (
            _truth_of(value.value, fmt),
            ErrorBound(bound.deterministic + value.error, bound.statistical + value.error),
        )
        for value, bound in zip(oracle, granted, strict=True)
    ]


def _truth_of(values: npt.NDArray[np.float64], fmt: Format) -> Truth:
    """Numbers that float64 holds, as the truth for a format that is no wider."""
    nearest = values.astype(fmt.dtype)
    return Truth(nearest, np.asarray((values - nearest) / ulp(nearest, fmt), dtype=np.float64))


def _expect_step(case: NetworkCase, fmt: Format) -> list[tuple[Truth, ErrorBound]]:
    param, grad = case.arguments
    rate = case.settings["learning_rate"]

    def run(statistical: bool) -> list[Any]:
        p, g = _bounded([param, grad], fmt, statistical)
        return [p - rate * g]

    settings = {"learning_rate": Fraction(rate)}
    truth = certify(specs.optimizers.sgd_step, (param, grad), fmt, settings)
    return list(zip([truth], _both_models(run), strict=True))


NETWORK_FUNCTIONS: Mapping[str, NetworkFunction] = MappingProxyType(
    {
        "sgd_step": NetworkFunction("step", _make_step, _expect_step),
        "mlp": NetworkFunction("value", _make_mlp, _expect_mlp),
        "mlp_gradients": NetworkFunction("value", _make_gradients, _expect_gradients),
        "sgd_epoch": NetworkFunction("epoch", _make_epoch, _expect_epoch),
    }
)
"""The functions of the contract that take a whole network, or step its parameters."""
