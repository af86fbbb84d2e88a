"""Hessian-vector products and charts: known answers, and gradients that are wrong in their symmetry."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.gradient_examples import EXAMPLES, only_real, softmax, softmax_vjp
from verify import check_hessian_symmetry, gradcheck, hessian_vector_product, symmetric, through, triangular

Array = npt.NDArray[Any]

X = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.75]])
U = np.array([[1.0, 2.0, -1.0], [0.5, -0.25, 3.0]])
ONE = np.array(1.0)


def cube_vjp(dy: Array, x: Array) -> Array:
    return np.asarray(dy * 3 * x**2)


@pytest.mark.parametrize(
    ("vjp", "method"), [(cube_vjp, "complex steps"), (only_real(cube_vjp), "differences")]
)
def test_the_hessian_of_a_sum_of_cubes(vjp: Any, method: str) -> None:
    product = hessian_vector_product(vjp, [X], np.ones_like(X), [U])
    assert product.method == method
    assert (abs(product.value[0] - 6 * X * U) <= product.error[0]).all()
    assert (product.error[0] < 1e-9).all()


def test_a_claimed_product_is_checked_as_the_vjp_of_the_vjp() -> None:
    dy = np.ones_like(X)

    def hvp(u: Array, x: Array) -> Array:
        return np.asarray(6 * x * u)

    assert gradcheck(partial(cube_vjp, dy), hvp, [X]).verdict == "pass"
    assert gradcheck(partial(cube_vjp, dy), lambda u, x: 3 * x * u, [X]).verdict == "fail"


@pytest.mark.parametrize("name", EXAMPLES)
def test_right_gradients_have_a_symmetric_hessian(name: str) -> None:
    example = EXAMPLES[name]
    inputs = example.inputs(np.random.default_rng(0), 1.0)
    dy = np.random.default_rng(1).standard_normal(np.shape(example.f(*inputs)))
    report = check_hessian_symmetry(example.vjp, inputs, dy)
    linear = name in ("sum",)
    assert report.verdict == ("inconclusive" if linear else "pass"), report


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_a_saturated_gradient_is_not_called_asymmetric(scale: float) -> None:
    for name in ("softmax", "tanh MLP"):
        for seed in range(12):
            inputs = EXAMPLES[name].inputs(np.random.default_rng(seed), scale)
            dy = np.random.default_rng(seed + 1).standard_normal(np.shape(EXAMPLES[name].f(*inputs)))
            report = check_hessian_symmetry(EXAMPLES[name].vjp, inputs, dy, seed=seed)
            assert report.verdict != "fail", (name, seed, report)


def test_a_vjp_that_is_the_gradient_of_nothing_fails() -> None:
    def without_the_sum(dy: Array, x: Array) -> Array:
        return np.asarray(softmax(x) * dy * np.arange(1.0, 4.0)[::-1] * x[:, ::-1])

    report = check_hessian_symmetry(without_the_sum, [X], U)
    assert report.verdict == "fail", report
    assert "not symmetric" in report.reason


def test_symmetry_alone_does_not_see_a_factor() -> None:
    """Necessary, not sufficient, as its docstring says."""
    assert check_hessian_symmetry(lambda dy, x: 2 * softmax_vjp(dy, x), [X], U).verdict == "pass"


def test_a_direction_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"direction has shapes .* required: \[\(2, 3\)\]"):
        hessian_vector_product(cube_vjp, [X], np.ones_like(X), [U.T])
    with pytest.raises(ValueError, match="no floating element"):
        hessian_vector_product(cube_vjp, [np.empty(0)], np.ones(0), [np.empty(0)])


def test_a_vjp_of_another_shape_and_a_bad_seed_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"vjp returns gradients of shapes \[\(3, 2\)\]; required: \[\(2, 3\)\]"
    ):
        check_hessian_symmetry(lambda dy, x: (dy * x).T, [X], U)
    with pytest.raises(ValueError, match="seed is -1; required: an integer of at least 0"):
        check_hessian_symmetry(softmax_vjp, [X], U, seed=-1)


# ---------------------------------------------------------------------------------------------------- charts


def logdet(x: Array) -> Array:
    """Of symmetric matrices; it reads one triangle, as a Cholesky factorisation does."""
    lower = np.tril(x) + np.tril(x, -1).T
    return np.asarray(np.linalg.slogdet(lower)[1])


def logdet_vjp(dy: Array, x: Array) -> Array:
    """The gradient among symmetric matrices, symmetric itself: that by entries would have one triangle."""
    return np.asarray(dy * np.linalg.inv(x).T)


A = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -0.25], [0.5, -0.25, 2.0]])


def test_a_symmetric_input_is_checked_through_its_chart() -> None:
    assert gradcheck(logdet, logdet_vjp, [A]).verdict == "fail"
    assert gradcheck(*through({0: symmetric(3)}, logdet, logdet_vjp, [A])).verdict == "pass"
    half = gradcheck(*through({0: symmetric(3)}, logdet, lambda dy, x: np.tril(logdet_vjp(dy, x)), [A]))
    assert half.verdict == "fail"


@pytest.mark.parametrize("upper", [False, True])
def test_a_triangular_input_is_checked_through_its_chart(upper: bool) -> None:
    t = np.triu(A) if upper else np.tril(A)

    def f(t: Array) -> Array:
        if np.any(np.tril(t, -1) if upper else np.triu(t, 1)):
            raise ValueError("not triangular")
        return np.asarray(np.linalg.inv(t))

    def vjp(dy: Array, t: Array) -> Array:  # full: what lies in the other triangle is not looked at
        y = np.linalg.inv(t)
        return np.asarray(-y.T @ dy @ y.T)

    chart = triangular(3, upper=upper)
    assert gradcheck(*through({0: chart}, f, vjp, [t])).verdict == "pass"
    assert gradcheck(*through({0: chart}, f, lambda dy, t: vjp(dy, t).T.copy(), [t])).verdict == "fail"


def test_what_a_chart_does_not_describe_is_refused() -> None:
    with pytest.raises(ValueError, match="input 0 is not what its chart describes"):
        through({0: symmetric(3)}, logdet, logdet_vjp, [np.arange(9.0).reshape(3, 3)])
    with pytest.raises(ValueError, match=r"has shape \(2, 2\); required: \(3, 3\)"):
        through({0: symmetric(3)}, logdet, logdet_vjp, [np.eye(2)])
    with pytest.raises(ValueError, match="charts has the positions"):
        through({1: symmetric(3)}, logdet, logdet_vjp, [A])
    shape = gradcheck(*through({0: symmetric(3)}, logdet, lambda dy, x: np.ones(3), [A]))
    assert shape.verdict == "fail"
    assert "the gradient has shape (3,)" in shape.reason
