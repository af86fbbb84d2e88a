"""Known mistakes in smooth elementwise activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import refnet
from refnet.smooth import GeluKind
from specs.maths import erf
from verify.mistakes.activations import GRADIENT
from verify.mistakes.mistake import Mistake

AT_MINUS_INFINITY = "minus infinity times 0, or over infinity, is NaN, where the function is 0"
HIDDEN = "a NaN in the gradient is replaced by 0, so that training goes on with a lost activation"


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _with_limit(x: Any, y: Any) -> Any:
    """0 at minus infinity: a mistake of its own, which the others do not make."""
    return np.where(np.isneginf(x), 0, y).astype(x.dtype)


# ---------------------------------------------------------------------------------------------- softsign


def _softsign_of_infinity(x: Any) -> Any:
    return x / (1 + np.abs(x))


def _softsign_without_absolute(x: Any) -> Any:
    return np.where(np.isinf(x), np.sign(x), x / (1 + x))


def _softsign_slope_without_square(dy: Any, x: Any) -> Any:
    return (dy / (1 + np.abs(x)),)


def _softsign_slope_without_absolute(dy: Any, x: Any) -> Any:
    return (dy / (1 + x) / (1 + x),)


def _softsign_quotient_rule(dy: Any, x: Any) -> Any:
    size = 1 + np.abs(x)
    return (dy / size - dy * x * (1 / (size * size)) * np.sign(x),)


# ------------------------------------------------------------------------------- log sigmoid and softplus


def _log_of_sigmoid(x: Any) -> Any:
    return np.log(_logistic(x))


def _log_sigmoid_without_log1p(x: Any) -> Any:
    return np.minimum(x, 0) - np.log(1 + np.exp(-np.abs(x)))


def _log_sigmoid_positive(x: Any) -> Any:
    return -refnet.log_sigmoid(x)


def _log_sigmoid_of_absolute(x: Any) -> Any:
    return -np.log1p(np.exp(-np.abs(x)))


def _log_sigmoid_slope_reflected(dy: Any, x: Any) -> Any:
    return (dy * refnet.sigmoid(x),)


def _log_sigmoid_slope_cancels(dy: Any, x: Any) -> Any:
    return (dy * (1 - refnet.sigmoid(x)),)


def _log_sigmoid_hides_nan(dy: Any, x: Any) -> Any:
    return (np.nan_to_num(refnet.log_sigmoid.vjp(dy, x).x),)


def _softplus_overflows(x: Any, *, beta: float = 1.0) -> Any:
    b = x.dtype.type(beta)
    return np.log(1 + np.exp(b * x)) / b


def _softplus_mirrored(x: Any, *, beta: float = 1.0) -> Any:
    b = x.dtype.type(beta)
    return (b * x + np.log(1 + 1 / np.exp(b * x))) / b


def _softplus_without_log1p(x: Any, *, beta: float = 1.0) -> Any:
    b = x.dtype.type(beta)
    return np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(b * x))) / b


def _softplus_undivided(x: Any, *, beta: float = 1.0) -> Any:
    return refnet.softplus(x * x.dtype.type(beta))


def _softplus_threshold_of_x(x: Any, *, beta: float = 1.0) -> Any:
    """The threshold of 20 belongs to beta x."""
    return np.where(x > 20, x, refnet.softplus(x, beta=beta))


def _softplus_negated(x: Any, *, beta: float = 1.0) -> Any:
    return -refnet.softplus(-x, beta=beta)


def _softplus_slope_collapses(dy: Any, x: Any, *, beta: float = 1.0) -> Any:
    e = np.exp(x.dtype.type(beta) * x)
    return (dy * e * (1 / (1 + e)),)


def _softplus_slope_without_beta(dy: Any, x: Any, *, beta: float = 1.0) -> Any:
    return (dy * refnet.sigmoid(x),)


# ------------------------------------------------------------------------------------------ silu and mish


def _silu_of_minus_infinity(x: Any) -> Any:
    return x * refnet.sigmoid(x)


def _silu_steep(x: Any) -> Any:
    return _with_limit(x, x * refnet.sigmoid(x * x.dtype.type(1.702)))


def _silu_of_absolute(x: Any) -> Any:
    return x * refnet.sigmoid(np.abs(x))


def _silu_loses_sign(x: Any) -> Any:
    return np.abs(refnet.silu(x))


def _silu_slope_of_argument(dy: Any, x: Any) -> Any:
    s = refnet.sigmoid(x)
    return (dy * (x + s * (1 - x)),)


def _silu_without_product_rule(dy: Any, x: Any) -> Any:
    s = refnet.sigmoid(x)
    return (dy * x * s * (1 - s),)


def _mish_of_minus_infinity(x: Any) -> Any:
    return x * np.tanh(refnet.softplus(x))


def _mish_exp_ratio(x: Any) -> Any:
    w = (1 + np.exp(x)) * (1 + np.exp(x))
    return _with_limit(x, x * ((w - 1) / (w + 1)))


def _mish_with_sigmoid(x: Any) -> Any:
    return x * refnet.sigmoid(refnet.softplus(x))


def _mish_loses_sign(x: Any) -> Any:
    return np.abs(refnet.mish(x))


def _mish_without_chain_rule(dy: Any, x: Any) -> Any:
    t = np.tanh(refnet.softplus(x))
    return (dy * (t + x * (1 - t * t)),)


def _mish_without_product_rule(dy: Any, x: Any) -> Any:
    return (dy * np.tanh(refnet.softplus(x)),)


# -------------------------------------------------------------------------------------------------- gelu


def _inner(x: Any) -> Any:
    """sqrt(2 / pi) (x + 0.044715 x^3)."""
    return x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * (x * x * x))


def _gelu_of_minus_infinity(x: Any, *, approximate: GeluKind = "none") -> Any:
    if approximate == "tanh":
        return x * ((1 + np.tanh(_inner(x))) * x.dtype.type(0.5))
    return x * ((1 + erf(x * x.dtype.type(math.sqrt(0.5)))) * x.dtype.type(0.5))


def _gelu_without_root(x: Any, *, approximate: GeluKind = "none") -> Any:
    return _with_limit(x, x * ((1 + erf(x)) * x.dtype.type(0.5)))


def _gelu_exp_ratio(x: Any, *, approximate: GeluKind = "none") -> Any:
    if approximate == "none":
        return refnet.gelu(x)
    e = np.exp(2 * _inner(x))
    return _with_limit(x, x * ((1 + (e - 1) / (e + 1)) * x.dtype.type(0.5)))


def _gelu_square_for_cube(x: Any, *, approximate: GeluKind = "none") -> Any:
    if approximate == "none":
        return refnet.gelu(x)
    u = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * (x * x))
    return _with_limit(x, x * ((1 + np.tanh(u)) * x.dtype.type(0.5)))


def _gelu_short_series(x: Any, *, approximate: GeluKind = "none") -> Any:
    """The error function by Abramowitz and Stegun's formula 7.1.26, which has seven digits."""
    if approximate == "tanh":
        return refnet.gelu(x, approximate="tanh")
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    terms = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    series = sum(a * t ** (k + 1) for k, a in enumerate(terms))
    value = np.sign(x) * (1 - series * np.exp(-z * z))
    return _with_limit(x, x * (0.5 * (1 + value)))


def _gelu_gate_alone(x: Any, *, approximate: GeluKind = "none") -> Any:
    return refnet.sigmoid(x * x.dtype.type(1.702))


def _gelu_without_product_rule(dy: Any, x: Any, *, approximate: GeluKind = "none") -> Any:
    return (dy * ((1 + erf(x * x.dtype.type(math.sqrt(0.5)))) * x.dtype.type(0.5)),)


def _gelu_slope_of_the_other(dy: Any, x: Any, *, approximate: GeluKind = "none") -> Any:
    return refnet.gelu.vjp(dy, x, approximate="tanh")


def _gelu_slope_of_quick(dy: Any, x: Any, *, approximate: GeluKind = "none") -> Any:
    s = refnet.sigmoid(x * x.dtype.type(1.702))
    return (dy * (s * (1 + x * x.dtype.type(1.702) * (1 - s))),)


def _gelu_zero_times_infinity(dy: Any, x: Any, *, approximate: GeluKind = "none") -> Any:
    if approximate == "none":
        return refnet.gelu.vjp(dy, x)
    t, half = np.tanh(_inner(x)), x.dtype.type(0.5)
    slope = x.dtype.type(math.sqrt(2 / math.pi)) * (1 + x.dtype.type(3 * 0.044715) * (x * x))
    return (dy * (half * (1 + t) + half * x * (1 - t * t) * slope),)


def _gelu_hides_nan(dy: Any, x: Any, *, approximate: GeluKind = "none") -> Any:
    return (np.nan_to_num(refnet.gelu.vjp(dy, x, approximate=approximate).x),)


MISTAKES = (
    Mistake(
        "softsign-of-infinity",
        "softsign",
        "infinity over infinity is NaN, where the limit is 1",
        ("special-values",),
        value=_softsign_of_infinity,
        source="derived from pytorch/pytorch#195197",
    ),
    Mistake(
        "softsign-without-absolute",
        "softsign",
        "x / (1 + x) has a pole at -1",
        ("value", "special-values", "odd", "sign-preserving"),
        value=_softsign_without_absolute,
    ),
    Mistake(
        "softsign-derivative-without-square",
        "softsign",
        "1 / (1 + |x|): the square is missing",
        GRADIENT,
        vjp=_softsign_slope_without_square,
    ),
    Mistake(
        "softsign-derivative-without-absolute",
        "softsign",
        "1 / (1 + x)^2 has a pole at -1",
        GRADIENT,
        vjp=_softsign_slope_without_absolute,
    ),
    Mistake(
        "softsign-derivative-by-an-overflowing-square",
        "softsign",
        "the quotient rule, with 1 / (1 + |x|)^2 on its own: it underflows, and the other term stays",
        ("vjp",),
        vjp=_softsign_quotient_rule,
    ),
    Mistake(
        "log-sigmoid-as-log-of-sigmoid",
        "log_sigmoid",
        "log(sigmoid(x)) is minus infinity where exp(-x) overflows, and 0 where the sigmoid rounds to 1",
        ("value", "special-values", "bounds"),
        value=_log_of_sigmoid,
        source="derived from Oneflow-Inc/oneflow#3137",
    ),
    Mistake(
        "log-sigmoid-without-log1p",
        "log_sigmoid",
        "log(1 + t) is 0 where 1 + t rounds to 1",
        ("value", "bounds"),
        value=_log_sigmoid_without_log1p,
        source="pytorch/pytorch#92114; tensorflow/tensor2tensor#1424; huggingface/candle#2562",
    ),
    Mistake(
        "log-sigmoid-negated",
        "log_sigmoid",
        "the loss, minus the logarithm",
        ("value", "special-values", "nonpositive", "difference-is-x"),
        value=_log_sigmoid_positive,
    ),
    Mistake(
        "log-sigmoid-of-absolute",
        "log_sigmoid",
        "the stable branch for x >= 0 is taken for negative x as well",
        ("value", "special-values", "difference-is-x"),
        value=_log_sigmoid_of_absolute,
    ),
    Mistake(
        "log-sigmoid-derivative-reflected",
        "log_sigmoid",
        "sigmoid(x) in the place of sigmoid(-x)",
        GRADIENT,
        vjp=_log_sigmoid_slope_reflected,
    ),
    Mistake(
        "log-sigmoid-derivative-cancels",
        "log_sigmoid",
        "1 - sigmoid(x) is 0 where the sigmoid rounds to 1",
        ("vjp", "symbolic"),
        vjp=_log_sigmoid_slope_cancels,
    ),
    Mistake(
        "log-sigmoid-gradient-hides-nan",
        "log_sigmoid",
        HIDDEN,
        ("nan-reaches-gradients",),
        vjp=_log_sigmoid_hides_nan,
    ),
    Mistake(
        "softplus-overflows",
        "softplus",
        "log(1 + exp(beta x)): exp overflows above, and 1 + exp rounds to 1 below",
        ("value", "special-values", "bounds", "difference-is-x"),
        value=_softplus_overflows,
        source="tracel-ai/burn#5373; rushter/MLAlgorithms#30; openvinotoolkit/openvino#4932",
    ),
    Mistake(
        "softplus-mirrored-fix",
        "softplus",
        "beta x + log(1 + 1 / exp(beta x)) overflows on the other side",
        ("value", "special-values", "bounds", "difference-is-x"),
        value=_softplus_mirrored,
        source="rushter/MLAlgorithms#31",
    ),
    Mistake(
        "softplus-without-log1p",
        "softplus",
        "log(1 + t) is 0 where 1 + t rounds to 1",
        ("value", "bounds"),
        value=_softplus_without_log1p,
        source="pytorch/pytorch#92114",
    ),
    Mistake(
        "softplus-threshold-of-x",
        "softplus",
        "x itself from x = 20 on, not from beta x = 20 on",
        ("value",),
        value=_softplus_threshold_of_x,
    ),
    Mistake(
        "softplus-not-divided-by-beta",
        "softplus",
        "log(1 + exp(beta x)), without the division by beta",
        ("value", "difference-is-x"),
        value=_softplus_undivided,
    ),
    Mistake(
        "softplus-mirrored",
        "softplus",
        "-softplus(-x), a smooth minimum",
        ("value", "special-values", "nonnegative"),
        value=_softplus_negated,
    ),
    Mistake(
        "softplus-gradient-collapses",
        "softplus",
        "exp(z) (1 / (1 + exp(z))) is infinity times 0 for large z",
        ("vjp", "symbolic", "bounds"),
        vjp=_softplus_slope_collapses,
        source="tenstorrent/tt-metal#56397",
    ),
    Mistake(
        "softplus-gradient-without-beta",
        "softplus",
        "sigmoid(x) in the place of sigmoid(beta x)",
        ("vjp",),
        vjp=_softplus_slope_without_beta,
    ),
    Mistake(
        "silu-of-minus-infinity",
        "silu",
        AT_MINUS_INFINITY,
        ("special-values",),
        value=_silu_of_minus_infinity,
        source="pytorch/pytorch#195197; antirez/ds4#498",
    ),
    Mistake(
        "silu-steep",
        "silu",
        "x sigmoid(1.702 x): that approximates GELU",
        ("value",),
        value=_silu_steep,
        source="harvard-edge/cs249r_book#1156",
    ),
    Mistake(
        "silu-of-absolute",
        "silu",
        "the stable branch of the sigmoid for x >= 0 is taken for negative x as well",
        ("value", "difference-is-x"),
        value=_silu_of_absolute,
    ),
    Mistake(
        "silu-loses-its-sign",
        "silu",
        "a negative part that became positive",
        ("value", "sign-preserving"),
        value=_silu_loses_sign,
    ),
    Mistake(
        "silu-derivative-of-the-argument",
        "silu",
        "x + s (1 - x): the formula y + s (1 - y) is for the output",
        GRADIENT,
        vjp=_silu_slope_of_argument,
        source="pjreddie/darknet#252",
    ),
    Mistake(
        "silu-without-product-rule",
        "silu",
        "x s (1 - s): the term of x itself is missing",
        GRADIENT,
        vjp=_silu_without_product_rule,
    ),
    Mistake(
        "mish-of-minus-infinity",
        "mish",
        AT_MINUS_INFINITY,
        ("special-values",),
        value=_mish_of_minus_infinity,
        source="derived from pytorch/pytorch#195197",
    ),
    Mistake(
        "mish-exp-ratio",
        "mish",
        "((1 + exp(x))^2 - 1) / ((1 + exp(x))^2 + 1) is infinity over infinity above and cancels below",
        ("value", "special-values", "bounds"),
        value=_mish_exp_ratio,
        source="derived from BVLC/caffe#1455",
    ),
    Mistake(
        "mish-with-sigmoid",
        "mish",
        "the sigmoid of the softplus in the place of its tanh",
        ("value",),
        value=_mish_with_sigmoid,
    ),
    Mistake(
        "mish-loses-its-sign",
        "mish",
        "a negative part that became positive",
        ("value", "sign-preserving"),
        value=_mish_loses_sign,
    ),
    Mistake(
        "mish-without-chain-rule",
        "mish",
        "t + x (1 - t^2): the derivative of the softplus is missing",
        GRADIENT,
        vjp=_mish_without_chain_rule,
    ),
    Mistake(
        "mish-without-product-rule",
        "mish",
        "the gate is taken for a constant",
        GRADIENT,
        vjp=_mish_without_product_rule,
    ),
    Mistake(
        "gelu-of-minus-infinity",
        "gelu",
        AT_MINUS_INFINITY,
        ("special-values",),
        value=_gelu_of_minus_infinity,
        source="pytorch/pytorch#185770; pytorch/pytorch#195197",
    ),
    Mistake(
        "gelu-without-square-root-of-two",
        "gelu",
        "erf(x) in the place of erf(x / sqrt(2))",
        ("value",),
        value=_gelu_without_root,
    ),
    Mistake(
        "gelu-tanh-by-exp-ratio",
        "gelu",
        "(exp(2u) - 1) / (exp(2u) + 1) is infinity over infinity from x = 10 on in float32",
        ("value", "bounds", "special-values"),
        value=_gelu_exp_ratio,
        source="ooples/AiDotNet.Tensors#594; pytorch/pytorch#186286; ROCm/AMDMIGraphX#2589",
    ),
    Mistake(
        "gelu-square-for-cube",
        "gelu",
        "0.044715 x^2 in the place of 0.044715 x^3",
        ("value", "difference-is-x"),
        value=_gelu_square_for_cube,
    ),
    Mistake(
        "gelu-error-function-of-seven-digits",
        "gelu",
        "an error function with an absolute error of 1e-7 (Abramowitz and Stegun 7.1.26)",
        ("value",),
        value=_gelu_short_series,
        source="pytorch/pytorch#198183",
    ),
    Mistake(
        "gelu-gate-alone",
        "gelu",
        "the gate of the sigmoid approximation, without x",
        ("value", "sign-preserving"),
        value=_gelu_gate_alone,
    ),
    Mistake(
        "gelu-without-product-rule",
        "gelu",
        "the gate is taken for a constant",
        GRADIENT,
        vjp=_gelu_without_product_rule,
    ),
    Mistake(
        "gelu-gradient-of-the-tanh-form",
        "gelu",
        "the exact function with the derivative of its approximation by tanh",
        GRADIENT,
        vjp=_gelu_slope_of_the_other,
        source="derived from harvard-edge/cs249r_book#1399",
    ),
    Mistake(
        "gelu-gradient-of-the-sigmoid-form",
        "gelu",
        "the derivative of x sigmoid(1.702 x)",
        GRADIENT,
        vjp=_gelu_slope_of_quick,
        source="derived from harvard-edge/cs249r_book#1399",
    ),
    Mistake(
        "gelu-gradient-zero-times-infinity",
        "gelu",
        "1 - tanh(u)^2 is 0 and du/dx infinite where x^2 overflows",
        ("vjp",),
        vjp=_gelu_zero_times_infinity,
        source="ooples/AiDotNet.Tensors#355",
    ),
    Mistake(
        "gelu-gradient-hides-nan",
        "gelu",
        HIDDEN,
        ("nan-reaches-gradients",),
        vjp=_gelu_hides_nan,
    ),
)
