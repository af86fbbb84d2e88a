"""Gradients along random directions: what agrees, what is noticed, and how likely an error is not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.gradient_examples import EXAMPLES, Example, layer_norm, only_real, softmax, softmax_vjp
from verify import Kinks, gradcheck
from verify.gradients.arrays import join
from verify.gradients.complex_step import ComplexUnsafe, complex_slope, prove_safe
from verify.gradients.contract import Candidate
from verify.gradients.directions import MISS_PROBABILITY, missable, signed
from verify.gradients.path import NODES, Path, _rule, integrate

Array = npt.NDArray[Any]
Function = Callable[..., Any]

X = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.75]])
SMOOTH = [name for name in EXAMPLES if "ReLU" not in name]


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def only(dtype: npt.DTypeLike, f: Function) -> Function:
    """f, which refuses every other dtype, as a compiled kernel does."""

    def strict(*inputs: Array) -> Any:
        if any(x.dtype != dtype for x in inputs):
            raise TypeError(f"{np.dtype(dtype)} only")
        return f(*inputs)

    return strict


# -------------------------------------------------------------------------------------------- the witnesses


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_right_gradients_agree_with_the_power_that_is_stated(name: str, scale: float) -> None:
    example = EXAMPLES[name]
    report = gradcheck(example.f, example.vjp, example.inputs(_generator(1), scale), seed=1)
    assert report.verdict != "fail", report
    if scale == 1.0:
        assert (report.verdict, report.method) == ("pass", "complex steps"), report
        assert report.miss_probability == MISS_PROBABILITY
        assert report.single <= report.resolution < 2e-9  # what the README promises


@pytest.mark.parametrize("name", SMOOTH)
def test_a_function_that_refuses_complex_numbers_is_integrated_along_paths(name: str) -> None:
    example = EXAMPLES[name]
    report = gradcheck(only_real(example.f), example.vjp, example.inputs(_generator(2), 1.0), seed=2)
    assert (report.verdict, report.method) == ("pass", "integrals along paths"), report


def _element(example: Example, order: int, relative: float, seed: int) -> Function:
    """The right vjp, but for one element of one gradient."""

    def vjp(dy: Array, *inputs: Array) -> list[Array]:
        returned = example.vjp(dy, *inputs)
        gradients = [np.array(g) for g in (returned if isinstance(returned, tuple) else (returned,))]
        wrong = gradients[order]
        wrong.flat[int(_generator(seed).integers(wrong.size))] *= 1 + relative
        return gradients

    return vjp


@pytest.mark.parametrize("name", SMOOTH)
def test_a_relative_error_of_1e_10_in_one_element_is_found(name: str) -> None:
    example = EXAMPLES[name]
    for seed in range(10):
        inputs = example.inputs(_generator(seed), 1.0)
        report = gradcheck(example.f, _element(example, 0, 1e-10, seed), inputs, seed=seed)
        assert report.verdict != "pass", (seed, report)


def test_an_error_above_the_stated_single_one_never_passes() -> None:
    example = EXAMPLES["layer_norm"]
    for seed, order in itertools.product(range(10), range(3)):
        inputs = example.inputs(_generator(seed), 1.0)
        right = gradcheck(example.f, example.vjp, inputs, seed=seed)
        assert right.method == "complex steps"

        def vjp(
            dy: Array, *inputs: Array, order: int = order, error: float = 20 * right.single
        ) -> list[Array]:
            gradients = [g.copy() for g in EXAMPLES["layer_norm"].vjp(dy, *inputs)]
            gradients[order].flat[-1] += error * abs(gradients[order]).max() * dy.flat[-1]
            return gradients

        # 20: the largest gradient under one cotangent is some times smaller than the largest under all
        report = gradcheck(example.f, vjp, inputs, seed=seed)
        assert report.verdict != "pass", (seed, order, report)


# ------------------------------------------------------------- complex steps that lose what they should not


def _penalised(x: Array) -> Array:
    return np.asarray(softmax(x).sum() + (x * x).sum() + 1e-7 * np.abs(x).sum())


UNSAFE: dict[str, tuple[Function, Function]] = {
    "abs is the modulus": (lambda x: np.abs(x) * x, lambda dy, x: dy * 2 * np.abs(x)),
    "a norm is one": (
        lambda x: np.asarray(np.linalg.norm(x)) * x,
        lambda dy, x: dy * np.linalg.norm(x) + (dy * x).sum() * x / np.linalg.norm(x),
    ),
    "the real part": (lambda x: x.real * x, lambda dy, x: dy * 2 * x),
    "cast to real": (lambda x: x.astype(np.float64) ** 2, lambda dy, x: dy * 2 * x),
    "a small penalty by abs": (_penalised, lambda dy, x: dy * (2 * x + 1e-7 * np.sign(x))),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_what_complex_numbers_break_is_noticed_and_no_right_gradient_is_blamed(name: str) -> None:
    f, vjp = UNSAFE[name]
    inputs = join([X], [0])
    dy = _generator(0).standard_normal(np.asarray(f(X)).size)
    with pytest.raises(ComplexUnsafe):
        prove_safe(f, inputs, signed(_generator(1), inputs.vector.shape, 52), dy)
    report = gradcheck(f, vjp, [X])
    assert report.verdict == "pass", report
    assert report.method != "complex steps"


def test_a_gradient_that_forgets_what_the_complex_step_forgets_fails() -> None:
    """The penalty is 1e-7 of the gradient, and invisible to a complex step."""
    assert gradcheck(_penalised, lambda dy, x: dy * 2 * x, [X]).verdict == "fail"


def test_a_complex_step_has_all_digits() -> None:
    u = signed(_generator(0), (6,), 52)
    slope = complex_slope(np.exp, join([X], [0]), u, 6)
    assert (abs(slope - np.exp(X.ravel()) * u) <= 2.0**-51 * abs(slope)).all()


# -------------------------------------------------------------------------------------------------- the paths


def test_the_rule_is_exact_for_polynomials_and_begins_at_the_point() -> None:
    for count, with_start in itertools.product((NODES // 2, NODES, 2 * NODES), (True, False)):
        nodes, weights = _rule(count, with_start=with_start)
        assert (nodes[0] == 0) == with_start
        assert min(weights) > 0
        for degree in (0, 1, count, 2 * count - 2):
            total = math.fsum(w * t**degree for t, w in zip(nodes, weights, strict=True))
            assert abs(total - 1 / (degree + 1)) < 2.0**-44


def _relu_path(t: float, kinks: tuple[float, ...]) -> float:
    """The error of the integral of relu'(x) from -1 + t to 1 + t, split at the kinks."""
    x = np.array([-1.0 + t])
    candidate = Candidate(lambda x: np.maximum(x, 0), lambda dy, x: dy * (x > 0), (x,), (0,)).evaluated()
    pieces = integrate(Path(candidate, join([x], [0]), (np.ones(1),), np.array([2.0])), kinks)
    return sum(piece.claimed - piece.change for piece in pieces)


def test_a_path_that_is_split_at_its_kinks_is_exact() -> None:
    assert abs(_relu_path(0.3, ())) > 1e-3
    assert abs(_relu_path(0.3, (0.35,))) < 1e-15


def test_breakpoints_bring_a_path_across_kinks() -> None:
    x = np.array([0.01, -0.02, 1.0, -1.5])
    kinks = Kinks(breakpoints=lambda xs, ds: -xs[0] / ds[0])
    f, vjp = only_real(lambda x: np.maximum(x, 0) ** 2 + x), lambda dy, x: dy * (2 * np.maximum(x, 0) + 1)
    across = gradcheck(f, vjp, [x], kinks=kinks)
    assert (across.verdict, across.method) == ("pass", "integrals along paths"), across


def test_a_gradient_wrong_at_the_point_alone_is_seen() -> None:
    """Everywhere else on the path it is right."""
    for seed in range(8):
        report = gradcheck(
            only_real(lambda x: np.maximum(x, 0)),
            lambda dy, x: dy * ((x > 0) + 2 * (x == 0)),
            [np.array([0.0, 1.0, 2.0])],
            seed=seed,
        )
        assert report.verdict == "fail", report


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_factor_below_the_noise_of_differences_is_seen_along_paths(dtype: Any) -> None:
    """As of a kernel that takes float32 and nothing else."""
    relative = {np.float32: 1e-4, np.float16: 0.3}[dtype]
    x = X.astype(dtype)
    f = only(dtype, softmax)
    right = gradcheck(f, softmax_vjp, [x])
    assert right.verdict != "fail", right
    for seed in range(5):
        report = gradcheck(f, lambda dy, x: softmax_vjp(dy, x) * x.dtype.type(1 + relative), [x], seed=seed)
        assert report.verdict == "fail", report


def test_float32_is_differentiated_in_float64_where_f_is_the_same_there() -> None:
    x = X.astype(np.float32)
    for seed in range(5):
        assert gradcheck(softmax, softmax_vjp, [x], seed=seed).resolution < 1e-4
        wrong = gradcheck(softmax, lambda dy, x: softmax_vjp(dy, x) * np.float32(1 + 1e-5), [x], seed=seed)
        assert wrong.verdict == "fail", wrong


def test_a_function_that_differs_between_formats_is_taken_in_its_own() -> None:
    def f(x: Array) -> Array:  # an eps of the format
        return np.asarray(np.sqrt(x * x + np.finfo(x.dtype).eps ** 0.25))

    def vjp(dy: Array, x: Array) -> Array:
        return np.asarray(dy * x / f(x))

    assert gradcheck(f, vjp, [X.astype(np.float32)]).verdict == "pass"


# ------------------------------------------------------------------------------------------------- the power


@pytest.mark.parametrize(
    ("cotangents", "directions", "repeats"), [(3, 3, 1), (1, 1, 3), (2, 4, 1), (6, 6, 1)]
)
def test_the_probability_of_a_miss_is_below_the_one_that_is_stated(
    cotangents: int, directions: int, repeats: int
) -> None:
    """At a probability that can be counted: for E with a single pair of errors that may cancel."""
    rng = _generator(0)
    ratio = missable(cotangents, directions, repeats)
    assert 1 < ratio < 1e10
    trials, tolerance = 20_000, 0.2
    missed = 0
    error = np.array([[1.0, -1.0], [-1.0, 1.0]])
    v = signed(rng, (trials, cotangents, 2), 52)
    u = signed(rng, (trials, directions, 2), 52)
    seen = abs(np.einsum("tki,ij,tlj->tkl", v, error, u)).max(axis=(1, 2))
    missed = int((seen <= tolerance).sum())
    k, n = cotangents, directions
    rest = math.log(1 / tolerance) if k == n else (1 - tolerance ** (k - n)) / (k - n)
    bound = tolerance**k + tolerance**n * k * rest
    assert missed / trials <= bound + 4 * math.sqrt(bound / trials)


def test_a_single_wrong_entry_is_seen_for_certain() -> None:
    rng = _generator(1)
    products = abs(signed(rng, (10_000,), 22) * signed(rng, (10_000,), 52))
    assert products.min() >= 1


# ----------------------------------------------------------------------------------------------- large inputs


def test_sums_of_100_000_terms_pass() -> None:
    x, w = _generator(0).standard_normal((2, 100_000))
    assert gradcheck(lambda x: np.asarray(x.sum()), lambda dy, x: np.full_like(x, dy), [x]).verdict == "pass"
    verdicts = [
        gradcheck(
            lambda x, w: np.asarray(x @ w), lambda dy, x, w: (dy * w, dy * x), [x, w], seed=seed
        ).verdict
        for seed in range(3)
    ]
    assert "fail" not in verdicts
    assert "pass" in verdicts  # how BLAS adds up, and so the noise, depends on the processor


def test_of_an_input_too_large_for_differences_a_part_is_examined_and_said_so() -> None:
    x = _generator(0).standard_normal(40_000)

    def vjp(dy: Array, x: Array) -> Array:  # right, and neither complex numbers nor a path are taken
        if not np.array_equal(x, point) and (abs(x - point) > 1e-9).any():
            raise ValueError("too far away")
        return np.asarray(dy * x / np.float64(len(x)))

    point = x - np.fmod(x, 2.0**-50)
    f = only_real(lambda x: np.asarray((x * x).sum() / (2 * len(x))))
    report = gradcheck(f, vjp, [point])
    assert report.verdict == "inconclusive", report
    assert "were not differentiated, as there are too many" in report.reason


def test_layer_norm_of_a_large_mean_over_a_small_spread_is_not_blamed() -> None:
    for seed in range(5):
        rng = _generator(seed)
        x = 1e6 + rng.standard_normal((4, 8))
        report = gradcheck(layer_norm, EXAMPLES["layer_norm"].vjp, [x, np.ones(8), np.zeros(8)], seed=seed)
        assert report.verdict != "fail", report


# -------------------------------------------------------- right gradients of functions that are noisy


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + _erf(x / np.sqrt(2))))


def _gelu_vjp(dy: Array, x: Array) -> Array:
    slope = 0.5 * (1 + _erf(x / np.sqrt(2))) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return np.asarray(dy * slope)


def _erf(x: Array) -> Array:
    return np.asarray([math.erf(v) for v in x.ravel()]).reshape(x.shape)


CANCELLING: dict[str, tuple[Function, Function, list[float]]] = {
    "1 - cos(x)": (lambda x: 1 - np.cos(x), lambda dy, x: dy * np.sin(x), [1e-3]),
    "exp(x) - 1": (lambda x: np.exp(x) - 1, lambda dy, x: dy * np.exp(x), [1e-5, 1.5e-5]),
    "sqrt(1 + x^2) - 1": (
        lambda x: np.sqrt(1 + x * x) - 1,
        lambda dy, x: dy * x / np.sqrt(1 + x * x),
        [1e-2],
    ),
    "-log sigmoid(x)": (lambda x: -np.log(1 / (1 + np.exp(-x))), lambda dy, x: -dy / (1 + np.exp(x)), [12.0]),
    "gelu by 1 + erf": (_gelu, _gelu_vjp, [-5.0, -4.8, -5.2, -4.9]),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_a_function_that_cancels_does_not_blame_its_gradient(name: str) -> None:
    f, vjp, x = CANCELLING[name]
    for seed in range(8):
        report = gradcheck(f, vjp, [np.array(x)], seed=seed)
        assert report.verdict != "fail", report
        wrong = gradcheck(f, lambda dy, x: vjp(dy, x) * 1.01, [np.array(x)], seed=seed)
        assert wrong.verdict == "fail", wrong


SATURATED: dict[str, tuple[Function, Function, float]] = {
    "log(1 + exp(x))": (lambda x: np.log(1 + np.exp(x)), lambda dy, x: dy / (1 + np.exp(-x)), -40.0),
    "1 - tanh(x)": (lambda x: 1 - np.tanh(x), lambda dy, x: -dy / np.cosh(x) ** 2, 20.0),
    "1 - cos(x)": (lambda x: 1 - np.cos(x), lambda dy, x: dy * np.sin(x), 1e-12),
}


@pytest.mark.parametrize("name", SATURATED)
def test_where_f_changes_by_no_bit_nothing_is_decided(name: str) -> None:
    f, vjp, x = SATURATED[name]
    for factor in (1, 3):
        report = gradcheck(f, lambda dy, x, c=factor: c * vjp(dy, x), [np.array([x])])
        assert report.verdict == "inconclusive", report


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_saturated_softmax_behind_a_product_is_not_blamed(dtype: Any) -> None:
    def vjp(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        dz = softmax_vjp(dy, x @ w)
        return dz @ w.T, x.T @ dz

    for seed in (20, 23, 170, 328):
        rng = _generator(seed)
        for scale in (30, 100):
            x, w = (
                (scale * rng.standard_normal((2, 3))).astype(dtype),
                rng.standard_normal((3, 4)).astype(dtype),
            )
            report = gradcheck(lambda x, w: softmax(x @ w), vjp, [x, w], seed=seed)
            assert report.verdict != "fail", report


def test_an_input_that_changes_f_by_less_than_its_noise_is_not_passed() -> None:
    def f(x: Array, y: Array) -> Array:
        return np.asarray((x * x).sum() + 1e-12 * np.sin(y).sum())

    report = gradcheck(f, lambda dy, x, y: (dy * 2 * x, dy * 1.5e-12 * np.cos(y)), [X, X])
    assert report.verdict == "inconclusive"
    assert "vacuous for input 1 (y)" in report.reason


def test_an_input_without_any_gradient_is_mentioned() -> None:
    report = gradcheck(
        lambda x, y: x * x + np.maximum(y, 0), lambda dy, x, y: (dy * 2 * x, 0 * dy), [X, -abs(X)]
    )
    assert report.verdict == "pass"
    assert "that of input 1 (y) is 0 here, which tests little" in report.reason


@pytest.mark.parametrize("size", [1e-7, 1e-9])
def test_what_complex_numbers_lose_is_found_above_the_stated_resolution(size: float) -> None:
    report = gradcheck(
        lambda x: np.asarray((x * x).sum() + size * np.abs(x).sum()), lambda dy, x: dy * 2 * x, [X]
    )
    assert report.verdict == "fail", report
    x = _generator(0).standard_normal(1000)
    one = gradcheck(lambda x: np.asarray((x * x).sum() + size * x.real[0]), lambda dy, x: dy * 2 * x, [x])
    assert one.verdict != "pass" or one.single > size / abs(x).max(), one
