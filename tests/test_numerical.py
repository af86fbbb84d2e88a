"""Numerical derivatives: the error bar covers the true error, and no derivative comes with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from flint import arb, ctx

from verify.gradients import Estimate, numerical_vjp
from verify.gradients.arrays import snap
from verify.gradients.ladder import exponents

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator], Array]

erf = np.vectorize(math.erf, otypes=[np.float64])


def _normal(scale: float) -> Draw:
    return lambda rng: np.asarray(scale * rng.standard_normal(6))


def _positive(low: float, high: float) -> Draw:
    return lambda rng: np.asarray(np.exp(rng.uniform(math.log(low), math.log(high), 6)))


def _float32(draw: Draw) -> Draw:
    return lambda rng: draw(rng).astype(np.float32)


def _mixed(rng: np.random.Generator) -> Array:
    """Magnitudes from 1e-12 to 1e12 side by side."""
    return np.asarray(rng.choice([-1.0, 1.0], 13) * rng.uniform(1, 2, 13) * 10.0 ** np.arange(-12, 13, 2))


def _sigmoid(x: Array) -> Array:
    t = np.exp(-abs(x))
    return np.asarray(np.where(x < 0, t, 1) / (1 + t))


def _gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))))


def _gelu_slope(x: arb) -> arb:
    return (1 + (x / arb(2).sqrt()).erf()) / 2 + x * (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


def _sigmoid_slope(x: arb) -> arb:
    return (-abs(x)).exp() / (1 + (-abs(x)).exp()) ** 2


class Known(NamedTuple):
    """An elementwise function, its derivative on balls, and where."""

    f: Callable[[Array], Array]
    derivative: Callable[[arb], arb]
    draw: Draw


KNOWN = {
    "exp": Known(np.exp, lambda x: x.exp(), _normal(1)),
    "exp far out": Known(np.exp, lambda x: x.exp(), _normal(100)),
    "sin": Known(np.sin, lambda x: x.cos(), _normal(1)),
    "sin(50 x)": Known(lambda x: np.sin(50 * x), lambda x: 50 * (50 * x).cos(), _normal(1)),
    "sin(1e6 x)": Known(lambda x: np.sin(1e6 * x), lambda x: 10**6 * (10**6 * x).cos(), _normal(1)),
    "1e6 + sin(x)": Known(lambda x: 1e6 + np.sin(x), lambda x: x.cos(), _normal(1)),
    "arctan(1e3 x)": Known(lambda x: np.arctan(1e3 * x), lambda x: 1000 / (1 + 10**6 * x * x), _normal(0.01)),
    "reciprocal": Known(lambda x: 1 / x, lambda x: -1 / x**2, _normal(1)),
    "log": Known(np.log, lambda x: 1 / x, _positive(1e-9, 1e9)),
    "sqrt": Known(np.sqrt, lambda x: 1 / (2 * x.sqrt()), _positive(1e-9, 1e9)),
    "x^7": Known(lambda x: x**7, lambda x: 7 * x**6, _normal(3)),
    "x^2 - 1e8": Known(lambda x: x * x - 1e8, lambda x: 2 * x, _normal(1)),
    "3 x - 1": Known(lambda x: 3 * x - 1, lambda x: arb(3), _normal(1)),
    "a rational": Known(lambda x: x / (1 + x * x), lambda x: (1 - x * x) / (1 + x * x) ** 2, _normal(2)),
    "(1 - cos(x)) / x": Known(
        lambda x: (1 - np.cos(x)) / x, lambda x: x.sin() / x - (1 - x.cos()) / x**2, _normal(1e-3)
    ),
    "tanh": Known(np.tanh, lambda x: 1 / x.cosh() ** 2, _normal(3)),
    "tanh, tails": Known(np.tanh, lambda x: 1 / x.cosh() ** 2, _normal(30)),
    "tanh, mixed scales": Known(np.tanh, lambda x: 1 / x.cosh() ** 2, _mixed),
    "1 - tanh(x), tails": Known(lambda x: 1 - np.tanh(x), lambda x: -1 / x.cosh() ** 2, _normal(30)),
    "sigmoid, tails": Known(_sigmoid, _sigmoid_slope, _normal(200)),
    "sigmoid, mixed scales": Known(_sigmoid, _sigmoid_slope, _mixed),
    "gelu": Known(_gelu, _gelu_slope, _normal(1)),
    "gelu, tails": Known(_gelu, _gelu_slope, _normal(10)),
    "x^2, mixed scales": Known(np.square, lambda x: 2 * x, _mixed),
    "x + 1, tiny": Known(lambda x: x + 1, lambda x: arb(1), _normal(1e-12)),
    "x + 1e-8 sin(1e12 x), tiny": Known(
        lambda x: x + 1e-8 * np.sin(1e12 * x),
        lambda x: 1 + (arb(1e-8) * 10**12) * (10**12 * x).cos(),
        _normal(1e-6),
    ),
    "x^2, huge": Known(np.square, lambda x: 2 * x, _normal(1e150)),
    "x^2, subnormal": Known(np.square, lambda x: 2 * x, _normal(1e-310)),
    "float32 exp": Known(np.exp, lambda x: x.exp(), _float32(_normal(1))),
    "float32 sin(50 x)": Known(
        lambda x: np.sin(np.float32(50) * x), lambda x: 50 * (50 * x).cos(), _float32(_normal(1))
    ),
    "float32 sin(1e4 x)": Known(
        lambda x: np.sin(np.float32(1e4) * x), lambda x: 10**4 * (10**4 * x).cos(), _float32(_normal(1))
    ),
    "float32 sin(1e6 x)": Known(
        lambda x: np.sin(np.float32(1e6) * x), lambda x: 10**6 * (10**6 * x).cos(), _float32(_normal(0.01))
    ),
    "float32 tanh, tails": Known(np.tanh, lambda x: 1 / x.cosh() ** 2, _float32(_normal(10))),
    "float32 x^2, mixed scales": Known(np.square, lambda x: 2 * x, _float32(_mixed)),
    "float32 1000 + sin(x)": Known(
        lambda x: np.float32(1000) + np.sin(x), lambda x: x.cos(), _float32(_normal(1))
    ),
    "computed in float32": Known(
        lambda x: np.exp(x.astype(np.float32)).astype(np.float64), lambda x: x.exp(), _normal(1)
    ),
}


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _gradient(f: Callable[..., Any], x: Array) -> Estimate:
    """The derivative of an elementwise function."""
    return numerical_vjp(f, [x], np.ones(x.shape))[0]


@pytest.mark.parametrize("name", KNOWN)
def test_the_error_bar_covers_the_true_error(name: str) -> None:
    f, derivative, draw = KNOWN[name]
    for seed in range(4):
        estimate = _gradient(f, draw(_generator(seed)))
        assert not (estimate.reason == "kink").any()
        ctx.prec = 2400  # sums with 1e-310 are exact
        for x, value, error in zip(estimate.point, estimate.value, estimate.error, strict=True):
            if math.isfinite(error):
                truth = derivative(arb(float(x)))
                assert abs(arb(float(value)) - truth) <= arb(float(error)), (seed, x, value, error, truth)


def test_the_error_bar_is_small_where_nothing_is_hard() -> None:
    for name in ("exp", "sin", "log", "sqrt", "tanh, mixed scales", "a rational"):
        f, derivative, draw = KNOWN[name]
        estimate = _gradient(f, draw(_generator(0)))
        truths = np.array([float(derivative(arb(float(x)))) for x in estimate.point])
        # half of the digits of the largest: what gradcheck needs for a pass
        assert (estimate.error <= math.sqrt(2.0**-53) * abs(truths).max()).all(), (name, estimate)


# f, the point, the reason, and the middle and half width of the interval at a kink
SPECIAL: dict[str, tuple[Callable[[Array], Any], float, str, float, float]] = {
    "relu at 0": (lambda x: np.maximum(x, 0), 0.0, "kink", 0.5, 0.5),
    "abs at 0": (abs, 0.0, "kink", 0.0, 1.0),
    "leaky relu at 0": (lambda x: np.where(x > 0, x, 0.25 * x), 0.0, "kink", 0.625, 0.375),
    "clip at its end": (lambda x: np.clip(x, -1, 1), 1.0, "kink", 0.5, 0.5),
    "a small kink under a sine": (lambda x: np.sin(x) + 1e-6 * abs(x), 0.0, "kink", 1.0, 1e-6),
    "floor at 1": (np.floor, 1.0, "noise", math.nan, math.inf),
    "sign at 0": (np.sign, 0.0, "noise", math.nan, math.inf),
    "one point away": (lambda x: np.where(x == 0, 1.0, 0.0), 0.0, "noise", math.nan, math.inf),
    "an infinite slope": (np.cbrt, 0.0, "noise", math.nan, math.inf),
    "a cusp": (lambda x: np.sqrt(abs(x)), 0.0, "noise", math.nan, math.inf),
    "an oscillation": (lambda x: np.sin(1 / np.where(x == 0, 1, x)), 0.0, "noise", math.nan, math.inf),
    "a jump among tiny numbers": (lambda x: x + 1e-9 * (x > 2.0**-20), 2.0**-20, "noise", math.nan, math.inf),
    "narrower than any step": (lambda x: np.tanh(1e300 * x), 0.0, "noise", math.nan, math.inf),
    "log at 0": (np.log, 0.0, "domain edge", math.nan, math.inf),
    "sqrt at 0": (np.sqrt, 0.0, "domain edge", math.nan, math.inf),
    "log of a negative number": (np.log, -1.0, "domain edge", math.nan, math.inf),
    "NaN": (np.square, math.nan, "domain edge", math.nan, math.inf),
    "infinity": (np.tanh, math.inf, "domain edge", math.nan, math.inf),
    "overflow": (np.exp, 1e3, "domain edge", math.nan, math.inf),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_where_there_is_no_derivative_the_reason_is_named(name: str) -> None:
    f, x, reason, middle, width = SPECIAL[name]
    estimate = _gradient(f, np.array([x]))
    assert estimate.reason.tolist() == [reason], estimate
    if reason == "kink":
        assert abs(estimate.value[0] - middle) <= estimate.error[0] - width
        assert estimate.error[0] <= width * (1 + math.sqrt(2.0**-53))
    else:
        assert math.isnan(estimate.value[0])
        assert estimate.error[0] == math.inf


def test_a_function_that_raises_beside_the_point_has_an_edge_there() -> None:
    def f(x: Array) -> Array:
        if (x > 1).any():
            raise ValueError("beyond 1")
        return x * x

    assert _gradient(f, np.array([1.0])).reason.tolist() == ["domain edge"]
    inside = _gradient(f, np.array([0.875]))  # steps beyond the edge are left out
    assert abs(inside.value[0] - 1.75) <= inside.error[0]
    with pytest.raises(ValueError, match="beyond 1"):
        numerical_vjp(f, [np.array([2.0])], np.ones(1))


def test_the_sums_of_a_vjp_are_covered_too() -> None:
    x, w = _generator(0).standard_normal((3, 4)), _generator(1).standard_normal((4, 2))
    dy = _generator(2).standard_normal((3, 2))
    estimates = numerical_vjp(lambda x, w: x @ w, [x, w], dy)
    x, w = snap(x), snap(w)
    for estimate, terms in zip(
        estimates,
        (dy[:, None, :] * w, np.swapaxes(x[:, :, None] * dy[:, None, :], 0, 2).swapaxes(0, 1)),
        strict=True,
    ):
        # the products are rounded once each, and their sum is exact
        truth = np.array([math.fsum(t) for t in terms.reshape(-1, terms.shape[-1])]).reshape(terms.shape[:-1])
        rounding = 2.0**-53 * abs(terms).sum(axis=-1)
        assert (abs(estimate.value - truth) <= estimate.error + rounding).all()


def test_a_snapped_point_is_near_and_its_steps_are_exact() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        info = np.finfo(dtype)
        x = np.concatenate(
            [_generator(0).standard_normal(100), [0, 1, 3, -7, float(info.max) / 2, float(info.tiny)]]
        )
        x = x.astype(dtype)
        snapped = snap(x)
        assert (abs(snapped - x) <= 3 * np.spacing(abs(x))).all()
        assert (abs(snapped) <= abs(x)).all()
        assert (snapped[100:104] == x[100:104]).all()
        for point in snapped[:-2].tolist():
            scale = math.ldexp(1.0, math.frexp(point)[1] - 1) if point else 1.0
            for step in [
                float(s * h * scale) for h in 2.0 ** -exponents(info.nmant + 1) for s in (1.0, -1.5)
            ]:
                moved = dtype(point) + dtype(step)
                assert Fraction(float(moved)) == Fraction(point) + Fraction(step)


def test_the_same_call_gives_the_same_bits_and_leaves_its_inputs_alone() -> None:
    x = _generator(0).standard_normal(5)
    before = x.copy()
    first, second = (_gradient(np.sin, x) for _ in range(2))
    assert first.value.tobytes() == second.value.tobytes()
    assert first.error.tobytes() == second.error.tobytes()
    assert x.tobytes() == before.tobytes()


def test_a_wrong_cotangent_and_a_wrong_output_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dy has shapes \[\(3,\)\]; the output has \[\(2,\)\]"):
        numerical_vjp(np.sin, [np.ones(2)], np.ones(3))
    with pytest.raises(TypeError, match="f returns a NoneType; required: a floating array"):
        numerical_vjp(lambda x: None, [np.ones(2)], np.ones(2))
