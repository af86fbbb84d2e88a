"""Known mistakes in normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")
ONE_PASS = (
    "the variance is the mean of the squares less the square of the mean: no digit is left at a large mean"
)
MISSING = "the path through the {} is missing from the gradient"

# ------------------------------------------------------------------------------------------------ a row


def _of_row(x: Any) -> tuple[Any, Any]:
    d = x - x.mean(axis=-1, keepdims=True)
    return d, (d * d).mean(axis=-1, keepdims=True)


def _over_rows(x: Any) -> Any:
    return x.reshape(-1, x.shape[-1]).sum(axis=0)


def _layer_unbiased(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d, v = _of_row(x)
    c = x.shape[-1]
    return (gamma * d / np.sqrt(v * x.dtype.type(c / max(c - 1, 1)) + x.dtype.type(eps)) + beta).astype(
        x.dtype
    )


def _layer_eps_outside(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d, v = _of_row(x)
    return (gamma * d / (np.sqrt(v) + x.dtype.type(eps)) + beta).astype(x.dtype)


def _layer_without_eps(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d, v = _of_row(x)
    return (gamma * d / np.sqrt(v) + beta).astype(x.dtype)


def _layer_one_pass(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    m = x.mean(axis=-1, keepdims=True)
    v = np.maximum((x * x).mean(axis=-1, keepdims=True) - m * m, 0)
    return (gamma * (x - m) / np.sqrt(v + x.dtype.type(eps)) + beta).astype(x.dtype)


def _layer_without_root(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d, v = _of_row(x)
    return (gamma * d / (v + x.dtype.type(eps)) ** 2 + beta).astype(x.dtype)


def _layer_of_everything(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d = x - x.mean()
    return (gamma * d / np.sqrt((d * d).mean() + x.dtype.type(eps)) + beta).astype(x.dtype)


def _layer_without_beta(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return refnet.layer_norm(x, gamma, np.zeros_like(beta), eps=eps)


def _layer_default_eps(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return refnet.layer_norm(x, gamma, beta, eps=1e-5)


def _layer_slopes(dy: Any, x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, ...]:
    """z, dz, 1 / sqrt(var + eps), dgamma, dbeta."""
    d, v = _of_row(x)
    inverse = 1 / np.sqrt(v + x.dtype.type(eps))
    z = d * inverse
    return z, dy * gamma, inverse, _over_rows(dy * z), _over_rows(dy)


def _layer_without_variance(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    _, dz, inverse, dgamma, dbeta = _layer_slopes(dy, x, gamma, beta, eps)
    return (dz - dz.mean(axis=-1, keepdims=True)) * inverse, dgamma, dbeta


def _layer_without_mean(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    z, dz, inverse, dgamma, dbeta = _layer_slopes(dy, x, gamma, beta, eps)
    return (dz - z * (dz * z).mean(axis=-1, keepdims=True)) * inverse, dgamma, dbeta


def _layer_gamma_last(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    z, _, inverse, dgamma, dbeta = _layer_slopes(dy, x, gamma, beta, eps)
    g = dy - dy.mean(axis=-1, keepdims=True) - z * (dy * z).mean(axis=-1, keepdims=True)
    return gamma * g * inverse, dgamma, dbeta


def _layer_gamma_of_x(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    dx, _, dbeta = refnet.layer_norm.vjp(dy, x, gamma, beta, eps=eps)
    return dx, _over_rows(dy * x), dbeta


def _layer_last_row(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    z, _, _, _, _ = _layer_slopes(dy, x, gamma, beta, eps)
    dx = refnet.layer_norm.vjp(dy, x, gamma, beta, eps=eps).x
    rows = (dy * z).reshape(-1, x.shape[-1])
    return dx, rows[-1].copy(), dy.reshape(-1, x.shape[-1])[-1].copy()


def _layer_hides_nan(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return tuple(map(np.nan_to_num, refnet.layer_norm.vjp(dy, x, gamma, beta, eps=eps)))


def _layer_gamma_backwards(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return refnet.layer_norm(x, np.flip(gamma).copy(), beta, eps=eps)


def _rms_eps_floored(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return refnet.rms_norm(x, gamma, eps=max(eps, 1e-4))


def _rms_of_sum(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return (gamma * x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + x.dtype.type(eps))).astype(x.dtype)


def _rms_centred(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return refnet.rms_norm((x - x.mean(axis=-1, keepdims=True)).astype(x.dtype), gamma, eps=eps)


def _rms_without_eps(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return (gamma * x / np.sqrt((x * x).mean(axis=-1, keepdims=True))).astype(x.dtype)


def _rms_of_absolute(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return refnet.rms_norm(np.abs(x), gamma, eps=eps)


def _rms_of_batch(x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    return (gamma * x / np.sqrt((x * x).mean() + x.dtype.type(eps))).astype(x.dtype)


def _rms_without_root(dy: Any, x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    inverse = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    return (dy * gamma * inverse).astype(x.dtype), _over_rows(dy * x * inverse)


def _rms_squared(dy: Any, x: Any, gamma: Any, *, eps: float = 1e-6) -> Any:
    inverse = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    dz = dy * gamma
    g = dz - x * inverse * (dz * x).mean(axis=-1, keepdims=True)
    return (g * inverse).astype(x.dtype), _over_rows(dy * x * inverse)


ROWS = (
    Mistake(
        "layer-norm-unbiased-variance",
        "layer_norm",
        "the squared deviations are divided by c - 1",
        ("value",),
        value=_layer_unbiased,
        source="harvardnlp/annotated-transformer#119; NVIDIA/cudnn-frontend#432; pytorch/pytorch#84356",
    ),
    Mistake(
        "layer-norm-eps-outside-the-root",
        "layer_norm",
        "eps is added to the standard deviation: a small spread is amplified without limit",
        ("value",),
        value=_layer_eps_outside,
        source="tensorflow/tensorflow#3671; tile-ai/tilelang#1243",
    ),
    Mistake(
        "layer-norm-without-eps",
        "layer_norm",
        "eps is left out: a constant row is 0 / 0",
        ("value", "special-values"),
        value=_layer_without_eps,
    ),
    Mistake(
        "layer-norm-one-pass-variance",
        "layer_norm",
        ONE_PASS,
        ("value", "shift-invariant", "bounds"),
        value=_layer_one_pass,
        source="google/flax#1491; tensorflow/tensorflow#118701; tenstorrent/tt-metal#45968",
    ),
    Mistake(
        "layer-norm-power-two",
        "layer_norm",
        "the variance is squared where its root is due: nearly right for rows of variance 1",
        ("value",),
        value=_layer_without_root,
        source="131250208/TPlinker-joint-extraction#37",
    ),
    Mistake(
        "layer-norm-over-the-whole-array",
        "layer_norm",
        "mean and variance are those of all rows together",
        ("value", "batch-independent", "nan-propagates", "shift-invariant"),
        value=_layer_of_everything,
        source="Qualcomm-AI-research/geometric-algebra-transformer#8; keras-team/tf-keras#173",
    ),
    Mistake(
        "layer-norm-without-shift",
        "layer_norm",
        "beta is not added",
        ("value", "special-values"),
        value=_layer_without_beta,
    ),
    Mistake(
        "layer-norm-eps-ignored",
        "layer_norm",
        "eps is 1e-5, whatever is passed",
        ("value",),
        value=_layer_default_eps,
    ),
    Mistake(
        "layer-norm-scale-reversed",
        "layer_norm",
        "the scales of the entries are in another order",
        ("value", "permutation-equivariant"),
        value=_layer_gamma_backwards,
    ),
    Mistake(
        "layer-norm-gradient-without-variance",
        "layer_norm",
        MISSING.format("variance"),
        GRADIENT,
        vjp=_layer_without_variance,
        source="mlpack/mlpack#2474; apache/mxnet#1053",
    ),
    Mistake(
        "layer-norm-gradient-without-mean",
        "layer_norm",
        MISSING.format("mean"),
        (*GRADIENT, "gradient-sums-to-zero"),
        vjp=_layer_without_mean,
        source="HomericIntelligence/Odyssey#2882",
    ),
    Mistake(
        "layer-norm-gradient-scaled-last",
        "layer_norm",
        "gamma multiplies the gradient after the means have been taken: right for equal scales",
        (*GRADIENT, "gradient-sums-to-zero"),
        vjp=_layer_gamma_last,
    ),
    Mistake(
        "layer-norm-scale-gradient-of-the-input",
        "layer_norm",
        "the gradient of gamma is taken with x in the place of the normalised numbers",
        GRADIENT,
        vjp=_layer_gamma_of_x,
    ),
    Mistake(
        "layer-norm-parameters-learn-from-the-last-row",
        "layer_norm",
        "the gradients of gamma and beta are overwritten by each row instead of added up",
        GRADIENT,
        vjp=_layer_last_row,
        source="karpathy/llm.c#408",
    ),
    Mistake(
        "layer-norm-gradient-hides-nan",
        "layer_norm",
        "NaN becomes a gradient of 0",
        ("nan-reaches-gradients",),
        vjp=_layer_hides_nan,
    ),
    Mistake(
        "rms-norm-eps-floored",
        "rms_norm",
        "eps is at least 1e-4, which a half format took for it",
        ("value",),
        value=_rms_eps_floored,
        source="nntrainer/nntrainer#4318",
    ),
    Mistake(
        "rms-norm-of-the-sum",
        "rms_norm",
        "the squares are summed, not averaged: the norm of the row, not its mean square",
        ("value",),
        value=_rms_of_sum,
    ),
    Mistake(
        "rms-norm-subtracts-the-mean",
        "rms_norm",
        "the mean is subtracted, as in layer norm",
        ("value",),
        value=_rms_centred,
    ),
    Mistake(
        "rms-norm-without-eps",
        "rms_norm",
        "eps is left out: a row of zeros is 0 / 0",
        ("value", "special-values"),
        value=_rms_without_eps,
    ),
    Mistake("rms-norm-of-absolute", "rms_norm", "the sign is lost", ("value", "odd"), value=_rms_of_absolute),
    Mistake(
        "rms-norm-over-the-whole-array",
        "rms_norm",
        "the mean square is that of all rows together",
        ("value", "batch-independent", "nan-propagates"),
        value=_rms_of_batch,
    ),
    Mistake(
        "rms-norm-gradient-without-root",
        "rms_norm",
        MISSING.format("root"),
        GRADIENT,
        vjp=_rms_without_root,
    ),
    Mistake(
        "rms-norm-gradient-root-once",
        "rms_norm",
        "the second term is divided by the root twice, not three times: right for rows of mean square 1",
        GRADIENT,
        vjp=_rms_squared,
    ),
)

# --------------------------------------------------------------------------------------------- channels


def _others(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def by_channel(v: Any, x: Any) -> Any:
    return np.asarray(v).reshape(-1, *[1] * (x.ndim - 2))


def _standardised(x: Any, axes: tuple[int, ...], eps: float, *, less: int = 0) -> tuple[Any, Any]:
    """(x - mean) / sqrt(var + eps) and 1 / sqrt(var + eps); the variance divides by the count less `less`."""
    d = x - x.mean(axis=axes, keepdims=True)
    total = (d * d).sum(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(total / x.dtype.type(max(x.size // total.size - less, 1)) + x.dtype.type(eps))
    return d * inverse, inverse


def _scaled(z: Any, gamma: Any, beta: Any) -> Any:
    return (by_channel(gamma, z) * z + by_channel(beta, z)).astype(gamma.dtype)


def _batch_unbiased(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _scaled(_standardised(x, _others(x), eps, less=1)[0], gamma, beta)


def _batch_of_examples(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _scaled(_standardised(x, (0,), eps)[0], gamma, beta)


def _batch_of_everything(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _scaled(_standardised(x, tuple(range(x.ndim)), eps)[0], gamma, beta)


def _batch_eps_outside(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    d = x - x.mean(axis=_others(x), keepdims=True)
    root = np.sqrt((d * d).mean(axis=_others(x), keepdims=True))
    return _scaled(d / (root + x.dtype.type(eps)), gamma, beta)


def _batch_one_pass(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    m = x.mean(axis=_others(x), keepdims=True)
    v = np.maximum((x * x).mean(axis=_others(x), keepdims=True) - m * m, 0)
    return _scaled((x - m) / np.sqrt(v + x.dtype.type(eps)), gamma, beta)


def _batch_gradient(dy: Any, x: Any, gamma: Any, eps: float, *, mean: bool, variance: bool) -> Any:
    axes = _others(x)
    z, inverse = _standardised(x, axes, eps)
    g = dz = dy * by_channel(gamma, x)
    if mean:
        g = g - dz.mean(axis=axes, keepdims=True)
    if variance:
        g = g - z * (dz * z).mean(axis=axes, keepdims=True)
    return g * inverse, (dy * z).sum(axis=axes), dy.sum(axis=axes)


def _batch_without_variance(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _batch_gradient(dy, x, gamma, eps, mean=True, variance=False)


def _batch_without_mean(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _batch_gradient(dy, x, gamma, eps, mean=False, variance=True)


def _batch_frozen(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _batch_gradient(dy, x, gamma, eps, mean=False, variance=False)


def _batch_beta_of_examples(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    dx, dgamma, dbeta = refnet.batch_norm.vjp(dy, x, gamma, beta, eps=eps)
    return dx, dgamma, (dbeta / x.dtype.type(len(x))).astype(x.dtype)


Training = tuple[Any, Any, Any]


def _training_momentum_swapped(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: float = 0.1, eps: float = 1e-5
) -> Training:
    return refnet.batch_norm_training(x, gamma, beta, mean, var, momentum=1 - momentum, eps=eps)


def _training_deviation(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: float = 0.1, eps: float = 1e-5
) -> Training:
    y, new_mean, _ = refnet.batch_norm_training(x, gamma, beta, mean, var, momentum=momentum, eps=eps)
    root = np.sqrt(x.var(axis=_others(x), ddof=1))
    return y, new_mean, ((1 - momentum) * var + momentum * root).astype(x.dtype)


def _training_by_old_statistics(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: float = 0.1, eps: float = 1e-5
) -> Training:
    _, new_mean, new_var = refnet.batch_norm_training(x, gamma, beta, mean, var, momentum=momentum, eps=eps)
    return refnet.batch_norm_inference(x, gamma, beta, mean, var, eps=eps), new_mean, new_var


def _training_old_state(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: float = 0.1, eps: float = 1e-5
) -> Training:
    y = refnet.batch_norm_training(x, gamma, beta, mean, var, momentum=momentum, eps=eps).y
    return y, mean.copy(), var.copy()


def _training_in_place(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: float = 0.1, eps: float = 1e-5
) -> Training:
    y, new_mean, new_var = refnet.batch_norm_training(x, gamma, beta, mean, var, momentum=momentum, eps=eps)
    mean[...], var[...] = new_mean, new_var
    return y, new_mean, new_var


def _training_unheard(
    dy: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    return refnet.batch_norm.vjp(dy[0], x, gamma, beta, eps=eps)


def _inference_by_batch(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: float = 1e-5) -> Any:
    return refnet.batch_norm(x, gamma, beta, eps=eps)


def _inference_deviation(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: float = 1e-5) -> Any:
    return _scaled((x - by_channel(mean, x)) / (by_channel(var, x) + x.dtype.type(eps)), gamma, beta)


def _inference_gradient_of_training(
    dy: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: float = 1e-5
) -> Any:
    dx = refnet.batch_norm.vjp(dy, x, gamma, beta, eps=eps).x
    return dx, *refnet.batch_norm_inference.vjp(dy, x, gamma, beta, mean, var, eps=eps)[1:]


def _group_interleaved(x: Any, gamma: Any, beta: Any, *, groups: int, eps: float = 1e-5) -> Any:
    """Channel k in group k mod groups."""
    count = x.shape[1] // groups
    z = x.reshape(x.shape[0], count, groups, -1)
    return _scaled(_standardised(z, (1, 3), eps)[0].reshape(x.shape), gamma, beta)


def _group_by_size(x: Any, gamma: Any, beta: Any, *, groups: int, eps: float = 1e-5) -> Any:
    return refnet.group_norm(x, gamma, beta, groups=x.shape[1] // groups, eps=eps)


def _group_over_batch(x: Any, gamma: Any, beta: Any, *, groups: int, eps: float = 1e-5) -> Any:
    z = x.reshape(x.shape[0], groups, -1)
    return _scaled(_standardised(z, (0, 2), eps)[0].reshape(x.shape), gamma, beta)


def _group_without_variance(dy: Any, x: Any, gamma: Any, beta: Any, *, groups: int, eps: float = 1e-5) -> Any:
    _, dgamma, dbeta = refnet.group_norm.vjp(dy, x, gamma, beta, groups=groups, eps=eps)
    shape = (x.shape[0], groups, -1)
    dz = (dy * by_channel(gamma, x)).reshape(shape)
    _, inverse = _standardised(x.reshape(shape), (2,), eps)
    return ((dz - dz.mean(axis=2, keepdims=True)) * inverse).reshape(x.shape), dgamma, dbeta


def _instance_over_batch(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return refnet.batch_norm(x, gamma, beta, eps=eps)


def _instance_unbiased(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    return _scaled(_standardised(x, tuple(range(2, x.ndim)), eps, less=1)[0], gamma, beta)


def _instance_first_gamma(dy: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    """The gradients of the parameters are those of the last example."""
    dx = refnet.instance_norm.vjp(dy, x, gamma, beta, eps=eps).x
    return dx, *refnet.instance_norm.vjp(dy[-1:], x[-1:], gamma, beta, eps=eps)[1:]


CHANNELS = (
    Mistake(
        "batch-norm-unbiased-variance",
        "batch_norm",
        "the squared deviations are divided by n - 1, as for the running variance",
        ("value",),
        value=_batch_unbiased,
        source="tinygrad/tinygrad#807",
    ),
    Mistake(
        "batch-norm-of-positions-apart",
        "batch_norm",
        "the statistics are those of the batch alone, for each position: right for matrices",
        ("value",),
        value=_batch_of_examples,
    ),
    Mistake(
        "batch-norm-over-all-channels",
        "batch_norm",
        "mean and variance are those of all channels together",
        ("value", "nan-propagates"),
        value=_batch_of_everything,
    ),
    Mistake(
        "batch-norm-eps-outside-the-root",
        "batch_norm",
        "eps is added to the standard deviation: a small spread is amplified without limit",
        ("value",),
        value=_batch_eps_outside,
    ),
    Mistake(
        "batch-norm-one-pass-variance",
        "batch_norm",
        ONE_PASS,
        ("value", "bounds"),
        value=_batch_one_pass,
        source="tensorflow/tensorflow#3290; k2-fsa/sherpa-onnx#3857",
    ),
    Mistake(
        "batch-norm-gradient-without-variance",
        "batch_norm",
        MISSING.format("variance"),
        GRADIENT,
        vjp=_batch_without_variance,
        source="mlpack/mlpack#2474; apache/mxnet#1053",
    ),
    Mistake(
        "batch-norm-gradient-without-mean",
        "batch_norm",
        MISSING.format("mean"),
        GRADIENT,
        vjp=_batch_without_mean,
        source="pjreddie/darknet#1634",
    ),
    Mistake(
        "batch-norm-gradient-of-inference",
        "batch_norm",
        "the statistics are taken for constants, as they are in inference",
        GRADIENT,
        vjp=_batch_frozen,
    ),
    Mistake(
        "batch-norm-shift-gradient-is-mean",
        "batch_norm",
        "the gradient of beta is divided by the batch size",
        GRADIENT,
        vjp=_batch_beta_of_examples,
    ),
    Mistake(
        "batch-norm-momentum-swapped",
        "batch_norm_training",
        "momentum weighs the old statistics: 0.1 where 0.9 is meant",
        ("value", "special-values"),
        value=_training_momentum_swapped,
        source="d2l-ai/d2l-en#2213; pytorch/pytorch#15298; Oneflow-Inc/oneflow#6055",
    ),
    Mistake(
        "batch-norm-running-deviation",
        "batch_norm_training",
        "the running statistics average the standard deviation in the place of the variance",
        ("value", "special-values"),
        value=_training_deviation,
        source="torch/nn#567; keras-team/keras-contrib#287",
    ),
    Mistake(
        "batch-norm-trains-on-running-statistics",
        "batch_norm_training",
        "the batch is normalised by the old running statistics",
        ("value",),
        value=_training_by_old_statistics,
    ),
    Mistake(
        "batch-norm-running-statistics-stay",
        "batch_norm_training",
        "the running statistics are never moved",
        ("value", "special-values"),
        value=_training_old_state,
    ),
    Mistake(
        "batch-norm-updates-in-place",
        "batch_norm_training",
        "the running statistics of the caller are overwritten",
        ("pure", "contract:pure"),
        value=_training_in_place,
    ),
    Mistake(
        "batch-norm-training-gradient-of-y-only",
        "batch_norm_training",
        "the new running statistics depend on x, and their cotangents are dropped",
        GRADIENT,
        vjp=_training_unheard,
    ),
    Mistake(
        "batch-norm-inference-by-the-batch",
        "batch_norm_inference",
        "the statistics of the batch are taken in the place of the given ones",
        ("value", "batch-independent", "nan-propagates"),
        value=_inference_by_batch,
    ),
    Mistake(
        "batch-norm-inference-without-root",
        "batch_norm_inference",
        "the given variance is taken for a standard deviation",
        ("value",),
        value=_inference_deviation,
    ),
    Mistake(
        "batch-norm-inference-gradient-of-training",
        "batch_norm_inference",
        "the gradient takes the statistics for those of the batch",
        GRADIENT,
        vjp=_inference_gradient_of_training,
        source="pytorch/xla#913; torch/nn#768; apache/mxnet#9580",
    ),
    Mistake(
        "group-norm-interleaved",
        "group_norm",
        "every so many channels are a group, not the ones beside each other",
        ("value", "special-values"),
        value=_group_interleaved,
    ),
    Mistake(
        "group-norm-groups-are-sizes",
        "group_norm",
        "the number of groups is taken for the number of channels in a group",
        ("value",),
        value=_group_by_size,
    ),
    Mistake(
        "group-norm-over-the-batch",
        "group_norm",
        "the statistics are those of the whole batch",
        ("value", "batch-independent"),
        value=_group_over_batch,
    ),
    Mistake(
        "group-norm-gradient-without-variance",
        "group_norm",
        MISSING.format("variance"),
        GRADIENT,
        vjp=_group_without_variance,
    ),
    Mistake(
        "instance-norm-over-the-batch",
        "instance_norm",
        "the statistics are those of the whole batch, as in batch norm",
        ("value", "batch-independent", "nan-propagates"),
        value=_instance_over_batch,
    ),
    Mistake(
        "instance-norm-unbiased-variance",
        "instance_norm",
        "the squared deviations are divided by one less than the positions",
        ("value",),
        value=_instance_unbiased,
    ),
    Mistake(
        "instance-norm-parameters-learn-from-the-last-example",
        "instance_norm",
        "the gradients of gamma and beta are overwritten by each example instead of added up",
        ("vjp",),
        vjp=_instance_first_gamma,
    ),
)

MISTAKES = (*ROWS, *CHANNELS)
