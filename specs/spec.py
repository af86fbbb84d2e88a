"""The records that a specification is made of. Data only: other packages walk over it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Exact = npt.NDArray[np.object_]
"""An array of exact numbers: sympy expressions, arb balls, or fractions."""

Floats = npt.NDArray[np.floating]
SettingValue = str | int | float | bool | None | tuple[int, ...]
Slope = float | str | tuple[float | str, float | str]
"""A derivative: a number, the name of the setting or of the input that it is, or the mean of two of these."""

BATCH = "..."
"""Stands for any number of axes in a signature: where it is first, for batch axes."""

Size = Callable[[Mapping[str, int], Mapping[str, Any]], int]
"""The size of an axis, from those of other axes and the settings."""


class Domain(Enum):
    """Where an input lives, and so what a check may draw for it."""

    REAL = "any real number"
    NONNEGATIVE = "a number that is not negative"
    WEIGHT = "a weight of ordinary size, or 0"
    PROBABILITY = "a number in [0, 1]"
    DISTRIBUTION = "non-negative numbers that sum to 1 along the last axis"
    LOG_PROBABILITY = "the logarithm of a probability: at most 0"
    SIGN = "-1 or 1"
    INDEX = "an integer that counts along an axis"
    COUNT = "an integer of at least 1"
    MASK = "True or False"

    @property
    def is_integer(self) -> bool:
        return self in (Domain.INDEX, Domain.COUNT)

    @property
    def is_floating(self) -> bool:
        """Whether its numbers are of the format of a call; integers and masks are of their own."""
        return not self.is_integer and self is not Domain.MASK


class Aspect(Enum):
    """What the output of an operator is called in a report."""

    VALUE = "value"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Input:
    """One positional argument.

    `degree` is the highest power in which it enters a result, or an intermediate one: values beyond the root
    of the format's largest number of that degree overflow in every honest computation. `inner_degree` is that
    of intermediate results alone, which have the range of float32 where the format is narrower. An index
    counts along the axis `along`, or is what the setting `outside` says, unless that is None. Of an input
    that is `centred`, a mean is subtracted; one that `cancels` is added to what differences are taken of, and
    takes their digits where it is larger. `near` are distances from the input after it at which the operator
    changes its ways: numbers drawn apart hardly meet them.
    """

    name: str
    domain: Domain = Domain.REAL
    differentiable: bool = True
    degree: int = 1
    inner_degree: int = 1
    along: str = "c"
    outside: str = ""
    near: tuple[float, ...] = ()
    centred: bool = False
    cancels: bool = False

    @property
    def kind(self) -> str:
        """Where it lives, in words."""
        if self.domain is Domain.INDEX:
            counted = f"an integer in [0, {self.along})"
            return f"{counted}, or {self.outside}" if self.outside else counted
        return str(self.domain.value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One keyword argument: all its values are drawn by the checks; the first is the default, unless it is
    `required` of every call. One that counts along an axis names it."""

    name: str
    values: tuple[SettingValue, ...]
    required: bool = False
    along: str = ""

    @property
    def default(self) -> SettingValue:
        return self.values[0]


def _one(*inputs: Any, **settings: Any) -> Any:
    return 1


@dataclass(frozen=True, slots=True)
class Kink:
    """A set where the derivative jumps, and the derivative that the reference takes there.

    `distance` maps the inputs (in order) to the distance of each element of the first input from the set.
    `convention` is the reference's derivative there, that of the branch which the definition takes; `allowed`
    are the one-sided limits and the subgradients that libraries take, which `used_by` names. They are slopes
    of the function that has the kink; `inner` maps the inputs to the derivative of its argument by the first
    input, by which each slope is multiplied, and `times` writes it: of max(0, 1 - t p) that is -t. The share
    of an example in a mean multiplies all of it.
    """

    where: str
    distance: Callable[..., Floats]
    convention: Slope
    allowed: tuple[Slope, ...]
    used_by: str = ""
    inner: Callable[..., Any] = _one
    times: str = ""

    def convention_under(self, settings: Mapping[str, SettingValue]) -> Slope:
        """The reference's derivative, in numbers unless an input is part of it."""
        return _number(self.convention, settings)

    def allowed_under(self, settings: Mapping[str, SettingValue]) -> tuple[Slope, ...]:
        """The derivatives that are accepted, in numbers unless an input is part of them."""
        return tuple(_number(slope, settings) for slope in self.allowed)


def _number(slope: Slope, settings: Mapping[str, SettingValue]) -> Slope:
    if isinstance(slope, tuple):
        a, b = (_one_number(part, settings) for part in slope)
        return (a, b) if isinstance(a, str) or isinstance(b, str) else (a + b) / 2
    return _one_number(slope, settings)


def _one_number(slope: float | str, settings: Mapping[str, SettingValue]) -> float | str:
    if isinstance(slope, str) and slope not in settings:
        return slope
    value = settings[slope] if isinstance(slope, str) else slope
    if value is None or isinstance(value, tuple):
        raise TypeError(f"the setting {slope} is no number, and so no derivative")
    return float(value)


class Sharing(Enum):
    """How the gradient of equal elements is shared out."""

    FIRST = "the first of equal elements has all of their gradient"
    LAST = "the last of equal elements has all of their gradient"
    EQUAL = "equal elements share their gradient equally"
    OTHER = "equal elements have other parts of their gradient"


@dataclass(frozen=True, slots=True)
class Tie:
    """Where several elements of the first input give an output its value: each may have any part of the
    gradient, as long as the parts add up.

    `taken(*inputs, **settings)` says of each output, along the first axes of its result, which elements of
    the first input those are, along the others. `convention` is what the reference and those in `used_by` do.
    """

    where: str
    convention: Sharing
    used_by: str
    taken: Callable[..., npt.NDArray[np.bool_]]


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

    The variant computes `definition(*prepare(*inputs)) / divisor(*inputs, **settings)`, where `prepare` is
    exact in the format of its inputs (a clipping, for example), and the definition is that of the spec unless
    it has its own. Where that rounds otherwise than the reference, `forms` say how it is computed: its
    tolerance covers them. Its value is NaN where `nan_where(*inputs, **settings)` says so. Its gradients are
    the derivatives of that, or `gradients(dy, *inputs, **settings)` where a library has others: exact numbers
    and floats go through it alike.
    """

    name: str
    summary: str
    used_by: str
    prepare: Callable[..., tuple[Any, ...]] | None = None
    definition: Callable[..., Any] | None = None
    divisor: Callable[..., Any] | None = None
    nan_where: Callable[..., bool] | None = None
    gradients: Callable[..., tuple[Any, ...]] | None = None
    forms: tuple[Form, ...] = ()

    @property
    def is_formula(self) -> bool:
        """Whether it is another definition and nothing else."""
        others = (self.prepare, self.divisor, self.nan_where, self.gradients)
        return self.definition is not None and others == (None,) * len(others)


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """What an operator is; each is itself alone, and serves as a key.

    `signature` is a NumPy gufunc signature, in which "..." stands for axes of any number, the same wherever
    it stands: first, for batch axes, of examples that know nothing of one another; behind others, for
    positions. `definition(*inputs, **settings)` is the textbook formula on arrays of exact numbers, in which
    no form is preferred for its rounding; it returns one array, or a tuple of as many as there are
    `outputs`.

    `derived` says how long an axis is that follows from others and from the settings, as the output of a
    convolution does. `shapes` are sizes of the other axes at which an operator is checked, the smallest
    first; of elementwise operators, rows (c) and matrix products (n, k, m) the checks know their own. `seams`
    are the real numbers around which examples are drawn beside the usual ones: where pieces meet, a gradient
    is 0, a tail begins. `combinations` are the settings at which an operator is checked, the defaults first,
    where not every value of one goes with every value of another, or too many do. `equations` are printed
    where the definition on symbols would fill a page.
    """

    name: str
    summary: str
    signature: str
    definition: Callable[..., Any]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("y",)
    equations: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    combinations: tuple[Mapping[str, SettingValue], ...] = ()
    derived: Mapping[str, Size] = field(default_factory=dict)
    shapes: tuple[Mapping[str, int], ...] = ()
    kinks: tuple[Kink, ...] = ()
    seams: tuple[float, ...] = ()
    tie: Tie | None = None
    laws: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    forms: tuple[Form, ...] = ()
    variants: tuple[Variant, ...] = ()
    references: tuple[str, ...] = ()
    aspect: Aspect = Aspect.VALUE
    mean_over: str = "the examples"
    """Of a loss: what its mean is taken over."""

    @property
    def core_axes(self) -> tuple[tuple[str, ...], ...]:
        """The named axes of each input: "(...,k),(k,m),(m)->(...,m)" gives (k), (k, m), (m)."""
        return tuple(tuple(axis for axis in group if axis != BATCH) for group in self.groups(0))

    @property
    def output_axes(self) -> tuple[tuple[str, ...], ...]:
        """The named axes of each output."""
        return tuple(tuple(axis for axis in group if axis != BATCH) for group in self.groups(1))

    def laid_out(
        self, side: int, batch: tuple[int, ...], sizes: Mapping[str, int]
    ) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs (side 0) or of the outputs (1), with `batch` in the place of "..."."""
        return tuple(
            tuple(n for axis in group for n in (batch if axis == BATCH else (sizes[axis],)))
            for group in self.groups(side)
        )

    def sizes_of(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], dict[str, int]]:
        """What stands for "..." in inputs of these shapes, and the sizes of their named axes."""
        batch: tuple[int, ...] = ()
        sizes: dict[str, int] = {}
        for group, shape in zip(self.groups(0), shapes, strict=True):
            start = group.index(BATCH) if BATCH in group else len(group)
            end = len(shape) - len(group[start + 1 :])
            batch = shape[start:end] if BATCH in group else batch
            named = (axis for axis in group if axis != BATCH)
            sizes.update(zip(named, shape[:start] + shape[end:], strict=True))
        return batch, sizes

    @property
    def batched_inputs(self) -> tuple[bool, ...]:
        """Which inputs have batch axes."""
        return tuple(BATCH in group[:1] for group in self.groups(0))

    @property
    def batched_outputs(self) -> tuple[bool, ...]:
        """Which outputs have batch axes."""
        return tuple(BATCH in group[:1] for group in self.groups(1))

    @property
    def batched(self) -> bool:
        """Whether there are batch axes at all."""
        return any(self.batched_inputs)

    @property
    def open(self) -> bool:
        """Whether there are axes of any number, be they batch axes or positions."""
        return BATCH in self.signature

    @property
    def free_axes(self) -> tuple[str, ...]:
        """The named axes of the inputs whose sizes may be chosen, in the order of the signature."""
        named = dict.fromkeys(axis for axes in self.core_axes for axis in axes)
        return tuple(axis for axis in named if axis not in self.derived)

    def groups(self, side: int) -> tuple[tuple[str, ...], ...]:
        """The axes of each input (side 0) or output (1) as they are written, "..." among them."""
        groups = re.findall(r"\(([^)]*)\)", self.signature.split("->")[side])
        return tuple(tuple(filter(None, group.split(","))) for group in groups)

    @property
    def differentiable(self) -> tuple[int, ...]:
        """The positions of the inputs that have a gradient."""
        return tuple(i for i, item in enumerate(self.inputs) if item.differentiable)

    @property
    def is_unary(self) -> bool:
        """Whether there is one input, and each element of the result depends on one element of it."""
        return len(self.inputs) == 1 and self.signature == "(...)->(...)"

    @property
    def all_settings(self) -> tuple[Mapping[str, SettingValue], ...]:
        """The settings at which the operator is checked, the defaults first."""
        names = [setting.name for setting in self.settings]
        every = product(*(setting.values for setting in self.settings))
        return self.combinations or tuple(dict(zip(names, values, strict=True)) for values in every)

    @property
    def defaults(self) -> dict[str, SettingValue]:
        """The value of each setting that a check takes where it varies another one."""
        return {setting.name: setting.default for setting in self.settings}
