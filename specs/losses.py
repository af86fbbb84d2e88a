"""Losses: what they are. `reduction` is the mean over the examples, their sum, or none."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from specs.activations import GOODFELLOW, shifted_log_softmax, shifted_softmax, unshifted_log_softmax
from specs.maths import exp, is_positive, log, where, xlogy
from specs.spec import Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

REDUCTION = (Setting("reduction", ("mean", "sum", "none")),)
P_BINARY = Input("p", Domain.PROBABILITY)
T_BINARY = Input("t", Domain.PROBABILITY, differentiable=False)
P_ROW = Input("p", Domain.DISTRIBUTION)
T_ROW = Input("t", Domain.DISTRIBUTION, differentiable=False)
LOGITS = Input("z")
LABELS = Input("labels", Domain.LABEL, differentiable=False)
NO_REDUCTION = "reduction"
BROADCAST = "nothing is broadcast"


def _reduced(losses: Any, reduction: str) -> Any:
    if reduction == "none":
        return losses
    return losses.sum() / losses.size if reduction == "mean" else losses.sum()


def _shared(dy: Any, reduction: str, examples: int) -> Any:
    """The cotangent of each example's loss, for the forms: multiplied by 1 / n, which is rounded itself."""
    return dy * (1.0 / examples) if reduction == "mean" else dy


def _log_sigmoid(z: Any) -> Any:
    """min(z, 0) - log1p(exp(-|z|)), for the forms."""
    return -np.maximum(-z, 0.0) - np.log1p(np.exp(-np.abs(z)))


def _binary_cross_entropy(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced(-(xlogy(t, p) + xlogy(1 - t, 1 - p)), reduction)


def _binary_cross_entropy_with_logits(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    positive, negative = 1 / (1 + exp(-z)), 1 / (1 + exp(z))
    return _reduced(-(t * log(positive) + (1 - t) * log(negative)), reduction)


def _categorical_cross_entropy(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced(-np.asarray(xlogy(t, p).sum(axis=-1)), reduction)


def _softmax_cross_entropy(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    y = exp(z) / exp(z).sum(axis=-1, keepdims=True)
    return _reduced(-np.asarray((t * log(y)).sum(axis=-1)), reduction)


def _softmax_cross_entropy_with_integer_labels(z: Any, labels: Any, *, reduction: str = "mean") -> Any:
    y = exp(z) / exp(z).sum(axis=-1, keepdims=True)
    return _reduced(-log(np.take_along_axis(y, labels[..., None], axis=-1)[..., 0]), reduction)


def _mse(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced((p - t) * (p - t), reduction)


def _one_hot(labels: Any, classes: int) -> Any:
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
    return _reduced(-(_clamped(t, p) + _clamped(1 - t, 1 - p)), reduction)


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
        signature="(),()->()",
        definition=_binary_cross_entropy,
        inputs=(P_BINARY, T_BINARY),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect"),
        cases=(
            Case("perfect answers cost nothing", ([0.0, 1.0], [0.0, 1.0]), 0.0),
            Case("certain and wrong", ([0.0, 1.0], [1.0, 0.0]), [inf, inf], {"reduction": "none"}),
            Case("half a target, certain", ([0.0, 1.0], [0.5, 0.5]), [inf, inf], {"reduction": "none"}),
            Case("NaN stays", ([nan, 0.0], [0.0, 0.0]), [nan, 0.0], {"reduction": "none"}),
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
                value=lambda p, t, *, reduction="mean": _reduced(
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
        ),
        variants=(*CLIPPING, CLAMPED_LOGARITHM),
        references=(f"{GOODFELLOW}, 6.2.2.2",),
    ),
    Spec(
        name="binary_cross_entropy_with_logits",
        summary="The cost of a logit z for a yes-or-no target t: sigmoid and binary cross-entropy in one.",
        signature="(),()->()",
        definition=_binary_cross_entropy_with_logits,
        inputs=(LOGITS, T_BINARY),
        settings=REDUCTION,
        laws=("nonnegative", "composition", "nan-reaches-gradients"),
        cases=(
            Case("a large wrong logit costs itself", ([-30000.0, 30000.0], [1.0, 0.0]), 30000.0),
            Case("NaN stays", ([nan, -30000.0], [0.0, 0.0]), [nan, 0.0], {"reduction": "none"}),
        ),
        refusals=(
            Refusal("a column against a row", ([[0.5], [0.5]], [0.5, 0.5]), BROADCAST),
            Refusal("the mean of nothing", ([], []), "empty"),
        ),
        forms=(
            Form(
                "max(z, 0) - z t + log1p(exp(-|z|)); sigmoid(z) - t",
                "TensorFlow",
                value=lambda z, t, *, reduction="mean": _reduced(
                    np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z))), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    _shared(dy, reduction, z.size)
                    * (np.where(z < 0, np.exp(-np.abs(z)), 1.0) / (1.0 + np.exp(-np.abs(z))) - t),
                ),
            ),
            Form(
                "(1 - t) z - log_sigmoid(z)",
                "PyTorch",
                value=lambda z, t, *, reduction="mean": _reduced((1.0 - t) * z - _log_sigmoid(z), reduction),
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
        signature="(c),(c)->()",
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
                {"reduction": "none"},
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
        signature="(c),(c)->()",
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
                {"reduction": "none"},
            ),
        ),
        refusals=(Refusal("labels where distributions belong", ([[0.5, 0.5]], [1.0]), BROADCAST),),
        forms=(
            Form(
                "minus the sum of t log_softmax(z); softmax(z) - t",
                "PyTorch, JAX",
                value=lambda z, t, *, reduction="mean": _reduced(
                    -(t * shifted_log_softmax(z)).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1) * (shifted_softmax(z) - t),
                ),
            ),
            Form(
                "minus the sum of t (z - logsumexp(z)); exp(z - logsumexp(z)) - t",
                "hand-written losses",
                value=lambda z, t, *, reduction="mean": _reduced(
                    -(t * unshifted_log_softmax(z)).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, t[..., 0].size), -1)
                    * (np.exp(unshifted_log_softmax(z)) - t),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.2.2.3",),
    ),
    Spec(
        name="softmax_cross_entropy_with_integer_labels",
        summary="The cost of a row of logits z for the class that is right.",
        signature="(c),()->()",
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
                {"reduction": "none"},
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
                value=lambda z, labels, *, reduction="mean": _reduced(
                    -np.take_along_axis(shifted_log_softmax(z), labels[..., None], axis=-1)[..., 0], reduction
                ),
                vjp=lambda dy, y, z, labels, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, labels.size), -1)
                    * (shifted_softmax(z) - _one_hot(labels, z.shape[-1])),
                ),
            ),
            Form(
                "logsumexp(z) - z at the label; exp(z - logsumexp(z)) - one_hot(label)",
                "Optax",
                value=lambda z, labels, *, reduction="mean": _reduced(
                    -np.take_along_axis(unshifted_log_softmax(z), labels[..., None], axis=-1)[..., 0],
                    reduction,
                ),
                vjp=lambda dy, y, z, labels, *, reduction="mean": (
                    np.expand_dims(_shared(dy, reduction, labels.size), -1)
                    * (np.exp(unshifted_log_softmax(z)) - _one_hot(labels, z.shape[-1])),
                ),
            ),
        ),
        references=(f"{GOODFELLOW}, 6.2.2.3",),
    ),
    Spec(
        name="mse",
        summary="The squared difference of predictions p and targets t.",
        signature="(),()->()",
        definition=_mse,
        inputs=(Input("p", degree=2), Input("t", differentiable=False, degree=2)),
        settings=REDUCTION,
        laws=("nonnegative", "zero-when-perfect", "nan-reaches-gradients"),
        cases=(
            Case("two units off, on one of two", ([1.0, 5.0], [1.0, 3.0]), 2.0),
            Case("the sum of nothing", ([], []), 0.0, {"reduction": "sum"}),
            Case("NaN stays", ([nan, 1.0], [0.0, 1.0]), [nan, 0.0], {"reduction": "none"}),
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
        variants=(Variant("half", "half of the squared difference", "scikit-learn", divisor=2),),
        references=(f"{GOODFELLOW}, 5.1.4",),
    ),
)
