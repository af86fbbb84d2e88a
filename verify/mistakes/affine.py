"""Known mistakes in the affine layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _without_bias(x: Any, w: Any, b: Any) -> Any:
    return x @ w


def _minus_bias(x: Any, w: Any, b: Any) -> Any:
    return x @ w - b


def _mixes_rows(x: Any, w: Any, b: Any) -> Any:
    return (x - x.mean(axis=0)) @ w + b


def _half_accumulator(x: Any, w: Any, b: Any) -> Any:
    """Sums of products kept to 11 bits, as a tensor core does that is not told otherwise."""
    total = np.zeros((len(x), w.shape[1]), x.dtype)
    for k in range(w.shape[0]):
        mantissa, exponent = np.frexp(total + x[:, k : k + 1] * w[k])
        total = np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(x.dtype)
    return total + b


def _bias_mean(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, x.T @ dy, dy.mean(axis=0).astype(x.dtype)


def _divides_by_batch(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, (x.T @ dy) / x.dtype.type(len(x)), dy.sum(axis=0)


def _bias_of_first_sample(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, x.T @ dy, dy[0].copy()


def _bias_gradient_minus(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, x.T @ dy, -dy.sum(axis=0)


def _bias_gradient_of_everything(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, x.T @ dy, np.full_like(b, dy.sum())


MISTAKES = (
    Mistake("linear-without-bias", "linear", "the bias is not added", ("value",), value=_without_bias),
    Mistake(
        "linear-subtracts-the-bias",
        "linear",
        "the bias has the wrong sign",
        ("value", "special-values"),
        value=_minus_bias,
    ),
    Mistake(
        "linear-mixes-the-batch",
        "linear",
        "a sample's output depends on the others",
        ("value", "batch-independent", "nan-propagates"),
        value=_mixes_rows,
    ),
    Mistake(
        "linear-sums-in-half-precision",
        "linear",
        "the sum of products is kept to 11 bits",
        ("value",),
        value=_half_accumulator,
        source="numpy/numpy#7930; ml-explore/mlx#3909; tinygrad/tinygrad#3005",
    ),
    Mistake(
        "linear-bias-gradient-is-mean",
        "linear",
        "the gradient of the bias is the mean over the batch instead of the sum",
        GRADIENT,
        vjp=_bias_mean,
        source="kvfrans/notes#5; tensorflow/tfjs-core#398",
    ),
    Mistake(
        "linear-bias-gradient-of-first-sample",
        "linear",
        "the gradient of the bias is not summed over the batch: right for a batch of one",
        GRADIENT,
        vjp=_bias_of_first_sample,
        source="mlpack/mlpack#3679; jimfleming/differentiation#1",
    ),
    Mistake(
        "linear-bias-gradient-sign",
        "linear",
        "the gradient of the bias has the wrong sign",
        GRADIENT,
        vjp=_bias_gradient_minus,
    ),
    Mistake(
        "linear-bias-gradient-summed-over-everything",
        "linear",
        "the gradient of the bias is summed over its own axis as well: one number for all of them",
        GRADIENT,
        vjp=_bias_gradient_of_everything,
    ),
    Mistake(
        "linear-weight-gradient-divided-by-batch",
        "linear",
        "the gradient of the weights is divided by the batch size, which the loss has done already",
        GRADIENT,
        vjp=_divides_by_batch,
        source="dennybritz/nn-from-scratch#13",
    ),
)
