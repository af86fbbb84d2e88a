"""The claimed gradient along random directions: a few calls of f and vjp that see what all elements say.

This is the quick way to a pass. It ends in one or in nothing: whatever it cannot decide, and whatever looks
wrong here, is left to the derivatives element by element.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from verify.gradients.arrays import Array, Floats, Function, Joined, flatten, join, unit_roundoff
from verify.gradients.claims import neighbour
from verify.gradients.complex_step import ComplexUnsafe, complex_slope, prove_safe
from verify.gradients.contract import Candidate, Cotangent
from verify.gradients.directions import missable, random_cotangent, signed
from verify.gradients.kinks import Kinks
from verify.gradients.path import NoPath, Path, exact_delta, integrate

COTANGENTS = 3
"""Independent cotangents for every output."""

DIRECTIONS = 3
"""Independent directions, each seen under every cotangent."""

ROUNDINGS = 8.0
"""Roundings that a claim and a complex step may differ by, relative to the Euclidean norm of their terms:
the roundings of stable algorithms are independent and of either sign. It takes no more to be left to a
closer look."""

NEIGHBOURS = 4
SPREAD = 6.0
"""Where ROUNDINGS are not enough, the difference of both is taken at NEIGHBOURS points whose last bits are
other ones, and may be SPREAD times as large as it changes there: for normally distributed errors
E[(0.8 |z| / 6)^4] = 0.13^4 * 3 = 9e-4 of right gradients are left to a closer look."""

COARSEST = 2.0**-40
"""Formats with a larger unit roundoff are left to the derivatives of all elements: a float32 would have a
resolution of 1e-2."""

RANGE = 2.0**-6
"""Elements of a gradient below this part of the largest get no more weight in a direction: what they
change in the outputs cancels in the gradient, and its rounding errors would drown the others."""

PROVED = 2.0**-20
"""What a proof that f takes complex numbers may overlook of the derivative by one input."""

REACH = (2.0**-3, 2.0**-6, 2.0**-9)
"""Lengths of a path relative to the size of the input, tried until f is defined all along it."""


class Undecided(Exception):
    """Directions do not tell; the message says why."""


class Agreement(NamedTuple):
    """All directions agree with f: errors above `resolution`, relative to the largest gradient of their
    input, are missed with a probability of 1e-9; in a single element, none above `single`."""

    resolution: float
    single: float
    witness: str


class Draw(NamedTuple):
    """A random cotangent, and the gradients that vjp claims for it, one for every position."""

    dy: Cotangent
    claims: tuple[Array, ...]


def agreement(
    candidate: Candidate,
    inputs: Joined,
    draws: Sequence[Draw],
    rng: np.random.Generator,
    kinks: Kinks | None = None,
) -> Agreement:
    """Compare claims with f along random directions, for COTANGENTS of every output alone.

    Complex steps are the witness if they are proved to be one, along directions through all inputs, as all
    elements count alike in them. Else it is the integral along a path, of each input alone. `draws` are
    cotangents of all outputs that have been tried: they do for a single output.

    Raises:
        Undecided: no witness decides for some input, or one disagrees.
        ContractError: vjp breaks its contract.
    """
    if unit_roundoff(candidate.dtype) > COARSEST:
        raise Undecided("in so few digits, sums say too little of their terms")
    groups = _draws(candidate, draws, rng)
    if not groups:
        raise Undecided("nothing to compare")
    for draw in itertools.chain.from_iterable(groups):
        for position, g in zip(candidate.positions, draw.claims, strict=True):
            if g.size and not (np.isfinite(g).all() and g.any()):
                raise Undecided(f"the gradient of input {position} is 0 or not finite")
    try:
        _prove_safe(candidate, inputs, groups, rng)
        worst = max(_by_complex_steps(candidate, inputs, group, rng) for group in groups)
        return Agreement(missable(COTANGENTS, DIRECTIONS) * worst, 2 * worst, "complex steps")
    except ComplexUnsafe:
        worst = max(
            _by_paths(candidate, position, group, rng, kinks)
            for group in groups
            for position in inputs.positions
        )
        return Agreement(missable(1, 1, COTANGENTS) * worst, 2 * worst, "integrals along paths")


def _draws(candidate: Candidate, known: Sequence[Draw], rng: np.random.Generator) -> list[list[Draw]]:
    """COTANGENTS for every output alone, so that none is drowned by another."""
    groups = []
    for output, y in enumerate(candidate.outputs):
        group = list(known[:COTANGENTS]) if len(candidate.outputs) == 1 else []
        while y.size and len(group) < COTANGENTS:
            dy = tuple(
                random_cotangent(rng, other) if order == output else np.zeros_like(other)
                for order, other in enumerate(candidate.outputs)
            )
            group.append(Draw(dy, candidate.gradients(dy)))
        if y.size:
            groups.append(group)
    return groups


def _prove_safe(
    candidate: Candidate, inputs: Joined, groups: Sequence[Sequence[Draw]], rng: np.random.Generator
) -> None:
    """Prove it for all inputs at once, and for those alone whose derivative is too small to be seen then.

    Raises:
        ComplexUnsafe: it is not proved for some input.
    """
    largest = inputs.largest(abs(inputs.vector))
    direction = np.where(largest > 0, largest, 1.0) * signed(rng, largest.shape, 52)
    for (dy, claims), *_ in groups:
        flat = flatten(dy)
        error = prove_safe(candidate.f, inputs, direction, flat)
        seen = np.sqrt(np.add.reduceat((flatten(claims) * direction) ** 2, inputs.starts))
        for position in itertools.compress(inputs.positions, error > PROVED * seen):
            _prove_alone(candidate, position, flat, rng)


def _prove_alone(candidate: Candidate, position: int, dy: Floats, rng: np.random.Generator) -> None:
    """Try the size of the whole array for the differences, then that of each element."""
    inputs = join(candidate.points, [position])
    signs = signed(rng, inputs.vector.shape, 52)
    size = abs(inputs.vector)
    try:
        prove_safe(candidate.f, inputs, signs * (float(size.max()) or 1.0), dy)
    except ComplexUnsafe:
        prove_safe(candidate.f, inputs, signs * np.where(size > 0, size, 1.0), dy)


def _by_complex_steps(
    candidate: Candidate, inputs: Joined, group: Sequence[Draw], rng: np.random.Generator
) -> float:
    """The tolerance within which the claims agree with complex steps along graded directions.

    It is relative to the largest gradient: an element that is wrong by that much changes the sum by 1.

    Raises:
        ComplexUnsafe: f does not take complex numbers.
        Undecided: they disagree.
    """
    dys = np.array([flatten(draw.dy) for draw in group])
    claims = np.array([flatten(draw.claims) for draw in group])
    sizes = abs(claims).max(axis=0)
    # every element of a gradient counts alike in the sum, down to RANGE times the largest of its input
    graded = signed(rng, (DIRECTIONS, sizes.size), 52) / np.maximum(sizes, RANGE * inputs.largest(sizes))
    error, size = _differences(candidate.f, inputs, dys, claims, graded)
    tolerance = ROUNDINGS * unit_roundoff(candidate.dtype) * size
    if not (abs(error) <= tolerance).all():
        change = np.zeros_like(error)
        for _ in range(NEIGHBOURS):
            points = tuple(neighbour(rng, x) for x in candidate.points)
            moved = np.array([flatten(candidate.gradients(draw.dy, points)) for draw in group])
            beside, _ = _differences(candidate.f, join(points, inputs.positions), dys, moved, graded)
            change = np.maximum(change, abs(beside - error))
        tolerance = tolerance + SPREAD * change
    if not (abs(error) <= tolerance).all():
        raise Undecided("the gradients disagree with a complex step")
    return float(tolerance.max())


def _differences(
    f: Function, inputs: Joined, dys: Floats, claims: Floats, directions: Floats
) -> tuple[Floats, Floats]:
    """Claims minus complex steps, and the Euclidean norms of the terms of both: (cotangents, directions)."""
    slopes = np.array([complex_slope(f, inputs, direction, dys.shape[1]) for direction in directions])
    norm = np.sqrt(claims**2 @ (directions**2).T) + np.sqrt(dys**2 @ (slopes**2).T)
    return claims @ directions.T - dys @ slopes.T, norm


def _by_paths(
    candidate: Candidate,
    position: int,
    group: Sequence[Draw],
    rng: np.random.Generator,
    kinks: Kinks | None,
) -> float:
    """The tolerance within which the claims, integrated along random paths, are the change of f.

    It is relative to the largest gradient of the input at the point. The second path takes every element to
    the other side of it than the first, as a kink at the point shows on one side only. So its signs are no
    news: what `missable` says of it is to be doubled, which the other two make up for.

    Raises:
        Undecided: they disagree, or f is not defined along any path.
    """
    x = candidate.points[position]
    signs = np.sign(signed(rng, x.shape, 1))
    tolerances = []
    for draw, sides in zip(group, (signs, -signs, np.sign(signed(rng, x.shape, 1))), strict=True):
        claim = abs(draw.claims[candidate.positions.index(position)])
        bar, least = _path_bar(candidate, position, draw.dy, sides * abs(signed(rng, x.shape, 52)), kinks)
        seen = float(claim.max()) * least  # 0 if the step of an element is lost in its format
        tolerances.append(bar / seen if seen else math.inf)
    return max(tolerances)


def _path_bar(
    candidate: Candidate, position: int, dy: Cotangent, direction: Floats, kinks: Kinks | None
) -> tuple[float, float]:
    """The error bar of the integral along the longest path on which f is defined, and its least step."""
    x = candidate.points[position]
    size = abs(x.astype(np.float64))
    size = np.maximum(size, size.mean() / 4 or 1.0)
    why = ""
    for reach in REACH:
        delta = exact_delta(x, reach * size * direction)
        try:
            pieces = integrate(
                Path(candidate, dy, position, delta), _breakpoints(kinks, candidate, position, delta)
            )
        except NoPath as error:
            why = str(error)
            continue
        bar = sum(piece.bar for piece in pieces)
        if not abs(sum(piece.claimed - piece.change for piece in pieces)) <= bar:
            raise Undecided(f"the gradient of input {position} does not integrate to the change of f")
        return bar, float(abs(delta).min())
    raise Undecided(why)


def _breakpoints(
    kinks: Kinks | None, candidate: Candidate, position: int, delta: Floats
) -> tuple[float, ...]:
    if kinks is None or kinks.breakpoints is None:
        return ()
    deltas = [np.zeros_like(x) for x in candidate.points]
    deltas[position] = delta
    with np.errstate(all="ignore"):
        return tuple(np.asarray(kinks.breakpoints(candidate.points, deltas), np.float64).ravel())
