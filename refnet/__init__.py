"""refnet: the correctness oracle for neural networks. Pure, typed, stable reference computations in NumPy."""

from collections.abc import Mapping
from types import MappingProxyType

from refnet import activations as _activations
from refnet import linear as _linear
from refnet import losses as _losses
from refnet import optimizers as _optimizers
from refnet.activations import identity, log_softmax, logsumexp, relu, sigmoid, softmax, tanh
from refnet.linear import linear
from refnet.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    categorical_cross_entropy,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mae,
    mse,
    nll,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from refnet.network import (
    Head,
    Layer,
    Network,
    Params,
    collapse,
    initialise,
    mlp,
    mlp_gradients,
    mlp_loss,
    predict,
    predict_probabilities,
)
from refnet.op import ArgumentError, Array, Labels, Op, Operator
from refnet.optimizers import sgd_step
from refnet.storage import load_network, save_network
from refnet.training import (
    EpochRecord,
    Evaluation,
    History,
    Samples,
    Scaling,
    Split,
    evaluate,
    fit,
    run_epochs,
    sgd_epoch,
    split,
    standardise,
)

__version__ = "0.1.0"

_TABLES: tuple[tuple[Operator, ...], ...] = (_activations.OPS, _linear.OPS, _losses.OPS, _optimizers.OPS)

OPS: Mapping[str, Operator] = MappingProxyType({op.name: op for table in _TABLES for op in table})
"""Every operator by its name."""

__all__ = [
    "OPS",
    "ArgumentError",
    "Array",
    "EpochRecord",
    "Evaluation",
    "Head",
    "History",
    "Labels",
    "Layer",
    "Network",
    "Op",
    "Operator",
    "Params",
    "Samples",
    "Scaling",
    "Split",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "collapse",
    "evaluate",
    "fit",
    "hinge",
    "huber",
    "identity",
    "initialise",
    "kl_divergence",
    "linear",
    "load_network",
    "log_cosh",
    "log_softmax",
    "logsumexp",
    "mae",
    "mlp",
    "mlp_gradients",
    "mlp_loss",
    "mse",
    "nll",
    "predict",
    "predict_probabilities",
    "relu",
    "run_epochs",
    "save_network",
    "sgd_epoch",
    "sgd_step",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "split",
    "standardise",
    "tanh",
]
