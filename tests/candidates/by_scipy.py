"""Right: what scipy.special has."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

Array = Any

sigmoid = special.expit


def sigmoid_vjp(dy: Array, x: Array) -> Array:
    return dy * special.expit(x) * special.expit(-x)


def log_sigmoid(x: Array) -> Array:
    return special.log_expit(x)


def softplus(x: Array, *, beta: float = 1.0) -> Array:
    b = x.dtype.type(beta)
    return -special.log_expit(-b * x) / b


def gelu(x: Array) -> Array:
    """By the normal distribution; minus infinity times 0 is taken for its limit."""
    return np.where(np.isneginf(x), 0, x * special.ndtr(x)).astype(x.dtype)


def softmax(x: Array, *, axis: int = -1) -> Array:
    return special.softmax(x, axis=axis)


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    return special.log_softmax(x, axis=axis)


def logsumexp(x: Array, *, axis: int = -1) -> Array:
    return special.logsumexp(x, axis=axis)


def _reduced(losses: Array, reduction: str) -> Array:
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def binary_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-special.xlogy(t, p) - special.xlog1py(1 - t, -p), reduction)


def binary_cross_entropy_with_logits(z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-(t * special.log_expit(z) + (1 - t) * special.log_expit(-z)), reduction)


def huber(p: Array, t: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    return _reduced(special.huber(p.dtype.type(delta), p - t), reduction)


def categorical_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-special.xlogy(t, p).sum(axis=-1), reduction)


def softmax_cross_entropy_with_integer_labels(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    chosen = np.take_along_axis(special.log_softmax(z, axis=-1), labels[..., None], axis=-1)[..., 0]
    return _reduced(-chosen, reduction)
