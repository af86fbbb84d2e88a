"""The functions that the checkers are put to, each with its right vjp and its inputs, in float64 and float32.

What refnet or the tests' examples have is taken from there; the rest is plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet import OPS
from tests.gradient_examples import EXAMPLES, Array, Vjp, linear, linear_vjp, normals
from verify.gradients.arrays import is_floating, snap

Inputs = tuple[Array, ...]

CROSS_ENTROPY = "softmax_cross_entropy_with_integer_labels"


@dataclass(frozen=True, slots=True)
class Operator:
    """A function, its right vjp, and how its inputs are drawn at a scale.

    `kinks` says where an input has no derivative, so that no claim is right or wrong by a known error.
    `large`: a check takes seconds or more, so it is left out unless it is asked for.
    """

    name: str
    f: Callable[..., Any]
    vjp: Vjp
    draw: Callable[[np.random.Generator, float], Inputs]
    large: bool = False
    kinks: Callable[..., tuple[Array, ...]] | None = None

    def smooth(self, inputs: Inputs) -> tuple[Array, ...]:
        """For each gradient, where it is the derivative."""
        if self.kinks:
            return tuple(~kinks for kinks in self.kinks(*inputs))
        return tuple(np.ones(x.shape, dtype=bool) for x in inputs if is_floating(x))

    def inputs(self, rng: np.random.Generator, scale: float, dtype: npt.DTypeLike) -> Inputs:
        """A point at which x + h is exact for all checkers, as it is for refnet (see `snap`)."""
        return tuple(snap(np.asarray(x, dtype=dtype)) if is_floating(x) else x for x in self.draw(rng, scale))


def gelu(x: Array) -> Array:
    """x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2."""
    return np.asarray(x * gelu_gate(x))


def gelu_gate(x: Array) -> Array:
    """What gelu multiplies x by."""
    # x * x * x: x**3 calls pow, at ten times the price
    return np.asarray((1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2)


def gelu_vjp(dy: Array, x: Array) -> Array:
    # (1 + tanh)/2 is a sigmoid, of twice the argument: its slope is 2 gate (1 - gate)
    gate = gelu_gate(x)
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return np.asarray(dy * (gate + x * gate * (1 - gate) * slope))


def silu(x: Array) -> Array:
    return np.asarray(x * OPS["sigmoid"](x))


def silu_vjp(dy: Array, x: Array) -> Array:
    s = np.asarray(OPS["sigmoid"](x))
    return np.asarray(dy * s * (1 + x * (1 - s)))


def _windows(x: Array, size: tuple[int, ...]) -> Array:
    """Of shape (n, c, h, w, kernel height, kernel width), without a copy."""
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))


def conv2d(x: Array, w: Array, b: Array) -> Array:
    """x (n,c,h,w), w (o,c,i,j), b (o): stride 1, no padding."""
    y = np.tensordot(_windows(x, w.shape[2:]), w, axes=((1, 4, 5), (1, 2, 3))) + b
    return np.asarray(np.moveaxis(y, -1, 1))


def conv2d_vjp(dy: Array, x: Array, w: Array, b: Array) -> Inputs:
    height, width = w.shape[2:]
    padded = np.pad(dy, ((0, 0), (0, 0), (height - 1,) * 2, (width - 1,) * 2))
    dx = np.tensordot(_windows(padded, (height, width)), w[:, :, ::-1, ::-1], axes=((1, 4, 5), (0, 2, 3)))
    dw = np.tensordot(dy, _windows(x, (height, width)), axes=((0, 2, 3), (0, 2, 3)))
    return np.moveaxis(dx, -1, 1), dw, dy.sum(axis=(0, 2, 3))


def embedding(table: Array, ids: Array) -> Array:
    return np.asarray(table[ids])


def embedding_vjp(dy: Array, table: Array, ids: Array) -> Array:
    dtable = np.zeros_like(table)
    np.add.at(dtable, ids, dy)
    return dtable


def maximum(x: Array) -> Array:
    """The largest of each row."""
    return np.asarray(x.max(axis=-1))


def maximum_vjp(dy: Array, x: Array) -> Array:
    """Ties share the gradient of their row equally."""
    largest = x == x.max(axis=-1, keepdims=True)
    return np.asarray(largest * (dy / largest.sum(axis=-1).astype(dy.dtype))[:, None])


def _ties(x: Array) -> tuple[Array]:
    largest = x == x.max(axis=-1, keepdims=True)
    return (largest & (largest.sum(axis=-1, keepdims=True) > 1),)


def mse_vjp(dy: Array, p: Array, t: Array) -> tuple[Array, Array]:
    """refnet's for p, and for t, which has no gradient there."""
    (dp,) = OPS["mse"].vjp(dy, p, t)
    return dp, -dp


def dot(x: Array, w: Array) -> Array:
    return np.asarray(x @ w)


def dot_vjp(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return dy * w, dy * x


def mlp_vjp(activation: str, slope: Callable[[Array, Array], Array] | None = None) -> Vjp:
    """Of linear, activation, linear; with a wrong vjp of the activation, `slope(dh, z)`, a wrong one."""
    op = OPS[activation]

    def vjp(dy: Array, x: Array, w: Array, b: Array, v: Array, c: Array) -> Inputs:
        z = linear(x, w, b)
        dh, dv, dc = linear_vjp(dy, np.asarray(op(z)), v, c)
        dz = slope(dh, z) if slope else op.vjp(dh, z)[0]
        return (*linear_vjp(dz, x, w, b), dv, dc)

    return vjp


def _relu(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0))


def _mlp(
    name: str, activation: str, sizes: tuple[int, int, int], batch: int, large: bool = False
) -> Operator:
    activate: Callable[[Array], Any] = np.tanh if activation == "tanh" else _relu

    def f(x: Array, w: Array, b: Array, v: Array, c: Array) -> Array:
        return linear(np.asarray(activate(linear(x, w, b))), v, c)

    def draw(rng: np.random.Generator, scale: float) -> Inputs:
        k, m, n = sizes
        x, w, b, v, c = normals((batch, k), (k, m), (m,), (m, n), (n,))(rng, scale)
        # preactivations stay near 1, where tanh still has a slope
        return x, w / math.sqrt(k), b, v / math.sqrt(m), c

    return Operator(name, f, mlp_vjp(activation), draw, large)


def _embedding_inputs(rng: np.random.Generator, scale: float) -> Inputs:
    """More ids than rows: some are there twice."""
    return scale * rng.standard_normal((10, 4)), rng.integers(0, 10, size=12)


def _logits_and_labels(rng: np.random.Generator, scale: float) -> Inputs:
    return scale * rng.standard_normal((8, 16)), rng.integers(0, 16, size=8)


def _tied(rng: np.random.Generator, scale: float) -> Inputs:
    """Every fourth row has its largest element twice."""
    x = rng.standard_normal((8, 16))
    rows = np.arange(0, len(x), 4)
    x[rows, (x[rows].argmax(axis=1) + 1) % x.shape[1]] = x[rows].max(axis=1)
    return (scale * x,)


def _of_refnet(name: str, draw: Callable[[np.random.Generator, float], Inputs]) -> Operator:
    return Operator(name, OPS[name], OPS[name].vjp, draw)


def _of_examples(
    name: str, draw: Callable[[np.random.Generator, float], Inputs], large: bool = False
) -> Operator:
    return Operator(name, EXAMPLES[name].f, EXAMPLES[name].vjp, draw, large)


OPERATORS = (
    _of_examples("softmax", normals((8, 16))),
    _of_refnet("log_softmax", normals((8, 16))),
    _of_examples("log_sum_exp", normals((8, 16))),
    _of_refnet("sigmoid", normals((8, 16))),
    _of_refnet("tanh", normals((8, 16))),
    Operator("gelu", gelu, gelu_vjp, normals((8, 16))),
    Operator("silu", silu, silu_vjp, normals((8, 16))),
    _of_examples("layer_norm", normals((8, 32), (32,), (32,))),
    _of_examples("linear", normals((16, 32), (32, 16), (16,))),
    Operator("conv2d", conv2d, conv2d_vjp, normals((2, 3, 8, 8), (4, 3, 3, 3), (4,))),
    _of_refnet(CROSS_ENTROPY, _logits_and_labels),
    Operator("mse", OPS["mse"], mse_vjp, normals((8, 16), (8, 16))),
    Operator("embedding", embedding, embedding_vjp, _embedding_inputs),
    Operator("maximum", maximum, maximum_vjp, normals((8, 16))),
    Operator("maximum with ties", maximum, maximum_vjp, _tied, kinks=_ties),
    _mlp("small tanh MLP", "tanh", (10, 16, 4), batch=4),
    _mlp("small ReLU MLP", "relu", (10, 16, 4), batch=4),
    _mlp("tanh MLP", "tanh", (64, 32, 10), batch=4, large=True),
    _mlp("ReLU MLP", "relu", (64, 32, 10), batch=4, large=True),
    _of_examples("sum", normals((100_000,)), large=True),
    Operator("dot", dot, dot_vjp, normals((100_000,), (100_000,)), large=True),
)
