"""The multilayer perceptron: what it is. ReLU hidden layers, a linear last layer, softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
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


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What a function of a whole network is, in words and equations."""

    name: str
    summary: str
    call: str
    arguments: Mapping[str, str]
    """Each argument: its shape and what it is."""
    returns: str
    equations: tuple[str, ...]
    certified: str
    """What of it is judged, against which truth."""


_PARAMS = "a list of (w, b), one pair for each layer: w (k, m), b (m,), where k is the m of the layer before"
_SAMPLES = "(n, k): a sample in each row"
_LABELS = "(n,), int64: the class of each sample, from 0 to c - 1"
_FORWARD = (
    "a[0] = x",
    "a[l] = relu(a[l-1] @ w[l] + b[l])    l = 1 ... L-1: the hidden layers",
    "z    = a[L-1] @ w[L] + b[L]          the last layer: logits, no activation",
)
_LOSS = ("loss = mean over i of (log(sum over j of exp(z[i, j])) - z[i, labels[i]])",)

NETWORK_SPECS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            NetworkSpec(
                "mlp",
                "The logits of a multilayer perceptron: ReLU hidden layers, a linear last layer.",
                "mlp(x, params)",
                {"x": _SAMPLES, "params": _PARAMS},
                "z (n, c): the logits",
                _FORWARD,
                "value: every logit against the definition in ball arithmetic, with the error bound of a "
                "forward pass in the format",
            ),
            NetworkSpec(
                "mlp_gradients",
                "The gradients of the mean softmax cross-entropy for every weight and bias.",
                "mlp_gradients(params, x, labels)",
                {"params": _PARAMS, "x": _SAMPLES, "labels": _LABELS},
                "a list of (dw, db), one pair for each layer, in the shapes of the parameters",
                (
                    *_FORWARD,
                    *_LOSS,
                    "dz   = (softmax(z) - onehot(labels)) / n",
                    "dw[l], db[l] = d loss / d w[l], d loss / d b[l]; relu'(0) = 0",
                ),
                "value: every gradient against the derivative of the loss in certified arithmetic, with the "
                "error bound of a forward and a backward pass in the format",
            ),
            NetworkSpec(
                "sgd_epoch",
                "The parameters after one pass over the samples: one update for each sample, in order.",
                "sgd_epoch(params, xs, labels, *, learning_rate)",
                {
                    "params": _PARAMS,
                    "xs": _SAMPLES,
                    "labels": _LABELS,
                    "learning_rate": "a float, required: the factor of the gradient in each update",
                },
                "a list of (w, b): new arrays; those of the caller stay as they are",
                (
                    "for i = 0 ... n-1, each at the parameters that the update before has left:",
                    "    w[l], b[l] = (w[l], b[l]) - learning_rate * (gradients at sample i alone)",
                    "gradients: mlp_gradients(params, xs[i:i+1], labels[i:i+1])",
                ),
                "epoch: every parameter at the end against the same steps on exact numbers, none of them "
                "rounded, with the error bound carried through all of them",
            ),
        )
    }
)
"""The functions of the contract that take a whole network."""
