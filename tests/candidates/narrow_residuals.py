"""Right under the contract saved=bfloat16, and wrong without: what a backward keeps is rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf

import refnet
from tests.candidates import plain
from verify.arithmetic.formats import BFLOAT16

Array = Any


def saved(x: Array) -> Array:
    return x.astype(BFLOAT16.dtype).astype(x.dtype)


def sigmoid_vjp(dy: Array, x: Array) -> Array:
    y = saved(plain.sigmoid(x))
    return dy * y * (1 - y)


def tanh_vjp(dy: Array, x: Array) -> Array:
    return dy * (1 - saved(np.tanh(x)) ** 2)


def softmax_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = saved(plain.softmax(x, axis=axis))
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = saved(plain.log_softmax(x, axis=axis))
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)


def silu_vjp(dy: Array, x: Array) -> Array:
    s = saved(plain.sigmoid(x))
    return dy * s * (1 + x * (1 - s))


def gelu_vjp(dy: Array, x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        c, k = (x.dtype.type(number) for number in (np.sqrt(2 / np.pi), 0.044715))
        z = np.clip(x, -100, 100)  # beyond, tanh is 1, and no square overflows
        t = saved(np.tanh(c * (z + k * z**3)))
        return dy * ((1 + t) / 2 + z / 2 * (1 - t * t) * c * (1 + 3 * k * z * z))
    share = saved((1 + erf(x / np.sqrt(x.dtype.type(2)))) / 2)
    return dy * (share + x * saved(np.exp(-x * x / 2) / np.sqrt(x.dtype.type(2 * np.pi))))


def mish_vjp(dy: Array, x: Array) -> Array:
    t = saved(np.tanh(np.logaddexp(x, x.dtype.type(0))))
    return dy * (t + x * saved(plain.sigmoid(x)) * (1 - t * t))


def glu_vjp(dy: Array, x: Array) -> Array:
    value, gated = np.split(x, 2, axis=-1)
    s = saved(plain.sigmoid(gated))
    return np.concatenate([dy * s, dy * value * s * (1 - s)], axis=-1)


def _share(dy: Array, examples: int, reduction: str) -> Array:
    return dy / dy.dtype.type(examples) if reduction == "mean" else dy


def binary_cross_entropy_with_logits_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _share(dy, z.size, reduction) * (saved(plain.sigmoid(z)) - t)


def softmax_cross_entropy_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    share = np.expand_dims(_share(dy, t[..., 0].size, reduction), -1)
    return share * (saved(plain.softmax(z)) - t)


def softmax_cross_entropy_with_integer_labels_vjp(
    dy: Array, z: Array, labels: Array, *, reduction: str = "mean"
) -> Array:
    share = np.expand_dims(_share(dy, labels.size, reduction), -1)
    return share * (saved(plain.softmax(z)) - np.eye(z.shape[-1], dtype=z.dtype)[labels])


def rnn_cell_vjp(dy: Array, x: Array, h: Array, w_x: Array, w_h: Array, b: Array) -> tuple[Array, ...]:
    dz = dy * (1 - saved(np.tanh(x @ w_x + h @ w_h + b)) ** 2)
    return dz @ w_x.T, dz @ w_h.T, x.T @ dz, h.T @ dz, dz.sum(axis=0)


def scaled_dot_product_attention_vjp(dy: Array, *arguments: Array, **settings: Any) -> tuple[Array, ...]:
    _, residuals = refnet.scaled_dot_product_attention.forward(*arguments, **settings)
    narrow = residuals._replace(weights=saved(residuals.weights))
    return tuple(refnet.scaled_dot_product_attention.backward(narrow, dy))
