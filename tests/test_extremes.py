"""The ends of the range: where the true value is finite, so is the reference's, and within its bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refnet import OPS, ArgumentError, sgd_epoch, sgd_step
from specs import SPECS
from verify.arithmetic.bounds import value_bound, value_bounds, vjp_bounds
from verify.arithmetic.certified import certify, certify_each, certify_vjp
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format, Truth, error_in_ulp, ulp_exponents
from verify.conformance.judge import Judgement, judge
from verify.reports.record import Verdict

MAX32, MAX64 = FLOAT32.largest, FLOAT64.largest


def agrees(got: Any, truth: Truth, bound: Any, fmt: Format) -> bool:
    """Correctly rounded, or finite where the truth is and within the bound, if there is one."""
    got = np.asarray(got)
    with np.errstate(all="ignore"):
        error = error_in_ulp(got, truth, fmt)
        granted = error * np.ldexp(1.0, ulp_exponents(truth, fmt)) <= np.nan_to_num(bound, nan=np.inf)
    same = np.isfinite(got) == np.isfinite(truth.nearest)
    return bool(((error <= 0.5) | (same & granted & np.isfinite(error))).all())


VALUES: list[tuple[str, Format, list[Any], dict[str, Any]]] = [
    ("softmax_cross_entropy", FLOAT64, [[[MAX64, -MAX64]], [[1.0, 0.0]]], {"reduction": "mean"}),
    ("softmax_cross_entropy", FLOAT32, [[[MAX32, -MAX32]], [[1.0, 0.0]]], {"reduction": "none"}),
    ("softmax_cross_entropy", FLOAT64, [[[MAX64, -MAX64]], [[0.0, 1.0]]], {"reduction": "none"}),
    ("softmax_cross_entropy_with_integer_labels", FLOAT64, [[[744.0, 0.0]] * 3, [0, 0, 0]], {}),
    ("softmax_cross_entropy_with_integer_labels", FLOAT32, [[[103.0, 0.0]] * 3, [0, 0, 0]], {}),
    ("mse", FLOAT32, [[1.8e19] * 3, [0.0] * 3], {"reduction": "mean"}),
    ("mse", FLOAT64, [[1.5e-162] * 2, [0.0] * 2], {"reduction": "sum"}),
    ("mae", FLOAT32, [[3e38] * 3, [0.0] * 3], {"reduction": "mean"}),
    ("huber", FLOAT32, [[3e38] * 3, [0.0] * 3], {"reduction": "mean"}),
    ("huber", FLOAT64, [[1e300, -1e300], [0.0, 0.0]], {"delta": 0.5, "reduction": "none"}),
    ("huber", FLOAT64, [[1e-160, 1.0 + 2**-52], [0.0, 0.0]], {"reduction": "none"}),
    ("log_cosh", FLOAT64, [[1e-8, 1e-160, 0.999, 1.0, 1000.0, -1e300], [0.0] * 6], {"reduction": "none"}),
    ("log_cosh", FLOAT32, [[3e38] * 3, [0.0] * 3], {"reduction": "mean"}),
    ("hinge", FLOAT32, [[-3e38] * 3, [1.0] * 3], {"reduction": "mean"}),
    ("nll", FLOAT32, [[[-3e38, 0.0]] * 3, [0, 0, 0]], {"reduction": "mean"}),
    ("kl_divergence", FLOAT64, [[[-MAX64, 0.0]], [[0.5, 0.5]]], {"reduction": "none"}),
    ("log_softmax", FLOAT64, [[[MAX64, -MAX64]]], {}),
    ("logsumexp", FLOAT64, [[[MAX64, MAX64]]], {}),
    ("hard_swish", FLOAT64, [[MAX64, -MAX64, 5e-324]], {}),
    ("leaky_relu", FLOAT32, [[MAX32, -MAX32, -1e-38]], {"slope": 0.01}),
    ("softsign", FLOAT64, [[MAX64, -MAX64, 5e-324]], {}),
    ("softplus", FLOAT64, [[MAX64, -MAX64, 700.0, -700.0]], {"beta": 3.0}),
    ("mish", FLOAT64, [[MAX64, -MAX64, 354.0, 355.0, 356.0, -744.0]], {}),
    ("gelu", FLOAT64, [[MAX64, -MAX64, 1e-320]], {"approximate": "tanh"}),
    ("layer_norm", FLOAT64, [[[1e300, -1e300, 3e299], [MAX64, MAX64, 0.0]], [1.0] * 3, [0.0] * 3], {}),
    ("layer_norm", FLOAT32, [[[3e38, 3e38, -1e37], [1e-40, 0.0, 2e-40]], [1.0] * 3, [0.0] * 3], {}),
    ("rms_norm", FLOAT64, [[[1e300, 1e-10, 1e290], [1e-310, 0.0, 0.0]], [1.0] * 3], {}),
    ("batch_norm", FLOAT64, [[[1e200], [-1e200], [3e199]], [1.0], [0.0]], {}),
]

GRADIENTS: list[tuple[str, Format, list[Any], Any, dict[str, Any]]] = [
    ("binary_cross_entropy", FLOAT32, [[1e-40] * 64, [1.0] * 64], 1.0, {"reduction": "mean"}),
    ("categorical_cross_entropy", FLOAT32, [[[1e-40, 0.5]] * 64, [[1.0, 0.0]] * 64], 1.0, {}),
    ("categorical_cross_entropy", FLOAT64, [[[1e-310, 0.5]], [[1.0, 0.0]]], 1e-10, {"reduction": "sum"}),
    ("softmax", FLOAT64, [[0.0, 0.0]], [MAX64, -MAX64], {}),
    ("softmax", FLOAT32, [[0.0, 1.0, 2.0]], [MAX32, MAX32, -MAX32], {}),
    ("log_softmax", FLOAT64, [[0.0, 0.0]], [MAX64, MAX64], {}),
    ("mse", FLOAT64, [0.1, 0.0], MAX64, {"reduction": "none"}),
    ("mae", FLOAT64, [[MAX64, -MAX64], [-MAX64, MAX64]], 1.0, {}),
    ("huber", FLOAT64, [[5e-324, 1e300], [0.0, -1e300]], MAX64, {"delta": 0.5}),
    ("log_cosh", FLOAT64, [[5e-324, 1e-8, 1000.0], [0.0] * 3], [1.0] * 3, {"reduction": "none"}),
    ("rms_norm", FLOAT64, [[[1e4]], [1.0]], [[1.0]], {}),
    ("layer_norm", FLOAT64, [[[1e8 + 1.0, 1e8, 1e8 + 5.0]], [1.0] * 3, [0.0] * 3], [[1.0, 1.0, 1.0]], {}),
    ("sigmoid", FLOAT64, [[-700.0, 700.0]], [5e-324, MAX64], {}),
    ("tanh", FLOAT64, [[0.0, 300.0]], [MAX64, MAX64], {}),
    ("softsign", FLOAT64, [[1e160, -1e154]], [1.0, 1.0], {}),
    ("silu", FLOAT64, [[-740.0, 740.0, -MAX64, MAX64]], [1e10, 1.0, 1.0, MAX64], {}),
    ("mish", FLOAT64, [[-740.0, 356.0, -MAX64, MAX64]], [1e10, 1.0, 1.0, MAX64], {}),
    ("gelu", FLOAT64, [[MAX64, -MAX64, 1e200]], [1.0, 1.0, MAX64], {"approximate": "tanh"}),
    ("gelu", FLOAT64, [[MAX64, -MAX64, 1e200]], [1.0, 1.0, MAX64], {"approximate": "none"}),
]


@pytest.mark.parametrize(("name", "fmt", "inputs", "settings"), VALUES)
def test_values(name: str, fmt: Format, inputs: list[Any], settings: dict[str, Any]) -> None:
    x = [np.asarray(v, dtype=np.int64 if np.asarray(v).dtype.kind == "i" else fmt.dtype) for v in inputs]
    truth = certify(SPECS[name].definition, x, fmt, settings)
    bound = value_bound(OPS[name], SPECS[name], x, settings, fmt).deterministic
    assert agrees(OPS[name](*x, **settings), truth, bound, fmt)


@pytest.mark.parametrize(("name", "fmt", "inputs", "dy", "settings"), GRADIENTS)
def test_gradients(name: str, fmt: Format, inputs: list[Any], dy: Any, settings: dict[str, Any]) -> None:
    spec, x, cotangent = SPECS[name], [np.asarray(v, fmt.dtype) for v in inputs], np.asarray(dy, fmt.dtype)
    truths = certify_vjp(spec.definition, x, spec.differentiable, cotangent, fmt, settings)
    bounds = vjp_bounds(OPS[name], spec, cotangent, x, settings, fmt)
    gradients = OPS[name].vjp(cotangent, *x, **settings)
    for got, truth, bound in zip(gradients, truths, bounds, strict=True):
        assert agrees(got, truth, bound.deterministic, fmt)


TEXTBOOK: dict[str, tuple[Callable[..., Any], list[Any], Any]] = {
    "log_softmax": (lambda dy, x: dy - 0.5 * dy.sum(), [[0.0, 0.0]], [MAX64, MAX64]),
    "mse": (lambda dy, p, t: 2.0 * dy * (p - t), [0.1, 0.0], MAX64),
    "softmax": (lambda dy, x: 0.5 * ((dy - dy[0]) - 0.5 * (dy - dy[0]).sum()), [[0.0, 0.0]], [MAX64, -MAX64]),
}


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_obvious_forms_overflow_there(name: str) -> None:
    wrong, inputs, dy = TEXTBOOK[name]
    spec, x, cotangent = SPECS[name], [np.asarray(v, np.float64) for v in inputs], np.asarray(dy, np.float64)
    settings = {"reduction": "none"} if name == "mse" else {}
    truth = certify_vjp(spec.definition, x, spec.differentiable, cotangent, FLOAT64, settings)[0]
    bound = vjp_bounds(OPS[name], spec, cotangent, x, settings, FLOAT64)[0]
    with np.errstate(all="ignore"):
        assert not agrees(wrong(cotangent, *x), truth, bound.deterministic, FLOAT64)


def _log_cosh(d: Any) -> Any:
    return np.abs(d) + np.log1p(np.exp(-2.0 * np.abs(d))) - np.log(2.0)


SMALL = np.array([1e-160, 1e-8, 1e-4, 0.01, -0.5])


def test_log_cosh_keeps_the_digits_that_its_forms_lose() -> None:
    """The bound of refnet's code alone, without those of libraries that lose them near 0."""
    spec, x, settings = replace(SPECS["log_cosh"], forms=()), [SMALL, np.zeros(5)], {"reduction": "none"}
    truth = certify(spec.definition, x, FLOAT64, settings)
    bound = value_bound(OPS["log_cosh"], spec, x, settings, FLOAT64).deterministic
    assert agrees(OPS["log_cosh"](*x, **settings), truth, bound, FLOAT64)
    assert not agrees(_log_cosh(SMALL), truth, bound, FLOAT64)
    dy = np.ones(5)
    (slope,) = certify_vjp(spec.definition, x, (0,), dy, FLOAT64, settings)
    granted = vjp_bounds(OPS["log_cosh"], spec, dy, x, settings, FLOAT64)[0].deterministic
    assert agrees(OPS["log_cosh"].vjp(dy, *x, **settings)[0], slope, granted, FLOAT64)
    assert not agrees(1.0 - 2.0 / (1.0 + np.exp(2.0 * SMALL)), slope, granted, FLOAT64)


@pytest.mark.parametrize("row", [[np.inf, 0.0], [np.inf, 800.0], [np.inf, -np.inf, 3.0], [-np.inf, -np.inf]])
def test_the_gradient_of_logsumexp_at_an_infinity_is_no_plausible_number(row: list[float]) -> None:
    x = np.array(row)
    (dx,) = OPS["logsumexp"].vjp(np.asarray(1.0), x)
    assert np.isnan(dx).all()
    assert np.isnan(OPS["softmax"](x)).all()


TAILS: list[tuple[str, Format, list[float], dict[str, Any]]] = [
    ("gelu", FLOAT64, [-37.0, -30.0, -20.0, -8.5, -3.0], {"approximate": "none"}),
    ("gelu", FLOAT32, [-13.0, -12.0, -8.5, -3.0], {"approximate": "none"}),
    ("gelu", FLOAT64, [-20.0, -8.5, -3.0], {"approximate": "tanh"}),
    ("gelu", FLOAT32, [-9.5, -8.5, -3.0], {"approximate": "tanh"}),
    ("silu", FLOAT64, [-712.0, -100.0, -40.0, -3.0], {}),
    ("silu", FLOAT32, [-89.0, -40.0, -3.0], {}),
    ("mish", FLOAT64, [-712.0, -100.0, -40.0, -3.0], {}),
    ("mish", FLOAT32, [-89.0, -40.0, -3.0], {}),
    ("log_sigmoid", FLOAT64, [40.0, 100.0, 700.0], {}),
    ("softplus", FLOAT64, [-40.0, -100.0, -700.0], {"beta": 1.0}),
    ("elu", FLOAT64, [-1e-17, -1e-300, -40.0], {"alpha": 1.0}),
    ("celu", FLOAT64, [-1e-17, -1e-300, -40.0], {"alpha": 0.3}),
    ("selu", FLOAT64, [-1e-17, -1e-300, -40.0], {}),
    ("hard_sigmoid", FLOAT64, [-3.0 + 2.0**-51, -2.9], {}),
    ("softsign", FLOAT64, [1e100, -1e-300, 3.5], {}),
]
"""Inputs in a tail, where forms that libraries use lose digits, and the bound of an operator with them."""


def judged_by_its_own_rounding(
    name: str, fmt: Format, inputs: list[float], settings: dict[str, Any], value: Callable[..., Any]
) -> Judgement:
    """The value at the inputs, within the bound of the reference's own operations, without other forms."""
    spec, x = replace(SPECS[name], forms=()), np.asarray(inputs, fmt.dtype)
    bound = value_bound(OPS[name], spec, [x], settings, fmt)
    with np.errstate(all="ignore"):
        return judge(
            np.asarray(value(x, **settings)), certify(spec.definition, [x], fmt, settings), bound, fmt
        )


@pytest.mark.parametrize(("name", "fmt", "inputs", "settings"), TAILS)
def test_no_digit_of_a_tail_is_lost(
    name: str, fmt: Format, inputs: list[float], settings: dict[str, Any]
) -> None:
    judgement = judged_by_its_own_rounding(name, fmt, inputs, settings, OPS[name].__call__)
    assert judgement.verdict is Verdict.PASS
    spec, x = replace(SPECS[name], forms=()), np.asarray(inputs, fmt.dtype)
    dy = np.ones_like(x)
    (slope,) = certify_vjp(spec.definition, [x], (0,), dy, fmt, settings)
    (bound,) = vjp_bounds(OPS[name], spec, dy, [x], settings, fmt)
    assert judge(OPS[name].vjp(dy, x, **settings)[0], slope, bound, fmt).verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["gelu", "silu", "hard_sigmoid"])
def test_a_form_that_loses_digits_there_is_seen(name: str) -> None:
    """What the bound of all forms covers, that of the reference's own operations does not."""
    value = SPECS[name].forms[0].value
    assert value is not None
    _, fmt, inputs, settings = next(row for row in TAILS if row[0] == name)
    judgement = judged_by_its_own_rounding(name, fmt, inputs, settings, value)
    assert judgement.verdict is Verdict.FAIL


SATURATED: dict[str, list[Any]] = {
    "rnn_cell": [[[20.0]], [[0.0]], [[1.0]], [[0.5]], [0.0]],
    "lstm_cell": [[[1.0]], [[0.0]], [[2.0]], [[0.5, 40.0, 20.0, 40.0]], [[1.0] * 4], [0.0] * 4],
    "gru_cell": [[[1.0]], [[0.0]], [[40.0, 40.0, 20.0]], [[1.0] * 3], [0.0] * 3, [0.0] * 3],
}
"""Cells whose gates are open: 1 - y of their values is 0, where the derivatives are 1e-17."""


@pytest.mark.parametrize("name", SATURATED)
def test_an_open_gate_keeps_the_digits_of_its_derivative(name: str) -> None:
    """Within the bound of refnet's own operations, which a gradient from the values of the gates is not."""
    spec, x = replace(SPECS[name], forms=()), [np.asarray(a, np.float64) for a in SATURATED[name]]
    y: Any = OPS[name](*x)
    dy: Any = (np.ones((1, 1)), np.full((1, 1), 0.5)) if isinstance(y, tuple) else np.ones((1, 1))
    truths = certify_each(spec.definition, x, FLOAT64, {})
    bounds = value_bounds(OPS[name], spec, x, {}, FLOAT64)
    for got, truth, bound in zip(y if isinstance(y, tuple) else (y,), truths, bounds, strict=True):
        assert judge(got, truth, bound, FLOAT64).verdict is Verdict.PASS
    slopes = certify_vjp(spec.definition, x, spec.differentiable, dy, FLOAT64, {})
    granted = vjp_bounds(OPS[name], spec, dy, x, {}, FLOAT64)

    def verdicts(gradients: Any) -> set[Verdict]:
        parts = zip(gradients, slopes, granted, strict=True)
        return {judge(np.asarray(g), slope, bound, FLOAT64).verdict for g, slope, bound in parts}

    assert verdicts(OPS[name].vjp(dy, *x)) == {Verdict.PASS}
    form = SPECS[name].forms[0].vjp
    assert form is not None
    assert Verdict.FAIL in verdicts(form(dy, y, *x))


PIECES = ("leaky_relu", "relu6", "hard_sigmoid", "hard_swish", "elu", "celu", "selu")


@pytest.mark.parametrize("name", PIECES)
def test_the_gradient_of_pieces_at_nan_is_nan(name: str) -> None:
    """No law: PyTorch gives dy. A piece that one comparison chooses would be a number."""
    (dx,) = OPS[name].vjp(np.ones(2), np.array([np.nan, 1.0]))
    assert np.isnan(dx[0])
    assert np.isfinite(dx[1])


@pytest.mark.parametrize("name", [*PIECES, "softsign", "log_sigmoid", "softplus", "silu", "mish", "gelu"])
def test_gradients_at_infinity_are_the_limits(name: str) -> None:
    (dx,) = OPS[name].vjp(np.ones(2), np.array([-np.inf, np.inf]))
    (far,) = OPS[name].vjp(np.ones(2), np.array([-1e300, 1e300]))
    assert dx.tolist() == far.tolist()


@pytest.mark.parametrize("rate", [1e300, 1e-60])
def test_a_rate_that_the_dtype_does_not_hold_is_refused(rate: float) -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ArgumentError, match="a number that float32 holds"):
        sgd_step(one, one, learning_rate=rate)
    params = [(np.ones((1, 2), np.float32), np.ones(2, np.float32))]
    with pytest.raises(ArgumentError, match="a number that float32 holds"):
        sgd_epoch(params, one[:, None], np.zeros(1, np.int64), learning_rate=rate)
    sgd_step(one.astype(np.float64), one.astype(np.float64), learning_rate=rate)


def test_a_bound_knows_that_the_format_has_overflowed() -> None:
    """float32 gives NaN here, float64 a number: no bound of float64 may convict the former."""
    x, w, dy = (np.array(v, np.float32) for v in ([[-1.7e38], [-1.7e38]], [[1.0]], [[1.7e38], [-3.4e38]]))
    bounds = vjp_bounds(OPS["linear"], SPECS["linear"], dy, [x, w, np.zeros(1, np.float32)], {}, FLOAT32)
    assert np.isinf(bounds[1].deterministic).all()


def test_a_product_that_underflows_has_an_error() -> None:
    x = [np.array([1.5e-162] * 2), np.zeros(2)]
    bound = value_bound(OPS["mse"], SPECS["mse"], x, {"reduction": "sum"}, FLOAT64)
    assert bound.deterministic > 0.0


def test_the_gradient_of_relu_at_nan_is_nan() -> None:
    """Libraries disagree here (0 or dy), so it is no law; x > 0 as a mask would give 0."""
    x, dy = np.array([np.nan, 1.0]), np.ones(2)
    assert np.isnan(OPS["relu"].vjp(dy, x)[0][0])
    assert (dy * (x > 0))[0] == 0.0
