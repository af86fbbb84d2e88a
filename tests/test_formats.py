"""The unit in the last place and the error in it, against their definitions on rational numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.arithmetic.certified import round_ratio
from verify.arithmetic.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    Format,
    Truth,
    error_in_ulp,
    ulp,
)

EVERY_FORMAT = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)


def defined_ulp(r: Fraction, fmt: Format) -> Fraction:
    """2^(max(floor(log2 |r|), emin) - p + 1), by search; the exponent limited to emax."""
    binade = fmt.emin
    while binade < fmt.emax and abs(r) >= Fraction(2) ** (binade + 1):
        binade += 1
    return Fraction(2) ** (binade - fmt.precision + 1)


@st.composite
def rationals(draw: st.DrawFn, fmt: Format) -> Fraction:
    """Real numbers of all magnitudes, many of them close to powers of two and to midpoints."""
    exponent = draw(st.integers(fmt.quantum - 3, fmt.emax + 2))
    numerator = draw(st.integers(1, 2**70) | st.integers(0, 6).map(lambda k: 2**69 + k - 3))
    return draw(st.sampled_from((1, -1))) * Fraction(numerator, 2**69) * Fraction(2) ** exponent


def truth_of(r: Fraction, fmt: Format) -> Truth:
    rounded = round_ratio(r.numerator, r.denominator, fmt)
    with np.errstate(over="ignore"):
        return Truth(np.float64(rounded.value).astype(fmt.dtype)[None], np.array([rounded.fraction]))


@EVERY_FORMAT
@given(data=st.data())
def test_the_error_is_that_of_the_definition(fmt: Format, data: st.DataObject) -> None:
    r = data.draw(rationals(fmt))
    truth = truth_of(r, fmt)
    limit = Fraction(2) ** (fmt.emax + 1)
    real = max(min(r, limit), -limit)
    nearest = truth.nearest[0]
    for y in (
        nearest,
        np.nextafter(nearest, fmt.dtype.type(np.inf)),
        np.nextafter(nearest, fmt.dtype.type(-np.inf)),
    ):
        meant = limit * int(np.sign(y)) if np.isinf(y) else Fraction(float(y))
        expected = abs(meant - real) / defined_ulp(real, fmt)
        found = Fraction(float(error_in_ulp(np.array([y], fmt.dtype), truth, fmt)[0]))
        assert abs(found - expected) <= Fraction(2) ** -48 * (1 + expected), (r, y)
    assert error_in_ulp(truth.nearest, truth, fmt)[0] <= 0.5


@EVERY_FORMAT
def test_ulp_of_the_numbers_of_a_format(fmt: Format) -> None:
    table = {
        1.0: 2.0 ** (1 - fmt.precision),
        1.0 - 2.0**-fmt.precision: 2.0**-fmt.precision,
        -3.0: 2.0 ** (2 - fmt.precision),
        0.0: fmt.smallest_subnormal,
        fmt.smallest_subnormal: fmt.smallest_subnormal,
        fmt.smallest_normal: fmt.smallest_subnormal,
        fmt.largest: 2.0 ** (fmt.emax - fmt.precision + 1),
        -np.inf: 2.0 ** (fmt.emax - fmt.precision + 1),
    }
    values = np.array(list(table), dtype=np.float64).astype(fmt.dtype)
    assert np.array_equal(ulp(values, fmt), np.array(list(table.values())))


@EVERY_FORMAT
def test_the_constants_of_a_format_are_those_of_its_dtype(fmt: Format) -> None:
    info: Any = ml_dtypes.finfo(fmt.dtype)
    assert fmt.largest == float(info.max)
    assert fmt.smallest_normal == float(info.smallest_normal)
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert 2.0 * fmt.unit_roundoff == float(info.eps)
    assert fmt.holds(fmt.largest)
    assert fmt.holds(fmt.smallest_subnormal)
    assert not fmt.holds(0.1) or fmt is FLOAT64
    assert not fmt.holds(fmt.smallest_subnormal * 1.5) or fmt is FLOAT64


@pytest.mark.parametrize(
    ("fmt", "real", "got", "error"),
    [
        (FLOAT16, 65520.0, np.inf, 0.5),
        (FLOAT16, 65520.0, 65504.0, 0.5),
        (FLOAT16, 1e30, np.inf, 0.0),
        (FLOAT16, 1e30, 65504.0, 1.0),
        (FLOAT16, 1e30, -np.inf, 4096.0),
        (FLOAT32, 2.0**-149, 0.0, 1.0),
        (FLOAT32, 2.0**-126, 0.0, 2.0**23),
        (FLOAT64, 5e-324, 1e-323, 1.0),
        (FLOAT64, 1.7976931348623157e308, np.inf, 1.0),
        (FLOAT64, 1.7976931348623157e308, -1.7976931348623157e308, 2.0**54 - 2),
        (BFLOAT16, 0.0, -0.0, 0.0),
        (FLOAT32, np.nan, np.nan, 0.0),
        (FLOAT32, np.nan, 1.0, np.inf),
        (FLOAT32, 1.0, np.nan, np.inf),
    ],
)
def test_the_ends_of_the_formats(fmt: Format, real: float, got: float, error: float) -> None:
    lost = np.isnan(real)
    truth = Truth.exactly(np.array([np.nan], fmt.dtype)) if lost else truth_of(Fraction(real), fmt)
    assert error_in_ulp(np.array([got]).astype(fmt.dtype), truth, fmt)[0] == error


def _spacing_of_the_result(got: Any, truth: Truth, fmt: Format) -> Any:
    return np.abs(got.astype(np.float64) - truth.nearest) / np.spacing(np.abs(got)).astype(np.float64)


def _quotient_in_float64(got: Any, truth: Truth, fmt: Format) -> Any:
    real = truth.nearest.astype(np.float64) * (1 + truth.fraction * 2.0 ** (1 - fmt.precision))
    binade = np.floor(np.log2(np.abs(real)))
    return np.abs(got.astype(np.float64) - real) / 2.0 ** (binade - fmt.precision + 1)


@pytest.mark.parametrize("wrong", [_spacing_of_the_result, _quotient_in_float64])
def test_obvious_formulas_are_wrong_somewhere(wrong: Callable[[Any, Truth, Format], Any]) -> None:
    """The result's own spacing forgets the binade of the real number; quotients fail at both ends."""
    reals = [1 - Fraction(1, 2**60), Fraction(65520), Fraction(5e-324) * 3 / 2]
    disagreements = 0
    for fmt, r in zip((FLOAT64, FLOAT16, FLOAT64), reals, strict=True):
        truth = truth_of(r, fmt)
        got = np.nextafter(truth.nearest, fmt.dtype.type(0))
        with np.errstate(all="ignore"):
            disagreements += wrong(got, truth, fmt)[0] != error_in_ulp(got, truth, fmt)[0]
    assert disagreements
