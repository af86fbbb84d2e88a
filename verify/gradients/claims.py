"""What a claimed vjp says by itself: its own rounding error, and whether it is linear in the cotangent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verify.gradients.contract import Candidate, ContractError, Cotangent
from verify.gradients.ladder import Floats
from verify.gradients.numerical import Array

NEIGHBOURS = 8
SPREAD = 4.0
"""The rounding error of a claimed gradient is taken as SPREAD times the largest change of it among
NEIGHBOURS equal problems, see `rounding_error`. For normally distributed errors z_0 ... z_8 the probability
that |z_0| > 4 max |z_i| is about E[(0.8 |z_0| / 4)^8] = 0.2^8 * 105 = 3e-4; a false alarm needs twice that
error, 0.1^8 * 105 = 1e-6, on top of both numerical bars."""


def random_cotangent(rng: np.random.Generator, y: Array) -> Array:
    """Random signs and magnitudes in [1, 2), multiples of 1/64: the sum of two is exact in every format."""
    sign = rng.choice([-1.0, 1.0], size=y.shape)
    return np.asarray(sign * (1 + rng.integers(0, 64, size=y.shape) / 64), dtype=y.dtype)


def rounding_error(
    candidate: Candidate, dy: Cotangent, claim: Sequence[Array], rng: np.random.Generator
) -> list[Floats]:
    """The rounding error of a claimed gradient, measured: how it changes with the last bits of its arguments.

    Every argument is moved by one ulp up or down. A stable algorithm returns the exact gradient of such a
    neighbour, and an unstable one shows its own rounding errors, which are new for every neighbour.
    """
    changes = [np.zeros(g.shape) for g in claim]
    for _ in range(NEIGHBOURS):
        points = tuple(_neighbour(rng, x) for x in candidate.points)
        moved = candidate.gradients(tuple(_neighbour(rng, v) for v in dy), points)
        for change, g, g0 in zip(changes, moved, claim, strict=True):
            with np.errstate(all="ignore"):
                np.fmax(change, abs(np.asarray(g, np.float64) - np.asarray(g0, np.float64)), out=change)
    # a change of inf (the neighbour overflows) leaves the element undecided
    return [SPREAD * change for change in changes]


def _neighbour(rng: np.random.Generator, x: Array) -> Array:
    if not np.issubdtype(x.dtype, np.floating):
        return x
    toward = np.where(rng.random(x.shape) < 0.5, -np.inf, np.inf).astype(x.dtype)
    with np.errstate(all="ignore"):
        return np.asarray(np.where((x == 0) | ~np.isfinite(x), x, np.nextafter(x, toward)), dtype=x.dtype)


def require_linear(
    candidate: Candidate,
    a: Cotangent,
    b: Cotangent,
    claims: Sequence[Sequence[Array]],
    rounding: Sequence[Sequence[Floats]],
    rng: np.random.Generator,
) -> None:
    """A vjp is linear in its cotangent; powers of two commute with rounding, so they must be exact.

    Raises:
        ContractError: it is not.
    """
    zero = candidate.gradients(tuple(np.zeros_like(v) for v in a))
    for position, g, g_a in zip(candidate.positions, zero, claims[0], strict=True):
        if (np.isfinite(g_a) & (g != 0)).any():
            raise ContractError(
                f"vjp of a zero cotangent is not 0 for input {position}",
                ("cotangent ignored, or a constant added",),
            )
    for power in (-3, 2):
        scaled = candidate.gradients(tuple(np.ldexp(v, power) for v in a))
        for position, g, g_a in zip(candidate.positions, scaled, claims[0], strict=True):
            with np.errstate(all="ignore"):
                expected = np.ldexp(g_a, power)
            # below the smallest normal number, and at infinity, bits are lost
            exact = np.isfinite(expected) & (
                np.minimum(abs(expected), abs(g_a)) > 8 * np.finfo(g_a.dtype).tiny
            )
            if (exact & (g != expected)).any():
                raise ContractError(
                    f"vjp(2^{power} dy) is not 2^{power} vjp(dy) for input {position}",
                    ("not linear in the cotangent: used twice, clipped, or combined with a constant",),
                )
    total = tuple(v + w for v, w in zip(a, b, strict=True))
    claim = candidate.gradients(total)
    own = rounding_error(candidate, total, claim, rng)
    for order, position in enumerate(candidate.positions):
        g, g_a, g_b = (np.asarray(c[order], np.float64) for c in (claim, claims[0], claims[1]))
        u = float(np.finfo(claim[order].dtype).eps) / 2
        largest = max((float(np.max(abs(part), initial=0.0)) for part in (g, g_a, g_b)), default=0.0)
        with np.errstate(all="ignore"):
            bar = own[order] + rounding[0][order] + rounding[1][order] + 12 * u * largest  # 4 u for each
            if (abs(g - g_a - g_b) > bar).any():
                raise ContractError(
                    f"vjp(a + b) is not vjp(a) + vjp(b) for input {position}",
                    ("not linear in the cotangent",),
                )
