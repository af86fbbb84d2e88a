"""The records that a specification is made of. Data only: other packages walk over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Exact = npt.NDArray[np.object_]
"""An array of exact numbers: sympy expressions, arb balls, power series of balls, or fractions."""

Floats = npt.NDArray[np.floating]
SettingValue = str | int | float | bool


class Domain(Enum):
    """Where an input lives, and so what a check may draw for it."""

    REAL = "any real number"
    PROBABILITY = "a number in [0, 1]"
    DISTRIBUTION = "non-negative numbers that sum to 1 along the last axis"
    LABEL = "an integer in [0, c)"


class Aspect(Enum):
    """What the output of an operator is called in a report."""

    VALUE = "value"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Input:
    """One positional argument.

    `degree` is the highest power in which it enters an intermediate result: values beyond the root of the
    format's largest number of that degree overflow in every honest computation.
    """

    name: str
    domain: Domain = Domain.REAL
    differentiable: bool = True
    degree: int = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One keyword argument: all its values are drawn by the checks; the first is the default, unless it is
    `required` of every call."""

    name: str
    values: tuple[SettingValue, ...]
    required: bool = False

    @property
    def default(self) -> SettingValue:
        return self.values[0]


@dataclass(frozen=True, slots=True)
class Kink:
    """A set where the derivative jumps, and the derivative that the reference takes there.

    `distance` maps the inputs (in order) to the distance of each element of the first input from the set.
    `convention` is the reference's derivative there; `allowed` are the one-sided limits and the
    subgradients that libraries take.
    """

    where: str
    distance: Callable[..., Floats]
    convention: float
    allowed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A known answer, special values included; `expected` holds for every float format."""

    why: str
    inputs: tuple[Any, ...]
    expected: Any
    settings: Mapping[str, SettingValue] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An input that must be refused, and what the message must mention."""

    why: str
    inputs: tuple[Any, ...]
    mentions: str
    settings: Mapping[str, SettingValue] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """Another way in which correct libraries compute the same function.

    `value(*inputs, **settings)` and `vjp(dy, y, *inputs, **settings)` are equal to the definition in exact
    arithmetic and differ from it only in rounding; `y` is the operator's own (rounded) output, which is
    what a library saves for its backward pass. The tolerance of an operator covers all of its forms.
    """

    name: str
    used_by: str
    value: Callable[..., Any] | None = None
    vjp: Callable[..., tuple[Any, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A legitimate convention other than the reference's: recognised by name, neither failed nor hidden.

    The variant computes `definition(*prepare(*inputs)) / divisor`, where `prepare` is exact in the format
    of its inputs (a clipping, for example), and the definition is that of the spec unless it has its own.
    Its gradients are the derivatives of that, or `gradients(dy, *inputs, **settings)` where a library has
    others: exact numbers and floats go through it alike.
    """

    name: str
    summary: str
    used_by: str
    prepare: Callable[..., tuple[Any, ...]] | None = None
    definition: Callable[..., Any] | None = None
    divisor: int = 1
    gradients: Callable[..., tuple[Any, ...]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """What an operator is; each is itself alone, and serves as a key.

    `signature` is a NumPy gufunc signature of one example; leading axes are batch axes, shared by all
    inputs, unless `batched` is False. `definition(*inputs, **settings)` is the textbook formula on arrays
    of exact numbers, in which no form is preferred for its rounding.
    """

    name: str
    summary: str
    signature: str
    definition: Callable[..., Any]
    inputs: tuple[Input, ...]
    settings: tuple[Setting, ...] = ()
    batched: bool = True
    kinks: tuple[Kink, ...] = ()
    laws: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    forms: tuple[Form, ...] = ()
    variants: tuple[Variant, ...] = ()
    references: tuple[str, ...] = ()
    aspect: Aspect = Aspect.VALUE

    @property
    def core_axes(self) -> tuple[tuple[str, ...], ...]:
        """The named axes of each input: "(n,k),(k,m),(m)->(n,m)" gives (n, k), (k, m), (m)."""
        inputs, _, _ = self.signature.partition("->")
        return tuple(tuple(filter(None, group.strip("()").split(","))) for group in inputs.split("),"))

    @property
    def differentiable(self) -> tuple[int, ...]:
        """The positions of the inputs that have a gradient."""
        return tuple(i for i, item in enumerate(self.inputs) if item.differentiable)

    @property
    def defaults(self) -> dict[str, SettingValue]:
        """The value of each setting that a check takes where it varies another one."""
        return {setting.name: setting.default for setting in self.settings}
