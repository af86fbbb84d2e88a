"""What a claimed vjp says by itself: its own rounding error, and whether it is linear in the cotangent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from verify.gradients.contract import Candidate, ContractError, Cotangent, DomainEdge, Refusal
from verify.gradients.ladder import Floats
from verify.gradients.numerical import Array

NEIGHBOURS = 8
SPREAD = 4.0
"""The rounding error of a claimed gradient is taken as SPREAD times the largest change of it among
NEIGHBOURS equal problems, see `rounding_error`. For normally distributed errors z_0 ... z_8 the probability
that |z_0| > 4 max |z_i| is about E[(0.8 |z_0| / 4)^8] = 0.2^8 * 105 = 3e-4; a false alarm needs twice that
error, 0.1^8 * 105 = 1e-6, on top of both numerical bars."""

ROUNDINGS = 4
"""Last places of its largest element that a gradient may be off by: claims of 1e-180 beside it are zeros."""

COTANGENT_BITS = 22
"""Random bits of an element of a cotangent: a float32 has room for them. float16 has room for 9."""


def random_cotangent(rng: np.random.Generator, y: Array) -> Array:
    """Random signs and magnitudes in [1, 2), with so many bits that the sum of two is exact in y's format."""
    bits = min(COTANGENT_BITS, int(np.finfo(y.dtype).nmant) - 1)
    sign = rng.choice([-1.0, 1.0], size=y.shape)
    return np.asarray(sign * (1 + np.ldexp(rng.integers(0, 1 << bits, size=y.shape), -bits)), dtype=y.dtype)


def rounding_error(
    candidate: Candidate, dy: Cotangent, claim: Sequence[Array], rng: np.random.Generator
) -> list[Floats]:
    """The rounding error of a claimed gradient, measured: how it changes with the last bits of its arguments.

    Every argument is moved by one ulp up or down. A stable algorithm returns the exact gradient of such a
    neighbour, and an unstable one shows its own rounding errors, which are new for every neighbour. A
    computation in a format less precise than its arguments gets no allowance: it does not see the change.

    Where vjp raises beside the point, its domain ends there, as that of a probability does at 1: from then
    on elements move only to where it does not.

    Raises:
        DomainEdge: vjp raises where several elements move, although each of them may move alone.
        ContractError: vjp breaks its contract otherwise.
    """
    changes = [np.zeros(g.shape) for g in claim]
    rooms: tuple[Room, ...] | None = None
    for _ in range(NEIGHBOURS):
        points = tuple(_neighbour(rng, x) for x in candidate.points)
        near = tuple(_neighbour(rng, v) for v in dy)
        if rooms is None:
            try:
                moved = candidate.gradients(near, points)
            except Refusal:
                rooms = _rooms(candidate, dy)
        if rooms is not None:
            try:
                moved = candidate.gradients(near, tuple(map(_kept_inside, points, candidate.points, rooms)))
            except Refusal as refusal:
                raise DomainEdge(
                    f"domain edge beside the point, whose last bits were changed: {refusal}"
                ) from refusal
        for change, g, g0 in zip(changes, moved, claim, strict=True):
            with np.errstate(all="ignore"):
                np.fmax(change, abs(np.asarray(g, np.float64) - np.asarray(g0, np.float64)), out=change)
    info = np.finfo(candidate.dtype)
    floors = []
    for g in claim:
        largest = float(abs(g).max(initial=0.0, where=np.isfinite(g)))
        floors.append(ROUNDINGS / 2 * (float(info.eps) * largest + float(info.smallest_subnormal)))
    # a change of inf (the neighbour overflows) leaves the element undecided
    return [SPREAD * change + floor for change, floor in zip(changes, floors, strict=True)]


class Room(NamedTuple):
    """How far the elements of one input may move by an ulp: to themselves where vjp raises beside them."""

    lowest: Array
    highest: Array


def _rooms(candidate: Candidate, dy: Cotangent) -> tuple[Room, ...]:
    """Move every element alone, down and up: twice as many calls of vjp as there are elements."""
    rooms = tuple(Room(x.copy(), x.copy()) for x in candidate.points)
    for position in candidate.positions:
        for side, toward in zip(rooms[position], (-np.inf, np.inf), strict=True):
            points = list(candidate.points)
            beside = _beside(candidate.points[position], np.full_like(side, toward))
            for element in range(side.size):
                points[position] = candidate.points[position].copy()
                points[position].flat[element] = beside.flat[element]
                try:
                    candidate.gradients(dy, tuple(points))
                except Refusal:
                    continue
                side.flat[element] = beside.flat[element]
    return rooms


def _kept_inside(moved: Array, x: Array, room: Room) -> Array:
    """Elements whose way is barred go the other way, and stay if that is barred too."""
    down = np.where(room.lowest < x, room.lowest, room.highest)
    up = np.where(room.highest > x, room.highest, room.lowest)
    return np.asarray(np.where(moved < x, down, np.where(moved > x, up, x)), dtype=x.dtype)


def _neighbour(rng: np.random.Generator, x: Array) -> Array:
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return _beside(x, np.where(rng.random(x.shape) < 0.5, -np.inf, np.inf).astype(x.dtype))


def _beside(x: Array, toward: Array) -> Array:
    """The next number in a direction; 0, infinities and NaN stay."""
    with np.errstate(all="ignore"):
        return np.asarray(np.where((x == 0) | ~np.isfinite(x), x, np.nextafter(x, toward)), dtype=x.dtype)


def require_linear(
    candidate: Candidate,
    pair: tuple[Cotangent, Cotangent],
    claims: Sequence[Sequence[Array]],
    rounding: Sequence[Sequence[Floats]],
    unseen: Sequence[Floats],
    rng: np.random.Generator,
) -> None:
    """A vjp is linear in its cotangent; powers of two commute with rounding, so they must be exact.

    `claims` and their `rounding` errors belong to the two cotangents of `pair`; `unseen` are the errors of
    their sum, for each input, that numerical derivatives cannot see. A sum may depart from linearity by as
    much: softmax at (110, 0) ends in dy - sum(dy y), two numbers that agree in all digits for some dy.

    Raises:
        ContractError: it is not.
    """
    a, b = pair
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
            # Bits are lost at infinity and below the smallest normal number t; an element above sqrt(t) has
            # met no such number, unless that was multiplied by more than 1 / sqrt(t) afterwards.
            smallest = math.sqrt(np.finfo(g_a.dtype).tiny)
            exact = np.isfinite(expected) & (np.minimum(abs(expected), abs(g_a)) > smallest)
            if (exact & (g != expected)).any():
                raise ContractError(
                    f"vjp(2^{power} dy) is not 2^{power} vjp(dy) for input {position}",
                    ("not linear in the cotangent: used twice, clipped, or combined with a constant",),
                )
    both = tuple(v + w for v, w in zip(a, b, strict=True))
    claim = candidate.gradients(both)
    own = rounding_error(candidate, both, claim, rng)
    for order, position in enumerate(candidate.positions):
        g, g_a, g_b = (np.asarray(c[order], np.float64) for c in (claim, claims[0], claims[1]))
        bar = own[order] + rounding[0][order] + rounding[1][order] + unseen[order]
        with np.errstate(all="ignore"):
            if (abs(g - g_a - g_b) > bar).any():
                raise ContractError(
                    f"vjp(a + b) is not vjp(a) + vjp(b) for input {position}",
                    ("not linear in the cotangent",),
                )
