"""Gradients that others wrote: scikit-learn's backpropagation, PyTorch's autograd, jax's rules.

The right ones pass, and each of them with a mistake in it fails. Those that are wrong as they ship fail too,
and beside each stands a right gradient of the same function, which passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor, _multilayer_perceptron

from tests.foreign import Array, Function, Pair, from_jax, from_sklearn, from_torch
from verify import gradcheck

F64, F32 = np.float64, np.float32


def normal(*shape: int, seed: int = 0, dtype: npt.DTypeLike = F64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -------------------------------------------------------------------------------------------- scikit-learn


class Task(NamedTuple):
    """What a network of scikit-learn learns: its estimator, and targets for six samples."""

    estimator: Callable[..., Any]
    loss: str
    output: str
    """The activation of the last layer, as `fit` would choose it for these targets."""
    targets: Array
    weights: Array | None = None
    """Of the samples."""


LABELS = np.array([0, 1, 2, 1, 0, 2])
X = normal(6, 3)
TASKS = {
    "two classes": Task(MLPClassifier, "log_loss", "logistic", LABELS[:, None] % 2),
    "three classes": Task(MLPClassifier, "log_loss", "softmax", LABELS[:, None] == np.arange(3)),
    "several labels": Task(MLPClassifier, "log_loss", "logistic", (LABELS[:, None] + 1) >> np.arange(2) & 1),
    "a number": Task(MLPRegressor, "squared_error", "identity", normal(6, 1, seed=1)),
    "a weighted number": Task(
        MLPRegressor,
        "squared_error",
        "identity",
        normal(6, 1, seed=1),
        np.array([1.0, 0.5, 2.0, 1.0, 0.25, 3.0]),
    ),
    "counts": Task(MLPRegressor, "poisson", "exp", np.array([[0.0], [3.0], [1.0], [2.0], [5.0], [1.0]])),
}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
ALPHAS = (0.0, 0.5)


def network(task: Task, activation: str, alpha: float) -> Pair:
    model = task.estimator(activation=activation, alpha=alpha)
    model.loss, model.out_activation_ = task.loss, task.output
    return from_sklearn(model, X, task.targets, task.weights)


def parameters(task: Task) -> list[Array]:
    """Weights, then biases, of a network with one hidden layer; these seeds keep ReLU off its kink."""
    outputs = task.targets.shape[1]
    shapes: tuple[tuple[int, ...], ...] = ((3, 4), (4, outputs), (4,), (outputs,))
    return [normal(*shape, seed=seed) for seed, shape in enumerate(shapes, 20)]


@pytest.mark.parametrize(("name", "activation", "alpha"), [*itertools.product(TASKS, ACTIVATIONS, ALPHAS)])
def test_the_backpropagation_of_scikit_learn_passes(name: str, activation: str, alpha: float) -> None:
    task = TASKS[name]
    report = gradcheck(*network(task, activation, alpha), parameters(task))
    assert report.verdict == "pass", report


@pytest.mark.parametrize(("name", "activation"), [*itertools.product(TASKS, ACTIVATIONS)])
def test_scikit_learn_with_the_derivative_of_another_activation_fails(
    name: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS[name]
    derivatives = _multilayer_perceptron.DERIVATIVES
    other = "logistic" if activation == "tanh" else "tanh"
    monkeypatch.setitem(derivatives, activation, derivatives[other])
    report = gradcheck(*network(task, activation, 0.0), parameters(task))
    assert report.verdict == "fail", report


@pytest.mark.parametrize("name", TASKS)
def test_scikit_learn_without_the_penalty_or_the_mean_fails(name: str) -> None:
    task = TASKS[name]
    f, vjp = network(task, "tanh", 0.5)
    wrong: dict[str, Function] = {
        "without the penalty": network(task, "tanh", 0.0)[1],
        "not divided by n": lambda dy, *theta: tuple(len(X) * g for g in vjp(dy, *theta)),
    }
    for mistake, wrong_vjp in wrong.items():
        report = gradcheck(f, wrong_vjp, parameters(task))
        assert report.verdict == "fail", (mistake, report)


@pytest.mark.parametrize("outputs", [2, 3])
def test_scikit_learn_is_wrong_for_several_numbers_by_their_number(outputs: int) -> None:
    """Its squared error is the mean over the outputs, its gradient that of their sum: issue #8349."""
    task = Task(MLPRegressor, "squared_error", "identity", normal(6, outputs, seed=1))
    f, vjp = network(task, "tanh", 0.0)
    report = gradcheck(f, vjp, parameters(task))
    assert report.verdict == "fail", report
    assert f"input 0: constant factor {outputs}" in " ".join(report.diagnosis)

    def right(dy: Array, *theta: Array) -> tuple[Array, ...]:
        return tuple(g / outputs for g in vjp(dy, *theta))

    assert gradcheck(f, right, parameters(task)).verdict == "pass"


# -------------------------------------------------------------------------------------------- PyTorch, jax


class Row(NamedTuple):
    """A function of another library with its gradient, and a function whose gradient is a mistake for it.

    Both functions take the module that stands before the colon of the row's name.
    """

    function: Function
    inputs: tuple[Array, ...]
    mistaken: Function


A = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.75]])  # no kink of any function below, and no ties
POSITIVE = np.array([[0.5, 1.25, 2.0], [1.75, 0.25, 3.0]])
BELOW_1 = np.array([0.1, 0.3, 0.45, 0.8])
SQUARE = normal(3, 3) + 2 * np.eye(3)
IDS = np.array([2, 0, 2])
IMAGE = normal(1, 2, 4, 4)
KERNEL = normal(2, 2, 3, 2, seed=1)
HEADS = tuple(normal(1, 2, 3, 2, seed=seed) for seed in range(3))
BATCHES = (normal(2, 2, 2), normal(2, 2, 2, seed=1))


def narrow(*arrays: Array) -> tuple[Array, ...]:
    return tuple(a.astype(F32) for a in arrays)


def running_batch_norm(torch: Any, x: Any, w: Any, b: Any) -> Any:
    """In training mode, but with a gradient that holds the statistics of the batch constant."""
    fixed = x.detach()
    return torch.nn.functional.batch_norm(x, fixed.mean(0), fixed.var(0, correction=0), w, b)


TORCH: dict[str, Row] = {
    "torch: softmax": Row(
        lambda torch, x: torch.softmax(x, -1), (A,), lambda torch, x: torch.log_softmax(x, -1)
    ),
    "torch: softmax in float32": Row(
        lambda torch, x: torch.softmax(x, -1), narrow(normal(2, 4)), lambda torch, x: torch.softmax(x, 0)
    ),
    "torch: log_softmax": Row(
        lambda torch, x: torch.log_softmax(x, -1), (A,), lambda torch, x: torch.softmax(x, -1)
    ),
    "torch: logsumexp": Row(lambda torch, x: torch.logsumexp(x, 1), (A,), lambda torch, x: torch.amax(x, 1)),
    "torch: layer_norm": Row(
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (3,), w, b),
        (A, A[0], A[1]),
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (3,), w, b, eps=1e-6),
    ),
    "torch: layer_norm in float32": Row(
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (3,), w, b),
        narrow(A, A[0], A[1]),
        lambda torch, x, w, b: (x - x.mean(1, keepdim=True)) / x.detach().std(1, keepdim=True) * w + b,
    ),
    "torch: rms_norm": Row(
        lambda torch, x, w: torch.nn.functional.rms_norm(x, (3,), w, eps=1e-6),
        (A, A[0]),
        lambda torch, x, w: x / (x.detach() ** 2).mean(1, keepdim=True).sqrt() * w,
    ),
    "torch: group_norm": Row(
        lambda torch, x: torch.nn.functional.group_norm(x, 2),
        (normal(2, 4, 2),),
        lambda torch, x: torch.nn.functional.group_norm(x, 1),
    ),
    "torch: batch_norm in training mode": Row(
        lambda torch, x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True),
        (normal(4, 3), A[0], A[1]),
        running_batch_norm,
    ),
    "torch: local_response_norm": Row(
        lambda torch, x: torch.nn.functional.local_response_norm(x, 3, alpha=1.0),
        (normal(1, 4, 2, 1),),
        lambda torch, x: torch.nn.functional.local_response_norm(x, 5, alpha=1.0),
    ),
    "torch: gelu": Row(
        lambda torch, x: torch.nn.functional.gelu(x),
        (A,),
        lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    "torch: gelu by tanh": Row(
        lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
        (A,),
        lambda torch, x: torch.nn.functional.gelu(x),
    ),
    "torch: gelu in float32": Row(
        lambda torch, x: torch.nn.functional.gelu(x),
        narrow(A),
        lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    "torch: silu": Row(
        lambda torch, x: torch.nn.functional.silu(x), (A,), lambda torch, x: torch.nn.functional.mish(x)
    ),
    "torch: mish": Row(
        lambda torch, x: torch.nn.functional.mish(x), (A,), lambda torch, x: torch.nn.functional.silu(x)
    ),
    "torch: elu": Row(
        lambda torch, x: torch.nn.functional.elu(x, 0.5),
        (A,),
        lambda torch, x: torch.nn.functional.celu(x, 0.5),
    ),
    "torch: softplus": Row(
        lambda torch, x: torch.nn.functional.softplus(x, beta=2),
        (A,),
        lambda torch, x: torch.nn.functional.softplus(2 * x),
    ),
    "torch: relu": Row(
        lambda torch, x: torch.relu(x), (A,), lambda torch, x: torch.nn.functional.leaky_relu(x, 1e-6)
    ),
    "torch: cross_entropy": Row(
        lambda torch, z, labels: torch.nn.functional.cross_entropy(z, labels),
        (A, np.array([2, 0])),
        lambda torch, z, labels: torch.nn.functional.cross_entropy(z, labels, reduction="sum"),
    ),
    "torch: cross_entropy with smooth labels": Row(
        lambda torch, z, labels: torch.nn.functional.cross_entropy(z, labels, label_smoothing=0.1),
        (A, np.array([2, 0])),
        lambda torch, z, labels: torch.nn.functional.cross_entropy(z, labels),
    ),
    "torch: cross_entropy in float32": Row(
        lambda torch, z, labels: torch.nn.functional.cross_entropy(z, labels),
        (A.astype(F32), np.array([2, 0])),
        lambda torch, z, labels: torch.nn.functional.nll_loss(z, labels),
    ),
    "torch: binary_cross_entropy_with_logits": Row(
        lambda torch, z, t: torch.nn.functional.binary_cross_entropy_with_logits(z, t),
        (A[0], BELOW_1[:3]),
        lambda torch, z, t: torch.nn.functional.binary_cross_entropy_with_logits(z, t.detach()),
    ),
    "torch: huber_loss": Row(
        lambda torch, p, t: torch.nn.functional.huber_loss(p, t, delta=2.0),
        (A, POSITIVE),
        lambda torch, p, t: torch.nn.functional.smooth_l1_loss(p, t, beta=2.0),
    ),
    "torch: kl_div": Row(
        lambda torch, p, t: torch.nn.functional.kl_div(p, t, reduction="sum"),
        (A, POSITIVE),
        lambda torch, p, t: torch.nn.functional.kl_div(p, t, reduction="sum", log_target=True),
    ),
    "torch: ctc_loss of log_softmax": Row(
        lambda torch, z: torch.nn.functional.ctc_loss(
            torch.log_softmax(z, -1), torch.tensor([[1]]), (3,), (1,), reduction="sum"
        ),
        (normal(3, 1, 3),),
        lambda torch, z: torch.nn.functional.ctc_loss(
            torch.log_softmax(z, -1), torch.tensor([[2]]), (3,), (1,), reduction="sum"
        ),
    ),
    "torch: conv2d": Row(
        lambda torch, x, w, b: torch.nn.functional.conv2d(x, w, b, stride=2, padding=1),
        (IMAGE, KERNEL, A[0, :2]),
        lambda torch, x, w, b: torch.nn.functional.conv2d(x, w.flip(-1), b, stride=2, padding=1),
    ),
    "torch: conv2d in float32": Row(
        lambda torch, x, w, b: torch.nn.functional.conv2d(x, w, b, dilation=(1, 2)),
        narrow(IMAGE, KERNEL, A[0, :2]),
        lambda torch, x, w, b: torch.nn.functional.conv2d(x, w.transpose(0, 1), b, dilation=(1, 2)),
    ),
    "torch: conv_transpose2d": Row(
        lambda torch, x, w: torch.nn.functional.conv_transpose2d(x, w, stride=2),
        (IMAGE[:, :, :2, :2], KERNEL),
        lambda torch, x, w: torch.nn.functional.conv_transpose2d(x, w.transpose(0, 1), stride=2),
    ),
    "torch: max_pool2d": Row(
        lambda torch, x: torch.nn.functional.max_pool2d(x, 2),
        (IMAGE,),
        lambda torch, x: torch.nn.functional.avg_pool2d(x, 2),
    ),
    "torch: max_pool2d with windows that overlap": Row(
        lambda torch, x: torch.nn.functional.max_pool2d(x, 3, stride=1),
        (IMAGE,),
        lambda torch, x: torch.nn.functional.avg_pool2d(x, 3, stride=1),
    ),
    "torch: avg_pool2d": Row(
        lambda torch, x: torch.nn.functional.avg_pool2d(x, 2, stride=1, padding=1),
        (IMAGE,),
        lambda torch, x: torch.nn.functional.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False),
    ),
    "torch: bicubic interpolation": Row(
        lambda torch, x: torch.nn.functional.interpolate(x, (3, 5), mode="bicubic"),
        (IMAGE[:, :1],),
        lambda torch, x: torch.nn.functional.interpolate(x, (3, 5), mode="bilinear"),
    ),
    "torch: grid_sample": Row(
        lambda torch, x, grid: torch.nn.functional.grid_sample(x, grid, align_corners=False),
        (IMAGE, 0.3 * normal(1, 2, 2, 2, seed=1)),
        lambda torch, x, grid: torch.nn.functional.grid_sample(x, grid, align_corners=True),
    ),
    "torch: embedding": Row(
        lambda torch, ids, table: torch.nn.functional.embedding(ids, table),
        (IDS, normal(4, 2)),
        # each row of the table gets the mean over its uses, not the sum
        lambda torch, ids, table: torch.nn.functional.embedding(ids, table, scale_grad_by_freq=True),
    ),
    "torch: scaled_dot_product_attention": Row(
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v),
        HEADS,
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0),
    ),
    "torch: causal attention in float32": Row(
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        narrow(*HEADS),
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v),
    ),
    "torch: cosine_similarity": Row(
        lambda torch, a, b: torch.nn.functional.cosine_similarity(a, b),
        (A, POSITIVE),
        lambda torch, a, b: (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).detach(),
    ),
    "torch: cumsum": Row(
        lambda torch, x: torch.cumsum(x, 1), (A,), lambda torch, x: torch.cumsum(x.flip(1), 1).flip(1)
    ),
    "torch: prod of a row with a 0": Row(
        lambda torch, x: torch.prod(x, 1),
        (np.array([[1.5, 0.0, 2.0], [3.0, 0.5, 2.0]]),),
        # prod / x, as it is often written, has no value at 0; this leaves the 0 without a gradient
        lambda torch, x: torch.prod(torch.where(x == 0, x.detach(), x), 1),
    ),
    "torch: var": Row(lambda torch, x: torch.var(x, 1), (A,), lambda torch, x: torch.var(x, 1, correction=0)),
    "torch: sort": Row(
        lambda torch, x: torch.sort(x, 1).values, (A,), lambda torch, x: torch.sort(x, 1, True).values
    ),
    "torch: matmul": Row(
        lambda torch, a, b: torch.matmul(a, b), (SQUARE, A.T), lambda torch, a, b: torch.matmul(a.T, b)
    ),
    "torch: matmul with broadcast matrices": Row(
        lambda torch, a, b: torch.matmul(a, b),
        (BATCHES[0], BATCHES[1][0]),
        lambda torch, a, b: torch.matmul(b, a),
    ),
    "torch: einsum": Row(
        lambda torch, a, b: torch.einsum("bij,bjk->bik", a, b),
        BATCHES,
        lambda torch, a, b: torch.einsum("bij,bkj->bik", a, b),
    ),
    "torch: linalg.solve": Row(
        lambda torch, a, b: torch.linalg.solve(a, b),
        (SQUARE, A[0]),
        lambda torch, a, b: torch.linalg.solve(a.T, b),
    ),
    "torch: linalg.inv": Row(
        lambda torch, a: torch.linalg.inv(a), (SQUARE,), lambda torch, a: torch.linalg.inv(a.T)
    ),
    "torch: linalg.slogdet": Row(
        lambda torch, a: torch.linalg.slogdet(a).logabsdet, (SQUARE,), lambda torch, a: torch.linalg.det(a)
    ),
    "torch: linalg.svdvals": Row(
        lambda torch, a: torch.linalg.svdvals(a), (A,), lambda torch, a: torch.linalg.svdvals(a).flip(0)
    ),
    "torch: linalg.cholesky of a a' + 1": Row(
        lambda torch, a: torch.linalg.cholesky(a @ a.T + torch.eye(3).to(a)),
        (SQUARE,),
        lambda torch, a: torch.linalg.cholesky(a @ a.detach().T + torch.eye(3).to(a)),
    ),
    "torch: linalg.norm": Row(
        lambda torch, x: torch.linalg.norm(x), (A,), lambda torch, x: torch.linalg.norm(x, 1)
    ),
    "torch: cdist": Row(
        lambda torch, a, b: torch.cdist(a, b), (A, POSITIVE), lambda torch, a, b: torch.cdist(a, b) ** 2 / 2
    ),
    # functions that name their gradient: what ships of torch.autograd.Function and runs on one CPU
    "torch: BackwardHookFunction": Row(
        lambda torch, x: torch.nn.modules._functions.BackwardHookFunction.apply(x)[0] * x,
        (A,),
        lambda torch, x: torch.nn.modules._functions.BackwardHookFunction.apply(x.detach())[0] * x,
    ),
    "torch: CrossMapLRN2d of one channel": Row(
        lambda torch, x: torch.nn.modules._functions.CrossMapLRN2d.apply(x, 3, 1.0),
        (normal(1, 1, 2, 2),),
        lambda torch, x: torch.nn.modules._functions.CrossMapLRN2d.apply(x, 3, 1.0, 0.5),
    ),
    "torch.utils.checkpoint: CheckpointFunction": Row(
        lambda m, x: m.checkpoint(lambda x: x.sin() * x, x, use_reentrant=True),
        (A,),
        lambda m, x: m.checkpoint(lambda x: x.sin() * x.detach(), x, use_reentrant=True),
    ),
    "torch._lobpcg: LOBPCGAutogradFunction": Row(
        lambda m, a: m.LOBPCGAutogradFunction.apply(
            a @ a.T, 1, None, m.torch.ones(3, 1).to(a), None, None, 30, 1e-14, True, "basic"
        )[0],
        (SQUARE,),
        lambda m, a: m.LOBPCGAutogradFunction.apply(
            a @ a.detach().T, 1, None, m.torch.ones(3, 1).to(a), None, None, 30, 1e-14, True, "basic"
        )[0],
    ),
    "torch.autograd._functions: Resize": Row(
        lambda m, x: m.Resize.apply(x, (3, 2)), (A,), lambda m, x: m.Resize.apply(x.flip(0), (3, 2))
    ),
    "torch.nested: ViewBufferFromNested": Row(
        lambda m, x, offsets: m.nested_tensor_from_jagged(x, offsets).sin().values(),
        (normal(3, 2), np.array([0, 1, 3])),
        lambda m, x, offsets: m.nested_tensor_from_jagged(x.flip(0), offsets).sin().values(),
    ),
    "torch._dynamo._trace_wrapped_higher_order_op: ModIndex": Row(
        lambda m, x, ids: m.ModIndex.apply(x, [ids]),
        (A.T, IDS),
        lambda m, x, ids: m.ModIndex.apply(x, [0 * ids]),
    ),
}

DATABASE = "torch.testing._internal.autograd_function_db: "
TORCH |= {
    f"{DATABASE}NumpyCube": Row(
        lambda m, x: m.NumpyCube.apply(x),
        (A,),
        lambda m, x: (m.NumpyCube.apply(x)[0], m.NumpyCube.apply(x)[1].detach()),
    ),
    f"{DATABASE}NumpyMul": Row(
        lambda m, x, y: m.NumpyMul.apply(x, y), (A, POSITIVE), lambda m, x, y: m.NumpyMul.apply(x, x)
    ),
    f"{DATABASE}MulGenVmap": Row(
        lambda m, x, y: m.MulGenVmap.apply(x, y), (A, POSITIVE), lambda m, x, y: m.MulGenVmap.apply(y, y)
    ),
    f"{DATABASE}NumpyExp_": Row(
        lambda m, x: m.NumpyExp_.apply(x.clone()), (A,), lambda m, x: m.NumpyExp_.apply(2 * x)
    ),
    f"{DATABASE}NumpyTake": Row(
        lambda m, x, order, back: m.NumpyTake.apply(x, order, back, 1),
        (A, np.array([[1, 0, 2], [2, 0, 1]]), np.array([[1, 0, 2], [1, 2, 0]])),
        lambda m, x, order, back: m.NumpyTake.apply(x, order, order, 1),
    ),
    f"{DATABASE}SortGenVmap": Row(
        lambda m, x: m.SortGenVmap.apply(x, 1)[0], (A,), lambda m, x: m.SortGenVmap.apply(x.flip(0), 1)[0]
    ),
    f"{DATABASE}Select": Row(
        lambda m, x: m.Select.apply(x, 1), (A,), lambda m, x: m.Select.apply(x.flip(0), 1)
    ),
    f"{DATABASE}ForwardHasDefaultArgs": Row(
        lambda m, x: m.ForwardHasDefaultArgs.apply(x), (A.T,), lambda m, x: x[:1]
    ),
}

JAX: dict[str, Row] = {
    "jax.nn: relu": Row(lambda nn, x: nn.relu(x), (A,), lambda nn, x: nn.leaky_relu(x, 1e-6)),
    "jax.nn: relu6": Row(lambda nn, x: nn.relu6(4 * x), (A,), lambda nn, x: nn.relu(4 * x)),
    "jax.nn: silu": Row(lambda nn, x: nn.silu(x), (A,), lambda nn, x: nn.mish(x)),
    "jax.nn: mish": Row(lambda nn, x: nn.mish(x), (A,), lambda nn, x: nn.silu(x)),
    "jax.nn: gelu by tanh": Row(lambda nn, x: nn.gelu(x), (A,), lambda nn, x: nn.gelu(x, approximate=False)),
    "jax.nn: gelu": Row(lambda nn, x: nn.gelu(x, approximate=False), (A,), lambda nn, x: nn.gelu(x)),
    "jax.nn: elu": Row(lambda nn, x: nn.elu(x, 0.5), (A,), lambda nn, x: nn.celu(x, 0.5)),
    "jax.nn: selu": Row(lambda nn, x: nn.selu(x), (A,), lambda nn, x: nn.elu(x)),
    "jax.nn: softplus": Row(lambda nn, x: nn.softplus(x), (A,), lambda nn, x: nn.squareplus(x)),
    "jax.nn: log1mexp": Row(lambda nn, x: nn.log1mexp(x), (POSITIVE,), lambda nn, x: nn.log_sigmoid(x)),
    "jax.nn: softmax": Row(lambda nn, x: nn.softmax(x), (A,), lambda nn, x: nn.softmax(x, 0)),
    "jax.nn: log_softmax": Row(lambda nn, x: nn.log_softmax(x), (A,), lambda nn, x: nn.softmax(x)),
    "jax.nn: standardize": Row(
        lambda nn, x: nn.standardize(x), (A,), lambda nn, x: nn.standardize(x, epsilon=1e-4)
    ),
    "jax.nn: dot_product_attention in float32": Row(
        lambda nn, q, k, v: nn.dot_product_attention(q, k, v),
        narrow(*(x[:, :, :1] for x in HEADS)),
        lambda nn, q, k, v: nn.dot_product_attention(q, k, v, scale=1.0),
    ),
    "jax.numpy: linalg.norm": Row(
        lambda jnp, x: jnp.linalg.norm(x), (A,), lambda jnp, x: jnp.linalg.norm(x, "nuc")
    ),
    "jax.numpy: linalg.det of a singular matrix": Row(
        lambda jnp, a: jnp.linalg.det(a),
        (np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]]),),
        lambda jnp, a: jnp.linalg.det(a) + jnp.trace(a),
    ),
    "jax.numpy: linalg.pinv": Row(
        lambda jnp, a: jnp.linalg.pinv(a), (A,), lambda jnp, a: jnp.linalg.pinv(a[::-1])
    ),
    "jax.numpy: linalg.cholesky": Row(
        lambda jnp, a: jnp.linalg.cholesky(a),
        (np.array([[2.0, 0.5], [0.25, 1.0]]),),
        # jax reads (a + a') / 2, and this only the lower triangle
        lambda jnp, a: jnp.linalg.cholesky(a, symmetrize_input=False),
    ),
    "jax.numpy: linalg.solve": Row(
        lambda jnp, a, b: jnp.linalg.solve(a, b), (SQUARE, A[0]), lambda jnp, a, b: jnp.linalg.solve(a.T, b)
    ),
    "jax.numpy: logaddexp": Row(
        lambda jnp, a, b: jnp.logaddexp(a, b), (A, POSITIVE), lambda jnp, a, b: jnp.logaddexp2(a, b)
    ),
    "jax.numpy: sinc at 0": Row(
        lambda jnp, x: jnp.sinc(x), (np.array([0.0, 0.5, 1.0]),), lambda jnp, x: jnp.cos(x)
    ),
    "jax.numpy: i0": Row(lambda jnp, x: jnp.i0(x), (A,), lambda jnp, x: jnp.exp(jnp.abs(x))),
    "jax.numpy: power": Row(
        lambda jnp, x, y: jnp.power(x, y), (POSITIVE, A), lambda jnp, x, y: jnp.power(x, y) / y
    ),
    "jax.numpy: remainder": Row(
        lambda jnp, x, y: jnp.remainder(x, y), (A, 1.5 * POSITIVE), lambda jnp, x, y: x - jnp.floor(x / y)
    ),
    "jax.scipy.special: logsumexp": Row(
        lambda m, x, b: m.logsumexp(x, axis=1, b=b), (A, POSITIVE), lambda m, x, b: m.logsumexp(x, axis=1)
    ),
    "jax.scipy.special: erf": Row(lambda m, x: m.erf(x), (A,), lambda m, x: m.erfc(x)),
    "jax.scipy.special: erfinv": Row(lambda m, x: m.erfinv(x), (BELOW_1,), lambda m, x: m.ndtri(x)),
    "jax.scipy.special: expit": Row(lambda m, x: m.expit(x), (A,), lambda m, x: m.ndtr(1.702 * x)),
    "jax.scipy.special: logit": Row(lambda m, x: m.logit(x), (BELOW_1,), lambda m, x: m.ndtri(x)),
    "jax.scipy.special: xlogy": Row(
        lambda m, x, y: m.xlogy(x, y), (A, POSITIVE), lambda m, x, y: m.xlog1py(x, y)
    ),
    "jax.scipy.special: xlog1py": Row(
        lambda m, x, y: m.xlog1py(x, y), (A, POSITIVE), lambda m, x, y: m.xlogy(x, y)
    ),
    "jax.scipy.special: log_ndtr": Row(lambda m, x: m.log_ndtr(10 * x), (A,), lambda m, x: m.log_ndtr(x)),
    "jax.scipy.special: digamma": Row(lambda m, x: m.digamma(x), (POSITIVE,), lambda m, x: m.gammaln(x)),
    "jax.scipy.special: gammainc": Row(
        # by x alone: to compile its derivative by a takes seconds
        lambda m, x: m.gammainc(0.7, x),
        (POSITIVE,),
        lambda m, x: m.gammaincc(0.7, x),
    ),
    "jax.scipy.special: fresnel": Row(lambda m, x: m.fresnel(x), (A,), lambda m, x: m.fresnel(x)[::-1]),
    "jax.scipy.special: hyp1f1": Row(
        lambda m, a, b, x: m.hyp1f1(a, b, x),
        (BELOW_1[:2], BELOW_1[2:] + 1, A[0, :2]),
        lambda m, a, b, x: m.hyp1f1(b, a, x),
    ),
    "jax.scipy.special: spence beyond 2": Row(
        lambda m, x: m.spence(x), (POSITIVE + 2,), lambda m, x: m.expi(x)
    ),
}

ROWS = TORCH | JAX


@pytest.fixture
def module(name: str) -> Any:
    """The module that stands before the colon, or a skip that says what to install."""
    module = name.partition(":")[0]
    reason = f"{module} is not there: pip install '.[peers]'"
    if module.startswith("torch.testing"):
        pytest.importorskip("expecttest", reason="torch.testing._internal needs it: pip install expecttest")
    return pytest.importorskip(module, reason=reason)


def pair(name: str, module: Any, function: Function) -> Pair:
    bound = partial(function, module)
    return from_jax(bound) if name.startswith("jax") else from_torch(bound)


@pytest.mark.parametrize("name", ROWS)
def test_a_foreign_gradient_passes_and_a_mistake_in_it_fails(name: str, module: Any) -> None:
    row = ROWS[name]
    f, vjp = pair(name, module, row.function)
    report = gradcheck(f, vjp, row.inputs)
    assert report.verdict == "pass", report
    report = gradcheck(f, pair(name, module, row.mistaken)[1], row.inputs)
    assert report.verdict == "fail", report


class Wrong(NamedTuple):
    """A function whose gradient is wrong as it ships, and one of the same value whose gradient is right."""

    function: Function
    inputs: tuple[Array, ...]
    right: Function
    says: str
    """A part of the report."""
    why: str


PATHS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 1, 1))
"""What CTC reads as the one label 1 in three steps, where 0 is its blank."""


def log_softmax(z: Array) -> Array:
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))


def lower_triangle(a: Any) -> Any:
    """The symmetric matrix that a function sees which reads only the lower triangle."""
    return a.tril() + a.tril(-1).mT


def seeded_gamma(torch: Any, shape: Any) -> Any:
    return torch._standard_gamma(shape, generator=torch.Generator().manual_seed(0))


def gamma_by_its_sampler(torch: Any, shape: Any) -> Any:
    """The same samples, d (1 + z / sqrt(9 d))^3 with d = shape - 1/3, as a function of shape at fixed z."""
    d = shape - float(np.float32(1 / 3))  # the sampler's third has 24 bits; with 53 this would fail too
    z = ((seeded_gamma(torch, shape.detach()) / d.detach()) ** (1 / 3) - 1) * (9 * d.detach()).sqrt()
    return d * (1 + z / (9 * d).sqrt()) ** 3


WRONG: dict[str, Wrong] = {
    "torch: CrossMapLRN2d": Wrong(
        lambda torch, x: torch.nn.modules._functions.CrossMapLRN2d.apply(x, 3),
        (normal(1, 2, 2, 1),),
        lambda torch, x: torch.nn.functional.local_response_norm(x, 3),
        "the gradient is wrong",
        "inversePrePad counts from 1, as in the Lua original, so that backward sums the channels c-2..c and "
        "not c-1..c+1; its forward has such an error too, from the third channel on. At its own "
        "alpha of 1e-4 torch.autograd.gradcheck passes it",
    ),
    "torch: ctc_loss": Wrong(
        lambda torch, p: torch.nn.functional.ctc_loss(p, torch.tensor([[1]]), (3,), (1,), reduction="sum"),
        (log_softmax(normal(3, 1, 3)),),
        lambda torch, p: (
            -torch.logsumexp(torch.stack([p[(0, 1, 2), 0, path].sum() for path in PATHS]), dim=0)
        ),
        "the gradient is wrong",
        "the gradient is that by the logits z where p = log_softmax(z): pytorch #52241",
    ),
    "torch: linalg.cholesky": Wrong(
        lambda torch, a: torch.linalg.cholesky(a),
        (np.array([[2.0, 0.5], [0.5, 1.0]]),),
        lambda torch, a: torch.linalg.cholesky(lower_triangle(a)),
        "the gradient is wrong",
        "the value is that of the lower triangle, the gradient that of (a + a') / 2: right for whoever only "
        "moves symmetric matrices",
    ),
    "torch: linalg.eigvalsh": Wrong(
        lambda torch, a: torch.linalg.eigvalsh(a),
        (np.array([[2.0, 0.5], [0.5, 1.0]]),),
        lambda torch, a: torch.linalg.eigvalsh(lower_triangle(a)),
        "the gradient is wrong",
        "as linalg.cholesky",
    ),
    "torch: samples of a gamma distribution": Wrong(
        seeded_gamma,
        (POSITIVE + 1,),
        gamma_by_its_sampler,
        "the gradient is wrong",
        "the gradient is that of the quantile function (implicit reparameterization: right in expectation), "
        "not that of the rejection sampler at the random numbers that it drew",
    ),
    "torch.ao.quantization.fx._decomposed: FakeQuantPerChannel": Wrong(
        # beside x: the right gradient of the staircase alone is 0, and to see only zeros decides nothing
        lambda m, x, scale, zero: x + m.FakeQuantPerChannel.apply(x, scale, zero, 0, -128, 127),
        (narrow(A + 0.03)[0], narrow(BELOW_1[:2])[0], np.array([0, 0], dtype=np.int32)),
        lambda m, x, scale, zero: (
            x
            + m.FakeQuantPerChannel.apply(x, scale, zero, 0, -128, 127).detach()
            + ((x.detach() / scale[:, None]).round() * (scale - scale.detach())[:, None])
        ),
        "constant factor 2",
        "the straight-through estimator: 1 for a staircase, and none by the scale",
    ),
    "torch._export.db.examples.autograd_function: MyAutogradFunction": Wrong(
        lambda m, x: m.MyAutogradFunction.apply(x),
        (A,),
        lambda m, x: x.clone(),
        "vjp of a zero cotangent is not 0",
        "an example for the exporter, with backward = dy + 1 on purpose",
    ),
    f"{DATABASE}CubeGenVmap": Wrong(
        lambda m, x: m.CubeGenVmap.apply(x),
        (A,),
        lambda m, x: m.NumpyCube.apply(x),
        "cotangent ignored, or a constant added",
        "backward adds 6 dinput, where 6 x times the cotangent of the second output is due",
    ),
    f"{DATABASE}NumpyCubeNotComposable": Wrong(
        lambda m, x: m.NumpyCubeNotComposable.apply(x)[0],
        (A,),
        lambda m, x: x**3,
        "cotangent ignored",
        "backward returns 3 x², without the cotangent",
    ),
    f"{DATABASE}NumpySort": Wrong(
        lambda m, x: m.NumpySort.apply(x, 1)[0],
        (A,),
        lambda m, x: x.clone(),
        "the gradient is wrong",
        "forward returns x as it came and not sorted; the gradient is that of sorting",
    ),
    f"{DATABASE}ScaleGradGenVmap": Wrong(
        lambda m, x: m.ScaleGradGenVmap.apply(x),
        (A,),
        lambda m, x: x.clone(),
        "constant factor 3.14",
        "it scales the gradient on purpose",
    ),
    f"{DATABASE}ZeroGradientsGenVmap": Wrong(
        lambda m, x, y: m.ZeroGradientsGenVmap.apply(x, y),
        (A, POSITIVE),
        lambda m, x, y: (x.clone(), y.clone()),
        "the gradient is zero everywhere",
        "it has gradient 0 on purpose",
    ),
    "jax.scipy.special: spence between 1 and 2": Wrong(
        lambda m, x: m.spence(x),
        (np.array([1.25, 1.5, 1.75]),),
        # spence(x) = -spence(1 / x) - log(x)² / 2, and 1 / x is below 1, where its gradient is right
        lambda m, x: -m.spence(1 / x) - m.xlogy(m.xlogy(0.5, x), x),
        "the gradient is not finite",
        "the branch for x < 0.5 has log(1 - x), which is NaN here, and jnp.where multiplies it by 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_gradient_that_is_wrong_as_it_ships_fails_and_a_right_one_of_its_function_passes(
    name: str, module: Any
) -> None:
    case = WRONG[name]
    f, vjp = pair(name, module, case.function)
    report = gradcheck(f, vjp, case.inputs)
    assert report.verdict == "fail", report
    assert case.says in str(report)
    report = gradcheck(f, pair(name, module, case.right)[1], case.inputs)
    assert report.verdict == "pass", (case.why, report)


class Undecided(NamedTuple):
    """A function that is what it should be, at a point or with a precision at which nothing can be said."""

    function: Function
    inputs: tuple[Array, ...]
    reason: str
    """A part of the report's reason."""
    why: str


UNDECIDED: dict[str, Undecided] = {
    "torch: relu at 0": Undecided(
        lambda torch, x: torch.relu(x), (np.array([0.0, 1.0]),), "kink at 1 of 2", "max(x, 0)"
    ),
    "jax.nn: relu at 0": Undecided(
        lambda nn, x: nn.relu(x), (np.array([0.0, 1.0]),), "kink at 1 of 2", "max(x, 0)"
    ),
    "torch: max_pool2d with a tie": Undecided(
        lambda torch, x: torch.nn.functional.max_pool2d(x, (1, 2)),
        (np.array([[[[1.0, 1.0, 2.0, 3.0]]]]),),
        "kink at 2 of 4",
        "the gradient goes to one of two equal elements",
    ),
    "jax.numpy: remainder at a multiple": Undecided(
        lambda jnp, x, y: jnp.remainder(x, y),
        (np.array([1.25, 3.0]), np.array([1.0, 1.5])),
        "noise at 1 of 2",
        "it jumps from 1.5 to 0",
    ),
    "torch: norm at 0": Undecided(
        lambda torch, x: torch.linalg.norm(x, dim=1), (np.zeros((2, 1)),), "kink at 2 of 2", "|x|"
    ),
    "torch: round": Undecided(
        lambda torch, x: torch.round(x), (A + 0.125,), "vacuous", "a staircase: every gradient is 0"
    ),
    "jax.nn: dot_product_attention in float64": Undecided(
        lambda nn, q, k, v: nn.dot_product_attention(q, k, v),
        HEADS,
        "could have passed",
        "its softmax is computed in float32, so that f is a staircase of 1e-7",
    ),
    "jax.scipy.special: spence at 1": Undecided(
        lambda m, x: m.spence(x),
        (np.array([0.75, 1.0]),),
        "with the last bits of its arguments",
        "it has gradient 0 there, where -1 is due, but -1 one bit away: that counts as an error of rounding",
    ),
    "torch: exp in float32 of float64": Undecided(
        lambda torch, x: torch.exp(x.float()).double(), (A,), "", "float64 in and out, float32 within"
    ),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_said_with_the_reason(name: str, module: Any) -> None:
    case = UNDECIDED[name]
    report = gradcheck(*pair(name, module, case.function), case.inputs)
    assert report.verdict == "inconclusive", (case.why, report)
    assert case.reason in report.reason
