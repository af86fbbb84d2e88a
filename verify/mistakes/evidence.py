"""What a diagnosis is made from: failing cases, their wrong elements, and what counts as equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verify.arithmetic.bounds import ELEMENTARY_ULP, ErrorBound
from verify.arithmetic.errors import Errors
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Format, Truth
from verify.laws.examples import Example

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Function = Callable[..., Any]

ROUNDINGS = 2.0 * max(ELEMENTARY_ULP.values()) + 2.0
"""Of one result, in units of u |value|: an elementary function (an ulp is at most 2 u |value|), and an
operation before and after it."""

NEIGHBOURS = 4
"""Neighbours of the arguments at which a mistake is looked at."""


class Compared(NamedTuple):
    """One array of a case: what came back, what was due, how far off it may be, and where it is wrong."""

    got: Floats
    due: Floats
    bound: Floats
    wrong: Bools
    fmt: Format


@dataclass(frozen=True, slots=True)
class Evidence:
    """A failing case: what came back, and what was due."""

    aspect: str
    example: Example
    got: tuple[Values, ...]
    truths: tuple[Truth, ...]
    bounds: tuple[ErrorBound, ...]

    @property
    def format(self) -> Format:
        return FORMATS[self.truths[0].nearest.dtype.name]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Of the call: the cotangent comes first in that of a gradient."""
        example = self.example
        return example.inputs if self.aspect == "value" else (example.dy, *example.inputs)

    def compared(self) -> tuple[Compared, ...]:
        return self.compare(self.got)

    def compare(self, results: tuple[Values, ...]) -> tuple[Compared, ...]:
        """Results of the shapes that are due, against the truth."""
        return tuple(
            Compared(
                _wide(got),
                _wide(truth.nearest),
                np.broadcast_to(bound.deterministic, got.shape),
                beyond(got, truth, bound),
                FORMATS[truth.nearest.dtype.name],
            )
            for got, truth, bound in zip(results, self.truths, self.bounds, strict=True)
        )

    def runs(
        self, make: Callable[[], Function]
    ) -> Iterator[tuple[tuple[Values, ...], Callable[[], tuple[Floats, ...]]]]:
        """What a function gives for the arguments, and what its results move by with the arguments.

        It is run in the format of the case, and in each wider one, which rounds the result once: a candidate
        may compute in either. It is made anew for each run, so that none remembers another.
        """
        fmt = self.format
        for inner in (fmt, FLOAT32, FLOAT64):
            if inner is not fmt and inner.precision <= fmt.precision:
                continue
            results = self._run(make(), converted(self.arguments, inner))
            if results is not None:
                yield tuple(_rounded(y, fmt) for y in results), partial(self._moves, make, inner)

    def _run(self, function: Function, arguments: Any) -> tuple[Values, ...] | None:
        """The results, or None where they are not of the number and the shapes that are due."""
        try:
            with np.errstate(all="ignore"):
                results = leaves(function(*arguments, **self.example.settings))
                if tuple(y.shape for y in results) != tuple(y.shape for y in self.got):
                    return None
                return results
        except (ValueError, IndexError, TypeError):  # a mistake may not bear every shape
            return None

    def _moves(self, make: Callable[[], Function], inner: Format) -> tuple[Floats, ...]:
        """What the results move by when every argument moves by its last place, over some neighbours.

        A sum of products that is rounded in any order is the exact sum of products that are moved by as many
        u (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 3.1), so that what it loses in a
        cancellation shows here, where k u |value| of the result is nothing.
        """
        rng = np.random.default_rng(0)
        given = converted(self.arguments, inner)
        before = self._run(make(), converted(given, inner))
        moved = [np.zeros(y.shape) for y in self.got]
        for _ in range(NEIGHBOURS):
            after = self._run(make(), _neighbour(given, inner, rng))
            if before is not None and after is not None:
                with np.errstate(all="ignore"):
                    changes = (np.abs(_wide(a) - _wide(b)) for a, b in zip(after, before, strict=True))
                    moved = [
                        m + np.where(np.isfinite(c), c, 0.0) for m, c in zip(moved, changes, strict=True)
                    ]
        return tuple(moved)


def beyond(got: Values, truth: Truth, bound: ErrorBound) -> Bools:
    """Where a result is neither correctly rounded nor within a finite bound."""
    errors = Errors.of(np.asarray(got), truth, FORMATS[truth.nearest.dtype.name])
    return np.asarray(~errors.within(bound.deterministic) & np.isfinite(bound.deterministic))


def granted(one: Floats, other: Floats, bound: Floats, fmt: Format) -> Floats:
    """How far apart two roundings of one result may be, each of them off by its own.

    That is the bound of the right function, where the two compute much the same; and k u |value| of what they
    compute instead, because the bound is 0 where the right result is: behind a ReLU that is closed.
    """
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(one), np.abs(other))
        own = ROUNDINGS * (
            fmt.unit_roundoff * np.where(np.isfinite(size), size, 0.0) + fmt.smallest_subnormal
        )
        return np.asarray(2.0 * (np.where(np.isfinite(bound), bound, 0.0) + own))


def near(one: Floats, other: Floats, bound: Floats, fmt: Format, moves: Floats | float = 0.0) -> Bools:
    """Where two results are one result, rounded in two ways; `moves` are granted beside (see `runs`)."""
    with np.errstate(all="ignore"):
        close = np.abs(one - other) <= granted(one, other, bound, fmt) + moves
    return np.asarray(close | (one == other) | (np.isnan(one) & np.isnan(other)))


def converted(arguments: Any, fmt: Format) -> Any:
    """Copies in a format, however deep in lists; integers stay what they are."""
    if isinstance(arguments, list | tuple):
        return type(arguments)(converted(item, fmt) for item in arguments)
    if not isinstance(arguments, np.ndarray):
        return arguments
    return arguments.copy() if arguments.dtype.kind in "iub" else arguments.astype(fmt.dtype)


def leaves(results: Any) -> tuple[Values, ...]:
    """One array, or the arrays of nested tuples and lists in order."""
    if not isinstance(results, tuple | list):
        return (np.asarray(results),)
    return tuple(leaf for item in results for leaf in leaves(item))


def _neighbour(arguments: Any, fmt: Format, rng: np.random.Generator) -> Any:
    """Every number moved by its last place, up or down; zeros stay."""
    if isinstance(arguments, list | tuple):
        return type(arguments)(_neighbour(item, fmt, rng) for item in arguments)
    if not isinstance(arguments, np.ndarray) or arguments.dtype.kind in "iub":
        return arguments
    step = 2.0 * fmt.unit_roundoff * rng.choice((-1.0, 1.0), arguments.shape)
    with np.errstate(all="ignore"):
        return np.asarray(_wide(arguments) * (1.0 + step)).astype(fmt.dtype)


def _rounded(results: Values, fmt: Format) -> Values:
    with np.errstate(all="ignore"):
        return results.astype(fmt.dtype)


def _wide(array: Values) -> Floats:
    return np.asarray(array).astype(np.float64)
