"""Cross-entropies with weights, smoothed and ignored labels: what they are.

What the mean is taken over is part of each definition, because libraries differ in nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, nan
from typing import Any

import numpy as np

from specs.activations import shifted_log_softmax, shifted_softmax, unshifted_log_softmax
from specs.losses import BROADCAST, LABELS, LOGITS, REDUCTION, T_BINARY, T_ROW, log_sigmoid, one_hot, reduced
from specs.maths import exp, is_zero, log, saved, where, zeros
from specs.spec import Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

WEIGHTS = Input("weights", Domain.WEIGHT, differentiable=False)
SMOOTHING = Setting("label_smoothing", (0.0, 0.1))
IGNORABLE = replace(LABELS, outside="ignored_label")
IGNORED = Setting("ignored_label", (-100, 0), along="c")
SZEGEDY = "Szegedy et al., Rethinking the inception architecture, CVPR 2016, section 7"
NONE = {"reduction": "none"}


def _log_softmax(z: Any) -> Any:
    return log(exp(z) / exp(z).sum(axis=-1, keepdims=True))


def _label_losses(
    z: Any, labels: Any, weights: Any, *, label_smoothing: Any = 0.0, ignored_label: int = -100
) -> tuple[Any, Any]:
    """The losses of the examples, and their weights."""
    y, kept = _log_softmax(z), labels != ignored_label
    chosen = np.where(kept, labels, 0)
    own = where(kept, weights[chosen], 0)
    losses = -(1 - label_smoothing) * own * np.take_along_axis(y, chosen[..., None], axis=-1)[..., 0]
    if label_smoothing != 0:
        spread = np.asarray((weights * y).sum(axis=-1), dtype=object)
        losses = losses - label_smoothing * spread / z.shape[-1]
    return where(kept, losses, zeros(losses)), own


def _weighted_softmax_cross_entropy_with_integer_labels(
    z: Any, labels: Any, weights: Any, *, reduction: str = "mean", **settings: Any
) -> Any:
    losses, own = _label_losses(z, labels, weights, **settings)
    if reduction != "mean":
        return reduced(losses, reduction)
    total = own.sum()
    nothing = is_zero(total)
    return where(nothing, 0, losses.sum() / where(nothing, 1, total))


def _mean_over_examples(
    z: Any, labels: Any, weights: Any, *, reduction: str = "mean", **settings: Any
) -> Any:
    losses, _ = _label_losses(z, labels, weights, **settings)
    return reduced(losses, reduction)


def _weightless(
    z: Any, labels: Any, weights: Any, *, reduction: str, ignored_label: int = -100, **settings: Any
) -> bool:
    kept = labels != ignored_label
    return reduction == "mean" and not np.any(weights[np.where(kept, labels, 0)][kept])


def _weighted_softmax_cross_entropy(
    z: Any, t: Any, weights: Any, *, label_smoothing: Any = 0.0, reduction: str = "mean"
) -> Any:
    smooth = (1 - label_smoothing) * t + label_smoothing / z.shape[-1]
    return reduced(-np.asarray((weights * smooth * _log_softmax(z)).sum(axis=-1)), reduction)


def _weighted_binary_cross_entropy_with_logits(
    z: Any, t: Any, weights: Any, *, reduction: str = "mean"
) -> Any:
    positive, negative = 1 / (1 + exp(-z)), 1 / (1 + exp(z))
    return reduced(-(weights * t * log(positive) + (1 - t) * log(negative)), reduction)


# ---------------------------------------------------------------------------------- forms, in floating point


def _two_means(
    z: Any,
    labels: Any,
    weights: Any,
    *,
    label_smoothing: float = 0.0,
    ignored_label: int = -100,
    reduction: str = "mean",
    log_softmax: Callable[[Any], Any] = shifted_log_softmax,
) -> Any:
    """The loss at the label and that of all classes, each reduced by itself, as PyTorch has them."""
    y, kept = log_softmax(z), labels != ignored_label
    chosen = np.where(kept, labels, 0)
    own = np.where(kept, weights[chosen], 0.0)
    at_label = -np.take_along_axis(y, chosen[..., None], axis=-1)[..., 0] * own
    spread = np.where(kept, -(y * weights).sum(axis=-1), 0.0)
    share = label_smoothing / z.shape[-1]
    if reduction == "none":
        return at_label * (1.0 - label_smoothing) + spread * share
    total = own.sum() if reduction == "mean" else 1.0
    if np.equal(total, 0.0):
        return 0.0 * at_label.sum()
    return at_label.sum() / total * (1.0 - label_smoothing) + spread.sum() / total * share


def _smoothed(labels: Any, weights: Any, classes: int, label_smoothing: float, kept: Any) -> Any:
    at_label = one_hot(np.where(kept, labels, 0), classes) * (1.0 - label_smoothing)
    return np.where(kept[..., None], weights * (at_label + label_smoothing / classes), 0.0)


def _slopes_of_labels(
    dy: Any,
    y: Any,
    z: Any,
    labels: Any,
    weights: Any,
    *,
    label_smoothing: float = 0.0,
    ignored_label: int = -100,
    reduction: str = "mean",
) -> Any:
    """softmax(z) times the sum of the row of targets, less the targets."""
    kept = labels != ignored_label
    t = _smoothed(labels, weights, z.shape[-1], label_smoothing, kept)
    share = dy
    if reduction == "mean":
        total = np.where(kept, weights[np.where(kept, labels, 0)], 0.0).sum()
        share = 0.0 * dy if np.equal(total, 0.0) else dy / total
    return (np.expand_dims(share, -1) * (saved(shifted_softmax(z)) * t.sum(axis=-1, keepdims=True) - t),)


def _smooth(t: Any, label_smoothing: float) -> Any:
    return t * (1.0 - label_smoothing) + label_smoothing / t.shape[-1]


def _slopes(dy: Any, p: Any, t: Any, reduction: str) -> Any:
    """Of weighted targets, from probabilities."""
    share = dy * (1.0 / t[..., 0].size) if reduction == "mean" else dy
    return (np.expand_dims(share, -1) * (p * t.sum(axis=-1, keepdims=True) - t),)


SPECS = (
    Spec(
        name="weighted_softmax_cross_entropy_with_integer_labels",
        summary="The cost of logits z for the right class: weighted, smoothed, with labels that are ignored.",
        signature="(...,c),(...),(c)->(...)",
        equations=(
            "p = softmax(z), e = label_smoothing, w = weights",
            "l = -(1 - e) w[label] log p[label] - (e / c) sum(w log p)",
            "l = 0 where the label is the ignored one",
            "mean = sum(l) / sum(w[label]) over the labels that are not ignored",
        ),
        definition=_weighted_softmax_cross_entropy_with_integer_labels,
        inputs=(LOGITS, IGNORABLE, WEIGHTS),
        settings=(SMOOTHING, IGNORED, *REDUCTION),
        mean_over="the weights of the labels that are not ignored",
        laws=(
            "nonnegative",
            "shift-invariant",
            "gradient-sums-to-zero",
            "nan-reaches-gradients",
            "plain-without-weights",
            "ignored-examples-do-not-matter",
        ),
        cases=(
            Case(
                "the weight is that of the label",
                ([[0.0, 30000.0], [30000.0, 0.0]], [0, 1], [0.5, 2.0]),
                [15000.0, 60000.0],
                NONE,
            ),
            Case(
                "the mean is over the weights",
                ([[0.0, 30000.0], [30000.0, 0.0]], [0, 1], [0.5, 1.0]),
                30000.0,
            ),
            Case(
                "an ignored label costs nothing",
                ([[0.0, 30000.0], [4.0, 0.0]], [0, -100], [2.0, 1.0]),
                30000.0,
            ),
            Case(
                "what is spread is ignored as well",
                ([[0.0, 30000.0], [0.0, 30000.0]], [1, -100], [2.0, 1.0]),
                15000.0,
                {"label_smoothing": 0.5},
            ),
            Case(
                "what is ignored may be no number",
                ([[0.0, 30000.0], [nan, inf]], [0, -100], [2.0, 1.0]),
                30000.0,
            ),
            Case("weights of less than 1 in all", ([[0.0, 30000.0]], [0], [0.5, 1.0]), 30000.0),
            Case("nothing is left", ([[0.0, 3.0]], [-100], [1.0, 1.0]), 0.0),
            Case(
                "half of the weight is spread over two classes",
                ([[0.0, 30000.0]], [1], [2.0, 1.0]),
                [15000.0],
                {"label_smoothing": 0.5, **NONE},
            ),
            Case(
                "NaN stays in its row", ([[nan, 1.0], [60000.0, 0.0]], [1, 0], [1.0, 1.0]), [nan, 0.0], NONE
            ),
        ),
        refusals=(
            Refusal("a label beyond the last class", ([[1.0, 2.0]], [2], [1.0, 1.0]), "[0, 2)"),
            Refusal("a negative label that is not ignored", ([[1.0, 2.0]], [-1], [1.0, 1.0]), "[0, 2)"),
            Refusal("a weight for each example", ([[1.0, 2.0]], [1], [1.0]), "c = 2"),
            Refusal("a negative weight", ([[1.0, 2.0]], [1], [1.0, -1.0]), "negative"),
            Refusal(
                "more than all is smoothed",
                ([[1.0, 2.0]], [1], [1.0, 1.0]),
                "label_smoothing",
                {"label_smoothing": 1.5},
            ),
        ),
        forms=(
            Form("two losses, of the label and of all classes", "PyTorch", value=_two_means),
            Form(
                "the same of z - logsumexp(z)",
                "hand-written losses",
                value=partial(_two_means, log_softmax=unshifted_log_softmax),
            ),
            Form("softmax(z) sum(t) - t", "PyTorch, JAX", vjp=_slopes_of_labels),
        ),
        variants=(
            Variant(
                "nan-of-nothing",
                "the mean is 0 / 0 where all labels are ignored or without weight",
                "PyTorch",
                nan_where=_weightless,
            ),
            Variant(
                "mean-over-examples",
                "the mean is over all examples, ignored ones included, whatever their weights",
                "Keras",
                definition=_mean_over_examples,
            ),
        ),
        references=(SZEGEDY,),
    ),
    Spec(
        name="weighted_softmax_cross_entropy",
        summary="The cost of logits z for a distribution t, with weights of classes and smoothed targets.",
        signature="(...,c),(...,c),(c)->(...)",
        definition=_weighted_softmax_cross_entropy,
        inputs=(LOGITS, T_ROW, WEIGHTS),
        settings=(SMOOTHING, *REDUCTION),
        laws=("nonnegative", "shift-invariant", "gradient-sums-to-zero", "nan-reaches-gradients"),
        cases=(
            Case("each class has its weight", ([[0.0, 30000.0]], [[1.0, 0.0]], [0.5, 2.0]), 15000.0),
            Case("a class ruled out costs nothing", ([[-inf, 3.0]], [[0.0, 1.0]], [1.0, 1.0]), 0.0),
            Case(
                "half of the target is spread over two classes",
                ([[0.0, 30000.0]], [[0.0, 1.0]], [2.0, 1.0]),
                15000.0,
                {"label_smoothing": 0.5},
            ),
        ),
        refusals=(
            Refusal("labels where distributions belong", ([[0.5, 0.5]], [1.0], [1.0, 1.0]), BROADCAST),
            Refusal("a negative weight", ([[1.0, 2.0]], [[0.5, 0.5]], [1.0, -1.0]), "negative"),
        ),
        forms=(
            Form(
                "minus the sum of w t log_softmax(z); softmax(z) sum(w t) - w t",
                "PyTorch, JAX",
                value=lambda z, t, w, *, label_smoothing=0.0, reduction="mean": reduced(
                    -(shifted_log_softmax(z) * _smooth(t, label_smoothing) * w).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, w, *, label_smoothing=0.0, reduction="mean": _slopes(
                    dy, saved(shifted_softmax(z)), w * _smooth(t, label_smoothing), reduction
                ),
            ),
            Form(
                "minus the sum of w t (z - logsumexp(z)); exp(z - logsumexp(z)) sum(w t) - w t",
                "hand-written losses",
                value=lambda z, t, w, *, label_smoothing=0.0, reduction="mean": reduced(
                    -(unshifted_log_softmax(z) * _smooth(t, label_smoothing) * w).sum(axis=-1), reduction
                ),
                vjp=lambda dy, y, z, t, w, *, label_smoothing=0.0, reduction="mean": _slopes(
                    dy, np.exp(saved(unshifted_log_softmax(z))), w * _smooth(t, label_smoothing), reduction
                ),
            ),
        ),
        references=(SZEGEDY,),
    ),
    Spec(
        name="weighted_binary_cross_entropy_with_logits",
        summary="The cost of logits z for yes-or-no targets t, where each column weighs its yes by itself.",
        signature="(...,c),(...,c),(c)->(...,c)",
        definition=_weighted_binary_cross_entropy_with_logits,
        inputs=(LOGITS, T_BINARY, WEIGHTS),
        settings=REDUCTION,
        laws=("nonnegative", "nan-reaches-gradients"),
        cases=(
            Case(
                "only a missed yes is weighted",
                ([[-30000.0, 30000.0]], [[1.0, 0.0]], [0.5, 0.5]),
                [[15000.0, 30000.0]],
                NONE,
            ),
            Case("no weight, no cost of a yes", ([[-30000.0]], [[1.0]], [0.0]), 0.0),
        ),
        refusals=(
            Refusal("a weight for each example", ([[1.0, 2.0]], [[1.0, 0.0]], [1.0]), "c = 2"),
            Refusal("a negative weight", ([[1.0]], [[1.0]], [-1.0]), "negative"),
        ),
        forms=(
            Form(
                "(1 - t) z - (1 + (w - 1) t) log_sigmoid(z)",
                "PyTorch",
                value=lambda z, t, w, *, reduction="mean": reduced(
                    (1.0 - t) * z - ((w - 1.0) * t + 1.0) * log_sigmoid(z), reduction
                ),
                vjp=lambda dy, y, z, t, w, *, reduction="mean": (
                    (dy * (1.0 / z.size) if reduction == "mean" else dy)
                    * (
                        (1.0 - t)
                        - ((w - 1.0) * t + 1.0)
                        * saved(np.where(z < 0, 1.0, np.exp(-np.abs(z))) / (1.0 + np.exp(-np.abs(z))))
                    ),
                ),
            ),
            Form(
                "(w t + 1 - t) sigmoid(z) - w t",
                "PyTorch",
                vjp=lambda dy, y, z, t, w, *, reduction="mean": (
                    (dy * (1.0 / z.size) if reduction == "mean" else dy)
                    * (
                        (w * t + 1.0 - t)
                        * saved(np.where(z < 0, np.exp(-np.abs(z)), 1.0) / (1.0 + np.exp(-np.abs(z))))
                        - w * t
                    ),
                ),
            ),
        ),
        references=("King & Zeng, Logistic regression in rare events data, Political Analysis 9 (2001)",),
    ),
)
