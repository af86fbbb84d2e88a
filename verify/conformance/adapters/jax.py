"""JAX: its functions and its rules of differentiation, under the names of the contract.

Each row of `FUNCTIONS` is JAX's own function with the contract's settings: NAME is its value, NAME_vjp what
`jax.vjp` makes of it. A new operator is one row. The boundary is untyped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import __version__ as __version__
from jax import lax, nn, numpy
from jax.example_libraries import optimizers
from jax.scipy import special

from specs import SPECS

Array = npt.NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

NOTES = (
    "Gradients are those of jax.vjp, not compiled as a whole: every operation is, by itself.",
    "64 bits are on while a function of the adapter runs (jax.enable_x64), whatever the process has.",
    "JAX has no layers and no losses. linear is jax.numpy.matmul and a sum; the losses are written as Optax "
    "writes them, on jax.nn.log_softmax, logsumexp, log_sigmoid, jax.scipy.special.xlogy, xlog1py and "
    "jax.numpy.logaddexp, maximum, minimum, abs.",
    "softplus is jax.nn.softplus(beta x) / beta.",
    'The norms are jax.nn.standardize with algorithm="stable", a scale and a shift; by default it takes the '
    "variance as the mean of the squares less the square of the mean, which cancels. embedding is "
    "jax.numpy.take, and jax.numpy.where for padding. one_hot is jax.nn.one_hot, and where for the values.",
    "Convolutions are jax.lax.conv_general_dilated and conv_transpose, and a sum; the latter is compiled as "
    "a whole, without the algebraic simplifier of XLA, which aborts the process at some. Pools are "
    "jax.lax.reduce_window of lax.max and lax.add, the mean by the sum of a window of ones.",
    "jax.nn.dot_product_attention takes values as long as keys: the adapter lengthens the shorter of the two "
    "with zeros, and gives the scale of the length as it was.",
    "The steps and sgd_epoch are those of jax.example_libraries.optimizers, with the state of the case. The "
    "network is linear and jax.nn.relu.",
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


def _mae(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(numpy.abs(p - t), reduction)


def _huber(p: Any, t: Any, delta: float = 1.0, reduction: str = "mean") -> Any:
    size = numpy.abs(p - t)
    within = numpy.minimum(size, delta)
    return _reduced(0.5 * within**2 + delta * (size - within), reduction)


def _log_cosh(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(numpy.logaddexp(p - t, t - p) - numpy.log(2.0).astype(p.dtype), reduction)


def _hinge(p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced(numpy.maximum(0, 1 - p * t), reduction)


def _nll(log_p: Any, labels: Any, reduction: str = "mean") -> Any:
    return _reduced(-numpy.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0], reduction)


def _kl_divergence(log_p: Any, t: Any, reduction: str = "mean") -> Any:
    return _reduced((special.xlogy(t, t) - t * log_p).sum(axis=-1), reduction)


def _scaled(x: Any, gamma: Any, beta: Any, axes: Any, eps: float, **statistics: Any) -> Any:
    """Channels are along axis 1."""
    numbers = nn.standardize(x, axes, epsilon=eps, algorithm="stable", **statistics)
    return numbers * _by_channel(gamma, x) + _by_channel(beta, x)


def _by_channel(v: Any, x: Any) -> Any:
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


def _layer_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    return nn.standardize(x, epsilon=eps, algorithm="stable") * gamma + beta


def _batch_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    return _scaled(x, gamma, beta, (0, *range(2, x.ndim)), eps)


def _batch_norm_inference(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float = 1e-5) -> Any:
    return _scaled(x, gamma, beta, 1, eps, mean=_by_channel(mean, x), variance=_by_channel(var, x))


def _group_norm(x: Any, gamma: Any, beta: Any, groups: int, eps: float = 1e-5) -> Any:
    grouped = x.reshape(len(x), groups, -1)
    numbers = nn.standardize(grouped, epsilon=eps, algorithm="stable").reshape(x.shape)
    return numbers * _by_channel(gamma, x) + _by_channel(beta, x)


def _instance_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    return _scaled(x, gamma, beta, tuple(range(2, x.ndim)), eps)


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _conv2d(
    x: Any, w: Any, b: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    y = lax.conv_general_dilated(
        x,
        w,
        _pair(stride),
        [(size, size) for size in _pair(padding)],
        rhs_dilation=_pair(dilation),
        feature_group_count=groups,
    )
    return y + b[:, None, None]


def _conv1d(
    x: Any, w: Any, b: Any, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> Any:
    y = lax.conv_general_dilated(
        x, w, (stride,), [(padding, padding)], rhs_dilation=(dilation,), feature_group_count=groups
    )
    return y + b[:, None]


def _conv_transpose2d(
    x: Any, w: Any, b: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0
) -> Any:
    """JAX pads what is spread out by the stride: by the kernel less 1, less the padding."""
    inner = [size - 1 - cut for size, cut in zip(w.shape[2:], _pair(padding), strict=True)]
    pads = [(size, size + more) for size, more in zip(inner, _pair(output_padding), strict=True)]
    y = lax.conv_transpose(
        x, w, _pair(stride), pads, dimension_numbers=("NCHW", "OIHW", "NCHW"), transpose_kernel=True
    )
    return y + b[:, None, None]


def _over_windows(x: Any, start: float, combine: Any, size: Any, stride: Any, ceil_mode: bool) -> Any:
    """Beyond the far edges, where ceil_mode lets windows reach, is `start`."""
    pads = [(0, 0), (0, 0)]
    for length, kernel, step in zip(x.shape[2:], _pair(size), stride, strict=True):
        beyond = (kernel - length) % step if ceil_mode else 0
        pads.append((0, beyond))
    return lax.reduce_window(
        x, numpy.array(start, x.dtype), combine, (1, 1, *_pair(size)), (1, 1, *stride), pads
    )


def _padded(x: Any, padding: Any, value: float) -> Any:
    return numpy.pad(x, [(0, 0), (0, 0), *((n, n) for n in _pair(padding))], constant_values=value)


def _max_pool2d(x: Any, size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False) -> Any:
    step = _pair(size if stride is None else stride)
    padded = _padded(x, padding, -numpy.inf)
    return _trimmed(_over_windows(padded, -numpy.inf, lax.max, size, step, ceil_mode), x, padding, step)


def _avg_pool2d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    step = _pair(size if stride is None else stride)
    counted = _padded(numpy.ones_like(x), padding, float(count_include_pad))
    total, count = (
        _trimmed(_over_windows(each, 0.0, lax.add, size, step, ceil_mode), x, padding, step)
        for each in (_padded(x, padding, 0.0), counted)
    )
    return total / count


def _trimmed(y: Any, x: Any, padding: Any, step: tuple[int, int]) -> Any:
    """Without the windows that start beyond the image and its near padding."""
    starts = [
        -(-(length + near) // each)
        for length, near, each in zip(x.shape[2:], _pair(padding), step, strict=True)
    ]
    return y[:, :, : starts[0], : starts[1]]


def _attention(q: Any, k: Any, v: Any, mask: Any, causal: bool = False, scale: Any = None) -> Any:
    """In one head, between the positions and the features."""
    features, of_values = q.shape[-1], v.shape[-1]
    length = max(features, of_values)

    def by_head(x: Any) -> Any:
        longer = numpy.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])])
        return longer.reshape(-1, x.shape[-2], 1, length)

    y = nn.dot_product_attention(
        *map(by_head, (q, k, v)),
        mask=mask[None, None],
        is_causal=causal,
        scale=features**-0.5 if scale is None else scale,
    )
    return y[..., :of_values].reshape(*q.shape[:-1], of_values)


def _stepped(optimizer: Any, index: Any, grad: Any, *state: Any) -> Any:
    """The parameter and the rest of the state after one step; `index` counts the steps from 0."""
    start, update, _ = optimizer
    at_rest = jax.tree.structure(start(state[0]))
    return tuple(jax.tree.leaves(update(index, grad, jax.tree.unflatten(at_rest, state))))


def _sgd_step(param: Any, grad: Any, learning_rate: float) -> Any:
    (param,) = _stepped(optimizers.sgd(learning_rate), 0, grad, param)
    return param


def _momentum_step(
    param: Any,
    grad: Any,
    velocity: Any,
    learning_rate: float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Any:
    optimizer = optimizers.nesterov if nesterov else optimizers.momentum
    return _stepped(optimizer(learning_rate, momentum), 0, grad, param, velocity)


def _adam_step(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    return _stepped(optimizers.adam(learning_rate, beta1, beta2, eps), step - 1, grad, param, m, v)


def _rmsprop_step(
    param: Any, grad: Any, v: Any, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    return _stepped(optimizers.rmsprop(learning_rate, decay, eps), 0, grad, param, v)


def _embedding(table: Any, ids: Any, padding_id: int | None = None) -> Any:
    if padding_id is None:
        return numpy.take(table, ids, axis=0)
    padded = ids == padding_id
    return numpy.where(padded[..., None], 0, numpy.take(table, numpy.where(padded, 0, ids), axis=0))


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": nn.identity,
        "relu": nn.relu,
        "leaky_relu": lambda x, slope=0.01: nn.leaky_relu(x, slope),
        "relu6": nn.relu6,
        "hard_sigmoid": nn.hard_sigmoid,
        "hard_swish": nn.hard_swish,
        "elu": nn.elu,
        "celu": nn.celu,
        "selu": nn.selu,
        "sigmoid": nn.sigmoid,
        "tanh": nn.tanh,
        "softsign": nn.soft_sign,
        "log_sigmoid": nn.log_sigmoid,
        "softplus": lambda x, beta=1.0: nn.softplus(beta * x) / beta,
        "silu": nn.silu,
        "mish": nn.mish,
        "gelu": lambda x, approximate="none": nn.gelu(x, approximate=approximate == "tanh"),
        "softmax": nn.softmax,
        "log_softmax": nn.log_softmax,
        "logsumexp": lambda x, axis=-1: nn.logsumexp(x, axis=axis),
        "glu": nn.glu,
        "linear": _linear,
        "layer_norm": _layer_norm,
        "batch_norm": _batch_norm,
        "batch_norm_inference": _batch_norm_inference,
        "group_norm": _group_norm,
        "instance_norm": _instance_norm,
        "conv2d": _conv2d,
        "conv1d": _conv1d,
        "conv_transpose2d": _conv_transpose2d,
        "max_pool2d": _max_pool2d,
        "avg_pool2d": _avg_pool2d,
        "global_max_pool2d": lambda x: numpy.max(x, axis=(2, 3)),
        "global_avg_pool2d": lambda x: numpy.mean(x, axis=(2, 3)),
        "embedding": _embedding,
        "one_hot": lambda ids, values, classes: numpy.where(
            nn.one_hot(ids, classes, dtype=bool), values[1], values[0]
        ),
        "scaled_dot_product_attention": _attention,
        "mse": _mse,
        "mae": _mae,
        "huber": _huber,
        "log_cosh": _log_cosh,
        "hinge": _hinge,
        "binary_cross_entropy": _binary_cross_entropy,
        "binary_cross_entropy_with_logits": _binary_cross_entropy_with_logits,
        "categorical_cross_entropy": _categorical_cross_entropy,
        "softmax_cross_entropy": _softmax_cross_entropy,
        "softmax_cross_entropy_with_integer_labels": _softmax_cross_entropy_with_integer_labels,
        "nll": _nll,
        "kl_divergence": _kl_divergence,
        "sgd_step": _sgd_step,
        "momentum_step": _momentum_step,
        "adam_step": _adam_step,
        "rmsprop_step": _rmsprop_step,
        "clip_by_global_norm": lambda a, b, max_norm: tuple(optimizers.clip_grads([a, b], max_norm)),
    }
)
"""By the name in the contract; arrays of JAX in, one or several out."""

COMPILED = {"conv_transpose2d": {"xla_disable_hlo_passes": "algsimp"}}
"""What is compiled as a whole, and how. The algebraic simplifier of XLA aborts the process on a CPU: for x of
shape (2, 2, 2, 3), a kernel of (2, 1, 3, 2), strides (3, 2) and pads (2, 3) and (0, 0), for example."""


def _compiled(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=COMPILED[name]) if name in COMPILED else function


def _array(y: Any) -> Array:
    """A copy, in memory of its own."""
    return np.array(y)


def _value(name: str, *arrays: Array, **settings: Any) -> Any:
    with jax.enable_x64(True):
        y = _compiled(name, partial(FUNCTIONS[name], **settings))(*map(numpy.array, arrays))
        return tuple(map(_array, y)) if isinstance(y, tuple) else _array(y)


def _vjp(name: str, dy: Array, *arrays: Array, **settings: Any) -> tuple[Array, ...]:
    differentiable = SPECS[name].differentiable
    with jax.enable_x64(True):
        inputs = list(map(numpy.array, arrays))

        def moved(*points: Any) -> Any:
            given = dict(enumerate(inputs)) | dict(zip(differentiable, points, strict=True))
            return FUNCTIONS[name](*given.values(), **settings)

        def pulled_back(cotangent: Any, *points: Any) -> Any:
            _, pull_back = jax.vjp(moved, *points)
            return pull_back(cotangent)

        gradients = _compiled(name, pulled_back)(numpy.array(dy), *(inputs[k] for k in differentiable))
        return tuple(map(_array, gradients))


def __getattr__(name: str) -> Callable[..., Any]:
    """NAME and NAME_vjp of every row."""
    function = name.removesuffix("_vjp")
    if function not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    named = partial(_value if name == function else _vjp, function)
    return update_wrapper(named, FUNCTIONS[function], assigned=(), updated=())  # the settings that it takes


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
