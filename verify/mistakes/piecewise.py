"""Known mistakes in activations that are made of pieces."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.activations import GRADIENT
from verify.mistakes.mistake import Mistake
from verify.mistakes.normalisation import by_channel

AT_MINUS_INFINITY = "minus infinity times 0 is NaN, where the function is 0"
EXP_MINUS_ONE = "exp(x) - 1 has no digits left for small x: 0 at -1e-17"
BOTH_BRANCHES = "both branches are computed and masked: for large x infinity times 0"

SELU_DIGITS = "nothinglo/Deep-Photo-Enhancer#69; microsoft/onnxconverter-common#10"


def _same(x: Any, value: Any) -> Any:
    """In the dtype of x: a Python number keeps it, an array of numbers may not."""
    return np.asarray(value).astype(x.dtype)


# -------------------------------------------------------------------------------------------- leaky relu


def _leaky_by_maximum(x: Any, *, slope: float = 0.01) -> Any:
    return np.maximum(x, x * x.dtype.type(slope))


def _leaky_returns_slope(x: Any, *, slope: float = 0.01) -> Any:
    return _same(x, np.where(x > 0, x, slope))


def _leaky_default(x: Any, *, slope: float = 0.01) -> Any:
    return refnet.leaky_relu(x)


def _leaky_without_0(x: Any, *, slope: float = 0.01) -> Any:
    return refnet.leaky_relu(x, slope=slope or 0.01)


def _leaky_loses_sign(x: Any, *, slope: float = 0.01) -> Any:
    return np.where(x > 0, x, -x * x.dtype.type(slope))


def _leaky_is_closed(dy: Any, x: Any, *, slope: float = 0.01) -> Any:
    return (dy * (x > 0),)


# ------------------------------------------------------------------------------------------------- prelu


def _prelu_by_maximum(x: Any, slope: Any) -> Any:
    return np.maximum(x, by_channel(slope, x) * x)


def _prelu_first_slope(x: Any, slope: Any) -> Any:
    return np.where(x > 0, x, slope[:1].sum() * x)


def _prelu_slope_above(dy: Any, x: Any, slope: Any) -> Any:
    wide = refnet.prelu.vjp(dy, x, slope)
    return wide.x, (dy * x).sum(axis=(0, *range(2, x.ndim)))


def _prelu_slope_without_x(dy: Any, x: Any, slope: Any) -> Any:
    below = np.where(x > 0, x.dtype.type(0), dy)
    return refnet.prelu.vjp(dy, x, slope).x, below.sum(axis=(0, *range(2, x.ndim)))


def _prelu_slope_of_first_example(dy: Any, x: Any, slope: Any) -> Any:
    return refnet.prelu.vjp(dy, x, slope).x, refnet.prelu.vjp(dy[:1], x[:1], slope).slope


def _prelu_slope_is_mean(dy: Any, x: Any, slope: Any) -> Any:
    dx, dslope = refnet.prelu.vjp(dy, x, slope)
    return dx, dslope / x.dtype.type(max(len(x), 1))


def _prelu_dx_without_slope(dy: Any, x: Any, slope: Any) -> Any:
    return dy * (x > 0), refnet.prelu.vjp(dy, x, slope).slope


# ------------------------------------------------------------------------------------------------- relu6


def _relu6_hides_nan(x: Any) -> Any:
    return np.fmin(np.fmax(x, x.dtype.type(0)), x.dtype.type(6))


def _relu6_symmetric(x: Any) -> Any:
    return np.minimum(np.maximum(x, x.dtype.type(-6)), x.dtype.type(6))


def _relu6_open_above(dy: Any, x: Any) -> Any:
    return refnet.relu.vjp(dy, x)


# --------------------------------------------------------------------------------- hard sigmoid and swish


def _clipped(x: Any) -> Any:
    return np.minimum(np.maximum(x + x.dtype.type(3), x.dtype.type(0)), x.dtype.type(6))


def _hard_sigmoid_truncated(x: Any) -> Any:
    return _clipped(x) * x.dtype.type(0.1667)


def _hard_sigmoid_unclipped(x: Any) -> Any:
    return x / x.dtype.type(6) + x.dtype.type(0.5)


def _hard_sigmoid_unmasked(dy: Any, x: Any) -> Any:
    return (dy / dy.dtype.type(6),)


def _hard_sigmoid_of_one_fifth(dy: Any, x: Any) -> Any:
    return (dy * (np.abs(x) < 3) * dy.dtype.type(0.2),)


def _hard_swish_of_minus_infinity(x: Any) -> Any:
    return x * (_clipped(x) / x.dtype.type(6))


def _hard_swish_truncated(x: Any) -> Any:
    return np.where(x <= -3, 0 * _clipped(x), x * _clipped(x) * x.dtype.type(0.1667))


def _hard_swish_gate(x: Any) -> Any:
    return refnet.hard_sigmoid(x)


def _hard_swish_without_product_rule(dy: Any, x: Any) -> Any:
    return (dy * refnet.hard_sigmoid(x),)


def _hard_swish_unmasked(dy: Any, x: Any) -> Any:
    return (dy * ((2 * x + 3) / dy.dtype.type(6)),)


# --------------------------------------------------------------------------- exponential linear units


def _elu_exp(x: Any, *, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, x.dtype.type(alpha) * (np.exp(np.minimum(x, 0)) - x.dtype.type(1)))


def _elu_unmasked(x: Any, *, alpha: float = 1.0) -> Any:
    return x.dtype.type(alpha) * np.expm1(x)


def _elu_without_alpha(x: Any, *, alpha: float = 1.0) -> Any:
    return refnet.elu(x)


def _elu_both_branches(dy: Any, x: Any, *, alpha: float = 1.0) -> Any:
    mask = (x > 0).astype(x.dtype)
    return (dy * (mask + (1 - mask) * x.dtype.type(alpha) * np.exp(x)),)


def _elu_slope_of_output(dy: Any, x: Any, *, alpha: float = 1.0) -> Any:
    y = refnet.elu(x, alpha=alpha)
    return (dy * np.where(x > 0, x.dtype.type(1), y),)


def _celu_exp(x: Any, *, alpha: float = 1.0) -> Any:
    a = x.dtype.type(alpha)
    return np.where(x > 0, x, a * (np.exp(np.minimum(x, 0) / a) - x.dtype.type(1)))


def _celu_is_elu(x: Any, *, alpha: float = 1.0) -> Any:
    return refnet.elu(x, alpha=alpha)


def _celu_unmasked(x: Any, *, alpha: float = 1.0) -> Any:
    return x.dtype.type(alpha) * np.expm1(x / x.dtype.type(alpha))


def _celu_slope_times_alpha(dy: Any, x: Any, *, alpha: float = 1.0) -> Any:
    a = x.dtype.type(alpha)
    return (np.where(x > 0, dy, dy * a * np.exp(np.minimum(x, 0) / a)),)


def _selu_truncated(x: Any) -> Any:
    scale, alpha = x.dtype.type(1.0507), x.dtype.type(1.6733)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu_exp(x: Any) -> Any:
    scale, alpha = x.dtype.type(1.0507009873554805), x.dtype.type(1.6732632423543772)
    return scale * np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - x.dtype.type(1)))


def _selu_swapped(x: Any) -> Any:
    scale, alpha = x.dtype.type(1.6732632423543772), x.dtype.type(1.0507009873554805)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu_unmasked(x: Any) -> Any:
    return x.dtype.type(1.7580993408473768) * np.expm1(x)


def _selu_slope_of_elu(dy: Any, x: Any) -> Any:
    return refnet.elu.vjp(dy, x, alpha=1.6732632423543772)


MISTAKES = (
    Mistake(
        "leaky-relu-by-maximum",
        "leaky_relu",
        "max(x, slope x) is another function for a slope above 1",
        ("value", "special-values"),
        value=_leaky_by_maximum,
    ),
    Mistake(
        "leaky-relu-returns-its-derivative",
        "leaky_relu",
        "the slope itself below 0, not the slope times x",
        ("value", "special-values", "positively-homogeneous", "sign-preserving"),
        value=_leaky_returns_slope,
    ),
    Mistake(
        "leaky-relu-ignores-its-slope",
        "leaky_relu",
        "the slope is 0.01 whatever is asked for",
        ("value", "special-values"),
        value=_leaky_default,
    ),
    Mistake(
        "leaky-relu-slope-0-is-default",
        "leaky_relu",
        "a slope of 0 counts as none given: `slope or 0.01`",
        ("special-values",),
        value=_leaky_without_0,
    ),
    Mistake(
        "leaky-relu-loses-its-sign",
        "leaky_relu",
        "slope |x| below 0",
        ("value", "special-values", "sign-preserving"),
        value=_leaky_loses_sign,
    ),
    Mistake(
        "leaky-relu-closed-gradient",
        "leaky_relu",
        "the gradient is that of ReLU: nothing comes through below 0",
        GRADIENT,
        vjp=_leaky_is_closed,
    ),
    Mistake(
        "prelu-by-maximum",
        "prelu",
        "max(x, slope x) is another function for a slope above 1",
        ("value", "special-values"),
        value=_prelu_by_maximum,
    ),
    Mistake(
        "prelu-one-slope-for-all",
        "prelu",
        "every channel has the slope of the first",
        ("value", "special-values"),
        value=_prelu_first_slope,
    ),
    Mistake(
        "prelu-gradient-of-slope-above-0",
        "prelu",
        "the gradient of the slope counts entries above 0 as well",
        GRADIENT,
        vjp=_prelu_slope_above,
    ),
    Mistake(
        "prelu-gradient-of-slope-without-x",
        "prelu",
        "the gradient of the slope is the sum of dy, not of dy x",
        GRADIENT,
        vjp=_prelu_slope_without_x,
    ),
    Mistake(
        "prelu-gradient-of-slope-of-one-example",
        "prelu",
        "the gradient of the slope is not summed over the batch",
        GRADIENT,
        vjp=_prelu_slope_of_first_example,
    ),
    Mistake(
        "prelu-gradient-of-slope-is-mean",
        "prelu",
        "the gradient of the slope is divided by the size of the batch",
        GRADIENT,
        vjp=_prelu_slope_is_mean,
    ),
    Mistake(
        "prelu-closed-gradient",
        "prelu",
        "the gradient is that of ReLU: nothing comes through below 0",
        GRADIENT,
        vjp=_prelu_dx_without_slope,
    ),
    Mistake(
        "relu6-not-clipped",
        "relu6",
        "ReLU, without the upper limit",
        ("value", "special-values"),
        value=refnet.relu.__call__,
    ),
    Mistake(
        "relu6-hides-nan",
        "relu6",
        "fmin and fmax replace NaN by the limit",
        ("nan-propagates", "special-values"),
        value=_relu6_hides_nan,
        source="derived from pytorch/pytorch#7999",
    ),
    Mistake(
        "relu6-clips-on-both-sides",
        "relu6",
        "clipped to [-6, 6]: negative numbers come through",
        ("value", "special-values", "nonnegative"),
        value=_relu6_symmetric,
    ),
    Mistake(
        "relu6-gradient-open-above",
        "relu6",
        "the gradient is that of ReLU: not masked beyond 6",
        ("vjp", "symbolic"),
        vjp=_relu6_open_above,
    ),
    Mistake(
        "hard-sigmoid-truncated-sixth",
        "hard_sigmoid",
        "0.1667 in the place of 1/6: above 1 from 2.999 on",
        ("value", "special-values", "unit-interval", "reflection"),
        value=_hard_sigmoid_truncated,
    ),
    Mistake(
        "hard-sigmoid-not-clipped",
        "hard_sigmoid",
        "the middle line goes on beyond -3 and 3",
        ("value", "special-values", "unit-interval"),
        value=_hard_sigmoid_unclipped,
    ),
    Mistake(
        "hard-sigmoid-gradient-not-masked",
        "hard_sigmoid",
        "1/6 everywhere: the flat pieces have no gradient",
        ("vjp", "symbolic"),
        vjp=_hard_sigmoid_unmasked,
    ),
    Mistake(
        "hard-sigmoid-gradient-of-another-slope",
        "hard_sigmoid",
        "the gradient of the variant with slope 1/5, behind a value with 1/6",
        GRADIENT,
        vjp=_hard_sigmoid_of_one_fifth,
    ),
    Mistake(
        "hard-swish-of-minus-infinity",
        "hard_swish",
        AT_MINUS_INFINITY,
        ("special-values",),
        value=_hard_swish_of_minus_infinity,
        source="derived from pytorch/pytorch#195197",
    ),
    Mistake(
        "hard-swish-truncated-sixth",
        "hard_swish",
        "0.1667 in the place of 1/6",
        ("value", "difference-is-x"),
        value=_hard_swish_truncated,
    ),
    Mistake(
        "hard-swish-gate-alone",
        "hard_swish",
        "the gate without x",
        ("value", "special-values", "sign-preserving"),
        value=_hard_swish_gate,
    ),
    Mistake(
        "hard-swish-without-product-rule",
        "hard_swish",
        "the gate is taken for a constant",
        GRADIENT,
        vjp=_hard_swish_without_product_rule,
    ),
    Mistake(
        "hard-swish-gradient-not-masked",
        "hard_swish",
        "(2 x + 3) / 6 beyond -3 and 3 as well",
        ("vjp", "symbolic"),
        vjp=_hard_swish_unmasked,
    ),
    Mistake(
        "elu-exp-minus-one",
        "elu",
        EXP_MINUS_ONE,
        ("value", "bounds"),
        value=_elu_exp,
        source="tensorflow/tensorflow#116943; jax-ml/jax#1207",
    ),
    Mistake(
        "elu-exponential-everywhere",
        "elu",
        "alpha (exp(x) - 1) above 0 as well",
        ("value", "linear-on-positives"),
        value=_elu_unmasked,
    ),
    Mistake(
        "elu-ignores-alpha",
        "elu",
        "alpha is 1 whatever is asked for",
        ("value", "special-values"),
        value=_elu_without_alpha,
    ),
    Mistake(
        "elu-gradient-of-both-branches",
        "elu",
        BOTH_BRANCHES,
        ("vjp", "symbolic"),
        vjp=_elu_both_branches,
        source="huggingface/candle#2328; jax-ml/jax#1538",
    ),
    Mistake(
        "elu-gradient-is-the-output",
        "elu",
        "y in the place of y + alpha",
        GRADIENT,
        vjp=_elu_slope_of_output,
    ),
    Mistake(
        "celu-exp-minus-one",
        "celu",
        EXP_MINUS_ONE,
        ("value", "bounds"),
        value=_celu_exp,
        source="derived from tensorflow/tensorflow#116943",
    ),
    Mistake(
        "celu-is-elu",
        "celu",
        "alpha (exp(x) - 1): x is not divided by alpha",
        ("value",),
        value=_celu_is_elu,
    ),
    Mistake(
        "celu-exponential-everywhere",
        "celu",
        "alpha (exp(x / alpha) - 1) above 0 as well",
        ("value", "linear-on-positives"),
        value=_celu_unmasked,
    ),
    Mistake(
        "celu-gradient-times-alpha",
        "celu",
        "the inner derivative 1 / alpha is forgotten",
        ("vjp",),
        vjp=_celu_slope_times_alpha,
    ),
    Mistake(
        "selu-truncated-constants",
        "selu",
        "1.0507 and 1.6733: off in the fifth digit",
        ("value",),
        value=_selu_truncated,
        source=SELU_DIGITS,
    ),
    Mistake(
        "selu-exp-minus-one",
        "selu",
        EXP_MINUS_ONE,
        ("value", "bounds"),
        value=_selu_exp,
        source="tensorflow/tensorflow#116943",
    ),
    Mistake(
        "selu-constants-swapped",
        "selu",
        "scale and alpha are in each other's place, which shows above 0 only",
        ("value",),
        value=_selu_swapped,
    ),
    Mistake(
        "selu-exponential-everywhere",
        "selu",
        "the exponential side above 0 as well",
        ("value", "linear-on-positives"),
        value=_selu_unmasked,
    ),
    Mistake(
        "selu-gradient-without-scale",
        "selu",
        "the gradient of ELU with the alpha of SELU: the scale is forgotten",
        GRADIENT,
        vjp=_selu_slope_of_elu,
    ),
)
