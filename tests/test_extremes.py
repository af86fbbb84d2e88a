"""The ends of the range: where the true value is finite, so is the reference's, and within its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from refnet import OPS, ArgumentError, sgd_epoch, sgd_step
from specs import SPECS
from verify.arithmetic.bounds import value_bound, vjp_bounds
from verify.arithmetic.certified import certify, certify_vjp
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format, Truth, error_in_ulp, ulp_exponents

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
    ("log_softmax", FLOAT64, [[[MAX64, -MAX64]]], {}),
    ("logsumexp", FLOAT64, [[[MAX64, MAX64]]], {}),
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
    ("rms_norm", FLOAT64, [[[1e4]], [1.0]], [[1.0]], {}),
    ("layer_norm", FLOAT64, [[[1e8 + 1.0, 1e8, 1e8 + 5.0]], [1.0] * 3, [0.0] * 3], [[1.0, 1.0, 1.0]], {}),
    ("sigmoid", FLOAT64, [[-700.0, 700.0]], [5e-324, MAX64], {}),
    ("tanh", FLOAT64, [[0.0, 300.0]], [MAX64, MAX64], {}),
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


@pytest.mark.parametrize("row", [[np.inf, 0.0], [np.inf, 800.0], [np.inf, -np.inf, 3.0], [-np.inf, -np.inf]])
def test_the_gradient_of_logsumexp_at_an_infinity_is_no_plausible_number(row: list[float]) -> None:
    x = np.array(row)
    (dx,) = OPS["logsumexp"].vjp(np.asarray(1.0), x)
    assert np.isnan(dx).all()
    assert np.isnan(OPS["softmax"](x)).all()


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
