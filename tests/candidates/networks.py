"""Wrong: mistakes of composition, in networks whose operators are all right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.candidates import plain

Array = Any
Layers = Sequence[tuple[Array, Array]]


def _slope(z: Array, labels: Array) -> Array:
    return plain.softmax_cross_entropy_with_integer_labels_vjp(np.ones((), z.dtype), z, labels)


def _forward(params: Layers, x: Array) -> tuple[list[Array], list[Array]]:
    """What enters each layer, and what leaves it."""
    entering, leaving = [x], []
    for w, b in params:
        leaving.append(plain.linear(entering[-1], w, b))
        entering.append(plain.relu(leaving[-1]))
    return entering[:-1], leaving


def _backward(
    params: Layers,
    x: Array,
    labels: Array,
    *,
    derivative: Callable[[Array, Array], Array] = plain.relu_vjp,
    scale: Callable[[int], float] = lambda batch: 1.0,
    bias: Callable[[Array], Array] = lambda slope: slope.sum(axis=0),
    precision: Callable[[Array], Array] = lambda array: array,
) -> list[tuple[Array, Array]]:
    entering, leaving = _forward(params, x)
    slope = _slope(leaving[-1], labels) * x.dtype.type(scale(len(x)))
    gradients: list[tuple[Array, Array]] = []
    for k in range(len(params) - 1, -1, -1):
        gradients.insert(0, (precision(entering[k]).T @ precision(slope), bias(slope)))
        if k:
            slope = derivative(precision(slope) @ precision(params[k][0]).T, leaving[k - 1])
    return gradients


def sum_for_mean(params: Layers, x: Array, labels: Array) -> Any:
    return _backward(params, x, labels, scale=float)


def divided_twice_by_the_batch(params: Layers, x: Array, labels: Array) -> Any:
    return _backward(params, x, labels, scale=lambda batch: 1 / batch)


def without_the_derivative_of_relu(params: Layers, x: Array, labels: Array) -> Any:
    return _backward(params, x, labels, derivative=lambda dy, x: dy)


def relu_of_the_slope(params: Layers, x: Array, labels: Array) -> Any:
    """The mask is taken from the gradient instead of the activation."""
    return _backward(params, x, labels, derivative=lambda dy, x: plain.relu(dy))


def mean_for_the_bias(params: Layers, x: Array, labels: Array) -> Any:
    return _backward(params, x, labels, bias=lambda slope: slope.mean(axis=0))


def in_ten_bits(array: Array) -> Array:
    """Rounded to the 11 significant bits of TensorFloat-32."""
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(array.dtype)


def in_tensorfloat32(params: Layers, x: Array, labels: Array) -> Any:
    return _backward(params, x, labels, precision=in_ten_bits)


def layers_in_reverse(params: Layers, x: Array, labels: Array) -> Any:
    """The right gradients in the order in which backpropagation finds them."""
    return plain.mlp_gradients(params, x, labels)[::-1]


def relu_after_the_last_layer(x: Array, params: Layers) -> Array:
    return plain.relu(plain.mlp(x, params))


def without_activations(x: Array, params: Layers) -> Array:
    for w, b in params:
        x = plain.linear(x, w, b)
    return x


def _epoch(
    params: Layers, xs: Array, labels: Array, rate: float, gradients: Callable[..., Any], order: Sequence[int]
) -> Any:
    current = [(w, b) for w, b in params]
    for k in order:
        steps = gradients(current, xs[k : k + 1], labels[k : k + 1])
        current = [
            (w - w.dtype.type(rate) * dw, b - b.dtype.type(rate) * db)
            for (w, b), (dw, db) in zip(current, steps, strict=True)
        ]
    return current


def updates_before_it_propagates(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    """The weights of a layer are changed before the slope goes through them."""
    current = [(w, b) for w, b in params]
    for k in range(len(xs)):
        entering, leaving = _forward(current, xs[k : k + 1])
        slope = _slope(leaving[-1], labels[k : k + 1])
        for layer in range(len(current) - 1, -1, -1):
            w, b = current[layer]
            rate = w.dtype.type(learning_rate)
            current[layer] = (w - rate * (entering[layer].T @ slope), b - rate * slope.sum(axis=0))
            if layer:
                slope = plain.relu_vjp(slope @ current[layer][0].T, leaving[layer - 1])
    return current


def one_step_for_the_epoch(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    """The whole epoch as one batch."""
    gradients = plain.mlp_gradients(params, xs, labels)
    rate = xs.dtype.type(learning_rate)
    return [(w - rate * dw, b - rate * db) for (w, b), (dw, db) in zip(params, gradients, strict=True)]


def samples_in_reverse(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, learning_rate, plain.mlp_gradients, range(len(xs) - 1, -1, -1))


def gradients_of_the_first_parameters(
    params: Layers, xs: Array, labels: Array, *, learning_rate: float
) -> Any:
    """The gradients are not taken anew after a step."""
    return _epoch(
        params, xs, labels, learning_rate, lambda _, x, t: plain.mlp_gradients(params, x, t), range(len(xs))
    )


def forgets_the_last_sample(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, learning_rate, plain.mlp_gradients, range(len(xs) - 1))


def uphill(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, -learning_rate, plain.mlp_gradients, range(len(xs)))


MISTAKES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("mlp", relu_after_the_last_layer),
    ("mlp", without_activations),
    ("mlp_gradients", sum_for_mean),
    ("mlp_gradients", divided_twice_by_the_batch),
    ("mlp_gradients", without_the_derivative_of_relu),
    ("mlp_gradients", relu_of_the_slope),
    ("mlp_gradients", mean_for_the_bias),
    ("mlp_gradients", in_tensorfloat32),
    ("mlp_gradients", layers_in_reverse),
    ("sgd_epoch", updates_before_it_propagates),
    ("sgd_epoch", one_step_for_the_epoch),
    ("sgd_epoch", samples_in_reverse),
    ("sgd_epoch", gradients_of_the_first_parameters),
    ("sgd_epoch", forgets_the_last_sample),
    ("sgd_epoch", uphill),
)
"""The function of the contract, and what stands in its place."""
