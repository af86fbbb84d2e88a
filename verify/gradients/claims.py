"""What a claimed vjp says by itself: its own rounding error, and whether it is linear in the cotangent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from verify.gradients.arrays import Array, Bools, Floats, flatten, is_floating
from verify.gradients.contract import Candidate, ContractError, Cotangent, DomainEdge, Refusal

NEIGHBOURS = 8
SPREAD = 4.0
"""The rounding error of a claimed gradient is taken as SPREAD times the largest change of it among
NEIGHBOURS equal problems, see `rounding_error`. For normally distributed errors z_0 ... z_8 the probability
that |z_0| > 4 max |z_i| is about E[(0.8 |z_0| / 4)^8] = 0.2^8 * 105 = 3e-4, and less for the changes
|z_i - z_0|, which a large z_0 is part of; a false alarm needs twice that error, 0.1^8 * 105 = 1e-6, on top
of both numerical bars."""

LAST_PLACES = 4
"""Last places of its largest element that a gradient may be off by: claims of 1e-180 beside it are zeros."""


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
        points = tuple(neighbour(rng, x) for x in candidate.points)
        near = tuple(neighbour(rng, v) for v in dy)
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
        floors.append(LAST_PLACES / 2 * (float(info.eps) * largest + float(info.smallest_subnormal)))
    # a change of inf (the neighbour overflows) leaves the element undecided
    return [SPREAD * change + floor for change, floor in zip(changes, floors, strict=True)]


SHRUNK = (0.5, 0.25, 0.125, 0.0625)
CANCELLED = 16
"""Roundings of terms that cancel in a gradient, see `cancelled`."""


def cancelled(candidate: Candidate, dy: Cotangent) -> list[float]:
    """What rounding may leave of terms that cancel, for each input: no claim is wrong by as little.

    softmax ends in dy - sum(dy y). Where y is 1 - u both numbers agree in all digits, for all neighbours of
    the point, and what should be a gradient of u is 0 or 2 u. How large the terms are shows where they do
    not cancel: at smaller inputs, for nearly all functions that saturate.
    """
    largest = [0.0 for _ in candidate.positions]
    for factor in SHRUNK:
        points = tuple(
            np.asarray(x * factor, dtype=x.dtype) if is_floating(x) else x for x in candidate.points
        )
        try:
            claims = candidate.gradients(dy, points)
        except ContractError:  # outside of its domain
            continue
        for order, g in enumerate(claims):
            size = float(abs(g).max(initial=0.0))
            largest[order] = max(largest[order], size if math.isfinite(size) else 0.0)
    return [CANCELLED * float(np.finfo(candidate.dtype).eps) * size for size in largest]


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


def neighbour(rng: np.random.Generator, x: Array) -> Array:
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return _beside(x, np.where(rng.random(x.shape) < 0.5, -np.inf, np.inf).astype(x.dtype))


def _beside(x: Array, toward: Array) -> Array:
    """The next number in a direction; 0, infinities and NaN stay."""
    with np.errstate(all="ignore"):
        return np.asarray(np.where((x == 0) | ~np.isfinite(x), x, np.nextafter(x, toward)), dtype=x.dtype)


def require_homogeneous(candidate: Candidate, dy: Cotangent, claim: Sequence[Array]) -> None:
    """A vjp of 0 is 0, and one of 2^p dy is 2^p times one of dy: multiplying by it commutes with rounding.

    Raises:
        ContractError: it is not, bit by bit.
    """
    given = flatten(claim)
    zero = flatten(candidate.gradients(tuple(np.zeros_like(v) for v in dy)))
    if position := _first(candidate, np.isfinite(given) & (zero != 0)):
        raise ContractError(
            f"vjp of a zero cotangent is not 0 for {position}",
            ("cotangent ignored, or a constant added",),
        )
    # Bits are lost at infinity and below the smallest normal number t; an element above sqrt(t) has met no
    # such number, unless that was multiplied by more than 1 / sqrt(t) afterwards.
    smallest = math.sqrt(np.finfo(candidate.dtype).tiny)
    largest = float(np.finfo(candidate.dtype).max)
    for power in (-3, 2):
        scaled = flatten(candidate.gradients(tuple(np.ldexp(v, power) for v in dy)))
        with np.errstate(all="ignore"):
            expected = np.ldexp(given, power)
        size = np.minimum(abs(expected), abs(given))
        exact = (size > smallest) & (abs(expected) <= largest)
        if position := _first(candidate, exact & (scaled != expected)):
            raise ContractError(
                f"vjp(2^{power} dy) is not 2^{power} vjp(dy) for {position}",
                ("not linear in the cotangent: used twice, clipped, or combined with a constant",),
            )


def _first(candidate: Candidate, wrong: Bools) -> str:
    """The input of the first element of all gradients that is wrong; empty if none is."""
    if not wrong.any():
        return ""
    ends = np.cumsum([candidate.points[position].size for position in candidate.positions])
    return candidate.label(candidate.positions[int(np.searchsorted(ends, int(wrong.argmax()), "right"))])


def additivity(
    candidate: Candidate, pair: tuple[Cotangent, Cotangent], claims: Sequence[Sequence[Array]]
) -> tuple[Cotangent, tuple[Array, ...], Floats]:
    """The exact sum of two cotangents, its gradients, and what all they miss of the sum of the gradients."""
    both = tuple(v + w for v, w in zip(*pair, strict=True))
    claim = candidate.gradients(both)
    with np.errstate(all="ignore"):
        return both, claim, abs(flatten(claim) - flatten(claims[0]) - flatten(claims[1]))


def require_additive(
    candidate: Candidate,
    pair: tuple[Cotangent, Cotangent],
    claims: Sequence[Sequence[Array]],
    rounding: Sequence[Sequence[Floats]],
    unseen: Sequence[Floats],
    lost: Floats,
    rng: np.random.Generator,
) -> None:
    """A vjp is additive in its cotangent, up to rounding.

    `claims` and their `rounding` errors belong to the two cotangents of `pair`; `unseen` are the errors of
    their sum, for each input, that numerical derivatives cannot see, and `lost` what may be lost in terms
    that cancel. A sum may depart from linearity by as
    much: softmax at (110, 0) ends in dy - sum(dy y), two numbers that agree in all digits for some dy.

    Raises:
        ContractError: it is not.
    """
    both, claim, missing = additivity(candidate, pair, claims)
    own = rounding_error(candidate, both, claim, rng)
    bar = flatten(own) + flatten(rounding[0]) + flatten(rounding[1]) + flatten(unseen)
    bar += 3 * np.repeat(lost, [candidate.points[position].size for position in candidate.positions])
    if position := _first(candidate, missing > bar):
        raise ContractError(
            f"vjp(a + b) is not vjp(a) + vjp(b) for {position}", ("not linear in the cotangent",)
        )
