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

from verify.gradients.arrays import Floats, Function, Joined, flatten, join, sufficient, unit_roundoff
from verify.gradients.claims import neighbour
from verify.gradients.complex_step import PROVED, ComplexUnsafe, complex_slope, prove_safe
from verify.gradients.contract import Candidate
from verify.gradients.directions import ROUNDINGS, missable, signed
from verify.gradients.draws import (
    COMPLEX_STEPS,
    PATHS,
    SPREAD,
    STRETCHES,
    Disagreement,
    Draw,
    Tolerance,
    Undecided,
    drawn,
)
from verify.gradients.kinks import Kinks
from verify.gradients.walks import tolerance_along_paths

DRAWS = (3, 6)
"""Independent cotangents of an output, and directions for them; the more if the fewer resolve too little."""

RANGE = 2.0**-6
"""Elements of a gradient below this part of the largest get no more weight in a direction: what they
change in the outputs cancels in the gradient, and its rounding errors would drown the others."""


class Agreement(NamedTuple):
    """All directions agree with f: errors above `resolution`, relative to the largest gradient of their
    input, are missed with a probability of 1e-9; in a single element, none above `single`. `needed` is the
    largest difference seen, in tolerances."""

    resolution: float
    single: float
    needed: float
    witness: str


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
    if candidate.dtype != np.float64:  # a float32 would have a resolution of 1e-2
        raise Undecided("in so few digits, sums say too little of their terms")
    outputs = [output for output, y in enumerate(candidate.outputs) if y.size]
    groups = [list(draws) if len(candidate.outputs) == 1 else [] for _ in outputs]
    if not groups:
        raise Undecided("nothing to compare")
    overlooked: float | None = None
    for count in DRAWS:
        for output, group in zip(outputs, groups, strict=True):
            group += [drawn(candidate, output, rng) for _ in range(count - len(group))]
        if overlooked is None:
            _require_gradients(candidate, groups)
            overlooked = _overlooked(candidate, inputs, groups, rng)
        try:
            if overlooked < math.inf:
                seen = [_by_complex_steps(candidate, inputs, group, rng) for group in groups]
                ratio, witness = missable(count, count), COMPLEX_STEPS
            else:
                ratio, witness = missable(1, 1, count), PATHS
                enough = sufficient(candidate.dtype) / ratio
                seen = [tolerance_along_paths(candidate, inputs, g, rng, kinks, enough) for g in groups]
        except ComplexUnsafe as reason:
            raise Undecided(str(reason)) from reason
        worst = max(tolerance.value for tolerance in seen)
        needed = max(tolerance.needed for tolerance in seen)
        least = overlooked if witness == COMPLEX_STEPS else 0.0
        found = Agreement(max(ratio * worst, least), max(2 * worst, least), needed, witness)
        if found.resolution <= sufficient(candidate.dtype):
            break
    return found


def _require_gradients(candidate: Candidate, groups: Sequence[Sequence[Draw]]) -> None:
    """Raise where there is none to be relative to."""
    for draw in itertools.chain.from_iterable(groups):
        for position, g in zip(candidate.positions, draw.claims, strict=True):
            if g.size and not (np.isfinite(g).all() and g.any()):
                raise Undecided(f"the gradient of {candidate.label(position)} is 0 or not finite")


def _overlooked(
    candidate: Candidate, inputs: Joined, groups: Sequence[Sequence[Draw]], rng: np.random.Generator
) -> float:
    """What complex steps may lose without being seen; infinite if they are not proved to be right."""
    try:
        return _prove_safe(candidate, inputs, groups, rng)
    except ComplexUnsafe:
        return math.inf


def _prove_safe(
    candidate: Candidate, inputs: Joined, groups: Sequence[Sequence[Draw]], rng: np.random.Generator
) -> float:
    """Prove it for all inputs at once, and for those alone whose derivative is too small to be seen then.

    Returns the error of a single element that complex steps may share unseen, relative to the largest
    gradient of its input.

    Raises:
        ComplexUnsafe: it is not proved for some input.
    """
    largest = inputs.largest(abs(inputs.vector))
    direction = np.where(largest > 0, largest, 1.0) * signed(rng, largest.shape, 52)
    overlooked = 0.0
    for (dy, claims), *_ in groups:
        flat, gradient = flatten(dy), flatten(claims)
        error = prove_safe(candidate.f, inputs, direction, flat)
        seen = np.sqrt(np.add.reduceat((gradient * direction) ** 2, inputs.starts))
        for position, start, size in zip(inputs.positions, inputs.starts, seen, strict=True):
            part = slice(start, start + candidate.points[position].size)
            proof = error, float(abs(direction[part]).min())
            if not error <= PROVED * size:
                proof = _prove_alone(candidate, position, flat, rng)
            least = proof[1] * float(abs(gradient[part]).max())
            overlooked = max(overlooked, 2 * proof[0] / least if least else math.inf)
    return overlooked


def _prove_alone(
    candidate: Candidate, position: int, dy: Floats, rng: np.random.Generator
) -> tuple[float, float]:
    """Try the size of the whole array for the differences, then that of each element.

    Returns the error of the proof, and the least element of its direction.
    """
    inputs = join(candidate.points, [position])
    signs = signed(rng, inputs.vector.shape, 52)
    size = abs(inputs.vector)
    direction = signs * (float(size.max()) or 1.0)
    try:
        error = prove_safe(candidate.f, inputs, direction, dy)
    except ComplexUnsafe:
        direction = signs * np.where(size > 0, size, 1.0)
        error = prove_safe(candidate.f, inputs, direction, dy)
    return error, float(abs(direction).min())


def _by_complex_steps(
    candidate: Candidate, inputs: Joined, group: Sequence[Draw], rng: np.random.Generator
) -> Tolerance:
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
    return Tolerance(float(tolerance.max()), float((abs(error) / tolerance).max()))


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
