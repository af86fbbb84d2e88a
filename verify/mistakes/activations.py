"""Known mistakes in activations and in the functions of a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")

# ------------------------------------------------------------------------------------------- elementwise


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


def _sigmoid_exp_ratio(x: Any) -> Any:
    e = np.exp(x)
    return e / (1 + e)


def _in_memory_order(x: Any) -> Any:
    """The numbers of the buffer that a view looks into, as many as the view has."""
    buffer = x if x.base is None else x.base
    return np.resize(np.ravel(buffer, order="K"), x.shape).astype(x.dtype)


def _sigmoid_of_memory(x: Any) -> Any:
    return refnet.sigmoid(_in_memory_order(x))


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


# ------------------------------------------------------------------------------------------ rows, values


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


def _logsumexp_without_shift(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x).sum(axis=axis))


def _logsumexp_forgets_top(x: Any, *, axis: int = -1) -> Any:
    return np.log(np.exp(x - x.max(axis=axis, keepdims=True)).sum(axis=axis))


def _logsumexp_of_nothing(x: Any, *, axis: int = -1) -> Any:
    top = x.max(axis=axis, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))).squeeze(axis)


# --------------------------------------------------------------------------------------- rows, gradients


def _softmax_diagonal(dy: Any, x: Any, *, axis: int = -1) -> Any:
    y = _softmax(x, axis)
    return (dy * y * (1 - y),)


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
        ("vjp", "symbolic", "bounds"),
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
)
