"""Networks of any operators: what a sequence computes, its whole gradients, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refnet
from refnet import (
    Apply,
    ArgumentError,
    Array,
    Mean,
    OverRows,
    Reshape,
    Residual,
    Sequential,
    linear,
    relu,
    tanh,
)
from refnet.network import backward, forward
from verify.gradients import gradcheck

RNG = np.random.default_rng(0)
MLP = Sequential(Apply(linear), Apply(relu), Apply(linear))
PARAMS = tuple(RNG.standard_normal(shape) for shape in ((4, 6), (6,), (6, 3), (3,)))
X = RNG.standard_normal((5, 4))


def test_a_sequence_of_layers_is_the_multilayer_perceptron_bit_for_bit() -> None:
    layers = [refnet.Layer(*PARAMS[:2]), refnet.Layer(*PARAMS[2:])]
    z, residuals = forward(X, layers)
    assert MLP(X, PARAMS).tobytes() == z.tobytes()
    dz = RNG.standard_normal(z.shape)
    due = [array for layer in backward(residuals, dz) for array in layer]
    assert [g.tobytes() for g in MLP.vjp(dz, X, PARAMS).params] == [g.tobytes() for g in due]


def checked(network: Sequential, x: Array, params: tuple[Array, ...]) -> str:
    """The verdict of the gradient checker on all gradients of a network."""
    report = gradcheck(
        lambda x, *params: network(x, params),
        lambda dy, x, *params: (lambda g: (g.x, *g.params))(network.vjp(dy, x, params)),
        [x, *params],
    )
    return report.verdict


TOKENS = Sequential(
    Reshape(2, 2),
    OverRows(Sequential(Apply(linear), Apply(tanh))),
    Residual(OverRows(Apply(linear))),
    Mean(1),
)
TOKEN_PARAMS = tuple(RNG.standard_normal(shape) for shape in ((2, 3), (3,), (3, 3), (3,)))


def test_every_kind_of_stage_has_the_right_gradient() -> None:
    assert TOKENS.parameters == len(TOKEN_PARAMS)
    assert checked(TOKENS, X, TOKEN_PARAMS) == "pass"


class _Forgets:
    """A residual connection whose backward forgets the way around the stage."""

    parameters = 2

    def __init__(self) -> None:
        self.inner = Residual(Apply(linear))

    def forward(self, x: Array, params: Any, *, checked: bool = False) -> Any:
        return self.inner.forward(x, params, checked=checked)

    def backward(self, residuals: Any, dy: Array) -> refnet.StageGradients:
        dx, params = self.inner.backward(residuals, dy)
        assert dx is not None
        return refnet.StageGradients(dx - dy, params)


def test_a_wrong_stage_is_found() -> None:
    params = (RNG.standard_normal((4, 4)), RNG.standard_normal(4))
    assert checked(Sequential(_Forgets()), X, params) == "fail"
    assert checked(Sequential(Residual(Apply(linear))), X, params) == "pass"


def test_nothing_is_shared_and_nothing_is_changed() -> None:
    network = Sequential(Reshape(2, 2), Reshape(-1))
    y, dx = network(X, ()), network.vjp(X, X, ()).x
    assert dx is not None
    assert not any(np.shares_memory(result, X) for result in (y, dx))
    assert (y == X).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dtype_of_the_parameters_is_that_of_the_results(dtype: str) -> None:
    x, params = X.astype(dtype), tuple(p.astype(dtype) for p in PARAMS)
    y = MLP(x, params)
    gradients = MLP.vjp(np.ones_like(y), x, params)
    assert {y.dtype, *(g.dtype for g in gradients.params)} == {np.dtype(dtype)}


untyped: Any = MLP


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(X, PARAMS[:3]), "Sequential: params is 3 arrays; required: a tuple of 4 arrays"),
        (lambda: untyped(X, None), "Sequential: params is a NoneType"),
        (lambda: untyped([[1.0]], PARAMS), "Sequential: x is a list; required: a NumPy array"),
        (lambda: MLP(X.astype(bool), PARAMS), "Sequential: x is of dtype bool; required: one of float64"),
        (
            lambda: MLP(X.astype(np.float32), PARAMS),
            "the arguments together is float32 (x) and float64 (params[0]); required: arrays of one floating",
        ),
        (
            lambda: MLP(X[:, :3], PARAMS),
            "linear: w is of shape (4, 6); required: shape (k, m) with n = 5",
        ),
        (
            lambda: MLP.vjp(X, X, PARAMS),
            "Sequential: dy is float64 of shape (5, 4); required: float64",
        ),
        (lambda: Sequential(Reshape(3))(X, ()), "Reshape: x is of shape (5, 4)"),
        (lambda: Sequential(Reshape(-1, -1))(X, ()), "One size may be -1"),
        (lambda: Sequential(Mean(2))(X, ()), "Mean: x is of shape (5, 4)"),
        (
            lambda: Sequential(Residual(Apply(linear)))(X, PARAMS[:2]),
            "Residual: the output of its stage is of shape (5, 6); required: shape (5, 4)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value)
