"""What a law is: a named statement, a check that raises, and the subject that it is put to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet import OPS, Operator
from specs import SPECS, Spec
from verify.arithmetic.bounds import value_bound, vjp_bounds
from verify.arithmetic.formats import Format
from verify.laws.examples import Example

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class LawViolation(AssertionError):
    """A law that does not hold: what was expected, what was found, where."""


class NotApplicable(Exception):
    """The example says nothing about the law."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation of one operator: refnet's, a foreign one, or one that is wrong on purpose."""

    spec: Spec
    value: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]] | None

    @property
    def reference(self) -> Operator:
        return OPS[self.spec.name]

    @classmethod
    def of_reference(cls, name: str) -> Subject:
        op = OPS[name]
        return cls(SPECS[name], op.__call__, op.vjp)

    def outputs(self, example: Example) -> Floats:
        return _widened(self.value(*example.inputs, **example.settings))

    def gradients(self, example: Example) -> tuple[Floats, ...]:
        if self.vjp is None:
            raise NotApplicable("no vjp")
        gradients = self.vjp(example.dy, *example.inputs, **example.settings)
        return tuple(_widened(gradient) for gradient in gradients)

    def output_bound(self, example: Example, fmt: Format) -> Floats:
        """What any honest implementation may be off by; infinite where the model cannot decide."""
        bound = value_bound(
            self.reference, self.spec, example.inputs, example.settings, fmt, flush_to_zero=fmt.precision != 11
        )
        return _decided(bound.deterministic)

    def gradient_bounds(self, example: Example, fmt: Format) -> tuple[Floats, ...]:
        bounds = vjp_bounds(
            self.reference,
            self.spec,
            example.dy,
            example.inputs,
            example.settings,
            fmt,
            flush_to_zero=fmt.precision != 11,
        )
        return tuple(_decided(bound.deterministic) for bound in bounds)


def _widened(array: Any) -> Floats:
    return np.asarray(array).astype(np.float64)


def _decided(bound: Floats) -> Floats:
    return np.where(np.isnan(bound), np.inf, bound)


@dataclass(frozen=True, slots=True)
class Law:
    """A property that holds for every correct implementation of the operators that name it.

    `check(subject, example, fmt)` raises LawViolation where it fails and NotApplicable where the example
    says nothing. `universal` laws hold for every operator for which `applies` is true.
    """

    name: str
    statement: str
    check: Callable[[Subject, Example, Format], None]
    universal: bool = False
    applies: Callable[[Spec], bool] = lambda spec: True
    gradient: bool = False
    """The law is about the gradient, and so needs a vjp."""


def require(found: Any, expected: Any, bound: Any, what: str) -> None:
    """Raise LawViolation unless |found - expected| <= bound everywhere; a NaN is never within a bound."""
    found, expected, bound = np.broadcast_arrays(found, expected, bound)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
        holds = (error <= bound) | (found == expected) | (np.isnan(found) & np.isnan(expected))
    if not holds.all():
        worst = tuple(int(i) for i in np.argwhere(~holds)[0])
        raise LawViolation(
            f"{what}: {float(found[worst])!r} instead of {float(expected[worst])!r} at {worst}, "
            f"off by {float(error[worst]):.3g} where {float(bound[worst]):.3g} is granted; "
            f"{int((~holds).sum())} of {holds.size} elements"
        )
