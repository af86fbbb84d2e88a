"""Random cotangents and directions, and the probability that an error hides from all of them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from verify.gradients.arrays import Array, Floats

MISS_PROBABILITY = 1e-9
"""How likely an error as large as the stated resolution may be missed."""

ROUNDINGS = 8.0
"""What roundings may do to a sum along a direction, in units of the roundoff times the Euclidean norm of its
terms: those of a stable algorithm are few, independent, and of either sign. What takes more is looked at
more closely."""


def as_seed(seed: object) -> int:
    """A seed as an int.

    Raises:
        ValueError: it is no integer of at least 0.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed!r}; required: an integer of at least 0. Choose any, such as seed=0")
    return int(seed)


def signed(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Floats:
    """Random signs times magnitudes evenly spread over [1, 2), with so many bits after the point."""
    drawn = rng.integers(0, 2 << bits, size=shape)
    return np.asarray((1.0 - 2.0 * (drawn & 1)) * (1 + np.ldexp(drawn >> 1, -bits)))


def random_cotangent(rng: np.random.Generator, y: Array) -> Array:
    """Random signs and magnitudes in [1, 2), with one bit less than y's format has: sums of two are exact."""
    return np.asarray(signed(rng, y.shape, int(np.finfo(y.dtype).nmant) - 1), dtype=y.dtype)


@cache
def missable(cotangents: int, directions: int, repeats: int = 1) -> float:
    """The ratio of error to tolerance at which an error is missed with MISS_PROBABILITY.

    Let E be the error of a Jacobian, e its largest element, at (i, j), and let |v^T E u| <= t for every one
    of K cotangents v and L directions u. The entry v_i is a sign times a magnitude evenly spread over
    [1, 2): its density is at most 1/2, so that the element j of E^T v, which is v_i e plus what the other
    entries say, lies within [-a, a] with probability a / e at most. Let M be the largest |(E^T v)_j| of the
    K: P(M <= a) <= (a / e)^K. Given the v, u_j does the same: all L directions stay within t with
    probability min(1, t / M)^L at most. Together

        P(miss) <= int_0^1 min(1, t / (e s))^L K s^(K-1) ds,

    which is (t/e)^K (1 + K ln(e/t)) for K = L; and the power of it for independent repeats. A single wrong
    entry is seen for certain: |v_i u_j| >= 1.
    """
    bound = math.pow(MISS_PROBABILITY, 1 / repeats)
    ratio = 1.0
    while _miss(1 / ratio, cotangents, directions) > bound:
        ratio *= 1 + 2.0**-4
    return ratio


def _miss(t: float, k: int, n: int) -> float:
    """The integral in `missable`, for e = 1: over s < t, and over the rest."""
    rest = math.log(1 / t) if k == n else (1 - math.pow(t, k - n)) / (k - n)
    return math.pow(t, k) + math.pow(t, n) * k * rest
