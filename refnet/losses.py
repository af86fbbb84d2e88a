"""Losses. The first argument is differentiable; `reduction` is "mean" (over the examples), "sum" or "none".

The losses in probabilities take them as they are: nothing is clipped, so a confident wrong answer costs
infinity, and what is finite is exact. The losses in logits are finite for every finite logit.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

from refnet.activations import RowTerms, balance, row_terms
from refnet.arguments import validate_range
from refnet.op import ArgumentError, Array, Labels, Op, validate_classes, validate_number

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mae",
    "mse",
    "nll",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]

Reduction = Literal["mean", "sum", "none"]


def reduce_losses(op: str, losses: Array, reduction: Reduction) -> Array:
    """The loss of the batch from the losses of its examples.

    Where the sum overflows, the mean scales by a power of two first: 3 losses of 2e38 in float32. Not
    elsewhere: a quarter of a subnormal loss is 0.
    """
    validate_reduction(op, reduction)
    if reduction == "none":
        return losses
    if reduction == "sum":
        total: Array = np.add.reduce(losses, axis=None)
        return total
    if not losses.size:
        raise ArgumentError(op, "the batch", "empty", "at least one example", 'Use reduction="sum" for 0.')
    total = np.add.reduce(losses, axis=None)
    if not np.isinf(total):
        return total / losses.size
    scale = 0.5 ** math.ceil(math.log2(losses.size))
    mean: Array = np.add.reduce(losses * scale, axis=None) / (losses.size * scale)
    return mean


def validate_reduction(op: str, reduction: object) -> None:
    """Refuse what is no reduction; compared with a word, an array would give an array."""
    if not isinstance(reduction, str) or reduction not in get_args(Reduction):
        raise ArgumentError(
            op, "reduction", repr(reduction), '"mean", "sum" or "none"', "The mean is over the examples."
        )


def share_of(dy: Array, reduction: Reduction, examples: int) -> Array:
    """The cotangent of the loss of each example: broadcastable against the losses."""
    return dy / examples if reduction == "mean" else dy


# ---------------------------------------------------------------------------------- binary cross-entropy


class ProbabilityGradients(NamedTuple):
    p: Array


class LogitGradients(NamedTuple):
    z: Array


class TargetResiduals(NamedTuple):
    """Predictions, targets, and how the losses of the examples were reduced."""

    prediction: Array
    target: Array
    reduction: Reduction


def _binary_cross_entropy(
    p: Array, t: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, TargetResiduals]:
    """l = -(t log(p) + (1 - t) log(1 - p)) for probabilities p and targets t in [0, 1], of one shape.

    0 log(0) = 0; the loss of p = 0 for t > 0 is infinite. log1p(-p), because 1 - p rounds to 1 at p = 1e-17.
    """
    certain_0, certain_1 = np.equal(t, 0.0), np.equal(t, 1.0)
    hit: Array = np.where(certain_0, 0.0, -t * np.log(p))
    miss: Array = np.where(certain_1, 0.0, (t - 1.0) * np.log1p(-p))
    return reduce_losses("binary_cross_entropy", hit + miss, reduction), TargetResiduals(p, t, reduction)


def _binary_cross_entropy_backward(residuals: TargetResiduals, dy: Array) -> ProbabilityGradients:
    """dp = (p - t) / (p (1 - p)), which is 1 / (1 - p) for t = 0 and -1 / p for t = 1.

    At p = t = 0 the general form is 0 / 0; the derivative there is 1. The share of the example comes first:
    1 / p overflows at p = 1e-310, where a mean over 64 does not.
    """
    p, t, reduction = residuals
    share = share_of(dy, reduction, p.size)
    general: Array = share * (p - t) / (p * (1.0 - p))
    negative, positive = np.equal(t, 0.0), np.equal(t, 1.0)
    return ProbabilityGradients(
        np.where(negative, share / (1.0 - p), np.where(positive, -share / p, general))
    )


binary_cross_entropy = Op(
    "binary_cross_entropy",
    "(...),(...)->(...)",
    ("p", "t"),
    _binary_cross_entropy,
    _binary_cross_entropy_backward,
)


class BinaryLogitResiduals(NamedTuple):
    z: Array
    target: Array
    decay: Array
    """exp(-|z|)."""
    reduction: Reduction


def _binary_cross_entropy_with_logits(
    z: Array, t: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, BinaryLogitResiduals]:
    """l = -(t log(s) + (1 - t) log(1 - s)) with s = sigmoid(z), for targets t in [0, 1], of one shape.

    |z| (1 - t) for z >= 0, |z| t below, plus log(1 + exp(-|z|)): no term is negative, so nothing cancels.
    """
    decay: Array = np.exp(-np.abs(z))
    losses: Array = np.abs(z) * np.where(z < 0, t, 1.0 - t) + np.log1p(decay)
    residuals = BinaryLogitResiduals(z, t, decay, reduction)
    return reduce_losses("binary_cross_entropy_with_logits", losses, reduction), residuals


def _binary_cross_entropy_with_logits_backward(residuals: BinaryLogitResiduals, dy: Array) -> LogitGradients:
    """dz = sigmoid(z) - t, for z >= 0 written as (1 - t) - sigmoid(-z).

    At z = 50, t = 1 the gradient is -1.9e-22; sigmoid(z) - t gives 0.
    """
    z, t, decay, reduction = residuals
    tail: Array = decay / (1.0 + decay)
    slope: Array = np.where(z < 0, tail - t, (1.0 - t) - tail)
    return LogitGradients(share_of(dy, reduction, z.size) * slope)


binary_cross_entropy_with_logits = Op(
    "binary_cross_entropy_with_logits",
    "(...),(...)->(...)",
    ("z", "t"),
    _binary_cross_entropy_with_logits,
    _binary_cross_entropy_with_logits_backward,
)

# ----------------------------------------------------------------------------- categorical cross-entropy


def _categorical_cross_entropy(
    p: Array, t: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, TargetResiduals]:
    """l = -sum(t log(p)) along the last axis, for distributions p and targets t of one shape (..., c).

    0 log(0) = 0; the loss of p = 0 where t > 0 is infinite.
    """
    validate_classes("categorical_cross_entropy", "p", p)
    terms: Array = np.where(np.equal(t, 0.0), 0.0 * p, -t * np.log(p))
    losses: Array = np.add.reduce(terms, axis=-1)
    return reduce_losses("categorical_cross_entropy", losses, reduction), TargetResiduals(p, t, reduction)


def _categorical_cross_entropy_backward(residuals: TargetResiduals, dy: Array) -> ProbabilityGradients:
    """dp = -t / p, and 0 where t = 0 (at p = t = 0 as well). The share of the example comes first: t / p may
    overflow where the mean over the batch does not.
    """
    p, t, reduction = residuals
    share = share_of(dy, reduction, p[..., 0].size)[..., None]
    return ProbabilityGradients(np.where(np.equal(t, 0.0), 0.0 * p, -t * share / p))


categorical_cross_entropy = Op(
    "categorical_cross_entropy",
    "(...,c),(...,c)->(...)",
    ("p", "t"),
    _categorical_cross_entropy,
    _categorical_cross_entropy_backward,
)


class SoftmaxLossResiduals(NamedTuple):
    terms: RowTerms
    target: Array
    reduction: Reduction


def _softmax_cross_entropy(
    z: Array, t: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, SoftmaxLossResiduals]:
    """l = -sum(t log_softmax(z)) along the last axis, for logits z and targets t of one shape (..., c).

    A logit of minus infinity is a class ruled out: it costs nothing where t = 0.
    """
    validate_classes("softmax_cross_entropy", "z", z)
    terms = row_terms(z)
    cost: Array = t * (np.log1p(terms.rest) - terms.shifted)
    ruled_out = np.equal(t, 0.0) & (np.isinf(z) | np.isinf(terms.shifted))  # max - (-max) overflows
    losses: Array = np.add.reduce(np.where(ruled_out, 0.0, cost), axis=-1)
    return reduce_losses("softmax_cross_entropy", losses, reduction), SoftmaxLossResiduals(
        terms, t, reduction
    )


def _softmax_cross_entropy_backward(residuals: SoftmaxLossResiduals, dy: Array) -> LogitGradients:
    """dz = softmax(z) sum(t) - t, balanced at the largest logit."""
    terms, t, reduction = residuals
    share = share_of(dy, reduction, t[..., 0].size)
    probabilities: Array = terms.others / (1.0 + terms.rest)
    slope = balance(probabilities * np.add.reduce(t, axis=-1, keepdims=True) - t, terms.is_top)
    return LogitGradients(share[..., None] * slope)


softmax_cross_entropy = Op(
    "softmax_cross_entropy",
    "(...,c),(...,c)->(...)",
    ("z", "t"),
    _softmax_cross_entropy,
    _softmax_cross_entropy_backward,
)


class LabelLossResiduals(NamedTuple):
    probabilities: Array
    """softmax(z), flattened to (n, c)."""
    labels: Labels
    reduction: Reduction
    shape: tuple[int, ...]
    """The shape of z."""


def label_loss_residuals(z: Array, labels: Labels, *, reduction: Reduction = "mean") -> LabelLossResiduals:
    """What the gradient of the loss needs: all that one step of training computes of it."""
    rows = z.reshape(-1, z.shape[-1])
    probabilities: Array = np.exp(rows - np.maximum.reduce(rows, axis=-1, keepdims=True))
    probabilities /= np.add.reduce(probabilities, axis=-1, keepdims=True)
    return LabelLossResiduals(probabilities, labels, reduction, z.shape)


def _softmax_cross_entropy_with_integer_labels(
    z: Array, labels: Labels, *, reduction: Reduction = "mean"
) -> tuple[Array, LabelLossResiduals]:
    """l = -log_softmax(z)[label] along the last axis, for logits z (..., c) and labels (...) in [0, c).

    A label outside [0, c) is refused: NumPy would count a negative one from the end.
    """
    name = "softmax_cross_entropy_with_integer_labels"
    validate_classes(name, "z", z)
    _validate_labels(name, labels, z.shape[-1])
    terms = row_terms(z)
    chosen: Array = np.take_along_axis(terms.shifted, labels[..., None], axis=-1)
    losses: Array = (np.log1p(terms.rest) - chosen)[..., 0]
    return reduce_losses(name, losses, reduction), label_loss_residuals(z, labels, reduction=reduction)


def _validate_labels(op: str, labels: Labels, classes: int) -> None:
    remedy = "Count classes from 0; mask the rows to be ignored before the loss."
    validate_range(op, "labels", labels, classes, remedy, meaning=", the number of classes")


def label_loss_slope(probabilities: Array, labels: Labels) -> Array:
    """softmax(z) - one_hot(label) in rows (n, c), the gradients of the losses of the examples, in the memory
    of the probabilities.

    The entry at the label is minus the sum of the others, because p - 1 is 0 where p rounds to 1: at
    z = (50, 0), label 0, the gradient is -1.9e-22. A batch of one is indexed by integers, which costs a
    tenth of indexing by arrays.
    """
    dz = probabilities
    if len(dz) == 1:
        label = labels.item()
        dz[0, label] = 0.0
        dz[0, label] = -np.add.reduce(dz, axis=None)
    else:
        rows, columns = np.arange(len(dz)), labels.reshape(-1)
        dz[rows, columns] = 0.0
        dz[rows, columns] = -np.add.reduce(dz, axis=-1)
    return dz


def _softmax_cross_entropy_with_integer_labels_backward(
    residuals: LabelLossResiduals, dy: Array
) -> LogitGradients:
    """dz = softmax(z) - one_hot(label)."""
    dz = label_loss_slope(residuals.probabilities.copy(), residuals.labels)
    share = share_of(dy, residuals.reduction, len(dz))
    dz *= share.reshape(-1, 1)
    return LogitGradients(dz.reshape(residuals.shape))


softmax_cross_entropy_with_integer_labels = Op(
    "softmax_cross_entropy_with_integer_labels",
    "(...,c),(...)->(...)",
    ("z", "labels"),
    _softmax_cross_entropy_with_integer_labels,
    _softmax_cross_entropy_with_integer_labels_backward,
    integers=("labels",),
)

# ------------------------------------------------------------------------------------ mean squared error


def _mse(p: Array, t: Array, *, reduction: Reduction = "mean") -> tuple[Array, TargetResiduals]:
    """l = (p - t)^2, elementwise, for predictions p and targets t of one shape."""
    difference: Array = p - t
    return reduce_losses("mse", difference * difference, reduction), TargetResiduals(p, t, reduction)


def _mse_backward(residuals: TargetResiduals, dy: Array) -> ProbabilityGradients:
    """dp = 2 (p - t), doubled last: 2 dy overflows before the product with a small difference does."""
    p, t, reduction = residuals
    return ProbabilityGradients(2.0 * (share_of(dy, reduction, p.size) * (p - t)))


mse = Op("mse", "(...),(...)->(...)", ("p", "t"), _mse, _mse_backward)

# ---------------------------------------------------------------------------- losses of a difference


def _mae(p: Array, t: Array, *, reduction: Reduction = "mean") -> tuple[Array, TargetResiduals]:
    """l = |p - t|, elementwise, for predictions p and targets t of one shape."""
    return reduce_losses("mae", np.abs(p - t), reduction), TargetResiduals(p, t, reduction)


def _mae_backward(residuals: TargetResiduals, dy: Array) -> ProbabilityGradients:
    """dp = sign(p - t), which is 0 at p = t: in the middle of the slopes -1 and 1 on its two sides.

    The quotient (p - t) / |p - t| is NaN there.
    """
    p, t, reduction = residuals
    return ProbabilityGradients(share_of(dy, reduction, p.size) * np.sign(p - t))


mae = Op("mae", "(...),(...)->(...)", ("p", "t"), _mae, _mae_backward)


class HuberResiduals(NamedTuple):
    difference: Array
    delta: float
    reduction: Reduction


def _huber(
    p: Array, t: Array, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> tuple[Array, HuberResiduals]:
    """l = (p - t)^2 / 2 where |p - t| <= delta, else delta (|p - t| - delta / 2); delta is positive.

    With the part a = min(|p - t|, delta) it is a^2 / 2 + delta (|p - t| - a): no square of a large difference
    is taken (it overflows at 2e154), and neither term is negative.
    """
    width = validate_number("huber", "delta", delta, p.dtype, positive=True, remedy="Use 1.0 to begin with.")
    difference: Array = p - t
    size = np.abs(difference)
    part: Array = np.minimum(size, width)
    losses: Array = (0.5 * part) * part + width * (size - part)
    return reduce_losses("huber", losses, reduction), HuberResiduals(difference, width, reduction)


def _huber_backward(residuals: HuberResiduals, dy: Array) -> ProbabilityGradients:
    """dp = p - t, kept between -delta and delta."""
    difference, delta, reduction = residuals
    slope: Array = np.maximum(np.minimum(difference, delta), -delta)
    return ProbabilityGradients(share_of(dy, reduction, difference.size) * slope)


huber = Op("huber", "(...),(...)->(...)", ("p", "t"), _huber, _huber_backward)


class LogCoshResiduals(NamedTuple):
    slope: Array
    """tanh(p - t)."""
    reduction: Reduction


def _log_cosh(p: Array, t: Array, *, reduction: Reduction = "mean") -> tuple[Array, LogCoshResiduals]:
    """l = log(cosh(d)) with d = p - t, elementwise, for predictions p and targets t of one shape.

    cosh(d) overflows at d = 711, where the loss is 710.3; and |d| + log1p(exp(-2 |d|)) - log(2) is 0 at
    d = 1e-8, where it is 5e-17. So -log1p(-tanh(d)^2) / 2 for |d| < 1, from 1 / cosh^2 = 1 - tanh^2: no term
    of it cancels; and |d| + log((1 + exp(-2 |d|)) / 2) from 1 on, where less than two thirds of |d| cancel.
    """
    difference: Array = p - t
    size = np.abs(difference)
    slope: Array = np.tanh(difference)
    near: Array = -0.5 * np.log1p(-(slope * slope))
    far: Array = size + np.log(0.5 + 0.5 * np.exp(-2.0 * size))
    losses: Array = np.where(size < 1.0, near, far)
    return reduce_losses("log_cosh", losses, reduction), LogCoshResiduals(slope, reduction)


def _log_cosh_backward(residuals: LogCoshResiduals, dy: Array) -> ProbabilityGradients:
    """dp = tanh(p - t); the quotient sinh / cosh is NaN where both overflow."""
    slope, reduction = residuals
    return ProbabilityGradients(share_of(dy, reduction, slope.size) * slope)


log_cosh = Op("log_cosh", "(...),(...)->(...)", ("p", "t"), _log_cosh, _log_cosh_backward)


class HingeResiduals(NamedTuple):
    slope: Array
    """Of the loss of each example."""
    reduction: Reduction


def _hinge(p: Array, t: Array, *, reduction: Reduction = "mean") -> tuple[Array, HingeResiduals]:
    """l = max(0, 1 - t p), elementwise, for scores p and targets t, each -1 or 1, of one shape.

    Targets 0 and 1 are refused: a target of 0 would cost 1 whatever the score is. NaN stays NaN.
    """
    strange = np.not_equal(np.abs(t), 1.0) & np.equal(t, t)
    if strange.any():
        raise ArgumentError(
            "hinge",
            "t",
            f"neither -1 nor 1 in {int(strange.sum())} of {strange.size} places",
            "-1 or 1 everywhere",
            "Use 2 * t - 1 for targets 0 and 1.",
        )
    losses: Array = np.maximum(1.0 - t * p, 0.0)
    return reduce_losses("hinge", losses, reduction), HingeResiduals(-t * np.sign(losses), reduction)


def _hinge_backward(residuals: HingeResiduals, dy: Array) -> ProbabilityGradients:
    """dp = -t H(1 - t p), with the Heaviside step H(0) = 0 as in ReLU; a NaN stays one."""
    slope, reduction = residuals
    return ProbabilityGradients(share_of(dy, reduction, slope.size) * slope)


hinge = Op("hinge", "(...),(...)->(...)", ("p", "t"), _hinge, _hinge_backward)

# ------------------------------------------------------------------------------------ log-probabilities


class LogProbabilityGradients(NamedTuple):
    log_p: Array


class NllResiduals(NamedTuple):
    labels: Labels
    classes: int
    reduction: Reduction


def _nll(log_p: Array, labels: Labels, *, reduction: Reduction = "mean") -> tuple[Array, NllResiduals]:
    """l = -log_p[label] along the last axis, for log-probabilities (..., c) and labels (...) in [0, c).

    Linear in log_p: nothing is normalised, and no other class enters, not even its NaN.
    """
    validate_classes("nll", "log_p", log_p)
    _validate_labels("nll", labels, log_p.shape[-1])
    chosen: Array = np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return reduce_losses("nll", 0.0 - chosen, reduction), NllResiduals(labels, log_p.shape[-1], reduction)


def _nll_backward(residuals: NllResiduals, dy: Array) -> LogProbabilityGradients:
    """dlog_p = -1 at the label, 0 elsewhere."""
    labels, classes, reduction = residuals
    at_label = labels[..., None] == np.arange(classes)
    share = share_of(dy, reduction, labels.size)[..., None]
    return LogProbabilityGradients(np.where(at_label, -share, 0.0))


nll = Op("nll", "(...,c),(...)->(...)", ("log_p", "labels"), _nll, _nll_backward, integers=("labels",))


class DivergenceResiduals(NamedTuple):
    target: Array
    reduction: Reduction


def _kl_divergence(
    log_p: Array, t: Array, *, reduction: Reduction = "mean"
) -> tuple[Array, DivergenceResiduals]:
    """l = sum(t (log(t) - log_p)) along the last axis, for log-probabilities and distributions t (..., c).

    A class with t = 0 costs nothing, not even where log_p is minus infinity; minus infinity where t > 0 costs
    infinity. The logarithms are subtracted first: t log(t) - t log_p would round two products that cancel.
    Nothing is normalised: the loss can be negative where exp(log_p) sums to more than 1.
    """
    validate_classes("kl_divergence", "log_p", log_p)
    absent: Array = np.where(np.isinf(log_p), 0.0, 0.0 * log_p)  # NaN stays
    terms: Array = np.where(np.equal(t, 0.0), absent, t * (np.log(t) - log_p))
    losses: Array = np.add.reduce(terms, axis=-1)
    return reduce_losses("kl_divergence", losses, reduction), DivergenceResiduals(t, reduction)


def _kl_divergence_backward(residuals: DivergenceResiduals, dy: Array) -> LogProbabilityGradients:
    """dlog_p = -t."""
    t, reduction = residuals
    return LogProbabilityGradients(-t * share_of(dy, reduction, t[..., 0].size)[..., None])


kl_divergence = Op(
    "kl_divergence", "(...,c),(...,c)->(...)", ("log_p", "t"), _kl_divergence, _kl_divergence_backward
)

OPS = (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    categorical_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    mse,
    mae,
    huber,
    log_cosh,
    hinge,
    nll,
    kl_divergence,
)
