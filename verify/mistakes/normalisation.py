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

MISTAKES = ROWS
