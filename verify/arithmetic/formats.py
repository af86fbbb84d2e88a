"""The floating-point formats, and the error of a result in units in the last place.

The unit in the last place of a real number r in a format of precision p is

    ulp(r) = 2^(max(floor(log2 |r|), emin) - p + 1)

with the exponent of r limited to emax (Muller et al., Handbook of Floating-Point Arithmetic, 2nd ed., 2.3).
The real number decides, never the computed one: just below a power of two the finer spacing counts, so a
result is correctly rounded exactly when its error is at most 1/2, in every binade and among the
subnormals. Beyond the largest number the exponent range is taken to go on for one step: infinity stands
for 2^(emax + 1), and so does every real number that is larger, so that overflow costs what any other
rounding costs.

Exponents are integers throughout (`frexp`, `ldexp`). A quotient such as `(y - r) / ulp` would meet
infinities and zeros at both ends of float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Exponents = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Format:
    """A binary format: `precision` bits with the hidden one, normal numbers in [2^emin, 2^(emax+1))."""

    name: str
    dtype: np.dtype[Any]
    precision: int
    emin: int
    emax: int

    @property
    def unit_roundoff(self) -> float:
        """The largest relative error of rounding to nearest: half the distance from 1 to the next number."""
        return 2.0**-self.precision

    @property
    def quantum(self) -> int:
        """The exponent of the smallest subnormal number, of which all others are multiples."""
        return self.emin - self.precision + 1

    @property
    def smallest_subnormal(self) -> float:
        return 2.0**self.quantum

    @property
    def smallest_normal(self) -> float:
        return 2.0**self.emin

    @property
    def largest(self) -> float:
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax

    def nearest(self, values: Floats) -> Floats:
        """The numbers of the format that are nearest, in float64; of a format that has a dtype of its own."""
        with np.errstate(all="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def holds(self, value: float) -> bool:
        """Whether a float64 is a number of this format, so that storing it rounds nothing."""
        if not np.isfinite(value):
            return True
        in_quanta = np.ldexp(value, self.precision - 1 - max(int(np.frexp(value)[1]) - 1, self.emin))
        return abs(value) <= self.largest and bool(in_quanta == np.rint(in_quanta))


FLOAT16 = Format("float16", np.dtype(np.float16), 11, -14, 15)
BFLOAT16 = Format("bfloat16", np.dtype(ml_dtypes.bfloat16), 8, -126, 127)
FLOAT32 = Format("float32", np.dtype(np.float32), 24, -126, 127)
FLOAT64 = Format("float64", np.dtype(np.float64), 53, -1022, 1023)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {fmt.name: fmt for fmt in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)}
)


@dataclass(frozen=True, slots=True)
class Truth:
    """Real numbers, as the format sees them: `nearest + fraction * ulp`.

    `nearest` holds the correctly rounded values, in the format. `fraction` is (r - nearest) / ulp(r), in
    float64, and lies within 1/2 of zero; an infinite `nearest` stands for 2^(emax + 1), see the module.
    """

    nearest: Values
    fraction: Floats

    @classmethod
    def exactly(cls, values: Values) -> Truth:
        """Numbers of the format, special values included, as the truth."""
        return cls(values, np.zeros(values.shape))

    @classmethod
    def rounding(cls, values: Floats, fmt: Format) -> Truth:
        """Numbers that float64 holds, as the truth for a format that may hold fewer."""
        with np.errstate(over="ignore", invalid="ignore"):
            nearest = values.astype(fmt.dtype)
            inward = np.sign(values - nearest.astype(np.float64))  # the side of a power of two is what counts
            exponents = ulp_exponents(cls(nearest, inward), fmt)
            limit = np.ldexp(1.0, fmt.emax + 1)  # infinity for float64, whose values need no limit
            fraction = _in_ulp(np.clip(values, -limit, limit), exponents, fmt) - _in_ulp(
                nearest, exponents, fmt
            )
        return cls(nearest, np.asarray(np.where(np.isfinite(fraction), fraction, 0.0), dtype=np.float64))

    def ulp(self, fmt: Format) -> Floats:
        """ulp(r), elementwise, in float64, which holds them all."""
        return np.asarray(np.ldexp(1.0, ulp_exponents(self, fmt)))


def ulp_exponents(truth: Truth, fmt: Format) -> Exponents:
    """The exponent e of ulp(r) = 2^e, elementwise; that of the largest numbers for infinity and NaN."""
    nearest = truth.nearest.astype(np.float64)
    mantissa, exponent = np.frexp(np.abs(nearest))
    binade = np.where(np.isfinite(nearest), exponent - 1, fmt.emax + 1)
    below = (mantissa == 0.5) | np.isinf(nearest)  # r may lie in the binade under its rounded value
    inward = truth.fraction * np.sign(nearest) < 0
    binade = np.where(nearest == 0, fmt.emin, binade - (below & inward))
    return np.asarray(np.clip(binade, fmt.emin, fmt.emax) - fmt.precision + 1, dtype=np.intp)


def ulp(values: npt.ArrayLike, fmt: Format) -> Floats:
    """ulp(r) of numbers r of the format, elementwise, in float64."""
    return Truth.exactly(np.asarray(values)).ulp(fmt)


def error_in_ulp(got: Values, truth: Truth, fmt: Format) -> Floats:
    """|got - r| / ulp(r), elementwise: at most 1/2 exactly where `got` is correctly rounded.

    0 for NaN where NaN is due, and infinite for a NaN on one side only. Signed zeros are equal.
    """
    exponents = ulp_exponents(truth, fmt)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = _in_ulp(got, exponents, fmt) - _in_ulp(truth.nearest, exponents, fmt)
        error = np.abs(distance - truth.fraction)
    lost, due = np.isnan(got), np.isnan(truth.nearest)
    return np.asarray(np.where(lost | due, np.where(lost & due, 0.0, np.inf), error), dtype=np.float64)


def _in_ulp(values: Values, exponents: Exponents, fmt: Format) -> Floats:
    """values / 2^exponents, with 2^(emax + 1) in the place of infinity."""
    wide = values.astype(np.float64)
    infinite = np.isinf(wide)
    scaled = np.ldexp(np.where(infinite, 0.0, wide), -exponents)
    beyond = np.copysign(np.ldexp(1.0, fmt.emax + 1 - exponents), wide)
    return np.asarray(np.where(infinite, beyond, scaled), dtype=np.float64)
