"""The multilayer perceptron: what it is. ReLU hidden layers, a linear last layer, softmax cross-entropy."""

from __future__ import annotations

from typing import Any

from specs.activations import SPECS as ACTIVATIONS
from specs.linear import SPECS as LINEAR
from specs.losses import SPECS as LOSSES

_linear = LINEAR[0].definition
_relu = next(spec.definition for spec in ACTIVATIONS if spec.name == "relu")
_loss = next(spec.definition for spec in LOSSES if spec.name == "softmax_cross_entropy_with_integer_labels")


def mlp(x: Any, *parameters: Any) -> Any:
    """The logits of x (n, k): `parameters` is w, b of each layer in turn."""
    for position in range(0, len(parameters) - 2, 2):
        x = _relu(_linear(x, *parameters[position : position + 2]))
    return _linear(x, *parameters[-2:])


def mlp_loss(x: Any, labels: Any, *parameters: Any) -> Any:
    """The mean softmax cross-entropy of the logits: its derivatives are the gradients of the network."""
    return _loss(mlp(x, *parameters), labels, reduction="mean")
