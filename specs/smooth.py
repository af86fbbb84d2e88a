"""Smooth activations: what they are."""

from __future__ import annotations

from math import inf, nan
from math import pi as PI
from typing import Any

import numpy as np

from specs.activations import X
from specs.maths import erf, erfc, exp, is_positive, log, pi, saved, sqrt, where
from specs.spec import Case, Form, Refusal, Setting, Spec, Variant

TURIAN = "Turian, Bergstra & Bengio, Quadratic features and deep architectures for chunking, NAACL (2009)"
GLOROT = "Glorot, Bordes & Bengio, Deep sparse rectifier neural networks, AISTATS (2011)"
HENDRYCKS = "Hendrycks & Gimpel, Gaussian error linear units (2016), arXiv:1606.08415"
RAMACHANDRAN = "Ramachandran, Zoph & Le, Searching for activation functions (2017), arXiv:1710.05941"
MISRA = "Misra, Mish: a self regularized non-monotonic activation function, BMVC (2020), arXiv:1908.08681"

SQRT_HALF = 0.5**0.5
SQRT_TWO_OVER_PI = (2.0 / PI) ** 0.5


def _softsign(x: Any) -> Any:
    return x / (1 + where(is_positive(x), x, -x))


def _log_sigmoid(x: Any) -> Any:
    return log(1 / (1 + exp(-x)))


def _softplus(x: Any, *, beta: Any) -> Any:
    return log(1 + exp(beta * x)) / beta


def _softplus_up_to_20(x: Any, *, beta: Any) -> Any:
    return where(is_positive(beta * x - 20), x, _softplus(x, beta=beta))


def _silu(x: Any) -> Any:
    return x / (1 + exp(-x))


def _mish(x: Any) -> Any:
    softplus = log(1 + exp(x))
    return x * (exp(softplus) - exp(-softplus)) / (exp(softplus) + exp(-softplus))


def _gelu(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return _gelu_by_tanh(x)
    return x * (1 + erf(x / sqrt(2 + 0 * x))) / 2


def _gelu_by_tanh(x: Any, *, approximate: str = "tanh") -> Any:
    u = sqrt(2 / pi(x)) * (x + 44715 * x * x * x / 1000000)
    return x * (1 + (exp(u) - exp(-u)) / (exp(u) + exp(-u))) / 2


def _gelu_by_sigmoid(x: Any, *, approximate: str = "none") -> Any:
    return x / (1 + exp(-1702 * x / 1000))


# ------------------------------------------------------------------------------------------- for the forms


def _softplus_of(x: Any) -> Any:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _logistic(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _stable_logistic(x: Any) -> Any:
    """Subnormal from x = -88 on in float32, and then 0 where subnormal numbers are flushed."""
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, 1.0) / (1.0 + decay)


def _silu_slope_by_product(dy: Any, y: Any, x: Any) -> tuple[Any]:
    s = saved(_stable_logistic(x))
    return (dy * s + (dy * x) * (s * (1.0 - s)),)


def _silu_slope_at_once(dy: Any, y: Any, x: Any) -> tuple[Any]:
    s = saved(_logistic(x))
    return (dy * (s * (1.0 + x * (1.0 - s))),)


def _mish_by_tanh(x: Any) -> Any:
    return x * np.tanh(_softplus_of(x))


def _mish_slope_by_tanh(dy: Any, y: Any, x: Any) -> tuple[Any]:
    t = saved(np.tanh(_softplus_of(x)))
    return (dy * (t + x * saved(_logistic(x)) * (1.0 - t * t)),)


def _mish_slope_by_chain(dy: Any, y: Any, x: Any) -> tuple[Any]:
    softplus = np.logaddexp(x, 0.0)
    t = saved(np.tanh(softplus))
    inner = (dy * x) * (1.0 - t * t) * np.exp(x - softplus)
    return (dy * t + inner,)


def _tanh_argument(x: Any) -> Any:
    return SQRT_TWO_OVER_PI * (x + 0.044715 * (x * x * x))


def _gelu_by_erf(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(_tanh_argument(x)))
    return 0.5 * x * (1.0 + erf(x * SQRT_HALF))


def _gelu_slope_by_erf(dy: Any, y: Any, x: Any, *, approximate: str = "none") -> tuple[Any]:
    if approximate == "tanh":
        t = saved(np.tanh(_tanh_argument(x)))
        inner = SQRT_TWO_OVER_PI * (1.0 + 3.0 * 0.044715 * (x * x))
        return (dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner),)
    density = saved(np.exp(-0.5 * (x * x)) * (SQRT_TWO_OVER_PI * 0.5))
    return (dy * (0.5 * (1.0 + saved(erf(x * SQRT_HALF))) + x * density),)


def _gelu_by_erfc(x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x * (0.5 * (1.0 + np.tanh(_tanh_argument(x))))
    return 0.5 * x * erfc(-x * SQRT_HALF)


def _gelu_slope_by_erfc(dy: Any, y: Any, x: Any, *, approximate: str = "none") -> tuple[Any]:
    if approximate == "tanh":
        t = np.tanh(_tanh_argument(x))
        inner = SQRT_TWO_OVER_PI * (1.0 + 0.044715 * (3.0 * (x * x)))
        change = (dy * x * 0.5) * (1.0 - t) * (1.0 + t) * inner
        return (dy * saved(0.5 * (1.0 + t)) + change,)
    z = -x * SQRT_HALF
    change = (dy * 0.5 * x) * saved(np.exp(-(z * z)) * (2.0 / PI**0.5)) * SQRT_HALF
    return (dy * saved(0.5 * erfc(z)) + change,)


TAIL_IS_NOT_NAN = "minus infinity times 0 is no NaN: the tail goes to 0"

SPECS = (
    Spec(
        name="softsign",
        summary="A sigmoid between -1 and 1 that approaches its limits as slowly as 1 / x.",
        signature="(...)->(...)",
        definition=_softsign,
        inputs=X,
        laws=("odd", "sign-preserving", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.0, 0.0]),
            Case("exact quotients", ([1.0, -1.0, 3.0, -7.0],), [0.5, -0.5, 0.75, -0.875]),
            Case("infinity over infinity is no NaN: the limits are 1 and -1", ([-inf, inf],), [-1.0, 1.0]),
            Case("NaN stays", ([nan, 1.0],), [nan, 0.5]),
        ),
        forms=(
            Form(
                "x / (1 + |x|), and the quotient rule, one division after the other",
                "PyTorch",
                value=lambda x: x / (1.0 + np.abs(x)),
                vjp=lambda dy, y, x: (
                    dy / (1.0 + np.abs(x))
                    - dy * (x / (1.0 + np.abs(x)) / (1.0 + np.abs(x))) * np.where(x < 0, -1.0, 1.0),
                ),
            ),
            Form(
                "x times the rounded 1 / (1 + |x|)",
                "ONNX Runtime",
                value=lambda x: x * (1.0 / (1.0 + np.abs(x))),
            ),
        ),
        references=(TURIAN,),
    ),
    Spec(
        name="log_sigmoid",
        summary="The logarithm of the logistic function: that of a probability, from its logit.",
        signature="(...)->(...)",
        definition=_log_sigmoid,
        inputs=X,
        seams=(-37.0, -17.0, 17.0, 37.0),
        laws=("nonpositive", "difference-is-x", "nan-reaches-gradients"),
        cases=(
            Case("the limits", ([-inf, inf],), [-inf, 0.0]),
            Case("no smallest probability", ([-60000.0],), [-60000.0]),
            Case("NaN stays", ([nan, -60000.0],), [nan, -60000.0]),
        ),
        forms=(
            Form(
                "1 - t / (1 + t) below 0",
                "PyTorch",
                vjp=lambda dy, y, x: (
                    dy
                    * np.where(
                        x < 0,
                        1.0 - np.exp(-np.abs(x)) / (1.0 + np.exp(-np.abs(x))),
                        np.exp(-np.abs(x)) / (1.0 + np.exp(-np.abs(x))),
                    ),
                ),
            ),
            Form(
                "-logaddexp(-x, 0), and its derivative as exp(-x - logaddexp(-x, 0))",
                "JAX",
                value=lambda x: -np.logaddexp(-x, 0.0),
                vjp=lambda dy, y, x: (dy * saved(np.exp(-x - np.logaddexp(-x, 0.0))),),
            ),
            Form("1 - exp(y)", "hand-written layers", vjp=lambda dy, y, x: (-dy * np.expm1(y),)),
        ),
        references=(GLOROT,),
    ),
    Spec(
        name="softplus",
        summary="A smooth rectified linear unit, log(1 + exp(beta x)) / beta.",
        signature="(...)->(...)",
        definition=_softplus,
        inputs=X,
        settings=(Setting("beta", (1.0, 3.0, 0.1, 0.5)),),
        seams=(-37.0, -17.0, 17.0, 20.0, 37.0),
        laws=("nonnegative", "difference-is-x", "nan-reaches-gradients"),
        cases=(
            Case("the limits", ([-inf, inf],), [0.0, inf]),
            Case("nothing overflows", ([60000.0],), [60000.0]),
            Case("NaN stays", ([nan, 60000.0],), [nan, 60000.0]),
        ),
        refusals=(
            Refusal("a beta of 0", ([1.0],), "positive", {"beta": 0.0}),
            Refusal("a beta that is no number", ([1.0],), "beta is nan", {"beta": nan}),
        ),
        forms=(
            Form(
                "log1p(exp(beta x)) / beta, and z / (1 + z)",
                "PyTorch below its threshold",
                value=lambda x, *, beta=1.0: np.log1p(np.exp(x * beta)) / beta,
                vjp=lambda dy, y, x, *, beta=1.0: (dy * np.exp(x * beta) / (np.exp(x * beta) + 1.0),),
            ),
            Form(
                "logaddexp(beta x, 0) / beta, and exp(beta x - logaddexp(beta x, 0))",
                "JAX",
                value=lambda x, *, beta=1.0: np.logaddexp(beta * x, 0.0) / beta,
                vjp=lambda dy, y, x, *, beta=1.0: (
                    dy / beta * saved(np.exp(beta * x - np.logaddexp(beta * x, 0.0))) * beta,
                ),
            ),
            Form(
                "1 - exp(-beta y)",
                "hand-written layers",
                vjp=lambda dy, y, x, *, beta=1.0: (-dy * np.expm1(-beta * y),),
            ),
        ),
        variants=(
            Variant(
                "linear-beyond-20",
                "x itself where beta x is above 20, off by up to 2.1e-9 / beta",
                "PyTorch",
                definition=_softplus_up_to_20,
            ),
        ),
        references=(GLOROT,),
    ),
    Spec(
        name="silu",
        summary="The sigmoid linear unit, or swish: x times the logistic function of x.",
        signature="(...)->(...)",
        definition=_silu,
        inputs=X,
        seams=(-1.2784645427610738, -17.0, -37.0, -88.0, -720.0, 17.0),
        laws=("difference-is-x", "sign-preserving", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.0, 0.0]),
            Case("an infinity above", ([inf],), [inf]),
            Case(TAIL_IS_NOT_NAN, ([-inf],), [0.0]),
            Case("NaN stays", ([nan, 0.0],), [nan, 0.0]),
        ),
        forms=(
            Form(
                "x / (1 + exp(-x)), and s (1 + x (1 - s))",
                "PyTorch, TensorFlow",
                value=lambda x: x / (1.0 + np.exp(-x)),
                vjp=_silu_slope_at_once,
            ),
            Form(
                "x s with a sigmoid that does not overflow, and the product rule",
                "JAX",
                value=lambda x: x * _stable_logistic(x),
                vjp=_silu_slope_by_product,
            ),
        ),
        references=(
            HENDRYCKS,
            RAMACHANDRAN,
        ),
    ),
    Spec(
        name="mish",
        summary="x times the hyperbolic tangent of the softplus of x.",
        signature="(...)->(...)",
        definition=_mish,
        inputs=X,
        seams=(-1.1924312145154922, -17.0, -37.0, -88.0, -720.0, 17.0),
        laws=("sign-preserving", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.0, 0.0]),
            Case("an infinity above", ([inf],), [inf]),
            Case("nothing overflows", ([60000.0],), [60000.0]),
            Case(TAIL_IS_NOT_NAN, ([-inf],), [0.0]),
            Case("NaN stays", ([nan, 0.0],), [nan, 0.0]),
        ),
        forms=(
            Form(
                "x tanh(softplus(x)), and t + x s (1 - t^2)",
                "PyTorch",
                value=_mish_by_tanh,
                vjp=_mish_slope_by_tanh,
            ),
            Form(
                "x tanh(logaddexp(x, 0)), and the chain rule",
                "JAX, TensorFlow",
                value=lambda x: x * np.tanh(np.logaddexp(x, 0.0)),
                vjp=_mish_slope_by_chain,
            ),
        ),
        references=(MISRA,),
    ),
    Spec(
        name="gelu",
        summary="The Gaussian error linear unit: x times the normal distribution function of x.",
        signature="(...)->(...)",
        definition=_gelu,
        inputs=X,
        settings=(Setting("approximate", ("none", "tanh")),),
        seams=(-0.7517915246935645, -5.5, -10.0, -14.0, -21.0, -37.5, 5.5),
        laws=("difference-is-x", "sign-preserving", "nan-reaches-gradients"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.0, 0.0]),
            Case("an infinity above", ([inf],), [inf]),
            Case(TAIL_IS_NOT_NAN, ([-inf],), [0.0]),
            Case("NaN stays", ([nan, 0.0],), [nan, 0.0]),
            Case("an infinity above, by tanh", ([inf],), [inf], {"approximate": "tanh"}),
            Case(f"{TAIL_IS_NOT_NAN}, by tanh", ([-inf],), [0.0], {"approximate": "tanh"}),
        ),
        refusals=(Refusal("an unknown approximation", ([1.0],), "approximate", {"approximate": "sigmoid"}),),
        forms=(
            Form(
                "x / 2 (1 + erf(x / sqrt(2))), x / 2 (1 + tanh(u)), and their product rules",
                "PyTorch, TensorFlow",
                value=_gelu_by_erf,
                vjp=_gelu_slope_by_erf,
            ),
            Form(
                "x / 2 erfc(-x / sqrt(2)), and the product rule",
                "JAX",
                value=_gelu_by_erfc,
                vjp=_gelu_slope_by_erfc,
            ),
        ),
        variants=(
            Variant(
                "tanh-approximation",
                "x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 where the exact function is asked for",
                "JAX by default",
                definition=_gelu_by_tanh,
            ),
            Variant(
                "sigmoid-approximation",
                "x sigmoid(1.702 x), or quick GELU",
                "OpenAI CLIP",
                definition=_gelu_by_sigmoid,
            ),
        ),
        references=(HENDRYCKS, "Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1 and 26.2"),
    ),
)
