"""Known mistakes in networks whose operators are all right: refnet's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

Layers = Sequence[tuple[Any, Any]]

GRADIENT = ("value", "first-order")

# ----------------------------------------------------------------------------------------------- forward


def forward(x: Any, params: Layers, activation: Callable[[Any], Any] = refnet.relu) -> tuple[Any, Any]:
    """What enters each layer, and what leaves it."""
    entering, leaving = [x], []
    for w, b in params:
        leaving.append(entering[-1] @ w + b)
        entering.append(activation(leaving[-1]))
    return entering[:-1], leaving


def _relu_after_last(x: Any, params: Layers) -> Any:
    return refnet.relu(refnet.mlp(x, list(params)))


def _without_activations(x: Any, params: Layers) -> Any:
    return forward(x, params, refnet.identity)[1][-1]


def _sigmoid_hidden(x: Any, params: Layers) -> Any:
    return forward(x, params, refnet.sigmoid)[1][-1]


def _tanh_hidden(x: Any, params: Layers) -> Any:
    return forward(x, params, refnet.tanh)[1][-1]


def _softmax_at_the_end(x: Any, params: Layers) -> Any:
    return refnet.softmax(refnet.mlp(x, list(params)))


def _without_hidden_biases(x: Any, params: Layers) -> Any:
    *hidden, last = params
    return refnet.mlp(x, [*((w, np.zeros_like(b)) for w, b in hidden), last])


def _dropout_left_on(x: Any, params: Layers) -> Any:
    """Every second hidden neuron is dropped, and the others doubled."""

    def dropped(z: Any) -> Any:
        return refnet.relu(z) * (2 * (np.arange(z.shape[-1]) % 2)).astype(z.dtype)

    return forward(x, params, dropped)[1][-1]


def _normalised_by_batch(x: Any, params: Layers) -> Any:
    return refnet.mlp(x - x.mean(axis=0), list(params))


def _summed_loss(params: Layers, x: Any, labels: Any) -> Any:
    return np.asarray(refnet.mlp_loss(list(params), x, labels) * len(x), dtype=x.dtype)


def _loss_of_first_samples(params: Layers, x: Any, labels: Any) -> Any:
    """The incomplete batch at the end is dropped."""
    whole = max(len(x) // 2 * 2, 1)
    return refnet.mlp_loss(list(params), x[:whole], labels[:whole])


def _sigmoid_for_each_class(x: Any, params: Layers) -> Any:
    return refnet.sigmoid(refnet.mlp(x, list(params)))


# -------------------------------------------------------------------------------------------- the gradient


def slope_of_loss(z: Any, labels: Any) -> Any:
    one = np.ones((), z.dtype)
    return refnet.softmax_cross_entropy_with_integer_labels.vjp(one, z, labels)[0]


def backward(
    params: Layers,
    x: Any,
    labels: Any,
    *,
    slope: Callable[[Any, Any], Any] = slope_of_loss,
    mask: Callable[[Any, Any], Any] = lambda dy, z: dy * (z > 0),
    through: Callable[[Any, Any], Any] = lambda dy, w: dy @ w.T,
    bias: Callable[[Any], Any] = lambda dy: dy.sum(axis=0),
) -> list[tuple[Any, Any]]:
    entering, leaving = forward(x, params)
    dy = slope(leaving[-1], labels)
    gradients: list[tuple[Any, Any]] = []
    for k in range(len(params) - 1, -1, -1):
        gradients.insert(0, (entering[k].T @ dy, bias(dy)))
        if k:
            dy = mask(through(dy, params[k][0]), leaving[k - 1])
    return gradients


def _without_activation_derivative(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, mask=lambda dy, z: dy)


def _mask_of_gradient(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, mask=lambda dy, z: dy * (dy > 0))


def _untransposed(params: Layers, x: Any, labels: Any) -> Any:
    def through(dy: Any, w: Any) -> Any:
        return dy @ w if w.shape[0] == w.shape[1] else dy @ w.T

    return backward(params, x, labels, through=through)


def _bias_mean(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, bias=lambda dy: dy.mean(axis=0))


def _averaged_twice(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, slope=lambda z, t: slope_of_loss(z, t) / z.dtype.type(len(z)))


def _summed(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, slope=lambda z, t: slope_of_loss(z, t) * z.dtype.type(len(z)))


def _uphill(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, slope=lambda z, t: -slope_of_loss(z, t))


def _one_hot_missing(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels, slope=lambda z, t: refnet.softmax(z) / z.dtype.type(len(z)))


def _delta_of_mse(params: Layers, x: Any, labels: Any) -> Any:
    def slope(z: Any, t: Any) -> Any:
        y = refnet.softmax(z)
        return slope_of_loss(z, t) * y * (1 - y)

    return backward(params, x, labels, slope=slope)


def _softmax_twice(params: Layers, x: Any, labels: Any) -> Any:
    def slope(z: Any, t: Any) -> Any:
        return refnet.softmax.vjp(slope_of_loss(refnet.softmax(z), t), z)[0]

    return backward(params, x, labels, slope=slope)


def _layers_in_reverse(params: Layers, x: Any, labels: Any) -> Any:
    return backward(params, x, labels)[::-1]


def _weight_decay(params: Layers, x: Any, labels: Any) -> Any:
    """The gradient of a penalty on the weights, left in."""
    return [
        (dw + w * w.dtype.type(0.01), db)
        for (w, _), (dw, db) in zip(params, backward(params, x, labels), strict=True)
    ]


def _writes_to_samples(params: Layers, x: Any, labels: Any) -> Any:
    gradients = backward(params, x, labels)
    x -= x.mean(axis=0) + 1
    return gradients


class GradientNotCleared:
    """Gradients added to those of the calls before."""

    def __init__(self) -> None:
        self.total: list[tuple[Any, Any]] = []

    def __call__(self, params: Layers, x: Any, labels: Any) -> Any:
        new = backward(params, x, labels)
        same = [w.shape for w, _ in self.total] == [w.shape for w, _ in params]
        if same and self.total[0][0].dtype == x.dtype:
            new = [(a + c, b + d) for (a, b), (c, d) in zip(new, self.total, strict=True)]
        self.total = new
        return new


MISTAKES = (
    Mistake(
        "mlp-activation-after-the-last-layer",
        "mlp",
        "the logits go through ReLU: none is negative",
        ("value", "collapses"),
        value=_relu_after_last,
    ),
    Mistake(
        "mlp-softmax-after-the-last-layer",
        "mlp",
        "probabilities where logits are due",
        ("value", "collapses"),
        value=_softmax_at_the_end,
        source="ariecattan/SciCo#2; tflearn/tflearn#562",
    ),
    Mistake(
        "mlp-without-activations",
        "mlp",
        "no activation between the layers: any depth is one affine map",
        ("value",),
        value=_without_activations,
    ),
    Mistake(
        "mlp-sigmoid-in-hidden-layers",
        "mlp",
        "sigmoids in the place of ReLUs",
        ("value", "collapses", "rescaling"),
        value=_sigmoid_hidden,
    ),
    Mistake(
        "mlp-tanh-in-hidden-layers",
        "mlp",
        "tanh in the place of ReLU",
        ("value", "collapses", "rescaling"),
        value=_tanh_hidden,
    ),
    Mistake(
        "mlp-hidden-biases-forgotten",
        "mlp",
        "only the last layer adds its bias",
        ("value", "collapses"),
        value=_without_hidden_biases,
    ),
    Mistake(
        "mlp-dropout-left-on",
        "mlp",
        "hidden neurons are dropped outside of training",
        ("value", "collapses", "hidden-order"),
        value=_dropout_left_on,
        source="keras-team/keras#8069; chainer/chainer#531; mdenil/dropout#16",
    ),
    Mistake(
        "mlp-normalised-by-the-batch",
        "mlp",
        "the mean of the batch is subtracted: a sample's logits depend on the others",
        ("value", "samples-are-independent"),
        value=_normalised_by_batch,
    ),
    Mistake(
        "mlp-loss-summed",
        "mlp_loss",
        "the sum over the samples where the mean is due",
        ("loss-is-mean",),
        value=_summed_loss,
        source="jxgu1016/MNIST_center_loss_pytorch#9",
    ),
    Mistake(
        "mlp-loss-drops-the-tail",
        "mlp_loss",
        "the incomplete batch at the end is left out",
        ("loss-is-mean",),
        value=_loss_of_first_samples,
        source="siddk/entity-network#7; aigamedev/scikit-neuralnetwork#158",
    ),
    Mistake(
        "predictions-by-one-sigmoid-each",
        "predict_probabilities",
        "each class has a sigmoid of its own: the probabilities do not sum to 1",
        ("probabilities",),
        value=_sigmoid_for_each_class,
    ),
    Mistake(
        "mlp-gradient-missing-activation-derivative",
        "mlp_gradients",
        "the slope is not multiplied by the derivative of the activation",
        (*GRADIENT, "balance"),
        value=_without_activation_derivative,
        source="Bot-Academy/NeuralNetworkFromScratch#3; parasdahal/tinyml#1",
    ),
    Mistake(
        "mlp-gradient-masked-by-its-own-sign",
        "mlp_gradients",
        "the mask of ReLU is taken from the gradient instead of the pre-activation",
        (*GRADIENT, "balance"),
        value=_mask_of_gradient,
    ),
    Mistake(
        "mlp-gradient-untransposed",
        "mlp_gradients",
        "the slope goes back through w instead of its transpose: the shapes agree where w is square",
        (*GRADIENT, "hidden-order", "balance"),
        value=_untransposed,
        source="HomericIntelligence/Odyssey#2136; pulp-platform/pulp-trainlib#3; tile-ai/TileOPs#54",
    ),
    Mistake(
        "mlp-gradient-bias-mean",
        "mlp_gradients",
        "the bias gradient is averaged over the batch, which the loss has done already",
        (*GRADIENT, "batch-gradient-is-mean"),
        value=_bias_mean,
        source="kvfrans/notes#5",
    ),
    Mistake(
        "mlp-gradient-averaged-twice",
        "mlp_gradients",
        "divided by the number of samples in the loss and once more",
        (*GRADIENT, "batch-gradient-is-mean"),
        value=_averaged_twice,
        source="dennybritz/nn-from-scratch#13",
    ),
    Mistake(
        "mlp-gradient-summed",
        "mlp_gradients",
        "the gradient of the sum over the samples, for the mean loss",
        (*GRADIENT, "batch-gradient-is-mean"),
        value=_summed,
        source="dennybritz/nn-from-scratch#13; davharris/mistnet#33",
    ),
    Mistake(
        "mlp-gradient-sign",
        "mlp_gradients",
        "target - output already has the minus that the step adds",
        (*GRADIENT, "loss-decreases"),
        value=_uphill,
        source="pytorch/pytorch#1871; iamtrask/Grokking-Deep-Learning#65",
    ),
    Mistake(
        "mlp-gradient-without-one-hot",
        "mlp_gradients",
        "the 1 of the right class is not subtracted from its probability",
        (*GRADIENT, "output-gradient-sums-to-zero"),
        value=_one_hot_missing,
    ),
    Mistake(
        "mlp-gradient-delta-of-mse",
        "mlp_gradients",
        "(y - t) y (1 - y): the delta of a squared error, for a cross-entropy",
        (*GRADIENT, "output-gradient-sums-to-zero"),
        value=_delta_of_mse,
        source="hunkim/DeepLearningZeroToAll#113; deeplearning4j/deeplearning4j#366",
    ),
    Mistake(
        "mlp-gradient-softmax-twice",
        "mlp_gradients",
        "the loss takes the softmax of probabilities",
        GRADIENT,
        value=_softmax_twice,
        source="ariecattan/SciCo#2; nfmcclure/tensorflow_cookbook#86",
    ),
    Mistake(
        "mlp-gradient-layers-in-reverse",
        "mlp_gradients",
        "in the order in which backpropagation finds them",
        (*GRADIENT, "balance"),
        value=_layers_in_reverse,
    ),
    Mistake(
        "mlp-gradient-weight-decay",
        "mlp_gradients",
        "the gradient of a penalty that is not in the loss",
        (*GRADIENT, "rescaling", "balance"),
        value=_weight_decay,
        source="derived from jingtinghuang/CS231n-Spring-2017#3",
    ),
    Mistake(
        "mlp-gradient-not-cleared",
        "mlp_gradients",
        "the gradients of earlier calls are still in the buffer",
        ("contract:repeatable", "network-pure"),
        value=GradientNotCleared,
        stateful=True,
        source="karpathy/llm.c#548; karpathy/micrograd#102; udacity/deep-learning-v2-pytorch#160",
    ),
    Mistake(
        "mlp-gradient-writes-to-the-samples",
        "mlp_gradients",
        "the samples are centred in place",
        ("contract:pure", "network-pure"),
        value=_writes_to_samples,
    ),
)
