"""Known mistakes in the functions of a row: softmax and its relatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")
SWAP = (*GRADIENT, "vjp-additive", "vjp-homogeneous")
SWAPPED = "the incoming gradient and the input are in each other's place"

# ------------------------------------------------------------------------------------------------ values


def _softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _softmax_without_shift(x: Any, *, axis: int = -1) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def _softmax_global(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def _softmax_global_shift(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum(axis=axis, keepdims=True)


def _softmax_epsilon(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / (e.sum(axis=axis, keepdims=True) + x.dtype.type(1e-3))


def _softmax_other_axis(x: Any, *, axis: int = -1) -> Any:
    return _softmax(x, 0 if axis == -1 else -1)


def _softmax_padded(x: Any, *, axis: int = -1) -> Any:
    """Filled up to the next block of 4 with zeros, as a kernel does that masks its loads with 0."""
    rows = np.moveaxis(x, axis, -1)
    padding = np.zeros((*rows.shape[:-1], -rows.shape[-1] % 4), x.dtype)
    y = _softmax(np.concatenate((rows, padding), axis=-1))[..., : rows.shape[-1]]
    return np.moveaxis(y, -1, axis).copy()


def _softmax_forgets_last(x: Any, *, axis: int = -1) -> Any:
    """The loop over the classes ends one too early, in the denominator."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    rows = np.moveaxis(e, axis, -1)
    total = rows[..., : max(rows.shape[-1] - 1, 1)].sum(axis=-1, keepdims=True)
    return e / np.moveaxis(total, -1, axis)


def _log_of_softmax(x: Any, *, axis: int = -1) -> Any:
    return np.log(_softmax(x, axis))


def _log_softmax_plus(x: Any, *, axis: int = -1) -> Any:
    y = x - x.max(axis=axis, keepdims=True)
    return y + np.log(np.exp(y).sum(axis=axis, keepdims=True))


def _log_softmax_without_shift(x: Any, *, axis: int = -1) -> Any:
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def _logsumexp_without_shift(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x).sum(axis=axis))


def _logsumexp_forgets_top(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x - x.max(axis=axis, keepdims=True)).sum(axis=axis))


def _logsumexp_of_nothing(x: Any, *, axis: int = -1) -> Any:
    top = x.max(axis=axis, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))).squeeze(axis)


# --------------------------------------------------------------------------------------------- gradients


def _softmax_diagonal(dy: Any, x: Any, *, axis: int = -1) -> Any:
    y = _softmax(x, axis)
    return (dy * y * (1 - y),)


def _softmax_times_cotangent(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return (dy * _softmax(x, axis),)


def _softmax_summed_over_everything(dy: Any, x: Any, *, axis: int = -1) -> Any:
    y = _softmax(x, axis)
    return (y * (dy - (y * dy).sum()),)


def _softmax_swapped(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return refnet.softmax.vjp(x, dy, axis=axis)


def _log_softmax_swapped(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return refnet.log_softmax.vjp(x, dy, axis=axis)


def _softmax_absolute_cotangent(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return refnet.softmax.vjp(np.abs(dy), x, axis=axis)


def _softmax_spoils_residuals(residuals: Any, dy: Any) -> Any:
    gradients = refnet.softmax.backward(residuals, dy)
    y = residuals.y
    y *= 0
    return gradients


def _log_softmax_without_sum(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return (dy - _softmax(x, axis),)


def _log_softmax_plus_softmax(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return (dy + _softmax(x, axis),)


def _logsumexp_uniform(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return ((np.zeros_like(x) + np.expand_dims(dy, axis)) / x.dtype.type(x.shape[axis]),)


def _logsumexp_global_shift(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return (_softmax_global_shift(x, axis=axis) * np.expand_dims(dy, axis),)


MISTAKES = (
    Mistake(
        "softmax-no-max-subtraction",
        "softmax",
        "exp(x) overflows: the largest entry of the row must be subtracted first",
        ("value", "shift-invariant", "special-values", "bounds"),
        value=_softmax_without_shift,
        source="Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038; uTensor/uTensor#175",
    ),
    Mistake(
        "softmax-over-everything",
        "softmax",
        "normalised over the whole array instead of each row",
        ("value", "sums-to-one", "batch-independent", "nan-propagates"),
        value=_softmax_global,
        source="deeplearning4j/nd4j#44; nntrainer/nntrainer#430",
    ),
    Mistake(
        "softmax-shifted-by-the-batch",
        "softmax",
        "the maximum of the whole array is subtracted: a row far below it becomes 0 / 0",
        ("value", "batch-independent", "nan-propagates", "sums-to-one"),
        value=_softmax_global_shift,
        source="githubharald/CTCWordBeamSearch#19",
    ),
    Mistake(
        "softmax-epsilon-in-denominator",
        "softmax",
        "a constant added to the denominator: the probabilities do not sum to 1",
        ("value", "sums-to-one"),
        value=_softmax_epsilon,
    ),
    Mistake(
        "softmax-wrong-axis",
        "softmax",
        "normalised along another axis",
        ("value", "sums-to-one", "shift-invariant"),
        value=_softmax_other_axis,
        source="perone/euclidesdb#2; ethanfetaya/NRI#25",
    ),
    Mistake(
        "softmax-padded-with-zeros",
        "softmax",
        "the block is filled up with logits of 0, which take their share",
        ("value", "sums-to-one", "shift-invariant"),
        value=_softmax_padded,
        source="vllm-project/vllm#55009; tenstorrent/tt-metal#20008",
    ),
    Mistake(
        "softmax-forgets-the-last-class",
        "softmax",
        "the denominator is summed up to the last class but one",
        ("value", "sums-to-one", "permutation-equivariant", "unit-interval"),
        value=_softmax_forgets_last,
    ),
    Mistake(
        "softmax-diagonal-gradient",
        "softmax",
        "the derivative of each probability by its own logit only: the rest of the Jacobian is missing",
        (*GRADIENT, "gradient-sums-to-zero"),
        vjp=_softmax_diagonal,
        source="pocketpy/cTensor#31; RoboticsClubIITJ/ML-DL-implementation#153; wkcn/mobula#3",
    ),
    Mistake(
        "softmax-gradient-without-sum",
        "softmax",
        "y dy: the weighted mean of dy must be subtracted from dy first",
        (*GRADIENT, "gradient-sums-to-zero"),
        vjp=_softmax_times_cotangent,
        source="derived from wkcn/mobula#3",
    ),
    Mistake(
        "softmax-gradient-summed-over-everything",
        "softmax",
        "the sum of y dy is over the whole array instead of each row",
        (*GRADIENT, "gradient-sums-to-zero", "batch-independent"),
        vjp=_softmax_summed_over_everything,
        source="derived from deeplearning4j/nd4j#44",
    ),
    Mistake("softmax-vjp-arguments-swapped", "softmax", SWAPPED, SWAP, vjp=_softmax_swapped),
    Mistake(
        "softmax-absolute-cotangent",
        "softmax",
        "the sign of the incoming gradient is lost",
        (*GRADIENT, "vjp-additive", "vjp-homogeneous"),
        vjp=_softmax_absolute_cotangent,
    ),
    Mistake(
        "softmax-spoils-its-residuals",
        "softmax",
        "backward clears what forward has kept: a second backward gives 0",
        ("residuals-are-kept",),
        operator=replace(refnet.softmax, backward=_softmax_spoils_residuals),
        source="derived from Burton2000/CS231n-2017#7",
    ),
    Mistake(
        "log-softmax-as-log-of-softmax",
        "log_softmax",
        "log(softmax(x)) is minus infinity where the probability underflows, and has lost its digits before",
        ("value", "special-values", "bounds"),
        value=_log_of_softmax,
        source="Oneflow-Inc/oneflow#3137; FluxML/NNlib.jl#68; deeplearning4j/nd4j#458",
    ),
    Mistake(
        "log-softmax-no-max-subtraction",
        "log_softmax",
        "exp(x) overflows: the largest entry of the row must be subtracted first",
        ("value", "shift-invariant", "special-values", "bounds"),
        value=_log_softmax_without_shift,
        source="Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038",
    ),
    Mistake("log-softmax-vjp-arguments-swapped", "log_softmax", SWAPPED, SWAP, vjp=_log_softmax_swapped),
    Mistake(
        "log-softmax-adds-the-logarithm",
        "log_softmax",
        "the logarithm of the sum is added instead of subtracted",
        ("value", "nonpositive"),
        value=_log_softmax_plus,
    ),
    Mistake(
        "log-softmax-gradient-without-sum",
        "log_softmax",
        "dy - softmax(x): the probabilities must be multiplied by the sum of dy",
        (*GRADIENT, "gradient-sums-to-zero", "vjp-homogeneous"),
        vjp=_log_softmax_without_sum,
        source="derived from mlpack/mlpack#3469",
    ),
    Mistake(
        "log-softmax-gradient-plus-softmax",
        "log_softmax",
        "dy + softmax(x), which a Jacobian test had been changed to accept",
        (*GRADIENT, "gradient-sums-to-zero", "vjp-additive"),
        vjp=_log_softmax_plus_softmax,
        source="mlpack/mlpack#2360; mlpack/mlpack#3469",
    ),
    Mistake(
        "logsumexp-no-max-subtraction",
        "logsumexp",
        "exp(x) overflows: the largest entry of the row must be subtracted first",
        ("value", "shift-equivariant", "bounds"),
        value=_logsumexp_without_shift,
    ),
    Mistake(
        "logsumexp-forgets-the-maximum",
        "logsumexp",
        "the largest entry is subtracted, and never added back",
        ("value", "shift-equivariant"),
        value=_logsumexp_forgets_top,
    ),
    Mistake(
        "logsumexp-of-nothing",
        "logsumexp",
        "a row of minus infinity is shifted by minus infinity: NaN",
        ("special-values",),
        value=_logsumexp_of_nothing,
        source="tensorflow/tensorflow#11692; pytorch/pytorch#31829; jax-ml/jax#6811",
    ),
    Mistake(
        "logsumexp-uniform-gradient",
        "logsumexp",
        "the gradient is spread evenly over the row instead of by softmax",
        GRADIENT,
        vjp=_logsumexp_uniform,
    ),
    Mistake(
        "logsumexp-gradient-shifted-by-the-batch",
        "logsumexp",
        "the maximum of the whole array is subtracted: a row far below it becomes 0 / 0",
        ("vjp", "batch-independent"),
        vjp=_logsumexp_global_shift,
        source="derived from githubharald/CTCWordBeamSearch#19",
    ),
)
