"""PyTorch: its functions and its autograd, under the names of the contract.

Each row of `FUNCTIONS` is PyTorch's own function with the contract's settings: NAME is its value, NAME_vjp
what `torch.autograd.grad` makes of it. A new operator is one row. The boundary is untyped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import __version__ as __version__
from torch.nn import functional

from specs import SPECS

Array = npt.NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

NOTES = (
    "Gradients are those of torch.autograd.grad; on the CPU, eager, with as many threads as PyTorch takes.",
    "NumPy has no bfloat16 that PyTorch reads: those arrays go through a view of int16.",
    "PyTorch has no negative strides; the adapter hands it copies of such arrays, all others as they lie.",
    "linear is functional.linear, which takes the weights as (outputs, inputs): a transposed view.",
    "functional.cross_entropy takes the classes along axis 1; of more than two axes the adapter moves the "
    "last one there.",
    "It has no loss of probabilities against a distribution: categorical_cross_entropy is missing.",
    "sgd_step and sgd_epoch are torch.optim.SGD. The network is functional.linear and functional.relu, its "
    "loss functional.cross_entropy.",
)


# ------------------------------------------------------------------------------------- arrays and tensors


def _tensor(x: Array) -> Any:
    """The same memory, wherever PyTorch can address it."""
    if any(stride < 0 for stride in x.strides):
        x = x.copy()
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _array(y: Any) -> Array:
    """A copy, in memory of its own."""
    y = y.detach()
    if y.dtype == torch.bfloat16:
        return np.array(y.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(y.numpy())


def _leaf(x: Array) -> Any:
    return _tensor(x).requires_grad_()


# ---------------------------------------------------------------------------------------------- operators


def _cross_entropy(z: Any, t: Any, reduction: str = "mean") -> Any:
    """The classes along axis 1, in the logits and in targets that are distributions."""
    if z.ndim > 2:
        t = t.movedim(-1, 1) if t.ndim == z.ndim else t
        z = z.movedim(-1, 1)
    return functional.cross_entropy(z, t, reduction=reduction)


def _sgd_step(param: Any, grad: Any, learning_rate: float) -> Any:
    new = param.clone()
    new.grad = grad
    torch.optim.SGD([new], learning_rate).step()
    return new


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": torch.nn.Identity(),
        "relu": functional.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda x, axis=-1: torch.softmax(x, axis),
        "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
        "logsumexp": lambda x, axis=-1: torch.logsumexp(x, axis),
        "linear": lambda x, w, b: functional.linear(x, w.T, b),
        "mse": functional.mse_loss,
        "binary_cross_entropy": functional.binary_cross_entropy,
        "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
        "softmax_cross_entropy": _cross_entropy,
        "softmax_cross_entropy_with_integer_labels": _cross_entropy,
        "sgd_step": _sgd_step,
    }
)
"""By the name in the contract; tensors in, a tensor out."""

WITHOUT_GRADIENT = ("sgd_step",)
"""What writes to its own tensors, as optimizers do."""


def _value(name: str, *arrays: Array, **settings: Any) -> Array:
    with torch.no_grad():
        return _array(FUNCTIONS[name](*map(_tensor, arrays), **settings))


def _vjp(name: str, dy: Array, *arrays: Array, **settings: Any) -> tuple[Array, ...]:
    differentiable = SPECS[name].differentiable
    tensors = [_leaf(x) if k in differentiable else _tensor(x) for k, x in enumerate(arrays)]
    y = FUNCTIONS[name](*tensors, **settings)
    gradients = torch.autograd.grad(y, [tensors[k] for k in differentiable], _tensor(dy))
    return tuple(map(_array, gradients))


def __getattr__(name: str) -> Callable[..., Any]:
    """NAME and NAME_vjp of every row."""
    function = name.removesuffix("_vjp")
    if function not in FUNCTIONS or (name != function and function in WITHOUT_GRADIENT):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(_value if name == function else _vjp, function)


# ----------------------------------------------------------------------------------------------- networks


def _logits(x: Any, params: Sequence[Any]) -> Any:
    for k, (w, b) in enumerate(params):
        x = functional.linear(functional.relu(x) if k else x, w.T, b)
    return x


def _layers(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [pair for k, pair in enumerate(pairwise(flat)) if k % 2 == 0]


def _leaves(params: Layers) -> list[Any]:
    """Fresh memory: an optimizer writes to it."""
    return [_tensor(x.copy()).requires_grad_() for pair in params for x in pair]


def mlp(x: Array, params: Layers) -> Array:
    with torch.no_grad():
        return _array(_logits(_tensor(x), [tuple(map(_tensor, pair)) for pair in params]))


def mlp_gradients(params: Layers, x: Array, labels: Array) -> list[tuple[Array, Array]]:
    flat = _leaves(params)
    loss = functional.cross_entropy(_logits(_tensor(x), _layers(flat)), _tensor(labels))
    return _layers([_array(g) for g in torch.autograd.grad(loss, flat)])


def sgd_epoch(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> list[tuple[Array, Array]]:
    flat = _leaves(params)
    optimizer = torch.optim.SGD(flat, learning_rate)
    for x, label in zip(_tensor(xs).split(1), _tensor(labels).split(1), strict=True):
        optimizer.zero_grad()
        functional.cross_entropy(_logits(x, _layers(flat)), label).backward()
        optimizer.step()
    return _layers([_array(x) for x in flat])
