"""refnet: the correctness oracle for neural networks. Pure, typed, stable reference computations in NumPy."""

from collections.abc import Mapping
from types import MappingProxyType

from refnet import activations as _activations
from refnet import attention as _attention
from refnet import convolution as _convolution
from refnet import indexing as _indexing
from refnet import linear as _linear
from refnet import losses as _losses
from refnet import normalisation as _normalisation
from refnet import optimizers as _optimizers
from refnet import piecewise as _piecewise
from refnet import pooling as _pooling
from refnet import recurrent as _recurrent
from refnet import smooth as _smooth
from refnet import weighted_losses as _weighted_losses
from refnet.activations import *
from refnet.attention import *
from refnet.composition import (
    Apply,
    Mean,
    OverRows,
    Reshape,
    Residual,
    Sequential,
    Stage,
    StageGradients,
)
from refnet.convolution import *
from refnet.indexing import *
from refnet.linear import *
from refnet.losses import *
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
from refnet.normalisation import *
from refnet.op import Activation, ArgumentError, Array, Labels, MultiOp, Op, Operator
from refnet.optimizers import *
from refnet.piecewise import *
from refnet.pooling import *
from refnet.recurrent import *
from refnet.smooth import *
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
from refnet.unrolling import Unroll, Unrolled, UnrolledGradients
from refnet.weighted_losses import *

__version__ = "0.1.0"

_TABLES: tuple[tuple[Operator, ...], ...] = (
    _activations.OPS,
    _piecewise.OPS,
    _smooth.OPS,
    _linear.OPS,
    _normalisation.OPS,
    _convolution.OPS,
    _pooling.OPS,
    _indexing.OPS,
    _attention.OPS,
    _recurrent.OPS,
    _losses.OPS,
    _weighted_losses.OPS,
    _optimizers.OPS,
)

OPS: Mapping[str, Operator] = MappingProxyType({op.name: op for table in _TABLES for op in table})
"""Every operator by its name."""

__all__ = [
    "OPS",
    "Activation",
    "Apply",
    "ArgumentError",
    "Array",
    "EpochRecord",
    "Evaluation",
    "Head",
    "History",
    "Labels",
    "Layer",
    "Mean",
    "MultiOp",
    "Network",
    "Op",
    "Operator",
    "OverRows",
    "Params",
    "Reshape",
    "Residual",
    "Samples",
    "Scaling",
    "Sequential",
    "Split",
    "Stage",
    "StageGradients",
    "Unroll",
    "Unrolled",
    "UnrolledGradients",
    "collapse",
    "evaluate",
    "fit",
    "initialise",
    "load_network",
    "mlp",
    "mlp_gradients",
    "mlp_loss",
    "predict",
    "predict_probabilities",
    "run_epochs",
    "save_network",
    "sgd_epoch",
    "split",
    "standardise",
]
__all__ += _activations.__all__
__all__ += _piecewise.__all__
__all__ += _smooth.__all__
__all__ += _linear.__all__
__all__ += _normalisation.__all__
__all__ += _convolution.__all__
__all__ += _pooling.__all__
__all__ += _indexing.__all__
__all__ += _attention.__all__
__all__ += _recurrent.__all__
__all__ += _losses.__all__
__all__ += _weighted_losses.__all__
__all__ += _optimizers.__all__
