"""Arrays that run refnet's own code and carry more than their values: bounds, or random errors.

The reference uses a written-down set of ufuncs, array functions and array methods. Here is what such an
array-like does with them whatever it carries: NumPy's two protocols look a rule up by its name, and whatever
only moves numbers about is one method, `each`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import sliding_window_view

Rule = Callable[..., Any]
Move = Callable[[npt.NDArray[Any]], Any]
"""A rearrangement of an array: it may repeat and leave out, and computes nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind of arrays does under the name of a ufunc, of a ufunc's `reduce`, of an array function."""

    ufuncs: Mapping[str, Rule]
    reductions: Mapping[str, Rule]
    functions: Mapping[str, Rule]


class Instrumented(NDArrayOperatorsMixin, ABC):
    """An array as the reference takes it for one."""

    @property
    @abstractmethod
    def rules(self) -> Rules: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]: ...

    @property
    @abstractmethod
    def is_nothing(self) -> bool:
        """Whether every number is exactly 0."""

    @abstractmethod
    def lift(self, x: Any) -> Self:
        """A constant of the reference's own as an array of this kind."""

    @abstractmethod
    def exactly(self, x: Any) -> Self:
        """Numbers without any error as an array of this kind."""

    @abstractmethod
    def each(self, move: Move) -> Self:
        """The same rearrangement of all that is carried."""

    @abstractmethod
    def saved(self) -> Self:
        """As a backward finds it: rounded to the format in which residuals are kept, if that is narrower.

        What carries no error is an argument, or a choice of arguments, and is a number of it already.
        """

    @abstractmethod
    def cover(self, other: Self) -> Self:
        """The same result, from this computation or from another form of it."""

    @abstractmethod
    def decided(self, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A comparison, or what else has no rounding to it and no number for a result."""

    @abstractmethod
    def assign(self, other: Self) -> Self:
        """Become another one: what `+=` does."""

    # NumPy's protocols -------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out, name, rules = kwargs.pop("out", None), ufunc.__name__, self.rules
        with np.errstate(all="ignore"):
            if method == "reduce" and name in rules.reductions:
                result = rules.reductions[name](self.lift(inputs[0]), **kwargs)
            elif method == "__call__" and name in PREDICATES:
                return self.decided(ufunc, inputs, kwargs)
            elif method == "at" and ufunc is np.add and isinstance(inputs[0], type(self)):
                return _add_at(inputs[0], inputs[1], self.lift(inputs[2]))
            elif method == "__call__" and name in rules.ufuncs:
                result = rules.ufuncs[name](*map(self.lift, inputs), **kwargs)
            else:
                return NotImplemented
        return result if out is None else out[0].assign(result)

    def __array_function__(
        self, function: Rule, types: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if function.__name__ not in self.rules.functions:
            return NotImplemented
        with np.errstate(all="ignore"):
            return self.rules.functions[function.__name__](*args, **kwargs)

    # the methods of an array that the reference uses --------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def T(self) -> Self:
        return self.each(np.transpose)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Self:
        return self.each(lambda a: a[index])

    def reshape(self, *shape: Any) -> Self:
        return self.each(lambda a: a.reshape(*shape))

    def swapaxes(self, first: int, second: int) -> Self:
        return self.each(lambda a: a.swapaxes(first, second))

    def squeeze(self, axis: Any) -> Self:
        return self.each(lambda a: a.squeeze(axis))

    def transpose(self, *axes: Any) -> Self:
        return self.each(lambda a: a.transpose(*axes))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        with np.errstate(all="ignore"):
            return self.rules.reductions["add"](self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self.rules.reductions["maximum"](self, axis=axis, keepdims=keepdims)


def _add_at(a: Any, index: npt.NDArray[np.integer], b: Any) -> None:
    """Terms b added to the rows of a that are named by `index`: to each, the sum of its own terms in any
    order. Terms are one more than there are, unless the row was 0, to which the first is added exactly."""
    for row in np.unique(index):
        total, before = b[np.equal(index, row)].sum(axis=0), a[row]
        a[row] = total if before.is_nothing else total + before


def logaddexp_of_all(a: Any, axis: int = 0) -> Any:
    """One after the other."""
    first, *others = (a[(slice(None),) * (axis % a.ndim) + (k,)] for k in range(a.shape[axis]))
    return reduce(np.logaddexp, others, first)


def _rearrangement(function: Rule) -> Rule:
    return lambda a, *args, **kwargs: a.each(lambda array: function(array, *args, **kwargs))


PREDICATES = {
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isinf", "isfinite",
    "bitwise_and", "bitwise_or", "invert", "logical_and", "logical_or", "logical_not",
}  # fmt: skip
REARRANGEMENTS: Mapping[str, Rule] = {
    function.__name__: _rearrangement(function)
    for function in (
        np.broadcast_to,
        np.expand_dims,
        np.flip,
        np.moveaxis,
        np.repeat,
        np.take,
        np.take_along_axis,
        np.transpose,
        sliding_window_view,
    )
}


def as_saved(residuals: Any) -> Any:
    """Residuals as a backward finds them: arrays, or tuples of them."""
    if isinstance(residuals, Instrumented):
        return residuals.saved()
    if isinstance(residuals, tuple):
        return tuple.__new__(type(residuals), map(as_saved, residuals))
    return residuals
