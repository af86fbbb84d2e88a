"""JAX: its functions and its rules of differentiation, under the names of the contract.

Each row of `FUNCTIONS` is JAX's own function with the contract's settings: NAME is its value, NAME_vjp what
`jax.vjp` makes of it. A new operator is one row. The boundary is untyped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import __version__ as __version__
from jax import nn, numpy
from jax.example_libraries import optimizers
from jax.scipy import special

from specs import SPECS

Array = npt.NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

NOTES = (
    "Gradients are those of jax.vjp, not compiled as a whole: every operation is, by itself.",
    "64 bits are on while a function of the adapter runs (jax.enable_x64), whatever the process has.",
    "JAX has no layers and no losses. linear is jax.numpy.matmul and a sum; the losses are written as Optax "
    "writes them, on jax.nn.log_softmax, logsumexp, log_sigmoid and jax.scipy.special.xlogy, xlog1py.",
    "sgd_step and sgd_epoch are jax.example_libraries.optimizers.sgd. The network is linear and jax.nn.relu.",
)


# ---------------------------------------------------------------------------------------------- operators


def _reduced(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else getattr(numpy, reduction)(losses)


def _linear(x: Any, w: Any, b: Any) -> Any:
    return numpy.matmul(x, w) + b


def _mse(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(numpy.square(p - t), reduction)


def _binary_cross_entropy(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(-(special.xlogy(t, p) + special.xlog1py(1 - t, -p)), reduction)


def _binary_cross_entropy_with_logits(z: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(-t * nn.log_sigmoid(z) - (1 - t) * nn.log_sigmoid(-z), reduction)


def _categorical_cross_entropy(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(-special.xlogy(t, p).sum(axis=-1), reduction)


def _softmax_cross_entropy(z: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(-(t * nn.log_softmax(z)).sum(axis=-1), reduction)


def _softmax_cross_entropy_with_integer_labels(z: Any, labels: Any, reduction: str = "mean") -> Any:
    right = numpy.take_along_axis(z, labels[..., None], axis=-1)[..., 0]
    return _reduced(nn.logsumexp(z, axis=-1) - right, reduction)


def _sgd_step(param: Any, grad: Any, learning_rate: float) -> Any:
    start, update, parameters = optimizers.sgd(learning_rate)
    return parameters(update(0, grad, start(param)))


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": nn.identity,
        "relu": nn.relu,
        "sigmoid": nn.sigmoid,
        "tanh": nn.tanh,
        "softmax": nn.softmax,
        "log_softmax": nn.log_softmax,
        "logsumexp": lambda x, axis=-1: nn.logsumexp(x, axis=axis),
        "linear": _linear,
        "mse": _mse,
        "binary_cross_entropy": _binary_cross_entropy,
        "binary_cross_entropy_with_logits": _binary_cross_entropy_with_logits,
        "categorical_cross_entropy": _categorical_cross_entropy,
        "softmax_cross_entropy": _softmax_cross_entropy,
        "softmax_cross_entropy_with_integer_labels": _softmax_cross_entropy_with_integer_labels,
        "sgd_step": _sgd_step,
    }
)
"""By the name in the contract; arrays of JAX in, one out."""


def _array(y: Any) -> Array:
    """A copy, in memory of its own."""
    return np.array(y)


def _value(name: str, *arrays: Array, **settings: Any) -> Array:
    with jax.enable_x64(True):
        return _array(FUNCTIONS[name](*map(numpy.array, arrays), **settings))


def _vjp(name: str, dy: Array, *arrays: Array, **settings: Any) -> tuple[Array, ...]:
    differentiable = SPECS[name].differentiable
    with jax.enable_x64(True):
        inputs = list(map(numpy.array, arrays))

        def moved(*points: Any) -> Any:
            given = dict(enumerate(inputs)) | dict(zip(differentiable, points, strict=True))
            return FUNCTIONS[name](*given.values(), **settings)

        _, pull_back = jax.vjp(moved, *(inputs[k] for k in differentiable))
        return tuple(map(_array, pull_back(numpy.array(dy))))


def __getattr__(name: str) -> Callable[..., Any]:
    """NAME and NAME_vjp of every row."""
    function = name.removesuffix("_vjp")
    if function not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(_value if name == function else _vjp, function)


# ----------------------------------------------------------------------------------------------- networks


def _logits(params: Any, x: Any) -> Any:
    for k, (w, b) in enumerate(params):
        x = _linear(nn.relu(x) if k else x, w, b)
    return x


def _loss(params: Any, x: Any, labels: Any) -> Any:
    return _softmax_cross_entropy_with_integer_labels(_logits(params, x), labels)


_gradients = jax.jit(jax.grad(_loss))


def _inside(tree: Any) -> Any:
    return jax.tree.map(numpy.array, tree)


def _outside(tree: Any) -> Any:
    return jax.tree.map(_array, tree)


def mlp(x: Array, params: Layers) -> Array:
    with jax.enable_x64(True):
        return _array(_logits(_inside(params), numpy.array(x)))


def mlp_gradients(params: Layers, x: Array, labels: Array) -> Sequence[tuple[Array, Array]]:
    with jax.enable_x64(True):
        return list(_outside(_gradients(_inside(params), *map(numpy.array, (x, labels)))))


def sgd_epoch(
    params: Layers, xs: Array, labels: Array, *, learning_rate: float
) -> Sequence[tuple[Array, Array]]:
    with jax.enable_x64(True):
        start, update, parameters = optimizers.sgd(learning_rate)
        state = start(_inside(params))
        for k in range(len(xs)):
            sample = numpy.array(xs[k : k + 1]), numpy.array(labels[k : k + 1])
            state = update(k, _gradients(parameters(state), *sample), state)
        return list(_outside(parameters(state)))
