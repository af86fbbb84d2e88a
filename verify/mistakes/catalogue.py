"""Known mistakes: operators that are wrong on purpose, each with the checks that must catch it.

They serve twice. A check that catches none of them checks nothing, and the tests say so; and a foreign
result that one of them reproduces has its mistake named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import refnet

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong operator: `value` or `vjp` replaces the right one.

    `caught_by` names laws, and witnesses: value (certified), vjp (certified), symbolic, numerical,
    special-values, contract:pure, contract:repeatable.
    """

    name: str
    op: str
    summary: str
    caught_by: tuple[str, ...]
    value: Function | None = None
    vjp: Function | None = None
    source: str = ""

    def function(self, aspect: str) -> Function | None:
        return self.value if aspect == "value" else self.vjp


def _reduced(losses: Any, reduction: str) -> Any:
    if reduction == "none":
        return losses
    return np.asarray(losses.mean() if reduction == "mean" else losses.sum(), dtype=losses.dtype)


def _softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(x: Any, axis: int = -1) -> Any:
    return np.log(_softmax(x, axis))


# ------------------------------------------------------------------------------------ activations, values


def _softmax_without_shift(x: Any, *, axis: int = -1) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def _softmax_global(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def _softmax_epsilon(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / (e.sum(axis=axis, keepdims=True) + x.dtype.type(1e-3))


def _softmax_other_axis(x: Any, *, axis: int = -1) -> Any:
    return _softmax(x, 0 if axis == -1 else -1)


def _log_of_softmax(x: Any, *, axis: int = -1) -> Any:
    return np.log(_softmax(x, axis))


def _log_softmax_plus(x: Any, *, axis: int = -1) -> Any:
    y = x - x.max(axis=axis, keepdims=True)
    return y + np.log(np.exp(y).sum(axis=axis, keepdims=True))


def _logsumexp_without_shift(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x).sum(axis=axis))


def _logsumexp_forgets_top(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x - x.max(axis=axis, keepdims=True)).sum(axis=axis))


def _relu_hides_nan(x: Any) -> Any:
    return np.where(x > 0, x, x.dtype.type(0))


def _relu_leaks(x: Any) -> Any:
    return np.maximum(x, x * x.dtype.type(0.01))


def _sigmoid_as_tanh(x: Any) -> Any:
    return np.tanh(x)


def _sigmoid_hard(x: Any) -> Any:
    return x * x.dtype.type(0.25) + x.dtype.type(0.5)


def _sigmoid_steep(x: Any) -> Any:
    return (1 / (1 + np.exp(-x * x.dtype.type(1.0625)))).astype(x.dtype)


def _tanh_of_absolute(x: Any) -> Any:
    return np.tanh(np.abs(x))


def _tanh_in_half(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.tanh(x.astype(np.float16)).astype(x.dtype)


def _identity_is_input(x: Any) -> Any:
    return x


def _identity_modifies(x: Any) -> Any:
    x *= 1
    x += x.dtype.type(1)
    return x.copy()


class _Drifting:
    """Adds what it was called with before: a buffer that is not cleared."""

    def __init__(self) -> None:
        self.seen = 0.0

    def __call__(self, x: Any) -> Any:
        self.seen += 1.0
        return np.tanh(x) + x.dtype.type(self.seen)


# ------------------------------------------------------------------------------------ activations, gradients


def _relu_passes_all(dy: Any, x: Any) -> Any:
    return (dy.copy(),)


def _sigmoid_squares(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(x)
    return (dy * y * (1 - y) * (1 - y),)


def _sigmoid_ignores_cotangent(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(x)
    return (y * (1 - y),)


def _tanh_of_output_missing_square(dy: Any, x: Any) -> Any:
    return (dy * (1 - np.abs(np.tanh(x))),)


def _softmax_diagonal(dy: Any, x: Any, *, axis: int = -1) -> Any:
    y = _softmax(x, axis)
    return (dy * y * (1 - y),)


def _softmax_absolute_cotangent(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return refnet.softmax.vjp(np.abs(dy), x, axis=axis)


def _log_softmax_without_sum(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return (dy - _softmax(x, axis),)


def _logsumexp_uniform(dy: Any, x: Any, *, axis: int = -1) -> Any:
    return ((np.zeros_like(x) + np.expand_dims(dy, axis)) / x.dtype.type(x.shape[axis]),)


class _StaleCotangent:
    """A cotangent accumulated over calls, as a gradient buffer that is never set to zero."""

    def __init__(self) -> None:
        self.total: Any = 0.0

    def __call__(self, dy: Any, x: Any) -> Any:
        self.total = dy if np.shape(self.total) != dy.shape else self.total + dy
        return (self.total.astype(x.dtype),)


def _rounded_cotangent(dy: Any, x: Any) -> Any:
    """A gradient scaled for low precision by a factor that is not a power of two."""
    scale = dy.dtype.type(1000.0)
    return ((dy * scale + dy * dy * dy.dtype.type(2.0**-12)) / scale,)


# ------------------------------------------------------------------------------------------------- linear


def _linear_without_bias(x: Any, w: Any, b: Any) -> Any:
    return x @ w


def _linear_mixes_rows(x: Any, w: Any, b: Any) -> Any:
    return (x - x.mean(axis=0)) @ w + b


def _linear_bias_mean(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, x.T @ dy, dy.mean(axis=0).astype(x.dtype)


def _linear_divides_by_batch(dy: Any, x: Any, w: Any, b: Any) -> Any:
    return dy @ w.T, (x.T @ dy) / x.dtype.type(len(x)), dy.sum(axis=0)


# -------------------------------------------------------------------------------------------------- losses


def _bce_without_log1p(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced(-(t * np.log(p + p.dtype.type(1e-3)) + (1 - t) * np.log(1 - p + p.dtype.type(1e-3))), reduction)


def _bce_one_sided(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced(np.where(t == 0, p.dtype.type(0), -t * np.log(p)), reduction)


def _bce_gradient_of_logits(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
    share = dy / p.dtype.type(p.size) if reduction == "mean" else dy
    return (share * (p - t),)


def _bce_logits_naive(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    y = 1 / (1 + np.exp(-z))
    return _reduced(-(t * np.log(y) + (1 - t) * np.log(1 - y)), reduction)


def _bce_logits_twice(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    """The sigmoid applied to what is a probability already."""
    return refnet.binary_cross_entropy_with_logits(refnet.sigmoid(z), t, reduction=reduction)


def _cce_over_batch_and_classes(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    losses = np.where(t == 0, 0 * p, -t * np.log(p))
    return _reduced(losses.sum(axis=-1), reduction) if reduction == "none" else _reduced(losses, reduction)


def _cce_sign(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return -refnet.categorical_cross_entropy(p, t, reduction=reduction)


def _sce_without_division(dy: Any, z: Any, t: Any, *, reduction: str = "mean") -> Any:
    """The gradient of the sum where the mean was taken."""
    return (np.expand_dims(dy, -1) * (_softmax(z) - t),)


def _sce_softmax_twice(z: Any, t: Any, *, reduction: str = "mean") -> Any:
    """A softmax layer before a loss that takes logits."""
    return refnet.softmax_cross_entropy(_softmax(z), t, reduction=reduction)


def _labels_forget_one_hot(dy: Any, z: Any, labels: Any, *, reduction: str = "mean") -> Any:
    share = dy / z.dtype.type(labels.size) if reduction == "mean" else dy
    return (np.expand_dims(share, -1) * _softmax(z),)


def _labels_log_of_rounded(z: Any, labels: Any, *, reduction: str = "mean") -> Any:
    return _reduced(-np.take_along_axis(_log_softmax(z), labels[..., None], -1)[..., 0], reduction)


def _labels_off_by_one(z: Any, labels: Any, *, reduction: str = "mean") -> Any:
    return refnet.softmax_cross_entropy_with_integer_labels(
        z, (labels + 1) % z.shape[-1], reduction=reduction
    )


def _mse_linear(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced(np.abs(p - t), reduction)


def _mse_signed(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced((p - t) * np.abs(p - t), reduction)


def _mse_regularised(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    return _reduced((p - t) * (p - t) + p.dtype.type(1e-3), reduction)


def _mse_mean_of_sum(p: Any, t: Any, *, reduction: str = "mean") -> Any:
    losses = (p - t) * (p - t)
    return _reduced(losses, "sum" if reduction == "mean" else reduction)


def _mse_without_two(dy: Any, p: Any, t: Any, *, reduction: str = "mean") -> Any:
    share = dy / p.dtype.type(p.size) if reduction == "mean" else dy
    return (share * (p - t),)


MISTAKES = (
    Mistake(
        "softmax-no-max-subtraction",
        "softmax",
        "exp(x) overflows: the largest entry of the row must be subtracted first",
        ("value", "shift-invariant", "special-values"),
        value=_softmax_without_shift,
        source="Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038",
    ),
    Mistake(
        "softmax-over-everything",
        "softmax",
        "normalised over the whole array instead of each row",
        ("value", "sums-to-one", "batch-independent", "nan-propagates"),
        value=_softmax_global,
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
        ("value", "sums-to-one"),
        value=_softmax_other_axis,
    ),
    Mistake(
        "softmax-diagonal-gradient",
        "softmax",
        "the derivative of each probability by its own logit only: the rest of the Jacobian is missing",
        ("vjp", "symbolic", "numerical", "gradient-sums-to-zero"),
        vjp=_softmax_diagonal,
    ),
    Mistake(
        "softmax-absolute-cotangent",
        "softmax",
        "the sign of the incoming gradient is lost",
        ("vjp", "symbolic", "numerical", "vjp-additive"),
        vjp=_softmax_absolute_cotangent,
    ),
    Mistake(
        "log-softmax-as-log-of-softmax",
        "log_softmax",
        "log(softmax(x)) is minus infinity where the probability underflows, and has lost its digits before",
        ("value",),
        value=_log_of_softmax,
        source="pytorch/pytorch#11752",
    ),
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
        ("vjp", "symbolic", "numerical", "gradient-sums-to-zero", "vjp-homogeneous"),
        vjp=_log_softmax_without_sum,
    ),
    Mistake(
        "logsumexp-no-max-subtraction",
        "logsumexp",
        "exp(x) overflows: the largest entry of the row must be subtracted first",
        ("value", "shift-equivariant"),
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
        "logsumexp-uniform-gradient",
        "logsumexp",
        "the gradient is spread evenly over the row instead of by softmax",
        ("vjp", "symbolic", "numerical"),
        vjp=_logsumexp_uniform,
    ),
    Mistake(
        "relu-hides-nan",
        "relu",
        "where(x > 0, x, 0) turns a NaN into 0",
        ("nan-propagates", "special-values"),
        value=_relu_hides_nan,
    ),
    Mistake("relu-leaks", "relu", "a slope below 0", ("value", "nonnegative"), value=_relu_leaks),
    Mistake(
        "relu-passes-everything",
        "relu",
        "the gradient is not masked where the input was negative",
        ("vjp", "symbolic", "numerical"),
        vjp=_relu_passes_all,
    ),
    Mistake("sigmoid-is-tanh", "sigmoid", "tanh in the place of sigmoid", ("value", "unit-interval"), value=_sigmoid_as_tanh),
    Mistake(
        "sigmoid-linear",
        "sigmoid",
        "a straight line through the middle, not limited to [0, 1]",
        ("value", "unit-interval"),
        value=_sigmoid_hard,
    ),
    Mistake(
        "sigmoid-of-absolute",
        "sigmoid",
        "the stable branch for x >= 0 is taken for negative x as well",
        ("value", "reflection"),
        value=lambda x: 1 / (1 + np.exp(-np.abs(x))),
    ),
    Mistake("sigmoid-steep", "sigmoid", "a scaled argument", ("value",), value=_sigmoid_steep),
    Mistake(
        "sigmoid-derivative-twice-one-minus-y",
        "sigmoid",
        "y (1 - y)^2: one factor too many",
        ("vjp", "symbolic", "numerical"),
        vjp=_sigmoid_squares,
    ),
    Mistake(
        "sigmoid-ignores-cotangent",
        "sigmoid",
        "the derivative is not multiplied by the incoming gradient",
        ("vjp", "symbolic", "numerical", "vjp-additive", "vjp-homogeneous"),
        vjp=_sigmoid_ignores_cotangent,
    ),
    Mistake("tanh-loses-its-sign", "tanh", "tanh(|x|)", ("value", "odd"), value=_tanh_of_absolute),
    Mistake(
        "tanh-in-half-precision",
        "tanh",
        "computed in float16 and widened",
        ("value",),
        value=_tanh_in_half,
    ),
    Mistake(
        "tanh-derivative-without-square",
        "tanh",
        "1 - |y| instead of 1 - y^2",
        ("vjp", "symbolic", "numerical"),
        vjp=_tanh_of_output_missing_square,
    ),
    Mistake(
        "tanh-keeps-a-buffer",
        "tanh",
        "a result that depends on earlier calls",
        ("pure", "contract:repeatable"),
        value=_Drifting(),
    ),
    Mistake(
        "identity-returns-its-input",
        "identity",
        "the result is the input itself: writing to one changes the other",
        ("pure", "contract:pure"),
        value=_identity_is_input,
    ),
    Mistake(
        "identity-modifies-its-input",
        "identity",
        "computed in place on an array of the caller",
        ("pure", "contract:pure"),
        value=_identity_modifies,
    ),
    Mistake(
        "identity-accumulates-cotangents",
        "identity",
        "a gradient buffer that is never set to zero",
        ("pure", "contract:repeatable"),
        vjp=_StaleCotangent(),
    ),
    Mistake(
        "identity-cotangent-not-linear",
        "identity",
        "a term in the square of the incoming gradient",
        ("vjp", "vjp-homogeneous", "symbolic", "numerical"),
        vjp=_rounded_cotangent,
    ),
    Mistake(
        "linear-without-bias", "linear", "the bias is not added", ("value",), value=_linear_without_bias
    ),
    Mistake(
        "linear-mixes-the-batch",
        "linear",
        "a sample's output depends on the others",
        ("value", "batch-independent", "nan-propagates"),
        value=_linear_mixes_rows,
    ),
    Mistake(
        "linear-bias-gradient-is-mean",
        "linear",
        "the gradient of the bias is the mean over the batch instead of the sum",
        ("vjp", "symbolic", "numerical"),
        vjp=_linear_bias_mean,
    ),
    Mistake(
        "linear-weight-gradient-divided-by-batch",
        "linear",
        "the gradient of the weights is divided by the batch size, which the loss has done already",
        ("vjp", "symbolic", "numerical"),
        vjp=_linear_divides_by_batch,
    ),
    Mistake(
        "bce-epsilon-in-the-logarithm",
        "binary_cross_entropy",
        "a constant added inside the logarithm biases every loss",
        ("value", "zero-when-perfect", "nonnegative"),
        value=_bce_without_log1p,
    ),
    Mistake(
        "bce-positive-class-only",
        "binary_cross_entropy",
        "the term of the negative class is missing",
        ("value", "zero-when-perfect"),
        value=_bce_one_sided,
    ),
    Mistake(
        "bce-gradient-by-logits",
        "binary_cross_entropy",
        "p - t is the gradient by the logit, not by the probability",
        ("vjp", "symbolic", "numerical"),
        vjp=_bce_gradient_of_logits,
    ),
    Mistake(
        "bce-logits-by-log-of-sigmoid",
        "binary_cross_entropy_with_logits",
        "log(1 - sigmoid(z)) is minus infinity where the sigmoid rounds to 1",
        ("value", "special-values"),
        value=_bce_logits_naive,
    ),
    Mistake(
        "bce-logits-sigmoid-twice",
        "binary_cross_entropy_with_logits",
        "the sigmoid is applied twice",
        ("value", "composition"),
        value=_bce_logits_twice,
    ),
    Mistake(
        "cce-mean-over-classes",
        "categorical_cross_entropy",
        "the mean is over all entries instead of the rows",
        ("value", "reductions-agree"),
        value=_cce_over_batch_and_classes,
    ),
    Mistake(
        "cce-sign", "categorical_cross_entropy", "the sign is missing", ("value", "nonnegative"), value=_cce_sign
    ),
    Mistake(
        "softmax-ce-gradient-not-averaged",
        "softmax_cross_entropy",
        "the gradient of the sum where the loss is the mean",
        ("vjp", "symbolic", "numerical"),
        vjp=_sce_without_division,
    ),
    Mistake(
        "softmax-ce-softmax-twice",
        "softmax_cross_entropy",
        "softmax is applied before a loss that takes logits",
        ("value", "composition", "shift-invariant"),
        value=_sce_softmax_twice,
    ),
    Mistake(
        "label-ce-gradient-without-one-hot",
        "softmax_cross_entropy_with_integer_labels",
        "the 1 of the right class is not subtracted",
        ("vjp", "symbolic", "numerical", "gradient-sums-to-zero"),
        vjp=_labels_forget_one_hot,
    ),
    Mistake(
        "label-ce-log-of-softmax",
        "softmax_cross_entropy_with_integer_labels",
        "the logarithm of a probability that underflows is minus infinity",
        ("value", "special-values"),
        value=_labels_log_of_rounded,
    ),
    Mistake(
        "label-ce-off-by-one",
        "softmax_cross_entropy_with_integer_labels",
        "classes counted from 1",
        ("value", "composition"),
        value=_labels_off_by_one,
    ),
    Mistake("mse-absolute", "mse", "the absolute difference, not its square", ("value",), value=_mse_linear),
    Mistake("mse-signed", "mse", "a loss that can be negative", ("value", "nonnegative"), value=_mse_signed),
    Mistake(
        "mse-offset", "mse", "a perfect answer costs something", ("value", "zero-when-perfect"), value=_mse_regularised
    ),
    Mistake(
        "mse-sum-for-mean",
        "mse",
        "the sum where the mean was asked for",
        ("value", "reductions-agree"),
        value=_mse_mean_of_sum,
    ),
    Mistake(
        "mse-gradient-without-two",
        "mse",
        "the factor 2 of the derivative is missing",
        ("vjp", "symbolic", "numerical"),
        vjp=_mse_without_two,
    ),
)
