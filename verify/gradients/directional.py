"""The claimed gradient along random directions: a few calls of f and vjp that see what all elements say.

This is the quick way to a pass. It ends in one or in nothing: whatever it cannot decide, and whatever looks
wrong here, is left to the derivatives element by element.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from verify.gradients.arrays import (
    Array,
    Floats,
    Function,
    Joined,
    evaluate,
    flatten,
    join,
    sufficient,
    unit_roundoff,
)
from verify.gradients.claims import neighbour
from verify.gradients.complex_step import PROVED, ROUNDINGS, ComplexUnsafe, complex_slope, prove_safe
from verify.gradients.contract import Candidate, Cotangent
from verify.gradients.directions import missable, random_cotangent, signed
from verify.gradients.kinks import Kinks
from verify.gradients.path import NoPath, Path, exact_delta, integrate

DRAWS = (3, 6)
"""Independent cotangents of an output, and directions for them; the more if the fewer resolve too little."""


STRETCHES = (1.25, 1.5, 0.75, 0.875)
SPREAD = 6.0
"""Where ROUNDINGS are not enough, the difference of both is taken at points whose last bits are other ones,
along directions of other lengths, and may be SPREAD times as large as it changes there: for normally
distributed errors E[(0.8 |z| / 6)^4] = 0.13^4 * 3 = 9e-4 of right gradients are left to a closer look."""

COARSEST = 2.0**-40
"""Formats with a larger unit roundoff are left to the derivatives of all elements: a float32 would have a
resolution of 1e-2."""

RANGE = 2.0**-6
"""Elements of a gradient below this part of the largest get no more weight in a direction: what they
change in the outputs cancels in the gradient, and its rounding errors would drown the others."""

MARGIN = 8.0
"""Bars by which an integral must be off to contradict f; within one it agrees."""

REACH = (2.0**-3, 2.0**-6, 2.0**-9)
"""Lengths of a path relative to the size of the input, tried until f is defined all along it."""


class Undecided(Exception):
    """Directions do not tell; the message says why."""


class Disagreement(Undecided):
    """A witness disagrees by more than the roundings to be expected: a mistake, a kink, or more rounding."""

    def __init__(self, witness: str) -> None:
        super().__init__(f"the gradients disagree with {witness}")
        self.witness = witness


COMPLEX_STEPS = "complex steps"
PATHS = "integrals along paths"


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
    """Compare claims with f along random directions, for several cotangents of every output alone.

    Complex steps are the witness if they are proved to be one, along directions through all inputs, as all
    elements count alike in them; every direction is seen under every cotangent. Else it is the integral
    along a path, one for each cotangent. `draws` are cotangents of all outputs that have been tried: they do
    for a single output.

    Raises:
        Undecided: no witness decides for some input, or one disagrees.
        ContractError: vjp breaks its contract.
    """
    if unit_roundoff(candidate.dtype) > COARSEST:
        raise Undecided("in so few digits, sums say too little of their terms")
    outputs = [output for output, y in enumerate(candidate.outputs) if y.size]
    groups = [list(draws) if len(candidate.outputs) == 1 else [] for _ in outputs]
    if not groups:
        raise Undecided("nothing to compare")
    safe: bool | None = None
    for count in DRAWS:
        for output, group in zip(outputs, groups, strict=True):
            group += [_drawn(candidate, output, rng) for _ in range(count - len(group))]
        if safe is None:
            _require_gradients(candidate, groups)
            safe = _is_safe(candidate, inputs, groups, rng)
        if safe:
            try:
                worst = max(_by_complex_steps(candidate, inputs, group, rng) for group in groups)
            except ComplexUnsafe as reason:
                raise Undecided(str(reason)) from reason
            found = Agreement(missable(count, count) * worst, 2 * worst, COMPLEX_STEPS)
        else:
            ratio = missable(1, 1, count)
            enough = sufficient(candidate.dtype) / ratio
            worst = max(_by_paths(candidate, inputs, group, rng, kinks, enough) for group in groups)
            found = Agreement(ratio * worst, 2 * worst, PATHS)
        if found.resolution <= sufficient(candidate.dtype):
            break
    return found


def _drawn(candidate: Candidate, output: int, rng: np.random.Generator) -> Draw:
    """A cotangent of one output alone, so that none is drowned by another."""
    dy = tuple(
        random_cotangent(rng, y) if order == output else np.zeros_like(y)
        for order, y in enumerate(candidate.outputs)
    )
    return Draw(dy, candidate.gradients(dy))


def _require_gradients(candidate: Candidate, groups: Sequence[Sequence[Draw]]) -> None:
    """Raise where there is none to be relative to."""
    for draw in itertools.chain.from_iterable(groups):
        for position, g in zip(candidate.positions, draw.claims, strict=True):
            if g.size and not (np.isfinite(g).all() and g.any()):
                raise Undecided(f"the gradient of {candidate.label(position)} is 0 or not finite")


def _is_safe(
    candidate: Candidate, inputs: Joined, groups: Sequence[Sequence[Draw]], rng: np.random.Generator
) -> bool:
    try:
        _prove_safe(candidate, inputs, groups, rng)
    except ComplexUnsafe:
        return False
    return True


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
    graded = signed(rng, (len(group), sizes.size), 52) / np.maximum(sizes, RANGE * inputs.largest(sizes))
    error, size = _differences(candidate.f, inputs, dys, claims, graded)
    tolerance = ROUNDINGS * unit_roundoff(candidate.dtype) * size
    if not (abs(error) <= tolerance).all():
        change = np.zeros_like(error)
        for stretch in STRETCHES:
            points = tuple(neighbour(rng, x) for x in candidate.points)
            moved = np.array([flatten(candidate.gradients(draw.dy, points)) for draw in group])
            beside, _ = _differences(
                candidate.f, join(points, inputs.positions), dys, moved, stretch * graded
            )
            change = np.maximum(change, abs(beside / stretch - error))
        tolerance = tolerance + SPREAD * change
    if not (abs(error) <= tolerance).all():
        raise Disagreement(COMPLEX_STEPS)
    return float(tolerance.max())


def _differences(
    f: Function, inputs: Joined, dys: Floats, claims: Floats, directions: Floats
) -> tuple[Floats, Floats]:
    """Claims minus complex steps, and the Euclidean norms of the terms of both: (cotangents, directions)."""
    slopes = np.array([complex_slope(f, inputs, direction, dys.shape[1]) for direction in directions])
    norm = np.sqrt(claims**2 @ (directions**2).T) + np.sqrt(dys**2 @ (slopes**2).T)
    # by np.sum, whose errors do not grow with the number of terms as those of a matrix product do
    return np.array(
        [
            [float((g * u).sum() - (dy * slope).sum()) for u, slope in zip(directions, slopes, strict=True)]
            for g, dy in zip(claims, dys, strict=True)
        ]
    ), norm


def _by_paths(
    candidate: Candidate,
    inputs: Joined,
    group: Sequence[Draw],
    rng: np.random.Generator,
    kinks: Kinks | None,
    enough: float,
) -> float:
    """The tolerance within which the claims, integrated along random paths, are the change of f.

    It is relative to the largest gradient of an input at the point. The second path takes every element to
    the other side of it than the first, as a kink at the point shows on one side only. So its signs are no
    news: what `missable` says of it is to be doubled, which is little beside the others. Inputs for which a
    path of all says less than `enough`, as others outweigh them, have their own.

    Raises:
        Undecided: they disagree, or f is not defined along any path.
    """
    sides = np.sign(signed(rng, (len(group), inputs.vector.size), 1))
    sides[1] = -sides[0]
    worst = np.zeros(len(inputs.positions))
    for draw, side in zip(group, sides, strict=True):
        direction = side * abs(signed(rng, side.shape, 52))
        delta, bar = _longest_path(candidate, inputs, draw.dy, direction, kinks)
        largest = np.maximum.reduceat(abs(inputs.take(candidate.positions, draw.claims)), inputs.starts)
        seen = largest * np.minimum.reduceat(abs(delta), inputs.starts)
        with np.errstate(divide="ignore"):  # 0 where the step of an element is lost in its format
            worst = np.maximum(worst, bar / seen)
    if len(inputs.positions) > 1:
        for order in np.flatnonzero(worst > enough):
            alone = join(candidate.points, [inputs.positions[order]])
            worst[order] = _by_paths(candidate, alone, group, rng, kinks, enough)
    return float(worst.max())


def _longest_path(
    candidate: Candidate, inputs: Joined, dy: Cotangent, direction: Floats, kinks: Kinks | None
) -> tuple[Floats, float]:
    """The longest path on which f is defined, and the error bar of the integral, which it agrees with."""
    size = abs(inputs.vector)
    mean = np.add.reduceat(size, inputs.starts) / np.add.reduceat(np.ones_like(size), inputs.starts)
    floor = np.repeat(np.where(mean > 0, mean / 4, 1.0), np.diff(np.append(inputs.starts, size.size)))
    why = ""
    for reach in REACH:
        delta = exact_delta(candidate, inputs, reach * np.maximum(size, floor) * direction)
        try:
            pieces = integrate(
                Path(candidate, inputs, dy, delta), _breakpoints(kinks, candidate, inputs, delta)
            )
        except NoPath as error:
            why = str(error)
            continue
        bar = sum(piece.bar for piece in pieces)
        if not abs(sum(piece.claimed - piece.change for piece in pieces)) <= bar:
            raise Disagreement(PATHS)
        return delta, bar
    raise Undecided(why)


def contradiction(
    candidate: Candidate, unseen: Mapping[int, float], rng: np.random.Generator, kinks: Kinks | None = None
) -> str:
    """How the gradient of some input contradicts f along two paths; empty if none does.

    `unseen` has, for each input, the error that the derivatives of all elements leave room for, relative to
    the largest gradient. It is all that a path may find: where it finds more, the gradient is right at the
    point, and f jumps somewhere along the path.

    Each path goes where the gradient points, so that no terms cancel: in a float32 a factor of 1 + 1e-5 is
    seen, which is below the noise of any difference. To contradict, the integral must be off by MARGIN bars
    and SPREAD times what f changes by with the last bits of its inputs.
    """
    for output, y in enumerate(candidate.outputs):
        for position, room in unseen.items():
            x = candidate.points[position]
            if not (y.size and x.size and np.isfinite(x).all() and math.isfinite(room)):
                continue
            inputs = join(candidate.points, [position])
            draw = _drawn(candidate, output, rng)
            claim = inputs.take(candidate.positions, draw.claims)
            found = []
            for _ in range(2):
                direction = np.where(claim < 0, -1.0, 1.0) * abs(signed(rng, claim.shape, 52))
                with contextlib.suppress(NoPath):
                    limit = room * float(abs(claim).max())
                    found.append(_off(candidate, inputs, draw.dy, direction, limit, rng, kinks))
            if len(found) == 2 and all(found):
                return f"{candidate.label(position)}: {found[0]}; and so along a second path"
    return ""


def _off(
    candidate: Candidate,
    inputs: Joined,
    dy: Cotangent,
    direction: Floats,
    limit: float,
    rng: np.random.Generator,
    kinks: Kinks | None,
) -> str:
    """By how much the integral is off along one path; empty if it is not, or by more than the limit allows.

    Raises:
        NoPath: f or vjp is not defined along it.
    """
    size = np.maximum(abs(inputs.vector), float(abs(inputs.vector).mean()) or 1.0)
    path = Path(candidate, inputs, dy, exact_delta(candidate, inputs, REACH[0] * size * direction))
    pieces = integrate(path, _breakpoints(kinks, candidate, inputs, path.delta))
    claimed, change = sum(p.claimed for p in pieces), sum(p.change for p in pieces)
    noise = 0.0
    for t in (0.0, 1.0):
        value = float(path.value(t).sum())
        for _ in STRETCHES:
            beside = evaluate(candidate.f, tuple(neighbour(rng, x) for x in path.at(t)))
            noise = max(noise, abs(float((flatten(dy) * flatten(beside)).sum()) - value))
    bar = MARGIN * sum(p.bar for p in pieces) + SPREAD * noise
    most = limit * float(abs(path.delta).sum()) + bar
    if not bar < abs(claimed - change) <= most:
        return ""
    return (
        f"the gradient integrates to {claimed:.12g} along a path, and f changes by {change:.12g} on it, "
        f"± {bar:.1e}"
    )


def _breakpoints(
    kinks: Kinks | None, candidate: Candidate, inputs: Joined, delta: Floats
) -> tuple[float, ...]:
    if kinks is None or kinks.breakpoints is None:
        return ()
    moved = inputs.split(delta)
    deltas = [x if position in inputs.positions else np.zeros_like(x) for position, x in enumerate(moved)]
    with np.errstate(all="ignore"):
        return tuple(np.asarray(kinks.breakpoints(candidate.points, deltas), np.float64).ravel())
