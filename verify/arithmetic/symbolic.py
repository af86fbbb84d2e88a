"""Derivatives by sympy, at concrete small shapes, evaluated in certified arithmetic.

The definition of a spec runs on arrays of symbols; sympy differentiates `sum(dy * f)` by every symbol. The
resulting expressions are walked node by node on exact numbers. Generated code (`sympy.lambdify`) would print
the rational 1/3 as a Python float, and return a ball that is guaranteed to hold a wrong number.

An independent witness: `certify_vjp` differentiates one operation after another, and has no formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import pairwise
from operator import add, mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sympy
from flint import arb, fmpq

from specs import Domain, Spec
from specs.maths import elementary, is_positive, is_zero
from verify.arithmetic.certified import Kind, decide, in_order
from verify.arithmetic.formats import Format, Truth, Values

Exact = npt.NDArray[np.object_]

HALF = sympy.Rational(1, 2)


class Derivation(NamedTuple):
    """Gradients as expressions: `parts` are common subexpressions in the order in which to evaluate them."""

    symbols: tuple[tuple[Any, ...], ...]
    """The symbols of each input, flat (none for integers), and last those of the cotangent."""
    parts: tuple[tuple[Any, Any], ...]
    gradients: tuple[tuple[Any, ...], ...]
    """Of each differentiable input, flat."""


def symbolic_vjp(
    spec: Spec, inputs: Sequence[Values], dy: Any, fmt: Format, settings: Mapping[str, Any]
) -> tuple[Truth, ...]:
    """The gradients of `sum(dy * f)` for the differentiable inputs, derived by sympy, correctly rounded.

    Meant for small shapes: the expressions of n inputs and m outputs have n m terms.

    Raises:
        Undecided: as for `certify`.
    """
    shapes = tuple(x.shape for x in inputs)
    labels = tuple(tuple(x.ravel().tolist()) if x.dtype.kind in "iub" else None for x in inputs)
    derivation = derive(spec, shapes, labels, tuple(sorted(settings.items())))
    cotangents = np.concatenate([d.ravel() for d in in_order(dy)])
    truths: list[Truth] = []
    for position, gradient in zip(spec.differentiable, derivation.gradients, strict=True):

        def evaluate(kind: Kind, position: int = position, wanted: tuple[Any, ...] = gradient) -> Exact:
            values: dict[Any, Any] = {}
            for symbols, array in zip(derivation.symbols, (*inputs, cotangents), strict=True):
                numbers = (kind(float(v)) for v in array.ravel()) if symbols else ()
                values.update(zip(symbols, numbers, strict=True))
            for symbol, expression in derivation.parts:
                values[symbol] = evaluate_expression(expression, values)
            result = np.empty(len(wanted), dtype=object)
            result[:] = [evaluate_expression(expression, values) for expression in wanted]
            return result.reshape(shapes[position])

        truths.append(decide(evaluate, fmt))
    return tuple(truths)


@lru_cache(maxsize=256)
def derive(
    spec: Spec,
    shapes: tuple[tuple[int, ...], ...],
    labels: tuple[tuple[int, ...] | None, ...],
    settings: tuple[tuple[str, Any], ...],
) -> Derivation:
    """Differentiate a definition at concrete shapes; integer inputs are given by their values."""
    arrays: list[Values] = []
    symbols: list[tuple[Any, ...]] = []
    for item, shape, integers in zip(spec.inputs, shapes, labels, strict=True):
        if integers is not None:
            kind = bool if item.domain is Domain.MASK else np.int64
            arrays.append(np.asarray(integers, dtype=kind).reshape(shape))
            symbols.append(())
            continue
        names = symbolic_array(item.name, shape)
        arrays.append(names)
        symbols.append(tuple(names.ravel()))
    exact = {name: _rational(value) for name, value in settings}
    results = in_order(spec.definition(*arrays, **exact))
    outputs = np.concatenate([np.asarray(y, dtype=object).ravel() for y in results])
    cotangent = symbolic_array("dy", outputs.shape)
    total = sum(outputs * cotangent, sympy.Integer(0))
    gradients = [[sympy.diff(total, s) for s in symbols[position]] for position in spec.differentiable]
    parts, reduced = sympy.cse([g for gradient in gradients for g in gradient])
    ends = np.cumsum([0, *map(len, gradients)])
    split = tuple(tuple(reduced[start:end]) for start, end in pairwise(ends))
    return Derivation((*symbols, tuple(cotangent)), tuple(parts), split)


def symbolic_array(name: str, shape: tuple[int, ...]) -> Exact:
    """An array of real symbols, named by their indices."""
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        array[index] = sympy.Symbol("_".join((name, *map(str, index))), real=True)
    return array


def _rational(value: Any) -> Any:
    return sympy.Rational(Fraction(value)) if isinstance(value, float) else value


# ----------------------------------------------------------------------------- expressions, node by node


def evaluate_expression(node: Any, values: Mapping[Any, Any]) -> Any:
    """The exact number that an expression stands for, given its symbols'; a truth value for a condition.

    Raises:
        ValueError: the expression holds a float, or a function that has no rule here.
    """
    if node.is_Symbol:
        return values[node]
    if node.is_Rational:
        return fmpq(int(node.p), int(node.q))
    if node.is_Piecewise:  # only the branch that is taken may be evaluated
        chosen = next(value for value, condition in node.args if evaluate_expression(condition, values))
        return evaluate_expression(chosen, values)
    if node.is_Pow and node.args[0].is_Rational and node.args[1] in (HALF, -HALF):
        root = arb(fmpq(int(node.args[0].p), int(node.args[0].q))).sqrt()  # of a constant: no sign to decide
        return root if node.args[1] == HALF else 1 / root
    rule = _RULES.get(node.func)
    if rule is None:
        raise ValueError(f"no exact value for {node.func.__name__} in {node}")
    return rule(*(evaluate_expression(argument, values) for argument in node.args))


def _power(base: Any, exponent: Any) -> Any:
    if not (isinstance(exponent, fmpq) and exponent.q in (1, 2)):
        raise ValueError(f"no exact value for the power {exponent}")
    if exponent.q == 2:
        base = elementary("sqrt", arb(base) if isinstance(base, fmpq) else base)
    power = int(exponent.p)
    if isinstance(base, fmpq):
        return base**power
    product = reduce(mul, [base] * abs(power))  # arb has NaN for the power of a ball around 0
    return product if power > 0 else 1 / product


def _compare(holds: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    """A rule for a relation, from what must hold of the difference of its sides."""

    def compare(left: Any, right: Any) -> bool:
        difference = np.empty((), dtype=object)
        difference[()] = left - right
        return bool(holds(difference))

    return compare


def _sign(value: Any) -> int:
    """-1, 0 or 1: the derivative of |x|, which sympy takes to be 0 at 0."""
    positive, negative = (_compare(is_positive)(side, 0) for side in (value, -value))
    return int(positive) - int(negative)


_RULES: Mapping[Any, Callable[..., Any]] = {
    sympy.Add: lambda *terms: reduce(add, terms),
    sympy.Mul: lambda *factors: reduce(mul, factors),
    sympy.Pow: _power,
    sympy.Abs: lambda x: _sign(x) * x,
    sympy.exp: lambda x: elementary("exp", x),
    sympy.log: lambda x: elementary("log", x),
    sympy.erf: lambda x: elementary("erf", x),
    sympy.core.numbers.Pi: arb.pi,
    sympy.sign: _sign,
    sympy.core.numbers.Exp1: lambda: elementary("exp", 1),
    sympy.logic.boolalg.BooleanTrue: lambda: True,
    sympy.logic.boolalg.BooleanFalse: lambda: False,
    sympy.And: lambda *conditions: all(conditions),
    sympy.Or: lambda *conditions: any(conditions),
    sympy.Not: lambda condition: not condition,
    sympy.ITE: lambda condition, one, other: one if condition else other,
    sympy.Eq: _compare(is_zero),
    sympy.Ne: _compare(lambda x: not is_zero(x)),
    sympy.Gt: _compare(is_positive),
    sympy.Le: _compare(lambda x: not is_positive(x)),
    sympy.Lt: _compare(lambda x: is_positive(-x)),
    sympy.Ge: _compare(lambda x: not is_positive(-x)),
}
