"""The multilayer perceptron: a composition of the operators, and of their backwards in reverse.

    x -> linear -> activation -> linear -> activation -> ... -> linear -> z

The first layer has as many inputs as a sample has features, the last as many outputs as there are classes,
or one for two classes. `z` holds logits: a softmax or a sigmoid, the head, turns them into probabilities,
and cross-entropy compares these with the labels. `forward` and `backward` trust their arguments and accept
any array-like that speaks NumPy's protocols; the other functions validate once, at the door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.activations import relu, sigmoid, softmax
from refnet.arguments import (
    validate_activation,
    validate_choice,
    validate_count,
    validate_generator,
    validate_head,
    validate_labels,
    validate_network,
    validate_params,
)
from refnet.linear import LinearResiduals, linear, linear_parameter_gradients
from refnet.losses import (
    binary_cross_entropy_with_logits,
    label_loss_residuals,
    label_loss_slope,
    softmax_cross_entropy_with_integer_labels,
)
from refnet.op import FLOATS, Activation, ArgumentError, Array, Labels

Head = Literal["softmax", "sigmoid"]
Scheme = Literal["he", "glorot", "zeros"]


class Layer(NamedTuple):
    """The parameters of one layer, or their gradients."""

    w: Array
    """(k, m): from k inputs to m neurons."""
    b: Array
    """(m,): one bias for each neuron."""


Params = Sequence[tuple[Array, Array]]
"""The layers of a network, first to last: each a `Layer`, or any pair (w, b)."""

# ------------------------------------------------------------------------------------- what is a network


@dataclass(frozen=True, slots=True)
class Network:
    """The form of a network: everything but the values of its parameters.

    Raises:
        ArgumentError: the sizes, the activation or the head are not those of a network.
    """

    sizes: tuple[int, ...]
    """The number of features, the neurons of each hidden layer, the number of outputs."""
    activation: Activation = relu
    head: Head = "softmax"

    def __post_init__(self) -> None:
        sizes: object = self.sizes
        if not isinstance(sizes, tuple) or len(sizes) < 2:  # a list could change afterwards
            raise ArgumentError(
                "Network",
                "sizes",
                repr(self.sizes),
                "a tuple of the number of features, of the neurons of each hidden layer, and of outputs",
                "For one hidden layer write (64, 32, 10).",
            )
        for position, size in enumerate(self.sizes):
            validate_count("Network", f"sizes[{position}]", size)
        validate_activation("Network", self.activation)
        validate_head("Network", self.head, self.sizes[-1])
        if self.head == "softmax" and self.sizes[-1] < 2:
            raise ArgumentError(
                "Network",
                "sizes[-1]",
                "1 with the softmax head",
                "one output for each of at least two classes",
                'For two classes and one output use head="sigmoid".',
            )

    @classmethod
    def for_data(
        cls, features: int, classes: int, *, hidden: Sequence[int] = (), activation: Activation = relu
    ) -> Network:
        """The network for samples of so many features and classes.

        Two classes have one output under a sigmoid, more have one output each under a softmax.

        Raises:
            ArgumentError: a number is not one of at least 1, `hidden` is not a list or tuple of them.
        """
        validate_count("Network.for_data", "features", features)
        validate_count("Network.for_data", "classes", classes, least=2)
        if not isinstance(hidden, list | tuple):
            raise ArgumentError(
                "Network.for_data",
                "hidden",
                repr(hidden),
                "a tuple of the neurons of each hidden layer",
                "For one hidden layer write hidden=(32,).",
            )
        if classes == 2:
            return cls((features, *hidden, 1), activation, "sigmoid")
        return cls((features, *hidden, classes), activation, "softmax")

    @property
    def classes(self) -> int:
        """How many classes the outputs stand for."""
        return 2 if self.head == "sigmoid" else self.sizes[-1]


def validate_form(op: str, network: object) -> None:
    """Refuse what is not a `Network`."""
    if not isinstance(network, Network):
        raise ArgumentError(
            op,
            "network",
            f"a {type(network).__name__}",
            "a refnet.Network",
            "Make one with Network((64, 32, 10)) or Network.for_data(64, 10, hidden=(32,)).",
        )


def _validate_dtype(op: str, dtype: npt.DTypeLike) -> None:
    try:
        name = np.dtype(dtype).name
    except Exception:  # a TypeError for most of what is none, and whatever else NumPy meets in it
        name = repr(dtype)
    if name not in FLOATS:
        remedy = "Use dtype=np.float64; NumPy knows bfloat16 once ml_dtypes is imported."
        raise ArgumentError(op, "dtype", name, f"one of {', '.join(FLOATS)}", remedy)


def _he(rng: np.random.Generator, k: int, m: int) -> Array:
    """Normal with variance 2 / k: keeps the variance of ReLU layers from growing or fading with depth.

    He, Zhang, Ren, Sun, Delving Deep into Rectifiers (ICCV 2015, arXiv:1502.01852), section 2.2, eq. 10.
    """
    w: Array = rng.standard_normal((k, m)) * np.sqrt(2.0 / k)
    return w


def _glorot(rng: np.random.Generator, k: int, m: int) -> Array:
    """Uniform in [-r, r] with r = sqrt(6 / (k + m)): a compromise between the variances of the forward and
    the backward pass, for activations of slope 1 at 0.

    Glorot, Bengio, Understanding the difficulty of training deep feedforward neural networks (AISTATS
    2010), section 4.2.1, equation 16.
    """
    limit = np.sqrt(6.0 / (k + m))
    return rng.uniform(-limit, limit, (k, m))


def _zeros(rng: np.random.Generator, k: int, m: int) -> Array:
    """All 0: right for a network of one layer; hidden neurons that start equal stay equal for ever."""
    return np.zeros((k, m))


SCHEMES: Mapping[str, Callable[[np.random.Generator, int, int], Array]] = MappingProxyType(
    {"he": _he, "glorot": _glorot, "zeros": _zeros}
)
"""How the weights (k, m) of a layer begin. Biases begin at 0."""


def initialise(
    network: Network, rng: np.random.Generator, *, scheme: Scheme = "he", dtype: npt.DTypeLike = np.float64
) -> list[Layer]:
    """Draw the first parameters of a network; biases are 0.

    "he": w ~ Normal(0, 2 / k), for ReLU (He et al. 2015, arXiv:1502.01852, eq. 10).
    "glorot": w ~ Uniform(-r, r), r = sqrt(6 / (k + m)), for tanh (Glorot and Bengio 2010, eq. 16).
    "zeros": w = 0.
    Drawn in float64 and rounded, so a seed gives the same network in every dtype.

    Raises:
        ArgumentError: network is not a Network, rng is not a Generator, the scheme or the dtype is unknown.
    """
    validate_form("initialise", network)
    validate_generator("initialise", rng)
    validate_choice("initialise", "scheme", scheme, SCHEMES, 'Use "he" for ReLU.')
    _validate_dtype("initialise", dtype)
    kind = np.dtype(dtype)
    draw, sizes = SCHEMES[scheme], network.sizes
    return [Layer(draw(rng, k, m).astype(kind), np.zeros(m, kind)) for k, m in pairwise(sizes)]


# ---------------------------------------------------------------------------------- forward and backward


class NetworkResiduals(NamedTuple):
    """What the operators of a network kept, first to last."""

    layers: list[LinearResiduals]
    hidden: list[tuple[object, ...]]
    """The residuals of the activations, one fewer than there are layers."""
    activation: Activation


def forward(x: Array, params: Params, *, activation: Activation = relu) -> tuple[Array, NetworkResiduals]:
    """z = the logits (n, c) of the samples x (n, k)."""
    layers: list[LinearResiduals] = []
    hidden: list[tuple[object, ...]] = []
    activate = activation.forward
    last = len(params) - 1
    for position, (w, b) in enumerate(params):
        x, kept = linear.forward(x, w, b)
        layers.append(kept)
        if position < last:
            x, residuals = activate(x)
            hidden.append(residuals)
    return x, NetworkResiduals(layers, hidden, activation)


def backward(residuals: NetworkResiduals, dz: Array) -> list[Layer]:
    """The gradients of sum(dz * z) for every weight and bias, by the chain rule from the last layer to the
    first: through a layer by `linear.backward`, through an activation by its own. The samples have no
    gradient, so the first layer does without its dx, a third of the arithmetic of a wide first layer.
    """
    layers, hidden, activation = residuals
    gradients: list[Layer] = []
    for position in range(len(layers) - 1, 0, -1):
        dx, dw, db = linear.backward(layers[position], dz)
        gradients.append(Layer(dw, db))
        (dz,) = activation.backward(hidden[position - 1], dx)
    gradients.append(Layer(*linear_parameter_gradients(layers[0], dz)))
    gradients.reverse()
    return gradients


# -------------------------------------------------------------------------------------------------- heads


class HeadFunctions(NamedTuple):
    """How the logits (n, c) of a network are read, and compared with integer labels (n,)."""

    loss: Callable[[Array, Labels], Array]
    """The mean loss."""
    slope: Callable[[Array, Labels], Array]
    """The gradient of the mean loss for the logits."""
    probabilities: Callable[[Array], Array]
    """(n, classes)."""
    decide: Callable[[Array], Labels]
    """The class of each sample; the first one of a tie."""


def _softmax_loss(z: Array, labels: Labels) -> Array:
    return softmax_cross_entropy_with_integer_labels.forward(z, labels)[0]


def _softmax_slope(z: Array, labels: Labels) -> Array:
    """The backward of the loss at dy = 1, bit for bit. The value of the loss is not computed."""
    dz = label_loss_slope(label_loss_residuals(z, labels).probabilities, labels)
    if len(dz) > 1:
        dz *= np.ones((), z.dtype) / len(dz)
    return dz


def _softmax_probabilities(z: Array) -> Array:
    return softmax.forward(z)[0]


def _largest(z: Array) -> Labels:
    """The class of the largest logit, which has the largest probability; even where both round to 1."""
    largest: Labels = z.argmax(-1)
    return largest


def _targets(z: Array, labels: Labels) -> Array:
    """The labels as the targets (n, 1) of a sigmoid."""
    return labels[:, None].astype(z.dtype)


def _sigmoid_loss(z: Array, labels: Labels) -> Array:
    return binary_cross_entropy_with_logits.forward(z, _targets(z, labels))[0]


def _sigmoid_slope(z: Array, labels: Labels) -> Array:
    _, residuals = binary_cross_entropy_with_logits.forward(z, _targets(z, labels))
    return binary_cross_entropy_with_logits.backward(residuals, np.ones((), z.dtype)).z


def _sigmoid_probabilities(z: Array) -> Array:
    """Both classes: sigmoid(-z) keeps the digits that 1 - sigmoid(z) loses (all of them at z = 40)."""
    return np.concatenate((sigmoid.forward(-z)[0], sigmoid.forward(z)[0]), axis=-1)


def _above_half(z: Array) -> Labels:
    """1 where the probability is above 0.5, that is z > 0; at z = 1e-17 sigmoid(z) rounds to 0.5."""
    return (z[:, 0] > 0.0).astype(np.intp)


HEADS: Mapping[str, HeadFunctions] = MappingProxyType(
    {
        "softmax": HeadFunctions(_softmax_loss, _softmax_slope, _softmax_probabilities, _largest),
        "sigmoid": HeadFunctions(_sigmoid_loss, _sigmoid_slope, _sigmoid_probabilities, _above_half),
    }
)


def rounded(layers: Params, dtype: np.dtype[np.floating]) -> list[Layer]:
    """The layers in the dtype of the caller: float16 and bfloat16 were computed in float32."""
    return [Layer(w.astype(dtype, copy=False), b.astype(dtype, copy=False)) for w, b in layers]


# ------------------------------------------------------------------------------------ the public functions


def mlp(x: Array, params: Params, *, activation: Activation = relu) -> Array:
    """Return the logits z (n, c) of the samples x (n, k).

    The activation stands between the layers, none after the last. float16 and bfloat16 are computed in
    float32 and rounded once.

    Raises:
        ArgumentError: x, params or activation do not fit one another.
    """
    x, layers, dtype = validate_network("mlp", x, params, activation)
    with np.errstate(all="ignore"):
        z, _ = forward(x, layers, activation=activation)
        return z.astype(dtype, copy=False)


def mlp_loss(
    params: Params, x: Array, labels: Labels, *, activation: Activation = relu, head: Head = "softmax"
) -> Array:
    """Return the mean cross-entropy of the samples, a 0-d array.

    head="softmax": softmax_cross_entropy_with_integer_labels(z, labels), labels in [0, c).
    head="sigmoid": binary_cross_entropy_with_logits(z, labels) of the one output, labels in {0, 1}.

    Raises:
        ArgumentError: an argument does not fit the others, a label is out of range, there is no sample.
    """
    x, layers, dtype = validate_network("mlp_loss", x, params, activation)
    validate_labels("mlp_loss", labels, x, layers, head)
    with np.errstate(all="ignore"):
        z, _ = forward(x, layers, activation=activation)
        return np.asarray(HEADS[head].loss(z, labels), dtype=dtype)


def mlp_gradients(
    params: Params, x: Array, labels: Labels, *, activation: Activation = relu, head: Head = "softmax"
) -> list[Layer]:
    """Return the gradients of `mlp_loss` for every weight and bias, in the form of the parameters.

    Raises:
        ArgumentError: an argument does not fit the others, a label is out of range, there is no sample.
    """
    x, layers, dtype = validate_network("mlp_gradients", x, params, activation)
    validate_labels("mlp_gradients", labels, x, layers, head)
    with np.errstate(all="ignore"):
        z, residuals = forward(x, layers, activation=activation)
        return rounded(backward(residuals, HEADS[head].slope(z, labels)), dtype)


def predict_probabilities(
    x: Array, params: Params, *, activation: Activation = relu, head: Head = "softmax"
) -> Array:
    """Return the probability of each class for each sample, (n, classes): two columns under a sigmoid.

    Raises:
        ArgumentError: an argument does not fit the others.
    """
    x, layers, dtype = validate_network("predict_probabilities", x, params, activation)
    validate_head("predict_probabilities", head, layers[-1][1].size)
    with np.errstate(all="ignore"):
        z, _ = forward(x, layers, activation=activation)
        return HEADS[head].probabilities(z).astype(dtype, copy=False)


def predict(x: Array, params: Params, *, activation: Activation = relu, head: Head = "softmax") -> Labels:
    """Return the class of each sample: the most probable one, the first of a tie.

    For two classes under a sigmoid that is 1 above the probability 0.5.

    Raises:
        ArgumentError: an argument does not fit the others, or a logit is NaN: it has no largest.
    """
    x, layers, _ = validate_network("predict", x, params, activation)
    validate_head("predict", head, layers[-1][1].size)
    with np.errstate(all="ignore"):
        z, _ = forward(x, layers, activation=activation)
    lost: npt.NDArray[np.bool_] = np.logical_or.reduce(np.isnan(z), axis=-1)
    if lost.any():
        raise ArgumentError(
            "predict",
            "the logits",
            f"NaN for {int(lost.sum())} of {len(lost)} samples, the first of them row {int(lost.argmax())}",
            "numbers",
            "Look for a NaN in x or in params: training with too large a learning rate ends there.",
        )
    return HEADS[head].decide(z)


def collapse(params: Params) -> Layer:
    """Return the one affine map that a network without activations equals, at any depth.

    (x W1 + b1) W2 + b2 = x (W1 W2) + (b1 W2 + b2), and so on, layer by layer.

    Raises:
        ArgumentError: params are not layers that chain.
    """
    layers, dtype = validate_params("collapse", params)
    (w, b), *rest = layers
    with np.errstate(all="ignore"):
        for next_w, next_b in rest:
            w, b = w @ next_w, b @ next_w + next_b
        return Layer(w.astype(dtype), b.astype(dtype))
