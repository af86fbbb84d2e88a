"""PyTorch: its functions, its optimizers and its autograd, under the names of the contract.

Each row of `FUNCTIONS` is PyTorch's own function with the contract's settings: NAME is its value, NAME_vjp
what `torch.autograd.grad` makes of it. A new operator is one row. The boundary is untyped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import __version__ as __version__
from torch.nn import functional
from torch.optim.sgd import sgd

from specs import SPECS

Array = npt.NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

NOTES = (
    "Gradients are those of torch.autograd.grad; on the CPU, eager, with as many threads as PyTorch takes.",
    "NumPy has no bfloat16 that PyTorch reads: those arrays go through a view of int16.",
    "PyTorch has no negative strides; the adapter hands it copies of such arrays, all others as they lie.",
    "linear is functional.linear, which takes the weights as (outputs, inputs): a transposed view, as do "
    "torch.rnn_tanh_cell, lstm_cell and gru_cell. The first two have a second bias: of zeros.",
    "functional.cross_entropy takes the classes along axis 1; of more than two axes the adapter moves the "
    "last one there.",
    "hinge is functional.margin_ranking_loss against scores of 0, with a margin of 1.",
    "The mean of kl_divergence is functional.kl_div's batchmean, of all rows in one batch; its losses are "
    "sums along the rows.",
    "embedding has a row of zeros appended for padding that is no row of the table. one_hot is "
    "functional.one_hot, with the values by torch.where.",
    "scaled_dot_product_attention is given is_causal where nothing is masked, and a mask otherwise: it takes "
    "one of the two.",
    "The steps are those of torch.optim, on a copy of the parameter, with the state of the case; that with "
    "momentum is torch.optim.sgd.sgd, because the class refuses dampening with nesterov. clip_by_global_norm "
    "is torch.nn.utils.clip_grad_norm_.",
    "sgd_epoch is torch.optim.SGD. The network is functional.linear and functional.relu, its loss "
    "functional.cross_entropy.",
)


# ------------------------------------------------------------------------------------- arrays and tensors


def _tensor(x: Array) -> Any:
    """The same memory, wherever PyTorch can address it."""
    if any(stride < 0 for stride in x.strides):
        x = x.copy()
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _array(y: Any) -> Array:
    """A copy, in memory of its own."""
    y = y.detach()
    if y.dtype == torch.bfloat16:
        return np.array(y.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(y.numpy())


def _leaf(x: Array) -> Any:
    return _tensor(x).requires_grad_()


# ---------------------------------------------------------------------------------------------- operators


def _classes_second(*arrays: Any) -> list[Any]:
    """Arrays of more than two axes with the last one moved to where PyTorch has the classes."""
    return [x.movedim(-1, 1) if x.ndim > 2 else x for x in arrays]


def _cross_entropy(z: Any, t: Any, **settings: Any) -> Any:
    """The classes along axis 1, in the logits and in targets that are distributions."""
    if t.ndim == z.ndim:
        (t,) = _classes_second(t)
    (z,) = _classes_second(z)
    return functional.cross_entropy(z, t, **settings)


def _weighted_cross_entropy(
    z: Any, t: Any, weights: Any, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    return _cross_entropy(z, t, weight=weights, label_smoothing=label_smoothing, reduction=reduction)


def _weighted_cross_entropy_of_labels(
    z: Any,
    labels: Any,
    weights: Any,
    label_smoothing: float = 0.0,
    ignored_label: int = -100,
    reduction: str = "mean",
) -> Any:
    return _cross_entropy(
        z,
        labels,
        weight=weights,
        label_smoothing=label_smoothing,
        ignore_index=ignored_label,
        reduction=reduction,
    )


def _nll(log_p: Any, labels: Any, reduction: str = "mean") -> Any:
    return functional.nll_loss(*_classes_second(log_p), labels, reduction=reduction)


def _kl_divergence(log_p: Any, t: Any, reduction: str = "mean") -> Any:
    if reduction == "none":
        return functional.kl_div(log_p, t, reduction="none").sum(-1)
    rows = (x.reshape(-1, x.shape[-1]) for x in (log_p, t))
    return functional.kl_div(*rows, reduction={"mean": "batchmean"}.get(reduction, reduction))


def _hinge(p: Any, t: Any, reduction: str = "mean") -> Any:
    return functional.margin_ranking_loss(p, torch.zeros_like(p), t, margin=1.0, reduction=reduction)


def _allowed(mask: Any, causal: bool) -> Any:
    return mask.tril() if causal else mask


def _attention(q: Any, k: Any, v: Any, mask: Any, causal: bool = False, scale: Any = None) -> Any:
    if mask.all():
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=_allowed(mask, causal), scale=scale)


def _multi_head_attention(
    x: Any,
    w_q: Any,
    w_k: Any,
    w_v: Any,
    w_o: Any,
    b_q: Any,
    b_k: Any,
    b_v: Any,
    b_o: Any,
    mask: Any,
    heads: int,
    causal: bool = False,
) -> Any:
    """Positions along axis 0, examples along axis 1; a mask is True where nothing may be attended to."""
    rows = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)
    y, _ = functional.multi_head_attention_forward(
        rows,
        rows,
        rows,
        embed_dim_to_check=x.shape[-1],
        num_heads=heads,
        in_proj_weight=torch.cat([w_q.T, w_k.T, w_v.T]),
        in_proj_bias=torch.cat([b_q, b_k, b_v]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=w_o.T,
        out_proj_bias=b_o,
        need_weights=False,
        attn_mask=~_allowed(mask, causal),
    )
    return y.transpose(0, 1).reshape(x.shape)


def _batch_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    return functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def _batch_norm_training(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, momentum: float = 0.1, eps: float = 1e-5
) -> Any:
    """It writes to the running statistics: to copies."""
    mean, var = mean.clone(), var.clone()
    y = functional.batch_norm(x, mean, var, gamma, beta, training=True, momentum=momentum, eps=eps)
    return y, mean, var


def _batch_norm_inference(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float = 1e-5) -> Any:
    return functional.batch_norm(x, mean, var, gamma, beta, eps=eps)


def _rnn_cell(x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return torch.rnn_tanh_cell(x, h, w_x.T, w_h.T, b, torch.zeros_like(b))


def _lstm_cell(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return torch.lstm_cell(x, (h, c), w_x.T, w_h.T, b, torch.zeros_like(b))


def _gru_cell(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    return torch.gru_cell(x, h, w_x.T, w_h.T, b_x, b_h)


def _stepped(optimizer: Any, param: Any, grad: Any, **state: Any) -> Any:
    """The parameter and the state after one step, on copies: an optimizer writes to its tensors."""
    new = param.clone()
    new.grad = grad.clone()
    state = {name: value.clone() for name, value in state.items()}
    at_work = optimizer([new])
    at_work.state[new].update(state)
    at_work.step()
    return new, *(value for name, value in state.items() if name != "step")


def _sgd_step(param: Any, grad: Any, learning_rate: float) -> Any:
    return _stepped(lambda params: torch.optim.SGD(params, learning_rate), param, grad)


def _momentum_step(
    param: Any,
    grad: Any,
    velocity: Any,
    learning_rate: float,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Any:
    new, velocity = param.clone(), velocity.clone()
    sgd(
        [new],
        [grad.clone()],
        [velocity],
        foreach=False,
        weight_decay=weight_decay,
        momentum=momentum,
        lr=learning_rate,
        dampening=dampening,
        nesterov=nesterov,
        maximize=False,
    )
    return new, velocity


def _adam_step(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    adam = partial(torch.optim.Adam, lr=learning_rate, betas=(beta1, beta2), eps=eps)
    return _stepped(adam, param, grad, step=step.float() - 1, exp_avg=m, exp_avg_sq=v)


def _adamw_step(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step: Any,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Any:
    adamw = partial(
        torch.optim.AdamW, lr=learning_rate, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
    )
    return _stepped(adamw, param, grad, step=step.float() - 1, exp_avg=m, exp_avg_sq=v)


def _rmsprop_step(
    param: Any, grad: Any, v: Any, learning_rate: float, decay: float = 0.9, eps: float = 1e-8
) -> Any:
    rmsprop = partial(torch.optim.RMSprop, lr=learning_rate, alpha=decay, eps=eps)
    return _stepped(rmsprop, param, grad, step=torch.zeros(()), square_avg=v)


def _adagrad_step(param: Any, grad: Any, v: Any, learning_rate: float, eps: float = 1e-10) -> Any:
    adagrad = partial(torch.optim.Adagrad, lr=learning_rate, eps=eps)
    return _stepped(adagrad, param, grad, step=torch.zeros(()), sum=v)


def _clip_by_global_norm(a: Any, b: Any, max_norm: float) -> Any:
    params = [torch.nn.Parameter(x.clone()) for x in (a, b)]
    for param, gradient in zip(params, (a, b), strict=True):
        param.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(params, max_norm)
    return tuple(param.grad for param in params)


def _embedding(table: Any, ids: Any, padding_id: int | None = None) -> Any:
    """Padding that is no row of the table is given one, of zeros, as users of PyTorch do."""
    if padding_id is not None and not 0 <= padding_id < len(table):
        ids = torch.where(ids == padding_id, len(table), ids)
        padding_id = len(table)
        table = torch.cat((table, table.new_zeros(1, table.shape[1])))
    return functional.embedding(ids, table, padding_id)


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": torch.nn.Identity(),
        "relu": functional.relu,
        "leaky_relu": lambda x, slope=0.01: functional.leaky_relu(x, slope),
        "prelu": functional.prelu,
        "relu6": functional.relu6,
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
        "elu": lambda x, alpha=1.0: functional.elu(x, alpha),
        "celu": lambda x, alpha=1.0: functional.celu(x, alpha),
        "selu": functional.selu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softsign": functional.softsign,
        "log_sigmoid": functional.logsigmoid,
        "softplus": lambda x, beta=1.0: functional.softplus(x, beta),
        "silu": functional.silu,
        "mish": functional.mish,
        "gelu": lambda x, approximate="none": functional.gelu(x, approximate=approximate),
        "softmax": lambda x, axis=-1: torch.softmax(x, axis),
        "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
        "logsumexp": lambda x, axis=-1: torch.logsumexp(x, axis),
        "glu": functional.glu,
        "linear": lambda x, w, b: functional.linear(x, w.T, b),
        "layer_norm": lambda x, gamma, beta, eps=1e-5: functional.layer_norm(
            x, gamma.shape, gamma, beta, eps
        ),
        "rms_norm": lambda x, gamma, eps=1e-6: functional.rms_norm(x, gamma.shape, gamma, eps),
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm_training,
        "batch_norm_inference": _batch_norm_inference,
        "group_norm": lambda x, gamma, beta, groups, eps=1e-5: functional.group_norm(
            x, groups, gamma, beta, eps
        ),
        "instance_norm": lambda x, gamma, beta, eps=1e-5: functional.instance_norm(
            x, weight=gamma, bias=beta, eps=eps
        ),
        "conv2d": functional.conv2d,
        "conv1d": functional.conv1d,
        "conv_transpose2d": functional.conv_transpose2d,
        "max_pool2d": lambda x, size, **settings: functional.max_pool2d(x, size, **settings),
        "avg_pool2d": lambda x, size, **settings: functional.avg_pool2d(x, size, **settings),
        "global_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 1)[..., 0, 0],
        "global_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 1)[..., 0, 0],
        "embedding": _embedding,
        "one_hot": lambda ids, values, classes: torch.where(
            functional.one_hot(ids, classes).bool(), values[1], values[0]
        ),
        "rnn_cell": _rnn_cell,
        "lstm_cell": _lstm_cell,
        "gru_cell": _gru_cell,
        "scaled_dot_product_attention": _attention,
        "multi_head_attention": _multi_head_attention,
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": lambda p, t, delta=1.0, reduction="mean": functional.huber_loss(p, t, reduction, delta),
        "hinge": _hinge,
        "binary_cross_entropy": functional.binary_cross_entropy,
        "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
        "softmax_cross_entropy": lambda z, t, reduction="mean": _cross_entropy(z, t, reduction=reduction),
        "softmax_cross_entropy_with_integer_labels": lambda z, labels, reduction="mean": _cross_entropy(
            z, labels, reduction=reduction
        ),
        "nll": _nll,
        "kl_divergence": _kl_divergence,
        "weighted_softmax_cross_entropy_with_integer_labels": _weighted_cross_entropy_of_labels,
        "weighted_softmax_cross_entropy": _weighted_cross_entropy,
        "weighted_binary_cross_entropy_with_logits": lambda z, t, weights, reduction="mean": (
            functional.binary_cross_entropy_with_logits(z, t, pos_weight=weights, reduction=reduction)
        ),
        "sgd_step": _sgd_step,
        "momentum_step": _momentum_step,
        "adam_step": _adam_step,
        "adamw_step": _adamw_step,
        "rmsprop_step": _rmsprop_step,
        "adagrad_step": _adagrad_step,
        "clip_by_global_norm": _clip_by_global_norm,
    }
)
"""By the name in the contract; tensors in, a tensor or several out."""

WITHOUT_GRADIENT = ("sgd_step", "batch_norm_training")
"""What writes to its own tensors, as optimizers do; of the other steps no gradient is asked for."""


def _value(name: str, *arrays: Array, **settings: Any) -> Any:
    with torch.no_grad():
        y = FUNCTIONS[name](*map(_tensor, arrays), **settings)
        return tuple(map(_array, y)) if isinstance(y, tuple) else _array(y)


def _vjp(name: str, dy: Array | tuple[Array, ...], *arrays: Array, **settings: Any) -> tuple[Array, ...]:
    differentiable = SPECS[name].differentiable
    tensors = [_leaf(x) if k in differentiable else _tensor(x) for k, x in enumerate(arrays)]
    y = FUNCTIONS[name](*tensors, **settings)
    cotangents = tuple(map(_tensor, dy)) if isinstance(dy, tuple) else _tensor(dy)
    gradients = torch.autograd.grad(y, [tensors[k] for k in differentiable], cotangents)
    return tuple(map(_array, gradients))


def __getattr__(name: str) -> Callable[..., Any]:
    """NAME and NAME_vjp of every row."""
    function = name.removesuffix("_vjp")
    if function not in FUNCTIONS or (name != function and function in WITHOUT_GRADIENT):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    named = partial(_value if name == function else _vjp, function)
    return update_wrapper(named, FUNCTIONS[function], assigned=(), updated=())  # the settings that it takes


# ----------------------------------------------------------------------------------------------- networks


def _logits(x: Any, params: Sequence[Any]) -> Any:
    for k, (w, b) in enumerate(params):
        x = functional.linear(functional.relu(x) if k else x, w.T, b)
    return x


def _layers(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [pair for k, pair in enumerate(pairwise(flat)) if k % 2 == 0]


def _leaves(params: Layers) -> list[Any]:
    """Fresh memory: an optimizer writes to it."""
    return [_tensor(x.copy()).requires_grad_() for pair in params for x in pair]


def mlp(x: Array, params: Layers) -> Array:
    with torch.no_grad():
        return _array(_logits(_tensor(x), [tuple(map(_tensor, pair)) for pair in params]))


def mlp_gradients(params: Layers, x: Array, labels: Array) -> list[tuple[Array, Array]]:
    flat = _leaves(params)
    loss = functional.cross_entropy(_logits(_tensor(x), _layers(flat)), _tensor(labels))
    return _layers([_array(g) for g in torch.autograd.grad(loss, flat)])


def sgd_epoch(params: Layers, xs: Array, labels: Array, *, learning_rate: float) -> list[tuple[Array, Array]]:
    flat = _leaves(params)
    optimizer = torch.optim.SGD(flat, learning_rate)
    for x, label in zip(_tensor(xs).split(1), _tensor(labels).split(1), strict=True):
        optimizer.zero_grad()
        functional.cross_entropy(_logits(x, _layers(flat)), label).backward()
        optimizer.step()
    return _layers([_array(x) for x in flat])
