"""What a law is: a named statement, a check that raises, and the subject that it is put to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refnet import OPS, Operator
from specs import SPECS, Spec
from verify.arithmetic.bounds import SLACK, value_bounds, vjp_bounds
from verify.arithmetic.certified import in_order
from verify.arithmetic.contracts import Contract, contract_of
from verify.arithmetic.formats import Format
from verify.laws.examples import Example
from verify.laws.subgradients import on_kink, subgradient

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

ROW_AXIS = "c"
"""The axis of a signature along which every entry depends on every other: the classes of a row."""


class LawViolation(AssertionError):
    """A law that does not hold: what was expected, what was found, where."""


class NotApplicable(Exception):
    """The example says nothing about the law."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation of one operator: refnet's, a foreign one, or one that is wrong on purpose.

    `parts` is its forward and backward, where they can be had apart: only then residuals are seen.
    """

    spec: Spec
    value: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]] | None
    parts: Operator | None = None
    contract: Contract | None = None
    """What it promises of its arithmetic, if that is not the default of the format."""

    @property
    def reference(self) -> Operator:
        return OPS[self.spec.name]

    @property
    def is_reference(self) -> bool:
        """Whether it is refnet, which promises some things exactly that others are granted a rounding of."""
        return self.parts is self.reference

    def granted(self, fmt: Format) -> Contract:
        """The contract that its results are held to."""
        return self.contract or contract_of(fmt)

    @classmethod
    def of_reference(cls, name: str) -> Subject:
        return cls.of_operator(OPS[name])

    @classmethod
    def of_operator(cls, op: Operator) -> Subject:
        return cls(SPECS[op.name], op.__call__, op.vjp, op)

    def outputs(self, example: Example) -> Floats:
        """The one output, widened; the arrays of the example are safe from the implementation."""
        (y,) = self.results(example)
        return y

    def results(self, example: Example) -> tuple[Floats, ...]:
        """Every output, widened."""
        y = self.value(*(x.copy() for x in example.inputs), **example.settings)
        return tuple(map(_widened, in_order(y)))

    def gradients(self, example: Example) -> tuple[Floats, ...]:
        """The gradients, widened, one for each differentiable input."""
        if self.vjp is None:
            raise NotApplicable("no vjp")
        own = example.with_cotangents(np.copy)
        gradients = self.vjp(own.dy, *(x.copy() for x in example.inputs), **example.settings)
        return tuple(_widened(gradient) for gradient in gradients)

    def output_bound(self, example: Example, fmt: Format) -> Floats:
        """What any honest implementation may be off by; infinite where the oracle cannot decide."""
        (bound,) = self.result_bounds(example, fmt)
        return bound

    def result_bounds(self, example: Example, fmt: Format) -> tuple[Floats, ...]:
        """The same for every output."""
        bounds = value_bounds(self.reference, self.spec, example.inputs, example.settings, self.granted(fmt))
        values = in_order(self.reference(*example.inputs, **example.settings))
        return tuple(
            _decided(bound.deterministic, value, fmt) for bound, value in zip(bounds, values, strict=True)
        )

    def gradient_bounds(self, example: Example, fmt: Format) -> tuple[Floats, ...]:
        """The same for the gradients."""
        bounds = vjp_bounds(
            self.reference,
            self.spec,
            example.dy,
            example.inputs,
            example.settings,
            self.granted(fmt),
        )
        values = self.reference.vjp(example.dy, *example.inputs, **example.settings)
        decided = [
            _decided(bound.deterministic, value, fmt) for bound, value in zip(bounds, values, strict=True)
        ]
        return (*(self._at_kinks(bound, example, fmt) for bound in decided[:1]), *decided[1:])

    def _at_kinks(self, bound: Floats, example: Example, fmt: Format) -> Floats:
        """The bound of the loosest slope that may be taken: nothing rounds a slope of 0."""
        for kink in self.spec.kinks:
            at = on_kink(kink, example.inputs, self.granted(fmt))
            for slope in kink.allowed_under(example.settings) if at.any() else ():
                given = example.dy, example.inputs, example.settings
                _, granted = subgradient(self.spec, kink, slope, *given, self.granted(fmt))
                bound = np.where(at, np.maximum(bound, granted.deterministic * SLACK), bound)
        return bound


def exact_total(x: Floats) -> float:
    """The sum of all elements, rounded once; infinite if one is."""
    return math.fsum(x.ravel()) if np.isfinite(x).all() else float(np.sum(x))


def _widened(array: Any) -> Floats:
    return np.asarray(array).astype(np.float64)


def _decided(bound: Floats, value: Values, fmt: Format) -> Floats:
    """The bound, infinite also where the value may overflow: infinity has no rounding error."""
    with np.errstate(all="ignore"):
        within = np.abs(value.astype(np.float64)) + bound <= fmt.largest
    return np.where(within, bound * SLACK, np.inf)


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


class Comparison(NamedTuple):
    """|found - expected| <= bound is due everywhere. An element whose bound is infinite is open."""

    found: Any
    expected: Any
    bound: Any
    what: str


def require(found: Any, expected: Any, bound: Any, what: str) -> None:
    """One comparison; see `require_each`."""
    require_each([Comparison(found, expected, bound, what)])


def require_each(comparisons: Iterable[Comparison]) -> None:
    """Raise LawViolation unless every comparison holds; a NaN is never within a bound.

    Raise NotApplicable if no element of any of them could be decided: nothing has been compared.
    """
    decided = sum(_decided_elements(comparison) for comparison in comparisons)
    if not decided:
        raise NotApplicable("the oracle cannot decide any element")


def _decided_elements(comparison: Comparison) -> int:
    found, expected, bound, what = comparison
    if np.shape(found) != np.shape(expected) and np.ndim(expected):
        raise LawViolation(f"{what}: shape {np.shape(found)} instead of {np.shape(expected)}")
    found, expected, bound = np.broadcast_arrays(found, expected, bound)
    undecided = np.isinf(bound)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
        holds = (error <= bound) | (found == expected) | (np.isnan(found) & np.isnan(expected)) | undecided
    if not holds.all():
        worst = tuple(int(i) for i in np.argwhere(~holds)[0])
        raise LawViolation(
            f"{what}: {float(found[worst])!r} instead of {float(expected[worst])!r} at {worst}, "
            f"off by {float(error[worst]):.3g} where {float(bound[worst]):.3g} is granted; "
            f"{int((~holds).sum())} of {holds.size} elements"
        )
    return int((~undecided).sum())
