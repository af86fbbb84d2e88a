"""Functions of one number in float64, fast and everywhere: polynomials through certified values.

Over a run of consecutive numbers of a format that is short against their size, a smooth function is a
polynomial of low degree to far more digits than the format has. Its values at the Chebyshev points of the run
are certified; so are others between them, where the error of an interpolation is largest, and what differs
there is the margin. A run that does not meet the margin, because something decays within it or a kink lies in
it, is halved until it does, and is left out in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from verify.arithmetic.formats import FLOAT64, Format, Truth, Values, ulp

Floats = npt.NDArray[np.float64]
Certified = Callable[[Values, Format], Truth]
"""The truth at some numbers, in a format."""

DEGREE = 7
"""Nine multiplications and additions for a number: of higher degrees the runs were longer and no faster."""

FINEST = 2**-14
"""The margin that a run must meet, in ulp of the format: one result in 2^13 is then left in doubt at most."""

SHORTEST = 64
"""Numbers in a run that is not halved again: it is left to certified arithmetic altogether."""

CAUTION = 4.0
"""How much larger than at the points between the nodes the error may be elsewhere. For an analytic function
over a run so short it is within a few hundredths of the largest of these."""

_POINTS = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
_BETWEEN = np.cos(np.pi * np.arange(DEGREE + 2) / (DEGREE + 1))
"""The extremes of the polynomial whose zeros the nodes are, the ends of the run among them."""
_TO_COEFFICIENTS = np.linalg.inv(np.vander(_POINTS, increasing=True))


@dataclass(frozen=True, slots=True)
class Run:
    """The numbers whose bit patterns are `first`, ..., `first + count - 1`, which have one sign, and the
    polynomial on them in t = (x - centre) / half; none if there is no smooth one."""

    first: int
    count: int
    centre: float = 0.0
    half: float = 1.0
    coefficients: tuple[float, ...] = ()
    margin: float = np.inf
    """How far off it may be, in absolute terms."""

    def __call__(self, x: Floats) -> Floats:
        """The function at numbers of the run, to within the margin."""
        t = (x - self.centre) / self.half
        highest, *others = reversed(self.coefficients)
        y = np.full_like(t, highest)
        for coefficient in others:
            y *= t
            y += coefficient
        return y


def numbers(first: int, count: int, fmt: Format) -> Values:
    """The numbers of a format by their bit patterns, in this order."""
    bits = np.arange(first, first + count, dtype=np.uint64)
    return bits.astype(f"u{fmt.dtype.itemsize}").view(fmt.dtype)


def runs(certified: Certified, pieces: Sequence[tuple[int, int]], fmt: Format) -> list[Run]:
    """Polynomials on pieces (first, count) of finite numbers of one sign each, or on parts of them."""
    found: list[Run] = []
    todo = list(pieces)
    while todo:
        fitted = list(_fitted(certified, todo, fmt))
        found += [run for run in fitted if run.coefficients or run.count <= SHORTEST]
        todo = [half for run in fitted if not run.coefficients for half in _halves(run)]
    return sorted(found, key=lambda run: run.first)


def _halves(run: Run) -> list[tuple[int, int]]:
    if run.count <= SHORTEST:
        return []
    left = run.count // 2
    return [(run.first, left), (run.first + left, run.count - left)]


def _fitted(certified: Certified, pieces: Sequence[tuple[int, int]], fmt: Format) -> Iterator[Run]:
    """A run for each piece, without coefficients where they do not fit."""
    ends = np.array(
        [numbers(first + k, 1, fmt)[0].astype(np.float64) for first, n in pieces for k in (0, n - 1)]
    ).reshape(-1, 2)
    centre, half = ends.mean(axis=1, keepdims=True), np.ptp(ends, axis=1)[:, None] / 2.0
    half = np.where(half > 0.0, half, 1.0)
    nodes, between = centre + half * _POINTS, centre + half * _BETWEEN
    truth = certified(np.concatenate([nodes, between], axis=1), FLOAT64)
    values = truth.nearest
    coefficients = values[:, : DEGREE + 1] @ _TO_COEFFICIENTS.T
    for k, (first, count) in enumerate(pieces):
        run = Run(first, count, float(centre[k, 0]), float(half[k, 0]), tuple(map(float, coefficients[k])))
        found, due = run(between[k]), values[k, DEGREE + 1 :]
        with np.errstate(all="ignore"):
            rounding = 2 * DEGREE * FLOAT64.unit_roundoff * np.abs(coefficients[k]).sum()
            margin = CAUTION * float(np.abs(found - due).max()) + float(rounding)
            finest = FINEST * float(ulp(due.astype(fmt.dtype), fmt).min())
        if margin <= finest:
            yield replace(run, margin=margin)
        else:
            yield Run(first, count)
