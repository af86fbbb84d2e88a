"""Cells along a sequence: the definition unrolled, gradients through time, PyTorch, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from refnet import OPS, ArgumentError, Unroll, Unrolled, gru_cell, linear, lstm_cell, mse, rnn_cell
from specs import SPECS
from verify.arithmetic.bounds import ErrorBound, granted_model, in_model, stored
from verify.arithmetic.certified import certify_each, certify_vjp, in_order
from verify.arithmetic.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from verify.conformance.judge import judge
from verify.gradients import gradcheck
from verify.reports.record import Verdict

Values = npt.NDArray[Any]

CELLS = ("rnn_cell", "lstm_cell", "gru_cell")
FORMATS = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
T, N, K, M = 4, 3, 2, 2


def arguments(name: str, fmt: Format = FLOAT64, *, steps: int = T, seed: int = 0) -> list[Values]:
    """A sequence, a state and parameters, of N examples, K features and M units."""
    rng = np.random.default_rng(seed)
    gates = {"rnn_cell": 1, "lstm_cell": 4, "gru_cell": 3}[name] * M
    state = [(N, M)] * len(SPECS[name].outputs)
    biases = [(gates,)] * (2 if name == "gru_cell" else 1)
    shapes = [(steps, N, K), *state, (K, gates), (M, gates), *biases]
    return [rng.standard_normal(shape).astype(fmt.dtype) for shape in shapes]


def apart(name: str, given: Any) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """The sequence, the state and the parameters."""
    xs, *rest = given
    states = len(SPECS[name].outputs)
    return xs, tuple(rest[:states]), tuple(rest[states:])


def flat(record: Any) -> tuple[Any, ...]:
    """The arrays of a record, however deep."""
    return tuple(a for item in record for a in flat(item)) if isinstance(record, tuple) else (record,)


def run(name: str) -> Callable[..., tuple[Any, ...]]:
    return lambda *given: flat(Unroll(OPS[name])(*apart(name, given)))


def run_vjp(name: str, cell: Any = None) -> Callable[..., tuple[Any, ...]]:
    unroll = Unroll(cell or OPS[name])
    return lambda dy, *given: flat(unroll.vjp(Unrolled(dy[0], tuple(dy[1:])), *apart(name, given)))


def definition(name: str) -> Callable[..., Any]:
    """The definition of the cell, step by step on exact numbers."""

    def unrolled(*given: Any) -> Any:
        xs, state, params = apart(name, given)
        outputs = []
        for x in xs:
            state = in_order(SPECS[name].definition(x, *state, *params))
            outputs.append(state[0])
        return np.stack(outputs), *state

    return unrolled


def bounds(name: str, dy: Any, given: list[Values], fmt: Format) -> tuple[list[ErrorBound], list[ErrorBound]]:
    """Those of the results and of the gradients: refnet's own code on numbers with their errors."""
    errors = []
    for statistical in (False, True):
        model = granted_model(fmt, statistical=statistical)
        unroll: Any = Unroll(OPS[name])
        results, residuals = unroll.forward(*apart(name, in_model(given, model)))
        outputs, *last = in_model(dy, model)
        gradients = unroll.backward(residuals, Unrolled(outputs, tuple(last)))
        errors.append([[stored(a, fmt).error for a in flat(part)] for part in (results, gradients)])
    values, slopes = (
        [ErrorBound(*pair) for pair in zip(*part, strict=True)] for part in zip(*errors, strict=True)
    )
    return values, slopes


def cotangents(name: str, given: list[Values], fmt: Format) -> tuple[Values, ...]:
    rng = np.random.default_rng(1)
    return tuple(
        np.asarray(rng.integers(-127, 128, y.shape) / 64.0).astype(fmt.dtype) for y in run(name)(*given)
    )


# ------------------------------------------------------------------------------------------- what is computed


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", CELLS)
def test_results_and_gradients_are_those_of_the_definition_unrolled(name: str, fmt: Format) -> None:
    given = arguments(name, fmt)
    dy = cotangents(name, given, fmt)
    values, slopes = bounds(name, dy, given, fmt)
    due = certify_each(definition(name), given, fmt, {})
    due_slopes = certify_vjp(definition(name), given, range(len(given)), dy, fmt, {})
    found = zip((*run(name)(*given), *run_vjp(name)(dy, *given)), (*due, *due_slopes), strict=True)
    for (got, truth), bound in zip(found, (*values, *slopes), strict=True):
        assert got.dtype == fmt.dtype
        assert judge(got, truth, bound, fmt).verdict is Verdict.PASS


@pytest.mark.parametrize("name", CELLS)
def test_gradients_through_time_pass_the_gradient_checker(name: str) -> None:
    report = gradcheck(run(name), run_vjp(name), arguments(name))
    assert report.verdict == "pass", str(report)


@pytest.mark.parametrize("name", CELLS)
def test_one_step_is_the_cell_bit_for_bit(name: str) -> None:
    given = arguments(name, steps=1)
    dy = cotangents(name, given, FLOAT64)
    step = (given[0][0], *given[1:])
    outputs, *state = run(name)(*given)
    alone = in_order(OPS[name](*step))
    assert outputs[0].tobytes() == alone[0].tobytes()
    assert [a.tobytes() for a in state] == [a.tobytes() for a in alone]
    last = (dy[1] + dy[0][0], *dy[2:])
    due = OPS[name].vjp(last if len(last) > 1 else last[0], *step)
    assert [g.tobytes() for g in run_vjp(name)(dy, *given)] == [g.tobytes() for g in due]


def test_backward_may_be_called_twice_and_arguments_stay() -> None:
    for name in CELLS:
        given = arguments(name)
        dy = cotangents(name, given, FLOAT64)
        before = [a.tobytes() for a in (*given, *dy)]
        unroll = Unroll(OPS[name])
        y, residuals = unroll.forward(*apart(name, given))
        once, twice = (flat(unroll.backward(residuals, Unrolled(dy[0], dy[1:]))) for _ in range(2))
        assert [g.tobytes() for g in once] == [g.tobytes() for g in twice]
        assert [a.tobytes() for a in (*given, *dy)] == before
        for result in (*flat(unroll(*apart(name, given))), *once):
            assert not any(np.shares_memory(result, a) for a in (*given, *dy))
        assert y.outputs[-1].tobytes() == y.state[0].tobytes()


# --------------------------------------------------------------------------------- what must not slip through


def _state_not_carried(gradients: Any, states: int) -> Any:
    """Nothing goes back to the step before: truncated to one step."""
    return type(gradients)(*(np.zeros_like(g) if 0 < k <= states else g for k, g in enumerate(gradients)))


@pytest.mark.parametrize("name", CELLS)
def test_a_state_gradient_that_is_not_carried_is_found(name: str) -> None:
    """CaptainE/RNN-LSTM-in-numpy#1; cthorey/CS231#1. Not with a single step, whose first state is given."""
    op: Any = OPS[name]
    states = len(SPECS[name].outputs)
    wrong = replace(op, backward=lambda kept, dy: _state_not_carried(op.backward(kept, dy), states))
    report = gradcheck(run(name), run_vjp(name, wrong), arguments(name))
    assert report.verdict == "fail"


@pytest.mark.parametrize("name", CELLS)
def test_parameter_gradients_of_one_step_are_found(name: str) -> None:
    """Those of the first step only: not summed over time."""

    def wrong(dy: Any, *given: Any) -> Any:
        unroll = Unroll(OPS[name])
        xs, state, params = apart(name, given)
        last = Unrolled(dy[0], tuple(dy[1:]))
        _, residuals = unroll.forward(xs, state, params)
        whole = unroll.backward(residuals, last)
        later_state = unroll.forward(xs[:1], state, params)[0].state
        _, later = unroll.forward(xs[1:], later_state, params)
        of_later = unroll.backward(later, Unrolled(last.outputs[1:], last.state)).params
        return (*flat(whole)[: -len(params)], *(a - b for a, b in zip(whole.params, of_later, strict=True)))

    assert gradcheck(run(name), wrong, arguments(name)).verdict == "fail"


# ---------------------------------------------------------------------------------------------------- PyTorch


def torch_module(torch: Any, name: str, given: list[Values]) -> Any:
    """The layer of PyTorch with these weights, transposed; of its two biases one is 0 but in the GRU."""
    _, _, params = apart(name, given)
    kind = {"rnn_cell": torch.nn.RNN, "lstm_cell": torch.nn.LSTM, "gru_cell": torch.nn.GRU}[name]
    module = kind(K, M, dtype=torch.float64)
    w_x, w_h, *biases = params
    second = biases[1] if len(biases) > 1 else np.zeros_like(biases[0])
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    for attribute, array in zip(names, (w_x.T, w_h.T, biases[0], second), strict=True):
        getattr(module, attribute).data = torch.tensor(array.copy())
    return module


@pytest.mark.parametrize("name", CELLS)
def test_pytorch_computes_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    given = arguments(name)
    dy = cotangents(name, given, FLOAT64)
    values, slopes = bounds(name, dy, given, FLOAT64)
    module = torch_module(torch, name, given)
    xs, *state = (
        torch.tensor(a, requires_grad=True) for a in apart(name, given)[0:1] + apart(name, given)[1]
    )
    lifted = tuple(a[None] for a in state)
    outputs, last = module(xs, lifted if len(lifted) > 1 else lifted[0])
    results = (outputs, *(a[0] for a in (last if isinstance(last, tuple) else (last,))))
    sum((y * torch.tensor(d)).sum() for y, d in zip(results, dy, strict=True)).backward()
    biases = (module.bias_ih_l0, module.bias_hh_l0)[: len(given) - 3 - len(state)]
    weights = (module.weight_ih_l0.grad.T, module.weight_hh_l0.grad.T, *(b.grad for b in biases))
    theirs = [y.detach().numpy() for y in results]
    gradients = [a.grad.numpy() for a in (xs, *state)] + [w.numpy() for w in weights]
    ours = (*run(name)(*given), *run_vjp(name)(dy, *given))
    for got, due, bound in zip((*theirs, *gradients), ours, (*values, *slopes), strict=True):
        assert (np.abs(got - due) <= 2.0 * bound.deterministic).all()


# --------------------------------------------------------------------------------------------------- the door


def test_what_is_no_cell_is_refused() -> None:
    for op in (linear, mse, OPS["softmax"], OPS["adam_step"]):
        with pytest.raises(ArgumentError, match="an operator of x, a state h"):
            Unroll(op)


XS, H, W, B = np.zeros((3, 1, 2)), np.zeros((1, 2)), np.zeros((2, 2)), np.zeros(2)
untyped: Any = Unroll(rnn_cell)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: untyped(XS, H, (W, W, B)), "Unroll: state is a ndarray; required: a tuple (h) for rnn_cell"),
        (
            lambda: untyped(XS, (H,), (W, B)),
            "params is 2 arrays; required: a tuple (w_x, w_h, b) for rnn_cell",
        ),
        (lambda: untyped(XS[0], (H,), (W, W, B)), "xs is of shape (1, 2); required: shape (t, n, k)"),
        (lambda: untyped(XS[:0], (H,), (W, W, B)), "with at least one step"),
        (lambda: untyped([0.0], (H,), (W, W, B)), "xs is a list"),
        (lambda: untyped(XS, (np.zeros((2, 2)),), (W, W, B)), "rnn_cell: h is of shape (2, 2)"),
        (lambda: untyped.vjp(XS, XS, (H,), (W, W, B)), "dy is a ndarray; required: an Unrolled"),
        (
            lambda: untyped.vjp(Unrolled(XS[:2], (H,)), XS, (H,), (W, W, B)),
            "dy.outputs is float64 of shape (2, 1, 2); required: float64 of shape (3, 1, 2)",
        ),
        (lambda: Unroll(lstm_cell)(XS, (H,), (W, W, B)), "a tuple (h, c) for lstm_cell"),
        (lambda: Unroll(gru_cell)(XS, (H,), (W, W, B)), "a tuple (w_x, w_h, b_x, b_h) for gru_cell"),
    ],
)
def test_the_door_says_what_is_required(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value)
