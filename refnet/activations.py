"""Activations: elementwise functions, and the functions of a row (softmax and its relatives).

Every gradient is exact mathematics, rearranged so that no digit is lost that the format could have kept.
Where the textbook form fails, the comment gives an input at which it does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refnet.op import ArgumentError, Array, Mask, Op, validate_axis

__all__ = [
    "dropout",
    "glu",
    "identity",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]


class ElementwiseGradients(NamedTuple):
    """The gradient of a function of one array."""

    x: Array


# ---------------------------------------------------------------------------------------------- identity


class IdentityResiduals(NamedTuple):
    """The identity needs nothing."""


def _identity(x: Array) -> tuple[Array, IdentityResiduals]:
    """y = x. Any shape."""
    return x.copy(), IdentityResiduals()


def _identity_backward(residuals: IdentityResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy."""
    return ElementwiseGradients(dy.copy())


identity = Op("identity", "(...)->(...)", ("x",), _identity, _identity_backward)

# -------------------------------------------------------------------------------------------------- relu


class ReluResiduals(NamedTuple):
    x: Array


def _relu(x: Array) -> tuple[Array, ReluResiduals]:
    """y = max(x, 0). Any shape; NaN stays NaN."""
    return np.maximum(x, 0.0), ReluResiduals(x)


def _relu_backward(residuals: ReluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy * H(x), with the Heaviside step H(0) = 0: at its kink the derivative of ReLU is taken as 0.

    A comparison `x > 0` would turn a NaN into a gradient of 0; the sign of max(x, 0) keeps it, as
    `heaviside` does in five times the time.
    """
    dx: Array = np.sign(np.maximum(residuals.x, 0.0))
    dx *= dy  # in the memory of the mask, which is new
    return ElementwiseGradients(dx)


relu = Op("relu", "(...)->(...)", ("x",), _relu, _relu_backward)

# ----------------------------------------------------------------------------------------------- sigmoid


class SigmoidResiduals(NamedTuple):
    decay: Array
    """exp(-|x|), in [0, 1]."""


def _sigmoid(x: Array) -> tuple[Array, SigmoidResiduals]:
    """y = 1 / (1 + exp(-x)). Any shape; 0 at minus infinity, 1 at infinity.

    With t = exp(-|x|): 1 / (1 + t) for x >= 0 and t / (1 + t) below, because exp(-x) overflows at
    x = -710 in float64, where the answer is still 4.5e-309.
    """
    decay: Array = np.exp(-np.abs(x))
    return np.where(x < 0, decay, 1.0) / (1.0 + decay), SigmoidResiduals(decay)


def _sigmoid_backward(residuals: SigmoidResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy * y * (1 - y) = dy * t / (1 + t)^2, an even function of x.

    The form y * (1 - y) is 0 at x = 40, where the derivative is 4.2e-18: y has been rounded to 1.
    """
    decay = residuals.decay
    return ElementwiseGradients(dy * (decay / ((1.0 + decay) * (1.0 + decay))))


sigmoid = Op("sigmoid", "(...)->(...)", ("x",), _sigmoid, _sigmoid_backward)

# -------------------------------------------------------------------------------------------------- tanh


class TanhResiduals(NamedTuple):
    x: Array


def _tanh(x: Array) -> tuple[Array, TanhResiduals]:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)). Any shape; -1 and 1 at the infinities."""
    return np.tanh(x), TanhResiduals(x)


def _tanh_backward(residuals: TanhResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy * (1 - y^2) = dy * 4 t / (1 + t)^2 with t = exp(-2 |x|).

    The form 1 - y^2 is 0 at x = 20, where the derivative is 1.7e-17.
    """
    decay: Array = np.exp(-2.0 * np.abs(residuals.x))
    return ElementwiseGradients(dy * (4.0 * decay / ((1.0 + decay) * (1.0 + decay))))


tanh = Op("tanh", "(...)->(...)", ("x",), _tanh, _tanh_backward)

# ------------------------------------------------------------------------------------ functions of a row


class RowTerms(NamedTuple):
    """The parts of sum(exp(row)), taken relative to the largest entry: exp(top) * (1 + rest)."""

    top: Array
    """The largest entry of each row, (..., 1)."""
    is_top: Array
    """A mask, True at one largest entry of each row, (..., c)."""
    shifted: Array
    """row - top, never positive."""
    others: Array
    """exp(shifted), with 0 in the place of the largest entry, whose 1 is kept apart."""
    rest: Array
    """The sum of `others`, (..., 1): log(1 + rest) is accurate by log1p even where 1 + rest rounds to 1."""


def row_terms(x: Array) -> RowTerms:
    """Split the sum of exponentials along the last axis, so that nothing overflows and no tail is lost."""
    top: Array = np.maximum.reduce(x, axis=-1, keepdims=True)
    is_top = x.argmax(-1)[..., None] == np.arange(x.shape[-1])
    shifted: Array = x - top
    others: Array = np.where(is_top, 0.0, np.exp(shifted))
    return RowTerms(top, is_top, shifted, others, np.add.reduce(others, axis=-1, keepdims=True))


def balance(dx: Array, at: Array) -> Array:
    """Put minus the sum of the other entries of each row where the mask `at` holds.

    The gradient of a shift-invariant function sums to 0 along the row. One entry of it can be a difference
    of numbers that agree in every digit (p - 1 at p = 1 - 1e-22); the others are not, and they give it.
    """
    others: Array = np.where(at, 0.0, dx)
    return np.where(at, -np.add.reduce(others, axis=-1, keepdims=True), others)


def _headroom(dy: Array) -> Array:
    """A power of two for each row: 1, unless the sum of its entries could overflow, as max + max does."""
    scale = 0.25 / 2.0 ** math.ceil(math.log2(dy.shape[-1]))
    largest: Array = np.maximum.reduce(np.abs(dy), axis=-1, keepdims=True)
    return np.where(np.isinf(largest / scale), scale, 1.0).astype(dy.dtype)


class SoftmaxResiduals(NamedTuple):
    y: Array
    axis: int


def _softmax(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxResiduals]:
    """y = exp(x) / sum(exp(x)) along `axis`, of at least one entry.

    The largest entry is subtracted first: exp(x) overflows at x = 710 in float64, at 89 in float32. An
    entry of minus infinity has probability 0; an infinity gives NaN, as the limit depends on the path.
    """
    validate_axis("softmax", x, axis)
    top: Array = np.maximum.reduce(x, axis=axis, keepdims=True)
    y: Array = np.exp(x - top)
    y /= np.add.reduce(y, axis=axis, keepdims=True)
    return y, SoftmaxResiduals(y.copy(), axis)


def _softmax_backward(residuals: SoftmaxResiduals, dy: Array) -> ElementwiseGradients:
    """dx = y * (dy - sum(y * dy)).

    A constant added to dy changes nothing in exact arithmetic, since sum(y) = 1. Subtracting the cotangent
    of the largest probability first keeps the digits that dy - sum(y * dy) loses when one probability is
    close to 1: at x = (40, 0), dy = (1, 0) the textbook form gives 0 for 4.2e-18.
    """
    y, axis = residuals.y.swapaxes(residuals.axis, -1), residuals.axis
    dy = dy.swapaxes(axis, -1)
    scale = _headroom(dy)
    dy = dy * scale
    relative: Array = dy - np.take_along_axis(dy, y.argmax(-1)[..., None], axis=-1)
    dx: Array = y * (relative - np.add.reduce(y * relative, axis=-1, keepdims=True)) / scale
    return ElementwiseGradients(dx.swapaxes(axis, -1))


softmax = Op("softmax", "(...,c)->(...,c)", ("x",), _softmax, _softmax_backward)


class LogSoftmaxResiduals(NamedTuple):
    terms: RowTerms
    axis: int


def _log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, LogSoftmaxResiduals]:
    """y = x - log(sum(exp(x))) along `axis`, of at least one entry.

    Computed as (x - top) - log1p(rest), two terms of one sign. At x = (50, 0) the first entry is
    -1.9e-22; log(softmax(x)) and (x - top) - log(sum(exp(x - top))) give 0.
    """
    validate_axis("log_softmax", x, axis)
    terms = row_terms(x.swapaxes(axis, -1))
    y: Array = terms.shifted - np.log1p(terms.rest)
    return y.swapaxes(axis, -1), LogSoftmaxResiduals(terms, axis)


def _log_softmax_backward(residuals: LogSoftmaxResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy - softmax(x) * sum(dy), balanced at the largest entry."""
    terms, axis = residuals
    dy = dy.swapaxes(axis, -1)
    scale = _headroom(dy)
    dy = dy * scale
    probabilities: Array = terms.others / (1.0 + terms.rest)
    dx = balance(dy - probabilities * np.add.reduce(dy, axis=-1, keepdims=True), terms.is_top) / scale
    return ElementwiseGradients(dx.swapaxes(axis, -1))


log_softmax = Op("log_softmax", "(...,c)->(...,c)", ("x",), _log_softmax, _log_softmax_backward)


class LogSumExpResiduals(NamedTuple):
    probabilities: Array
    axis: int


def _logsumexp(x: Array, *, axis: int = -1) -> tuple[Array, LogSumExpResiduals]:
    """y = log(sum(exp(x))) along `axis`, of at least one entry, which the output no longer has.

    Minus infinity for a row of nothing else, infinity for a row with an infinity. A row whose top is
    infinite is not shifted, because inf - inf is NaN. The gradient at an infinity is NaN, as softmax is.
    """
    validate_axis("logsumexp", x, axis)
    rows = x.swapaxes(axis, -1)
    top: Array = np.maximum.reduce(rows, axis=-1, keepdims=True)
    is_top = rows.argmax(-1)[..., None] == np.arange(rows.shape[-1])
    others: Array = np.where(is_top, 0.0, np.exp(rows - np.where(np.isinf(top), 0.0, top)))
    rest: Array = np.add.reduce(others, axis=-1, keepdims=True)
    y: Array = top + np.log1p(rest)
    # with no shift the other entries of a row with an infinity overflow too: (inf, 800) would give (0, NaN)
    probabilities: Array = np.where(np.isinf(top), np.nan, np.where(is_top, 1.0, others) / (1.0 + rest))
    return y.swapaxes(axis, -1).squeeze(axis), LogSumExpResiduals(probabilities, axis)


def _logsumexp_backward(residuals: LogSumExpResiduals, dy: Array) -> ElementwiseGradients:
    """dx = softmax(x) * dy."""
    probabilities, axis = residuals
    return ElementwiseGradients(probabilities.swapaxes(axis, -1) * np.expand_dims(dy, axis))


logsumexp = Op("logsumexp", "(...,c)->(...)", ("x",), _logsumexp, _logsumexp_backward)

# ------------------------------------------------------------------------------------------------- gates


class GluResiduals(NamedTuple):
    value: Array
    gate: Array
    """sigmoid of the second half."""
    decay: Array
    """exp(-|second half|)."""


def _glu(x: Array) -> tuple[Array, GluResiduals]:
    """y = a sigmoid(b), with a and b the first and the second half of the last axis, which is even.

    Dauphin et al., Language Modeling with Gated Convolutional Networks (2017), arXiv:1612.08083, equation 1.
    """
    half, rest = divmod(x.shape[-1], 2)
    if rest or not half:
        raise ArgumentError(
            "glu",
            "x",
            f"of shape {x.shape}",
            "an even number of entries along the last axis, and at least two",
            "The first half is gated by the second.",
        )
    value, gated = x[..., :half], x[..., half:]
    gate, (decay,) = _sigmoid(gated)
    return value * gate, GluResiduals(value, gate, decay)


def _glu_backward(residuals: GluResiduals, dy: Array) -> ElementwiseGradients:
    """da = dy sigmoid(b), db = dy a sigmoid'(b), where sigmoid' = t / (1 + t)^2 with t = exp(-|b|)."""
    value, gate, decay = residuals
    slope: Array = decay / ((1.0 + decay) * (1.0 + decay))
    return ElementwiseGradients(np.concatenate([dy * gate, dy * (value * slope)], axis=-1))


glu = Op("glu", "(...,d)->(...,c)", ("x",), _glu, _glu_backward)


class DropoutResiduals(NamedTuple):
    mask: Mask
    kept: float
    """1 - rate."""


def _dropout(x: Array, mask: Mask, *, rate: float = 0.5) -> tuple[Array, DropoutResiduals]:
    """y = x / (1 - rate) where the mask is True, and 0 elsewhere: of any x, NaN among them. Any shape.

    The mask is an argument, so that nothing here is random; drawn with probability 1 - rate, it leaves the
    mean of y at x.

    Srivastava et al., Dropout, J. Mach. Learn. Res. 15 (2014), section 10, where the weights are scaled
    afterwards instead.
    """
    given: object = rate
    if not isinstance(given, int | float | np.integer | np.floating) or isinstance(given, bool):
        shown = f"a {type(given).__name__}"
    elif not 0.0 <= given < 1.0:
        shown = str(given)
    else:
        kept = 1.0 - float(given)
        return np.where(mask, x / kept, 0.0), DropoutResiduals(mask, kept)
    raise ArgumentError(
        "dropout", "rate", shown, "a number in [0, 1)", "It is the share of the entries that are dropped."
    )


def _dropout_backward(residuals: DropoutResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy / (1 - rate) where the mask is True, and 0 elsewhere."""
    return ElementwiseGradients(np.where(residuals.mask, dy / residuals.kept, 0.0))


dropout = Op("dropout", "(...),(...)->(...)", ("x", "mask"), _dropout, _dropout_backward, masks=("mask",))

OPS = (identity, relu, sigmoid, tanh, softmax, log_softmax, logsumexp, glu, dropout)
