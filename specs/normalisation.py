"""Normalisation: examples or channels brought to one scale: what they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, nan
from typing import Any

import numpy as np

from specs.maths import is_zero, saved, sqrt, where
from specs.spec import Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

BA = "Ba, Kiros & Hinton, Layer Normalization (2016), arXiv:1607.06450"
IOFFE = "Ioffe & Szegedy, Batch Normalization, ICML (2015), arXiv:1502.03167"
ZHANG = "Zhang & Sennrich, Root Mean Square Layer Normalization, NeurIPS (2019), arXiv:1910.07467"

# The textbook gradient divides by sqrt(var + eps)^3, and multiplies gamma by it where the row is constant.
X = Input("x", inner_degree=3, centred=True)
GAMMA = Input("gamma", degree=2, inner_degree=3)
BETA = Input("beta")
EPS = Setting("eps", (1e-5, 1e-3))
NO_EPS = "eps"
FOLDED = "x / sigma - mean / sigma; the mean of dz not subtracted first"
CUBED = "the derivative of the root apart, with the cube of the reciprocal root"


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


def _folded_numbers(x: Any, axes: Any, eps: Any) -> Any:
    return _folded_deviation(x, axes) * (1.0 / np.sqrt(_variance(x, axes) + eps))


def _folded_values(x: Any, gamma: Any, beta: Any, axes: Any, eps: Any) -> Any:
    """x (gamma / sigma) + (beta - mean gamma / sigma): two roundings of beta; gamma / sigma may underflow."""
    scale = gamma * (1.0 / np.sqrt(_variance(x, axes) + eps))
    return scale * _folded_deviation(x, axes) + _rounded(beta)


def _numbers_vjp(dz: Any, x: Any, axes: Any, eps: Any) -> Any:
    """The gradient of the normalised numbers, the mean of dz not subtracted first; and the numbers."""
    z = saved(_folded_numbers(x, axes, eps))
    inverse = saved(1.0 / np.sqrt(_variance(x, axes) + eps))
    return inverse * (dz - _mean(dz, axes) - z * _mean(dz * z, axes)), z


def _numbers_vjp_cubed(dz: Any, x: Any, axes: Any, eps: Any) -> Any:
    """The same with the cube of 1 / sigma apart, which may underflow where dx does not."""
    deviation = x - _mean(x, axes)
    inverse = saved(1.0 / np.sqrt(_variance(x, axes) + eps))
    by_variance = inverse * inverse * inverse * _mean(dz * deviation, axes)
    return (dz - _mean(dz, axes)) * inverse - deviation * by_variance, deviation * inverse


def _folded(x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    return _folded_values(x, gamma, beta, -1, eps)


def _layer_norm_vjp(dy: Any, y: Any, x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    dx, z = _numbers_vjp(dy * gamma, x, -1, eps)
    return dx, _rows(dy * z).sum(axis=0), _rows(dy).sum(axis=0)


def _layer_norm_vjp_cubed(dy: Any, y: Any, x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    dx, z = _numbers_vjp_cubed(dy * gamma, x, -1, eps)
    return dx, _rows(dy * z).sum(axis=0), _rows(dy).sum(axis=0)


def _rms_norm_vjp(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    inverse = saved(1.0 / np.sqrt(_mean(x * x, -1) + eps))
    z, dz = saved(x * inverse), dy * gamma
    return inverse * (dz - z * _mean(dz * z, -1)), _rows(dy * z).sum(axis=0)


def _rms_norm_vjp_cubed(dy: Any, y: Any, x: Any, gamma: Any, *, eps: Any = 1e-6) -> Any:
    inverse = saved(1.0 / np.sqrt(_mean(x * x, -1) + eps))
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


# --------------------------------------------------------------------------------------------- channels


def other_axes(x: Any) -> Any:
    """All axes but that of the channels, the second."""
    return (0, *range(2, x.ndim))


def _positions(x: Any) -> Any:
    return tuple(range(2, x.ndim))


def by_channel(v: Any, x: Any) -> Any:
    """One number for each channel, as x is shaped."""
    return v.reshape(-1, *[1] * (x.ndim - 2))


def _of_channels(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: Any) -> Any:
    return by_channel(gamma, x) * (x - mean) / sqrt(var + eps) + by_channel(beta, x)


def _batch_norm(x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    mean, var = _mean(x, other_axes(x)), _variance(x, other_axes(x))
    return _of_channels(x, gamma, beta, mean, var, eps)


def _instance_norm(x: Any, gamma: Any, beta: Any, *, eps: Any = 1e-5) -> Any:
    mean, var = _mean(x, _positions(x)), _variance(x, _positions(x))
    return _of_channels(x, gamma, beta, mean, var, eps)


def _grouped(x: Any, groups: int) -> Any:
    return x.reshape(x.shape[0], groups, -1)


def _group_norm(x: Any, gamma: Any, beta: Any, *, groups: int, eps: Any = 1e-5) -> Any:
    z = _grouped(x, groups)
    z = ((z - _mean(z, 2)) / sqrt(_variance(z, 2) + eps)).reshape(x.shape)
    return by_channel(gamma, x) * z + by_channel(beta, x)


def _moved(old: Any, new: Any, momentum: Any) -> Any:
    return (1 - momentum) * old + momentum * new


def _trained(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, momentum: Any, eps: Any, *, biased: bool
) -> Any:
    deviation = x - _mean(x, other_axes(x))
    count = x.size // x.shape[1]
    variance = (deviation * deviation).sum(axis=other_axes(x)) / (count if biased else count - 1)
    average = x.sum(axis=other_axes(x)) / count
    y = _batch_norm(x, gamma, beta, eps=eps)
    return y, _moved(mean, average, momentum), _moved(var, variance, momentum)


def _batch_norm_training(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: Any = 0.1, eps: Any = 1e-5
) -> Any:
    return _trained(x, gamma, beta, mean, var, momentum, eps, biased=False)


def _batch_norm_training_biased(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: Any = 0.1, eps: Any = 1e-5
) -> Any:
    return _trained(x, gamma, beta, mean, var, momentum, eps, biased=True)


def _batch_norm_inference(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: Any = 1e-5) -> Any:
    return _of_channels(x, gamma, beta, by_channel(mean, x), by_channel(var, x), eps)


def _folded_channels(x: Any, gamma: Any, beta: Any, axes: Any, eps: Any) -> Any:
    return _folded_values(x, by_channel(gamma, x), by_channel(beta, x), axes, eps)


def _channels_vjp(
    dy: Any, x: Any, gamma: Any, axes: Any, eps: Any, numbers_vjp: Callable[..., Any] = _numbers_vjp
) -> Any:
    dx, z = numbers_vjp(dy * by_channel(gamma, x), x, axes, eps)
    return dx, (dy * z).sum(axis=other_axes(x)), dy.sum(axis=other_axes(x))


def _group_norm_folded(x: Any, gamma: Any, beta: Any, *, groups: int, eps: Any = 1e-5) -> Any:
    scale, shift = (_grouped(np.broadcast_to(by_channel(v, x), x.shape), groups) for v in (gamma, beta))
    return _folded_values(_grouped(x, groups), scale, shift, 2, eps).reshape(x.shape)


def _group_norm_vjp(
    dy: Any,
    y: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    *,
    groups: int,
    eps: Any = 1e-5,
    numbers_vjp: Callable[..., Any] = _numbers_vjp,
) -> Any:
    dz = _grouped(dy * by_channel(gamma, x), groups)
    dx, z = numbers_vjp(dz, _grouped(x, groups), 2, eps)
    return dx.reshape(x.shape), (dy * z.reshape(x.shape)).sum(axis=other_axes(x)), dy.sum(axis=other_axes(x))


def _inference_folded(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: Any = 1e-5) -> Any:
    deviation = _rounded(x) - _rounded(by_channel(mean, x))
    inverse = 1.0 / np.sqrt(var + eps)
    return by_channel(gamma * inverse, x) * deviation + _rounded(by_channel(beta, x))


def _inference_vjp(
    dy: Any, y: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: Any = 1e-5
) -> Any:
    inverse = 1.0 / np.sqrt(var + eps)
    z = (_rounded(x) - _rounded(by_channel(mean, x))) * by_channel(inverse, x)
    return dy * by_channel(gamma * inverse, x), (dy * z).sum(axis=other_axes(x)), dy.sum(axis=other_axes(x))


def _training_folded(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, momentum: Any = 0.1, eps: Any = 1e-5
) -> Any:
    count = x.size // x.shape[1]
    return (
        _folded_channels(x, gamma, beta, other_axes(x), eps),
        _moved(_rounded(mean), _mean(x, other_axes(x)).reshape(-1), momentum),  # 1 - momentum is rounded
        _moved(_rounded(var), _variance(x, other_axes(x)).reshape(-1) * (count / (count - 1)), momentum),
    )


def _training_vjp(
    dy: Any,
    y: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    *,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
) -> Any:
    dx, dgamma, dbeta = _channels_vjp(dy[0], x, gamma, other_axes(x), eps)
    count = x.size // x.shape[1]
    by_mean = by_channel(dy[1] * momentum * (1.0 / count), x)
    by_var = by_channel(dy[2] * momentum * (2.0 / (count - 1)), x) * (x - _mean(x, other_axes(x)))
    return dx + by_mean + by_var, dgamma, dbeta


EQUATIONS = (
    "m = mean(x), v = mean((x - m)^2) over {}",
    "y = gamma (x - m) / sqrt(v + eps) + beta, gamma and beta of the channel",
    "dx = (dz - mean(dz) - z mean(dz z)) / sqrt(v + eps), z = (x - m) / sqrt(v + eps), dz = gamma dy",
    "dgamma = sum(dy z), dbeta = sum(dy) over all but the channels",
)


def _equations(over: str) -> tuple[str, ...]:
    return (EQUATIONS[0].format(over), *EQUATIONS[1:])


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
                FOLDED,
                "PyTorch, TensorFlow, Keras",
                value=_folded,
                vjp=_layer_norm_vjp,
            ),
            Form(CUBED, "JAX", vjp=_layer_norm_vjp_cubed),
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
                CUBED,
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
    Spec(
        name="batch_norm",
        summary="Each channel brought to mean 0 and variance 1 over the batch, then scaled and shifted.",
        signature="(m,c,...),(c),(c)->(m,c,...)",
        definition=_batch_norm,
        inputs=(X, GAMMA, BETA),
        settings=(EPS,),
        shapes=({"m": 3, "c": 2}, {"m": 35, "c": 2}, {"m": 2, "c": 5}, {"m": 2, "c": 37}, {"m": 4, "c": 1}),
        laws=("nan-reaches-gradients",),
        equations=_equations("the batch and all positions, for each channel"),
        cases=(
            Case(
                "a constant channel is its shift",
                ([[7.0, 1.0], [7.0, 1.0]], [2.0, 3.0], [0.5, -1.0]),
                [[0.5, -1.0], [0.5, -1.0]],
            ),
            Case(
                "the NaN of a channel stays in its channel",
                ([[nan, 4.0], [1.0, 4.0]], [1.0, 1.0], [0.0, 2.0]),
                [[nan, 2.0], [nan, 2.0]],
            ),
            Case("no scale", ([[1.0], [2.0]], [0.0], [3.0]), [[3.0], [3.0]]),
        ),
        refusals=(
            Refusal("a batch of nothing has no mean", (np.zeros((0, 1)), [1.0], [0.0]), "at least one entry"),
            Refusal("channels last", ([[[1.0, 2.0]], [[3.0, 4.0]]], [1.0, 1.0], [0.0, 0.0]), "c = 1"),
            Refusal("no axis of channels", ([1.0, 2.0], [1.0], [0.0]), "shape"),
            Refusal("nothing to keep 0 / 0 away", ([[1.0]], [1.0], [0.0]), NO_EPS, {"eps": 0.0}),
        ),
        forms=(
            Form(
                FOLDED,
                "PyTorch, TensorFlow, Keras",
                value=lambda x, gamma, beta, *, eps=1e-5: _folded_channels(
                    x, gamma, beta, other_axes(x), eps
                ),
                vjp=lambda dy, y, x, gamma, beta, *, eps=1e-5: _channels_vjp(
                    dy, x, gamma, other_axes(x), eps
                ),
            ),
            Form(
                CUBED,
                "JAX",
                vjp=lambda dy, y, x, gamma, beta, *, eps=1e-5: _channels_vjp(
                    dy, x, gamma, other_axes(x), eps, _numbers_vjp_cubed
                ),
            ),
        ),
        references=(IOFFE,),
    ),
    Spec(
        name="batch_norm_training",
        summary="Batch norm, and the running statistics moved towards those of the batch.",
        signature="(m,c,...),(c),(c),(c),(c)->(m,c,...),(c),(c)",
        definition=_batch_norm_training,
        inputs=(
            Input("x", degree=2, inner_degree=3, centred=True),
            GAMMA,
            BETA,
            Input("running_mean", differentiable=False),
            Input("running_var", Domain.NONNEGATIVE, differentiable=False),
        ),
        outputs=("y", "running_mean", "running_var"),
        settings=(Setting("momentum", (0.1, 0.25)), EPS),
        shapes=({"m": 3, "c": 2}, {"m": 35, "c": 2}, {"m": 2, "c": 5}, {"m": 2, "c": 37}, {"m": 4, "c": 1}),
        equations=(
            *_equations("the batch and all positions, for each channel"),
            "running_mean = (1 - momentum) running_mean + momentum m",
            "running_var = (1 - momentum) running_var + momentum v n / (n - 1), n the numbers of a channel",
        ),
        cases=(
            Case(
                "the batch weighs momentum, its variance is that of n - 1",
                ([[1.0], [3.0]], [0.0], [0.5], [4.0], [8.0]),
                ([[0.5], [0.5]], [3.5], [6.5]),
                {"momentum": 0.25},
            ),
            Case(
                "a constant channel is its shift",
                ([[7.0], [7.0]], [2.0], [0.5], [7.0], [4.0]),
                ([[0.5], [0.5]], [7.0], [3.0]),
                {"momentum": 0.25},
            ),
        ),
        refusals=(
            Refusal("one number has no variance", ([[1.0]], [1.0], [0.0], [0.0], [1.0]), "at least two"),
            Refusal(
                "a weight beyond 1",
                ([[1.0], [2.0]], [1.0], [0.0], [0.0], [1.0]),
                "momentum",
                {"momentum": 1.5},
            ),
            Refusal(
                "nothing to keep 0 / 0 away",
                ([[1.0], [2.0]], [1.0], [0.0], [0.0], [1.0]),
                NO_EPS,
                {"eps": nan},
            ),
        ),
        forms=(Form(FOLDED, "PyTorch, TensorFlow, Keras", value=_training_folded, vjp=_training_vjp),),
        variants=(
            Variant(
                "running-variance-biased",
                "the running variance takes the variance of the batch by n, as y does",
                "TensorFlow, Keras, Flax",
                definition=_batch_norm_training_biased,
            ),
        ),
        references=(IOFFE,),
    ),
    Spec(
        name="batch_norm_inference",
        summary="Each channel scaled and shifted by given statistics.",
        signature="(n,c,...),(c),(c),(c),(c)->(n,c,...)",
        definition=_batch_norm_inference,
        inputs=(
            Input("x", degree=3),
            Input("gamma", degree=3),
            BETA,
            Input("mean", degree=3, differentiable=False),
            Input("var", Domain.NONNEGATIVE, differentiable=False),
        ),
        settings=(EPS,),
        shapes=({"n": 2, "c": 3}, {"n": 1, "c": 37}, {"n": 2, "c": 5}, {"n": 2, "c": 33}, {"n": 2, "c": 1}),
        laws=("nan-reaches-gradients",),
        equations=(
            "y = gamma (x - mean) / sqrt(var + eps) + beta, all of the channel",
            "dx = dy gamma / sqrt(var + eps)",
            "dgamma = sum(dy (x - mean) / sqrt(var + eps)), dbeta = sum(dy) over all but the channels",
        ),
        cases=(
            Case("at the mean it is the shift", ([[3.0]], [2.0], [0.5], [3.0], [0.0]), [[0.5]]),
            Case(
                "NaN stays where it is",
                ([[nan, 1.0]], [1.0, 1.0], [0.0, 2.0], [0.0, 1.0], [1.0, 1.0]),
                [[nan, 2.0]],
            ),
            Case(
                "an infinity stays",
                ([[inf, -inf]], [1.0, -1.0], [0.0, 2.0], [0.0, 1.0], [1.0, 1.0]),
                [[inf, inf]],
            ),
        ),
        refusals=(
            Refusal(
                "nothing to keep 0 / 0 away", ([[1.0]], [1.0], [0.0], [0.0], [0.0]), NO_EPS, {"eps": 0.0}
            ),
            Refusal("statistics of other channels", ([[1.0]], [1.0], [0.0], [0.0, 1.0], [1.0]), "c = 1"),
        ),
        forms=(
            Form(
                "gamma / sigma first, the mean in the shift",
                "PyTorch, TensorFlow, Keras",
                value=_inference_folded,
                vjp=_inference_vjp,
            ),
        ),
        references=(IOFFE,),
    ),
    Spec(
        name="group_norm",
        summary="Each group of channels of an example brought to mean 0 and variance 1, scaled and shifted.",
        signature="(n,channels,...),(channels),(channels)->(n,channels,...)",
        definition=_group_norm,
        inputs=(X, GAMMA, BETA),
        settings=(Setting("groups", (2, 3), required=True), EPS),
        shapes=(
            {"n": 1, "channels": 6},
            {"n": 2, "channels": 36},
            {"n": 2, "channels": 6},
            {"n": 1, "channels": 42},
            {"n": 1, "channels": 12},
        ),
        laws=("nan-reaches-gradients",),
        equations=_equations("a group of channels and all positions, for each example"),
        cases=(
            Case(
                "a constant group is its shift",
                ([[7.0, 7.0, 1.0, 1.0]], [2.0, 3.0, 4.0, 5.0], [0.5, -1.0, 0.0, 2.0]),
                [[0.5, -1.0, 0.0, 2.0]],
                {"groups": 2},
            ),
            Case(
                "the NaN of a group stays in its group",
                ([[nan, 7.0, 1.0, 1.0]], [1.0, 1.0, 1.0, 1.0], [0.5, -1.0, 0.0, 2.0]),
                [[nan, nan, 0.0, 2.0]],
                {"groups": 2},
            ),
        ),
        refusals=(
            Refusal(
                "groups of unequal sizes", ([[1.0, 2.0]], [1.0, 1.0], [0.0, 0.0]), "groups", {"groups": 3}
            ),
            Refusal("no groups", ([[1.0, 2.0]], [1.0, 1.0], [0.0, 0.0]), "groups", {"groups": 0}),
            Refusal(
                "a scale for each group", ([[1.0, 2.0]], [1.0], [0.0, 0.0]), "channels = 2", {"groups": 1}
            ),
        ),
        forms=(
            Form(FOLDED, "PyTorch, TensorFlow, Keras", value=_group_norm_folded, vjp=_group_norm_vjp),
            Form(CUBED, "JAX", vjp=partial(_group_norm_vjp, numbers_vjp=_numbers_vjp_cubed)),
        ),
        references=("Wu & He, Group Normalization, ECCV (2018), arXiv:1803.08494",),
    ),
    Spec(
        name="instance_norm",
        summary="Each channel of an example brought to mean 0 and variance 1, then scaled and shifted.",
        signature="(n,c,h,...),(c),(c)->(n,c,h,...)",
        definition=_instance_norm,
        inputs=(X, GAMMA, BETA),
        settings=(EPS,),
        shapes=(
            {"n": 1, "c": 2, "h": 3},
            {"n": 2, "c": 1, "h": 37},
            {"n": 1, "c": 2, "h": 5},
            {"n": 2, "c": 1, "h": 35},
            {"n": 3, "c": 2, "h": 4},
        ),
        laws=("nan-reaches-gradients",),
        equations=_equations("all positions, for each channel of each example"),
        cases=(
            Case("a constant channel is its shift", ([[[7.0, 7.0]]], [2.0], [0.5]), [[[0.5, 0.5]]]),
            Case(
                "the NaN of a channel stays in its channel",
                ([[[nan, 7.0], [1.0, 1.0]]], [1.0, 1.0], [0.5, -1.0]),
                [[[nan, nan], [-1.0, -1.0]]],
            ),
        ),
        refusals=(
            Refusal("no positions", ([[1.0, 2.0]], [1.0, 1.0], [0.0, 0.0]), "shape"),
            Refusal("positions of length 0", (np.zeros((1, 1, 0)), [1.0], [0.0]), "at least one entry"),
        ),
        forms=(
            Form(
                FOLDED,
                "PyTorch, TensorFlow",
                value=lambda x, gamma, beta, *, eps=1e-5: _folded_channels(
                    x, gamma, beta, _positions(x), eps
                ),
                vjp=lambda dy, y, x, gamma, beta, *, eps=1e-5: _channels_vjp(
                    dy, x, gamma, _positions(x), eps
                ),
            ),
            Form(
                CUBED,
                "JAX",
                vjp=lambda dy, y, x, gamma, beta, *, eps=1e-5: _channels_vjp(
                    dy, x, gamma, _positions(x), eps, _numbers_vjp_cubed
                ),
            ),
        ),
        references=("Ulyanov, Vedaldi & Lempitsky, Instance Normalization (2016), arXiv:1607.08022",),
    ),
)
