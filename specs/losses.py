"""Losses: what they are. `reduction` is the mean over the examples, their sum, or none."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

import numpy as np

from specs.activations import GOODFELLOW, shifted_log_softmax, shifted_softmax, unshifted_log_softmax
from specs.maths import absolute, exp, is_positive, log, log1p, saved, tanh, where, xlogy
from specs.spec import Case, Domain, Form, Input, Kink, Refusal, Setting, Spec, Variant

REDUCTION = (Setting("reduction", ("mean", "sum", "none")),)
P_BINARY = Input("p", Domain.PROBABILITY)
T_BINARY = Input("t", Domain.PROBABILITY, differentiable=False)
P_ROW = Input("p", Domain.DISTRIBUTION)
T_ROW = Input("t", Domain.DISTRIBUTION, differentiable=False)
LOGITS = Input("z")
LABELS = Input("labels", Domain.INDEX, differentiable=False)
LOG_ROW = Input("log_p", Domain.LOG_PROBABILITY)
T_REAL = Input("t", differentiable=False)
NO_REDUCTION = "reduction"
BROADCAST = "nothing is broadcast"
EACH = {"reduction": "none"}
REAL_REFUSALS = (
    Refusal("a column against a row", ([[1.0], [2.0]], [1.0, 2.0]), BROADCAST),
    Refusal("the mean of nothing", ([], []), "empty"),
)
BOYD = "Boyd & Vandenberghe, Convex Optimization (2004)"
COVER = "Cover & Thomas, Elements of Information Theory, 2nd ed. (2006)"


def reduced(losses: Any, reduction: str) -> Any:
    if reduction == "none":
        return losses
    return losses.sum() / losses.size if reduction == "mean" else losses.sum()


def _in_arithmetic_of(x: Any, value: float) -> Any:
    """A constant as an array like x, for the forms: what is computed from it is rounded as x would be."""
    return np.where(np.equal(x, x), value, x)


def _shared(dy: Any, reduction: str, examples: int) -> Any:
    """The cotangent of each example's loss, for the forms: multiplied by 1 / n, which is rounded itself."""
    return dy * (_in_arithmetic_of(dy, 1.0) / examples) if reduction == "mean" else dy


def log_sigmoid(z: Any) -> Any:
    """min(z, 0) - log1p(exp(-|z|)), for the forms."""
    return -np.maximum(-z, 0.0) - np.log1p(np.exp(-np.abs(z)))


def _binary_cross_entropy(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(-(xlogy(t, p) + xlogy(1 - t, 1 - p)), reduction)


def _binary_cross_entropy_with_logits(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    positive, negative = 1 / (1 + exp(-z)), 1 / (1 + exp(z))
    return reduced(-(t * log(positive) + (1 - t) * log(negative)), reduction)


def _categorical_cross_entropy(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(-np.asarray(xlogy(t, p).sum(axis=-1)), reduction)


def _softmax_cross_entropy(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    y = exp(z) / exp(z).sum(axis=-1, keepdims=True)
    return reduced(-np.asarray((t * log(y)).sum(axis=-1)), reduction)


def _softmax_cross_entropy_with_integer_labels(z: Any, labels: Any, *, reduction: str = "mean") -> Any:
    y = exp(z) / exp(z).sum(axis=-1, keepdims=True)
    return reduced(-log(np.take_along_axis(y, labels[..., None], axis=-1)[..., 0]), reduction)


def _mse(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced((p - t) * (p - t), reduction)


def _mae(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(absolute(p - t), reduction)


def _huber(p: Any, t: Any, *, delta: Any = 1.0, reduction: str = "mean") -> Any:
    size = absolute(p - t)
    losses = where(is_positive(size - delta), delta * (size - delta / 2), (p - t) * (p - t) / 2)
    return reduced(losses, reduction)


def _log_cosh(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(log((exp(p - t) + exp(t - p)) / 2), reduction)


def _hinge(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    margin = 1 - t * p
    return reduced(where(is_positive(margin), margin, 0 * margin), reduction)


def _nll(log_p: Any, labels: Any, *, reduction: str = "mean") -> Any:
    return reduced(-np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0], reduction)


def _kl_divergence(log_p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(np.asarray((xlogy(t, t) - t * log_p).sum(axis=-1)), reduction)


def one_hot(labels: Any, classes: int) -> Any:
    return np.equal(labels[..., None], np.arange(classes)) * 1.0


def clipped_to_epsilon(p: Any, t: Any) -> tuple[Any, Any]:
    """p clipped to [eps, 1 - eps], with eps the distance from 1 to the next number of its format."""
    epsilon = np.spacing(p.dtype.type(1))  # np.finfo does not know bfloat16
    return np.clip(p, epsilon, 1 - epsilon), t


def clipped_to_1e_7(p: Any, t: Any) -> tuple[Any, Any]:
    """p clipped to [1e-7, 1 - 1e-7], in the format of p."""
    epsilon = p.dtype.type(1e-7)
    return np.clip(p, epsilon, 1 - epsilon), t


def _clamped(x: Any, y: Any) -> Any:
    """x * max(log(y), -100)."""
    logarithm = log(y)
    return x * where(is_positive(logarithm + 100), logarithm, -100)


def _binary_with_clamped_logarithms(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return reduced(-(_clamped(t, p) + _clamped(1 - t, 1 - p)), reduction)


def _all_terms(terms: Any, reduction: str) -> Any:
    """Terms (..., c) in one sum over rows and classes, for the forms; the mean is over the rows."""
    if reduction == "none":
        return terms.sum(axis=-1)
    return terms.sum() / (1.0 * terms[..., 0].size) if reduction == "mean" else terms.sum()


def _one_less_twice_sigmoid(d: Any) -> Any:
    """1 - 2 sigmoid(-2 d), for the forms."""
    decay = np.exp(-np.abs(2.0 * d))
    return 1.0 - 2.0 * (np.where(d > 0, decay, 1.0) / (1.0 + decay))


def _by_both_terms(dy: Any, d: Any, delta: float) -> Any:
    """delta dy + (a dy - delta dy) for |d| <= delta, delta dy beyond: off by a rounding of delta dy."""
    part = np.where(np.abs(d) <= delta, np.abs(d), delta)
    return delta * dy + (part * dy - delta * dy)


def _less_log_2(x: Any) -> Any:
    """x - log(2), for the forms: the logarithm is rounded itself."""
    return x - log(_in_arithmetic_of(x, 2.0))


SMALLEST_VARIANCE = float(np.float32(1e-12)).as_integer_ratio()
"""PyTorch's constant is a number of float32 in every format; a ratio, which is exact in all arithmetic."""


def _binary_with_clamped_variance(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> tuple[Any]:
    """dy (p - t) / max(p (1 - p), 1e-12), which is not the derivative of the clamped logarithms."""
    numerator, denominator = SMALLEST_VARIANCE
    variance = (1 - p) * p
    smallest = (numerator + 0 * p) / denominator
    slopes = dy * (p - t) / where(is_positive(variance - smallest), variance, smallest)
    return (slopes / p.size if reduction == "mean" else slopes,)


CLAMPED_LOGARITHM = Variant(
    "logarithm-clamped-at-minus-100",
    "no logarithm is below -100, so a confident wrong answer costs 100; no slope divides by less than 1e-12",
    "PyTorch",
    definition=_binary_with_clamped_logarithms,
    gradients=_binary_with_clamped_variance,
)
CLIPPING = (
    Variant(
        "clipped-to-epsilon",
        "probabilities clipped to [eps, 1 - eps], eps the machine epsilon of the format",
        "scikit-learn",
        prepare=clipped_to_epsilon,
    ),
    Variant(
        "clipped-to-1e-7",
        "probabilities clipped to [1e-7, 1 - 1e-7]",
        "Keras",
        prepare=clipped_to_1e_7,
    ),
)

SPECS = (
    Spec(
        name="binary_cross_entropy",
        summary="The cost of a probability p for a yes-or-no target t.",
        signature="(...),(...)->(...)",
        definition=_binary_cross_entropy,
        inputs=(P_BINARY, T_BINARY),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect"),
        cases=(
            Case("perfect answers cost nothing", ([0.0, 1.0], [0.0, 1.0]), 0.0),
            Case("certain and wrong", ([0.0, 1.0], [1.0, 0.0]), [inf, inf], EACH),
            Case("half a target, certain", ([0.0, 1.0], [0.5, 0.5]), [inf, inf], EACH),
            Case("NaN stays", ([nan, 0.0], [0.0, 0.0]), [nan, 0.0], EACH),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
        ),
        refusals=(
            Refusal("a column against a row", ([[0.5], [0.5]], [0.5, 0.5]), BROADCAST),
            Refusal("no such reduction", ([0.5], [0.5]), NO_REDUCTION, {"reduction": "average"}),
            Refusal("the mean of nothing", ([], []), "empty"),
        ),
        forms=(
            Form(
                "log(1 - p)",
                "scikit-learn",
                value=lambda p, t, *, reduction="mean": reduced(
                    -(xlogy(t, p) + xlogy(1.0 - t, 1.0 - p)), reduction
                ),
            ),
            Form(
                "two quotients, (1 - t) / (1 - p) - t / p",
                "hand-written backwards",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size) * ((1.0 - t) / (1.0 - p) - t / p),
                ),
            ),
            Form(
                "one quotient, (p - t) / (p (1 - p))",
                "PyTorch, hand-written backwards",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size) * (p - t) / (p * (1.0 - p)),
                ),
            ),
        ),
        variants=(*CLIPPING, CLAMPED_LOGARITHM),
        references=(f"{GOODFELLOW}, 6.2.2.2",),
    ),
    Spec(
        name="binary_cross_entropy_with_logits",
        summary="The cost of a logit z for a yes-or-no target t: sigmoid and binary cross-entropy in one.",
        signature="(...),(...)->(...)",
        definition=_binary_cross_entropy_with_logits,
        inputs=(LOGITS, T_BINARY),
        settings=REDUCTION,
        laws=("nonnegative", "composition", "nan-reaches-gradients"),
        cases=(
            Case("a large wrong logit costs itself", ([-30000.0, 30000.0], [1.0, 0.0]), 30000.0),
            Case("NaN stays", ([nan, -30000.0], [0.0, 0.0]), [nan, 0.0], EACH),
        ),
        refusals=(
            Refusal("a column against a row", ([[0.5], [0.5]], [0.5, 0.5]), BROADCAST),
            Refusal("the mean of nothing", ([], []), "empty"),
        ),
        forms=(
            Form(
                "max(z, 0) - z t + log1p(exp(-|z|)); sigmoid(z) - t",
                "TensorFlow",
                value=lambda z, t, *, reduction="mean": reduced(
                    np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z))), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    _shared(dy, reduction, z.size)
                    * (saved(np.where(z < 0, np.exp(-np.abs(z)), 1.0) / (1.0 + np.exp(-np.abs(z)))) - t),
                ),
            ),
            Form(
                "(1 - t) z - log_sigmoid(z)",
                "PyTorch",
                value=lambda z, t, *, reduction="mean": reduced((1.0 - t) * z - log_sigmoid(z), reduction),
            ),
            Form(
                "the derivative of log_sigmoid(z) as exp(-z - softplus(-z))",
                "JAX, Optax",
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    _shared(dy, reduction, z.size)
                    * ((1.0 - t) * np.exp(z - np.logaddexp(z, 0.0)) - t * np.exp(-z - np.logaddexp(-z, 0.0))),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.2.2.2",),
    ),
    Spec(
        name="categorical_cross_entropy",
        summary="The cost of a distribution p for a target distribution t.",
        signature="(...,c),(...,c)->(...)",
        definition=_categorical_cross_entropy,
        inputs=(P_ROW, T_ROW),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect"),
        cases=(
            Case("a perfect answer costs nothing", ([[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]), 0.0),
            Case("certain and wrong", ([[0.0, 1.0]], [[1.0, 0.0]]), inf),
            Case(
                "NaN stays in its row",
                ([[nan, 0.5], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]),
                [nan, 0.0],
                EACH,
            ),
        ),
        refusals=(Refusal("labels where distributions belong", ([[0.5, 0.5]], [1.0]), BROADCAST),),
        forms=(
            Form(
                "the quotient first, then the share of the example",
                "hand-written backwards",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    (-t / p) * np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1),
                ),
            ),
            Form(
                "the share of the example over p, then times t",
                "JAX (xlogy)",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    -(np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1) / p) * t,
                ),
            ),
        ),
        variants=CLIPPING,
        references=(f"{GOODFELLOW}, 6.2.2.3",),
    ),
    Spec(
        name="softmax_cross_entropy",
        summary="The cost of a row of logits z for a target distribution t.",
        signature="(...,c),(...,c)->(...)",
        definition=_softmax_cross_entropy,
        inputs=(LOGITS, T_ROW),
        settings=REDUCTION,
        laws=(
            "nonnegative",
            "shift-invariant",
            "gradient-sums-to-zero",
            "composition",
            "nan-reaches-gradients",
        ),
        cases=(
            Case("a large wrong logit costs itself", ([[0.0, 30000.0]], [[1.0, 0.0]]), 30000.0),
            Case("a class ruled out costs nothing", ([[-inf, 3.0]], [[0.0, 1.0]]), 0.0),
            Case(
                "NaN stays in its row",
                ([[nan, 1.0], [60000.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]),
                [nan, 0.0],
                EACH,
            ),
        ),
        refusals=(Refusal("labels where distributions belong", ([[0.5, 0.5]], [1.0]), BROADCAST),),
        forms=(
            Form(
                "minus the sum of t log_softmax(z); softmax(z) - t",
                "PyTorch, JAX",
                value=lambda z, t, *, reduction="mean": reduced(
                    -(t * shifted_log_softmax(z)).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1)
                    * (saved(shifted_softmax(z)) - t),
                ),
            ),
            Form(
                "minus the sum of t (z - logsumexp(z)); exp(z - logsumexp(z)) - t",
                "hand-written losses",
                value=lambda z, t, *, reduction="mean": reduced(
                    -(t * unshifted_log_softmax(z)).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1)
                    * (np.exp(saved(unshifted_log_softmax(z))) - t),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.2.2.3",),
    ),
    Spec(
        name="softmax_cross_entropy_with_integer_labels",
        summary="The cost of a row of logits z for the class that is right.",
        signature="(...,c),(...)->(...)",
        definition=_softmax_cross_entropy_with_integer_labels,
        inputs=(LOGITS, LABELS),
        settings=REDUCTION,
        laws=(
            "nonnegative",
            "shift-invariant",
            "gradient-sums-to-zero",
            "composition",
            "nan-reaches-gradients",
        ),
        cases=(
            Case("a large wrong logit costs itself", ([[0.0, 30000.0]], [0]), 30000.0),
            Case("a class ruled out costs nothing", ([[-inf, 3.0]], [1]), 0.0),
            Case("the class that was ruled out", ([[-inf, 3.0]], [0]), inf),
            Case(
                "NaN stays in its row",
                ([[nan, 1.0], [60000.0, 0.0]], [1, 0]),
                [nan, 0.0],
                EACH,
            ),
        ),
        refusals=(
            Refusal("a label below the first class", ([[1.0, 2.0]], [-1]), "[0, 2)"),
            Refusal("a label beyond the last class", ([[1.0, 2.0]], [2]), "[0, 2)"),
            Refusal("labels that are floats", ([[1.0, 2.0]], [1.0]), "integer"),
        ),
        forms=(
            Form(
                "minus log_softmax(z) at the label; softmax(z) - one_hot(label)",
                "PyTorch, JAX, scikit-learn",
                value=lambda z, labels, *, reduction="mean": reduced(
                    -np.take_along_axis(shifted_log_softmax(z), labels[..., None], axis=-1)[..., 0], reduction
                ),
                vjp=lambda dy, y, z, labels, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, labels.size), -1)
                    * (saved(shifted_softmax(z)) - one_hot(labels, z.shape[-1])),
                ),
            ),
            Form(
                "logsumexp(z) - z at the label; exp(z - logsumexp(z)) - one_hot(label)",
                "Optax",
                value=lambda z, labels, *, reduction="mean": reduced(
                    -np.take_along_axis(unshifted_log_softmax(z), labels[..., None], axis=-1)[..., 0],
                    reduction,
                ),
                vjp=lambda dy, y, z, labels, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, labels.size), -1)
                    * (np.exp(saved(unshifted_log_softmax(z))) - one_hot(labels, z.shape[-1])),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.2.2.3",),
    ),
    Spec(
        name="mse",
        summary="The squared difference of predictions p and targets t.",
        signature="(...),(...)->(...)",
        definition=_mse,
        inputs=(Input("p", degree=2), Input("t", differentiable=False, degree=2)),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect", "even", "nan-reaches-gradients"),
        cases=(
            Case("two units off, on one of two", ([1.0, 5.0], [1.0, 3.0]), 2.0),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
            Case("NaN stays", ([nan, 1.0], [0.0, 1.0]), [nan, 0.0], EACH),
        ),
        refusals=(
            Refusal("a column against a row", ([[1.0], [2.0]], [1.0, 2.0]), BROADCAST),
            Refusal("the mean of nothing", ([], []), "empty"),
        ),
        forms=(
            Form(
                "2 (p - t), then the share of the example",
                "PyTorch",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    (2.0 * (p - t)) * _shared(dy, reduction, p.size),
                ),
            ),
        ),
        variants=(
            Variant(
                "half",
                "half of the squared difference",
                "scikit-learn",
                divisor=lambda p, t, *, reduction="mean": 2,
            ),
        ),
        references=(f"{GOODFELLOW}, 5.1.4",),
    ),
    Spec(
        name="mae",
        summary="The absolute difference of predictions p and targets t.",
        signature="(...),(...)->(...)",
        definition=_mae,
        inputs=(Input("p", near=(0.0,)), T_REAL),
        settings=REDUCTION,
        kinks=(
            # PyTorch and TensorFlow take 0, JAX takes 1
            Kink(
                where="p = t",
                distance=lambda p, t, **_: np.abs(p - t),
                convention=0.0,
                allowed=(-1.0, 0.0, 1.0),
            ),
        ),
        laws=("nonnegative", "zero-when-perfect", "even"),
        cases=(
            Case("both signs count alike", ([1.0, 5.0], [3.0, 3.0]), 2.0),
            Case("far out on both sides", ([inf, 0.0], [0.0, inf]), [inf, inf], EACH),
            Case("one infinity less the other", ([inf], [inf]), nan),
            Case("NaN stays", ([nan, 1.0], [0.0, 1.0]), [nan, 0.0], EACH),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
        ),
        refusals=REAL_REFUSALS,
        forms=(
            Form(
                "sign(p - t), times 1 / n",
                "PyTorch",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    np.sign(p - t) * _shared(dy, reduction, p.size),
                ),
            ),
            Form(
                "(p - t) / |p - t|, times 1 / n",
                "HIPS autograd",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size) * (p - t) / np.abs(p - t),
                ),
            ),
        ),
        references=(f"{BOYD}, 6.1.2",),
    ),
    Spec(
        name="huber",
        summary="Half the squared difference of p and t up to delta, and linear beyond it.",
        signature="(...),(...)->(...)",
        definition=_huber,
        inputs=(Input("p", near=(0.5, 1.0, 2.0)), T_REAL),
        settings=(Setting("delta", (1.0, 0.5, 2.0)), *REDUCTION),
        laws=("nonnegative", "zero-when-perfect", "even", "nan-reaches-gradients"),
        cases=(
            Case("at delta, both pieces say the same", ([1.0, -1.0], [0.0, 0.0]), 0.5),
            Case(
                "within and beyond", ([3.0, 5.0], [1.0, 1.0]), [2.0, 6.0], {"delta": 2.0, "reduction": "none"}
            ),
            Case("below the target", ([-4.0], [0.0]), 1.875, {"delta": 0.5}),
            Case("far out on both sides", ([inf, 0.0], [0.0, inf]), [inf, inf], EACH),
            Case("NaN stays", ([nan, 1.0], [0.0, 1.0]), [nan, 0.0], EACH),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
        ),
        refusals=(
            *REAL_REFUSALS,
            Refusal("a delta of 0", ([1.0], [0.0]), "delta", {"delta": 0.0}),
            Refusal("a negative delta", ([1.0], [0.0]), "delta", {"delta": -1.0}),
        ),
        forms=(
            Form(
                "a choice between d^2 / 2 and delta (|d| - delta / 2), by |d| < delta or |d| <= delta",
                "PyTorch",
                value=lambda p, t, *, delta=1.0, reduction="mean": reduced(
                    np.where(
                        np.abs(p - t) < delta,
                        0.5 * (p - t) * (p - t),
                        delta * (np.abs(p - t) - 0.5 * delta),
                    ),
                    reduction,
                ),
                vjp=lambda dy, y, p, t, *, delta=1.0, reduction="mean": (
                    np.where(np.abs(p - t) < delta, p - t, np.sign(p - t) * delta)
                    * _shared(dy, reduction, p.size),
                ),
            ),
            Form(
                "delta |d| - delta^2 / 2 beyond delta",
                "Keras",
                value=lambda p, t, *, delta=1.0, reduction="mean": reduced(
                    np.where(
                        np.abs(p - t) <= delta,
                        0.5 * ((p - t) * (p - t)),
                        delta * np.abs(p - t) - 0.5 * (delta * delta),
                    ),
                    reduction,
                ),
            ),
            Form(
                "the derivative of a^2 / 2 + delta (|d| - a) with a = min(|d|, delta), by both of its terms",
                "Optax",
                vjp=lambda dy, y, p, t, *, delta=1.0, reduction="mean": (
                    np.sign(p - t) * _by_both_terms(_shared(dy, reduction, p.size), p - t, delta),
                ),
            ),
            Form(
                "the same, with (p - t) / |p - t| in the place of the sign",
                "HIPS autograd",
                vjp=lambda dy, y, p, t, *, delta=1.0, reduction="mean": (
                    _by_both_terms(_shared(dy, reduction, p.size), p - t, delta) * (p - t) / np.abs(p - t),
                ),
            ),
        ),
        variants=(
            Variant(
                "smooth_l1",
                "divided by delta: the slope beyond delta is 1, whatever delta is",
                "PyTorch (SmoothL1Loss, whose beta is delta)",
                divisor=lambda p, t, *, delta=1.0, reduction="mean": delta,
            ),
        ),
        references=(
            "Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35 (1964), "
            "doi:10.1214/aoms/1177703732",
        ),
    ),
    Spec(
        name="log_cosh",
        summary="The logarithm of the hyperbolic cosine of the difference of p and t: a smooth Huber loss.",
        signature="(...),(...)->(...)",
        definition=_log_cosh,
        inputs=(Input("p", near=(0.0, 1.0)), T_REAL),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect", "even", "nan-reaches-gradients"),
        cases=(
            Case("perfect answers cost nothing", ([2.0, -3.0], [2.0, -3.0]), 0.0),
            Case("far out on both sides", ([inf, 0.0], [0.0, inf]), [inf, inf], EACH),
            Case("no exponential overflows", ([4096.0], [-4096.0]), 8192.0 - math.log(2.0)),
            Case("NaN stays", ([nan, 1.0], [0.0, 1.0]), [nan, 0.0], EACH),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
        ),
        refusals=REAL_REFUSALS,
        forms=(
            Form(
                "d + softplus(-2 d) - log(2)",
                "Keras",
                value=lambda p, t, *, reduction="mean": reduced(
                    _less_log_2((p - t) + np.logaddexp(-2.0 * (p - t), 0.0)), reduction
                ),
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size) * _one_less_twice_sigmoid(p - t),
                ),
            ),
            Form(
                "|d| + log1p(exp(-2 |d|)) - log(2); tanh(d)",
                "LogExpFunctions.jl",
                value=lambda p, t, *, reduction="mean": reduced(
                    _less_log_2(np.abs(p - t) + log1p(np.exp(-2.0 * np.abs(p - t)))), reduction
                ),
                vjp=lambda dy, y, p, t, *, reduction="mean": (_shared(dy, reduction, p.size) * tanh(p - t),),
            ),
            Form(
                "logaddexp(d, -d) - log(2), and the derivative of that",
                "Optax",
                value=lambda p, t, *, reduction="mean": reduced(
                    _less_log_2(np.logaddexp(p - t, t - p)), reduction
                ),
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size)
                    * (
                        np.exp((p - t) - np.logaddexp(p - t, t - p))
                        - np.exp((t - p) - np.logaddexp(p - t, t - p))
                    ),
                ),
            ),
            Form(
                "the derivative of d + softplus(-2 d), with that of softplus from its output",
                "JAX",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    _shared(dy, reduction, p.size)
                    * (1.0 - 2.0 * np.exp(-2.0 * (p - t) - np.logaddexp(-2.0 * (p - t), 0.0))),
                ),
            ),
        ),
        references=(
            "Saleh & Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine Learning "
            "(2022), arXiv:2208.04564",
        ),
    ),
    Spec(
        name="hinge",
        summary="What a score p is short of a margin of 1 on the side of its target t.",
        signature="(...),(...)->(...)",
        definition=_hinge,
        inputs=(Input("p", near=(0.0,)), Input("t", Domain.SIGN, differentiable=False)),
        settings=REDUCTION,
        kinks=(
            # relu takes 0, the maximum of PyTorch and JAX halves, torch.clamp, tf.maximum and scikit-learn 1
            Kink(
                where="t p = 1",
                distance=lambda p, t, **_: np.abs(1 - t * p),
                convention=0.0,
                allowed=(0.0, 0.5, 1.0),
                inner=lambda p, t, **_: -t,
                times="-t",
            ),
        ),
        laws=("nonnegative", "zero-when-perfect", "even"),
        cases=(
            Case(
                "on the margin, beyond it, undecided",
                ([1.0, 3.0, 0.0], [1.0, 1.0, 1.0]),
                [0.0, 0.0, 1.0],
                EACH,
            ),
            Case("on the wrong side", ([-2.0, 2.0], [1.0, -1.0]), 3.0),
            Case("the infinities", ([inf, -inf], [1.0, 1.0]), [0.0, inf], EACH),
            Case("NaN stays", ([nan, 1.0], [1.0, 1.0]), [nan, 0.0], EACH),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
        ),
        refusals=(
            *REAL_REFUSALS,
            Refusal("targets 0 and 1", ([0.5, 0.5], [0.0, 1.0]), "-1 or 1"),
        ),
        forms=(
            Form(
                "-t where t p < 1, times 1 / n",
                "PyTorch, JAX, scikit-learn",
                vjp=lambda dy, y, p, t, *, reduction="mean": (
                    np.where(1.0 - t * p > 0, -t, 0.0) * _shared(dy, reduction, p.size),
                ),
            ),
        ),
        references=(f"{BOYD}, 8.6.1",),
    ),
    Spec(
        name="nll",
        summary="The cost of a row of log-probabilities for the class that is right.",
        signature="(...,c),(...)->(...)",
        definition=_nll,
        inputs=(LOG_ROW, LABELS),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect"),
        cases=(
            Case("certain and right", ([[0.0, -inf]], [0]), 0.0),
            Case("certain and wrong", ([[0.0, -inf]], [1]), inf),
            Case("nothing is normalised", ([[-1.0, -3.0], [-2.0, -5.0]], [1, 0]), 2.5),
            Case("NaN at the label", ([[nan, -1.0], [-1.0, -2.0]], [0, 1]), [nan, 2.0], EACH),
        ),
        refusals=(
            Refusal("a label below the first class", ([[-1.0, -2.0]], [-1]), "[0, 2)"),
            Refusal("a label beyond the last class", ([[-1.0, -2.0]], [2]), "[0, 2)"),
            Refusal("labels that are floats", ([[-1.0, -2.0]], [1.0]), "integer"),
        ),
        forms=(
            Form(
                "minus the share of each label",
                "PyTorch, JAX",
                vjp=lambda dy, y, log_p, labels, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, labels.size), -1)
                    * -one_hot(labels, log_p.shape[-1]),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 5.5",),
    ),
    Spec(
        name="kl_divergence",
        summary="The Kullback-Leibler divergence of a distribution t from log-probabilities log_p.",
        signature="(...,c),(...,c)->(...)",
        definition=_kl_divergence,
        inputs=(LOG_ROW, T_ROW),
        settings=REDUCTION,
        laws=("gibbs", "zero-when-perfect"),
        cases=(
            Case("a perfect answer costs nothing", ([[-1.0, 0.0]], [[0.0, 1.0]]), 0.0),
            Case("a class that neither has costs nothing", ([[-inf, 0.0]], [[0.0, 1.0]]), 0.0),
            Case("a class ruled out that occurs", ([[-inf, 0.0]], [[0.5, 0.5]]), inf),
            Case("nothing is normalised", ([[-1.0, -3.0], [-2.0, -5.0]], [[0.0, 1.0], [1.0, 0.0]]), 2.5),
            Case(
                "NaN stays in its row",
                ([[nan, 0.0], [-2.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]),
                [nan, 2.0],
                EACH,
            ),
        ),
        refusals=(Refusal("labels where distributions belong", ([[-1.0, -2.0]], [1.0]), BROADCAST),),
        forms=(
            Form(
                "t log(t) - t log_p, rows and classes in one sum",
                "PyTorch",
                value=lambda log_p, t, *, reduction="mean": _all_terms(xlogy(t, t) - t * log_p, reduction),
                vjp=lambda dy, y, log_p, t, *, reduction="mean": (
                    -t * np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1),
                ),
            ),
        ),
        variants=(
            Variant(
                "mean-over-elements",
                "the mean is over all entries, not the rows",
                'PyTorch (kl_div with reduction="mean")',
                divisor=lambda log_p, t, *, reduction="mean": log_p.shape[-1] if reduction == "mean" else 1,
            ),
        ),
        references=(f"{COVER}, 2.3", f"{GOODFELLOW}, 3.13"),
    ),
)
