"""Functions of other libraries as `gradcheck` takes them: a function of NumPy arrays, and its vjp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = Callable[..., Any]
Pair = tuple[Function, Function]
"""f and vjp, as `gradcheck(f, vjp, inputs)` takes them."""


def _is_floating(x: Array) -> bool:
    return bool(np.issubdtype(x.dtype, np.floating))


def from_torch(function: Function) -> Pair:
    """A function of tensors, and the vjp that PyTorch's autograd has for it.

    By `backward` and not by `grad`, which the re-entrant checkpoint refuses; and f runs with a graph as the
    vjp does, for some functions warn without one.
    """
    import torch

    def call(inputs: Sequence[Array]) -> tuple[list[Any], Any]:
        tensors = [torch.tensor(x, requires_grad=_is_floating(x)) for x in inputs]
        return tensors, function(*tensors)

    def f(*inputs: Array) -> Any:
        _, y = call(inputs)
        return tuple(part.detach().numpy() for part in y) if isinstance(y, tuple) else y.detach().numpy()

    def vjp(dy: Any, *inputs: Array) -> tuple[Array, ...]:
        tensors, y = call(inputs)
        cotangents = [torch.tensor(part) for part in dy] if isinstance(y, tuple) else [torch.tensor(dy)]
        torch.autograd.backward(y if isinstance(y, tuple) else [y], cotangents)
        return tuple(
            # None is autograd's way to say 0: the output does not depend on the input
            (torch.zeros_like(x) if x.grad is None else x.grad).numpy()
            for x in tensors
            if x.requires_grad
        )

    return f, vjp


def from_jax(function: Function) -> Pair:
    """A function of jax arrays, and its `jax.vjp`; compiled, and with 64 bits whatever the process has."""
    import jax

    compiled = jax.jit(function)

    def pull_back(dy: Any, *inputs: Any) -> Any:
        floating = [k for k, x in enumerate(inputs) if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)]

        def of_floating(*points: Any) -> Any:
            arguments = list(inputs)
            for k, x in zip(floating, points, strict=True):
                arguments[k] = x
            return function(*arguments)

        return jax.vjp(of_floating, *(inputs[k] for k in floating))[1](dy)

    compiled_vjp = jax.jit(pull_back)

    def f(*inputs: Array) -> Any:
        with _wide(jax):
            y = compiled(*map(jax.numpy.array, inputs))
            return tuple(map(np.array, y)) if isinstance(y, tuple) else np.array(y)

    def vjp(dy: Any, *inputs: Array) -> tuple[Array, ...]:
        with _wide(jax):
            cotangent = tuple(map(jax.numpy.array, dy)) if isinstance(dy, tuple) else jax.numpy.array(dy)
            return tuple(map(np.array, compiled_vjp(cotangent, *map(jax.numpy.array, inputs))))

    return f, vjp


def _wide(jax: Any) -> Any:
    """The context in which jax keeps float64; it moved out of `jax.experimental`, which now warns."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def from_sklearn(model: Any, x: Array, y: Array, sample_weight: Array | None = None) -> Pair:
    """The loss of a scikit-learn network as a function of its parameters, and its `_backprop`.

    `model` needs no fit, only its `out_activation_`: the parameters are the arguments, all weights before all
    biases.
    """

    def backprop(parameters: Sequence[Array]) -> tuple[Any, list[Array]]:
        half = len(parameters) // 2
        model.coefs_, model.intercepts_ = list(parameters[:half]), list(parameters[half:])
        model.n_layers_, model.n_outputs_ = half + 1, y.shape[1]
        weights, biases = ([np.empty_like(p) for p in part] for part in (model.coefs_, model.intercepts_))
        loss, weights, biases = model._backprop(
            x, y, sample_weight, [x, *[None] * half], [None] * half, weights, biases
        )
        return loss, [*weights, *biases]

    def f(*parameters: Array) -> Any:
        return np.asarray(backprop(parameters)[0])

    def vjp(dy: Array, *parameters: Array) -> tuple[Array, ...]:
        return tuple(dy * g for g in backprop(parameters)[1])

    return f, vjp
