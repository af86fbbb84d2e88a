"""Functions with a correct vjp, and wrong vjps, for the tests of the gradient checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vjp = Callable[..., Any]


class Example(NamedTuple):
    """A function, its vjp, and its inputs at a scale."""

    f: Callable[..., Any]
    vjp: Vjp
    inputs: Callable[[np.random.Generator, float], tuple[Array, ...]]


def only_real(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, which refuses complex numbers: no complex step can decide, paths or differences do."""

    def real(*inputs: Array) -> Any:
        if any(np.iscomplexobj(x) for x in inputs):
            raise TypeError("real numbers only")
        return f(*inputs)

    return real


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def softmax_vjp(dy: Array, x: Array) -> Array:
    y = softmax(x)
    return np.asarray(y * (dy - (dy * y).sum(axis=-1, keepdims=True)))


def log_sum_exp(x: Array) -> Array:
    m = x.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(x - m).sum(axis=-1)) + m[..., 0])


def log_sum_exp_vjp(dy: Array, x: Array) -> Array:
    return np.asarray(dy[..., None] * softmax(x))


def linear(x: Array, w: Array, b: Array) -> Array:
    return np.asarray(x @ w + b)


def linear_vjp(dy: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def _normalised(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5))
    return centred / sigma, sigma


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    return np.asarray(_normalised(x)[0] * gamma + beta)


def layer_norm_vjp(dy: Array, x: Array, gamma: Array, beta: Array) -> tuple[Array, Array, Array]:
    z, sigma = _normalised(x)
    dz = dy * gamma
    dx = (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True)) / sigma
    return dx, (dy * z).sum(axis=0), dy.sum(axis=0)


def _mlp(
    activation: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> tuple[Callable[..., Array], Vjp]:
    def f(x: Array, w: Array, b: Array, v: Array) -> Array:
        return np.asarray(activation(x @ w + b) @ v)

    def vjp(dy: Array, x: Array, w: Array, b: Array, v: Array) -> tuple[Array, ...]:
        z = x @ w + b
        dz = (dy @ v.T) * slope(z)
        return dz @ w.T, x.T @ dz, dz.sum(axis=0), activation(z).T @ dy

    return f, vjp


def _tanh_slope(z: Array) -> Array:
    return np.asarray(1 - np.tanh(z) ** 2)


def _relu(z: Array) -> Array:
    return np.asarray(np.maximum(z, 0))


def _relu_slope(z: Array) -> Array:
    return np.asarray((z > 0).astype(z.dtype))


def total(x: Array) -> Array:
    return np.asarray(x.sum())


def total_vjp(dy: Array, x: Array) -> Array:
    return np.full_like(x, dy)


def normals(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator, float], tuple[Array, ...]]:
    return lambda rng, scale: tuple(scale * rng.standard_normal(shape) for shape in shapes)


EXAMPLES = {
    "softmax": Example(softmax, softmax_vjp, normals((3, 5))),
    "log_sum_exp": Example(log_sum_exp, log_sum_exp_vjp, normals((3, 5))),
    "linear": Example(linear, linear_vjp, normals((3, 4), (4, 2), (2,))),
    "layer_norm": Example(layer_norm, layer_norm_vjp, normals((3, 6), (6,), (6,))),
    "tanh MLP": Example(*_mlp(np.tanh, _tanh_slope), normals((3, 2), (2, 4), (4,), (4, 2))),
    "ReLU MLP": Example(*_mlp(_relu, _relu_slope), normals((3, 2), (2, 4), (4,), (4, 2))),
    "sum": Example(total, total_vjp, normals((40,))),
    "square of 1e8": Example(lambda x: x * x * 1e8, lambda dy, x: dy * 2 * x * 1e8, normals((8,))),
}


def _one_element(g: Array) -> Array:
    g = g.copy()
    flat = int(np.argmax(abs(g)))
    g.flat[flat] *= 1 + 1e-8
    return g


def _part(g: Array, index: Any, value: float) -> Array:
    g = g.copy()
    g[index] = value
    return g


def linear_with(**changes: Callable[..., Array]) -> Vjp:
    """The vjp of `linear` with some gradients replaced by functions of (dy, x, w, b)."""

    def vjp(*args: Array) -> tuple[Array, ...]:
        gradients = dict(zip(("dx", "dw", "db"), linear_vjp(*args), strict=True))
        return tuple((gradients | {name: change(*args) for name, change in changes.items()}).values())

    return vjp


def _layer_norm_without(term: str) -> Vjp:
    def vjp(dy: Array, x: Array, gamma: Array, beta: Array) -> tuple[Array, ...]:
        z, sigma = _normalised(x)
        dz = dy if term == "gamma" else dy * gamma
        dx = dz.copy()
        if term != "mean":
            dx -= dz.mean(axis=-1, keepdims=True)
        if term != "projection":
            dx -= z * (dz * z).mean(axis=-1, keepdims=True)
        if term != "sigma":
            dx /= sigma
        return dx, (dy * z).sum(axis=0), dy.sum(axis=0)

    return vjp


def _scaled(factor: float) -> Vjp:
    return lambda dy, x: factor * softmax_vjp(dy, x)


# name: (example, wrong vjp, what the diagnosis must mention)
MISTAKES: dict[str, tuple[str, Vjp, str]] = {
    "sign": ("softmax", _scaled(-1.0), "sign flipped"),
    "twice": ("softmax", _scaled(2.0), "factor 2"),
    "half": ("softmax", _scaled(0.5), "factor 1/2"),
    "mean over all": ("softmax", _scaled(1 / 15), "1/15 (N)"),
    "mean over rows": ("softmax", _scaled(1 / 3), "1/3 (axis 0)"),
    "times N": ("softmax", _scaled(15.0), "15 (N)"),
    "1e-8": ("softmax", _scaled(1 + 1e-8), ""),
    "zero": ("softmax", lambda dy, x: np.zeros_like(x), "zero everywhere"),
    "no sum": ("softmax", lambda dy, x: softmax(x) * dy, ""),
    "wrong axis": ("softmax", lambda dy, x: softmax(x) * (dy - (dy * softmax(x)).sum(0)), ""),
    "sigmoid's": ("softmax", lambda dy, x: dy * softmax(x) * (1 - softmax(x)), ""),
    "one element, 1e-8": ("softmax", lambda dy, x: _one_element(softmax_vjp(dy, x)), "one element only"),
    "one column": ("softmax", lambda dy, x: _part(softmax_vjp(dy, x), np.s_[:, 1], 0.0), "[1] of axis 1"),
    "reversed": ("softmax", lambda dy, x: softmax_vjp(dy, x)[:, ::-1].copy(), "reversed along axis 1"),
    "shifted": ("softmax", lambda dy, x: np.roll(softmax_vjp(dy, x), 1, 0), "shifted by 1 along axis 0"),
    "dy ignored": ("softmax", lambda dy, x: softmax_vjp(np.ones_like(dy), x) + softmax(x), "ignored"),
    "dy squared": ("log_sum_exp", lambda dy, x: (dy * dy)[:, None] * softmax(x), "not linear"),
    "dy by its size": ("log_sum_exp", lambda dy, x: abs(dy)[:, None] * softmax(x), "not linear"),
    "clipped": ("softmax", lambda dy, x: np.clip(softmax_vjp(dy, x), -0.05, 0.05), "not linear"),
    "constant added": ("softmax", lambda dy, x: softmax_vjp(dy, x) + 1e-3, "constant"),
    "transposed w": ("linear", linear_with(dw=lambda dy, x, w, b: dy.T @ x), "transposed"),
    "bias not summed": ("linear", linear_with(db=lambda dy, x, w, b: dy), "missing sum over axes (0,)"),
    "bias of the mean": ("linear", linear_with(db=lambda dy, x, w, b: dy.mean(0)), "factor"),
    "bias of one row": ("linear", linear_with(db=lambda dy, x, w, b: dy[0].copy()), ""),
    "no mean": (
        "layer_norm",
        _layer_norm_without("mean"),
        "missing sum or mean: the error is the same along axis 1",
    ),
    "no projection": ("layer_norm", _layer_norm_without("projection"), ""),
    "no sigma": ("layer_norm", _layer_norm_without("sigma"), "the same along axis 1"),
    "no gamma": ("layer_norm", _layer_norm_without("gamma"), ""),
    "float32 inside": ("softmax", lambda dy, x: softmax_vjp(dy, x).astype(np.float32).astype(np.float64), ""),
}
