"""What a sweep asks: one unary operator, or its derivative, at every number of a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet import OPS, ArgumentError
from specs import SPECS, Spec, Variant
from specs.spec import SettingValue
from verify.arithmetic.bounds import value_bounds, vjp_bounds
from verify.arithmetic.certified import certify, certify_vjp, side_of_line
from verify.arithmetic.contracts import REFERENCE, Contract, promised
from verify.arithmetic.formats import FORMATS, Format, Truth
from verify.conformance.candidate import UsageError
from verify.suggestions import suggestion

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DTYPES = ("float16", "bfloat16", "float32")
"""The formats whose numbers can all be visited: 2^16 or 2^32 of them."""


class SweepError(Exception):
    """A sweep that could not be made: what the candidate lacks, or its journal is."""


class CandidateFails(SweepError):
    """The candidate raises, or returns what cannot be judged: it is wrong, and there is nothing to count."""


def unary_operators() -> tuple[str, ...]:
    """The operators that can be swept."""
    return tuple(spec.name for spec in SPECS.values() if spec.is_unary)


def _named(op: str, name: str) -> Variant | None:
    """The convention of an operator by its name, if it is one that can be swept."""
    return next((v for v in SPECS[op].variants if v.name == name and v.is_formula), None)


def _validate(op: str, dtype: str, settings: Mapping[str, SettingValue]) -> None:
    """Refuse the settings that the reference refuses."""
    try:
        OPS[op](np.ones(1, FORMATS[dtype].dtype), **settings)
    except ArgumentError as error:
        raise UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Question:
    """One operator, its value or its derivative, at some settings, in the dtype of a contract."""

    op: str
    derivative: bool
    settings: tuple[tuple[str, SettingValue], ...]
    contract: Contract

    @classmethod
    def of(
        cls,
        op: str,
        dtype: str,
        *,
        derivative: bool = False,
        settings: Mapping[str, SettingValue] | None = None,
        contract: Sequence[str] = (),
    ) -> Question:
        """The question in names.

        Raises:
            UsageError: there is no such unary operator, format, setting or promise.
        """
        if op not in unary_operators():
            if op in SPECS:
                raise UsageError(f"{op} has more than one number in: no sweep, but refnet check judges it.")
            raise UsageError(f"{op}: no unary operator. {suggestion(op, unary_operators())}")
        if dtype not in DTYPES:
            raise UsageError(f"{dtype}: the numbers of {', '.join(DTYPES)} can be visited, no others.")
        spec, given = SPECS[op], dict(settings or {})
        unknown = [name for name in given if name not in spec.defaults]
        if unknown:
            known = ", ".join(spec.defaults) or "none"
            raise UsageError(f"{unknown[0]}: {op} has no such setting. It has: {known}.")
        _validate(op, dtype, given)
        try:
            promise = promised(contract, FORMATS[dtype])
        except ValueError as error:
            raise UsageError(str(error)) from None
        if promise.variant not in ("", REFERENCE) and _named(op, promise.variant) is None:
            known = ", ".join(variant.name for variant in spec.variants if variant.is_formula)
            raise UsageError(
                f"variant={promise.variant}: {op} has no such convention but {known or f'the {REFERENCE}'}."
            )
        return cls(op, derivative, tuple({**spec.defaults, **given}.items()), promise)

    @property
    def variant(self) -> Variant | None:
        """The convention that is followed; None for the reference's."""
        return _named(self.op, self.contract.variant)

    @property
    def spec(self) -> Spec:
        """The operator, with the definition and the forms of the convention."""
        spec, variant = SPECS[self.op], self.variant
        if variant is None:
            return spec
        definition = variant.definition or spec.definition
        return replace(spec, definition=definition, forms=(*spec.forms, *variant.forms))

    @property
    def fmt(self) -> Format:
        return self.contract.output

    @property
    def function(self) -> str:
        """The name of the function that answers it."""
        return f"{self.op}_vjp" if self.derivative else self.op

    @property
    def keywords(self) -> dict[str, SettingValue]:
        return dict(self.settings)

    @property
    def text(self) -> str:
        """In words: "derivative of gelu(approximate='tanh') in float32"."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings)
        what = f"{self.op}({settings})" if settings else self.op
        by = "" if self.variant is None else f" by the convention {self.variant.name}"
        return f"{'derivative of ' if self.derivative else ''}{what} in {self.fmt.name}{by}"

    def certified(self, x: Values, fmt: Format) -> Truth:
        """The correctly rounded answers at some numbers, in a format of any width."""
        if not self.derivative:
            return certify(self.spec.definition, (x,), fmt, self.keywords)
        (truth,) = certify_vjp(self.spec.definition, (x,), (0,), np.ones(x.shape), fmt, self.keywords)
        return truth

    def side_of_line(self, near: float, far: float, slope: float) -> int:
        """On which side of slope * x all answers between two numbers lie; 0 if that is not known."""
        if self.derivative:
            return 0
        return side_of_line(self.spec.definition, near, far, slope, self.keywords)

    def bounds(self, x: Values) -> Floats:
        """What a right answer may be off by at some numbers of the format. Without sums, the statistical
        bound is the deterministic one."""
        op = OPS[self.op]
        if not self.derivative:
            (bound,) = value_bounds(op, self.spec, [x], self.keywords, self.contract)
        else:
            dy = np.ones(x.shape, self.fmt.dtype)
            (bound,) = vjp_bounds(op, self.spec, dy, [x], self.keywords, self.contract)
        return np.asarray(np.broadcast_to(bound.deterministic, x.shape))

    def caller(self, function: Callable[..., Any]) -> Callable[[Values], Any]:
        """The candidate's function of x alone; the cotangent of a derivative is 1."""
        given = {name: v for name, v in self.settings if v != self.spec.defaults[name]}
        if not self.derivative:
            return partial(function, **given)
        return lambda x: function(np.ones(x.shape, x.dtype), x, **given)
