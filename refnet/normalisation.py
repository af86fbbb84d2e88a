"""Normalisation: examples or channels brought to one scale.

All take the biased variance (the mean of the squared deviations) and add eps inside the root. Statistics are
taken of numbers that have been centred first: the mean of squares less the square of the mean is 0 in float64
at a mean of 1e8 and a spread of 1, and may be negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.op import ArgumentError, Array, Op

__all__ = [
    "layer_norm",
    "rms_norm",
]

Axes = tuple[int, ...]


def _validated_eps(op: str, eps: object, dtype: np.dtype[np.floating]) -> float:
    """Return eps as a Python float, which takes the dtype of the array that it is added to.

    Without it a constant row is 0 / 0; one that the dtype does not hold is none: 1e-50 in float32.
    """
    least = float(np.finfo(dtype).smallest_normal)
    if isinstance(eps, int | float | np.integer | np.floating) and not isinstance(eps, bool):
        if least <= float(eps) < np.finfo(dtype).max:
            return float(eps)
        given = str(eps)
    else:
        given = f"a {type(eps).__name__}"
    raise ArgumentError(
        op, "eps", given, f"a positive number that {dtype} holds, of at least {least:.2g}", "Use eps=1e-5."
    )


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

OPS = (layer_norm, rms_norm)
