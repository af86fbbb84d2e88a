"""Elementwise activations in pieces: leaky and clipped ReLUs, hard sigmoids, exponential linear units.

Where pieces meet at an angle, the derivative there is a convention, and each docstring says which. A
comparison with NaN is false: gradients that would choose a piece by one comparison alone turn a NaN into a
number, so NaN is what is left when neither side holds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.activations import ElementwiseGradients
from refnet.normalisation import by_channel, over_channels
from refnet.op import Array, Op, validate_number

__all__ = ["celu", "elu", "hard_sigmoid", "hard_swish", "leaky_relu", "prelu", "relu6", "selu"]


class InputResiduals(NamedTuple):
    x: Array


# -------------------------------------------------------------------------------------------- leaky relu


class LeakyReluResiduals(NamedTuple):
    x: Array
    slope: float


def _leaky_relu(x: Array, *, slope: float = 0.01) -> tuple[Array, LeakyReluResiduals]:
    """y = x for x > 0, slope * x elsewhere. Any shape; the slope is any finite number.

    max(x, slope * x) is another function for a slope above 1.
    """
    slope = validate_number("leaky_relu", "slope", slope, x.dtype)
    y: Array = np.where(x > 0, x, slope * x)
    return y, LeakyReluResiduals(x, slope)


def _leaky_relu_backward(residuals: LeakyReluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy for x > 0, slope * dy elsewhere, the kink at 0 included."""
    x, slope = residuals
    dx: Array = np.where(x > 0, dy, np.where(x <= 0, slope * dy, x))
    return ElementwiseGradients(dx)


leaky_relu = Op("leaky_relu", "(...)->(...)", ("x",), _leaky_relu, _leaky_relu_backward)

# ------------------------------------------------------------------------------------------------- prelu


class PreluResiduals(NamedTuple):
    x: Array
    slope: Array


class PreluGradients(NamedTuple):
    x: Array
    slope: Array


def _prelu(x: Array, slope: Array) -> tuple[Array, PreluResiduals]:
    """y = x for x > 0, slope * x elsewhere: a leaky ReLU whose slope is learned, one for each channel.

    x and y (n, c, ...), slope (c). The infinities are those of the products; NaN where x is NaN, where x is
    not above 0 and the slope is NaN, and where one of the two is 0 and the other infinite.

    He, Zhang, Ren and Sun, Delving deep into rectifiers (2015), arXiv:1502.01852, equation 1.
    """
    y: Array = np.where(x > 0, x, by_channel(slope, x) * x)
    return y, PreluResiduals(x, slope)


def _prelu_backward(residuals: PreluResiduals, dy: Array) -> PreluGradients:
    """dx = dy for x > 0, slope * dy elsewhere, the kink at 0 included.

    dslope = the sum of dy * x over the entries of the channel that are not above 0.
    """
    x, slope = residuals
    dx: Array = np.where(x > 0, dy, np.where(x <= 0, by_channel(slope, x) * dy, x))
    return PreluGradients(dx, over_channels(np.where(x > 0, 0.0, dy * x)))


prelu = Op("prelu", "(n,c,...),(c)->(n,c,...)", ("x", "slope"), _prelu, _prelu_backward)

# ------------------------------------------------------------------------------------------------- relu6


def _relu6(x: Array) -> tuple[Array, InputResiduals]:
    """y = min(max(x, 0), 6). Any shape; NaN stays NaN."""
    y: Array = np.minimum(np.maximum(x, 0.0), 6.0)
    return y, InputResiduals(x)


def _relu6_backward(residuals: InputResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy for 0 < x < 6, 0 elsewhere, both kinks included."""
    (x,) = residuals
    return ElementwiseGradients(_between(x, 0.0, 6.0, dy))


def _between(x: Array, low: float, high: float, inside: Array) -> Array:
    """`inside` for low < x < high, 0 elsewhere, NaN for NaN."""
    within = (x > low) & (x < high)
    chosen: Array = np.where(within, inside, np.where((x <= low) | (x >= high), 0.0, x))
    return chosen


relu6 = Op("relu6", "(...)->(...)", ("x",), _relu6, _relu6_backward)

# ------------------------------------------------------------------------------------------ hard sigmoid


def _hard_sigmoid(x: Array) -> tuple[Array, InputResiduals]:
    """y = relu6(x + 3) / 6. Any shape; 0 and 1 at the infinities.

    x + 3 is exact from -6 to -1.5 (Sterbenz), and so is the small number just above -3; x / 6 + 1/2 has lost
    it: 1e-17 at x = -3 + 2^-51 is 7.4e-17 there.
    """
    y: Array = np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0
    return y, InputResiduals(x)


def _hard_sigmoid_backward(residuals: InputResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy / 6 for -3 < x < 3, 0 elsewhere, both kinks included."""
    (x,) = residuals
    return ElementwiseGradients(_between(x, -3.0, 3.0, dy / 6.0))


hard_sigmoid = Op("hard_sigmoid", "(...)->(...)", ("x",), _hard_sigmoid, _hard_sigmoid_backward)

# -------------------------------------------------------------------------------------------- hard swish


def _hard_swish(x: Array) -> tuple[Array, InputResiduals]:
    """y = x * relu6(x + 3) / 6. Any shape; 0 at minus infinity, infinity at infinity.

    The gate is divided by 6 before it meets x: x * 6 overflows at the largest numbers. Below -3 nothing is
    multiplied: minus infinity times 0 is NaN.
    """
    gate: Array = np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0
    y: Array = np.where(x <= -3.0, 0.0, x) * gate
    return y, InputResiduals(x)


def _hard_swish_backward(residuals: InputResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy (2 x + 3) / 6 for -3 < x < 3, 0 up to -3, dy from 3 on."""
    (x,) = residuals
    middle: Array = dy * ((2.0 * x + 3.0) / 6.0)
    dx: Array = np.where(x >= 3.0, dy, _between(x, -3.0, 3.0, middle))
    return ElementwiseGradients(dx)


hard_swish = Op("hard_swish", "(...)->(...)", ("x",), _hard_swish, _hard_swish_backward)

# --------------------------------------------------------------------------- exponential linear units


class EluResiduals(NamedTuple):
    x: Array
    alpha: float


def _elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluResiduals]:
    """y = x for x > 0, alpha (exp(x) - 1) elsewhere. Any shape; -alpha at minus infinity.

    expm1, because exp(x) - 1 is 0 at x = -1e-17. min(x, 0) keeps the branch that is not taken finite.
    """
    alpha = validate_number("elu", "alpha", alpha, x.dtype)
    y: Array = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))
    return y, EluResiduals(x, alpha)


def _elu_backward(residuals: EluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy for x > 0, dy alpha exp(x) elsewhere: alpha dy at 0, which is a kink unless alpha is 1.

    The derivative from the output, y + alpha, is 0 at x = -40, where it is 4.2e-18.
    """
    x, alpha = residuals
    dx: Array = np.where(x > 0, dy, dy * (alpha * np.exp(np.minimum(x, 0.0))))
    return ElementwiseGradients(dx)


elu = Op("elu", "(...)->(...)", ("x",), _elu, _elu_backward)


def _celu(x: Array, *, alpha: float = 1.0) -> tuple[Array, EluResiduals]:
    """y = x for x > 0, alpha (exp(x / alpha) - 1) elsewhere, for alpha > 0. Any shape; -alpha at minus
    infinity. Continuously differentiable: the slope at 0 is 1 from both sides.
    """
    alpha = validate_number("celu", "alpha", alpha, x.dtype, positive=True)
    y: Array = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))
    return y, EluResiduals(x, alpha)


def _celu_backward(residuals: EluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy for x > 0, dy exp(x / alpha) elsewhere."""
    x, alpha = residuals
    dx: Array = dy * np.exp(np.minimum(x, 0.0) / alpha)
    return ElementwiseGradients(dx)


celu = Op("celu", "(...)->(...)", ("x",), _celu, _celu_backward)

SELU_SCALE = 1.0507009873554805
SELU_SCALE_ALPHA = 1.7580993408473768
"""The scale 1.0507009873554804934193349852946 of the positive side, and its product with the alpha
1.6732632423543772848170429916717 (Klambauer et al. 2017), each rounded once: the product of the rounded ones
is another number."""


def _selu(x: Array) -> tuple[Array, InputResiduals]:
    """y = scale x for x > 0, scale alpha (exp(x) - 1) elsewhere. Any shape; -1.758... at minus infinity."""
    return _scaled(x, np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))), InputResiduals(x)


def _scaled(x: Array, value: Array) -> Array:
    """The value times the scale of its side."""
    scaled: Array = np.where(x > 0, SELU_SCALE * value, SELU_SCALE_ALPHA * value)
    return scaled


def _selu_backward(residuals: InputResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy scale for x > 0, dy scale alpha exp(x) elsewhere: 1.758... dy at its kink, 0."""
    (x,) = residuals
    return ElementwiseGradients(_scaled(x, dy * np.exp(np.minimum(x, 0.0))))


selu = Op("selu", "(...)->(...)", ("x",), _selu, _selu_backward)

OPS = (leaky_relu, prelu, relu6, hard_sigmoid, hard_swish, elu, celu, selu)
