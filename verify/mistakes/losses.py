"""Known mistakes in losses."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from refnet.losses import Reduction
from refnet.op import Operator
from verify.mistakes.mistake import EPSILONS, Function, Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _reduced(losses: Any, reduction: str) -> Any:
    if reduction == "none":
        return losses
    return np.asarray(losses.mean() if reduction == "mean" else losses.sum(), dtype=losses.dtype)


def _share(dy: Any, examples: int, reduction: str) -> Any:
    return dy / dy.dtype.type(examples) if reduction == "mean" else dy


def _softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------------- binary cross-entropy


def _bce_epsilon(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    e = p.dtype.type(epsilon)
    return _reduced(-(t * np.log(p + e) + (1 - t) * np.log(1 - p + e)), reduction)


def _bce_clipped(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-6) -> Any:
    """Between epsilon and 1 - epsilon, so that in float32 an epsilon of 1e-8 leaves 1 as it is.

    1e-7 is the convention of Keras, which the spec knows.
    """
    e = p.dtype.type(epsilon)
    p = np.clip(p, e, 1 - e)
    return _reduced(-(t * np.log(p) + (1 - t) * np.log(1 - p)), reduction)


def _bce_each_clipped(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    e = p.dtype.type(epsilon)
    return _reduced(-(t * np.log(np.maximum(p, e)) + (1 - t) * np.log(np.maximum(1 - p, e))), reduction)


def _bce_one_sided(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.where(t == 0, p.dtype.type(0), -t * np.log(p)), reduction)


def _bce_zero_log_zero(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(-(t * np.log(p) + (1 - t) * np.log1p(-p)), reduction)


def _bce_swapped(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.binary_cross_entropy(t, p, reduction=reduction)


def _bce_gradient_of_logits(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * (p - t),)


def _bce_clipped_gradient(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    (gradient,) = refnet.binary_cross_entropy.vjp(dy, p, t, reduction=reduction)
    return (np.where((p > 0.01) & (p < 0.99), gradient, p.dtype.type(0)),)


def _bce_logits_naive(z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    y = 1 / (1 + np.exp(-z))
    return _reduced(-(t * np.log(y) + (1 - t) * np.log(1 - y)), reduction)


def _bce_logits_epsilon(z: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    return _bce_epsilon(1 / (1 + np.exp(-z)), t, reduction=reduction, epsilon=epsilon)


def _bce_logits_clipped(z: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    return _bce_clipped(1 / (1 + np.exp(-z)), t, reduction=reduction, epsilon=epsilon)


def _bce_logits_twice(z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.binary_cross_entropy_with_logits(refnet.sigmoid(z), t, reduction=reduction)


def _bce_logits_without_log1p(z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    decay = np.exp(-np.abs(z))
    return _reduced(np.abs(z) * np.where(z < 0, t, 1 - t) + np.log(1 + decay), reduction)


def _bce_logits_delta_of_mse(dy: Any, z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    y = refnet.sigmoid(z)
    return (_share(dy, z.size, reduction) * (y - t) * y * (1 - y),)


# ----------------------------------------------------------------------------- categorical cross-entropy


def _cce_over_batch_and_classes(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    losses = np.where(t == 0, 0 * p, -t * np.log(p))
    return _reduced(losses.sum(axis=-1) if reduction == "none" else losses, reduction)


def _cce_sign(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return -refnet.categorical_cross_entropy(p, t, reduction=reduction)


def _cce_zero_log_zero(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(-(t * np.log(p)).sum(axis=-1), reduction)


def _cce_epsilon(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-8) -> Any:
    """The loss of a probability that underflows ends at 18.4."""
    return _reduced(-(t * np.log(p + p.dtype.type(epsilon))).sum(axis=-1), reduction)


def _cce_epsilon_over_classes(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-8) -> Any:
    losses = -t * np.log(p + p.dtype.type(epsilon))
    return _reduced(losses.sum(axis=-1) if reduction == "none" else losses, reduction)


def _cce_clipped(p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    return _reduced(-(t * np.log(np.maximum(p, p.dtype.type(epsilon)))).sum(axis=-1), reduction)


def _cce_clipped_on_both_sides(
    p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-6
) -> Any:
    e = p.dtype.type(epsilon)
    return _reduced(-(t * np.log(np.clip(p, e, 1 - e))).sum(axis=-1), reduction)


def _cce_gradient_over_classes(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (np.expand_dims(_share(dy, p.size, reduction), -1) * np.where(t == 0, 0 * p, -t / p),)


def _cce_by_position(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    """Class weights left in from another data set."""
    weights = np.linspace(0.5, 1.5, p.shape[-1]).astype(p.dtype)
    losses = np.where(t == 0, 0 * p, -t * np.log(p) * weights).sum(axis=-1)
    return _reduced(losses, reduction)


def _sce_not_averaged(dy: Any, z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (np.expand_dims(dy, -1) * (_softmax(z) * t.sum(axis=-1, keepdims=True) - t),)


def _sce_averaged_over_classes(dy: Any, z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (np.expand_dims(_share(dy, z.size, reduction), -1) * (_softmax(z) - t),)


def _sce_epsilon(z: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    return _cce_epsilon(_softmax(z), t, reduction=reduction, epsilon=epsilon)


def _sce_clipped(z: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    return _cce_clipped(_softmax(z), t, reduction=reduction, epsilon=epsilon)


def _sce_zero_times_infinity(z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(-(t * refnet.log_softmax(z)).sum(axis=-1), reduction)


def _sce_softmax_twice(z: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.softmax_cross_entropy(_softmax(z), t, reduction=reduction)


def _labels_forget_one_hot(dy: Any, z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return (np.expand_dims(_share(dy, labels.size, reduction), -1) * _softmax(z),)


def _labels_log_of_softmax(z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    chosen = np.take_along_axis(np.log(_softmax(z)), labels[..., None], -1)[..., 0]
    return _reduced(-chosen, reduction)


def _labels_epsilon(z: Any, labels: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-7) -> Any:
    chosen = np.take_along_axis(_softmax(z), labels[..., None], -1)[..., 0]
    return _reduced(-np.log(chosen + z.dtype.type(epsilon)), reduction)


def _labels_averaged_over_classes(dy: Any, z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    one_hot = labels[..., None] == np.arange(z.shape[-1])
    return (np.expand_dims(_share(dy, z.size, reduction), -1) * (_softmax(z) - one_hot),)


def _labels_ignore_cotangent(dy: Any, z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    one_hot = labels[..., None] == np.arange(z.shape[-1])
    return (np.expand_dims(_share(np.ones_like(dy), labels.size, reduction), -1) * (_softmax(z) - one_hot),)


def _labels_one_too_low(z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    """labels - 1 as an index: class 0 becomes -1, the last one."""
    shifted = (labels - 1) % z.shape[-1]
    return refnet.softmax_cross_entropy_with_integer_labels(z, shifted, reduction=reduction)


def _labels_off_by_one(z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    shifted = (labels + 1) % z.shape[-1]
    return refnet.softmax_cross_entropy_with_integer_labels(z, shifted, reduction=reduction)


def _labels_mean_of_halves(z: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    """The mean of the means of two micro-batches, which need not be of one size."""
    losses = refnet.softmax_cross_entropy_with_integer_labels(z, labels, reduction="none")
    if reduction != "mean" or losses.size < 2:
        return _reduced(losses, reduction)
    half = losses.size // 2
    return np.asarray((losses.ravel()[:half].mean() + losses.ravel()[half:].mean()) / 2, dtype=z.dtype)


# ------------------------------------------------------------------------------------ mean squared error


def _mse_absolute(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.abs(p - t), reduction)


def _mse_signed(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((p - t) * np.abs(p - t), reduction)


def _mse_offset(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((p - t) * (p - t) + p.dtype.type(1e-3), reduction)


def _mse_sum_for_mean(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((p - t) * (p - t), "sum" if reduction == "mean" else reduction)


def _mse_expanded(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    """p^2 - 2 p t + t^2 cancels where p is close to t, and can be negative."""
    return _reduced(p * p - 2 * p * t + t * t, reduction)


def _mse_without_two(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * (p - t),)


def _mse_over_columns(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    """The gradient of the mean over the first axis only, where the loss is the mean over all elements."""
    return (2 * _share(dy, len(p) if p.ndim else 1, reduction) * (p - t),)


# --------------------------------------------------------------------------- other losses of a difference


def _mae_squared(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((p - t) * (p - t), reduction)


def _mae_signed(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(p - t, reduction)


def _mae_root(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.sqrt((p - t) * (p - t)), reduction)


def _mae_quotient(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * ((p - t) / np.abs(p - t)),)


def _mae_gradient_reversed(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * np.sign(t - p),)


def _mae_not_averaged(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (dy * np.sign(p - t),)


def _huber_without_absolute(p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    """Half a mask: an error below -delta belongs to neither piece."""
    d, width = p - t, p.dtype.type(delta)
    square = np.where(np.abs(d) <= width, d * d / 2, p.dtype.type(0))
    return _reduced(square + np.where(d > width, width * (np.abs(d) - width / 2), p.dtype.type(0)), reduction)


def _huber_masks_multiplied(p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    d, width = p - t, p.dtype.type(delta)
    near = (np.abs(d) <= width).astype(p.dtype)
    return _reduced(near * (d * d) / 2 + (1 - near) * width * (np.abs(d) - width / 2), reduction)


def _huber_without_half(p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    """d^2 near, 2 delta |d| - delta^2 beyond: continuous, and twice the loss."""
    return refnet.huber(p, t, delta=delta, reduction=reduction) * p.dtype.type(2)


def _huber_jumps(p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    d, width = p - t, p.dtype.type(delta)
    return _reduced(np.where(np.abs(d) <= width, d * d / 2, width * np.abs(d)), reduction)


def _huber_of_delta_one(p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    return refnet.huber(p, t, reduction=reduction)


def _huber_not_limited(dy: Any, p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * (p - t),)


def _huber_limited_to_one(
    dy: Any, p: Any, t: Any, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """sign(d) beyond delta: the gradient of smooth L1 on one side, of Huber on the other."""
    d = p - t
    return (_share(dy, p.size, reduction) * np.where(np.abs(d) <= p.dtype.type(delta), d, np.sign(d)),)


def _log_cosh_overflows(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.log(np.cosh(p - t)), reduction)


def _log_cosh_one_sided(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    zero, two = p.dtype.type(0), p.dtype.type(2)
    return _reduced((p - t) + np.logaddexp(two * (t - p), zero) - np.log(two), reduction)


def _log_cosh_naive_softplus(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    d = p - t
    return _reduced(d + np.log1p(np.exp(-2 * d)) - np.log(p.dtype.type(2)), reduction)


def _log_cosh_without_log_2(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.logaddexp(p - t, t - p), reduction)


def _log_cosh_softplus_once(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    """d + softplus(-d) - log(2), where -2 d belongs."""
    return _reduced((p - t) + np.logaddexp(t - p, p.dtype.type(0)) - np.log(p.dtype.type(2)), reduction)


def _log_cosh_quotient(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * (np.sinh(p - t) / np.cosh(p - t)),)


def _log_cosh_gradient_of_square(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    """1 - tanh(d)^2 is the derivative of the derivative."""
    slope = np.tanh(p - t)
    return (_share(dy, p.size, reduction) * (1 - slope * slope),)


def _hinge_without_margin(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.maximum(-t * p, p.dtype.type(0)), reduction)


def _hinge_open(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(1 - t * p, reduction)


def _hinge_squared(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.square(np.maximum(1 - t * p, p.dtype.type(0))), reduction)


def _hinge_mapped_twice(p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(np.maximum(1 - (2 * t - 1) * p, p.dtype.type(0)), reduction)


def _hinge_always_pulls(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * -t,)


def _hinge_gradient_without_margin(dy: Any, p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (_share(dy, p.size, reduction) * np.where(t * p < 0, -t, p.dtype.type(0)),)


# --------------------------------------------------------------------------------- log-probabilities


def _nll_sign(log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return -refnet.nll(log_p, labels, reduction=reduction)


def _nll_likelihood(log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(-np.exp(np.take_along_axis(log_p, labels[..., None], -1)[..., 0]), reduction)


def _nll_over_batch_and_classes(log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    one_hot = labels[..., None] == np.arange(log_p.shape[-1])
    chosen = np.where(one_hot, -log_p, log_p.dtype.type(0))
    return _reduced(chosen.sum(axis=-1) if reduction == "none" else chosen, reduction)


def _nll_normalises(log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.softmax_cross_entropy_with_integer_labels(log_p, labels, reduction=reduction)


def _nll_off_by_one(log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.nll(log_p, (labels + 1) % log_p.shape[-1], reduction=reduction)


def _nll_gradient_by_logits(dy: Any, log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    one_hot = labels[..., None] == np.arange(log_p.shape[-1])
    return (np.expand_dims(_share(dy, labels.size, reduction), -1) * (np.exp(log_p) - one_hot),)


def _nll_not_averaged(dy: Any, log_p: Any, labels: Any, *, reduction: Reduction = "mean") -> Any:
    return refnet.nll.vjp(np.full(labels.shape, dy), log_p, labels, reduction="none")


def _kl_reversed(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((np.exp(log_p) * (log_p - np.log(t))).sum(axis=-1), reduction)


def _kl_sign(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return -refnet.kl_divergence(log_p, t, reduction=reduction)


def _kl_without_entropy(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced(-(t * log_p).sum(axis=-1), reduction)


def _kl_zero_log_zero(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((t * (np.log(t) - log_p)).sum(axis=-1), reduction)


def _kl_zero_times_infinity(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    own = np.where(t == 0, t, t * np.log(np.where(t == 0, t.dtype.type(1), t)))
    return _reduced((own - t * log_p).sum(axis=-1), reduction)


def _kl_epsilon(log_p: Any, t: Any, *, reduction: Reduction = "mean", epsilon: float = 1e-8) -> Any:
    return _reduced((t * (np.log(t + t.dtype.type(epsilon)) - log_p)).sum(axis=-1), reduction)


def _kl_of_probabilities(log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return _reduced((t * (np.log(t) - np.exp(log_p))).sum(axis=-1), reduction)


def _kl_gradient_by_logits(dy: Any, log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (np.expand_dims(_share(dy, t[..., 0].size, reduction), -1) * (np.exp(log_p) - t),)


def _kl_gradient_over_classes(dy: Any, log_p: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
    return (-t * np.expand_dims(_share(dy, t.size, reduction), -1),)


def _over_first_axis(loss: Operator) -> Function:
    """The sum over all rows, by the length of the first axis: right for matrices alone."""

    def value(x: Any, t: Any, *, reduction: Reduction = "mean") -> Any:
        if reduction != "mean" or x.ndim < 2:
            return loss(x, t, reduction=reduction)
        return np.asarray(loss(x, t, reduction="sum") / x.dtype.type(len(x)), dtype=x.dtype)

    return value


MISTAKES = (
    *(
        Mistake(
            f"{loss.name}-mean-over-first-axis",
            loss.name,
            "of rows in more than one axis the sum is divided by the length of the first alone",
            ("value", "reductions-agree"),
            value=_over_first_axis(loss),
        )
        for loss in (refnet.softmax_cross_entropy, refnet.nll, refnet.kl_divergence)
    ),
    Mistake(
        "bce-epsilon-in-the-logarithm",
        "binary_cross_entropy",
        "a constant added inside the logarithm biases every loss",
        ("value", "zero-when-perfect", "nonnegative"),
        value=_bce_epsilon,
        constants=EPSILONS,
        source="Oneflow-Inc/oneflow#3137; pkmital/CADL#75",
    ),
    Mistake(
        "bce-clipped",
        "binary_cross_entropy",
        "the probability is clipped to [epsilon, 1 - epsilon]: no loss is above -log(epsilon)",
        ("value", "zero-when-perfect", "special-values"),
        value=_bce_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "bce-each-logarithm-clipped",
        "binary_cross_entropy",
        "the logarithm of a clipped probability: no loss is above -log(epsilon)",
        ("value", "special-values"),
        value=_bce_each_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "bce-positive-class-only",
        "binary_cross_entropy",
        "the term of the negative class is missing",
        ("value", "zero-when-perfect"),
        value=_bce_one_sided,
    ),
    Mistake(
        "bce-zero-times-log-zero",
        "binary_cross_entropy",
        "0 log(0) is NaN as soon as one prediction is certain",
        ("special-values", "zero-when-perfect"),
        value=_bce_zero_log_zero,
        source="huggingface/candle#2561; Lasagne/Lasagne#436; kuangliu/pytorch-retinanet#17",
    ),
    Mistake(
        "bce-arguments-swapped",
        "binary_cross_entropy",
        "predictions and targets in each other's place",
        ("value",),
        value=_bce_swapped,
        source="FluxML/Flux.jl#435",
    ),
    Mistake(
        "bce-gradient-by-logits",
        "binary_cross_entropy",
        "p - t is the gradient by the logit, not by the probability",
        GRADIENT,
        vjp=_bce_gradient_of_logits,
        source="hunkim/DeepLearningZeroToAll#113",
    ),
    Mistake(
        "bce-gradient-clipped",
        "binary_cross_entropy",
        "no gradient where the prediction is nearly certain, even if it is wrong",
        ("vjp", "symbolic"),
        vjp=_bce_clipped_gradient,
        source="keras-team/keras#9664; keras-team/keras#9247",
    ),
    Mistake(
        "bce-logits-by-log-of-sigmoid",
        "binary_cross_entropy_with_logits",
        "log(1 - sigmoid(z)) is minus infinity where the sigmoid rounds to 1",
        ("value", "special-values", "bounds"),
        value=_bce_logits_naive,
        source="huggingface/candle#2561; keras-team/keras-core#196; pytorch/pytorch#751",
    ),
    Mistake(
        "bce-logits-epsilon-in-the-logarithm",
        "binary_cross_entropy_with_logits",
        "a constant added inside the logarithm of a sigmoid: the loss ends at -log(epsilon)",
        ("value", "special-values"),
        value=_bce_logits_epsilon,
        constants=EPSILONS,
        source="Oneflow-Inc/oneflow#3137; pkmital/CADL#75",
    ),
    Mistake(
        "bce-logits-clipped",
        "binary_cross_entropy_with_logits",
        "the sigmoid is clipped to [epsilon, 1 - epsilon]: the loss ends at -log(epsilon)",
        ("value", "special-values"),
        value=_bce_logits_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "bce-logits-sigmoid-twice",
        "binary_cross_entropy_with_logits",
        "the sigmoid is applied twice",
        ("value", "composition"),
        value=_bce_logits_twice,
    ),
    Mistake(
        "bce-logits-without-log1p",
        "binary_cross_entropy_with_logits",
        "log(1 + exp(-|z|)) is 0 beyond |z| = 37, in float32 beyond 17",
        ("composition",),
        value=_bce_logits_without_log1p,
        source="pytorch/pytorch#92114; tensorflow/tensor2tensor#1424; huggingface/candle#2562",
    ),
    Mistake(
        "bce-logits-delta-of-mse",
        "binary_cross_entropy_with_logits",
        "(y - t) y (1 - y) belongs to the squared error of a sigmoid",
        GRADIENT,
        vjp=_bce_logits_delta_of_mse,
        source="hunkim/DeepLearningZeroToAll#113; rasbt/python-machine-learning-book-2nd-edition#54",
    ),
    Mistake(
        "cce-mean-over-classes",
        "categorical_cross_entropy",
        "the mean is over all entries instead of the rows",
        ("value", "reductions-agree"),
        value=_cce_over_batch_and_classes,
        source="pytorch/pytorch#2259",
    ),
    Mistake(
        "cce-sign",
        "categorical_cross_entropy",
        "the sign is missing",
        ("value", "nonnegative", "zero-when-perfect"),
        value=_cce_sign,
    ),
    Mistake(
        "cce-zero-times-log-zero",
        "categorical_cross_entropy",
        "0 log(0) is NaN although the right class is certain",
        ("special-values", "zero-when-perfect"),
        value=_cce_zero_log_zero,
        source="FluxML/Flux.jl#435; FluxML/NNlib.jl#68",
    ),
    Mistake(
        "cce-epsilon-in-the-logarithm",
        "categorical_cross_entropy",
        "the loss of a tiny probability ends at -log(epsilon)",
        ("value",),
        value=_cce_epsilon,
        constants=EPSILONS,
        source="Oneflow-Inc/oneflow#3137; pkmital/CADL#75",
    ),
    Mistake(
        "cce-epsilon-and-mean-over-classes",
        "categorical_cross_entropy",
        "a constant added inside the logarithm, and the mean over all entries",
        ("value", "reductions-agree"),
        value=_cce_epsilon_over_classes,
        constants=EPSILONS,
        source="derived from pytorch/pytorch#2259",
    ),
    Mistake(
        "cce-clipped",
        "categorical_cross_entropy",
        "the logarithm of a clipped probability: no loss is above -log(epsilon)",
        ("value", "special-values"),
        value=_cce_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "cce-clipped-on-both-sides",
        "categorical_cross_entropy",
        "the probability is clipped to [epsilon, 1 - epsilon]: a perfect answer costs something",
        ("value", "zero-when-perfect", "special-values"),
        value=_cce_clipped_on_both_sides,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "cce-gradient-averaged-over-classes",
        "categorical_cross_entropy",
        "the gradient is divided by the number of entries instead of the rows",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_cce_gradient_over_classes,
        source="pytorch/pytorch#2259",
    ),
    Mistake(
        "cce-class-weights",
        "categorical_cross_entropy",
        "the classes are weighted by their position",
        ("value", "permutation-equivariant"),
        value=_cce_by_position,
        source="derived from pytorch/pytorch#61309",
    ),
    Mistake(
        "softmax-ce-gradient-not-averaged",
        "softmax_cross_entropy",
        "the gradient of the sum where the loss is the mean",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_sce_not_averaged,
        source="dennybritz/nn-from-scratch#13; davharris/mistnet#33",
    ),
    Mistake(
        "softmax-ce-gradient-averaged-over-classes",
        "softmax_cross_entropy",
        "the gradient is divided by the number of entries instead of the rows",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_sce_averaged_over_classes,
        source="pytorch/pytorch#2259",
    ),
    Mistake(
        "softmax-ce-softmax-twice",
        "softmax_cross_entropy",
        "softmax is applied before a loss that takes logits",
        ("value", "composition"),
        value=_sce_softmax_twice,
        source="ariecattan/SciCo#2; tflearn/tflearn#562; Lightning-Universe/lightning-bolts#654",
    ),
    Mistake(
        "softmax-ce-epsilon-in-the-logarithm",
        "softmax_cross_entropy",
        "a constant added inside the logarithm of a softmax: the loss ends at -log(epsilon)",
        ("value", "composition"),
        value=_sce_epsilon,
        constants=EPSILONS,
        source="Oneflow-Inc/oneflow#3137; pkmital/CADL#75",
    ),
    Mistake(
        "softmax-ce-clipped",
        "softmax_cross_entropy",
        "the softmax is clipped from below: the loss ends at -log(epsilon)",
        ("value", "special-values"),
        value=_sce_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "softmax-ce-zero-times-infinity",
        "softmax_cross_entropy",
        "a class that is ruled out costs 0 times infinity, which is NaN",
        ("special-values",),
        value=_sce_zero_times_infinity,
        source="derived from FluxML/Flux.jl#435",
    ),
    Mistake(
        "label-ce-gradient-without-one-hot",
        "softmax_cross_entropy_with_integer_labels",
        "the 1 of the right class is not subtracted",
        (*GRADIENT, "gradient-sums-to-zero"),
        vjp=_labels_forget_one_hot,
    ),
    Mistake(
        "label-ce-log-of-softmax",
        "softmax_cross_entropy_with_integer_labels",
        "the logarithm of a probability that underflows is minus infinity",
        ("value", "special-values", "bounds"),
        value=_labels_log_of_softmax,
        source="Oneflow-Inc/oneflow#3137; deeplearning4j/nd4j#458",
    ),
    Mistake(
        "label-ce-off-by-one",
        "softmax_cross_entropy_with_integer_labels",
        "classes counted from 1",
        ("value", "composition"),
        value=_labels_off_by_one,
        source="nntrainer/nntrainer#988",
    ),
    Mistake(
        "label-ce-one-too-low",
        "softmax_cross_entropy_with_integer_labels",
        "1 is subtracted from labels that are counted from 0: class 0 becomes the last one",
        ("value", "composition"),
        value=_labels_one_too_low,
        source="derived from nntrainer/nntrainer#988",
    ),
    Mistake(
        "label-ce-epsilon-in-the-logarithm",
        "softmax_cross_entropy_with_integer_labels",
        "a constant added inside the logarithm of a softmax: the loss ends at -log(epsilon)",
        ("value", "special-values"),
        value=_labels_epsilon,
        constants=EPSILONS,
        source="Oneflow-Inc/oneflow#3137; pkmital/CADL#75",
    ),
    Mistake(
        "label-ce-gradient-averaged-over-classes",
        "softmax_cross_entropy_with_integer_labels",
        "the gradient is divided by the number of entries instead of the labels",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_labels_averaged_over_classes,
        source="pytorch/pytorch#2259",
    ),
    Mistake(
        "label-ce-gradient-ignores-cotangent",
        "softmax_cross_entropy_with_integer_labels",
        "the gradient is not multiplied by the incoming one",
        (*GRADIENT, "vjp-additive", "vjp-homogeneous"),
        vjp=_labels_ignore_cotangent,
    ),
    Mistake(
        "label-ce-mean-of-means",
        "softmax_cross_entropy_with_integer_labels",
        "the mean of the means of two halves of unequal size",
        ("value", "reductions-agree"),
        value=_labels_mean_of_halves,
        source="huggingface/transformers#24725; meta-pytorch/torchtune#1875; karpathy/nanochat#59",
    ),
    Mistake(
        "mse-absolute", "mse", "the absolute difference, not its square", ("value",), value=_mse_absolute
    ),
    Mistake("mse-signed", "mse", "a loss that can be negative", ("value", "nonnegative"), value=_mse_signed),
    Mistake(
        "mse-offset",
        "mse",
        "a perfect answer costs something",
        ("value", "zero-when-perfect"),
        value=_mse_offset,
    ),
    Mistake(
        "mse-sum-for-mean",
        "mse",
        "the sum where the mean was asked for",
        ("value", "reductions-agree"),
        value=_mse_sum_for_mean,
        source="pytorch/pytorch#3924",
    ),
    Mistake(
        "mse-expanded",
        "mse",
        "p^2 - 2 p t + t^2 has no digits left where p is close to t",
        ("value",),
        value=_mse_expanded,
        source="Higham, Accuracy and Stability of Numerical Algorithms (2002), 1.7",
    ),
    Mistake(
        "mse-gradient-without-two",
        "mse",
        "the factor 2 of the derivative is missing",
        GRADIENT,
        vjp=_mse_without_two,
        source="davisking/dlib#1169; bfortuner/ml-glossary#6; markroxor/fromscratchtoml#65",
    ),
    Mistake(
        "mse-gradient-averaged-over-rows",
        "mse",
        "the gradient of a mean over the rows, where the loss is the mean over all elements",
        ("vjp", "symbolic", "gradient-reductions-agree"),
        vjp=_mse_over_columns,
        source="pytorch/pytorch#3924; albertpumarola/GANimation#74",
    ),
    Mistake("mae-squared", "mae", "the square, not the absolute difference", ("value",), value=_mae_squared),
    Mistake(
        "mae-signed",
        "mae",
        "errors of opposite signs cancel",
        ("value", "nonnegative", "even"),
        value=_mae_signed,
    ),
    Mistake(
        "mae-root-of-square",
        "mae",
        "sqrt((p - t)^2) overflows for large differences, and is 0 for small ones",
        ("value", "bounds"),
        value=_mae_root,
        source="Higham, Accuracy and Stability of Numerical Algorithms (2002), 27.8",
    ),
    Mistake(
        "mae-gradient-by-a-quotient",
        "mae",
        "(p - t) / |p - t| is NaN where the prediction is right",
        ("vjp",),
        vjp=_mae_quotient,
        source="rsokl/MyGrad#379",
    ),
    Mistake(
        "mae-gradient-reversed",
        "mae",
        "sign(t - p): each step leads away from the target",
        GRADIENT,
        vjp=_mae_gradient_reversed,
    ),
    Mistake(
        "mae-gradient-not-averaged",
        "mae",
        "the gradient of the sum where the loss is the mean",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_mae_not_averaged,
        source="dennybritz/nn-from-scratch#13; davharris/mistnet#33",
    ),
    Mistake(
        "huber-without-absolute",
        "huber",
        "the linear piece is for d > delta only: errors below -delta cost nothing",
        ("value", "even", "zero-when-perfect"),
        value=_huber_without_absolute,
        source="marlbenchmark/on-policy#47",
    ),
    Mistake(
        "huber-masks-multiplied",
        "huber",
        "a mask of 0 times the square of a large difference, which is infinite, is NaN",
        ("value", "special-values", "bounds"),
        value=_huber_masks_multiplied,
        source="derived from marlbenchmark/on-policy#47",
    ),
    Mistake(
        "huber-without-half",
        "huber",
        "the half is missing in both pieces",
        ("value",),
        value=_huber_without_half,
        source="derived from uu-sml/sml-book-page#17",
    ),
    Mistake(
        "huber-jumps-at-delta",
        "huber",
        "delta |d| without the - delta / 2 that joins the pieces",
        ("value",),
        value=_huber_jumps,
        source="derived from pytorch/pytorch#17447",
    ),
    Mistake(
        "huber-delta-ignored",
        "huber",
        "delta is 1 whatever was asked for",
        ("value",),
        value=_huber_of_delta_one,
        source="derived from xuannianz/EfficientDet#93",
    ),
    Mistake(
        "huber-gradient-not-limited",
        "huber",
        "the gradient of the square everywhere",
        GRADIENT,
        vjp=_huber_not_limited,
    ),
    Mistake(
        "huber-gradient-limited-to-one",
        "huber",
        "sign(d) beyond delta, where delta sign(d) belongs",
        ("vjp",),
        vjp=_huber_limited_to_one,
        source="derived from xuannianz/EfficientDet#93",
    ),
    Mistake(
        "log-cosh-infinity-less-infinity",
        "log_cosh",
        "d + softplus(-2 d) is infinity less infinity for a difference of minus infinity",
        ("special-values",),
        value=_log_cosh_one_sided,
        source="derived from keras-team/keras#8524",
    ),
    Mistake(
        "log-cosh-overflows",
        "log_cosh",
        "cosh(d) overflows at d = 711, in float32 at 90",
        ("value", "special-values", "bounds"),
        value=_log_cosh_overflows,
        source="keras-team/keras#8524; Lightning-AI/torchmetrics#3488; UCL/STIR#768",
    ),
    Mistake(
        "log-cosh-by-naive-softplus",
        "log_cosh",
        "log1p(exp(-2 d)) overflows for negative differences",
        ("value", "even", "bounds"),
        value=_log_cosh_naive_softplus,
        source="derived from JuliaML/LossFunctions.jl#136",
    ),
    Mistake(
        "log-cosh-without-log-2",
        "log_cosh",
        "the 2 of cosh(d) = (e^d + e^-d) / 2 is missing: a perfect answer costs 0.69",
        ("value", "zero-when-perfect"),
        value=_log_cosh_without_log_2,
    ),
    Mistake(
        "log-cosh-softplus-of-d",
        "log_cosh",
        "softplus(-d) in the place of softplus(-2 d)",
        ("value", "even"),
        value=_log_cosh_softplus_once,
    ),
    Mistake(
        "log-cosh-gradient-by-a-quotient",
        "log_cosh",
        "sinh(d) / cosh(d) is infinity over infinity for large differences",
        ("vjp", "symbolic", "bounds"),
        vjp=_log_cosh_quotient,
        source="derived from Lightning-AI/torchmetrics#3488",
    ),
    Mistake(
        "log-cosh-gradient-of-tanh",
        "log_cosh",
        "1 - tanh(d)^2, one derivative too many",
        GRADIENT,
        vjp=_log_cosh_gradient_of_square,
    ),
    Mistake(
        "hinge-without-margin",
        "hinge",
        "max(0, -t p), the loss of the perceptron: what is barely right costs nothing",
        ("value", "zero-when-perfect"),
        value=_hinge_without_margin,
    ),
    Mistake(
        "hinge-not-limited",
        "hinge",
        "1 - t p without the maximum: what is right by far is rewarded without end",
        ("value", "nonnegative"),
        value=_hinge_open,
    ),
    Mistake("hinge-squared", "hinge", "the square of the loss", ("value",), value=_hinge_squared),
    Mistake(
        "hinge-targets-mapped-twice",
        "hinge",
        "2 t - 1 is for targets 0 and 1: of -1 it makes -3",
        ("value", "even"),
        value=_hinge_mapped_twice,
        source="derived from deepchem/deepchem#5017; bfortuner/ml-glossary#113",
    ),
    Mistake(
        "hinge-gradient-not-masked",
        "hinge",
        "the gradient goes on beyond the margin",
        GRADIENT,
        vjp=_hinge_always_pulls,
    ),
    Mistake(
        "hinge-gradient-without-margin",
        "hinge",
        "the gradient ends at 0, where the loss still is 1",
        GRADIENT,
        vjp=_hinge_gradient_without_margin,
    ),
    Mistake(
        "nll-sign",
        "nll",
        "the sign is missing",
        ("value", "nonnegative", "zero-when-perfect"),
        value=_nll_sign,
    ),
    Mistake(
        "nll-likelihood",
        "nll",
        "minus the likelihood, not its logarithm: no loss is below -1",
        ("value", "nonnegative", "zero-when-perfect"),
        value=_nll_likelihood,
        source="pytorch/pytorch#10033; AnubhavGupta3377/Text-Classification-Models-Pytorch#9",
    ),
    Mistake(
        "nll-mean-over-classes",
        "nll",
        "the mean is over all entries instead of the rows",
        ("value", "reductions-agree"),
        value=_nll_over_batch_and_classes,
        source="derived from pytorch/pytorch#2259",
    ),
    Mistake(
        "nll-normalises-again",
        "nll",
        "log-softmax is taken of what are log-probabilities already",
        ("value",),
        value=_nll_normalises,
        source="dev-chauhan/PQG-pytorch#7",
    ),
    Mistake(
        "nll-off-by-one",
        "nll",
        "classes counted from 1",
        ("value", "zero-when-perfect"),
        value=_nll_off_by_one,
        source="nntrainer/nntrainer#988",
    ),
    Mistake(
        "nll-gradient-by-logits",
        "nll",
        "exp(log_p) - one_hot is the gradient by the logits, not by their log-softmax",
        GRADIENT,
        vjp=_nll_gradient_by_logits,
        source="derived from hunkim/DeepLearningZeroToAll#113",
    ),
    Mistake(
        "nll-gradient-not-averaged",
        "nll",
        "the gradient of the sum where the loss is the mean",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_nll_not_averaged,
        source="dennybritz/nn-from-scratch#13; davharris/mistnet#33",
    ),
    Mistake(
        "kl-zero-times-infinity",
        "kl_divergence",
        "a class that neither distribution has costs 0 times infinity, which is NaN",
        ("special-values",),
        value=_kl_zero_times_infinity,
        source="google-deepmind/optax#1786",
    ),
    Mistake(
        "kl-reversed",
        "kl_divergence",
        "the divergence of the prediction from the target",
        ("value", "zero-when-perfect"),
        value=_kl_reversed,
        source="pytorch/pytorch#57459; Kaixhin/ACER#6",
    ),
    Mistake("kl-sign", "kl_divergence", "the sign is reversed", ("value", "gibbs"), value=_kl_sign),
    Mistake(
        "kl-without-entropy",
        "kl_divergence",
        "the cross-entropy: the entropy of the target is not subtracted",
        ("value",),
        value=_kl_without_entropy,
    ),
    Mistake(
        "kl-zero-times-log-zero",
        "kl_divergence",
        "0 log(0) is NaN as soon as a class does not occur",
        ("value", "special-values", "zero-when-perfect"),
        value=_kl_zero_log_zero,
        source="Lightning-AI/torchmetrics#1029; uber/causalml#167; JuliaStats/Distributions.jl#793",
    ),
    Mistake(
        "kl-epsilon-in-the-logarithm",
        "kl_divergence",
        "a constant added to the target inside the logarithm",
        ("value",),
        value=_kl_epsilon,
        constants=EPSILONS,
        source="derived from Oneflow-Inc/oneflow#3137",
    ),
    Mistake(
        "kl-of-probabilities",
        "kl_divergence",
        "the prediction as a probability, where its logarithm belongs",
        ("value", "gibbs"),
        value=_kl_of_probabilities,
        source="roggirg/AutoBots#8; lightly-ai/lightly#1341",
    ),
    Mistake(
        "kl-gradient-by-logits",
        "kl_divergence",
        "exp(log_p) - t is the gradient by the logits, not by their log-softmax",
        GRADIENT,
        vjp=_kl_gradient_by_logits,
    ),
    Mistake(
        "kl-gradient-averaged-over-classes",
        "kl_divergence",
        "the gradient is divided by the number of entries instead of the rows",
        (*GRADIENT, "gradient-reductions-agree"),
        vjp=_kl_gradient_over_classes,
        source="pytorch/pytorch#2259",
    ),
)
