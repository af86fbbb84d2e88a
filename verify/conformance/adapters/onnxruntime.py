"""ONNX Runtime on the CPU: the operators of ONNX, under the names of the contract.

Each row of `FUNCTIONS` is one node of ONNX, built with `onnx.helper` and run in a session of its own, which
is kept: one for each node, dtype, rank and settings, with the sizes of the axes left open. A new operator is
one row. There are no gradients. The boundary is untyped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, update_wrapper
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import helper
from onnxruntime import __version__ as __version__

Array = npt.NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

OPSET, IR_VERSION = 24, 10
"""The last opset of which ONNX Runtime 1.32 has every operator here, of Swish in particular; and an old
version of the file format, which any release reads."""

NOTES = (
    "Each function is a model of one node, mlp one of Gemm and Relu: opset 24, CPUExecutionProvider, the "
    "default optimisations of graphs, one thread. There are no gradients.",
    "Settings that are attributes are numbers of float32, whatever the dtype: ONNX has no others.",
    "linear is Gemm; relu6 is Clip; silu is Swish; logsumexp is ReduceLogSumExp; embedding is Gather, and "
    "has no padding.",
    "hard_sigmoid is HardSigmoid with alpha = 1 / 6, where ONNX has 1 / 5 by default.",
    "The losses have the classes along axis 1; of more than two axes the adapter moves the last one there.",
    "scaled_dot_product_attention is Attention and rotary_embedding RotaryEmbedding with all batch axes as "
    "one, and one head.",
    "rnn_cell, lstm_cell and gru_cell are RNN, LSTM and GRU with a sequence of one. The adapter puts the "
    "gates in the order of ONNX, and gives the first two a second bias, of zeros.",
    "The momentum of batch_norm_training is that of the new statistics, and ONNX's that of the old.",
)


# ------------------------------------------------------------------------------------ models and sessions


class Node(NamedTuple):
    """One node; an input that is left out has no name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


class Argument(NamedTuple):
    """What a session must know of an array before it sees it."""

    name: str
    dtype: np.dtype[Any]
    rank: int


@lru_cache(maxsize=1024)
def _session(nodes: tuple[Node, ...], arguments: tuple[Argument, ...]) -> Any:
    """What runs the nodes. All outputs of the last one are results, those without a name left out."""
    graph = helper.make_graph(
        [helper.make_node(n.op, n.inputs, n.outputs, **dict(n.attributes)) for n in nodes],
        "refnet",
        [
            helper.make_tensor_value_info(a.name, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.rank)
            for a in arguments
        ],
        [helper.make_empty_tensor_value_info(name) for name in nodes[-1].outputs if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; as a warning it would be told once more
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(nodes: tuple[Node, ...], arrays: Mapping[str, Array]) -> Any:
    """The results of the last node: an array, or several."""
    arguments = tuple(Argument(name, x.dtype, x.ndim) for name, x in arrays.items())
    results = _session(nodes, arguments).run(None, dict(arrays))
    return results[0] if len(results) == 1 else tuple(results)


def _node(op: str, *inputs: Array | None, outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    """One node, run: of inputs that are None and outputs without a name it is told that they are left out.
    Attributes that are None are at ONNX's default."""
    arrays = {f"x{k}": x for k, x in enumerate(inputs) if x is not None}
    names = tuple("" if x is None else f"x{k}" for k, x in enumerate(inputs))
    stated = tuple((name, value) for name, value in attributes.items() if value is not None)
    return _run((Node(op, names, tuple(outputs), stated),), arrays)


# ---------------------------------------------------------------------------------------------- operators


def _prelu(x: Array, slope: Array) -> Any:
    """The slopes of the channels, which are along axis 1."""
    return _node("PRelu", x, slope.reshape(-1, *[1] * (x.ndim - 2)))


def _relu6(x: Array) -> Any:
    return _node("Clip", x, np.zeros((), x.dtype), np.full((), 6, x.dtype))


def _hard_sigmoid(x: Array) -> Any:
    return _node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _logsumexp(x: Array, axis: int = -1) -> Any:
    return _node("ReduceLogSumExp", x, np.array([axis]), keepdims=0)


def _rms_norm(x: Array, gamma: Array, eps: float = 1e-6) -> Any:
    return _node("RMSNormalization", x, gamma, epsilon=eps)


def _group_norm(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> Any:
    return _node("GroupNormalization", x, gamma, beta, num_groups=groups, epsilon=eps)


def _batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = 1e-5
) -> Any:
    return _node("BatchNormalization", x, gamma, beta, mean, var, epsilon=eps)


def _batch_norm_training(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    statistics: dict[str, Any] = {
        "outputs": ("y", "mean", "var"),
        "training_mode": 1,
        "momentum": 1 - momentum,
    }
    return _node("BatchNormalization", x, gamma, beta, mean, var, epsilon=eps, **statistics)


# --------------------------------------------------------------------------------------- windows on images


def _each_way(setting: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """A setting for each axis of positions."""
    return setting if isinstance(setting, tuple) else (setting,) * axes


def _windows(axes: int, stride: Any, padding: Any) -> dict[str, Any]:
    return {"strides": _each_way(stride, axes), "pads": _each_way(padding, axes) * 2}


def _conv(
    x: Array, w: Array, b: Array, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    axes = x.ndim - 2
    windows = _windows(axes, stride, padding)
    return _node("Conv", x, w, b, **windows, dilations=_each_way(dilation, axes), group=groups)


def _conv_transpose2d(
    x: Array, w: Array, b: Array, stride: Any = 1, padding: Any = 0, output_padding: Any = 0
) -> Any:
    windows = _windows(2, stride, padding)
    return _node("ConvTranspose", x, w, b, **windows, output_padding=_each_way(output_padding, 2))


def _pool(op: str, x: Array, size: Any, stride: Any, padding: Any, ceil_mode: bool, **attributes: Any) -> Any:
    windows = _windows(2, size if stride is None else stride, padding)
    shape = _each_way(size, 2)
    return _node(op, x, kernel_shape=shape, ceil_mode=int(ceil_mode), **windows, **attributes)


def _max_pool2d(x: Array, size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False) -> Any:
    return _pool("MaxPool", x, size, stride, padding, ceil_mode)


def _avg_pool2d(
    x: Array,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    counted = int(count_include_pad)
    return _pool("AveragePool", x, size, stride, padding, ceil_mode, count_include_pad=counted)


# ------------------------------------------------------------------------------------ tables and attention


def _one_hot(ids: Array, values: Array, classes: int) -> Any:
    return _node("OneHot", ids, np.array(classes), values)


def _one_head(x: Array) -> Array:
    """All batch axes as one, and one head."""
    return x.reshape(-1, 1, *x.shape[-2:])


def _attention(
    q: Array, k: Array, v: Array, mask: Array, causal: bool = False, scale: float | None = None
) -> Any:
    heads = map(_one_head, (q, k, v))
    y = _node("Attention", *heads, mask, is_causal=int(causal), scale=scale)
    return y.reshape(*q.shape[:-1], v.shape[-1])


def _rotary(x: Array, cos: Array, sin: Array, layout: str = "half") -> Any:
    """Every example has angles of its own, which here are those of all."""
    examples = _one_head(x)
    angles = (np.broadcast_to(angle, (len(examples), *angle.shape)) for angle in (cos, sin))
    return _node("RotaryEmbedding", examples, *angles, interleaved=int(layout == "interleaved")).reshape(
        x.shape
    )


# -------------------------------------------------------------------------------------------------- cells


def _gates(x: Array, order: Sequence[int]) -> Array:
    """Columns of gates as rows in the order of ONNX, along the axis of directions, of which there is one."""
    columns = np.split(x, len(order), axis=-1)
    return np.concatenate([columns[k] for k in order], axis=-1).T[None]


def _cell(
    op: str,
    order: Sequence[int],
    x: Array,
    states: Sequence[Array],
    weights: Sequence[Array],
    biases: Sequence[Array],
    **attributes: Any,
) -> Any:
    """One step. The first output, of all steps, is left out."""
    b = np.concatenate([_gates(bias, order) for bias in biases], axis=-1)
    w_x, w_h = (_gates(w, order) for w in weights)
    h, *others = (state[None] for state in states)
    names = ("", *(f"state{k}" for k in range(len(states))))
    size = h.shape[-1]
    after = _node(op, x[None], w_x, w_h, b, None, h, *others, outputs=names, hidden_size=size, **attributes)
    return tuple(y[0] for y in after) if others else after[0]


def _rnn_cell(x: Array, h: Array, w_x: Array, w_h: Array, b: Array) -> Any:
    return _cell("RNN", (0,), x, [h], [w_x, w_h], [b, np.zeros_like(b)])


def _lstm_cell(x: Array, h: Array, c: Array, w_x: Array, w_h: Array, b: Array) -> Any:
    """The gates are input, forget, candidate, output; ONNX has input, output, forget, candidate."""
    return _cell("LSTM", (0, 3, 1, 2), x, [h, c], [w_x, w_h], [b, np.zeros_like(b)])


def _gru_cell(x: Array, h: Array, w_x: Array, w_h: Array, b_x: Array, b_h: Array) -> Any:
    """The gates are reset, update, candidate; ONNX has update, reset, candidate."""
    return _cell("GRU", (1, 0, 2), x, [h], [w_x, w_h], [b_x, b_h], linear_before_reset=1)


# ------------------------------------------------------------------------------------------------- losses


def _classes_second(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


def _label_cross_entropy(z: Array, labels: Array, reduction: str = "mean") -> Any:
    return _node("SoftmaxCrossEntropyLoss", _classes_second(z), labels, reduction=reduction)


def _weighted_label_cross_entropy(
    z: Array, labels: Array, weights: Array, ignored_label: int = -100, reduction: str = "mean"
) -> Any:
    settings: dict[str, Any] = {"ignore_index": ignored_label, "reduction": reduction}
    return _node("SoftmaxCrossEntropyLoss", _classes_second(z), labels, weights, **settings)


def _nll(log_p: Array, labels: Array, reduction: str = "mean") -> Any:
    return _node("NegativeLogLikelihoodLoss", _classes_second(log_p), labels, reduction=reduction)


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": lambda x: _node("Identity", x),
        "relu": lambda x: _node("Relu", x),
        "leaky_relu": lambda x, slope=0.01: _node("LeakyRelu", x, alpha=slope),
        "prelu": _prelu,
        "relu6": _relu6,
        "hard_sigmoid": _hard_sigmoid,
        "hard_swish": lambda x: _node("HardSwish", x),
        "elu": lambda x, alpha=1.0: _node("Elu", x, alpha=alpha),
        "celu": lambda x, alpha=1.0: _node("Celu", x, alpha=alpha),
        "selu": lambda x: _node("Selu", x),
        "sigmoid": lambda x: _node("Sigmoid", x),
        "tanh": lambda x: _node("Tanh", x),
        "softsign": lambda x: _node("Softsign", x),
        "softplus": lambda x: _node("Softplus", x),
        "silu": lambda x: _node("Swish", x),
        "mish": lambda x: _node("Mish", x),
        "gelu": lambda x, approximate="none": _node("Gelu", x, approximate=approximate),
        "softmax": lambda x, axis=-1: _node("Softmax", x, axis=axis),
        "log_softmax": lambda x, axis=-1: _node("LogSoftmax", x, axis=axis),
        "logsumexp": _logsumexp,
        "linear": lambda x, w, b: _node("Gemm", x, w, b),
        "layer_norm": lambda x, gamma, beta, eps=1e-5: _node(
            "LayerNormalization", x, gamma, beta, epsilon=eps
        ),
        "rms_norm": _rms_norm,
        "batch_norm_training": _batch_norm_training,
        "batch_norm_inference": _batch_norm_inference,
        "group_norm": _group_norm,
        "instance_norm": lambda x, gamma, beta, eps=1e-5: _node(
            "InstanceNormalization", x, gamma, beta, epsilon=eps
        ),
        "conv2d": _conv,
        "conv1d": _conv,
        "conv_transpose2d": _conv_transpose2d,
        "max_pool2d": _max_pool2d,
        "avg_pool2d": _avg_pool2d,
        "global_max_pool2d": lambda x: _node("GlobalMaxPool", x)[..., 0, 0],
        "global_avg_pool2d": lambda x: _node("GlobalAveragePool", x)[..., 0, 0],
        "embedding": lambda table, ids: _node("Gather", table, ids),
        "one_hot": _one_hot,
        "scaled_dot_product_attention": _attention,
        "rotary_embedding": _rotary,
        "rnn_cell": _rnn_cell,
        "lstm_cell": _lstm_cell,
        "gru_cell": _gru_cell,
        "softmax_cross_entropy_with_integer_labels": _label_cross_entropy,
        "weighted_softmax_cross_entropy_with_integer_labels": _weighted_label_cross_entropy,
        "nll": _nll,
    }
)
"""By the name in the contract; arrays in, an array or several out."""


def __getattr__(name: str) -> Callable[..., Any]:
    """NAME of every row."""
    if name not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    named = partial(_value, name)
    return update_wrapper(named, FUNCTIONS[name], assigned=(), updated=())  # the settings that it takes


def _value(name: str, *arrays: Array, **settings: Any) -> Any:
    return FUNCTIONS[name](*arrays, **settings)


# ----------------------------------------------------------------------------------------------- networks


def mlp(x: Array, params: Layers) -> Any:
    """One model: ReLU hidden layers, and a linear last one."""
    nodes: list[Node] = []
    arrays, entering = {"x": x}, "x"
    for k, (w, b) in enumerate(params):
        arrays |= {f"w{k}": w, f"b{k}": b}
        if nodes:
            nodes.append(Node("Relu", (entering,), (f"a{k}",)))
            entering = f"a{k}"
        nodes.append(Node("Gemm", (entering, f"w{k}", f"b{k}"), (f"z{k}",)))
        entering = f"z{k}"
    return _run(tuple(nodes), arrays)
