"""One derivative from many central differences, with an error bar that is measured rather than assumed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import Floats

Codes = npt.NDArray[np.uint8]

RESOLVED, KINK, NOISE, EDGE = range(4)
"""How an estimate ended, from best to worst; the worst of several decides what is said of their sum."""
REASONS = ("", "kink", "noise", "domain edge")

COLUMNS = 5
"""Richardson columns: with ratio 2 the fifth cancels h^2 ... h^8; a sixth gains nothing but noise."""
SHORTEST = 6
"""With fewer usable steps there are too few differences to measure noise: the function has an edge there."""
UNPROVEN = 3
"""The finest steps only test what coarser ones say: nothing finer tests them (sin(1e6 x) in float32)."""
SAMPLES = 3
"""Differences that the rounding noise of f is measured by, of two kinds: one alone is often 0 by chance."""

FLOAT32_NOISE = 2.0**-20
"""Errors of a function, relative to its values, that are credible: those of a computation in float32 in
between, 16 units of 2^-24. Half of the digits of a format are credible, too."""


class Derivative(NamedTuple):
    """Derivatives with error bars; at a kink, the middle of the one-sided ones and half their distance.

    `jump` is the derivative to the right minus that to the left, 0 where there is no kink.
    """

    value: Floats
    error: Floats
    code: Codes
    jump: Floats


def exponents(digits: int) -> Floats:
    """The binary exponents of the steps for numbers of `digits` bits, relative to the scale of the point.

    Ratio 2 where truncation is fought (2^-1 to 2^-10), ratio 4 where only noise, kinks and short wavelengths
    are looked for. The last step is still 8 units in the last place of the point, so that a point rounded to
    `digits - 2` bits plus or minus any step, or 3/2 of any step, is exact.
    """
    last = min(30, digits - 4)
    return np.array([*range(1, min(10, last) + 1), *range(12, last + 1, 2)], dtype=np.float64)


def differentiate(
    steps: Floats, plus: Floats, minus: Floats, centre: Floats, dtype: np.dtype[np.floating]
) -> Derivative:
    """The derivative of every column from f(x + h), f(x - h) of shape (steps, columns) and f(x).

    `dtype` is the least precise one that f may have computed in.

    Central differences D(h) = D + c_2 h^2 + c_4 h^4 + ... on a ladder of steps are extrapolated to h = 0
    (Richardson; Neville's scheme, as the ratios differ). Beside them the second differences
    (f(x + h) - 2 f(x) + f(x - h)) / h = jump + c_1 h + ... are extrapolated too: a central difference is
    blind to a kink at x (it gives 1/2 for relu at 0, at every step), but the limit of these is the
    difference between the two one-sided derivatives.

    The error bar covers truncation, by disagreement between neighbours in the tableau, and the noise of f,
    by its measured envelope; it assumes that f is smooth, or a kink, at the smallest step, and that the noise
    seen over the ladder is typical of f. What changes within the smallest step is a jump to every step, and
    counts as noise. Not covered is a slope that hides within a few last places of a sum that has cancelled:
    gelu by 1 + erf(x) is a stair at -8.3, where its slope is 5e-15. Steps outside the domain (not finite)
    are left out together with all larger ones.
    """
    h = steps[:, None]
    unit_roundoff = float(np.finfo(dtype).eps) / 2
    with np.errstate(all="ignore"):
        difference = plus - minus
        curvature = (plus - centre) + (minus - centre)
        finite = np.isfinite(difference) & np.isfinite(curvature)
        usable = np.logical_and.accumulate(finite[::-1])[::-1]
        size = np.maximum(abs(plus), abs(minus))
        largest = np.where(usable, size, 0).max(axis=0)
        # half an ulp is the least error of f; the second term is for x + h where |x| < h: rounded to within
        # u h, which changes the difference by no more than u times itself
        floor = unit_roundoff * (size + abs(difference)) + float(np.finfo(dtype).smallest_subnormal)
        central = np.where(usable, difference / (2 * h), np.nan)
        sides = np.where(usable, curvature / h, np.nan)
        # an error e of f is up to e / h in a central difference, and 4 e / h in a second one
        scatter = np.fmax(_scatter(steps, central, power=2), _scatter(steps, sides, power=1) / 4)
        floor = np.fmax(floor, scatter)
        value, error = _extrapolate(steps, central, floor, power=2)
        jump, jump_error = _extrapolate(steps, sides, 4 * floor, power=1)
        # A jump within its own bar is no jump. Up to four bars it may be one: the bar grows by what it
        # would do to a one-sided derivative; beyond, it is a kink.
        kink = abs(jump) > 4 * jump_error
        error = error + np.where(kink, abs(jump) + jump_error, np.fmax(abs(jump) - jump_error, 0)) / 2
        credible = max(math.sqrt(unit_roundoff), FLOAT32_NOISE) * np.fmax(largest, abs(centre))
        error = np.fmax(error, _contradiction(steps, central, value, error, credible))
        broken = scatter > credible  # a jump, an infinite slope, what is narrower than any step
    code = np.where(kink, KINK, RESOLVED)
    code = np.where(np.isfinite(error) & ~broken, code, NOISE)
    code = np.where(usable.sum(axis=0) < SHORTEST, EDGE, code).astype(np.uint8)
    lost = code >= NOISE
    return Derivative(
        np.where(lost, np.nan, value), np.where(lost, np.inf, error), code, np.where(code == KINK, jump, 0.0)
    )


def _scatter(steps: Floats, first: Floats, power: int) -> Floats:
    """The noise in `first * h` as the finest steps show it, after one extrapolation (for sin(1e6 x))."""
    c = ((steps[:-1] / steps[1:]) ** power)[:, None]
    column = first[1:] + np.diff(first, axis=0) / (c - 1)
    noise = abs(np.diff(column, axis=0)) * steps[2:, None]
    return np.asarray(np.fmax.reduce(noise[-SAMPLES:], axis=0))


def _contradiction(steps: Floats, central: Floats, value: Floats, error: Floats, credible: Floats) -> Floats:
    """The error that a value must have if the fine structure of f that it rests on is rounding noise.

    1 + erf(x) at -5.6 and exp in float32 are stairs, each of them smooth: the finest steps see the slope of
    one stair, free of noise. A derivative from coarser steps explains the same samples of f up to an error,
    which is then the height of a stair. If that is credible as noise, and the two derivatives differ by more
    than both of their bars, nothing tells which is right, and the bar has to reach from one to the other.
    """
    h = steps[:, None]
    column = central
    for j in (1, 2):
        c = np.full_like(h, np.nan)
        c[j:] = (h[:-j] / h[j:]) ** 2
        column, before = column + (column - _coarser(column)) / (c - 1), column
    least, needed = np.full_like(value, np.inf), np.zeros_like(value)
    for row in range(2, len(steps) - SHORTEST):
        noise = np.fmax.reduce(abs(central[row + 1 :] - column[row]) * h[row + 1 :], axis=0)
        bar = np.fmax(abs(column[row] - before[row]), abs(column[row] - column[row - 1])) + 2 * noise / h[row]
        distance = abs(column[row] - value)
        better = (noise <= credible) & (distance > bar + error) & (bar < least)
        least, needed = np.where(better, bar, least), np.where(better, distance + bar, needed)
    return needed


def _extrapolate(steps: Floats, first: Floats, floor: Floats, power: int) -> tuple[Floats, Floats]:
    """The limit of `first` at step 0, where it is a polynomial in h^power plus noise / h, and its error bar.

    Every entry T of the tableau has a bar E: its largest disagreement with its three neighbours, plus the
    noise carried through the same sums of absolute values. The entry with the least E is taken, among those
    that lie within the noise of *every* finer difference (persistence). Without this rule f = sin(50 x),
    whose differences agree on four steps near 2 pi / 50, is certified with a wrong value.
    """
    h = steps[:, None]
    # twice, as the errors of f may be larger than the few that were seen (sin(50 x) in float32)
    floor = 2 * floor
    noise = np.fmax(2 * _envelope(abs(np.diff(first, axis=0)) * h[1:]), floor)
    # what is carried is the envelope some steps finer, where truncation no longer counts as noise
    behind = np.minimum(np.arange(len(steps)) + UNPROVEN, len(steps) - 1)
    carried = np.fmax(noise[behind], floor) / h
    reach = noise / h
    lowest = np.fmin.accumulate((first + reach)[::-1], axis=0)[::-1]
    highest = np.fmax.accumulate((first - reach)[::-1], axis=0)[::-1]

    best = np.full(first.shape[1], np.nan)
    least = np.full(first.shape[1], np.inf)
    everywhere = np.arange(first.shape[1])
    column = first
    for j in range(COLUMNS):
        before, coarser = column, _coarser(column)
        if j:
            c = np.full_like(steps, np.nan)
            c[j:] = (steps[:-j] / steps[j:]) ** power
            c = c[:, None]
            column = before + (before - coarser) / (c - 1)
            carried = (c * carried + _coarser(carried)) / (c - 1)
        disagreement = abs(column - _coarser(column))
        if j:
            # the first entry of a column has no coarser neighbour in it: fmax leaves that one out
            disagreement = np.fmax(disagreement, np.maximum(abs(column - before), abs(column - coarser)))
        bar = disagreement + carried
        bar[-UNPROVEN:] = np.inf
        bar = np.where((column - bar <= lowest) & (column + bar >= highest), bar, np.inf)
        row = np.argmin(bar, axis=0)
        candidate = bar[row, everywhere]
        better = candidate < least
        least = np.where(better, candidate, least)
        best = np.where(better, column[row, everywhere], best)
    return best, least


def _envelope(noise: Floats) -> Floats:
    """The largest noise seen at this step or any finer one; one row more than differences."""
    envelope = np.fmax.accumulate(noise[::-1], axis=0)[::-1]
    return np.concatenate([envelope[:1], envelope])


def _coarser(column: Floats) -> Floats:
    """The entry one step coarser, NaN at the coarsest."""
    return np.concatenate([np.full_like(column[:1], np.nan), column[:-1]])
