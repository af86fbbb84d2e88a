"""Wrong: kernels that are right for the shapes on which they were tried, and for no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.candidates import plain

Array = Any
Layers = Sequence[tuple[Array, Array]]
VECTOR = 8
BLOCK = 64


def softmax_wrong_beyond_a_vector_width(x: Array, *, axis: int = -1) -> Array:
    y = plain.softmax(x, axis=axis)
    if x.shape[axis] > 4 * VECTOR:
        y[..., -1] *= 1.5
    return y


def softmax_right_only_for_matrices(x: Array, *, axis: int = -1) -> Array:
    return plain.softmax(x, axis=axis) if x.ndim == 2 else np.zeros_like(x)


def softmax_always_along_the_last_axis_of_three(x: Array, *, axis: int = -1) -> Array:
    return plain.softmax(x, axis=axis if x.ndim < 3 else -1)


def softmax_vjp_that_sums_a_block(dy: Array, x: Array, *, axis: int = -1) -> Array:
    y = plain.softmax(x, axis=axis)
    terms = np.take(dy * y, range(min(x.shape[axis], 4 * VECTOR)), axis)
    return y * (dy - terms.sum(axis=axis, keepdims=True))


def log_softmax_without_the_tail(x: Array, *, axis: int = -1) -> Array:
    z = x - x.max(axis=axis, keepdims=True)
    whole = max(x.shape[axis] // VECTOR * VECTOR, min(x.shape[axis], VECTOR))
    return z - np.log(np.take(np.exp(z), range(whole), axis).sum(axis=axis, keepdims=True))


def tanh_without_the_tail(x: Array) -> Array:
    """Whole vectors only; what is shorter than one takes another way, which is right."""
    y = np.asarray(np.tanh(x)).copy()
    if x.size > 2 * VECTOR:
        y.reshape(-1)[x.size // VECTOR * VECTOR :] = 0
    return y


def tanh_of_the_first_block(x: Array) -> Array:
    y = np.asarray(np.tanh(x)).copy()
    y.reshape(-1)[BLOCK:] = 0
    return y


def sigmoid_of_many_blocks(x: Array) -> Array:
    """A grid of one block of a thousand threads."""
    y = np.asarray(plain.sigmoid(x)).copy()
    y.reshape(-1)[1024:] = 0
    return y


def relu_vjp_in_integers_of_eight_bits(dy: Array, x: Array) -> Array:
    """The index wraps round at 64."""
    return (dy.reshape(-1)[np.arange(x.size) % BLOCK] * (x.reshape(-1) > 0)).reshape(x.shape)


def mse_over_whole_vectors(p: Array, t: Array, *, reduction: str = "mean") -> Array:
    whole = max(p.size // VECTOR * VECTOR, min(p.size, VECTOR + VECTOR - 1))
    if reduction == "none" or p.size < 2 * VECTOR:
        return plain.mse(p, t, reduction=reduction)
    return plain.mse(p.reshape(-1)[:whole], t.reshape(-1)[:whole], reduction=reduction)


def cross_entropy_of_the_first_samples(z: Array, labels: Array, *, reduction: str = "mean") -> Array:
    if reduction == "none":
        return plain.softmax_cross_entropy_with_integer_labels(z, labels, reduction=reduction)
    return plain.softmax_cross_entropy_with_integer_labels(
        z[: 2 * VECTOR], labels[: 2 * VECTOR], reduction=reduction
    )


def linear_over_one_block(x: Array, w: Array, b: Array) -> Array:
    return x[:, :BLOCK] @ w[:BLOCK] + b


def linear_vjp_of_one_block(dy: Array, x: Array, w: Array, b: Array) -> tuple[Array, ...]:
    dx, dw, db = plain.linear_vjp(dy, x, w, b)
    dw[:, BLOCK:] = 0
    return dx, dw, db


def mlp_of_few_neurons(x: Array, params: Layers) -> Array:
    """At most two vectors of hidden neurons."""
    for w, b in params[:-1]:
        x = plain.relu(plain.linear(x, w, b))
        x[:, 2 * VECTOR :] = 0
    return plain.linear(x, *params[-1])


def mlp_gradients_of_few_neurons(params: Layers, x: Array, labels: Array) -> Any:
    gradients = plain.mlp_gradients(params, x, labels)
    for dw, db in gradients:
        dw[:, 2 * VECTOR :] = 0
        db[2 * VECTOR :] = 0
    return gradients


def sgd_epoch_of_few_neurons(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    after = plain.sgd_epoch(params, xs, labels, learning_rate=learning_rate)
    return [
        (
            np.where(np.arange(len(b)) < 2 * VECTOR, new_w, w),
            np.where(np.arange(len(b)) < 2 * VECTOR, new_b, b),
        )
        for (w, b), (new_w, new_b) in zip(params, after, strict=True)
    ]


MISTAKES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("softmax", softmax_wrong_beyond_a_vector_width),
    ("softmax", softmax_right_only_for_matrices),
    ("softmax", softmax_always_along_the_last_axis_of_three),
    ("softmax_vjp", softmax_vjp_that_sums_a_block),
    ("log_softmax", log_softmax_without_the_tail),
    ("tanh", tanh_without_the_tail),
    ("tanh", tanh_of_the_first_block),
    ("sigmoid", sigmoid_of_many_blocks),
    ("relu_vjp", relu_vjp_in_integers_of_eight_bits),
    ("mse", mse_over_whole_vectors),
    ("softmax_cross_entropy_with_integer_labels", cross_entropy_of_the_first_samples),
    ("linear", linear_over_one_block),
    ("linear_vjp", linear_vjp_of_one_block),
    ("mlp", mlp_of_few_neurons),
    ("mlp_gradients", mlp_gradients_of_few_neurons),
    ("sgd_epoch", sgd_epoch_of_few_neurons),
)
"""The function of the contract that each stands for, and what is wrong."""
