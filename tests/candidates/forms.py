"""Right: single functions in forms that people write, none of them refnet's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def logsumexp_in_turn(x: Array, *, axis: int = -1) -> Array:
    return np.logaddexp.reduce(x, axis=axis)


def sigmoid_in_one_line(x: Array) -> Array:
    """Overflows below -709, where the answer is subnormal, and flushes it to 0."""
    return 1 / (1 + np.exp(-x))


def tanh_by_expm1(x: Array) -> Array:
    e = np.expm1(-2 * np.abs(x))
    return np.copysign(-e / (2 + e), x)


def softmax_by_powers_of_two(x: Array, *, axis: int = -1) -> Array:
    e = np.exp2((x - x.max(axis=axis, keepdims=True)) * x.dtype.type(np.log2(np.e)))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_by_the_reciprocal(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e * (1 / e.sum(axis=axis, keepdims=True))


def softmax_vjp_by_the_jacobian(dy: Array, x: Array) -> Array:
    y = softmax_by_the_reciprocal(x)
    jacobian = y[:, :, None] * (np.eye(x.shape[-1], dtype=x.dtype) - y[:, None, :])
    return np.einsum("ni,nij->nj", dy, jacobian)


def binary_cross_entropy_by_logaddexp(z: Array, t: Array) -> Array:
    return (t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)).mean()


def mse_by_a_dot_product(p: Array, t: Array) -> Array:
    difference = (p - t).ravel()
    return difference @ difference / p.dtype.type(p.size)


def mse_times_one_over_n(p: Array, t: Array) -> Array:
    return ((p - t) ** 2).sum() * p.dtype.type(1 / p.size)


def relu_by_clip(x: Array) -> Array:
    return np.clip(x, 0, None)


FORMS: dict[str, tuple[str, Callable[..., Any]]] = {
    "log-sum-exp in turn": ("logsumexp", logsumexp_in_turn),
    "sigmoid in one line": ("sigmoid", sigmoid_in_one_line),
    "tanh by expm1": ("tanh", tanh_by_expm1),
    "softmax by powers of two": ("softmax", softmax_by_powers_of_two),
    "softmax by the reciprocal": ("softmax", softmax_by_the_reciprocal),
    "softmax vjp by the Jacobian": ("softmax_vjp", softmax_vjp_by_the_jacobian),
    "cross-entropy by logaddexp": ("binary_cross_entropy_with_logits", binary_cross_entropy_by_logaddexp),
    "mse by a dot product": ("mse", mse_by_a_dot_product),
    "mse times 1 / n": ("mse", mse_times_one_over_n),
    "relu by clip": ("relu", relu_by_clip),
}
"""The function of the contract that each stands for, and the form."""
