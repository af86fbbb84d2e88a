"""The test vectors of ONNX nodes, as calls of the contract: `onnx/backend/test/data/node` of the wheel.

1.22.0 is the last release whose wheel has them; later ones compute them where they run. Their outputs are
those of ONNX's reference implementation in NumPy, rounded to the format of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet import OPS
from specs import SPECS, Spec
from verify.arithmetic.bounds import value_bounds
from verify.arithmetic.certified import certify_each
from verify.arithmetic.formats import FORMATS, Format
from verify.conformance.findings import SEVERITY
from verify.conformance.judge import Judgement, judge

Array = npt.NDArray[Any]
Arrays = Sequence[Any]
"""The inputs of a node in order, None where one is left out."""
Attributes = Mapping[str, Any]


class NotOurs(Exception):
    """A vector of something that the contract does not have, with the reason."""


def _as_it_is(y: Array) -> Array:
    return y


class Call(NamedTuple):
    """The arguments and settings of the contract's function."""

    inputs: Sequence[Array]
    settings: Mapping[str, Any]
    outputs: Sequence[int] = (0,)
    """Which of the outputs of the node are the values."""
    read: Callable[[Array], Array] = _as_it_is
    """What of an output is the value, in its order; the shape is that of the value in any case."""


class Row(NamedTuple):
    """An operator of the contract, and how the inputs and attributes of an ONNX node are arguments of it."""

    op: str
    call: Callable[[Arrays, Attributes], Call]
    variant: str = ""
    """The convention, if ONNX has another one than the contract."""


# --------------------------------------------------------------------------- attributes as settings


def _plain(attributes: Attributes, **expected: Any) -> None:
    """What a node has to say for the contract to say the same.

    Raises:
        NotOurs: it says something else.
    """
    for name, value in expected.items():
        if attributes.get(name, value) != value:
            raise NotOurs(f"{name} = {attributes[name]}")


@dataclass(frozen=True, slots=True)
class Renamed:
    """Attributes that are settings of other names. What a node does not have is at the contract's default,
    which is that of ONNX too."""

    names: Mapping[str, str]

    def __call__(self, inputs: Arrays, attributes: Attributes) -> Call:
        for name, value in attributes.items():
            if name not in self.names:
                raise NotOurs(f"{name} = {value}")
        return Call(inputs, {self.names[name]: value for name, value in attributes.items()})


PLAIN = Renamed({})


def _log_sum_exp(inputs: Arrays, attributes: Attributes) -> Call:
    """Over some axes or all: moved to the end, where they are one."""
    x, *rest = inputs
    if not x.size:
        raise NotOurs("a row of nothing")
    axes = [int(axis) % x.ndim for axis in rest[0]] if rest and rest[0].size else list(range(x.ndim))
    last = np.moveaxis(x, axes, list(range(-len(axes), 0)))
    return Call([last.reshape(*last.shape[: x.ndim - len(axes)], -1)], {"axis": -1})


def _gemm(inputs: Arrays, attributes: Attributes) -> Call:
    x, w, *rest = inputs
    for factor in ("alpha", "beta"):
        if attributes.get(factor, 1.0) != 1.0:
            raise NotOurs(f"{factor} = {attributes[factor]}")
    x, w = x.T if attributes.get("transA") else x, w.T if attributes.get("transB") else w
    b = rest[0] if rest else np.zeros((), x.dtype)
    if b.ndim == 2 and len(b) > 1:
        raise NotOurs("a bias of its own for each row")
    return Call([x, w, np.broadcast_to(b.reshape(-1), w.shape[1:])], {})


def _prelu(inputs: Arrays, attributes: Attributes) -> Call:
    """A slope for each entry of the rows, or for each entry of all: then one example whose entries are the
    channels."""
    x, slope = inputs
    _plain(attributes)
    return Call([x.reshape(1, -1), np.broadcast_to(slope, x.shape).reshape(-1)], {})


def _product(inputs: Arrays, attributes: Attributes) -> Call:
    x, w = inputs
    return Call([x, w, np.zeros(w.shape[1:], x.dtype)], {})


def _hard_sigmoid(inputs: Arrays, attributes: Attributes) -> Call:
    for name, value in attributes.items():
        raise NotOurs(f"{name} = {value}")
    return Call(inputs, {})


def _swish(inputs: Arrays, attributes: Attributes) -> Call:
    _plain(attributes, alpha=1.0)
    return Call(inputs, {})


# --------------------------------------------------------------------------------------------- losses


def _cross_entropy(inputs: Arrays, attributes: Attributes) -> Call:
    """The classes are along axis 1."""
    z, labels, *weights = inputs
    if "ignore_index" in attributes:
        raise NotOurs(f"ignore_index = {attributes['ignore_index']}")
    if weights:
        raise NotOurs("weights of the classes")
    return Call([np.moveaxis(z, 1, -1), labels], {"reduction": attributes.get("reduction", "mean")})


def _weighted_cross_entropy(inputs: Arrays, attributes: Attributes) -> Call:
    z, labels, *weights = inputs
    settings = {"reduction": attributes.get("reduction", "mean")}
    if "ignore_index" in attributes:
        settings["ignored_label"] = attributes["ignore_index"]
    weight = weights[0] if weights else np.ones(z.shape[1], z.dtype)
    return Call([np.moveaxis(z, 1, -1), labels, weight], settings)


def _log_probabilities(inputs: Arrays, attributes: Attributes) -> Call:
    return Call(inputs[:1], {"axis": 1}, outputs=(1,))


# -------------------------------------------------------------------------------------------- attention


def _by_head(x: Array, heads: int) -> Array:
    return np.moveaxis(x.reshape(*x.shape[:2], heads, -1), 2, 1)


def _attention(inputs: Arrays, attributes: Attributes) -> Call:
    """Of a mask for each head, the first head of the first example."""
    _plain(attributes, softcap=0.0, softmax_precision=1)
    given: list[Any] = [*inputs, *[None] * (7 - len(inputs))]
    q, k, v, mask, past_k, past_v, lengths = given
    if mask is not None and mask.dtype != np.bool_:
        raise NotOurs("a mask that is added to the scores")
    if lengths is not None:
        raise NotOurs("as many keys as an input says")
    of_q, of_k = (attributes.get(f"{name}_num_heads", 0) for name in ("q", "kv"))
    flat = q.ndim == 3
    if flat:
        q, k, v = _by_head(q, of_q), _by_head(k, of_k), _by_head(v, of_k)
    if past_k is not None:
        k, v = np.concatenate([past_k, k], axis=2), np.concatenate([past_v, v], axis=2)
        _plain(attributes, is_causal=0)
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    settings = {"causal": bool(attributes.get("is_causal", 0)), "scale": attributes.get("scale")}
    if mask is None:
        mask = np.ones((q.shape[2], k.shape[2]), bool)
    if mask.ndim > 2:
        return Call([x[0, 0] for x in (q, k, v, mask)], settings, read=lambda y: y[0, 0])
    return Call([q, k, v, mask], settings, read=lambda y: _by_head(y, of_q) if flat else y)


def _rotary(inputs: Arrays, attributes: Attributes) -> Call:
    """Of the first example: each has angles of its own."""
    x, cos, sin, *positions = inputs
    if positions:
        cos, sin = cos[positions[0]], sin[positions[0]]
    heads = attributes.get("num_heads", 0)
    rotated = slice(2 * cos.shape[-1])  # the other features stay as they are

    def first(y: Array) -> Array:
        own: Array = (y if y.ndim == 4 else _by_head(y, heads))[0]
        return own[..., rotated]

    layout = "interleaved" if attributes.get("interleaved") else "half"
    return Call([first(x), cos[0], sin[0]], {"layout": layout}, read=first)


# ---------------------------------------------------------------------------------------- optimizers


def _momentum(inputs: Arrays, attributes: Attributes) -> Call:
    """Of the first parameter; the first gradient of all is not dampened."""
    rate, step, *tensors = inputs
    count = len(tensors) // 3
    dampening = 1.0 - attributes["beta"] if step > 0 else 0.0
    settings = {
        "learning_rate": float(rate),
        "momentum": attributes["alpha"],
        "dampening": dampening,
        "nesterov": attributes["mode"] == "nesterov",
        "weight_decay": attributes["norm_coefficient"],
    }
    return Call(tensors[::count], settings, outputs=(0, count))


# ------------------------------------------------------------------------------------- normalisation


def _of_rows(default: float) -> Callable[[Arrays, Attributes], Call]:
    """Over the axes from `axis` on, as one."""

    def call(inputs: Arrays, attributes: Attributes) -> Call:
        x, *scales = inputs
        shape = x.shape[: attributes.get("axis", -1) % x.ndim]
        settings = {"eps": attributes.get("epsilon", default)}
        return Call([x.reshape(*shape, -1), *(scale.reshape(-1) for scale in scales)], settings)

    return call


def _of_channels(inputs: Arrays, attributes: Attributes) -> Call:
    return Call(inputs, {"eps": attributes.get("epsilon", 1e-5)})


def _of_groups(inputs: Arrays, attributes: Attributes) -> Call:
    return Call(inputs, {"eps": attributes.get("epsilon", 1e-5), "groups": attributes["num_groups"]})


def _inference(inputs: Arrays, attributes: Attributes) -> Call:
    _plain(attributes, training_mode=0)
    return _of_channels(inputs, attributes)


def _training(inputs: Arrays, attributes: Attributes) -> Call:
    """Its momentum is the weight of what was before."""
    settings = {"eps": attributes.get("epsilon", 1e-5), "momentum": 1.0 - attributes.get("momentum", 0.9)}
    return Call(inputs, settings, outputs=(0, 1, 2))


# ------------------------------------------------------------------------------------ windows on images


def _windows(x: Array, attributes: Attributes) -> dict[str, Any]:
    """Stride and padding, the same on both sides.

    Raises:
        NotOurs: the image is none, or the padding is another.
    """
    if x.ndim != 4:
        raise NotOurs(f"{x.ndim - 2} axes of positions")
    _plain(attributes, auto_pad="NOTSET")
    before, after = (tuple(half) for half in np.split(np.asarray(attributes.get("pads", [0] * 4)), 2))
    if before != after:
        raise NotOurs(f"pads = {attributes['pads']}")
    return {"stride": tuple(attributes.get("strides", (1, 1))), "padding": tuple(map(int, before))}


def _convolution(inputs: Arrays, attributes: Attributes) -> Call:
    x, w, *bias = inputs
    settings = {
        **_windows(x, attributes),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }
    return Call([x, w, *(bias or [np.zeros(len(w), x.dtype)])], settings)


def _transposed_convolution(inputs: Arrays, attributes: Attributes) -> Call:
    x, w, *bias = inputs
    _plain(attributes, group=1, dilations=[1, 1], output_shape=None)
    settings = {
        **_windows(x, attributes),
        "output_padding": tuple(attributes.get("output_padding", (0, 0))),
    }
    return Call([x, w, *(bias or [np.zeros(w.shape[1], x.dtype)])], settings)


def _pooling(inputs: Arrays, attributes: Attributes) -> Call:
    (x,) = inputs
    if x.dtype.kind != "f":
        raise NotOurs(f"an image of {x.dtype}")
    _plain(attributes, dilations=[1, 1])
    windows, size = _windows(x, attributes), tuple(attributes["kernel_shape"])
    if any(2 * padding > length for padding, length in zip(windows["padding"], size, strict=True)):
        raise NotOurs(f"pads = {attributes['pads']}, more than half a window")
    settings = {
        **windows,
        "size": size,
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }
    return Call([x], settings)


def _mean_pooling(inputs: Arrays, attributes: Attributes) -> Call:
    call = _pooling(inputs, attributes)
    included = bool(attributes.get("count_include_pad", 0))
    return call._replace(settings={**call.settings, "count_include_pad": included})


# ------------------------------------------------------------------------------- tables and sequences


def _gather(inputs: Arrays, attributes: Attributes) -> Call:
    """Along any axis: moved to the front, and what is behind it is one row."""
    x, ids = inputs
    if (ids < 0).any():
        raise NotOurs("numbers that count from the end")
    axis = attributes.get("axis", 0) % x.ndim
    places = range(axis, axis + ids.ndim)
    table = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    return Call([table, ids], {}, read=lambda y: np.moveaxis(y, places, range(ids.ndim)))


def _one_hot(inputs: Arrays, attributes: Attributes) -> Call:
    """Ids that count from the end are counted from 0, and the classes moved to the last axis."""
    ids, depth, values = inputs
    classes, axis = int(depth.item()), attributes.get("axis", -1)
    counted = np.where(ids < 0, ids + classes, ids).astype(np.int64)
    if values.dtype.kind != "f":
        raise NotOurs(f"values of {values.dtype}")
    if not ((counted >= 0) & (counted < classes)).all():
        raise NotOurs("an id that is no class")
    return Call([counted, values], {"classes": classes}, read=lambda y: np.moveaxis(y, axis, -1))


def _step_of(inputs: Arrays, attributes: Attributes, states: int) -> Call:
    """The one step of a sequence of one, from states of 0: x, the states, and the weights as (inputs,
    outputs). The biases of inputs and states, if there are any, are what is left."""
    _plain(attributes, layout=0, linear_before_reset=0)
    x, w_x, w_h, *others = inputs
    if len(x) > 1:
        raise NotOurs("a sequence of several steps")
    if len(others) > 1:
        raise NotOurs("a state to start from, or peepholes")
    size = w_h.shape[-1]
    b_x, b_h = np.split(others[0][0] if others else np.zeros(2 * w_x.shape[1], x.dtype), 2)
    start = [np.zeros((x.shape[1], size), x.dtype)] * states
    return Call([x[0], *start, w_x[0].T, w_h[0].T, b_x, b_h], {}, outputs=(1,))


def _cell(states: int) -> Callable[[Arrays, Attributes], Call]:
    """A cell with one bias, which is the sum of the two."""

    def call(inputs: Arrays, attributes: Attributes) -> Call:
        step = _step_of(inputs, attributes, states)
        *others, b_x, b_h = step.inputs
        if b_h.any():
            raise NotOurs("two biases, whose sum is rounded")
        return step._replace(inputs=[*others, b_x])

    return call


def _gru(inputs: Arrays, attributes: Attributes) -> Call:
    return _step_of(inputs, attributes, 1)


ROWS: Mapping[str, Row] = {
    "test_identity": Row("identity", PLAIN),
    "test_prelu_*": Row("prelu", _prelu),
    "test_relu": Row("relu", PLAIN),
    "test_sigmoid*": Row("sigmoid", PLAIN),
    "test_tanh*": Row("tanh", PLAIN),
    "test_softmax_*": Row("softmax", Renamed({"axis": "axis"})),
    "test_logsoftmax_*": Row("log_softmax", Renamed({"axis": "axis"})),
    "test_reduce_log_sum_exp_*": Row("logsumexp", _log_sum_exp),
    "test_gemm_*": Row("linear", _gemm),
    "test_matmul_2d": Row("linear", _product),
    "test_sce_*": Row("softmax_cross_entropy_with_integer_labels", _cross_entropy),
    "test_sce*_*": Row("weighted_softmax_cross_entropy_with_integer_labels", _weighted_cross_entropy),
    "test_sce_*_log_prob": Row("log_softmax", _log_probabilities),
    "test_nllloss_*": Row("nll", _cross_entropy),
    "test_leakyrelu*": Row("leaky_relu", Renamed({"alpha": "slope"})),
    "test_elu*": Row("elu", Renamed({"alpha": "alpha"})),
    "test_celu": Row("celu", Renamed({"alpha": "alpha"})),
    "test_selu_default": Row("selu", PLAIN),
    "test_gelu_*": Row("gelu", Renamed({"approximate": "approximate"})),
    "test_mish": Row("mish", PLAIN),
    "test_softplus*": Row("softplus", PLAIN),
    "test_softsign*": Row("softsign", PLAIN),
    "test_hardsigmoid*": Row("hard_sigmoid", _hard_sigmoid, "slope-one-fifth"),
    "test_hardswish": Row("hard_swish", PLAIN),
    "test_swish": Row("silu", _swish),
    "test_attention_*": Row("scaled_dot_product_attention", _attention),
    "test_rotary_embedding*": Row("rotary_embedding", _rotary),
    "test_*momentum*": Row("momentum_step", _momentum),
    "test_layer_normalization_*": Row("layer_norm", _of_rows(1e-5)),
    "test_rms_normalization_*": Row("rms_norm", _of_rows(1e-5)),
    "test_batchnorm_*": Row("batch_norm_inference", _inference),
    "test_batchnorm_*_training_mode": Row("batch_norm_training", _training, "running-variance-biased"),
    "test_group_normalization_*": Row("group_norm", _of_groups),
    "test_instancenorm_*": Row("instance_norm", _of_channels),
    "test_basic_conv_*": Row("conv2d", _convolution),
    "test_conv_with_*": Row("conv2d", _convolution),
    "test_convtranspose*": Row("conv_transpose2d", _transposed_convolution),
    "test_maxpool_*": Row("max_pool2d", _pooling),
    "test_averagepool_*": Row("avg_pool2d", _mean_pooling),
    "test_globalmaxpool*": Row("global_max_pool2d", PLAIN),
    "test_globalaveragepool*": Row("global_avg_pool2d", PLAIN),
    "test_gather_[0-9n]*": Row("embedding", _gather),
    "test_onehot_*": Row("one_hot", _one_hot),
    "test_simple_rnn_*": Row("rnn_cell", _cell(1)),
    "test_lstm_*": Row("lstm_cell", _cell(2), "gates-input-output-forget-candidate"),
    "test_gru_*": Row("gru_cell", _gru, "gates-update-reset-candidate-and-reset-before"),
}
"""By the pattern of the names of the vectors.

Not here: Selu with factors of its own; MatMul of stacks; Adam and Adagrad,
whose vectors have a regularised gradient that is rounded before the step, and Adam a step 0, which corrects
nothing; Dropout, which draws its mask; and the vectors `_expanded`, the same numbers for the body of
a function. Of NegativeLogLikelihoodLoss weights and ignored labels are not here: refnet has them for logits.
A row is of one operator, so that "test_sce_*" is there in two patterns.
"""

_CANCELLED = "computed as exp(x) - 1, which cancels near 0"
INACCURATE: Mapping[str, str] = {
    "test_elu": f"{_CANCELLED}: 30 ulp off at x = -0.0282",
    "test_elu_default": f"{_CANCELLED}: 30 ulp off at x = -0.0282",
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "written by hand, with four digits",
    "test_selu_default": f"{_CANCELLED}: 26 ulp off at x = -0.0282",
}
"""Vectors that are no model for an implementation: beyond what any rounding of the right form explains."""


# ------------------------------------------------------------------------------------------- the vectors


class Vector(NamedTuple):
    name: str
    inputs: Arrays
    attributes: Attributes
    outputs: Arrays


def vectors(pattern: str) -> Iterator[Vector]:
    """The vectors whose names match.

    Raises:
        FileNotFoundError: this release of onnx has none.
    """
    import onnx

    root = Path(onnx.__file__).parent / "backend/test/data/node"
    if not root.is_dir():
        raise FileNotFoundError(f"onnx {onnx.__version__} has no {root}: pip install onnx==1.22.0")
    for folder in sorted(root.glob(pattern)):
        if "_expanded" in folder.name:
            continue
        graph = onnx.load(folder / "model.onnx").graph
        (node,) = graph.node
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        yield Vector(
            folder.name,
            _in_order(onnx, folder, "input", [item.name for item in graph.input], node.input),
            {
                name: value.decode() if isinstance(value, bytes) else value
                for name, value in attributes.items()
            },
            _in_order(onnx, folder, "output", [item.name for item in graph.output], node.output),
        )


def _in_order(onnx: Any, folder: Path, what: str, stored: Sequence[str], wanted: Sequence[str]) -> Arrays:
    """The arrays of a graph in the order of its node, None where that leaves one out."""
    data = folder / "test_data_set_0"
    arrays = {name: _array(onnx, data / f"{what}_{k}.pb") for k, name in enumerate(stored)}
    return [arrays.get(name) for name in wanted]


def _array(onnx: Any, path: Path) -> Array:
    return np.asarray(onnx.numpy_helper.to_array(onnx.load_tensor(path)))


def judged(row: Row, vector: Vector) -> Judgement:
    """The worst output of a vector, judged by the certified value and the derived bound.

    Raises:
        NotOurs: the vector is of something else than the operator.
    """
    inputs, settings, outputs, read = row.call(vector.inputs, vector.attributes)
    spec, fmt = _in_convention(row), _format_of(inputs)
    settings = {**spec.defaults, **settings}
    truths = certify_each(spec.definition, inputs, fmt, settings)
    bounds = value_bounds(OPS[row.op], spec, inputs, settings, fmt)
    got = [vector.outputs[k] for k in outputs]
    each = [
        judge(read(y).reshape(truth.nearest.shape), truth, bound, fmt)
        for y, truth, bound in zip(got, truths, bounds, strict=False)  # not all outputs have a vector
    ]
    return max(each, key=lambda found: (SEVERITY.index(found.verdict), found.ratio))


def _format_of(inputs: Arrays) -> Format:
    """The format of the floating inputs."""
    return next(FORMATS[x.dtype.name] for x in inputs if x.dtype.name in FORMATS)


def _in_convention(row: Row) -> Spec:
    """The specification with the definition and the forms of the row's variant."""
    spec = SPECS[row.op]
    for variant in spec.variants:
        if variant.name == row.variant:
            definition = variant.definition or spec.definition
            return replace(spec, definition=definition, forms=(*spec.forms, *variant.forms))
    assert not row.variant, f"{row.op} has no variant {row.variant}"
    return spec
