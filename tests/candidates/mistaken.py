"""Wrong: functions as people write them, each with the name that the diagnosis is to find for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.candidates import networks, plain

Array = Any
Function = Callable[..., Any]


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _reduced(losses: Array, reduction: str) -> Array:
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def sigmoid_clipped(x: Array) -> Array:
    return np.clip(_sigmoid(x), 1e-7, 1 - 1e-7)


def sigmoid_by_output(dy: Array, x: Array) -> Array:
    return dy * x * (1 - x)


def sigmoid_s_times_s(dy: Array, x: Array) -> Array:
    return dy * _sigmoid(x) * _sigmoid(x)


def tanh_by_output(dy: Array, x: Array) -> Array:
    return dy * (1 - x**2)


def tanh_arguments(x: Array, dy: Array) -> Array:
    return dy * (1 - np.tanh(x) ** 2)


def identity_arguments(x: Array, dy: Array) -> Array:
    return dy.copy()


def softmax_y_dy(dy: Array, x: Array, *, axis: int = -1) -> Array:
    return _softmax(x, axis) * dy


def softmax_sum_of_everything(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = _softmax(x, axis)
    return y * dy - y * (y * dy).sum(keepdims=True)


def log_softmax_unshifted(x: Array, *, axis: int = -1) -> Array:
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def linear_minus(x: Array, w: Array, b: Array) -> Array:
    return x @ w - b


def bias_of_everything(dy: Array, x: Array, w: Array, b: Array) -> Any:
    return dy @ w.T, x.T @ dy, dy.sum() * np.ones_like(b)


def bias_sign(dy: Array, x: Array, w: Array, b: Array) -> Any:
    return dy @ w.T, x.T @ dy, -dy.sum(axis=0)


def bce_added(epsilon: float) -> Function:
    def binary_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
        return _reduced(-(t * np.log(p + epsilon) + (1 - t) * np.log(1 - p + epsilon)), reduction)

    return binary_cross_entropy


def bce_maximum(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    first, second = np.log(np.maximum(p, 1e-15)), np.log(np.maximum(1 - p, 1e-15))
    return _reduced(-(t * first + (1 - t) * second), reduction)


def cce_added(epsilon: float) -> Function:
    def categorical_cross_entropy(p: Array, t: Array, *, reduction: str = "mean") -> Array:
        return _reduced(-(t * np.log(p + epsilon)).sum(-1), reduction)

    return categorical_cross_entropy


def cce_clipped(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-(t * np.log(np.clip(p, 1e-12, 1))).sum(-1), reduction)


def cce_over_all(dy: Array, p: Array, t: Array, *, reduction: str = "mean") -> Array:
    return np.asarray(dy)[..., None] * (-t / p) / (p.size if reduction == "mean" else 1)


def softmax_ce_added(z: Array, t: Array, *, reduction: str = "mean") -> Array:
    return _reduced(-(t * np.log(_softmax(z) + 1e-12)).sum(-1), reduction)


def labels_minus_one(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    log_p = plain.log_softmax(z)
    return _reduced(-np.take_along_axis(log_p, labels[..., None] - 1, -1)[..., 0], reduction)


def _label_slope(z: Array, labels: Array) -> Array:
    return _softmax(z) - (labels[..., None] == np.arange(z.shape[-1]))


def labels_over_all(dy: Array, z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    return np.asarray(dy)[..., None] * _label_slope(z, labels) / (z.size if reduction == "mean" else 1)


def labels_without_dy(dy: Array, z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    return _label_slope(z, labels) / (labels.size if reduction == "mean" else 1)


def mlp_tanh(x: Array, params: Any) -> Array:
    *hidden, (w, b) = params
    for each in hidden:
        x = np.tanh(x @ each[0] + each[1])
    return x @ w + b


def tripled(x: Array) -> Array:
    return 3 * np.tanh(x)


def in_half(x: Array) -> Array:
    return _sigmoid(x.astype(np.float16)).astype(x.dtype)


def nan_far_out(x: Array) -> Array:
    return np.where(np.abs(x) > 30, x.dtype.type(np.nan), _sigmoid(x))


NAMED: dict[Function, tuple[str, str, str]] = {
    sigmoid_clipped: ("sigmoid", "sigmoid-clipped", "epsilon = 1e-07"),
    sigmoid_by_output: ("sigmoid_vjp", "sigmoid-derivative-of-the-argument", ""),
    sigmoid_s_times_s: ("sigmoid_vjp", "sigmoid-derivative-y-squared", ""),
    tanh_by_output: ("tanh_vjp", "tanh-derivative-of-the-argument", ""),
    tanh_arguments: ("tanh_vjp", "tanh-vjp-arguments-swapped", ""),
    identity_arguments: ("identity_vjp", "arguments-swapped", ""),
    softmax_y_dy: ("softmax_vjp", "softmax-gradient-without-sum", ""),
    softmax_sum_of_everything: ("softmax_vjp", "softmax-gradient-summed-over-everything", ""),
    log_softmax_unshifted: ("log_softmax", "log-softmax-no-max-subtraction", ""),
    linear_minus: ("linear", "linear-subtracts-the-bias", ""),
    bias_of_everything: ("linear_vjp", "linear-bias-gradient-summed-over-everything", ""),
    bias_sign: ("linear_vjp", "linear-bias-gradient-sign", ""),
    bce_maximum: ("binary_cross_entropy", "bce-each-logarithm-clipped", "epsilon = 1e-15"),
    cce_clipped: ("categorical_cross_entropy", "cce-clipped", "epsilon = 1e-12"),
    cce_over_all: ("categorical_cross_entropy_vjp", "cce-gradient-averaged-over-classes", ""),
    softmax_ce_added: ("softmax_cross_entropy", "softmax-ce-epsilon-in-the-logarithm", "epsilon = 1e-12"),
    labels_minus_one: ("softmax_cross_entropy_with_integer_labels", "label-ce-one-too-low", ""),
    labels_over_all: (
        "softmax_cross_entropy_with_integer_labels_vjp",
        "label-ce-gradient-averaged-over-classes",
        "",
    ),
    labels_without_dy: (
        "softmax_cross_entropy_with_integer_labels_vjp",
        "label-ce-gradient-ignores-cotangent",
        "",
    ),
    mlp_tanh: ("mlp", "mlp-tanh-in-hidden-layers", ""),
    networks.without_the_derivative_of_relu: (
        "mlp_gradients",
        "mlp-gradient-missing-activation-derivative",
        "",
    ),
    tripled: ("tanh", "3", "times 3"),
    in_half: ("sigmoid", "precision-of-float16", "errors of the size of float16"),
    nan_far_out: ("sigmoid", "not-finite", ""),
    **{
        bce_added(e): ("binary_cross_entropy", "bce-epsilon-in-the-logarithm", f"epsilon = {e:.3g}")
        for e in (1e-7, 1e-8, 1e-10, 1e-12, 1e-15, 1e-3)
    },
    **{
        cce_added(e): ("categorical_cross_entropy", "cce-epsilon-in-the-logarithm", f"epsilon = {e:.3g}")
        for e in (1e-7, 1e-8, 1e-10, 1e-12, 1e-15, 1e-3)
    },
}
"""The function of the contract that each stands for, the name that it gets, and what the text must have."""
