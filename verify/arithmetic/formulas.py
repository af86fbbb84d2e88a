"""The definition of an operator as mathematics: what it does to symbols, printed, and its derivatives.

The definition itself is run, on a small array of symbols, so that what is printed is what is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from specs import Domain, Input, Spec

LINE = 72
"""The width that a formula should keep to: a row of three symbols becomes one of two to fit it."""

UNDERSCORE = "~"
"""Stands for an underscore that starts no subscript, until the formula is printed."""

LONGEST_DENOMINATOR = 1000

SIZES = ({"n": 1, "k": 2, "m": 2, "c": 3}, {"n": 1, "k": 2, "m": 2, "c": 2})
"""The sizes of the named axes, the first that fits the line."""


@dataclass(frozen=True, slots=True)
class Formula:
    """One output element of an operator in symbols, and its derivatives by the first elements of each input.

    An equation is a text of one or several lines (a fraction has three). `given` says for which concrete
    values the formula is printed (the labels); `exceptions` are its values where a convention such as
    0 log 0 = 0 decides.
    """

    given: tuple[str, ...]
    definition: str
    exceptions: tuple[str, ...]
    derivatives: tuple[str, ...]


def formula_of(spec: Spec, *, unicode: bool = True) -> Formula:
    """Run the definition on symbols: one for an elementwise operator, a row of 2 or 3 for a row operator.

    A specification may have equations of its own, where its definition on symbols fills a page.
    """
    if spec.equations:
        return Formula((), "\n".join(spec.equations), (), ())
    formulas = (_formula(spec, sizes, unicode) for sizes in SIZES)
    first = next(formulas)
    lines = "\n".join((first.definition, *first.exceptions, *first.derivatives)).splitlines()
    return first if max(map(len, lines)) <= LINE else next(formulas)


def _formula(spec: Spec, sizes: Mapping[str, int], unicode: bool) -> Formula:
    settings = _settings(spec)
    for axis, size in spec.derived.items():
        sizes = {**sizes, axis: size(sizes, settings)}
    inputs = [
        _symbols(item, axes, batched, sizes)
        for item, axes, batched in zip(spec.inputs, spec.core_axes, spec.batched_inputs, strict=True)
    ]
    outputs = np.asarray(spec.definition(*inputs, **settings), dtype=object)
    y = outputs.flat[0]
    index = _index((0,) * outputs.ndim, spec.batched_outputs[0]) if outputs.size > 1 else ""
    left = f"y_{index}" if index else "y"

    def printed(expression: Any) -> str:
        expression = expression.replace(_is_decimal, lambda number: sympy.Symbol(f"{float(number):.7g}"))
        text = sympy.pretty(expression, use_unicode=unicode, wrap_line=False)
        return "\n".join(map(str.rstrip, text.splitlines())).replace(UNDERSCORE, "_")

    def equation(left: str, right: Any) -> str:
        """The left side takes the place of a symbol as wide, so that it stands at the fraction bar."""
        place = "L" * len(left)
        return printed(sympy.Eq(sympy.Symbol(place), right, evaluate=False)).replace(place, left)

    output = printed(sympy.Symbol(left))
    generic = _generic(y)
    d = "∂" if unicode else "d"
    return Formula(
        given=tuple(
            f"{item.name} = {x.flat[0]}"
            for item, x in zip(spec.inputs, inputs, strict=True)
            if item.domain.is_integer
        ),
        definition=equation(output, generic),
        exceptions=tuple(
            equation(
                f"{output} ({printed(symbol)} = {value})", _generic(sympy.simplify(y.subs(symbol, value)))
            )
            for symbol, value in _exceptions(y)
        ),
        derivatives=tuple(
            equation(f"{d}{output}/{d}{printed(symbol)}", slope)
            for k in spec.differentiable
            for symbol, slope in _slopes(generic, inputs[k])
        ),
    )


def _symbols(item: Input, axes: tuple[str, ...], batched: bool, sizes: Mapping[str, int]) -> npt.NDArray[Any]:
    """An array of symbols named after the input, for a batch of one; labels are the first class."""
    core = tuple(sizes[axis] for axis in axes)
    shape = (1, *core) if batched else core
    if item.domain.is_integer:
        return np.zeros(shape, dtype=np.int64)
    if item.domain is Domain.MASK:
        return np.ones(shape, dtype=bool)
    signless = (Domain.PROBABILITY, Domain.DISTRIBUTION, Domain.NONNEGATIVE, Domain.WEIGHT)
    sign = "nonnegative" if item.domain in signless else "real"
    symbols = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        subscript = _index(index, batched)
        name = item.name.replace("_", UNDERSCORE) + (f"_{subscript}" if subscript else "")
        symbols[index] = sympy.Symbol(name, **{sign: True})
    return symbols


def _index(index: tuple[int, ...], batched: bool) -> str:
    """The subscript of an element, without the batch axis."""
    return "".join(map(str, index[1:] if batched else index))


def _settings(spec: Spec) -> dict[str, Any]:
    """The defaults; the loss of one example; numbers as symbols."""
    settings: dict[str, Any] = {}
    for setting in spec.settings:
        symbol = sympy.Symbol(setting.name.replace("_", UNDERSCORE), real=True)
        settings[setting.name] = symbol if isinstance(setting.default, float) else setting.default
    if "reduction" in settings:
        settings["reduction"] = "none"
    return settings


def _is_decimal(number: Any) -> bool:
    """A constant that is given by its digits, which as a fraction nobody would know again."""
    return isinstance(number, sympy.Rational) and number.q > LONGEST_DENOMINATOR


def _is_exception(piecewise: Any) -> bool:
    return isinstance(piecewise, sympy.Piecewise) and isinstance(piecewise.args[0].cond, sympy.Eq)


def _generic(expression: Any) -> Any:
    """The expression away from the single points where a convention decides."""
    return expression.replace(_is_exception, lambda piecewise: piecewise.args[-1].expr)


def _exceptions(expression: Any) -> list[tuple[Any, Any]]:
    """Those points, as (symbol, value): of a row only the first element, since the others are alike."""
    points = {
        (condition.lhs, condition.rhs)
        for piecewise in expression.atoms(sympy.Piecewise)
        if _is_exception(piecewise)
        for condition in (piecewise.args[0].cond,)
    }
    return sorted((p for p in points if p[0].name.partition("_")[2] in ("", "0")), key=str)


def _slopes(y: Any, inputs: npt.NDArray[Any]) -> Iterator[tuple[Any, Any]]:
    """The derivatives by the first element and, unless swapping the indices gives it, by the second."""
    first, *others = inputs.flat
    slope = _simplest(sympy.diff(y, first))
    yield first, slope
    if others and "_" in first.name and len(first.name.partition("_")[2]) == 1:
        second = _simplest(sympy.diff(y, others[0]))
        if second != 0 and sympy.simplify(second - _swapped(slope)) != 0:
            yield others[0], second


def _swapped(expression: Any) -> Any:
    """The expression with the indices 0 and 1 exchanged."""
    other = str.maketrans("01", "10")
    swap = {}
    for symbol in expression.free_symbols:
        name, underscore, index = symbol.name.partition("_")
        if underscore:
            swap[symbol] = sympy.Symbol(f"{name}_{index.translate(other)}", **symbol._assumptions_orig)
    return expression.subs(swap, simultaneous=True)


def _simplest(expression: Any) -> Any:
    """The shortest of several forms, among those that keep to the functions of the definition."""
    simple = sympy.simplify(expression)
    forms = [expression, simple, sympy.factor(simple), sympy.factor(expression)]
    own = [form for form in forms if not form.has(sympy.functions.elementary.hyperbolic.HyperbolicFunction)]
    return min(own, key=sympy.count_ops)
