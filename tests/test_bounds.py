"""Rounding bounds: they hold for honest code of any order, and they are tight enough to convict."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet import OPS
from refnet.smooth import normal_cdf, normal_density
from specs import SPECS, Form, Spec
from specs.maths import as_computed, erf, erfc, kept
from verify.arithmetic.bounds import (
    MOST_WITHOUT_BIAS,
    Bounded,
    ErrorBound,
    RoundingModel,
    granted_model,
    in_model,
    value_bound,
    value_bounds,
    vjp_bounds,
)
from verify.arithmetic.certified import certify, certify_each, certify_vjp, in_order
from verify.arithmetic.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    Format,
    Truth,
    Values,
    error_in_ulp,
    ulp_exponents,
)
from verify.conformance.plan import draw
from verify.laws.examples import Example, make_example, shape_at

EXACT = RoundingModel(0.0, 0.0, statistical=False, fmt=FLOAT64)
"""A model in which no operation rounds: what is left is how errors of the operands are passed on."""


def excess(got: Values, truth: Truth, bound: ErrorBound, fmt: Format) -> float:
    """The largest error as a multiple of its deterministic bound; 0 where correctly rounded."""
    with np.errstate(all="ignore"):
        error = error_in_ulp(got, truth, fmt)
        apart = np.abs(got.astype(np.float64) - truth.nearest.astype(np.float64))
        # 1 is more than 1e308 ulp of 5e-324
        absolute = np.where(np.isfinite(error), error * np.ldexp(1.0, ulp_exponents(truth, fmt)), apart)
        ratios = np.where(error <= 0.5, 0.0, absolute / bound.deterministic)
        ratios = np.where(np.isnan(bound.deterministic), 0.0, ratios)  # of which nothing is known
    return float(ratios.max(initial=0.0))


MOST = 60
"""Elements of all inputs of an example that is certified here."""


def small_examples(spec: Spec, fmt: Format, count: int, seed: int) -> Iterator[Example]:
    """The first cases of a plan whose exact gradients cost little: the square of their elements."""
    smallest = min(_elements(draw(spec, fmt, number, seed)) for number in range(24))
    drawn = (draw(spec, fmt, number, seed) for number in itertools.count())
    return itertools.islice((e for e in drawn if _elements(e) <= max(MOST, smallest)), count)


def _elements(example: Example) -> int:
    return sum(x.size for x in example.inputs)


# ---------------------------------------------------------------------------------- the operators of refnet


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_bounds_cover_the_reference(spec: Spec, fmt: Format) -> None:
    op, decided = OPS[spec.name], 0
    for example in small_examples(spec, fmt, 16, seed=0):
        x, dy, settings = example.inputs, example.dy, example.settings
        results = (*in_order(op(*x, **settings)), *op.vjp(dy, *x, **settings))
        truths = (
            *certify_each(spec.definition, x, fmt, settings),
            *certify_vjp(spec.definition, x, spec.differentiable, dy, fmt, settings),
        )
        bounds = (*value_bounds(op, spec, x, settings, fmt), *vjp_bounds(op, spec, dy, x, settings, fmt))
        for got, due, granted in zip(results, truths, bounds, strict=True):
            assert excess(np.asarray(got), due, granted, fmt) <= 1.0
            decided += int(np.isfinite(granted.deterministic).sum())
    assert decided > 100


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_reference_computes_the_same_on_numbers_with_bounds(spec: Spec) -> None:
    """The bound is of the code that runs: every bit of the value is that of the plain computation."""
    model = RoundingModel.of(FLOAT64, statistical=True, flush_to_zero=False)
    for example in small_examples(spec, FLOAT64, 8, seed=1):
        with np.errstate(all="ignore"):
            plain = OPS[spec.name].forward(*example.inputs, **example.settings)[0]
            carried: Any = OPS[spec.name].forward(*in_model(example.inputs, model), **example.settings)[0]
        for y, bounded in zip(in_order(plain), in_order(carried), strict=True):
            assert np.array_equal(np.asarray(y), bounded.value, equal_nan=True)


# ------------------------------------------------------------------------------------------ forms of a spec

FORMS = {f"{spec.name}: {form.name}": (spec, form) for spec in SPECS.values() for form in spec.forms}


def excess_of_form(spec: Spec, form: Form, fmt: Format) -> float:
    """The largest error of a form, computed by plain NumPy, as a multiple of the bound of its operator."""
    op, worst = OPS[spec.name], 0.0
    for example in small_examples(spec, fmt, 24, seed=2):
        x, dy, settings = example.inputs, example.dy, example.settings
        with np.errstate(all="ignore"):
            if form.value is not None:
                truths = certify_each(spec.definition, x, fmt, settings)
                bounds = value_bounds(op, spec, x, settings, fmt)
                worst = max(worst, _excesses(form.value(*x, **settings), truths, bounds, fmt))
            if form.vjp is not None:
                truths = certify_vjp(spec.definition, x, spec.differentiable, dy, fmt, settings)
                bounds = vjp_bounds(op, spec, dy, x, settings, fmt)
                results = form.vjp(dy, op(*x, **settings), *x, **settings)
                worst = max(worst, _excesses(results, truths, bounds, fmt))
    return worst


def _excesses(results: Any, truths: Sequence[Truth], bounds: Sequence[ErrorBound], fmt: Format) -> float:
    """The largest excess of several results; a form may overflow where another does not."""
    worst = 0.0
    for y, truth, bound in zip(in_order(results), truths, bounds, strict=True):
        got = np.asarray(y).astype(fmt.dtype)
        worst = max(worst, excess(np.where(np.isfinite(got), got, truth.nearest), truth, bound, fmt))
    return worst


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_function_within_its_bound(name: str, fmt: Format) -> None:
    assert excess_of_form(*FORMS[name], fmt) <= 1.0


def test_a_form_of_another_function_is_seen() -> None:
    twice = Form("sigmoid of 2 x", "nobody", value=lambda x: 1.0 / (1.0 + np.exp(-2.0 * x)))
    assert excess_of_form(SPECS["sigmoid"], twice, FLOAT64) > 1e6


# ------------------------------------------------------------------------------------------ orders of a sum


def _sequential(terms: Values) -> Any:
    total = terms.dtype.type(0)
    for term in terms:
        total = total + term
    return total


def _pairwise(terms: Values) -> Any:
    half = len(terms) // 2
    return terms[0] if len(terms) == 1 else _pairwise(terms[:half]) + _pairwise(terms[half:])


def _beside(terms: Values, lanes: int) -> Any:
    """Sums beside each other, as a processor's vectors have them."""
    return _sequential(np.asarray([_sequential(terms[lane::lanes]) for lane in range(lanes)]))


ORDERS: Mapping[str, Callable[[Values, Any], Any]] = {
    "forwards": lambda terms, bias: _sequential(terms) + bias,
    "backwards": lambda terms, bias: _sequential(terms[::-1]) + bias,
    "bias first": lambda terms, bias: _sequential(np.concatenate([[bias], terms])),
    "pairwise": lambda terms, bias: _pairwise(terms) + bias,
    "smallest first": lambda terms, bias: _sequential(terms[np.argsort(np.abs(terms))]) + bias,
    "largest first": lambda terms, bias: _sequential(terms[np.argsort(-np.abs(terms))]) + bias,
    "eight beside each other": lambda terms, bias: _beside(terms, 8) + bias,
    "in float64": lambda terms, bias: np.float32(math.fsum([*terms.astype(np.float64), float(bias)])),
}


def linear_case(k: int, seed: int) -> Example:
    rng = np.random.default_rng((k, seed))
    offset = 3.0 if seed % 2 else 0.0  # sums that grow, and sums that wander
    shapes = ((1, k), (k, 1), (1,))
    x, w, b = ((rng.standard_normal(shape) + offset).astype(np.float32) for shape in shapes)
    return Example((x, w, b), {}, np.ones((1, 1), np.float32), "normal")


def judged(k: int, seed: int) -> tuple[Example, Truth, ErrorBound]:
    spec, example = SPECS["linear"], linear_case(k, seed)
    truth = certify(spec.definition, example.inputs, FLOAT32, {})
    bound = value_bound(OPS["linear"], spec, example.inputs, {}, FLOAT32)
    return example, truth, bound


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("k", [2, 17, 256])
def test_every_order_of_a_sum_is_granted(order: str, k: int) -> None:
    for seed in range(10):
        example, truth, bound = judged(k, seed)
        x, w, b = example.inputs
        got = np.asarray(ORDERS[order](x[0] * w[:, 0], b[0]), np.float32).reshape(1, 1)
        assert excess(got, truth, ErrorBound(bound.statistical, bound.statistical), FLOAT32) <= 1.0


def _in_float16(x: Values, w: Values, b: Values) -> Values:
    return np.asarray(x.astype(np.float16).astype(np.float32) @ w.astype(np.float16).astype(np.float32) + b)


SLOPPY: Mapping[str, Callable[..., Values]] = {
    "inputs rounded to float16": _in_float16,
    "one term left out": lambda x, w, b: np.asarray(x[:, 1:] @ w[1:] + b),
    "no bias": lambda x, w, b: np.asarray(x @ w),
    "result rounded to float16": lambda x, w, b: (x @ w + b).astype(np.float16).astype(np.float32),
    "a constant error of 1e-5": lambda x, w, b: (x @ w + b) * np.float32(1 + 1e-5),
}


@pytest.mark.parametrize("sloppy", SLOPPY)
def test_sloppy_sums_are_convicted(sloppy: str) -> None:
    convicted = 0
    for seed in range(10):
        example, truth, bound = judged(17, seed)
        convicted += excess(SLOPPY[sloppy](*example.inputs), truth, bound, FLOAT32) > 1.0
    assert convicted >= 8


def test_the_statistical_bound_of_a_long_sum_is_far_below_the_deterministic_one() -> None:
    _, _, bound = judged(4096, seed=0)
    assert 0 < bound.statistical.max() < bound.deterministic.max() / 20


def of_bits(seed: int) -> Values:
    """0.1 and 0.7: a sum that has grown rounds each of them as it did the last one."""
    return np.random.default_rng(seed).choice([0.1, 0.7], 16384).astype(np.float32)


def falling(seed: int) -> Values:
    """Squares that fall by e^-16 along the way: the small ones meet a sum that they do not move."""
    normal, fall = np.random.default_rng(seed).standard_normal(16384), np.arange(16384) / 16384
    return np.square(normal * np.exp(-8.0 * fall)).astype(np.float32)


def beside_one(seed: int) -> Values:
    """1, and what is below half an ulp of it."""
    rest = np.random.default_rng(seed).uniform(0.5, 0.9, 4095) * 2.0**-24
    return np.concatenate([[1.0], rest]).astype(np.float32)


def total_of(terms: Values) -> Any:
    of_all: Any = Bounded(terms, 0.0, granted_model(FLOAT32, statistical=True))
    return of_all.sum()


def equal(seed: int) -> Values:
    """One number again and again, but for its last bits."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.5, 1.0) * (1.0 + rng.integers(-2, 3, 16384) * 2.0**-23)).astype(np.float32)


@pytest.mark.parametrize("draw_terms", [of_bits, falling, beside_one, equal])
def test_roundings_that_are_not_random_are_granted(draw_terms: Callable[[int], Values]) -> None:
    """In turn they go beyond what random ones do, in pairs they do not."""
    beyond = dict.fromkeys(ORDERS, 0.0)
    for terms in map(draw_terms, range(6)):
        total = total_of(terms)
        for name, order in ORDERS.items():
            error = abs(float(order(terms, np.float32(0.0))) - math.fsum(terms.astype(np.float64)))
            assert error <= total.error, name
            beyond[name] = max(beyond[name], error / (total.error - total.terms.bias))
    assert beyond["largest first"] > 1.0 > beyond["pairwise"]


def test_one_of_thousands_of_equal_terms_is_missed() -> None:
    terms = np.full(4096, 0.7, np.float32)
    assert total_of(terms).error < terms[0]


def of_few(seed: int) -> tuple[Values, Values]:
    """Four products, none of them a number of the format."""
    rng = np.random.default_rng(seed)
    return rng.choice([0.1, 0.7], 16384).astype(np.float32), rng.choice([0.3, 0.9], 16384).astype(np.float32)


def of_ones(seed: int) -> tuple[Values, Values]:
    """Products that are exact: a mean as a product with a row of ones."""
    return of_bits(seed), np.ones(16384, np.float32)


def of_one(_: int) -> tuple[Values, Values]:
    """One product again and again, which is rounded alike each time."""
    return np.full(100, 0.1, np.float32), np.full(100, 0.3, np.float32)


def _fused(x: Values, w: Values) -> Any:
    """Products that are not rounded before they are added: those of float32 are exact in float64."""
    total = np.float32(0.0)
    for product in x.astype(np.float64) * w:
        total = np.float32(total + product)
    return total


LOOPS: Mapping[str, Callable[[Values, Values], Any]] = {
    "forwards": lambda x, w: _sequential(x * w),
    "backwards": lambda x, w: _sequential((x * w)[::-1]),
    "fused": _fused,
    "pairwise": lambda x, w: _pairwise(x * w),
}


def product_of(x: Values, w: Values) -> Any:
    left: Any = Bounded(x[None], 0.0, granted_model(FLOAT32, statistical=True))
    return left @ w[:, None]


@pytest.mark.parametrize("draw", [of_few, of_ones, of_one])
def test_so_they_are_in_a_matrix_product(draw: Callable[[int], tuple[Values, Values]]) -> None:
    for x, w in map(draw, range(3)):
        exact, product = math.fsum(x.astype(np.float64) * w), product_of(x, w)
        for loop in LOOPS.values():
            assert abs(float(loop(x, w)) - exact) <= product.error[0, 0]


def test_ones_in_a_plain_loop_go_beyond_what_random_roundings_do() -> None:
    product, exact = product_of(*of_ones(0)), math.fsum(of_bits(0).astype(np.float64))
    assert abs(float(LOOPS["forwards"](*of_ones(0))) - exact) > product.error - product.terms.bias


def test_a_large_term_that_comes_last_has_lost_all_the_others_to_those_who_begin_with_it() -> None:
    terms = beside_one(0)[::-1]
    error = abs(float(ORDERS["backwards"](terms, np.float32(0.0))) - math.fsum(terms.astype(np.float64)))
    assert 0.5 * total_of(terms).error < error <= total_of(terms).error


def test_a_product_of_few_terms_needs_no_bias() -> None:
    """Of one term again and again, in which all roundings have one sign."""
    worst = 0.0
    for value in np.random.default_rng(0).uniform(0.5, 1.0, 200):
        x, w = np.full(MOST_WITHOUT_BIAS, value, np.float32), np.full(MOST_WITHOUT_BIAS, 0.3, np.float32)
        x[0] = 2.0  # else they are constant, and have the deterministic bound
        product, exact = product_of(x, w), math.fsum(x.astype(np.float64) * w)
        assert not product.terms.bias.any()
        for loop in LOOPS.values():
            worst = max(worst, abs(float(loop(x, w)) - exact) / product.error[0, 0])
    assert 0.1 < worst <= 1.0


@pytest.mark.parametrize("exponent", [-100, -20, 30])
def test_a_sum_has_no_scale_of_its_own(exponent: int) -> None:
    """Not even where partial sums are 0."""
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.uniform(0.5, 1.0, 512).astype(np.float32), 2)
    terms = np.concatenate([pairs * np.resize([1.0, -1.0], 1024), rng.uniform(0.5, 1.0, 40)])
    here, there = total_of(terms), total_of(np.ldexp(terms, exponent))
    assert here.terms.bias > 0.0
    assert there.terms.bias == np.ldexp(here.terms.bias, exponent)


def test_what_is_kept_is_no_farther_off_where_it_surely_is_a_number() -> None:
    model = RoundingModel.of(FLOAT32, statistical=False, flush_to_zero=False, residuals=BFLOAT16)
    values = np.array([1.0 - 1e-7, 1.0 - 0.52 * 2.0**-9])
    surely, doubtful = Bounded(values, [2e-7, 0.52 * 2.0**-9], model).saved().error
    assert surely == 2e-7
    assert doubtful >= 1.48 * 2.0**-9  # 1 - 1.04 * 2^-9 is kept as 1 - 2^-8


def test_terms_that_no_order_loses_are_missed() -> None:
    """300 of 4 ulp of the largest, beside thousands that are lost indeed."""
    terms = np.concatenate([[1.0], np.full(300, 2.0**-21), np.full(16083, 2.0**-32)])
    assert total_of(terms).error < terms[1:301].sum()


def test_one_large_term_loses_the_others_that_were_added_up_before() -> None:
    rest = np.full(1023, 0.9 * 2.0**-24)
    parts: Any = Bounded(rest, 0.0, granted_model(FLOAT32, statistical=True))
    for joined in (parts.sum() + 1.0, 1.0 + parts.sum()):
        assert rest.sum() < joined.error < 2.0 * rest.sum()
        assert (joined + 1.0).error < 4.0 * rest.sum()


def test_sums_of_no_rows_and_of_no_terms_have_no_bias() -> None:
    of_none: Any = Bounded(np.zeros((0, 3)), 0.0, granted_model(FLOAT32, statistical=True))
    assert of_none.sum(axis=-1).shape == (0,)
    assert not of_none.sum(axis=0).terms.bias.any()
    assert of_none.sum().terms.bias == 0.0


def test_the_bias_of_terms_without_one_is_small() -> None:
    for offset in (0.0, 3.0):
        for seed in range(6):
            total = total_of(np.random.default_rng(seed).standard_normal(16384) + offset)
            assert total.terms.bias < total.error / 3.0


def test_sums_that_are_added_are_one_sum_in_whatever_parts_and_places() -> None:
    """Overlapping patches that are added up have the bound of each element's whole sum, in any order."""
    rng = np.random.default_rng(0)
    terms = rng.standard_normal((6, 4)) + 1.0
    for statistical in (True, False):
        model = RoundingModel.of(FLOAT64, statistical=statistical, flush_to_zero=False)
        parts: Any = Bounded(terms, 0.0, model)
        total: Any = np.zeros_like(np.pad(parts[0], ((1, 1),)))
        total[1:5] += parts[:2].sum(axis=0)
        total[1:5] += parts[2:4].sum(axis=0)
        total[1:5] += parts[4:].sum(axis=0)
        whole = parts.sum(axis=0)
        assert np.abs(total.value[1:5] - whole.value).max() <= whole.error.min()
        assert np.abs(total.error[1:5] / whole.error - 1.0).max() < 2.0**-40
        assert not total.error[[0, 5]].any()


def test_the_statistical_bound_does_not_vanish_where_squares_underflow() -> None:
    """The same terms at any scale: the bound of tiny ones is at least that of ordinary ones, scaled."""
    terms, scale = np.array([3.0, -2.9, 1.7, 0.3, -1.1]), 2.0**-600
    model = RoundingModel.of(FLOAT64, statistical=True, flush_to_zero=False)
    ordinary, tiny = Bounded(terms, 0.0, model).sum(axis=0), Bounded(terms * scale, 0.0, model).sum(axis=0)
    assert tiny.error >= ordinary.error * scale > 0


# ------------------------------------------------------------------------------------------------ the rules

OPERANDS = st.floats(-30, 30).filter(lambda v: abs(v) > 1e-3)
RULES: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "exp": lambda a, b: np.exp(a),
    "expm1": lambda a, b: np.expm1(a),
    "erf": lambda a, b: erf(a / 8.0),
    "erfc": lambda a, b: erfc(a / 8.0),
    "normal distribution": lambda a, b: _of_python(normal_cdf, a / 8.0),
    "normal density": lambda a, b: _of_python(normal_density, a / 8.0),
    "log": lambda a, b: np.log(np.abs(a)),
    "log1p": lambda a, b: np.log1p(np.abs(a)),
    "logaddexp": lambda a, b: np.logaddexp(a, b),
    "logaddexp of all": lambda a, b: np.logaddexp.reduce(a, axis=-1),
    "tanh": lambda a, b: np.tanh(a),
    "maximum": lambda a, b: np.maximum(a, b),
    "minimum": lambda a, b: np.minimum(a, b),
    "negative": lambda a, b: -a,
    "sign": lambda a, b: np.sign(a),
    "matmul": lambda a, b: a[None] @ b[:, None],
    "sum": lambda a, b: np.add.reduce(a, axis=-1, keepdims=True),
    "largest": lambda a, b: np.maximum.reduce(a, axis=-1, keepdims=True),
}


def _of_python(function: Callable[[float], float], a: Any) -> Any:
    """Elementwise, in numbers: NumPy makes objects of what Python returns."""
    values: Any = np.frompyfunc(function, 1, 1)(a)
    return values.astype(np.float64)


def passed_on(rule: str, error_of: Callable[[Bounded], Any], data: st.DataObject) -> bool:
    """Whether the bound covers what operands moved within their errors do to the result."""
    vectors = st.lists(OPERANDS, min_size=3, max_size=3).map(np.array)
    a, b = data.draw(vectors), data.draw(vectors)
    relative = data.draw(st.sampled_from((0.0, 1e-6, 1e-3, 0.1)))
    errors = relative * np.abs(a), relative * np.abs(b)
    result = RULES[rule](Bounded(a, errors[0], EXACT), Bounded(b, errors[1], EXACT))
    covered = True
    for signs in np.ndindex(3, 3):
        for turn in (1.0, np.array([1.0, -1.0, 1.0])):
            moved = a + (signs[0] - 1) * turn * errors[0], b + (signs[1] - 1) * turn * errors[1]
            distance = np.abs(RULES[rule](*moved) - result.value)
            # float64 rounds the moved operands and the result itself
            slack = 2.0**-48 * (1.0 + np.abs(result.value))
            covered &= bool((distance <= error_of(result) + slack).all())
    return covered


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
def test_errors_of_the_operands_are_passed_on(rule: str, data: st.DataObject) -> None:
    assert passed_on(rule, lambda result: result.error, data)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"sign"}))
def test_half_the_error_would_not_cover(rule: str) -> None:
    def refuted(data: st.DataObject) -> None:
        assert passed_on(rule, lambda result: result.error / 2.5, data)

    with pytest.raises(AssertionError):
        given(data=st.data())(refuted)()


def test_a_division_by_what_may_be_zero_is_undecided() -> None:
    model = RoundingModel.of(FLOAT64, statistical=False, flush_to_zero=False)
    with np.errstate(all="ignore"):
        quotient: Any = Bounded([1.0], 0.0, model) / Bounded([1e-3], 2e-3, model)
    assert np.isinf(quotient.error)


def test_a_constant_costs_what_the_format_loses_of_it() -> None:
    model = RoundingModel.of(FLOAT32, statistical=False, flush_to_zero=False)
    x: Any = Bounded([1.0], 0.0, model)
    assert (x * 0.5).error == 0.0
    assert (x * 0.1).error >= abs(float(np.float32(0.1)) - 0.1)
    assert (x * 0.1).error > (x * float(np.float32(0.1))).error


def test_a_constant_that_fills_float64_has_been_rounded() -> None:
    """No bit of 1 / 3 is lost by storing it; it had been lost before."""
    model = RoundingModel.of(FLOAT64, statistical=False, flush_to_zero=False)
    constants = np.array([0.5, 6.0, 0.1875, 1e9, np.inf, 1.0 / 3.0, math.sqrt(2.0), 0.1])
    assert (model.constant_error(constants) > 0.0).tolist() == [False] * 5 + [True] * 3


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "selu"])
def test_a_subnormal_number_may_be_on_either_side_of_a_kink(name: str) -> None:
    spec, x, dy = SPECS[name], np.array([-1e-40, 1e-40], np.float32), np.ones(2, np.float32)
    settings = {setting.name: setting.values[-1] for setting in spec.settings}
    (bound,) = vjp_bounds(OPS[name], spec, dy, [x], settings, FLOAT32)
    left, right = (float(OPS[name].vjp(dy[:1], np.array([v], np.float32), **settings)[0][0]) for v in x)
    at_0 = float(OPS[name].vjp(dy[:1], np.zeros(1, np.float32), **settings)[0][0])
    assert (bound.deterministic >= [abs(left - at_0), abs(right - at_0)]).all()
    assert (
        vjp_bounds(OPS[name], spec, dy, [x * np.float32(1e6)], settings, FLOAT32)[0].deterministic.max()
        < 1e-6
    )


@pytest.mark.parametrize(("fmt", "granted"), [(FLOAT32, True), (BFLOAT16, True), (FLOAT16, False)], ids=str)
def test_subnormal_numbers_may_be_flushed_except_on_the_way_to_float16(fmt: Format, granted: bool) -> None:
    spec = SPECS["relu"]
    x = np.array([3 * fmt.smallest_subnormal, fmt.smallest_normal]).astype(fmt.dtype)
    bound = value_bound(OPS["relu"], spec, [x], {}, fmt)
    truth = Truth.exactly(x)
    assert (excess(np.array([0, x[1]], fmt.dtype), truth, bound, fmt) <= 1.0) is granted
    assert excess(np.array([x[0], 0], fmt.dtype), truth, bound, fmt) > 1.0


def test_a_sum_that_does_not_overflow_has_a_bound() -> None:
    """64 losses of 2^1016: their bound is 62 u times a sum of 2^1022; 62 times that sum is infinite."""
    x = [np.full(64, 2.0**508), np.zeros(64)]
    bound = value_bound(OPS["mse"], SPECS["mse"], x, {"reduction": "sum"}, FLOAT64)
    assert np.isfinite(bound.deterministic)
    assert bound.statistical <= bound.deterministic


def test_the_largest_entry_has_the_error_of_those_that_may_be_it() -> None:
    model = RoundingModel.of(FLOAT64, statistical=False, flush_to_zero=False)
    assert Bounded([-1e30, 3.0], [1e14, 1e-16], model).max().error == 1e-16
    assert Bounded([2.0, 3.0], [2.0, 1e-16], model).max().error == 2.0


def test_what_a_half_format_keeps_is_rounded_and_what_others_keep_is_not() -> None:
    for fmt, once in ((BFLOAT16, BFLOAT16.unit_roundoff), (FLOAT32, 0.0)):
        third = Bounded([1.0 / 3.0], 0.0, granted_model(fmt, statistical=False))
        assert once / 4.0 <= kept(third).error <= once / 3.0  # half an ulp of 1 / 3
    assert kept(np.ones(2)).tolist() == [1.0, 1.0]


def test_what_is_taken_as_computed_costs_its_roundings_only() -> None:
    model = RoundingModel.of(FLOAT64, statistical=False, flush_to_zero=False)
    top: Any = Bounded([1e6], 1.0, model)
    there_and_back: Any = (as_computed(top) + 0.5) - as_computed(top)
    assert 0.0 < there_and_back.error < 1e6 * 2.0**-51
    assert as_computed(1.0) == 1.0


def test_terms_added_to_rows_are_the_sums_of_each_row() -> None:
    """The second row gets three terms, the first one: which is exact."""
    model = RoundingModel.of(FLOAT32, statistical=False, flush_to_zero=False)
    rows: Any = Bounded(np.zeros((3, 1)), 0.0, model)
    terms: Any = Bounded([[1.0], [0.1], [2.0], [4.0]], 0.0, model)
    np.add.at(rows, np.array([1, 0, 1, 1]), terms)
    assert rows.value.tolist() == [[0.1], [7.0], [0.0]]
    assert rows.error.tolist()[0] == rows.error.tolist()[2] == [0.0]
    assert 7.0 * 2.0**-24 < rows.error[1, 0] < 21.0 * 2.0**-24


def test_tanh_far_from_zero_is_known_whatever_the_error_of_its_argument() -> None:
    model = RoundingModel.of(FLOAT64, statistical=False, flush_to_zero=False)
    far: Any = np.tanh(Bounded([2.0**1000, -(2.0**1000)], 2.0**950, model))
    assert (far.error < 2.0**-49).all()
    near: Any = np.tanh(Bounded([0.5], 0.25, model))
    assert near.error >= math.tanh(0.5) - math.tanh(0.25)


def test_a_form_rounds_by_the_size_of_its_own_results() -> None:
    """Those of a variant may be larger than the reference's."""
    form = Form("tenfold", "nobody", lambda x: 10.0 * x, lambda dy, y, x: (10.0 * dy,))
    spec, x, dy = replace(SPECS["identity"], forms=(form,)), np.ones(1, np.float16), np.ones(1, np.float16)
    least = 8.0 * FLOAT16.unit_roundoff  # half an ulp of 10
    assert value_bound(OPS["identity"], spec, [x], {}, FLOAT16).deterministic >= least
    assert vjp_bounds(OPS["identity"], spec, dy, [x], {}, FLOAT16)[0].deterministic >= least


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda fmt: str(fmt.name))
def test_a_bias_that_cancels_leaves_the_scores_of_attention_their_digits(fmt: Format) -> None:
    """Beside products of all orders of magnitude it took them all: 7 of 108 examples had no finite bound."""
    spec, op = SPECS["multi_head_attention"], OPS["multi_head_attention"]
    shape = shape_at(spec, {"batch": 2})
    for seed in range(24):
        example = make_example(spec, fmt, shape, "mixed", spec.defaults, (seed,))
        bounds = vjp_bounds(op, spec, example.dy, example.inputs, example.settings, fmt)
        assert all(np.isfinite(bound.deterministic).all() for bound in bounds)
