"""Optimizer steps: the new value of a parameter, and of the state, from its gradient. Pure: the old values
stay as they were. The state is explicit, and begins with zeros.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refnet.arguments import validate_flag
from refnet.op import ArgumentError, Array, Labels, MultiOp, Op, as_number, given_number, validate_number

__all__ = [
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "clip_by_global_norm",
    "momentum_step",
    "rmsprop_step",
    "sgd_step",
]

# ------------------------------------------------------------------------------------------- at the door


def validate_learning_rate(op: str, learning_rate: object, dtype: np.dtype[np.floating]) -> float:
    """Return the learning rate as a Python float; see `validate_number`."""
    remedy = "Use 0.01 to begin with; smaller when the loss grows, larger when it hardly falls."
    return validate_number(op, "learning_rate", learning_rate, dtype, positive=True, remedy=remedy)


def _validate_share(op: str, name: str, value: object) -> float:
    """Return a share of what was before, in [0, 1): with 1 the new gradient would count for nothing."""
    share = as_number(value)
    if 0.0 <= share < 1.0:
        return share
    raise ArgumentError(op, name, given_number(value), "a number in [0, 1)", "0.9 is usual.")


def _validate_eps(op: str, value: object, dtype: np.dtype[np.floating]) -> float:
    remedy = "Without it the first step along no gradient is 0 / 0."
    return validate_number(op, "eps", value, dtype, positive=True, remedy=remedy)


def _validate_decay(op: str, value: object, dtype: np.dtype[np.floating]) -> float:
    decay = validate_number(op, "weight_decay", value, dtype, remedy="Use 0.0 for none.")
    if decay >= 0.0:
        return decay
    raise ArgumentError(op, "weight_decay", str(decay), "a number that is not negative", "Use 0.0 for none.")


def _validate_step(op: str, step: Labels) -> int:
    count = int(step)
    if count >= 1:
        return count
    raise ArgumentError(op, "step", str(count), "an integer of at least 1", "The first step is step 1.")


class NothingKept(NamedTuple):
    """A step that is not differentiated keeps nothing."""


class NoGradients(NamedTuple):
    """No input has a gradient."""


def _no_gradients(residuals: NothingKept, dy: tuple[Array, ...]) -> NoGradients:
    """A step is not differentiated."""
    return NoGradients()


# --------------------------------------------------------------------------------------------------- sgd


class SgdResiduals(NamedTuple):
    learning_rate: float


class SgdGradients(NamedTuple):
    param: Array
    grad: Array


def _sgd_step(param: Array, grad: Array, *, learning_rate: float) -> tuple[Array, SgdResiduals]:
    """new = param - learning_rate * grad. Any shape.

    Robbins and Monro, A Stochastic Approximation Method, Ann. Math. Statist. 22 (1951), equation 7.
    """
    rate = validate_learning_rate("sgd_step", learning_rate, param.dtype)
    return param - rate * grad, SgdResiduals(rate)


def _sgd_step_backward(residuals: SgdResiduals, dy: Array) -> SgdGradients:
    """dparam = dy, dgrad = -learning_rate * dy."""
    return SgdGradients(dy.copy(), -residuals.learning_rate * dy)


sgd_step = Op("sgd_step", "(...),(...)->(...)", ("param", "grad"), _sgd_step, _sgd_step_backward)

# ---------------------------------------------------------------------------------------------- momentum


class MomentumState(NamedTuple):
    param: Array
    velocity: Array


def _momentum_step(
    param: Array,
    grad: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[MomentumState, NothingKept]:
    """g = grad + weight_decay * param; velocity = momentum * velocity + (1 - dampening) * g;
    param = param - learning_rate * velocity, with Nesterov - learning_rate * (g + momentum * velocity).

    Any shape. The rate is no part of the velocity, so that a change of it does not reach into the past
    (PyTorch; with it, as TensorFlow has it, a velocity is a step). Sutskever et al., On the importance of
    initialization and momentum in deep learning, ICML 2013.
    """
    name = "momentum_step"
    rate = validate_learning_rate(name, learning_rate, param.dtype)
    kept = _validate_share(name, "momentum", momentum)
    new = 1.0 - _validate_share(name, "dampening", dampening)
    decay = _validate_decay(name, weight_decay, param.dtype)
    validate_flag(name, "nesterov", nesterov)
    slope: Array = grad + decay * param if decay else grad
    after: Array = kept * velocity + new * slope
    direction: Array = slope + kept * after if nesterov else after
    return MomentumState(param - rate * direction, after), NothingKept()


momentum_step = MultiOp(
    "momentum_step",
    "(...),(...),(...)->(...),(...)",
    ("param", "grad", "velocity"),
    _momentum_step,
    _no_gradients,
)

# -------------------------------------------------------------------------------------------------- adam


class AdamState(NamedTuple):
    param: Array
    m: Array
    v: Array


def _missing(share: float, step: int) -> float:
    """1 - share^step, the weight of all gradients so far. By expm1: 1 - 0.999^2 has lost three digits."""
    return -math.expm1(step * math.log(share)) if share else 1.0


def _adam(
    op: str,
    grad: Array,
    m: Array,
    v: Array,
    step: Labels,
    *,
    beta1: float,
    beta2: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """The direction of the step, and the new moments."""
    first, second = _validate_share(op, "beta1", beta1), _validate_share(op, "beta2", beta2)
    least, count = _validate_eps(op, eps, grad.dtype), _validate_step(op, step)
    m = first * m + (1.0 - first) * grad
    v = second * v + (1.0 - second) * (grad * grad)
    root: Array = np.sqrt(v / _missing(second, count))
    return m / _missing(first, count) / (root + least), m, v


def _adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: Labels,
    *,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[AdamState, NothingKept]:
    """m = beta1 m + (1 - beta1) grad; v = beta2 v + (1 - beta2) grad^2;
    param = param - learning_rate * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).

    Any shape; `step` is 1 at the first step, an integer array without axes. Kingma & Ba, Adam, ICLR 2015,
    algorithm 1.
    """
    rate = validate_learning_rate("adam_step", learning_rate, param.dtype)
    direction, m, v = _adam("adam_step", grad, m, v, step, beta1=beta1, beta2=beta2, eps=eps)
    return AdamState(param - rate * direction, m, v), NothingKept()


adam_step = MultiOp(
    "adam_step",
    "(...),(...),(...),(...),()->(...),(...),(...)",
    ("param", "grad", "m", "v", "step"),
    _adam_step,
    _no_gradients,
    integers=("step",),
)


def _adamw_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: Labels,
    *,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[AdamState, NothingKept]:
    """The step of Adam, less learning_rate * weight_decay * param.

    The decay does not enter the moments: there it would be divided by the root of v, and large gradients
    would switch it off. Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019; the learning
    rate is their alpha and their schedule in one, as in PyTorch.
    """
    rate = validate_learning_rate("adamw_step", learning_rate, param.dtype)
    decay = _validate_decay("adamw_step", weight_decay, param.dtype)
    direction, m, v = _adam("adamw_step", grad, m, v, step, beta1=beta1, beta2=beta2, eps=eps)
    return AdamState(param - rate * (direction + decay * param), m, v), NothingKept()


adamw_step = MultiOp(
    "adamw_step",
    "(...),(...),(...),(...),()->(...),(...),(...)",
    ("param", "grad", "m", "v", "step"),
    _adamw_step,
    _no_gradients,
    integers=("step",),
)

# --------------------------------------------------------------------------------- rmsprop and adagrad


class SquaresState(NamedTuple):
    param: Array
    v: Array


def _rmsprop_step(
    param: Array, grad: Array, v: Array, *, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> tuple[SquaresState, NothingKept]:
    """v = decay v + (1 - decay) grad^2; param = param - learning_rate * grad / (sqrt(v) + eps). Any shape.

    Tieleman & Hinton, Lecture 6.5, COURSERA (2012).
    """
    rate = validate_learning_rate("rmsprop_step", learning_rate, param.dtype)
    kept, least = (
        _validate_share("rmsprop_step", "decay", decay),
        _validate_eps("rmsprop_step", eps, param.dtype),
    )
    v = kept * v + (1.0 - kept) * (grad * grad)
    return SquaresState(param - rate * (grad / (np.sqrt(v) + least)), v), NothingKept()


rmsprop_step = MultiOp(
    "rmsprop_step", "(...),(...),(...)->(...),(...)", ("param", "grad", "v"), _rmsprop_step, _no_gradients
)


def _adagrad_step(
    param: Array, grad: Array, v: Array, *, learning_rate: float, eps: float = 1e-10
) -> tuple[SquaresState, NothingKept]:
    """v = v + grad^2; param = param - learning_rate * grad / (sqrt(v) + eps). Any shape.

    Duchi, Hazan & Singer, Adaptive Subgradient Methods, JMLR 12 (2011).
    """
    rate = validate_learning_rate("adagrad_step", learning_rate, param.dtype)
    least = _validate_eps("adagrad_step", eps, param.dtype)
    v = v + grad * grad
    return SquaresState(param - rate * (grad / (np.sqrt(v) + least)), v), NothingKept()


adagrad_step = MultiOp(
    "adagrad_step", "(...),(...),(...)->(...),(...)", ("param", "grad", "v"), _adagrad_step, _no_gradients
)

# ---------------------------------------------------------------------------------------------- clipping


class ClippedGradients(NamedTuple):
    a: Array
    b: Array


def _clip_by_global_norm(a: Array, b: Array, *, max_norm: float) -> tuple[ClippedGradients, NothingKept]:
    """a and b times max_norm / max(max_norm, norm), with the norm of both together.

    Vectors; two stand for any number: concatenate. The squares of 1e-30 are 0 in float32 and those of 1e30
    are infinite: where the sum of the squares is either, it is taken of the entries over the largest one.
    Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks, ICML 2013.
    """
    name, remedy = "clip_by_global_norm", "1.0 is usual."
    most = validate_number(name, "max_norm", max_norm, a.dtype, positive=True, remedy=remedy)
    squares: Array = np.add.reduce(a * a) + np.add.reduce(b * b)
    norm: Array = np.sqrt(squares)
    if np.isinf(squares) or np.equal(squares, 0.0):
        top: Array = np.maximum(_largest(a), _largest(b))
        if not np.isinf(top) and not np.equal(top, 0.0):
            norm = top * np.sqrt(np.add.reduce((a / top) * (a / top)) + np.add.reduce((b / top) * (b / top)))
    scale: Array = most / np.maximum(norm, most)
    return ClippedGradients(a * scale, b * scale), NothingKept()


def _largest(x: Array) -> Array:
    largest: Array = np.maximum.reduce(np.abs(x), initial=0.0)
    return largest


clip_by_global_norm = MultiOp(
    "clip_by_global_norm", "(m),(k)->(m),(k)", ("a", "b"), _clip_by_global_norm, _no_gradients
)

OPS = (
    sgd_step,
    momentum_step,
    adam_step,
    adamw_step,
    rmsprop_step,
    adagrad_step,
    clip_by_global_norm,
)
