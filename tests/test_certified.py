"""Certified values against other arithmetic, and the two independent derivatives against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from flint import arb

from specs import SPECS, Spec
from specs.maths import Exponential, elementary, exp, log, sqrt
from verify.arithmetic.certified import Undecided, certify, certify_vjp, round_dyadic, round_ratio
from verify.arithmetic.formats import FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, Truth, error_in_ulp
from verify.arithmetic.symbolic import evaluate_expression, symbolic_vjp
from verify.laws.examples import REGIMES, make_example, shape_at

EVERY_FORMAT = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)

# ---------------------------------------------------------------------------------------------- rounding


def ties_away(numerator: int, denominator: int, fmt: Format) -> float:
    """A wrong rounding: ties go away from zero."""
    r = Fraction(numerator, denominator)
    rounded = round_ratio(numerator, denominator, fmt)
    if abs(rounded.fraction) == 0.5 and abs(rounded.value) < abs(r):
        return rounded.value + math.copysign(2.0**rounded.exponent, numerator)
    return rounded.value


def disagreements_with_casts(rounding: Callable[[int, int, Format], float], fmt: Format) -> int:
    """On numbers of two formats, their midpoints, and random ones of every magnitude."""
    rng = np.random.default_rng(1)
    low = fmt.quantum - 2 if fmt is not FLOAT64 else fmt.quantum
    spread = rng.standard_normal(2000) * np.exp2(rng.uniform(low, min(fmt.emax + 2, 1022), 2000))
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = spread.astype(fmt.dtype)
        midpoints = numbers.astype(np.float64) + 0.5 * (
            np.nextafter(numbers, fmt.dtype.type(np.inf)) - numbers
        )
        values = np.concatenate([spread, midpoints, [0.0, fmt.largest, -fmt.largest]])
        values = values[np.isfinite(values)]
        found = np.array([rounding(*float(v).as_integer_ratio(), fmt) for v in values])
        return int((found.astype(fmt.dtype) != values.astype(fmt.dtype)).sum())


@EVERY_FORMAT
def test_rounding_is_that_of_the_hardware(fmt: Format) -> None:
    assert disagreements_with_casts(lambda a, b, f: round_ratio(a, b, f).value, fmt) == 0
    if fmt is not FLOAT64:  # whose midpoints no float64 holds
        assert disagreements_with_casts(ties_away, fmt) > 0


def test_dyadic_numbers_of_any_exponent_are_rounded() -> None:
    assert round_dyadic(3, 10**9, FLOAT64).value == np.inf
    assert round_dyadic(-3, -(10**9), FLOAT64).value == 0.0
    assert round_dyadic(2**60 + 1, -60, FLOAT16) == (1024, -10, 2.0**-50)
    assert round_ratio(2**11 + 1, 2, FLOAT16).value == 1024.0
    assert round_ratio(2**11 + 3, 2, FLOAT16).value == 1026.0


# ------------------------------------------------------------------------------------------------ values


def by_mpmath(definition: Callable[[Any], Any], x: float, bits: int) -> Fraction:
    with mpmath.workprec(bits):
        value = definition(mpmath.mpf(x))
        return Fraction(*map(int, mpmath.libmp.to_rational(value._mpf_)))


MPMATH = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "relu": lambda x: max(x, mpmath.mpf(0)),
}
HARD = (
    0.0,
    5e-324,
    -5e-324,
    1e-310,
    1e-8,
    0.5,
    -17.7,
    19.0625,
    36.8,
    -40.0,
    88.72284,
    -103.97,
    709.78,
    -745.2,
)


@EVERY_FORMAT
@pytest.mark.parametrize("name", MPMATH)
def test_values_are_those_of_another_library(name: str, fmt: Format) -> None:
    x = np.array(HARD).astype(fmt.dtype)
    truth = certify(SPECS[name].definition, [x], fmt, {})
    for value, nearest, fraction in zip(x, truth.nearest, truth.fraction, strict=True):
        r = by_mpmath(MPMATH[name], float(value), 4000)
        expected = round_ratio(r.numerator, r.denominator, fmt)
        assert (float(nearest), fraction) == (expected.value, pytest.approx(expected.fraction, abs=2.0**-20))


@pytest.mark.parametrize(
    ("definition", "x", "expected"),
    [
        (lambda x: exp(x) / exp(x).sum(), [1e300, -1e300, 0.0], [1.0, 0.0, 0.0]),
        (lambda x: log(exp(x) / exp(x).sum()), [1e308, -1e308], [0.0, -np.inf]),
        (lambda x: log(exp(x) / exp(x).sum()), [1e300, 2.5e299], [0.0, -7.5e299]),
        (lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), [-1e308, 5e-324], [-1.0, 5e-324]),
        (lambda x: exp(x), [1e300, -1e300], [np.inf, 0.0]),
        (lambda x: log(x), [0.0, 1.0], [-np.inf, 0.0]),
        (lambda x: x * 1e200 * 1e200, [1e200, -1e200], [np.inf, -np.inf]),
    ],
)
def test_values_at_the_ends_of_the_range(definition: Any, x: list[float], expected: list[float]) -> None:
    truth = certify(definition, [np.array(x)], FLOAT64, {})
    with np.errstate(over="ignore"):
        assert truth.nearest.tolist() == np.array(expected).tolist()


def test_an_exact_tie_goes_to_the_even_number_of_its_two_neighbours() -> None:
    x = np.array([1.0, 1.0, 1.0 + 2.0**-23 * 3], np.float32)
    truth = certify(lambda x: x.sum() / 3 * 3 / 2 * 2, [x], FLOAT32, {})  # 3 + 3 * 2^-23, ulp 2^-22
    assert (float(truth.nearest), float(truth.fraction)) == (3.0 + 4 * 2.0**-23, -0.5)


def test_a_number_that_is_all_but_a_tie_is_decided_to_within_half_an_ulp() -> None:
    x = np.array([-1e300, 0.0, 1.5, 2.0**-53])
    truth = certify(lambda x: exp(x[0]) + x[2] + x[3], [x], FLOAT64, {})
    assert float(truth.nearest) in (1.5, 1.5 + 2.0**-52)
    assert abs(float(truth.fraction)) == 0.5


def test_what_is_not_defined_is_not_decided() -> None:
    with pytest.raises(Undecided):
        certify(log, [np.array([-1.0])], FLOAT64, {})


def test_labels_and_settings_are_exact() -> None:
    step = SPECS["sgd_step"].definition
    truth = certify(step, [np.array([0.0]), np.array([1.0])], FLOAT64, {"learning_rate": 0.1})
    assert truth.nearest[0] == -0.1
    assert truth.fraction[0] == 0.0


def test_naive_float64_is_not_a_certificate() -> None:
    """The textbook formula in float64 disagrees with its certified value: the comparison can fail."""
    x = np.array([40.0, 0.0])
    truth = certify(SPECS["log_softmax"].definition, [x], FLOAT64, {})
    naive = np.log(np.exp(x) / np.exp(x).sum())
    assert error_in_ulp(naive, truth, FLOAT64).max() > 1e6


# ------------------------------------------------------------------------------------------- derivatives


SIZES = {"batch": 2, "n": 2, "k": 3, "m": 2, "c": 3}


def agree(a: Truth, b: Truth, fmt: Format) -> bool:
    """The same real numbers; a tie may have been given to either of its neighbours."""
    return bool((np.abs(error_in_ulp(a.nearest, b, fmt) - np.abs(a.fraction)) < 2.0**-20).all())


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.differentiable], ids=lambda s: s.name)
def test_the_traced_and_sympy_agree_on_every_gradient(spec: Spec, fmt: Format) -> None:
    for seed, regime in enumerate(REGIMES):
        example = make_example(spec, fmt, shape_at(spec, SIZES), regime, spec.defaults, (seed,))
        given = (example.inputs, example.dy)
        traced = certify_vjp(spec.definition, given[0], spec.differentiable, given[1], fmt, example.settings)
        derived = symbolic_vjp(spec, *given, fmt, example.settings)
        assert all(agree(a, b, fmt) for a, b in zip(traced, derived, strict=True)), regime


def test_a_wrong_definition_makes_the_derivatives_disagree() -> None:
    spec = SPECS["softmax"]
    example = make_example(spec, FLOAT64, shape_at(spec, SIZES), "normal", spec.defaults, (0,))
    (traced,) = certify_vjp(
        lambda x: exp(x) / (1 + exp(x).sum()), example.inputs, (0,), example.dy, FLOAT64, {}
    )
    (derived,) = symbolic_vjp(spec, example.inputs, example.dy, FLOAT64, example.settings)
    assert not agree(traced, derived, FLOAT64)


def test_no_rational_number_becomes_a_float() -> None:
    """exp(x) / 3 at x = 1/2: generated code prints 1/3 as a float, and its ball misses the truth."""
    x = sympy.Symbol("x")
    expression = sympy.Rational(1, 3) * sympy.exp(x)
    half = arb(0.5)
    with mpmath.workprec(200):
        mantissa, exponent = (mpmath.exp(mpmath.mpf(0.5)) / 3).man_exp
    near = arb(int(mantissa)) * arb(2) ** int(exponent)
    walked = evaluate_expression(expression, {x: half})
    assert walked.overlaps(near)
    generated = sympy.lambdify(x, expression, modules=[{"exp": lambda v: v.exp()}])
    assert not generated(half).overlaps(near) or generated(half).rad() < walked.rad()
    with pytest.raises(ValueError, match="no exact value for Float"):
        evaluate_expression(sympy.Float("0.1") * x, {x: half})


def test_a_derivative_is_not_lost_in_a_blurred_exponent() -> None:
    """At the first precision exp(s) v / exp(s) has an exponent that may be anything: its slope is not 0."""
    truth = certify_vjp(
        lambda v: exp(1e300 * sqrt(3 + 0 * v)) * v / exp(1e300 * sqrt(3 + 0 * v)),
        [np.array([0.75])],
        (0,),
        np.array([1.5]),
        FLOAT64,
        {},
    )[0]
    assert truth.nearest.tolist() == [1.5]


def test_exponents_out_of_reach_come_back() -> None:
    far, near = elementary("exp", arb(2.5e19)), elementary("exp", arb(1.25e19))
    assert isinstance(far, Exponential)
    assert (far * (1 / near**2)).overlaps(arb(1))


def test_a_root_of_a_constant_has_a_value_among_balls() -> None:
    x = sympy.Symbol("x")
    for expression in (sympy.sqrt(3) * x, 3 * x / sympy.sqrt(3)):
        assert (evaluate_expression(expression, {x: arb(2)}) ** 2).overlaps(arb(12))


@pytest.mark.parametrize(
    ("definition", "x", "due"),
    [
        (lambda x: x + 0 * exp(x), 2e19, 1.0),
        (lambda x: 0 * exp(x) - x, 1e300, -1.0),
        (lambda x: x + 0 * log(x), 0.0, 1.0),
        (lambda x: x + 0 * sqrt(x), 0.0, 1.0),
        (lambda x: x / 3 + x * 2 / 3, 1.0, 1.0),
    ],
)
def test_what_is_multiplied_by_0_has_no_part_in_a_gradient(
    definition: Callable[[Any], Any], x: float, due: float
) -> None:
    (slope,) = certify_vjp(definition, [np.array([x])], (0,), np.array([1.0]), FLOAT64, {})
    assert slope.nearest.tolist() == [due]


def test_an_output_without_a_cotangent_has_no_part_in_a_gradient() -> None:
    dy = (np.array([1.0]), np.array([0.0]))
    (slope,) = certify_vjp(lambda x: (x, exp(x)), [np.array([1e300])], (0,), dy, FLOAT64, {})
    assert slope.nearest.tolist() == [1.0]


def test_0_times_what_no_ball_holds_is_0() -> None:
    assert certify(lambda x: 0 * exp(x) + x, [np.array([1e20])], FLOAT64, {}).nearest.tolist() == [1e20]


def test_a_quotient_by_0_is_undecided() -> None:
    with pytest.raises(Undecided):
        certify_vjp(lambda x: x / 0, [np.array([1.0])], (0,), np.array([1.0]), FLOAT64, {})


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "erf"])
@pytest.mark.parametrize("x", [0.0625, 0.75, 2.5])
def test_the_slopes_of_the_elementary_functions_are_their_derivatives(name: str, x: float) -> None:
    """By differences of mpmath, which knows none of them."""
    definition = np.frompyfunc(lambda value: elementary(name, value), 1, 1)
    (slope,) = certify_vjp(definition, [np.array([x])], (0,), np.array([1.0]), FLOAT64, {})
    with mpmath.workprec(200):
        due = mpmath.diff(getattr(mpmath, name), mpmath.mpf(x))
    assert slope.nearest.tolist() == [float(due)]
