"""Right under the contract saved=bfloat16, and wrong without: what a backward keeps is rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf

import refnet
from tests.candidates import plain
from tests.candidates.parts import in_bfloat16 as saved
from tests.candidates.parts import shared

Array = Any


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


def binary_cross_entropy_with_logits_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, z.size) * (saved(plain.sigmoid(z)) - t)


def softmax_cross_entropy_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    share = np.expand_dims(shared(dy, reduction, t[..., 0].size), -1)
    return share * (saved(plain.softmax(z)) - t)


def weighted_softmax_cross_entropy_vjp(
    dy: Array, z: Array, t: Array, w: Array, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Array:
    """From logarithms of probabilities."""
    smoothing, classes = z.dtype.type(label_smoothing), z.dtype.type(z.shape[-1])
    target = w * (t * (1 - smoothing) + smoothing / classes)
    shifted = z - z.max(axis=-1, keepdims=True)
    y = saved(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
    share = np.expand_dims(shared(dy, reduction, t[..., 0].size), -1)
    return share * (np.exp(y) * target.sum(axis=-1, keepdims=True) - target)


def weighted_binary_cross_entropy_with_logits_vjp(
    dy: Array, z: Array, t: Array, w: Array, *, reduction: str = "mean"
) -> Array:
    no = saved(plain.sigmoid(-z))
    return shared(dy, reduction, z.size) * ((1 - t) - ((w - 1) * t + 1) * no)


def softmax_cross_entropy_with_integer_labels_vjp(
    dy: Array, z: Array, labels: Array, *, reduction: str = "mean"
) -> Array:
    share = np.expand_dims(shared(dy, reduction, labels.size), -1)
    return share * (saved(plain.softmax(z)) - np.eye(z.shape[-1], dtype=z.dtype)[labels])


def rnn_cell_vjp(dy: Array, x: Array, h: Array, w_x: Array, w_h: Array, b: Array) -> tuple[Array, ...]:
    dz = dy * (1 - saved(np.tanh(x @ w_x + h @ w_h + b)) ** 2)
    return dz @ w_x.T, dz @ w_h.T, x.T @ dz, h.T @ dz, dz.sum(axis=0)


def lstm_cell_vjp(dy: Array, x: Array, h: Array, c: Array, w_x: Array, w_h: Array, b: Array) -> Any:
    dh, dc = dy
    z = np.split(x @ w_x + h @ w_h + b, 4, axis=-1)
    i, f, o = (saved(plain.sigmoid(z[k])) for k in (0, 1, 3))
    g = saved(np.tanh(z[2]))
    t = saved(np.tanh(plain.sigmoid(z[1]) * c + plain.sigmoid(z[0]) * np.tanh(z[2])))
    e = dc + dh * o * (1 - t * t)
    dz = np.concatenate(
        [e * g * i * (1 - i), e * c * f * (1 - f), e * i * (1 - g * g), dh * t * o * (1 - o)], axis=-1
    )
    return dz @ w_x.T, dz @ w_h.T, e * f, x.T @ dz, h.T @ dz, dz.sum(axis=0)


def gru_cell_vjp(dy: Array, x: Array, h: Array, w_x: Array, w_h: Array, b_x: Array, b_h: Array) -> Any:
    of_x, of_h = np.split(x @ w_x + b_x, 3, axis=-1), np.split(h @ w_h + b_h, 3, axis=-1)
    wide = plain.sigmoid(of_x[0] + of_h[0])
    r, z = saved(wide), saved(plain.sigmoid(of_x[1] + of_h[1]))
    n = saved(np.tanh(of_x[2] + wide * of_h[2]))
    da = dy * (1 - z) * (1 - n * n)
    of_r, of_z = da * saved(of_h[2]) * r * (1 - r), dy * (h - n) * z * (1 - z)
    d_x, d_h = np.concatenate([of_r, of_z, da], axis=-1), np.concatenate([of_r, of_z, da * r], axis=-1)
    dh = d_h @ w_h.T + dy * z
    return d_x @ w_x.T, dh, x.T @ d_x, h.T @ d_h, d_x.sum(axis=0), d_h.sum(axis=0)


def softsign_vjp(dy: Array, x: Array) -> Array:
    """From the slope itself."""
    return dy * saved(1 / (1 + np.abs(x)) / (1 + np.abs(x)))


def softplus_vjp(dy: Array, x: Array, *, beta: float = 1.0) -> Array:
    """From the result."""
    b = x.dtype.type(beta)
    return -dy * np.expm1(-b * saved(np.logaddexp(b * x, x.dtype.type(0)) / b))


def log_sigmoid_vjp(dy: Array, x: Array) -> Array:
    """From the result."""
    return -dy * np.expm1(saved(-np.logaddexp(-x, x.dtype.type(0))))


def elu_vjp(dy: Array, x: Array, *, alpha: float = 1.0) -> Array:
    return np.where(x > 0, dy, dy * x.dtype.type(alpha) * saved(np.exp(np.minimum(x, 0))))


def scaled_dot_product_attention_vjp(
    dy: Array, q: Array, k: Array, v: Array, mask: Array, *, causal: bool = False, scale: float | None = None
) -> tuple[Array, ...]:
    """From the weights and the result."""
    y, residuals = refnet.scaled_dot_product_attention.forward(q, k, v, mask, causal=causal, scale=scale)
    p, factor = saved(residuals.weights), q.dtype.type(residuals.scale)
    ds = p * (dy @ v.swapaxes(-1, -2) - (dy * saved(y)).sum(axis=-1, keepdims=True)) * factor
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy
