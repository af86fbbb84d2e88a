"""Cross-entropies with weights, smoothed and ignored labels. The first argument is differentiable."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.activations import RowTerms, balance, row_terms
from refnet.arguments import validate_index, validate_range
from refnet.losses import LogitGradients, Reduction, reduce_losses, share_of, validate_reduction
from refnet.op import ArgumentError, Array, Labels, Mask, Op, as_number, validate_classes

__all__ = [
    "weighted_binary_cross_entropy_with_logits",
    "weighted_softmax_cross_entropy",
    "weighted_softmax_cross_entropy_with_integer_labels",
]

# ------------------------------------------------------------------------------------------- at the door


def _validate_weights(op: str, weights: Array) -> None:
    negative = np.less(weights, 0.0)
    if negative.any():
        raise ArgumentError(
            op,
            "weights",
            f"with {int(negative.sum())} of {weights.size} negative",
            "weights of at least 0, one for each class",
            "A weight of 1 changes nothing, a weight of 0 leaves a class out.",
        )


def _validate_smoothing(op: str, label_smoothing: object) -> float:
    share = as_number(label_smoothing)
    if 0.0 <= share <= 1.0:
        return share
    raise ArgumentError(
        op, "label_smoothing", repr(label_smoothing), "a number in [0, 1]", "0.1 is usual, 0.0 is none."
    )


# --------------------------------------------------------------------------------------- distributions


class WeightedRowResiduals(NamedTuple):
    terms: RowTerms
    target: Array
    """Weights times targets, (..., c): they need not sum to 1."""
    kept: Mask
    """Where the label is not the ignored one."""
    total: Array | None
    """What the mean is taken over; None where the losses are not averaged."""


def _cost(z: Array, terms: RowTerms, target: Array) -> Array:
    """The sum of target times -log_softmax(z); a class ruled out costs nothing where its target is 0."""
    cost: Array = target * (np.log1p(terms.rest) - terms.shifted)
    ruled_out = np.equal(target, 0.0) & (np.isinf(z) | np.isinf(terms.shifted))
    losses: Array = np.add.reduce(np.where(ruled_out, 0.0, cost), axis=-1)
    return losses


def _slope(terms: RowTerms, target: Array) -> Array:
    """softmax(z) sum(target) - target, balanced at the largest logit."""
    probabilities: Array = terms.others / (1.0 + terms.rest)
    return balance(probabilities * np.add.reduce(target, axis=-1, keepdims=True) - target, terms.is_top)


class WeightedResiduals(NamedTuple):
    terms: RowTerms
    target: Array
    reduction: Reduction


def _weighted_softmax_cross_entropy(
    z: Array, t: Array, weights: Array, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
) -> tuple[Array, WeightedResiduals]:
    """l = -sum(w s log_softmax(z)) along the last axis, s = (1 - e) t + e / c with e = label_smoothing, for
    logits z and targets t (..., c) and weights (c). The mean is over the rows, whatever their weights.
    """
    name = "weighted_softmax_cross_entropy"
    validate_classes(name, "z", z)
    _validate_weights(name, weights)
    smoothing = _validate_smoothing(name, label_smoothing)
    target: Array = weights * ((1.0 - smoothing) * t + smoothing / z.shape[-1] if smoothing else t)
    terms = row_terms(z)
    losses = _cost(z, terms, target)
    return reduce_losses(name, losses, reduction), WeightedResiduals(terms, target, reduction)


def _weighted_softmax_cross_entropy_backward(residuals: WeightedResiduals, dy: Array) -> LogitGradients:
    """dz = softmax(z) sum(w s) - w s."""
    terms, target, reduction = residuals
    share = share_of(dy, reduction, target[..., 0].size)
    return LogitGradients(share[..., None] * _slope(terms, target))


weighted_softmax_cross_entropy = Op(
    "weighted_softmax_cross_entropy",
    "(...,c),(...,c),(c)->(...)",
    ("z", "t", "weights"),
    _weighted_softmax_cross_entropy,
    _weighted_softmax_cross_entropy_backward,
)


def _weighted_softmax_cross_entropy_with_integer_labels(
    z: Array,
    labels: Labels,
    weights: Array,
    *,
    label_smoothing: float = 0.0,
    ignored_label: int = -100,
    reduction: Reduction = "mean",
) -> tuple[Array, WeightedRowResiduals]:
    """l = -(1 - e) w[label] log p[label] - e / c sum(w log p), with p = softmax(z) and e = label_smoothing,
    for logits z (..., c), labels (...) in [0, c) and weights (c); 0 where the label is the ignored one,
    whatever the logits are there: NaN times 0 would not be 0.

    The mean is the sum over the sum of w[label], of labels that are not ignored, as in PyTorch; 0 if there is
    no such weight at all.
    """
    name = "weighted_softmax_cross_entropy_with_integer_labels"
    validate_classes(name, "z", z)
    _validate_weights(name, weights)
    smoothing = _validate_smoothing(name, label_smoothing)
    validate_index(name, "ignored_label", ignored_label)
    validate_reduction(name, reduction)
    kept = np.not_equal(labels, ignored_label)
    or_ignored = f", or ignored_label = {ignored_label}"
    remedy = "Count classes from 0."
    validate_range(name, "labels", labels, z.shape[-1], remedy, meaning=or_ignored, counted=kept)
    chosen = np.where(kept, labels, 0)
    at_label = (chosen[..., None] == np.arange(z.shape[-1])) & kept[..., None]
    target: Array = np.where(at_label, (1.0 - smoothing) * weights, 0.0)
    if smoothing:
        target = target + np.where(kept[..., None], smoothing / z.shape[-1] * weights, 0.0)
    terms = row_terms(z)
    losses: Array = np.where(kept, _cost(z, terms, target), 0.0)
    if reduction != "mean":
        return reduce_losses(name, losses, reduction), WeightedRowResiduals(terms, target, kept, None)
    total: Array = np.add.reduce(np.where(kept, weights[chosen], 0.0), axis=None)
    return _over(reduce_losses(name, losses, "sum"), total), WeightedRowResiduals(terms, target, kept, total)


def _over(x: Array, total: Array) -> Array:
    """x / total, and 0 where there is nothing to take a mean over."""
    nothing = np.equal(total, 0.0)
    quotient: Array = np.where(nothing, 0.0, x / np.where(nothing, 1.0, total))
    return quotient


def _weighted_softmax_cross_entropy_with_integer_labels_backward(
    residuals: WeightedRowResiduals, dy: Array
) -> LogitGradients:
    """dz = softmax(z) sum(t) - t, where t is the row of weights that multiply -log p; 0 if it is ignored."""
    terms, target, kept, total = residuals
    share = dy if total is None else _over(dy, total)
    dz: Array = np.where(kept[..., None], share[..., None] * _slope(terms, target), 0.0)
    return LogitGradients(dz)


weighted_softmax_cross_entropy_with_integer_labels = Op(
    "weighted_softmax_cross_entropy_with_integer_labels",
    "(...,c),(...),(c)->(...)",
    ("z", "labels", "weights"),
    _weighted_softmax_cross_entropy_with_integer_labels,
    _weighted_softmax_cross_entropy_with_integer_labels_backward,
    integers=("labels",),
)

# ------------------------------------------------------------------------------------------ yes or no


class WeightedBinaryResiduals(NamedTuple):
    z: Array
    target: Array
    weights: Array
    decay: Array
    """exp(-|z|)."""
    reduction: Reduction


def _weighted_binary_cross_entropy_with_logits(
    z: Array, t: Array, weights: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, WeightedBinaryResiduals]:
    """l = -(w t log(s) + (1 - t) log(1 - s)) with s = sigmoid(z), for logits z and targets t in [0, 1], both
    (..., c), and a weight of the yes of each column (c). The mean is over all elements.

    -log(s) = max(-z, 0) + log1p(exp(-|z|)), and -log(1 - s) the same of -z: no term is negative.
    """
    name = "weighted_binary_cross_entropy_with_logits"
    _validate_weights(name, weights)
    decay: Array = np.exp(-np.abs(z))
    tail: Array = np.log1p(decay)
    missed: Array = np.where(z < 0, np.abs(z), 0.0) + tail
    alarmed: Array = np.where(z < 0, 0.0, np.abs(z)) + tail
    losses: Array = weights * t * missed + (1.0 - t) * alarmed
    return reduce_losses(name, losses, reduction), WeightedBinaryResiduals(z, t, weights, decay, reduction)


def _weighted_binary_cross_entropy_with_logits_backward(
    residuals: WeightedBinaryResiduals, dy: Array
) -> LogitGradients:
    """dz = (1 - t) s - w t (1 - s), two terms that vanish where they should: at z = 50, t = 1, w = 1 the
    gradient is -1.9e-22."""
    z, t, weights, decay, reduction = residuals
    tail: Array = decay / (1.0 + decay)
    head: Array = 1.0 / (1.0 + decay)
    positive: Array = np.where(z < 0, tail, head)
    negative: Array = np.where(z < 0, head, tail)
    slope: Array = (1.0 - t) * positive - weights * t * negative
    return LogitGradients(share_of(dy, reduction, z.size) * slope)


weighted_binary_cross_entropy_with_logits = Op(
    "weighted_binary_cross_entropy_with_logits",
    "(...,c),(...,c),(c)->(...,c)",
    ("z", "t", "weights"),
    _weighted_binary_cross_entropy_with_logits,
    _weighted_binary_cross_entropy_with_logits_backward,
)

OPS = (
    weighted_softmax_cross_entropy_with_integer_labels,
    weighted_softmax_cross_entropy,
    weighted_binary_cross_entropy_with_logits,
)
