"""Known mistakes in optimizer steps that have a state."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

STEP = ("value", "several-steps")

# ---------------------------------------------------------------------------------------------- momentum


def _momentum(
    param: Any,
    grad: Any,
    velocity: Any,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **wrong: Any,
) -> Any:
    """The right step, but for what `wrong` says."""
    decay = 0.0 if wrong.get("no_decay_without_momentum") and momentum == 0.0 else weight_decay
    slope = grad + decay * param if decay else grad
    share = 1.0 - momentum if wrong.get("average") else 1.0 - dampening
    after = (1.0 if wrong.get("never_slows") else momentum) * velocity + share * slope
    ahead = velocity if wrong.get("old_velocity") else after
    own = grad if wrong.get("decay_in_velocity_only") else slope
    direction = own + momentum * ahead if nesterov else after
    return param - learning_rate * direction, velocity.copy() if wrong.get("keeps_velocity") else after


def _momentum_but(*wrong: str) -> Any:
    def step(param: Any, grad: Any, velocity: Any, **settings: Any) -> Any:
        return _momentum(param, grad, velocity, **settings, **dict.fromkeys(wrong, True))

    return step


# -------------------------------------------------------------------------------------------------- adam


def _adam(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    *,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **wrong: Any,
) -> Any:
    """The right step of Adam or AdamW, but for what `wrong` says."""
    count = int(step) + int(wrong.get("counts_from_two", False))
    slope = grad + weight_decay * param if wrong.get("coupled") else grad
    first = beta1 * m + (1.0 - beta1) * slope
    square = first * first if wrong.get("square_of_the_mean") else slope * slope
    second = beta2 * v + (1.0 - beta2) * square
    power = 1 if wrong.get("no_power") else count
    c1, c2 = 1.0 - beta1**power, 1.0 - beta2**power
    if wrong.get("no_correction"):
        c1 = c2 = 1.0
    mean, mean_square = first / c1, second / c2
    root = np.sqrt(mean_square + eps) if wrong.get("eps_inside") else np.sqrt(mean_square) + eps
    if wrong.get("no_root"):
        root = mean_square + eps
    after = param - learning_rate * (mean / root)
    if weight_decay and not wrong.get("coupled"):
        sign = -1.0 if wrong.get("grows") else 1.0
        after = after - sign * learning_rate * weight_decay * param
    return (after, m.copy(), v.copy()) if wrong.get("keeps_state") else (after, first, second)


def _adam_but(*wrong: str) -> Any:
    def step(param: Any, grad: Any, m: Any, v: Any, step: Any, **settings: Any) -> Any:
        return _adam(param, grad, m, v, step, **settings, **dict.fromkeys(wrong, True))

    return step


# --------------------------------------------------------------------------------- rmsprop and adagrad


def _rmsprop_without_root(
    param: Any, grad: Any, v: Any, *, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    v = decay * v + (1.0 - decay) * grad * grad
    return param - learning_rate * grad / (v + eps), v


def _rmsprop_adds_up(
    param: Any, grad: Any, v: Any, *, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    return tuple(refnet.adagrad_step(param, grad, v, learning_rate=learning_rate, eps=eps))


def _rmsprop_old_mean(
    param: Any, grad: Any, v: Any, *, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    return param - learning_rate * grad / (np.sqrt(v) + eps), decay * v + (1.0 - decay) * grad * grad


def _adagrad_forgets(param: Any, grad: Any, v: Any, *, learning_rate: float, eps: float = 1e-10) -> Any:
    return tuple(refnet.rmsprop_step(param, grad, v, learning_rate=learning_rate, eps=eps))


def _adagrad_of_sizes(param: Any, grad: Any, v: Any, *, learning_rate: float, eps: float = 1e-10) -> Any:
    v = v + np.abs(grad)
    return param - learning_rate * grad / (np.sqrt(v) + eps), v


def _adagrad_does_not_add(param: Any, grad: Any, v: Any, *, learning_rate: float, eps: float = 1e-10) -> Any:
    after, _ = refnet.adagrad_step(param, grad, v, learning_rate=learning_rate, eps=eps)
    return after, v.copy()


# ---------------------------------------------------------------------------------------------- clipping


def _scaled(x: Any, norm: Any, most: float) -> Any:
    return x * (most / np.maximum(norm, most)).astype(x.dtype)


def _norm(x: Any) -> Any:
    return np.sqrt((x.astype(np.float64) ** 2).sum())


def _clip_each(a: Any, b: Any, *, max_norm: float) -> Any:
    return _scaled(a, _norm(a), max_norm), _scaled(b, _norm(b), max_norm)


def _clip_by_sum_of_norms(a: Any, b: Any, *, max_norm: float) -> Any:
    norm = _norm(a) + _norm(b)
    return _scaled(a, norm, max_norm), _scaled(b, norm, max_norm)


def _clip_by_squares(a: Any, b: Any, *, max_norm: float) -> Any:
    squares = _norm(a) ** 2 + _norm(b) ** 2
    return _scaled(a, squares, max_norm), _scaled(b, squares, max_norm)


def _clip_always(a: Any, b: Any, *, max_norm: float) -> Any:
    scale = max_norm / np.sqrt(_norm(a) ** 2 + _norm(b) ** 2)
    return a * scale.astype(a.dtype), b * scale.astype(b.dtype)


MISTAKES = (
    Mistake(
        "momentum-never-slows",
        "momentum_step",
        "the old velocity is not multiplied by the momentum",
        STEP,
        value=_momentum_but("never_slows"),
    ),
    Mistake(
        "momentum-averages",
        "momentum_step",
        "the gradient enters the velocity times 1 - momentum, unasked",
        STEP,
        value=_momentum_but("average"),
        source="pjreddie/darknet#2203; ml-explore/mlx#87",
    ),
    Mistake(
        "momentum-without-it-forgets-the-decay",
        "momentum_step",
        "a shortcut for momentum = 0 leaves the weight decay out",
        ("special-values",),
        value=_momentum_but("no_decay_without_momentum"),
        source="ml-explore/mlx#440",
    ),
    Mistake(
        "nesterov-with-the-old-velocity",
        "momentum_step",
        "Nesterov's step looks along the velocity before the update",
        ("value",),
        value=_momentum_but("old_velocity"),
    ),
    Mistake(
        "nesterov-decay-in-the-velocity-only",
        "momentum_step",
        "Nesterov's step adds the bare gradient: the weight decay reaches it through the velocity alone",
        ("value",),
        value=_momentum_but("decay_in_velocity_only"),
        source="apache/mxnet#13683; pytorch/pytorch#5920",
    ),
    Mistake(
        "momentum-returns-the-old-velocity",
        "momentum_step",
        "the state that is returned is the one that came in",
        STEP,
        value=_momentum_but("keeps_velocity"),
    ),
    Mistake(
        "adam-no-bias-correction",
        "adam_step",
        "the moments are not corrected for their beginning at 0: the first steps are too large",
        (*STEP, "special-values"),
        value=_adam_but("no_correction"),
        source="oxiglade/mlx-rs#301; nerfstudio-project/gsplat#604",
    ),
    Mistake(
        "adam-power-missing",
        "adam_step",
        "1 - beta in the place of 1 - beta^step: right in the first step, and only there",
        STEP,
        value=_adam_but("no_power"),
        source="eriklindernoren/ML-From-Scratch#35; ufal/npfl114#79",
    ),
    Mistake(
        "adam-counts-from-two",
        "adam_step",
        "the step is counted up before it is used, by the optimizer and by its caller",
        (*STEP, "special-values"),
        value=_adam_but("counts_from_two"),
        source="deeplearning4j/nd4j#1227",
    ),
    Mistake(
        "adam-eps-inside-the-root",
        "adam_step",
        "eps is added to the mean square, not to its root: small gradients almost stop",
        STEP,
        value=_adam_but("eps_inside"),
        source="keras-team/keras#17391",
    ),
    Mistake(
        "adam-square-of-the-mean",
        "adam_step",
        "the second moment is that of the first moment",
        STEP,
        value=_adam_but("square_of_the_mean"),
    ),
    Mistake(
        "adam-without-root",
        "adam_step",
        "the mean is divided by the mean square itself",
        STEP,
        value=_adam_but("no_root"),
    ),
    Mistake(
        "adam-returns-the-old-state",
        "adam_step",
        "the moments that are returned are those that came in",
        STEP,
        value=_adam_but("keeps_state"),
    ),
    Mistake(
        "adamw-coupled",
        "adamw_step",
        "the decay is added to the gradient, and so divided by the root of its square",
        (*STEP, "special-values"),
        value=_adam_but("coupled"),
        source="pytorch/pytorch#41679; pytorch/pytorch#21250",
    ),
    Mistake(
        "adamw-grows",
        "adamw_step",
        "the decay has the wrong sign: parameters grow",
        ("value", "special-values"),
        value=_adam_but("grows"),
    ),
    Mistake(
        "adamw-no-bias-correction",
        "adamw_step",
        "the moments are not corrected for their beginning at 0",
        STEP,
        value=_adam_but("no_correction"),
    ),
    Mistake(
        "rmsprop-without-root",
        "rmsprop_step",
        "divided by the mean square itself",
        STEP,
        value=_rmsprop_without_root,
    ),
    Mistake(
        "rmsprop-adds-up",
        "rmsprop_step",
        "the squares are added up, as in Adagrad, and never forgotten",
        STEP,
        value=_rmsprop_adds_up,
    ),
    Mistake(
        "rmsprop-old-mean",
        "rmsprop_step",
        "divided by the root of the mean before this gradient: the first step is divided by eps",
        STEP,
        value=_rmsprop_old_mean,
    ),
    Mistake(
        "adagrad-forgets",
        "adagrad_step",
        "a decaying mean in the place of the sum of all squares",
        STEP,
        value=_adagrad_forgets,
    ),
    Mistake(
        "adagrad-of-sizes",
        "adagrad_step",
        "the sum of the sizes of the gradients in the place of their squares",
        STEP,
        value=_adagrad_of_sizes,
    ),
    Mistake(
        "adagrad-returns-the-old-sum",
        "adagrad_step",
        "the square of this gradient is used and not kept",
        STEP,
        value=_adagrad_does_not_add,
    ),
    Mistake(
        "clip-each-by-itself",
        "clip_by_global_norm",
        "each gradient is clipped by its own norm: their directions change",
        ("value", "special-values"),
        value=_clip_each,
        source="huggingface/transformers#614",
    ),
    Mistake(
        "clip-by-the-sum-of-norms",
        "clip_by_global_norm",
        "the norms of the arrays are added, not their squares",
        ("value", "special-values"),
        value=_clip_by_sum_of_norms,
    ),
    Mistake(
        "clip-by-the-square",
        "clip_by_global_norm",
        "the root of the sum of squares is forgotten",
        ("value", "special-values"),
        value=_clip_by_squares,
    ),
    Mistake(
        "clip-stretches",
        "clip_by_global_norm",
        "gradients that are short enough are stretched to the largest norm",
        ("value", "special-values"),
        value=_clip_always,
    ),
)
