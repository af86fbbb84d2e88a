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

from verify.gradients.arrays import Array, Floats, Joined, flatten, unit_roundoff, values_beside
from verify.gradients.contract import Candidate, ContractError, Cotangent
from verify.gradients.directions import ROUNDINGS

NODES = 12
"""Nodes of the first rule; the second has twice as many; half of that in less than float64.
Over a quarter of the size of the point, 12 nodes give 1e-15 of the value for softmax, layer norm and gelu."""


class NoPath(Exception):
    """f or vjp is not defined along the path; the message says how."""


class Path(NamedTuple):
    """The segment from the candidate's point to point + delta, in the inputs that are joined, under dy."""

    candidate: Candidate
    inputs: Joined
    dy: Cotangent
    delta: Floats

    def at(self, t: float) -> tuple[Array, ...]:
        """The inputs at the parameter t of [0, 1], rounded to their formats."""
        moved = self.inputs.split(self.inputs.vector + t * self.delta)
        return tuple(
            np.asarray(x, dtype=point.dtype) for x, point in zip(moved, self.candidate.points, strict=True)
        )

    def gradients(self, t: float) -> tuple[Floats, Floats]:
        """The claimed gradients there: of the joined inputs, and of all that have one.

        Raises:
            NoPath: vjp raises, or is not finite.
        """
        try:
            claims = self.candidate.gradients(self.dy, self.at(t))
        except ContractError as error:
            raise NoPath(f"{error} along the path") from error
        everything = flatten(claims)
        if not np.isfinite(everything).all():
            raise NoPath("the gradient is not finite along the path")
        return self.inputs.take(self.candidate.positions, claims), everything

    def value(self, t: float) -> Floats:
        """The terms of `sum(dy * f)` there.

        Raises:
            NoPath: f raises, or is not finite.
        """
        dy = flatten(self.dy)
        outputs = values_beside(self.candidate.f, self.at(t), dy.size)
        if not np.isfinite(outputs).all():
            raise NoPath("f is not defined along the path, or not finite")
        return dy * outputs


class Integral(NamedTuple):
    """Over a piece of a path: the integral of the claimed gradient, and the change of f.

    A right gradient makes them equal, up to `truncation`, the disagreement of two rules, and `rounding`.
    """

    start: float
    end: float
    claimed: float
    change: float
    truncation: float
    rounding: float

    @property
    def bar(self) -> float:
        return self.truncation + self.rounding


def exact_delta(candidate: Candidate, inputs: Joined, wanted: Floats) -> Floats:
    """The difference between x + wanted, rounded to the formats of the inputs, and x: what a path spans."""
    with np.errstate(over="ignore"):
        moved = inputs.split(inputs.vector + wanted)
        ends = [np.asarray(moved[p], candidate.points[p].dtype) for p in inputs.positions]
    return flatten(ends) - inputs.vector


def integrate(path: Path, breakpoints: Sequence[float] = ()) -> list[Integral]:
    """Integrate over every piece between the breakpoints, which are parameters t of [0, 1].

    Raises:
        NoPath: the function is not defined along the path.
    """
    ends = [0.0, *sorted({t for t in map(float, breakpoints) if 0 < t < 1}), 1.0]
    return [_piece(path, start, end) for start, end in pairwise(ends)]


@cache
def _rule(count: int, *, with_start: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights on [0, 1]: Gauss and Legendre's rule, exact to the degree 2 count - 1, or Radau's.

    One node of Radau's is 0, and its degree is one less: a gradient that is wrong only at the start of a
    path, as that of a kink may be, is in the sum. (Davis and Rabinowitz, Methods of Numerical Integration,
    2nd edition, section 2.7.)
    """
    if not with_start:
        nodes, weights = legendre.leggauss(count)
    else:
        before = np.zeros(count)
        before[-1] = 1
        whole = np.append(before, 1.0)
        nodes = np.sort(legendre.legroots(whole))
        nodes[0] = -1
        nodes -= legendre.legval(nodes, whole) / legendre.legval(nodes, legendre.legder(whole))  # Newton
        weights = (1 - nodes) / (count * legendre.legval(nodes, before)) ** 2
    return tuple(map(float, (nodes + 1) / 2)), tuple(map(float, weights / 2))


def _piece(path: Path, start: float, end: float) -> Integral:
    count = NODES if path.candidate.dtype == np.float64 else NODES // 2
    sums, delta = [], path.delta * (end - start)
    for n in (count, 2 * count):
        nodes, weights = _rule(n, with_start=start == 0)  # the start of a later piece is a kink
        claims = [path.gradients(start + t * (end - start)) for t in nodes]
        terms = delta * np.array([g for g, _ in claims]) * np.array(weights)[:, None]
        if not np.isfinite(terms).all():
            raise NoPath("the path leaves the range of its format")
        sums.append(math.fsum(terms.ravel()))
    before, after = path.value(start), path.value(end)
    return Integral(
        start,
        end,
        claimed=sums[1],
        change=math.fsum(after) - math.fsum(before),
        truncation=abs(sums[1] - sums[0]),
        rounding=_rounding(path, claims, terms, before, after),
    )


def _rounding(
    path: Path, claims: Sequence[tuple[Floats, Floats]], terms: Floats, before: Floats, after: Floats
) -> float:
    """What the roundings of stable algorithms, u for each number, do to either side.

    A stable algorithm returns the exact result for inputs z (1 + few u), times 1 + few u. The values of f
    at the ends: u |dy f|, and through the inputs u |g z|. The integral: u |g delta| for the results, and
    for the inputs, of which the nodes too are rounded, u |dg/dt z|: an element z_j off by u z_j changes
    `sum_k H_jk delta_k = dg_j / dt` times as much; the differences of neighbouring nodes stand for dg/dt.
    Roundings are independent and of either sign: these are Euclidean norms.
    """
    candidate, along = path.candidate, np.array([g for g, _ in claims])
    moved = abs(path.inputs.vector) + abs(path.delta)
    everything = abs(flatten([candidate.points[p] for p in candidate.positions]))
    through_inputs = [g * everything for g in (claims[0][1], claims[-1][1])]
    nodes = np.diff(along, axis=0) * moved
    norm = sum(math.sqrt(float(np.vdot(a, a))) for a in (before, after, *through_inputs, terms, nodes))
    smallest = float(np.finfo(candidate.dtype).smallest_subnormal)
    return ROUNDINGS * (unit_roundoff(candidate.dtype) * norm + smallest * len(before))
