"""Normalisation: examples or channels brought to one scale.

All take the biased variance (the mean of the squared deviations) and add eps inside the root. Statistics are
taken of numbers that have been centred first: the mean of squares less the square of the mean is 0 in float64
at a mean of 1e8 and a spread of 1, and may be negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.arguments import validate_count
from refnet.op import ArgumentError, Array, MultiOp, Op, validate_number

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "batch_norm_training",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]

Axes = tuple[int, ...]


def _validated_eps(op: str, eps: object, dtype: np.dtype[np.floating]) -> float:
    """Return eps as a Python float, which takes the dtype of the array that it is added to.

    Without it a constant row is 0 / 0; one that the dtype does not hold is none: 1e-50 in float32.
    """
    remedy = "Use eps=1e-5; a constant row needs it."
    return validate_number(op, "eps", eps, dtype, positive=True, remedy=remedy)


def _validate_entries(op: str, x: Array, axes: Axes) -> None:
    """Refuse what has nothing to take a mean of."""
    if not all(x.shape[axis] for axis in axes):
        along = "the last axis" if axes == (-1,) else f"axes {axes}"
        raise ArgumentError(
            op, "x", f"of shape {x.shape}", f"at least one entry along {along}", "Drop the empty arrays."
        )


def _mean(x: Array, axes: Axes) -> Array:
    """The mean over some axes, which stay, of length 1."""
    total: Array = np.add.reduce(x, axis=axes, keepdims=True)
    return total / (x.size // max(total.size, 1))


def _centred(x: Array, axes: Axes) -> Array:
    """x - mean(x), without the error of the mean.

    The rounded mean is off by u |mean|, which counts where the mean is large and the spread is small; but it
    is near all of x then, and the differences are exact, so that their own mean is that error.
    """
    centred: Array = x - _mean(x, axes)
    centred -= _mean(centred, axes)
    return centred


def _headroom(x: Array, axes: Axes, most: int, by: int) -> Array:
    """A power of two for each mean: 1, but 2^-by where numbers are beyond 2^most."""
    largest: Array = np.maximum.reduce(np.abs(x), axis=axes, keepdims=True)
    return np.where(largest > 2.0**most, 2.0**-by, 1.0).astype(x.dtype)


class Normalised(NamedTuple):
    """Numbers of mean 0 and mean square 1, but for eps; and how they came to be so."""

    numbers: Array
    inverse: Array
    """1 / sqrt(var + eps)."""
    floor: Array
    """eps / (var + eps): how far the mean square is from 1."""


def _scaled(x: Array, scale: Array, axes: Axes, eps: float) -> Normalised:
    """x / sqrt(mean(x^2) + eps), for an x that has been multiplied by `scale` already.

    Squares of 1e200 overflow. Half of what keeps them small is then given back to x, half to the root: all of
    it would take the small numbers of the row below the range.
    """
    bits = int(np.finfo(x.dtype).maxexp)
    half = _headroom(x, axes, bits // 2 - 16, 3 * bits // 8)
    small: Array = x * (half * half)
    scale = scale * (half * half)
    floor: Array = eps * scale * scale
    inverse: Array = 1.0 / np.sqrt(_mean(small * small, axes) + floor)
    return Normalised((x * half) * (inverse * half), scale * inverse, floor * inverse * inverse)


def _normalised(x: Array, axes: Axes, eps: float) -> Normalised:
    """(x - mean) / sqrt(var + eps) over some axes. A sum of the largest numbers overflows as well."""
    scale = _headroom(x, axes, int(np.finfo(x.dtype).maxexp) - 32, 32)
    return _scaled(_centred(x * scale, axes), scale, axes, eps)


def _normalised_backward(normalised: Normalised, dz: Array, axes: Axes) -> Array:
    """dx = (g - z mean(g z)) / sqrt(var + eps), with z the normalised numbers and g = dz - mean(dz).

    mean(g z) is mean(dz z), since mean(z) = 0; but not in floating point, where the mean of dz may be large.
    """
    z, centred = normalised.numbers, _centred(dz, axes)
    return normalised.inverse * (centred - z * _mean(centred * z, axes))


# -------------------------------------------------------------------------------------------- layer norm


class LayerNormResiduals(NamedTuple):
    normalised: Normalised
    gamma: Array


class LayerNormGradients(NamedTuple):
    x: Array
    gamma: Array
    beta: Array


ROW: Axes = (-1,)


def _over_rows(x: Array) -> Array:
    """The sum over all rows (..., c)."""
    total: Array = np.add.reduce(x.reshape(-1, x.shape[-1]), axis=0)
    return total


def _layer_norm(
    x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5
) -> tuple[Array, LayerNormResiduals]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta along the last axis, of at least one entry.

    x and y (..., c), gamma and beta (c). A constant row gives beta. NaN and infinity make their row NaN.

    Ba, Kiros and Hinton, Layer Normalization (2016), arXiv:1607.06450, equation 4.
    """
    _validate_entries("layer_norm", x, ROW)
    normalised = _normalised(x, ROW, _validated_eps("layer_norm", eps, x.dtype))
    return gamma * normalised.numbers + beta, LayerNormResiduals(normalised, gamma)


def _layer_norm_backward(residuals: LayerNormResiduals, dy: Array) -> LayerNormGradients:
    """dgamma and dbeta are the sums over the rows of dy z and dy; dx is that of z under dz = gamma dy."""
    normalised, gamma = residuals
    return LayerNormGradients(
        _normalised_backward(normalised, gamma * dy, ROW), _over_rows(dy * normalised.numbers), _over_rows(dy)
    )


layer_norm = Op(
    "layer_norm", "(...,c),(c),(c)->(...,c)", ("x", "gamma", "beta"), _layer_norm, _layer_norm_backward
)

# ---------------------------------------------------------------------------------------------- RMS norm


class RmsNormGradients(NamedTuple):
    x: Array
    gamma: Array


def _rms_norm(x: Array, gamma: Array, *, eps: float = 1e-6) -> tuple[Array, LayerNormResiduals]:
    """y = gamma x / sqrt(mean(x^2) + eps) along the last axis, of at least one entry.

    x and y (..., c), gamma (c). A row of zeros gives zeros; NaN makes its row NaN, infinity itself NaN and
    the rest of its row 0.

    Zhang and Sennrich, Root Mean Square Layer Normalization (2019), arXiv:1910.07467, equation 4.
    """
    _validate_entries("rms_norm", x, ROW)
    one: Array = np.ones(1, x.dtype)
    normalised = _scaled(x, one, ROW, _validated_eps("rms_norm", eps, x.dtype))
    return gamma * normalised.numbers, LayerNormResiduals(normalised, gamma)


def _rms_norm_backward(residuals: LayerNormResiduals, dy: Array) -> RmsNormGradients:
    """dx = (dz - z mean(dz z)) / sqrt(mean(x^2) + eps), with z the normalised numbers and dz = gamma dy.

    The mean square of z is 1 - floor, and the textbook form takes the difference of dz and nearly dz at an
    entry that outweighs its row: at x = 1e4, alone in its row, it gives 0 for 1e-18. There the others of the
    row give it: dz (mean of their z^2 + floor) - z mean of their dz z.
    """
    (z, inverse, floor), gamma = residuals
    dz = gamma * dy
    is_top = np.abs(z).argmax(-1)[..., None] == np.arange(z.shape[-1])
    others: Array = np.where(is_top, 0.0, z)
    at_top: Array = dz * (_mean(others * others, ROW) + floor) - z * _mean(others * dz, ROW)
    dx: Array = inverse * np.where(is_top, at_top, dz - z * _mean(dz * z, ROW))
    return RmsNormGradients(dx, _over_rows(dy * z))


rms_norm = Op("rms_norm", "(...,c),(c)->(...,c)", ("x", "gamma"), _rms_norm, _rms_norm_backward)

# ------------------------------------------------------------------------------------------- batch norm


def _others(x: Array) -> Axes:
    """All axes but that of the channels, the second."""
    return (0, *range(2, x.ndim))


def by_channel(v: Array, x: Array) -> Array:
    """One number for each channel, broadcastable against x (m, c, ...)."""
    return v.reshape(-1, *[1] * (x.ndim - 2))


def over_channels(x: Array) -> Array:
    """The sum for each channel."""
    total: Array = np.add.reduce(x, axis=_others(x))
    return total


class ChannelResiduals(NamedTuple):
    normalised: Normalised
    gamma: Array


class ChannelGradients(NamedTuple):
    x: Array
    gamma: Array
    beta: Array


def _batch_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, ChannelResiduals]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with the mean and the biased variance of each channel
    over the batch and all positions.

    x and y (m, c, ...), gamma and beta (c): m examples, c channels and any number of axes of positions. A
    constant channel gives beta. NaN and infinity make their channel NaN.

    Ioffe and Szegedy, Batch Normalization (2015), arXiv:1502.03167, algorithm 1.
    """
    _validate_entries("batch_norm", x, _others(x))
    normalised = _normalised(x, _others(x), _validated_eps("batch_norm", eps, x.dtype))
    y: Array = by_channel(gamma, x) * normalised.numbers + by_channel(beta, x)
    return y, ChannelResiduals(normalised, gamma)


def _batch_norm_backward(residuals: ChannelResiduals, dy: Array) -> ChannelGradients:
    """dgamma and dbeta are the sums of dy z and dy; dx is that of z under dz = gamma dy."""
    normalised, gamma = residuals
    dx = _normalised_backward(normalised, by_channel(gamma, dy) * dy, _others(dy))
    return ChannelGradients(dx, over_channels(dy * normalised.numbers), over_channels(dy))


batch_norm = Op(
    "batch_norm",
    "(m,c,...),(c),(c)->(m,c,...)",
    ("x", "gamma", "beta"),
    _batch_norm,
    _batch_norm_backward,
)


class BatchNormTrainingOutputs(NamedTuple):
    y: Array
    running_mean: Array
    running_var: Array


class BatchNormTrainingResiduals(NamedTuple):
    channels: ChannelResiduals
    centred: Array
    momentum: float


def _validated_momentum(op: str, momentum: object) -> float:
    number = isinstance(momentum, int | float | np.integer | np.floating) and not isinstance(momentum, bool)
    if isinstance(momentum, int | float | np.integer | np.floating) and number and 0.0 <= momentum <= 1.0:
        return float(momentum)
    raise ArgumentError(
        op,
        "momentum",
        str(momentum) if number else f"a {type(momentum).__name__}",
        "a number in [0, 1], the weight of the batch",
        "A library that weighs the old statistics has 0.9 where this has 0.1.",
    )


def _batch_norm_training(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[BatchNormTrainingOutputs, BatchNormTrainingResiduals]:
    """y is that of `batch_norm`; the new running statistics are (1 - momentum) old + momentum batch.

    The running variance takes the unbiased variance of the batch, that of n - 1: so there must be at least
    two numbers in each channel. Shapes are those of `batch_norm`, running statistics (c).
    """
    name, axes = "batch_norm_training", _others(x)
    weight = _validated_momentum(name, momentum)
    count = x.size // max(x.shape[1], 1)
    if count < 2:
        raise ArgumentError(
            name,
            "x",
            f"of shape {x.shape}",
            "at least two numbers in each channel",
            "One number has no variance: use batch_norm_inference with the running statistics.",
        )
    normalised = _normalised(x, axes, _validated_eps(name, eps, x.dtype))
    y: Array = by_channel(gamma, x) * normalised.numbers + by_channel(beta, x)
    centred = _centred(x, axes)
    variance: Array = np.add.reduce(centred * centred, axis=axes) / (count - 1)
    outputs = BatchNormTrainingOutputs(
        y,
        (1.0 - weight) * running_mean + weight * _mean(x, axes).reshape(-1),
        (1.0 - weight) * running_var + weight * variance,
    )
    return outputs, BatchNormTrainingResiduals(ChannelResiduals(normalised, gamma), centred, weight)


def _batch_norm_training_backward(
    residuals: BatchNormTrainingResiduals, dy: BatchNormTrainingOutputs
) -> ChannelGradients:
    """The gradients of `batch_norm`, and to dx what comes by the new running statistics, if anything asks for
    them: momentum dmean / n and momentum dvar 2 (x - mean) / (n - 1).
    """
    channels, centred, weight = residuals
    dx, dgamma, dbeta = _batch_norm_backward(channels, dy.y)
    count = centred.size // max(centred.shape[1], 1)
    by_mean: Array = by_channel(weight * dy.running_mean / count, centred)
    by_variance: Array = by_channel(weight * dy.running_var / (count - 1), centred) * (2.0 * centred)
    return ChannelGradients(dx + by_mean + by_variance, dgamma, dbeta)


batch_norm_training = MultiOp(
    "batch_norm_training",
    "(m,c,...),(c),(c),(c),(c)->(m,c,...),(c),(c)",
    ("x", "gamma", "beta", "running_mean", "running_var"),
    _batch_norm_training,
    _batch_norm_training_backward,
)


class BatchNormInferenceResiduals(NamedTuple):
    numbers: Array
    scale: Array
    """gamma / sqrt(var + eps), as x is shaped."""


def _batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float = 1e-5
) -> tuple[Array, BatchNormInferenceResiduals]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta for given statistics, which have no gradient.

    x and y (n, c, ...), all others (c). A variance below 0 is the caller's: it gives NaN below -eps.
    """
    inverse: Array = 1.0 / np.sqrt(var + _validated_eps("batch_norm_inference", eps, x.dtype))
    numbers: Array = (x - by_channel(mean, x)) * by_channel(inverse, x)
    y: Array = by_channel(gamma, x) * numbers + by_channel(beta, x)
    return y, BatchNormInferenceResiduals(numbers, by_channel(gamma * inverse, x))


def _batch_norm_inference_backward(residuals: BatchNormInferenceResiduals, dy: Array) -> ChannelGradients:
    """dx = dy gamma / sqrt(var + eps): the statistics do not depend on x."""
    numbers, scale = residuals
    return ChannelGradients(dy * scale, over_channels(dy * numbers), over_channels(dy))


batch_norm_inference = Op(
    "batch_norm_inference",
    "(n,c,...),(c),(c),(c),(c)->(n,c,...)",
    ("x", "gamma", "beta", "mean", "var"),
    _batch_norm_inference,
    _batch_norm_inference_backward,
)

# --------------------------------------------------------------------------- groups, and single channels


def _instance_norm(
    x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5
) -> tuple[Array, ChannelResiduals]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with the statistics of each channel of each example.

    x and y (n, c, h, ...), with at least one axis of positions; gamma and beta (c).

    Ulyanov, Vedaldi and Lempitsky, Instance Normalization (2016), arXiv:1607.08022, equation 2.
    """
    axes = tuple(range(2, x.ndim))
    _validate_entries("instance_norm", x, axes)
    normalised = _normalised(x, axes, _validated_eps("instance_norm", eps, x.dtype))
    y: Array = by_channel(gamma, x) * normalised.numbers + by_channel(beta, x)
    return y, ChannelResiduals(normalised, gamma)


def _instance_norm_backward(residuals: ChannelResiduals, dy: Array) -> ChannelGradients:
    """As for `batch_norm`, with the means over the positions."""
    normalised, gamma = residuals
    dx = _normalised_backward(normalised, by_channel(gamma, dy) * dy, tuple(range(2, dy.ndim)))
    return ChannelGradients(dx, over_channels(dy * normalised.numbers), over_channels(dy))


instance_norm = Op(
    "instance_norm",
    "(n,c,h,...),(c),(c)->(n,c,h,...)",
    ("x", "gamma", "beta"),
    _instance_norm,
    _instance_norm_backward,
)


class GroupNormResiduals(NamedTuple):
    normalised: Normalised
    """Of x as (n, groups, numbers of a group)."""
    gamma: Array


def _grouped(x: Array, groups: int) -> Array:
    """x as (n, groups, numbers of a group)."""
    return x.reshape(x.shape[0], groups, x.size // max(x.shape[0] * groups, 1))


def _group_norm(
    x: Array, gamma: Array, beta: Array, *, groups: int, eps: float = 1e-5
) -> tuple[Array, GroupNormResiduals]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with the statistics of each group of channels of each
    example: the first c / groups channels, the next, ...

    x and y (n, channels, ...), gamma and beta (channels), one number for each channel, not for each group.

    Wu and He, Group Normalization (2018), arXiv:1803.08494, equation 7.
    """
    channels = x.shape[1]
    validate_count("group_norm", "groups", groups)
    if channels % groups:
        raise ArgumentError(
            "group_norm",
            "groups",
            str(groups),
            f"an int that divides the number of channels, {channels}",
            "groups=1 takes all channels together.",
        )
    grouped = _grouped(x, groups)
    _validate_entries("group_norm", grouped, (1, 2))
    normalised = _normalised(grouped, (2,), _validated_eps("group_norm", eps, x.dtype))
    y: Array = by_channel(gamma, x) * normalised.numbers.reshape(x.shape) + by_channel(beta, x)
    return y, GroupNormResiduals(normalised, gamma)


def _group_norm_backward(residuals: GroupNormResiduals, dy: Array) -> ChannelGradients:
    """As for `batch_norm`, with the means over the groups."""
    normalised, gamma = residuals
    dz = (by_channel(gamma, dy) * dy).reshape(normalised.numbers.shape)
    dx = _normalised_backward(normalised, dz, (2,)).reshape(dy.shape)
    z = normalised.numbers.reshape(dy.shape)
    return ChannelGradients(dx, over_channels(dy * z), over_channels(dy))


group_norm = Op(
    "group_norm",
    "(n,channels,...),(channels),(channels)->(n,channels,...)",
    ("x", "gamma", "beta"),
    _group_norm,
    _group_norm_backward,
)

OPS = (layer_norm, rms_norm, batch_norm, batch_norm_training, batch_norm_inference, group_norm, instance_norm)
