"""Activations in pieces: what they are.

Where pieces meet, a definition takes the branch whose derivative is the convention of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np

from specs.activations import X
from specs.maths import exp, is_positive, saved, where
from specs.normalisation import by_channel, other_axes
from specs.spec import Case, Form, Input, Kink, Refusal, Setting, Spec, Variant

MAAS = "Maas, Hannun & Ng, Rectifier nonlinearities improve neural network acoustic models, ICML (2013)"
HE = "He, Zhang, Ren & Sun, Delving deep into rectifiers, ICCV (2015), arXiv:1502.01852, equations 1 and 9"
KRIZHEVSKY = "Krizhevsky, Convolutional deep belief networks on CIFAR-10 (2010)"
HOWARD = "Howard et al., Searching for MobileNetV3, ICCV (2019), arXiv:1905.02244, section 5.2"
CLEVERT = "Clevert, Unterthiner & Hochreiter, Fast and accurate deep network learning by exponential linear \
units, ICLR (2016), arXiv:1511.07289, equation 15"
BARRON = "Barron, Continuously differentiable exponential linear units (2017), arXiv:1704.07483"
KLAMBAUER = "Klambauer, Unterthiner, Mayr & Hochreiter, Self-normalizing neural networks, NIPS (2017), \
arXiv:1706.02515, equations 2 and 14"

DIGITS = 10**31
SELU_ALPHA = 16732632423543772848170429916717
SELU_SCALE = 10507009873554804934193349852946
"""The constants of SELU times 10^31: the published digits are the definition. The closed form of alpha,
-sqrt(2 / pi) / (erfc(1 / sqrt(2)) exp(1 / 2) - 1), is the same number to all of these digits."""


def _at(place: float) -> Callable[[Any], Any]:
    """The distance of each x from a place."""
    return lambda x: np.abs(x.astype(np.float64) - place)


def _leaky_relu(x: Any, *, slope: Any) -> Any:
    return where(is_positive(x), x, slope * x)


def _prelu(x: Any, slope: Any) -> Any:
    return where(is_positive(x), x, by_channel(slope, x) * x)


def _prelu_of_two_relus(x: Any, slope: Any) -> Any:
    return np.maximum(x, 0.0) - by_channel(slope, x) * np.maximum(-x, 0.0)


def _prelu_masked(dy: Any, y: Any, x: Any, slope: Any) -> Any:
    """One sum over all entries, the masked ones as zeros, of the product that is shared by both gradients."""
    mask = x > 0
    dx = dy * (mask * 1.0 + ~mask * by_channel(slope, x))
    return dx, (dy * (x * ~mask)).sum(axis=other_axes(x))


def _relu6(x: Any) -> Any:
    return where(is_positive(x), where(is_positive(6 - x), x, 6 + 0 * x), 0 * x)


def _hard_sigmoid(x: Any) -> Any:
    return _relu6(x + 3) / 6


def _hard_sigmoid_of_one_fifth(x: Any) -> Any:
    y = x / 5 + 1 / (2 + 0 * x)
    return where(is_positive(y), where(is_positive(1 - y), y, 1 + 0 * x), 0 * x)


def _hard_swish(x: Any) -> Any:
    return x * _relu6(x + 3) / 6


def _elu(x: Any, *, alpha: Any) -> Any:
    return where(is_positive(x), x, alpha * (exp(x) - 1))


def _celu(x: Any, *, alpha: Any) -> Any:
    return where(is_positive(x), x, alpha * (exp(x / alpha) - 1))


def _selu(x: Any) -> Any:
    return where(
        is_positive(x),
        x * SELU_SCALE / DIGITS,
        (exp(x) - 1) * (SELU_SCALE * SELU_ALPHA) / (DIGITS * DIGITS),
    )


def _clipped_line(x: Any) -> Any:
    """x / 6 + 1/2 between 0 and 1, for the forms."""
    return np.minimum(np.maximum(x / 6.0 + 0.5, 0.0), 1.0)


def _clipped_6(x: Any) -> Any:
    return np.minimum(np.maximum(x + 3.0, 0.0), 6.0)


def _inside(x: Any) -> Any:
    return (x > -3.0) & (x < 3.0)


def _inside_when_rounded(x: Any) -> Any:
    """1 where x / 6 + 1/2 is between 0 and 1, 0 elsewhere; either where its rounding decides.

    Libraries that differentiate the clipping find x = 3 - 2^-51 on the flat side: x + 3 is rounded to 6.
    """
    line = x / 6.0 + 0.5
    return np.sign(np.maximum(line, 0.0)) * np.sign(np.maximum(1.0 - line, 0.0))


def _selu_from_output(dy: Any, y: Any, x: Any) -> tuple[Any]:
    scale, alpha = SELU_SCALE / DIGITS, SELU_ALPHA / DIGITS
    return (np.where(x > 0, scale * dy, dy * (y + scale * alpha)),)


NO_NUMBER = Refusal("a setting that is no number", ([1.0],), "alpha is nan", {"alpha": nan})

SPECS = (
    Spec(
        name="leaky_relu",
        summary="A rectified linear unit that lets a part of the negative side through.",
        signature="(...)->(...)",
        definition=_leaky_relu,
        inputs=X,
        settings=(Setting("slope", (0.01, 0.25, 1.5)),),
        kinks=(
            Kink(
                where="x = 0",
                distance=np.abs,
                convention="slope",
                allowed=("slope", 1.0, ("slope", 1.0)),
                used_by="PyTorch and TensorFlow take slope, JAX takes 1, a maximum that shares ties the mean",
            ),
        ),
        laws=("positively-homogeneous", "sign-preserving"),
        cases=(
            Case("both sides, and the kink", ([-2.0, 0.0, 3.0],), [-0.5, 0.0, 3.0], {"slope": 0.25}),
            Case("a slope above 1", ([-2.0, 3.0],), [-3.0, 3.0], {"slope": 1.5}),
            Case("a slope of 0 is none of the usual", ([-2.0, 3.0],), [0.0, 3.0], {"slope": 0.0}),
            Case("the infinities", ([-inf, inf],), [-inf, inf]),
            Case("NaN stays", ([nan, 1.0],), [nan, 1.0]),
        ),
        refusals=(Refusal("a slope that is no number", ([1.0],), "slope is nan", {"slope": nan}),),
        references=(MAAS,),
    ),
    Spec(
        name="prelu",
        summary="A leaky ReLU whose slope is learned, one for each channel.",
        signature="(n,c,...),(c)->(n,c,...)",
        definition=_prelu,
        inputs=(Input("x", degree=2), Input("slope", degree=2)),
        shapes=({"n": 2, "c": 3}, {"n": 1, "c": 37}, {"n": 35, "c": 2}, {"n": 2, "c": 5}, {"n": 3, "c": 1}),
        kinks=(
            Kink(
                where="x = 0",
                distance=lambda x, slope: np.abs(x),
                convention="slope",
                allowed=("slope", 0.0, 1.0, ("slope", 1.0)),
                used_by="PyTorch takes slope; Keras, max(0, x) - slope max(0, -x), takes 0; a maximum that "
                "shares ties takes the mean",
            ),
        ),
        equations=(
            "y = x for x > 0, slope x elsewhere, with the slope of the channel",
            "dx = dy for x > 0, slope dy elsewhere",
            "dslope = sum(dy min(x, 0)) over all but the channels",
        ),
        cases=(
            Case(
                "a slope for each channel",
                ([[-2.0, -2.0], [3.0, 0.0]], [0.5, -1.0]),
                [[-1.0, 2.0], [3.0, 0.0]],
            ),
            Case("a slope above 1", ([[-2.0], [3.0]], [1.5]), [[-3.0], [3.0]]),
            Case(
                "positions share the slope of their channel",
                ([[[-1.0, -2.0], [-4.0, 4.0]]], [0.5, 0.25]),
                [[[-0.5, -1.0], [-1.0, 4.0]]],
            ),
            Case("the infinities", ([[-inf], [inf]], [0.25]), [[-inf], [inf]]),
            Case("NaN stays where it is", ([[nan, 1.0], [-1.0, 2.0]], [0.5, 0.5]), [[nan, 1.0], [-0.5, 2.0]]),
            Case("a NaN slope reaches what is below 0", ([[-1.0]], [nan]), [[nan]]),
            Case("minus infinity takes the sign of its slope", ([[-inf]], [-0.5]), [[inf]]),
        ),
        refusals=(
            Refusal("slopes of other channels", ([[1.0]], [0.25, 0.25]), "c = 1"),
            Refusal("an array without channels", ([1.0], [0.25]), "shape (n, c, ...)"),
        ),
        forms=(
            Form("a difference of two ReLUs", "Keras", value=_prelu_of_two_relus),
            Form("products with a mask", "JAX and hand-written kernels", vjp=_prelu_masked),
        ),
        references=(HE,),
    ),
    Spec(
        name="relu6",
        summary="The rectified linear unit, clipped at 6.",
        signature="(...)->(...)",
        definition=_relu6,
        inputs=X,
        kinks=(
            Kink("x = 0", np.abs, 0.0, (0.0, 0.5, 1.0), "PyTorch, JAX and TensorFlow take 0"),
            Kink("x = 6", _at(6.0), 0.0, (0.0, 0.5, 1.0), "PyTorch, JAX and TensorFlow take 0"),
        ),
        seams=(6.0,),
        laws=("nonnegative", "sign-preserving"),
        cases=(
            Case("three pieces", ([-2.0, 3.0, 7.0],), [0.0, 3.0, 6.0]),
            Case("the kinks", ([-0.0, 0.0, 6.0],), [0.0, 0.0, 6.0]),
            Case("the infinities", ([-inf, inf],), [0.0, 6.0]),
            Case("NaN is not clipped", ([nan, 8.0],), [nan, 6.0]),
        ),
        references=(KRIZHEVSKY,),
    ),
    Spec(
        name="hard_sigmoid",
        summary="A sigmoid of three straight pieces.",
        signature="(...)->(...)",
        definition=_hard_sigmoid,
        inputs=X,
        kinks=(
            Kink("x = -3", _at(-3.0), 0.0, (0.0, 1.0 / 12.0, 1.0 / 6.0), "PyTorch and JAX take 0"),
            Kink("x = 3", _at(3.0), 0.0, (0.0, 1.0 / 12.0, 1.0 / 6.0), "PyTorch and JAX take 0"),
        ),
        seams=(-3.0, 3.0),
        laws=("unit-interval", "reflection"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.5, 0.5]),
            Case("halfway", ([-1.5, 1.5],), [0.25, 0.75]),
            Case("the kinks, and beyond", ([-3.0, 3.0, -4.0, 4.0],), [0.0, 1.0, 0.0, 1.0]),
            Case("the infinities", ([-inf, inf],), [0.0, 1.0]),
            Case("NaN is not clipped", ([nan, 3.0],), [nan, 1.0]),
        ),
        forms=(
            Form(
                "x / 6 + 1/2, clipped to [0, 1]; its derivative where that is not clipped",
                "Keras on TensorFlow, JAX",
                value=_clipped_line,
                vjp=lambda dy, y, x: (dy * _inside_when_rounded(x) / 6.0,),
            ),
            Form(
                "multiplied by 1/6",
                "PyTorch",
                value=lambda x: _clipped_6(x) * (1.0 / 6.0),
                vjp=lambda dy, y, x: (np.where(_inside(x), dy * (1.0 / 6.0), 0.0 * dy),),
            ),
        ),
        variants=(
            Variant(
                "slope-one-fifth",
                "x / 5 + 1/2, clipped to [0, 1]",
                "ONNX by default, Keras 2, Theano",
                definition=_hard_sigmoid_of_one_fifth,
            ),
        ),
        references=(HOWARD,),
    ),
    Spec(
        name="hard_swish",
        summary="x times a sigmoid of three straight pieces.",
        signature="(...)->(...)",
        definition=_hard_swish,
        inputs=X,
        kinks=(
            Kink("x = -3", _at(-3.0), 0.0, (0.0, -0.25, -0.5), "PyTorch and JAX take 0"),
            Kink("x = 3", _at(3.0), 1.0, (1.0, 1.25, 1.5), "PyTorch and JAX take 1"),
        ),
        seams=(-3.0, -1.5, 3.0),
        laws=("difference-is-x", "sign-preserving"),
        cases=(
            Case("the middle piece", ([-1.5, 0.0, 1.5],), [-0.375, 0.0, 1.125]),
            Case("the kinks, and beyond", ([-3.0, 3.0, -4.0, 4.0],), [0.0, 3.0, 0.0, 4.0]),
            Case("an infinity above", ([inf],), [inf]),
            Case("minus infinity times 0 is no NaN: the function is 0 up to -3", ([-inf],), [0.0]),
            Case("NaN stays", ([nan, 8.0],), [nan, 8.0]),
        ),
        forms=(
            Form(
                "x relu6(x + 3), then a sixth of it; x / 3 + 1/2",
                "PyTorch",
                value=lambda x: x * _clipped_6(x) / 6.0,
                vjp=lambda dy, y, x: (
                    np.where(_inside(x), dy * (x / 3.0 + 0.5), np.where(x > 0, dy, 0.0 * dy)),
                ),
            ),
            Form(
                "x times x / 6 + 1/2, clipped to [0, 1]; the product rule",
                "Keras on TensorFlow, JAX",
                value=lambda x: x * _clipped_line(x),
                vjp=lambda dy, y, x: (
                    dy * (_clipped_6(x) / 6.0) + (dy * x) * (1.0 / 6.0) * _inside_when_rounded(x),
                ),
            ),
        ),
        references=(HOWARD,),
    ),
    Spec(
        name="elu",
        summary="The exponential linear unit: linear above 0, saturating at -alpha below.",
        signature="(...)->(...)",
        definition=_elu,
        inputs=X,
        settings=(Setting("alpha", (1.0, 0.5, 1.7)),),
        kinks=(
            Kink(
                where="x = 0",
                distance=np.abs,
                convention="alpha",
                allowed=("alpha", 1.0),
                used_by="Unless alpha is 1; PyTorch and JAX take alpha",
            ),
        ),
        laws=("linear-on-positives", "sign-preserving"),
        cases=(
            Case("0 and the linear side", ([0.0, 3.0],), [0.0, 3.0]),
            Case("the limits", ([-inf, inf],), [-0.5, inf], {"alpha": 0.5}),
            Case("NaN stays", ([nan, 1.0],), [nan, 1.0]),
        ),
        refusals=(NO_NUMBER,),
        forms=(
            Form(
                "derivative from the output, y + alpha",
                "TensorFlow, PyTorch in place",
                vjp=lambda dy, y, x, *, alpha=1.0: (np.where(x > 0, dy, dy * (y + alpha)),),
            ),
            Form(
                "derivative alpha (expm1(x) + 1)",
                "JAX",
                vjp=lambda dy, y, x, *, alpha=1.0: (
                    np.where(x > 0, dy, (dy * alpha) * saved(np.expm1(np.minimum(x, 0.0)) + 1.0)),
                ),
            ),
        ),
        references=(CLEVERT,),
    ),
    Spec(
        name="celu",
        summary="The exponential linear unit whose slope at 0 is 1 for every alpha.",
        signature="(...)->(...)",
        definition=_celu,
        inputs=X,
        settings=(Setting("alpha", (1.0, 2.0, 0.3)),),
        laws=("linear-on-positives", "sign-preserving"),
        cases=(
            Case("0 and the linear side", ([0.0, 3.0],), [0.0, 3.0]),
            Case("the limits", ([-inf, inf],), [-2.0, inf], {"alpha": 2.0}),
            Case("NaN stays", ([nan, 1.0],), [nan, 1.0]),
        ),
        refusals=(NO_NUMBER, Refusal("an alpha of 0", ([1.0],), "positive", {"alpha": 0.0})),
        forms=(
            Form(
                "x times the rounded 1 / alpha",
                "PyTorch",
                value=lambda x, *, alpha=1.0: np.where(
                    x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) * (1.0 / alpha))
                ),
                vjp=lambda dy, y, x, *, alpha=1.0: (
                    np.where(
                        x > 0,
                        dy,
                        ((dy * (1.0 / alpha)) * alpha) * saved(np.exp(np.minimum(x, 0.0) * (1.0 / alpha))),
                    ),
                ),
            ),
            Form(
                "derivative from the output, (y + alpha) / alpha",
                "PyTorch in place, JAX",
                vjp=lambda dy, y, x, *, alpha=1.0: (np.where(x > 0, dy, (dy * (1.0 / alpha)) * (y + alpha)),),
            ),
        ),
        references=(BARRON,),
    ),
    Spec(
        name="selu",
        summary="The scaled exponential linear unit, which drives activations to mean 0 and variance 1.",
        signature="(...)->(...)",
        definition=_selu,
        inputs=X,
        kinks=(
            Kink(
                where="x = 0",
                distance=np.abs,
                convention=SELU_SCALE / DIGITS * (SELU_ALPHA / DIGITS),
                allowed=(SELU_SCALE / DIGITS * (SELU_ALPHA / DIGITS), SELU_SCALE / DIGITS),
                used_by="PyTorch and JAX take 1.7581",
            ),
        ),
        laws=("linear-on-positives", "sign-preserving"),
        cases=(
            Case("the middle", ([0.0, -0.0],), [0.0, 0.0]),
            Case("an infinity above", ([inf],), [inf]),
            Case("NaN stays", ([nan, 0.0],), [nan, 0.0]),
        ),
        forms=(
            Form(
                "scale times (alpha expm1(x)); derivative from the output, y + scale alpha",
                "JAX, TensorFlow",
                value=lambda x: (
                    (SELU_SCALE / DIGITS)
                    * np.where(x > 0, x, (SELU_ALPHA / DIGITS) * np.expm1(np.minimum(x, 0.0)))
                ),
                vjp=_selu_from_output,
            ),
            Form(
                "derivative scale (alpha (expm1(x) + 1))",
                "JAX",
                vjp=lambda dy, y, x: (
                    np.where(
                        x > 0,
                        (SELU_SCALE / DIGITS) * dy,
                        ((SELU_SCALE / DIGITS) * dy * (SELU_ALPHA / DIGITS))
                        * saved(np.expm1(np.minimum(x, 0.0)) + 1.0),
                    ),
                ),
            ),
        ),
        references=(KLAMBAUER,),
    ),
)
