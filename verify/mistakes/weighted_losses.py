"""Known mistakes in losses with weights, smoothed and ignored labels."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

_right = refnet.weighted_softmax_cross_entropy_with_integer_labels


def _mean_over_kept(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The sum over the number of labels that are not ignored."""
    if settings.get("reduction", "mean") != "mean":
        return _right(z, labels, weights, **settings)
    kept = max(int(_kept(labels, **settings).sum()), 1)
    total = _right(z, labels, weights, **{**settings, "reduction": "sum"})
    return np.asarray(total / kept, z.dtype)


def _total_clamped(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """Guarded against 0 / 0 by max(total, 1)."""
    if settings.get("reduction", "mean") != "mean":
        return _right(z, labels, weights, **settings)
    weight = max(float(weights[labels[_kept(labels, **settings)]].sum()), 1.0)
    total = _right(z, labels, weights, **{**settings, "reduction": "sum"})
    return np.asarray(total / weight, z.dtype)


def _ignored_counts(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """Ignored labels cost nothing, and their weights are in the mean all the same."""
    if settings.get("reduction", "mean") != "mean":
        return _right(z, labels, weights, **settings)
    weight = weights[np.clip(labels, 0, len(weights) - 1)].sum()
    total = _right(z, labels, weights, **{**settings, "reduction": "sum"})
    return np.asarray(total / (weight or 1.0), z.dtype)


def _kept(labels: Any, **settings: Any) -> Any:
    return labels != settings.get("ignored_label", -100)


def _weight(labels: Any, weights: Any, **settings: Any) -> Any:
    """What the mean is taken over: the weights of the labels that are not ignored, or 1 if there is none."""
    return weights[labels[_kept(labels, **settings)]].sum() or 1.0


def _reduced(losses: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """As the right losses are reduced."""
    reduction = settings.get("reduction", "mean")
    if reduction == "none":
        return losses
    share = _weight(labels, weights, **settings) if reduction == "mean" else 1.0
    return np.asarray(losses.sum() / share, losses.dtype)


def _smoothes_ignored(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The smoothed part of an ignored example is not left out."""
    settings = {**settings, "reduction": "none"} if settings.get("reduction") == "none" else settings
    losses = _right(z, labels, weights, **{**settings, "reduction": "none"})
    spread = -(refnet.log_softmax(z) * weights).sum(axis=-1)
    ignored = labels == settings.get("ignored_label", -100)
    share = settings.get("label_smoothing", 0.0) / z.shape[-1]
    losses = losses + np.where(ignored, spread * share, 0.0).astype(z.dtype)
    return _reduced(losses.astype(z.dtype), labels, weights, **settings)


def _smooth_without_weights(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The smoothed part is not weighted by classes."""
    smoothing = settings.get("label_smoothing", 0.0)
    ones = np.ones_like(weights)
    losses = _right(z, labels, weights, **{**settings, "label_smoothing": 0.0, "reduction": "none"})
    plain = {**settings, "reduction": "none"}
    spread = _right(z, labels, ones, **{**plain, "label_smoothing": 1.0})
    losses = (1.0 - smoothing) * losses + smoothing * spread
    return _reduced(losses.astype(z.dtype), labels, weights, **settings)


def _masked_by_a_product(z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The loss of class 0 times 0 where the label is the ignored one."""
    kept = _kept(labels, **settings)
    unignored = {**settings, "ignored_label": -100, "reduction": "none"}
    losses = _right(z, np.where(kept, labels, 0), weights, **unignored)
    return _reduced(losses * kept.astype(z.dtype), labels, weights, **settings)


def _gradient_masked_by_a_product(dy: Any, z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The gradient for class 0 times 0 where the label is the ignored one; of a mean that of all weights."""
    kept, share = _kept(labels, **settings), dy
    if settings.get("reduction", "mean") == "mean":
        share = np.asarray(dy / _weight(labels, weights, **settings), z.dtype)
        settings = {**settings, "reduction": "sum"}
    (dz,) = _right.vjp(share, z, np.where(kept, labels, 0), weights, **{**settings, "ignored_label": -100})
    return (dz * kept[..., None].astype(z.dtype),)


def _gradient_over_examples(dy: Any, z: Any, labels: Any, weights: Any, **settings: Any) -> Any:
    """The value is a weighted mean, the gradient that of a mean over the examples."""
    if settings.get("reduction", "mean") != "mean":
        return tuple(_right.vjp(dy, z, labels, weights, **settings))
    share = np.asarray(dy / labels.size, z.dtype)
    return tuple(_right.vjp(share, z, labels, weights, **{**settings, "reduction": "sum"}))


def _smoothes_over_the_others(
    z: Any, t: Any, weights: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    """e / (c - 1) for the other classes, and 1 - e for the right one."""
    c = z.shape[-1]
    moved = (1 - label_smoothing) * t + label_smoothing * (1 - t) / max(c - 1, 1)
    plain: Any = refnet.weighted_softmax_cross_entropy
    return plain(z, moved.astype(z.dtype), weights, reduction=reduction)


def _weights_of_the_row(
    z: Any, t: Any, weights: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    """The mean over the weights, as it is with labels."""
    plain: Any = refnet.weighted_softmax_cross_entropy
    losses = plain(z, t, weights, label_smoothing=label_smoothing, reduction="none")
    if reduction == "none":
        return losses
    weight = (weights * t).sum() or 1.0
    return np.asarray(losses.sum() / (weight if reduction == "mean" else 1.0), z.dtype)


def _smooths_twice(
    z: Any, t: Any, weights: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    plain: Any = refnet.weighted_softmax_cross_entropy
    smooth = (1 - label_smoothing) * t + label_smoothing / z.shape[-1]
    return plain(z, smooth.astype(z.dtype), weights, label_smoothing=label_smoothing, reduction=reduction)


def _weighs_both(z: Any, t: Any, weights: Any, *, reduction: str = "mean") -> Any:
    """The weight multiplies the whole loss."""
    losses = refnet.binary_cross_entropy_with_logits(z, t, reduction="none") * weights
    if reduction == "none":
        return losses
    return np.asarray(losses.sum() / (losses.size if reduction == "mean" else 1.0), z.dtype)


def _weighs_the_no(z: Any, t: Any, weights: Any, *, reduction: str = "mean") -> Any:
    right: Any = refnet.weighted_binary_cross_entropy_with_logits
    return right(-z, (1 - t).astype(z.dtype), weights, reduction=reduction)


def _gradient_without_weight(dy: Any, z: Any, t: Any, weights: Any, *, reduction: str = "mean") -> Any:
    plain: Any = refnet.binary_cross_entropy_with_logits
    return tuple(plain.vjp(dy, z, t, reduction=reduction))


LABELS = "weighted_softmax_cross_entropy_with_integer_labels"
ROWS = "weighted_softmax_cross_entropy"
YES = "weighted_binary_cross_entropy_with_logits"
GRADIENT = ("vjp", "symbolic", "numerical")

MISTAKES = (
    Mistake(
        "weighted-labels-mean-over-examples-kept",
        LABELS,
        "the mean is over the number of labels, whatever their weights",
        ("value", "special-values"),
        value=_mean_over_kept,
    ),
    Mistake(
        "weighted-labels-total-at-least-one",
        LABELS,
        "the sum of the weights is taken for 1 where it is less, as a guard against 0 / 0",
        ("special-values",),
        value=_total_clamped,
    ),
    Mistake(
        "weighted-labels-ignored-in-the-mean",
        LABELS,
        "ignored labels cost nothing, but the mean is over them as well",
        ("special-values", "ignored-examples-do-not-matter"),
        value=_ignored_counts,
    ),
    Mistake(
        "weighted-labels-ignored-times-zero",
        "weighted_softmax_cross_entropy_with_integer_labels",
        "the losses are multiplied with a mask: NaN times 0 is NaN, and what is ignored reaches the mean",
        ("special-values",),
        value=_masked_by_a_product,
    ),
    Mistake(
        "weighted-labels-ignored-gradient-times-zero",
        "weighted_softmax_cross_entropy_with_integer_labels",
        "the gradients are multiplied with a mask: NaN times 0 is NaN",
        ("ignored-examples-do-not-matter",),
        vjp=_gradient_masked_by_a_product,
    ),
    Mistake(
        "weighted-labels-smoothes-ignored",
        LABELS,
        "the smoothed part of an ignored example is not left out",
        ("special-values", "ignored-examples-do-not-matter"),
        value=_smoothes_ignored,
    ),
    Mistake(
        "weighted-labels-smoothes-without-weights",
        LABELS,
        "the smoothed part does not know the weights of the classes",
        ("value", "special-values"),
        value=_smooth_without_weights,
    ),
    Mistake(
        "weighted-labels-gradient-over-examples",
        LABELS,
        "the gradient is divided by the number of examples, the value by their weights",
        GRADIENT,
        vjp=_gradient_over_examples,
    ),
    Mistake(
        "weighted-labels-without-label",
        LABELS,
        "the weights are those of the examples in their order, not of their labels",
        ("value", "plain-without-weights"),
        value=lambda z, labels, weights, **settings: _right(
            z, labels, np.full_like(weights, weights.sum()), **settings
        ),
    ),
    Mistake(
        "smoothing-over-the-other-classes",
        ROWS,
        "the smoothed share goes to the other classes only",
        ("value", "special-values"),
        value=_smoothes_over_the_others,
    ),
    Mistake(
        "weighted-rows-mean-over-weights",
        ROWS,
        "the mean is over the weights, as it is for labels",
        ("value", "special-values"),
        value=_weights_of_the_row,
    ),
    Mistake(
        "smoothing-twice",
        ROWS,
        "the targets are smoothed by the caller's code and by the loss",
        ("value",),
        value=_smooths_twice,
    ),
    Mistake(
        "weighted-binary-weighs-both",
        YES,
        "the weight of a yes multiplies the cost of a no as well",
        ("value", "special-values"),
        value=_weighs_both,
    ),
    Mistake(
        "weighted-binary-weighs-the-no",
        YES,
        "the weight is that of a no",
        ("value", "special-values"),
        value=_weighs_the_no,
    ),
    Mistake(
        "weighted-binary-gradient-without-weight",
        YES,
        "the gradient is that of the loss without weights",
        GRADIENT,
        vjp=_gradient_without_weight,
    ),
)
