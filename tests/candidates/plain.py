"""Right: the obvious stable NumPy code, in the format of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.candidates.parts import shared

Array = Any
Layers = Sequence[tuple[Array, Array]]


def identity(x: Array) -> Array:
    return x.copy()


def identity_vjp(dy: Array, x: Array) -> Array:
    return dy.copy()


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu_vjp(dy: Array, x: Array) -> Array:
    return dy * (x > 0)


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def sigmoid_vjp(dy: Array, x: Array) -> Array:
    return dy * sigmoid(x) * sigmoid(-x)


def tanh(x: Array) -> Array:
    return np.tanh(x)


def tanh_vjp(dy: Array, x: Array) -> Array:
    return dy / np.cosh(x) ** 2


def softmax(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = softmax(x, axis=axis)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def log_softmax_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    return dy - softmax(x, axis=axis) * dy.sum(axis=axis, keepdims=True)


def logsumexp(x: Array, *, axis: int = -1) -> Array:
    top = x.max(axis=axis, keepdims=True)
    top[~np.isfinite(top)] = 0
    return np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)


def logsumexp_vjp(dy: Array, x: Array, *, axis: int = -1) -> Array:
    return np.expand_dims(dy, axis) * softmax(x, axis=axis)


def linear(x: Array, w: Array, b: Array) -> Array:
    return x @ w + b


def linear_vjp(dy: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def _reduced(losses: Array, reduction: str) -> Array:
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def binary_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    losses = np.where(t == 0, 0 * p, -t * np.log(p)) - np.where(t == 1, 0 * p, (1 - t) * np.log1p(-p))
    return _reduced(losses, reduction)


def binary_cross_entropy_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * (p - t) / (p * (1 - p))


def binary_cross_entropy_with_logits(z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), reduction)


def binary_cross_entropy_with_logits_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, z.size) * (sigmoid(z) - t)


def categorical_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-np.where(t == 0, 0 * p, t * np.log(p)).sum(axis=-1), reduction)


def categorical_cross_entropy_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return -np.expand_dims(shared(dy, reduction, p[..., 0].size), -1) * t / p


def softmax_cross_entropy(z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-np.where((t == 0) & np.isinf(z), 0, t * log_softmax(z)).sum(axis=-1), reduction)


def softmax_cross_entropy_vjp(dy: Array, z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return np.expand_dims(shared(dy, reduction, z[..., 0].size), -1) * (softmax(z) - t)


def softmax_cross_entropy_with_integer_labels(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-np.take_along_axis(log_softmax(z), labels[..., None], axis=-1)[..., 0], reduction)


def softmax_cross_entropy_with_integer_labels_vjp(
    dy: Array, z: Array, labels: Array, *, reduction: str = "mean"
) -> Array:
    one_hot = np.eye(z.shape[-1], dtype=z.dtype)[labels]
    return np.expand_dims(shared(dy, reduction, labels.size), -1) * (softmax(z) - one_hot)


def mse(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced((p - t) ** 2, reduction)


def mse_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * 2 * (p - t)


def mae(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(np.abs(p - t), reduction)


def mae_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * np.sign(p - t)


def huber(p: Array, t: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    size = np.abs(p - t)
    return _reduced(
        np.where(size <= delta, np.square(p - t) / 2, delta * size - delta * delta / 2), reduction
    )


def huber_vjp(dy: Array, p: Array, t: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * np.clip(p - t, -delta, delta)


def log_cosh(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    size = np.abs(p - t)
    return _reduced(size + np.log1p(np.exp(-2 * size)) - p.dtype.type(np.log(2)), reduction)


def log_cosh_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * np.tanh(p - t)


def hinge(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(np.maximum(1 - t * p, 0), reduction)


def hinge_vjp(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return shared(dy, reduction, p.size) * np.where(t * p < 1, -t, 0)


def nll(log_p: Array, labels: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0], reduction)


def nll_vjp(dy: Array, log_p: Array, labels: Array, *, reduction: str = "mean") -> Array:
    one_hot = np.eye(log_p.shape[-1], dtype=log_p.dtype)[labels]
    return -np.expand_dims(shared(dy, reduction, labels.size), -1) * one_hot


def kl_divergence(log_p: Array, t: Array, *, reduction: str = "mean") -> Array:
    ruled_out = (t == 0) & np.isinf(log_p)
    own = t * np.log(np.where(t == 0, 1, t))
    return _reduced((own - np.where(ruled_out, 0, t * log_p)).sum(axis=-1), reduction)


def kl_divergence_vjp(dy: Array, log_p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return -np.expand_dims(shared(dy, reduction, t[..., 0].size), -1) * t


def sgd_step(param: Array, grad: Array, *, learning_rate: float) -> Array:
    return param - param.dtype.type(learning_rate) * grad


def _activations(x: Array, params: Layers) -> list[Array]:
    """What enters each layer, and what leaves the last."""
    values = [x]
    for number, (w, b) in enumerate(params):
        values.append(linear(relu(values[-1]) if number else x, w, b))
    return values


def mlp(x: Array, params: Layers) -> Array:
    return _activations(x, params)[-1]


def mlp_gradients(params: Layers, x: Array, labels: Array) -> list[tuple[Array, Array]]:
    values = _activations(x, params)
    slope = softmax_cross_entropy_with_integer_labels_vjp(np.ones((), x.dtype), values[-1], labels)
    gradients: list[tuple[Array, Array]] = []
    for number in range(len(params) - 1, -1, -1):
        entered = relu(values[number]) if number else x
        gradients.insert(0, (entered.T @ slope, slope.sum(axis=0)))
        slope = relu_vjp(slope @ params[number][0].T, values[number])
    return gradients


def sgd_epoch(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> list[tuple[Array, Array]]:
    current = list(params)
    for sample in range(len(xs)):
        one = slice(sample, sample + 1)
        steps = mlp_gradients(current, xs[one], labels[one])
        current = [
            (sgd_step(w, dw, learning_rate=learning_rate), sgd_step(b, db, learning_rate=learning_rate))
            for (w, b), (dw, db) in zip(current, steps, strict=True)
        ]
    return current
