"""Known mistakes in elementwise activations."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import EPSILONS, Mistake

GRADIENT = ("vjp", "symbolic", "numerical")
SWAP = (*GRADIENT, "vjp-additive", "vjp-homogeneous")
SWAPPED = "the incoming gradient and the input are in each other's place"


def _relu_hides_nan(x: Any) -> Any:
    return np.where(x > 0, x, x.dtype.type(0))


def _relu_leaks(x: Any) -> Any:
    return np.maximum(x, x * x.dtype.type(0.01))


def _relu_passes_all(dy: Any, x: Any) -> Any:
    return (dy * (np.maximum(x, 0) >= 0),)


def _sigmoid_hard(x: Any) -> Any:
    return x * x.dtype.type(0.25) + x.dtype.type(0.5)


def _sigmoid_steep(x: Any) -> Any:
    return (1 / (1 + np.exp(-x * x.dtype.type(1.0625)))).astype(x.dtype)


def _sigmoid_of_absolute(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.abs(x)))


def _sigmoid_by_tanh(x: Any) -> Any:
    half = x.dtype.type(0.5)
    return half * np.tanh(half * x) + half


def _sigmoid_exp_ratio(x: Any) -> Any:
    e = np.exp(x)
    return e / (1 + e)


def _in_memory_order(x: Any) -> Any:
    """The numbers of the buffer that a view looks into, as many as the view has."""
    buffer = x if x.base is None else x.base
    return np.resize(np.ravel(buffer, order="K"), x.shape).astype(x.dtype)


def _sigmoid_of_memory(x: Any) -> Any:
    return refnet.sigmoid(_in_memory_order(x))


def _sigmoid_clipped(x: Any, *, epsilon: float = 1e-7) -> Any:
    return np.clip(refnet.sigmoid(x), x.dtype.type(epsilon), x.dtype.type(1 - epsilon))


def _sigmoid_output_squared(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(x)
    return (dy * y * y,)


def _sigmoid_swapped(dy: Any, x: Any) -> Any:
    return refnet.sigmoid.vjp(x, dy)


def _sigmoid_squares(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(x)
    return (dy * y * (1 - y) * (1 - y),)


def _sigmoid_of_argument(dy: Any, x: Any) -> Any:
    return (dy * x * (1 - x),)


def _sigmoid_of_output(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(refnet.sigmoid(x))
    return (dy * y * (1 - y),)


def _sigmoid_infinite_ratio(dy: Any, x: Any) -> Any:
    e = np.exp(-x)
    return (dy * e / (1 + e) ** 2,)


def _sigmoid_ignores_cotangent(dy: Any, x: Any) -> Any:
    y = refnet.sigmoid(x)
    return (y * (1 - y),)


def _sigmoid_gradient_hides_nan(dy: Any, x: Any) -> Any:
    return (np.nan_to_num(refnet.sigmoid.vjp(dy, x).x),)


def _tanh_of_absolute(x: Any) -> Any:
    return np.tanh(np.abs(x))


def _tanh_in_half(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.tanh(x.astype(np.float16)).astype(x.dtype)


def _tanh_exp_ratio(x: Any) -> Any:
    e = np.exp(2 * x)
    return (e - 1) / (e + 1)


def _tanh_cancels(x: Any) -> Any:
    return np.sign(x) * (1 - 2 / (np.exp(2 * np.abs(x)) + 1))


def _tanh_without_square(dy: Any, x: Any) -> Any:
    return (dy * (1 - np.abs(np.tanh(x))),)


def _tanh_of_argument(dy: Any, x: Any) -> Any:
    return (dy * (1 - x * x),)


def _tanh_swapped(dy: Any, x: Any) -> Any:
    return refnet.tanh.vjp(x, dy)


def _relu_swapped(dy: Any, x: Any) -> Any:
    return refnet.relu.vjp(x, dy)


def _identity_modifies(x: Any) -> Any:
    x += x.dtype.type(1)
    return x - x.dtype.type(1)


def _identity_overwrites_cotangent(dy: Any, x: Any) -> Any:
    gradient = dy.copy()
    dy *= 0
    return (gradient,)


def _identity_square_term(dy: Any, x: Any) -> Any:
    """Scaled for low precision by a factor that is no power of two, with a term of second order."""
    scale = dy.dtype.type(1000.0)
    return ((dy * scale + dy * dy * dy.dtype.type(2.0**-6)) / scale,)


class _Drifting:
    """Adds how often it was called before: a buffer that is not cleared."""

    def __init__(self) -> None:
        self.calls = 0.0

    def __call__(self, x: Any) -> Any:
        y = np.tanh(x) + x.dtype.type(self.calls)
        self.calls += 1.0
        return y


class _StaleCotangent:
    """A cotangent accumulated over calls, as in a gradient buffer that is never set to zero."""

    def __init__(self) -> None:
        self.total: Any = 0.0

    def __call__(self, dy: Any, x: Any) -> Any:
        self.total = dy if np.shape(self.total) != dy.shape else self.total + dy
        return (np.array(self.total, dtype=x.dtype),)


class _OneBuffer:
    """Every result in the same memory."""

    def __init__(self) -> None:
        self.buffer: Any = np.zeros(0)

    def __call__(self, x: Any) -> Any:
        if self.buffer.shape != x.shape or self.buffer.dtype != x.dtype:
            self.buffer = np.empty(x.shape, x.dtype)
        self.buffer[...] = x
        return self.buffer


def _glu_halves_swapped(x: Any) -> Any:
    half = x.shape[-1] // 2
    return refnet.glu(np.concatenate([x[..., half:], x[..., :half]], axis=-1))


def _glu_interleaved(x: Any) -> Any:
    return refnet.glu(np.concatenate([x[..., ::2], x[..., 1::2]], axis=-1))


def _glu_without_gate(x: Any) -> Any:
    half = x.shape[-1] // 2
    return x[..., :half] * np.tanh(x[..., half:])


def _glu_gate_does_not_learn(dy: Any, x: Any) -> Any:
    gradient = refnet.glu.vjp(dy, x).x
    gradient[..., x.shape[-1] // 2 :] = 0
    return (gradient,)


def _glu_gradient_hides_nan(dy: Any, x: Any) -> Any:
    return (np.nan_to_num(refnet.glu.vjp(dy, x).x),)


def _dropout_by_rate(x: Any, mask: Any, *, rate: float = 0.5) -> Any:
    return np.where(mask, x / x.dtype.type(rate or 1), x.dtype.type(0))


def _dropout_inverted(x: Any, mask: Any, *, rate: float = 0.5) -> Any:
    return refnet.dropout(x, ~mask, rate=rate)


def _dropout_scaled_twice(x: Any, mask: Any, *, rate: float = 0.5) -> Any:
    return refnet.dropout(refnet.dropout(x, mask, rate=rate), mask, rate=rate)


def _dropout_passes_all(dy: Any, x: Any, mask: Any, *, rate: float = 0.5) -> Any:
    return refnet.dropout.vjp(dy, x, np.ones_like(mask), rate=rate)


def _dropout_unscaled(dy: Any, x: Any, mask: Any, *, rate: float = 0.5) -> Any:
    return refnet.dropout.vjp(dy, x, mask, rate=0.0)


GATES = (
    Mistake(
        "glu-halves-swapped",
        "glu",
        "the second half is gated by the first",
        ("value", "special-values"),
        value=_glu_halves_swapped,
    ),
    Mistake(
        "glu-interleaved",
        "glu",
        "the even entries are gated by the odd ones",
        ("value", "special-values", "nan-propagates"),
        value=_glu_interleaved,
    ),
    Mistake(
        "glu-gated-by-tanh",
        "glu",
        "the gate is tanh, not the sigmoid",
        ("value", "special-values"),
        value=_glu_without_gate,
    ),
    Mistake(
        "glu-gate-does-not-learn",
        "glu",
        "the gradient of the gate is dropped",
        GRADIENT,
        vjp=_glu_gate_does_not_learn,
    ),
    Mistake(
        "glu-gradient-hides-nan",
        "glu",
        "NaN becomes a gradient of 0",
        ("nan-reaches-gradients",),
        vjp=_glu_gradient_hides_nan,
    ),
    Mistake(
        "dropout-scaled-by-the-rate",
        "dropout",
        "what is kept is divided by the rate of what is dropped: right for a rate of 1/2",
        ("value",),
        value=_dropout_by_rate,
        source="lmjohns3/theanets#123; karpathy/convnetjs#106; rasbt/LLMs-from-scratch#431",
    ),
    Mistake(
        "dropout-mask-inverted",
        "dropout",
        "the mask says what is dropped",
        ("value", "special-values"),
        value=_dropout_inverted,
    ),
    Mistake(
        "dropout-scaled-twice",
        "dropout",
        "what is kept is scaled up twice",
        ("value", "special-values"),
        value=_dropout_scaled_twice,
    ),
    Mistake(
        "dropout-gradient-without-mask",
        "dropout",
        "what was dropped gets a gradient",
        GRADIENT,
        vjp=_dropout_passes_all,
        source="ddbourgin/numpy-ml#94; rohitg00/ai-engineering-from-scratch#17",
    ),
    Mistake(
        "dropout-gradient-not-scaled",
        "dropout",
        "the gradient is not scaled as the value is",
        GRADIENT,
        vjp=_dropout_unscaled,
        source="pytorch/pytorch#190717",
    ),
)

MISTAKES = (
    Mistake(
        "identity-returns-its-input",
        "identity",
        "the result is the input itself: writing to one changes the other",
        ("pure", "contract:pure"),
        value=lambda x: x,
        source="derived from shivram1987/diffGrad#2, yangluo7/CAME#2",
    ),
    Mistake(
        "identity-modifies-its-input",
        "identity",
        "computed in place on an array of the caller",
        ("pure", "contract:pure"),
        value=_identity_modifies,
        source="Burton2000/CS231n-2017#7",
    ),
    Mistake(
        "identity-overwrites-the-cotangent",
        "identity",
        "backward writes into the incoming gradient",
        ("pure", "contract:pure"),
        vjp=_identity_overwrites_cotangent,
        source="Burton2000/CS231n-2017#7",
    ),
    Mistake(
        "identity-keeps-one-buffer",
        "identity",
        "every result lies in the same memory: the next call overwrites it",
        ("pure", "contract:repeatable"),
        value=_OneBuffer,
        stateful=True,
        source="pytorch/pytorch#194664",
    ),
    Mistake(
        "identity-accumulates-cotangents",
        "identity",
        "a gradient buffer that is never set to zero",
        ("pure", "contract:repeatable"),
        vjp=_StaleCotangent,
        stateful=True,
        source="karpathy/llm.c#548; karpathy/micrograd#102",
    ),
    Mistake(
        "identity-cotangent-not-linear",
        "identity",
        "a term in the square of the incoming gradient",
        (*GRADIENT, "vjp-additive", "vjp-homogeneous"),
        vjp=_identity_square_term,
    ),
    Mistake(
        "relu-hides-nan",
        "relu",
        "where(x > 0, x, 0) turns a NaN into 0",
        ("nan-propagates", "special-values"),
        value=_relu_hides_nan,
        source="pytorch/pytorch#7999; apache/mxnet#11115; FluxML/NNlib.jl#509",
    ),
    Mistake("relu-leaks", "relu", "a slope below 0", ("value", "nonnegative"), value=_relu_leaks),
    Mistake(
        "relu-passes-everything",
        "relu",
        "the gradient is not masked where the input was negative: relu(x) >= 0 always holds",
        GRADIENT,
        vjp=_relu_passes_all,
        source="iamtrask/Grokking-Deep-Learning#13",
    ),
    Mistake("relu-vjp-arguments-swapped", "relu", SWAPPED, SWAP, vjp=_relu_swapped),
    Mistake(
        "sigmoid-is-tanh",
        "sigmoid",
        "tanh in the place of sigmoid",
        ("value", "unit-interval", "reflection"),
        value=np.tanh,
    ),
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
        value=_sigmoid_of_absolute,
    ),
    Mistake("sigmoid-steep", "sigmoid", "a scaled argument", ("value",), value=_sigmoid_steep),
    Mistake(
        "sigmoid-by-tanh",
        "sigmoid",
        "tanh(x / 2) / 2 + 1 / 2 cancels below 0: it is 0 at x = -40, where the value is 4.2e-18",
        ("value",),
        value=_sigmoid_by_tanh,
    ),
    Mistake(
        "sigmoid-exp-ratio",
        "sigmoid",
        "exp(x) / (1 + exp(x)) is infinity over infinity for large x",
        ("value", "bounds", "reflection", "special-values"),
        value=_sigmoid_exp_ratio,
        source="clab/dynet#761",
    ),
    Mistake(
        "sigmoid-ignores-strides",
        "sigmoid",
        "the memory is read in its order, whatever the strides of the array",
        ("layout-independent", "contract:layout"),
        value=_sigmoid_of_memory,
        source="ml-explore/mlx#657; vllm-project/vllm#3324; NVIDIA/Fuser#806",
    ),
    Mistake(
        "sigmoid-clipped",
        "sigmoid",
        "kept away from 0 and 1 by a constant: no small probability is left",
        ("value", "special-values"),
        value=_sigmoid_clipped,
        constants=EPSILONS,
        source="derived from keras-team/keras#9664",
    ),
    Mistake(
        "sigmoid-derivative-y-squared",
        "sigmoid",
        "y^2 in the place of y (1 - y)",
        GRADIENT,
        vjp=_sigmoid_output_squared,
    ),
    Mistake("sigmoid-vjp-arguments-swapped", "sigmoid", SWAPPED, SWAP, vjp=_sigmoid_swapped),
    Mistake(
        "sigmoid-derivative-twice-one-minus-y",
        "sigmoid",
        "y (1 - y)^2: one factor too many",
        GRADIENT,
        vjp=_sigmoid_squares,
    ),
    Mistake(
        "sigmoid-derivative-of-the-argument",
        "sigmoid",
        "x (1 - x): the formula is for the output",
        GRADIENT,
        vjp=_sigmoid_of_argument,
        source="PacktPublishing/Neural-Network-Projects-with-Python#4; liashchynskyi/skynet#1",
    ),
    Mistake(
        "sigmoid-derivative-at-the-output",
        "sigmoid",
        "s(y) (1 - s(y)): the sigmoid is taken a second time",
        GRADIENT,
        vjp=_sigmoid_of_output,
        source="llSourcell/Make_a_neural_network#2",
    ),
    Mistake(
        "sigmoid-derivative-infinite-ratio",
        "sigmoid",
        "exp(-x) / (1 + exp(-x))^2 is infinity over infinity for very negative x",
        ("vjp", "bounds"),
        vjp=_sigmoid_infinite_ratio,
        source="huggingface/candle#1722; jeshraghian/snntorch#433",
    ),
    Mistake(
        "sigmoid-ignores-cotangent",
        "sigmoid",
        "the derivative is not multiplied by the incoming gradient",
        (*GRADIENT, "vjp-additive", "vjp-homogeneous"),
        vjp=_sigmoid_ignores_cotangent,
    ),
    Mistake(
        "sigmoid-gradient-hides-nan",
        "sigmoid",
        "a NaN in the gradient is replaced by 0, so that training goes on with a lost activation",
        ("nan-reaches-gradients",),
        vjp=_sigmoid_gradient_hides_nan,
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
        "tanh-exp-ratio",
        "tanh",
        "(exp(2x) - 1) / (exp(2x) + 1) is infinity over infinity for large x only",
        ("value", "bounds", "odd", "special-values"),
        value=_tanh_exp_ratio,
        source="BVLC/caffe#1455; deeplearning4j/deeplearning4j#7382; ROCm/triton#900",
    ),
    Mistake(
        "tanh-cancels-near-zero",
        "tanh",
        "1 - 2 / (exp(2|x|) + 1) has no digits left for small x",
        ("value", "bounds"),
        value=_tanh_cancels,
        source="ROCm/triton#900",
    ),
    Mistake(
        "tanh-keeps-a-buffer",
        "tanh",
        "a result that depends on earlier calls",
        ("pure", "contract:repeatable"),
        value=_Drifting,
        stateful=True,
        source="microsoft/onnxruntime#3893",
    ),
    Mistake(
        "tanh-derivative-without-square",
        "tanh",
        "1 - |y| instead of 1 - y^2",
        GRADIENT,
        vjp=_tanh_without_square,
    ),
    Mistake(
        "tanh-derivative-of-the-argument",
        "tanh",
        "1 - x^2: the formula is for the output",
        GRADIENT,
        vjp=_tanh_of_argument,
        source="derived from PacktPublishing/Neural-Network-Projects-with-Python#4",
    ),
    Mistake("tanh-vjp-arguments-swapped", "tanh", SWAPPED, SWAP, vjp=_tanh_swapped),
    *GATES,
)
