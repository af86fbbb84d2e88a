"""The affine layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.op import Array, Op

__all__ = [
    "linear",
]


class LinearResiduals(NamedTuple):
    x: Array
    w: Array


class LinearGradients(NamedTuple):
    x: Array
    w: Array
    b: Array


def _linear(x: Array, w: Array, b: Array) -> tuple[Array, LinearResiduals]:
    """y = x w + b, with x (n, k), w (k, m), b (m,) and y (n, m).

    `np.dot` rather than `@` here and below: the same product, and for a batch of one half the time.
    """
    y: Array = np.dot(x, w)
    y += b
    return y, LinearResiduals(x, w)


def linear_parameter_gradients(residuals: LinearResiduals, dy: Array) -> tuple[Array, Array]:
    """dw = x^T dy and db = the sum of dy over the batch; the first layer of a network needs no dx."""
    db: Array = dy[0].copy() if len(dy) == 1 else np.add.reduce(dy, axis=0)
    return np.dot(residuals.x.T, dy), db


def _linear_backward(residuals: LinearResiduals, dy: Array) -> LinearGradients:
    """dx = dy w^T, dw = x^T dy, db = the sum of dy over the batch."""
    return LinearGradients(np.dot(dy, residuals.w.T), *linear_parameter_gradients(residuals, dy))


linear = Op("linear", "(n,k),(k,m),(m)->(n,m)", ("x", "w", "b"), _linear, _linear_backward)

OPS = (linear,)
