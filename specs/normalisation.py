"""Normalisation: examples or channels brought to one scale: what they are."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from specs.maths import is_zero, sqrt, where
from specs.spec import Case, Form, Input, Refusal, Setting, Spec, Variant

BA = "Ba, Kiros & Hinton, Layer Normalization (2016), arXiv:1607.06450"
ZHANG = "Zhang & Sennrich, Root Mean Square Layer Normalization, NeurIPS (2019), arXiv:1910.07467"

# The textbook gradient divides by sqrt(var + eps)^3, and multiplies gamma by it where the row is constant.
X = Input("x", inner_degree=3, centred=True)
GAMMA = Input("gamma", degree=2, inner_degree=3)
BETA = Input("beta")
EPS = Setting("eps", (1e-5, 1e-3))
NO_EPS = "eps"


def _mean(x: Any, axes: Any) -> Any:
    """The mean over some axes, which stay, of length 1."""
    total = x.sum(axis=axes, keepdims=True)
    return total / (x.size // total.size)


def _variance(x: Any, axes: Any) -> Any:
    deviation = x - _mean(x, axes)
    return _mean(deviation * deviation, axes)


# ------------------------------------------------------------------------------------------------ a row


def _layer_norm(x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    return gamma * (x - _mean(x, -1)) / sqrt(_variance(x, -1) + eps) + beta


def _rms_norm(x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    return gamma * x / sqrt(_mean(x * x, -1) + eps)


def _rows(x: Any) -> Any:
    return x.reshape(-1, x.shape[-1])


def _rounded(x: Any) -> Any:
    """x with the error of a product, for the forms."""
    return (x * 3.0) / 3.0


def _folded_deviation(x: Any, axes: Any) -> Any:
    """x - mean, with the roundings of x / sigma - mean / sigma.

    Not written as it is computed: a bound would count the error of sigma at x and at the mean as if they were
    not one and the same.
    """
    return _rounded(x) - _rounded(_mean(x, axes))


def _folded(x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    return gamma * (_folded_deviation(x, -1) * (1.0 / np.sqrt(_variance(x, -1) + eps))) + beta


def _layer_norm_vjp(dy: Any, y: Any, x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    inverse = 1.0 / np.sqrt(_variance(x, -1) + eps)
    z, dz = _folded_deviation(x, -1) * inverse, dy * gamma
    dx = inverse * (dz - _mean(dz, -1) - z * _mean(dz * z, -1))
    return dx, _rows(dy * z).sum(axis=0), _rows(dy).sum(axis=0)


def _rms_norm_vjp(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    inverse = 1.0 / np.sqrt(_mean(x * x, -1) + eps)
    z, dz = x * inverse, dy * gamma
    return inverse * (dz - z * _mean(dz * z, -1)), _rows(dy * z).sum(axis=0)


def _rms_norm_vjp_cubed(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    inverse = 1.0 / np.sqrt(_mean(x * x, -1) + eps)
    dz = dy * gamma
    dx = dz * inverse - x * (inverse * inverse * inverse * _mean(dz * x, -1))
    return dx, _rows(dy * x * inverse).sum(axis=0)


def _rms_norm_outside(x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    square = _mean(x * x, -1)
    zero = is_zero(square)  # the root has no derivative there, x / (root + eps) has one
    return gamma * x / (where(zero, 0 * square, sqrt(where(zero, 1 + 0 * square, square))) + eps)


def _rms_norm_outside_form(x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    return gamma * x / (np.sqrt(_mean(x * x, -1)) + eps)


def _rms_norm_outside_vjp(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    root = np.sqrt(_mean(x * x, -1))
    z, dz = x / (root + eps), dy * gamma
    through_the_root = np.where(np.equal(root, 0.0), 0.0, x / root * _mean(dz * z, -1) / (root + eps))
    return dz / (root + eps) - through_the_root, _rows(dy * z).sum(axis=0)


def _rms_norm_from_one(x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    return (1 + gamma) * x / sqrt(_mean(x * x, -1) + eps)


def _rms_norm_from_one_vjp(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    return _rms_norm_vjp(dy, y, x, 1.0 + gamma, eps=eps)


SPECS = (
    Spec(
        name="layer_norm",
        summary="Each row brought to mean 0 and variance 1, then scaled and shifted entry by entry.",
        signature="(...,c),(c),(c)->(...,c)",
        definition=_layer_norm,
        inputs=(X, GAMMA, BETA),
        settings=(EPS,),
        laws=("shift-invariant", "gradient-sums-to-zero", "nan-reaches-gradients"),
        equations=(
            "m = mean(x)",
            "v = mean((x - m)^2)",
            "y = gamma (x - m) / sqrt(v + eps) + beta",
            "dx = (dz - mean(dz) - z mean(dz z)) / sqrt(v + eps), z = (x - m) / sqrt(v + eps), dz = gamma dy",
            "dgamma = sum(dy z), dbeta = sum(dy) over the rows",
        ),
        cases=(
            Case(
                "a constant row is its shift",
                ([[7.0, 7.0, 7.0]], [2.0, 3.0, 4.0], [0.5, 0.0, -1.0]),
                [[0.5, 0.0, -1.0]],
            ),
            Case("a row of one entry is its shift", ([[5.0], [-3.0]], [2.0], [0.25]), [[0.25], [0.25]]),
            Case(
                "the NaN of a row stays in its row",
                ([[nan, 0.0], [4.0, 4.0]], [1.0, 1.0], [1.0, 2.0]),
                [[nan, nan], [1.0, 2.0]],
            ),
            Case(
                "an infinity has no finite distance from the mean",
                ([[inf, 0.0], [4.0, 4.0]], [1.0, 1.0], [1.0, 2.0]),
                [[nan, nan], [1.0, 2.0]],
            ),
            Case("no scale", ([[1.0, 2.0]], [0.0, 0.0], [3.0, 4.0]), [[3.0, 4.0]]),
        ),
        refusals=(
            Refusal("a row of nothing has no mean", ([[], []], [], []), "at least one entry"),
            Refusal("a scale for the rows", ([[1.0, 2.0]], [1.0], [0.0, 0.0]), "c = 2"),
            Refusal("nothing to keep 0 / 0 away", ([[1.0]], [1.0], [0.0]), NO_EPS, {"eps": 0.0}),
        ),
        forms=(
            Form(
                "x / sigma - mean / sigma; the mean of dz not subtracted first",
                "PyTorch, TensorFlow, Keras",
                value=_folded,
                vjp=_layer_norm_vjp,
            ),
        ),
        references=(BA,),
    ),
    Spec(
        name="rms_norm",
        summary="Each row brought to a mean square of 1, then scaled entry by entry.",
        signature="(...,c),(c)->(...,c)",
        definition=_rms_norm,
        inputs=(Input("x", inner_degree=3), GAMMA),
        settings=(Setting("eps", (1e-6, 1e-5)),),
        laws=("odd", "nan-reaches-gradients"),
        equations=(
            "y = gamma x / sqrt(mean(x^2) + eps)",
            "dx = (dz - z mean(dz z)) / sqrt(mean(x^2) + eps), z = x / sqrt(mean(x^2) + eps), dz = gamma dy",
            "dgamma = sum(dy z) over the rows",
        ),
        cases=(
            Case("a row of zeros stays", ([[0.0, 0.0]], [2.0, 3.0]), [[0.0, 0.0]]),
            Case("no scale", ([[1.0, 2.0]], [0.0, 0.0]), [[0.0, 0.0]]),
            Case(
                "the NaN of a row stays in its row",
                ([[nan, 1.0], [0.0, 0.0]], [1.0, 1.0]),
                [[nan, nan], [0.0, 0.0]],
            ),
        ),
        refusals=(
            Refusal("a row of nothing has no mean", ([[], []], []), "at least one entry"),
            Refusal("a scale for the rows", ([[1.0, 2.0]], [1.0]), "c = 2"),
            Refusal("nothing to keep 0 / 0 away", ([[1.0]], [1.0]), NO_EPS, {"eps": -1e-6}),
        ),
        forms=(
            Form(
                "x times the reciprocal root",
                "PyTorch, Hugging Face Transformers",
                value=lambda x, gamma, *, eps=1e-6: gamma * (x * (1.0 / np.sqrt(_mean(x * x, -1) + eps))),
                vjp=_rms_norm_vjp,
            ),
            Form(
                "the derivative of the root apart, with the cube of the reciprocal root",
                "PyTorch, JAX",
                vjp=_rms_norm_vjp_cubed,
            ),
        ),
        variants=(
            Variant(
                "eps-outside-the-root",
                "eps is added to the root of the mean square",
                "the code of its authors (bzhangGo/rmsnorm)",
                definition=_rms_norm_outside,
                forms=(
                    Form(
                        "as it is defined", "bzhangGo/rmsnorm", _rms_norm_outside_form, _rms_norm_outside_vjp
                    ),
                ),
            ),
            Variant(
                "scale-from-one",
                "the scale is 1 + gamma, so that a gamma of 0 leaves the row at its scale",
                "Gemma",
                definition=_rms_norm_from_one,
                forms=(Form("as it is defined", "Gemma", _rms_norm_from_one, _rms_norm_from_one_vjp),),
            ),
        ),
        references=(ZHANG,),
    ),
)
