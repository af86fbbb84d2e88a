"""The gradient theorem as a check: a gradient, integrated along a path, is the change of its function.

No numbers that are close together are subtracted, and so there is no step to choose: along a path a float32
keeps about six digits of a derivative, in a difference two or three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre

from verify.gradients.arrays import Array, Floats, evaluate, flatten, unit_roundoff
from verify.gradients.contract import Candidate, ContractError, Cotangent

ROUNDINGS = 4.0
"""Roundings allowed to each of the sums in `_rounding`: those of a stable algorithm are few, and of either
sign."""

NODES = 12
"""Nodes of the first rule; the second has twice as many; half of that in formats of less than 40 bits.
Over a quarter of the size of the point, 12 nodes give 1e-15 of the value for softmax, layer norm and gelu."""

HALVINGS = 8
"""A disagreement is followed into a piece of 2^-8 of its path."""


class NoPath(Exception):
    """f or vjp is not defined along the path; the message says how."""


class Path(NamedTuple):
    """The segment from the candidate's point to point + delta in one input, and a cotangent."""

    candidate: Candidate
    dy: Cotangent
    position: int
    delta: Floats

    def at(self, t: float) -> tuple[Array, ...]:
        """The inputs at the parameter t of [0, 1], rounded to their format."""
        points = list(self.candidate.points)
        x = points[self.position]
        points[self.position] = np.asarray(x.astype(np.float64) + t * self.delta, dtype=x.dtype)
        return tuple(points)

    def gradients(self, t: float) -> list[Floats]:
        """The claimed gradients there, for all inputs that have one.

        Raises:
            NoPath: vjp raises, or is not finite.
        """
        try:
            claims = self.candidate.gradients(self.dy, self.at(t))
        except ContractError as error:
            raise NoPath(f"{error} along the path") from error
        if not all(np.isfinite(g).all() for g in claims):
            raise NoPath("the gradient is not finite along the path")
        return [np.asarray(g, np.float64) for g in claims]

    def value(self, t: float) -> Floats:
        """The terms of `sum(dy * f)` there.

        Raises:
            NoPath: f raises, or is not finite.
        """
        try:
            outputs = flatten(evaluate(self.candidate.f, self.at(t)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, be it SystemExit
            raise NoPath(f"f raises {type(error).__name__} along the path") from error
        dy = flatten(self.dy)
        if outputs.shape != dy.shape or not np.isfinite(outputs).all():
            raise NoPath("f is not finite along the path")
        return dy * outputs


class Integral(NamedTuple):
    """Over a piece of a path: the integral of the claimed gradient, and the change of f.

    A right gradient makes them equal, up to `truncation`, the disagreement of two rules, and `rounding`.
    `size` is the integral of `sum |gradient * delta|`.
    """

    start: float
    end: float
    claimed: float
    change: float
    truncation: float
    rounding: float
    size: float

    @property
    def bar(self) -> float:
        return self.truncation + self.rounding

    @property
    def error(self) -> float:
        return abs(self.claimed - self.change)


def exact_delta(x: Array, wanted: Floats) -> Floats:
    """The difference between x + wanted, rounded to the format of x, and x: what a path really spans."""
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray((wide + wanted).astype(x.dtype).astype(np.float64) - wide)


def integrate(path: Path, breakpoints: Sequence[float] = ()) -> list[Integral]:
    """Integrate over every piece between the breakpoints, which are parameters t of [0, 1].

    Raises:
        NoPath: the function is not defined along the path.
    """
    ends = [0.0, *sorted({t for t in map(float, breakpoints) if 0 < t < 1}), 1.0]
    return [_piece(path, start, end) for start, end in pairwise(ends)]


def narrowed(path: Path, piece: Integral) -> Integral:
    """The part of a piece in which it disagrees most: there the claim is wrong, or f is not smooth.

    Raises:
        NoPath: the function is not defined along the path.
    """
    for _ in range(HALVINGS):
        middle = (piece.start + piece.end) / 2
        halves = _piece(path, piece.start, middle), _piece(path, middle, piece.end)
        piece = max(halves, key=lambda half: half.error)
    return piece


@cache
def _rule(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of Radau's rule on [0, 1], exact to the degree 2 count - 2.

    One node is 0: a gradient that is wrong only there, at the start of a path, as that of a kink may be, is
    in the sum. (Davis and Rabinowitz, Methods of Numerical Integration, 2nd edition, section 2.7.)
    """
    before = np.zeros(count)
    before[-1] = 1
    whole = np.append(before, 1.0)
    nodes = np.sort(legendre.legroots(whole))
    nodes[0] = -1
    nodes -= legendre.legval(nodes, whole) / legendre.legval(nodes, legendre.legder(whole))  # Newton's step
    weights = (1 - nodes) / (count * legendre.legval(nodes, before)) ** 2
    return tuple(map(float, (nodes + 1) / 2)), tuple(map(float, weights / 2))


def _piece(path: Path, start: float, end: float) -> Integral:
    order = path.candidate.positions.index(path.position)
    count = NODES if unit_roundoff(path.candidate.dtype) < 2.0**-40 else NODES // 2
    sums, delta = [], path.delta * (end - start)
    for n in (count, 2 * count):
        nodes, weights = _rule(n)
        claims = [path.gradients(start + t * (end - start)) for t in nodes]
        terms = np.array([w * delta * g[order] for w, g in zip(weights, claims, strict=True)])
        sums.append(math.fsum(terms.ravel()))
    before, after = path.value(start), path.value(end)
    size = float(abs(terms).sum())
    return Integral(
        start,
        end,
        claimed=sums[1],
        change=math.fsum(after) - math.fsum(before),
        truncation=abs(sums[1] - sums[0]),
        rounding=_rounding(path, start, end, claims, before, after, size),
        size=size,
    )


def _rounding(
    path: Path,
    start: float,
    end: float,
    claims: Sequence[Sequence[Floats]],
    before: Floats,
    after: Floats,
    size: float,
) -> float:
    """What the roundings of stable algorithms, u for each number, do to either side.

    A stable algorithm returns the exact result for inputs z (1 + few u), times 1 + few u. The values of f
    at the ends: u sum |dy f|, and through the inputs u sum |g z|. The integral: u sum |g delta| for the
    results, and for the inputs, of which the nodes too are rounded, u sum |dg/dt z|: an element z_j off by
    u z_j changes `sum_k H_jk delta_k = dg_j / dt` times as much. The differences of neighbouring nodes stand
    for dg/dt.
    """
    u = unit_roundoff(path.candidate.dtype)
    sizes = [
        abs(path.candidate.points[p].astype(np.float64)) + (abs(path.delta) if p == path.position else 0)
        for p in path.candidate.positions
    ]
    ends = sum(
        float(((abs(first) + abs(last)) * size_).sum())
        for first, last, size_ in zip(claims[0], claims[-1], sizes, strict=True)
    )
    order = path.candidate.positions.index(path.position)
    inputs = sum(float((abs(b[order] - a[order]) * sizes[order]).sum()) for a, b in pairwise(claims))
    outputs = float(abs(before).sum() + abs(after).sum())
    smallest = float(np.finfo(path.candidate.dtype).smallest_subnormal)
    return ROUNDINGS * (u * (outputs + ends + size + inputs) + smallest * len(before))
