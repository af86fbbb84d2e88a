"""scikit-learn: the internals of its neural networks, under the names of the contract.

Every function calls scikit-learn's own code, and adds only what `NOTES` says. The boundary is untyped:
scikit-learn carries no types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import __version__ as __version__
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES, LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
Layers = list[tuple[Array, Array]]

NOTES = (
    "sklearn.neural_network._base works in place; the adapter hands it copies.",
    "Its softmax and log_loss are for matrices; the adapter refuses arrays of other ranks, which they would "
    "mistake.",
    "Its derivatives take the output of the activation, as its backpropagation does; the adapter computes "
    "that output with scikit-learn's own activation.",
    "Its losses take (y_true, y_pred) and return the mean over the rows, of the sum over the columns for "
    "log_loss and binary_log_loss; the adapter hands binary_log_loss one column.",
    "The network is an MLPClassifier with the weights and biases of the case and solver='sgd', alpha=0 (no "
    "L2 penalty), momentum=0, batch_size=1, shuffle=False. mlp is its _forward_pass without the output "
    "activation, mlp_gradients its _backprop, sgd_epoch one pass of its _fit_stochastic. For two classes it "
    "would have one logistic output; here it is given two outputs and softmax.",
    "sgd_step is its SGDOptimizer with momentum=0 and nesterov=False.",
)


# ------------------------------------------------------------------------------------------- activations


def _activation(name: str) -> Callable[[Array], Array]:
    def activation(x: Array) -> Array:
        y = x.copy()
        ACTIVATIONS[name](y)
        return y

    return activation


def _derivative(name: str) -> Callable[[Array, Array], Array]:
    activation = _activation(name)

    def derivative(dy: Array, x: Array) -> Array:
        dx = dy.copy()
        DERIVATIVES[name](activation(x), dx)
        return dx

    return derivative


identity, identity_vjp = _activation("identity"), _derivative("identity")
relu, relu_vjp = _activation("relu"), _derivative("relu")
sigmoid, sigmoid_vjp = _activation("logistic"), _derivative("logistic")
tanh, tanh_vjp = _activation("tanh"), _derivative("tanh")


def softmax(x: Array) -> Array:
    """inplace_softmax is for matrices alone: of more axes it takes the second, whatever the last one is."""
    if x.ndim != 2:
        raise ValueError(f"inplace_softmax takes (n_samples, n_features), not shape {x.shape}")
    return _activation("softmax")(x)


# ------------------------------------------------------------------------------------------------ losses


def binary_cross_entropy(p: Array, t: Array) -> Any:
    return LOSS_FUNCTIONS["binary_log_loss"](t.reshape(-1, 1), p.reshape(-1, 1))


def categorical_cross_entropy(p: Array, t: Array) -> Any:
    """log_loss is for matrices alone: of more axes it takes the mean over the first."""
    if p.ndim != 2:
        raise ValueError(f"log_loss takes (n_samples, n_classes), not shape {p.shape}")
    return LOSS_FUNCTIONS["log_loss"](t, p)


def mse(p: Array, t: Array) -> Any:
    return LOSS_FUNCTIONS["squared_error"](t, p)


# ----------------------------------------------------------------------------------------------- network


def _classifier(params: Layers, output: str, learning_rate: float = 1.0) -> Any:
    """A classifier in the state that `fit` would give it, with the parameters of the case."""
    model = MLPClassifier(
        hidden_layer_sizes=tuple(len(b) for _, b in params[:-1]),
        activation="relu",
        solver="sgd",
        alpha=0.0,
        batch_size=1,
        learning_rate_init=learning_rate,
        shuffle=False,
        momentum=0.0,
        nesterovs_momentum=False,
    )
    model.coefs_ = [w.copy() for w, _ in params]
    model.intercepts_ = [b.copy() for _, b in params]
    model.n_layers_, model.n_outputs_ = len(params) + 1, len(params[-1][1])
    model.out_activation_ = output
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.loss_curve_, model.best_loss_ = [], np.inf
    return model


def _buffers(x: Array, params: Layers) -> tuple[list[Any], list[Any], list[Array], list[Array]]:
    """The lists that its methods fill: activations, deltas, gradients of weights, gradients of biases."""
    weights, biases = [np.empty_like(w) for w, _ in params], [np.empty_like(b) for _, b in params]
    return [x, *[None] * len(params)], [None] * len(params), weights, biases


def _one_hot(labels: Labels, params: Layers) -> npt.NDArray[np.bool_]:
    """The targets as its label binarizer gives them: booleans."""
    targets: npt.NDArray[np.bool_] = labels[:, None] == np.arange(len(params[-1][1]))
    return targets


def mlp(x: Array, params: Layers) -> Any:
    return _classifier(params, "identity")._forward_pass(_buffers(x, params)[0])[-1]


def mlp_gradients(params: Layers, x: Array, labels: Labels) -> Sequence[tuple[Array, Array]]:
    model = _classifier(params, "softmax")
    _, weights, biases = model._backprop(x, _one_hot(labels, params), None, *_buffers(x, params))
    return list(zip(weights, biases, strict=True))


def sgd_step(param: Array, grad: Array, *, learning_rate: float) -> Array:
    new = param.copy()
    optimizer = SGDOptimizer([new], learning_rate, momentum=0.0, nesterov=False)
    optimizer.update_params([new], [grad])
    return new


def sgd_epoch(
    params: Layers, xs: Array, labels: Labels, *, learning_rate: float
) -> Sequence[tuple[Array, Array]]:
    model = _classifier(params, "softmax", learning_rate)
    sizes = [xs.shape[1], *(len(b) for _, b in params)]
    targets = _one_hot(labels, params)
    model._fit_stochastic(xs, targets, None, *_buffers(xs, params), sizes, incremental=True)
    return list(zip(model.coefs_, model.intercepts_, strict=True))
