"""Values of a function around a point: in one call where it maps over a leading axis, else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verify.gradients.arrays import (
    Array,
    Bools,
    Floats,
    Function,
    attempted,
    evaluate,
    flatten,
    is_floating,
    unit_roundoff,
    values_beside,
)
from verify.gradients.kinks import Kinks
from verify.gradients.ladder import SHORTEST

AGREEMENT = 8.0
"""Last places of the largest output by which a row of a stacked call may differ from a single call: the
sums may be taken in another order."""

SAME = 64.0
"""Last places of the largest output by which f may differ between a format and float64, see `widened`."""


def widened(f: Function, points: tuple[Array, ...], outputs: Sequence[Array]) -> tuple[Array, ...]:
    """The points in float64, if f takes and returns it and has the same values there; else the points.

    A derivative in float64 has twice the digits, and is as much that of f: what differs in values by a few
    last places everywhere does not differ in slope. Code that depends on the format, as by an eps of it,
    differs in values first.
    """
    wide = tuple(x.astype(np.float64) if is_floating(x) else x for x in points)
    narrow = [y for y in outputs if y.dtype != np.float64]
    if not narrow and all(x.dtype == np.float64 for x in points if is_floating(x)):
        return points
    values = attempted(f, wide)
    same = (
        values is not None
        and len(values) == len(outputs)
        and all(
            v.dtype == np.float64 and v.shape == y.shape and _close(v, y, SAME * 2 * unit_roundoff(y.dtype))
            for v, y in zip(values, outputs, strict=True)
        )
    )
    return wide if same else points


def _close(values: Array, others: Array, places: float) -> bool:
    values, others = np.asarray(values, np.float64), np.asarray(others, np.float64)
    with np.errstate(all="ignore"):
        limit = places * float(abs(others).max(initial=0.0, where=np.isfinite(others)))
        return bool(
            (
                (values == others) | (np.isnan(values) & np.isnan(others)) | (abs(values - others) <= limit)
            ).all()
        )


@dataclass(frozen=True, slots=True)
class Sampler:
    """f as a function of one element of one input at a time; everything else is held."""

    f: Function
    points: tuple[Array, ...]
    position: int
    outputs: tuple[Array, ...]
    stacks: bool
    kinks: Kinks | None

    @property
    def centre(self) -> Floats:
        return flatten(self.outputs)

    def around(self, elements: Array, steps: Floats) -> tuple[Floats, Floats]:
        """f(x + h), f(x - h) for `steps` of shape (steps, elements): two arrays (steps, elements, outputs).

        NaN where f raises or changes shape, and where a step would leave the branch of the point, unless
        that leaves too few: then the point is on a kink, or all but on it.
        """
        x = self.points[self.position]
        count = len(elements)
        with np.errstate(over="ignore"):
            beside = x.ravel()[elements] + np.stack([steps, -steps]).astype(np.float64)
        beside = beside.astype(x.dtype).reshape(-1, count)
        rows = self._stacked(elements, beside) if self.stacks else None
        if rows is None:
            rows = np.stack(
                [self._single(int(e), v) for row in beside for e, v in zip(elements, row, strict=True)]
            )
        samples = rows.reshape(2, *steps.shape, -1)
        if self.kinks is not None and self.kinks.branches is not None:
            off = self._other_branch(self.kinks, elements, beside).reshape(2, *steps.shape)
            away = off[0] | off[1]
            samples[:, away & ~away[-SHORTEST:].any(axis=0)] = np.nan
        return samples[0], samples[1]

    def _moved(self, element: int, value: object) -> list[Array]:
        moved = list(self.points)
        moved[self.position] = x = self.points[self.position].copy()
        x.flat[element] = value
        return moved

    def _single(self, element: int, value: object) -> Floats:
        return values_beside(self.f, self._moved(element, value), sum(y.size for y in self.outputs))

    def _stacked(self, elements: Array, beside: Array) -> Floats | None:
        """All in one call; None if some rows of it are not what single calls return."""
        rows = _stacked_call(self.f, self.points, self.position, self._stack(elements, beside), self.outputs)
        if rows is None:
            return None
        last = len(elements) - 1
        for row, column in ((0, 0), (0, last), (len(beside) // 2, last), (len(beside) - 1, 0)):
            single = self._single(int(elements[column]), beside[row, column])
            if not _close(rows[row * len(elements) + column], single, self._places):
                return None
        return rows

    def _stack(self, elements: Array, beside: Array) -> Array:
        x = self.points[self.position]
        stack = np.tile(x.ravel(), (beside.size, 1))
        stack[np.arange(beside.size), np.tile(elements, len(beside))] = beside.ravel()
        return stack.reshape(beside.size, *x.shape)

    @property
    def _places(self) -> float:
        return AGREEMENT * 2 * max(unit_roundoff(y.dtype) for y in self.outputs)

    def _other_branch(self, kinks: Kinks, elements: Array, beside: Array) -> Bools:
        here = kinks.signature(self.points)
        return np.array(
            [
                [kinks.signature(self._moved(int(e), v)) != here for e, v in zip(elements, row, strict=True)]
                for row in beside
            ]
        )


def sampler(f: Function, points: Sequence[Array], position: int, kinks: Kinks | None = None) -> Sampler:
    """A sampler, which stacks if f maps over a leading axis of this input: three rows tell."""
    outputs = evaluate(f, points)
    one = Sampler(f, tuple(points), position, outputs, False, kinks)
    x = points[position]
    if not x.size or not outputs:
        return one
    with np.errstate(over="ignore"):
        stack = np.stack([x, *((x * (1 + sign * 2.0**-6)).astype(x.dtype) for sign in (1, -1))])
    rows = _stacked_call(f, points, position, stack, outputs)
    if rows is None:
        return one
    for row, moved in zip(rows, stack, strict=True):
        single = values_beside(
            f, [moved if p == position else other for p, other in enumerate(points)], row.size
        )
        if not _close(row, single, one._places):
            return one
    return Sampler(f, tuple(points), position, outputs, True, kinks)


def _stacked_call(
    f: Function, points: Sequence[Array], position: int, stack: Array, outputs: Sequence[Array]
) -> Floats | None:
    """f with a stack of inputs in the place of one: a row of outputs for each; None if that is not what f
    returns."""
    given = list(points)
    given[position] = stack
    values = attempted(f, given)
    wanted = [(len(stack), *y.shape) for y in outputs]
    if values is None or [v.shape for v in values] != wanted:
        return None
    return np.concatenate([np.asarray(v, np.float64).reshape(len(stack), -1) for v in values], axis=1)
