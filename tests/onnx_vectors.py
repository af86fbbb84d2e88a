"""The test vectors of ONNX nodes, as calls of the contract: `onnx/backend/test/data/node` of the wheel.

1.22.0 is the last release whose wheel has them; later ones compute them where they run. Their outputs are
those of ONNX's reference implementation in NumPy, rounded to the format of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet import OPS
from specs import SPECS
from verify.arithmetic.bounds import value_bound
from verify.arithmetic.certified import certify
from verify.arithmetic.formats import FORMATS
from verify.conformance.judge import Judgement, judge

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]


class NotOurs(Exception):
    """A vector of something that the contract does not have, with the reason."""


class Call(NamedTuple):
    """The arguments and settings of the contract's function."""

    inputs: Sequence[Array]
    settings: Mapping[str, Any]
    output: int = 0
    """Which of the outputs of the node is the value."""


class Row(NamedTuple):
    """An operator of the contract, and how the inputs and attributes of an ONNX node are arguments of it."""

    op: str
    call: Callable[[Sequence[Array], Attributes], Call]


# --------------------------------------------------------------------------- attributes as settings


@dataclass(frozen=True, slots=True)
class Renamed:
    """Attributes that are settings of other names. What a node does not have is at the contract's default,
    which is that of ONNX too."""

    names: Mapping[str, str]

    def __call__(self, inputs: Sequence[Array], attributes: Attributes) -> Call:
        for name, value in attributes.items():
            if name not in self.names:
                raise NotOurs(f"{name} = {value}")
        return Call(inputs, {self.names[name]: value for name, value in attributes.items()})


PLAIN = Renamed({})


def _log_sum_exp(inputs: Sequence[Array], attributes: Attributes) -> Call:
    """Over some axes or all: moved to the end, where they are one."""
    x, *rest = inputs
    if not x.size:
        raise NotOurs("a row of nothing")
    axes = [int(axis) % x.ndim for axis in rest[0]] if rest and rest[0].size else list(range(x.ndim))
    last = np.moveaxis(x, axes, list(range(-len(axes), 0)))
    return Call([last.reshape(*last.shape[: x.ndim - len(axes)], -1)], {"axis": -1})


def _gemm(inputs: Sequence[Array], attributes: Attributes) -> Call:
    x, w, *rest = inputs
    for factor in ("alpha", "beta"):
        if attributes.get(factor, 1.0) != 1.0:
            raise NotOurs(f"{factor} = {attributes[factor]}")
    x, w = x.T if attributes.get("transA") else x, w.T if attributes.get("transB") else w
    b = rest[0] if rest else np.zeros((), x.dtype)
    if b.ndim == 2 and len(b) > 1:
        raise NotOurs("a bias of its own for each row")
    return Call([x, w, np.broadcast_to(b.reshape(-1), w.shape[1:])], {})


def _product(inputs: Sequence[Array], attributes: Attributes) -> Call:
    x, w = inputs
    return Call([x, w, np.zeros(w.shape[1:], x.dtype)], {})


def _cross_entropy(inputs: Sequence[Array], attributes: Attributes) -> Call:
    """The classes are along axis 1."""
    z, labels, *weights = inputs
    if "ignore_index" in attributes:
        raise NotOurs(f"ignore_index = {attributes['ignore_index']}")
    if weights:
        raise NotOurs("weights of the classes")
    return Call([np.moveaxis(z, 1, -1), labels], {"reduction": attributes.get("reduction", "mean")})


def _log_probabilities(inputs: Sequence[Array], attributes: Attributes) -> Call:
    return Call(inputs[:1], {"axis": 1}, output=1)


ROWS: Mapping[str, Row] = {
    "test_identity": Row("identity", PLAIN),
    "test_relu": Row("relu", PLAIN),
    "test_sigmoid*": Row("sigmoid", PLAIN),
    "test_tanh*": Row("tanh", PLAIN),
    "test_softmax_*": Row("softmax", Renamed({"axis": "axis"})),
    "test_logsoftmax_*": Row("log_softmax", Renamed({"axis": "axis"})),
    "test_reduce_log_sum_exp_*": Row("logsumexp", _log_sum_exp),
    "test_gemm_*": Row("linear", _gemm),
    "test_matmul_2d": Row("linear", _product),
    "test_sce_*": Row("softmax_cross_entropy_with_integer_labels", _cross_entropy),
    "test_sce_*_log_prob": Row("log_softmax", _log_probabilities),
    "test_leakyrelu*": Row("leaky_relu", Renamed({"alpha": "slope"})),
    "test_elu*": Row("elu", Renamed({"alpha": "alpha"})),
    "test_celu": Row("celu", Renamed({"alpha": "alpha"})),
    "test_selu_default": Row("selu", PLAIN),
    "test_gelu_*": Row("gelu", Renamed({"approximate": "approximate"})),
    "test_mish": Row("mish", PLAIN),
    "test_softplus*": Row("softplus", PLAIN),
    "test_softsign*": Row("softsign", PLAIN),
    "test_hardswish": Row("hard_swish", PLAIN),
}
"""By the pattern of the names of the vectors. Rows of operators that refnet does not have are left out.

Not here: HardSigmoid, whose slope is 1/5 and not 1/6; Selu with factors of its own; MatMul of stacks;
NegativeLogLikelihoodLoss; and the vectors `_expanded`, the same numbers for the body of a function.
"""


def rows() -> Mapping[str, Row]:
    return {pattern: row for pattern, row in ROWS.items() if row.op in OPS}


# ------------------------------------------------------------------------------------------- the vectors


class Vector(NamedTuple):
    name: str
    inputs: Sequence[Array]
    attributes: Attributes
    outputs: Sequence[Array]


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
        (node,) = onnx.load(folder / "model.onnx").graph.node
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        yield Vector(
            folder.name,
            [_array(onnx, path) for path in _numbered(folder, "input")],
            {
                name: value.decode() if isinstance(value, bytes) else value
                for name, value in attributes.items()
            },
            [_array(onnx, path) for path in _numbered(folder, "output")],
        )


def _numbered(folder: Path, what: str) -> list[Path]:
    data = folder / "test_data_set_0"
    return [data / f"{what}_{k}.pb" for k in range(len(list(data.glob(f"{what}_*.pb"))))]


def _array(onnx: Any, path: Path) -> Array:
    return np.asarray(onnx.numpy_helper.to_array(onnx.load_tensor(path)))


def judged(row: Row, vector: Vector) -> Judgement:
    """The output of a vector, judged by the certified value and the derived bound.

    Raises:
        NotOurs: the vector is of something else than the operator.
    """
    inputs, settings, output = row.call(vector.inputs, vector.attributes)
    spec, fmt = SPECS[row.op], FORMATS[inputs[0].dtype.name]
    settings = {**spec.defaults, **settings}
    truth = certify(spec.definition, inputs, fmt, settings)
    got = vector.outputs[output].reshape(truth.nearest.shape)
    return judge(got, truth, value_bound(OPS[row.op], spec, inputs, settings, fmt), fmt)
