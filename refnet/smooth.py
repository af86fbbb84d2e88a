"""Smooth elementwise activations: soft signs, soft pluses, and the gates x times a cumulative distribution.

For negative x these gates are x times something that decays like an exponential, and their gradients too.
Every digit of that tail is kept: with e = exp(x / 2) the tail of x e^2 is (x e) e, which leaves the normal
numbers where the result does, and not where e^2 does.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

from refnet.activations import ElementwiseGradients
from refnet.op import ArgumentError, Array, Op, validate_number
from refnet.piecewise import InputResiduals

__all__ = ["gelu", "log_sigmoid", "mish", "silu", "softplus", "softsign"]

# ---------------------------------------------------------------------------------------------- softsign


def _softsign(x: Array) -> tuple[Array, InputResiduals]:
    """y = x / (1 + |x|). Any shape; -1 and 1 at the infinities, where the quotient is NaN."""
    y: Array = np.where(np.isinf(x), np.sign(x), x / (1.0 + np.abs(x)))
    return y, InputResiduals(x)


def _softsign_backward(residuals: InputResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy / (1 + |x|)^2, one division after the other: the square overflows at x = 1e160, where the
    gradient is 1e-320.
    """
    size: Array = 1.0 + np.abs(residuals.x)
    return ElementwiseGradients(dy / size / size)


softsign = Op("softsign", "(...)->(...)", ("x",), _softsign, _softsign_backward)

# ------------------------------------------------------------------------------------------- log sigmoid


class LogSigmoidResiduals(NamedTuple):
    x: Array
    decay: Array
    """exp(-|x|)."""


def _log_sigmoid(x: Array) -> tuple[Array, LogSigmoidResiduals]:
    """y = log(1 / (1 + exp(-x))) = min(x, 0) - log1p(exp(-|x|)). Any shape; minus infinity at minus infinity,
    0 at infinity.

    The logarithm of the rounded sigmoid is 0 at x = 40, where the answer is -4.2e-18.
    """
    decay: Array = np.exp(-np.abs(x))
    y: Array = np.minimum(x, 0.0) - np.log1p(decay)
    return y, LogSigmoidResiduals(x, decay)


def _log_sigmoid_backward(residuals: LogSigmoidResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy (1 - sigmoid(x)), taken as dy sigmoid(-x): the difference is 0 at x = 40."""
    x, decay = residuals
    dx: Array = dy * np.where(x < 0, 1.0, decay) / (1.0 + decay)
    return ElementwiseGradients(dx)


log_sigmoid = Op("log_sigmoid", "(...)->(...)", ("x",), _log_sigmoid, _log_sigmoid_backward)

# ---------------------------------------------------------------------------------------------- softplus


class SoftplusResiduals(NamedTuple):
    x: Array
    decay: Array
    """exp(-|beta x|)."""


def _softplus(x: Array, *, beta: float = 1.0) -> tuple[Array, SoftplusResiduals]:
    """y = log(1 + exp(beta x)) / beta = max(x, 0) + log1p(exp(-|beta x|)) / beta, for beta > 0. Any shape; 0
    at minus infinity, infinity at infinity.

    log(1 + exp(x)) overflows at x = 710 and is 0 at x = -40, where the answer is 4.2e-18. There is no
    threshold beyond which y = x: at x = 21 that is off by 7.6e-10.
    """
    beta = validate_number("softplus", "beta", beta, x.dtype, positive=True)
    decay: Array = np.exp(-beta * np.abs(x))
    y: Array = np.maximum(x, 0.0) + np.log1p(decay) / beta
    return y, SoftplusResiduals(x, decay)


def _softplus_backward(residuals: SoftplusResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy sigmoid(beta x)."""
    x, decay = residuals
    dx: Array = dy * np.where(x < 0, decay, 1.0) / (1.0 + decay)
    return ElementwiseGradients(dx)


softplus = Op("softplus", "(...)->(...)", ("x",), _softplus, _softplus_backward)

# -------------------------------------------------------------------------------------- silu, and the like


class GateResiduals(NamedTuple):
    x: Array
    root: Array
    """exp(-|v| / 2), the root of the tail of the sigmoid of v."""


def _bounded_input(x: Array, root: Array) -> Array:
    """x where the tail is above 0, and 0 beyond: infinity times 0 is NaN."""
    inner: Array = np.where(np.equal(root, 0.0), 0.0, x)
    return inner


def _gated(x: Array, root: Array) -> Array:
    """x sigmoid(v), v of the sign of x: with t = exp(-|v|), x t / (1 + t) below 0 and x / (1 + t) above."""
    inner = _bounded_input(x, root)
    y: Array = np.where(x < 0, inner * root * root, x) / (1.0 + root * root)
    return y


def _gated_backward(x: Array, inner: Array, root: Array, dy: Array) -> Array:
    """dx = dy s (1 + (1 - s) inner) with s = sigmoid(v) and inner = x dv/dx.

    Below 0, s = t / (1 + t) and 1 - s = 1 / (1 + t), the other way round above: with no difference from 1,
    dy t (1 + t + inner) / (1 + t)^2 and dy (1 + t + t inner) / (1 + t)^2.
    """
    decay: Array = root * root
    below: Array = dy * root * (1.0 + decay + inner) * root
    above: Array = dy * (1.0 + decay + inner * root * root)
    dx: Array = np.where(x < 0, below, above) / ((1.0 + decay) * (1.0 + decay))
    return dx


def _silu(x: Array) -> tuple[Array, GateResiduals]:
    """y = x sigmoid(x) = x / (1 + exp(-x)). Any shape; 0 at minus infinity, infinity at infinity.

    exp(-x) overflows at x = -710, where the answer is -3.2e-306.
    """
    root: Array = np.exp(-0.5 * np.abs(x))
    return _gated(x, root), GateResiduals(x, root)


def _silu_backward(residuals: GateResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy s (1 + x (1 - s)) with s = sigmoid(x)."""
    x, root = residuals
    return ElementwiseGradients(_gated_backward(x, _bounded_input(x, root), root, dy))


silu = Op("silu", "(...)->(...)", ("x",), _silu, _silu_backward)

# -------------------------------------------------------------------------------------------------- mish


def _mish(x: Array) -> tuple[Array, GateResiduals]:
    """y = x tanh(log(1 + exp(x))). Any shape; 0 at minus infinity, infinity at infinity.

    With w = exp(x), tanh(log(1 + w)) = w (w + 2) / (w (w + 2) + 2); for x >= 0 both sides of the fraction
    are divided by w^2, which overflows at x = 355.
    """
    root: Array = np.exp(-0.5 * np.abs(x))
    decay: Array = root * root
    inner = _bounded_input(x, root)
    below: Array = inner * root * root * (decay + 2.0) / (decay * (decay + 2.0) + 2.0)
    above: Array = x * ((1.0 + 2.0 * decay) / (1.0 + 2.0 * decay * (1.0 + decay)))
    return np.where(x < 0, below, above), GateResiduals(x, root)


def _mish_backward(residuals: GateResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy w (4 (x + 1) + w (4 x + 6) + 4 w^2 + w^3) / (w (w + 2) + 2)^2 with w = exp(x).

    From the product rule: with n = w (w + 2), d/dx [x n / (n + 2)] = n / (n + 2) + x 4 w (w + 1) / (n + 2)^2.
    For x >= 0 both sides are divided by w^4.
    """
    x, root = residuals
    t: Array = root * root
    inner = _bounded_input(x, root)
    rising: Array = 4.0 * (inner + 1.0) + t * ((4.0 * inner + 6.0) + t * (4.0 + t))
    below_scale: Array = t * (t + 2.0) + 2.0
    below: Array = dy * root * (rising / (below_scale * below_scale)) * root
    falling: Array = 1.0 + t * (4.0 + t * ((4.0 * inner + 6.0) + t * (4.0 * (inner + 1.0))))
    above_scale: Array = 1.0 + 2.0 * t * (1.0 + t)
    above: Array = dy * (falling / (above_scale * above_scale))
    dx: Array = np.where(x < 0, below, above)
    return ElementwiseGradients(dx)


mish = Op("mish", "(...)->(...)", ("x",), _mish, _mish_backward)

# -------------------------------------------------------------------------------------------------- gelu

SQRT_HALF = (0.7071067811865476, -4.833646656726457e-17)
"""The square root of 1/2: the nearest float64 and what that is off."""

PER_SQRT_TWO_PI = 0.3989422804014327
"""The density of the normal distribution at 0, 1 / sqrt(2 pi)."""

BEYOND = 40.0
"""Where the tails are 0: Phi(-38.6) is below the smallest number of float64, and exp(-v) at 22 already."""


def _halves(x: float) -> tuple[float, float]:
    """x as a sum of two numbers of 26 bits, whose products are exact (Veltkamp's splitting)."""
    scaled = 134217729.0 * x  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high


def normal_cdf(x: float) -> float:
    """Phi(x) = erfc(-x / sqrt(2)) / 2, the distribution function of the normal distribution.

    With z the rounded -x / sqrt(2), erfc(z) is off by 2 z^2 u, which is 1e-13 at x = -37: what the product
    has lost is found by splitting the factors (Dekker's product), and given back by the slope of erfc.
    """
    if abs(x) >= BEYOND:
        return 0.0 if x < 0 else 1.0
    root, rest = SQRT_HALF
    z = -x * root
    (x_high, x_low), (root_high, root_low) = _halves(-x), _halves(root)
    lost = ((x_high * root_high - z) + x_high * root_low + x_low * root_high) + x_low * root_low - x * rest
    return 0.5 * math.erfc(z) - lost * math.exp(-z * z) / math.sqrt(math.pi)


def normal_density(x: float) -> float:
    """phi(x) = exp(-x^2 / 2) / sqrt(2 pi), the density of the normal distribution.

    The rounding of x^2 would be amplified by x^2 / 2: the square of the first 26 bits is exact.
    """
    if abs(x) >= BEYOND:
        return 0.0
    high, low = _halves(x)
    return math.exp(-0.5 * high * high) * math.exp(-0.5 * low * (x + high)) * PER_SQRT_TWO_PI


_CDF = np.frompyfunc(normal_cdf, 1, 1)
_DENSITY = np.frompyfunc(normal_density, 1, 1)


def _in_float64(function: np.ufunc, x: Array) -> Array:
    """A function of Python floats, elementwise; the new axis keeps an array of no axes an array."""
    values: Array = function(x[None]).astype(np.float64)[0]
    return values


GeluKind = Literal["none", "tanh"]

SQRT_EIGHT_OVER_PI = 1.5957691216057308
CUBIC = 0.044715


class GeluResiduals(NamedTuple):
    x: Array
    gate: Array
    """Phi(x) in float64; for the tanh form exp(-|v| / 2)."""
    approximate: GeluKind


def _gelu(x: Array, *, approximate: GeluKind = "none") -> tuple[Array, GeluResiduals]:
    """y = x Phi(x), with the distribution function Phi of the normal distribution; or, for
    approximate="tanh", y = x (1 + tanh(v / 2)) / 2 = x sigmoid(v) with v = sqrt(8 / pi) (x + 0.044715 x^3).
    Any shape; 0 at minus infinity, infinity at infinity.

    Phi in the tail by erfc: (1 + erf(x / sqrt(2))) / 2 is 0 at x = -8.3, where it is 5.2e-17; and in float64
    whatever the dtype, because Phi(-13.2) is subnormal in float32, where the answer is not yet. The tanh form
    by the sigmoid: 1 + tanh(v / 2) cancels in the same way.
    """
    given: object = approximate
    if not isinstance(given, str) or given not in get_args(GeluKind):
        raise ArgumentError(
            "gelu", "approximate", repr(given), '"none" or "tanh"', 'The exact one is approximate="none".'
        )
    if approximate == "tanh":
        root: Array = np.exp(-0.5 * _tanh_argument(np.abs(x)))
        return _gated(x, root), GeluResiduals(x, root, approximate)
    gate = _in_float64(_CDF, x)
    y: Array = np.where(np.equal(gate, 0.0), 0.0, x) * gate
    return y.astype(x.dtype), GeluResiduals(x, gate, approximate)


def _tanh_argument(size: Array) -> Array:
    """v = sqrt(8 / pi) (x + 0.044715 x^3) for x >= 0; beyond 40, where exp(-v) is 0, that of 40: x^3
    overflows.
    """
    near: Array = np.minimum(size, BEYOND)
    v: Array = SQRT_EIGHT_OVER_PI * (near * (1.0 + CUBIC * (near * near)))
    return v


def _gelu_backward(residuals: GeluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy (Phi(x) + x phi(x)), with the density phi; for the tanh form dy s (1 + (1 - s) x dv/dx) with
    s = sigmoid(v) and dv/dx = sqrt(8 / pi) (1 + 0.134145 x^2).
    """
    x, gate, approximate = residuals
    if approximate == "tanh":
        inner = _bounded_input(x, gate)
        moving: Array = SQRT_EIGHT_OVER_PI * (inner * (1.0 + 3.0 * CUBIC * (inner * inner)))
        return ElementwiseGradients(_gated_backward(x, moving, gate, dy))
    density = _in_float64(_DENSITY, x)
    slope: Array = gate + np.where(np.equal(density, 0.0), 0.0, x) * density
    dx: Array = dy * slope
    return ElementwiseGradients(dx.astype(x.dtype))


gelu = Op("gelu", "(...)->(...)", ("x",), _gelu, _gelu_backward)

OPS = (softsign, log_sigmoid, softplus, silu, mish, gelu)
