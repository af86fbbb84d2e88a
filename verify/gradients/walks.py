"""What integrals along random paths say of a claimed gradient: that it agrees with f, or contradicts it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from verify.gradients.arrays import Floats, Joined, join, unit_roundoff
from verify.gradients.contract import Candidate, Cotangent
from verify.gradients.directions import signed
from verify.gradients.draws import PATHS, SPREAD, Disagreement, Draw, Tolerance, Undecided, drawn
from verify.gradients.kinks import Kinks
from verify.gradients.path import NoPath, Path, exact_delta, integrate

MARGIN = 8.0
"""Bars by which an integral must be off to contradict f; within one it agrees."""

DEPTHS = (0.9, 0.8, 0.68, 0.57)
"""Parts of the digits of a format, see `_noise`: 2^-48 to 2^-30 of the inputs in float64."""

REACH = (2.0**-3, 2.0**-6, 2.0**-9)
"""Lengths of a path relative to the size of the input, tried until f is defined all along it."""


def tolerance_along_paths(
    candidate: Candidate,
    inputs: Joined,
    group: Sequence[Draw],
    rng: np.random.Generator,
    kinks: Kinks | None,
    enough: float,
) -> Tolerance:
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
    worst, needed = np.zeros(len(inputs.positions)), 0.0
    for draw, side in zip(group, sides, strict=True):
        direction = side * abs(signed(rng, side.shape, 52))
        delta, bar, error = _longest_path(candidate, inputs, draw.dy, direction, kinks)
        largest = np.maximum.reduceat(abs(inputs.take(candidate.positions, draw.claims)), inputs.starts)
        seen = largest * np.minimum.reduceat(abs(delta), inputs.starts)
        with np.errstate(divide="ignore"):  # 0 where the step of an element is lost in its format
            worst = np.maximum(worst, bar / seen)
        needed = max(needed, error / bar)
    if len(inputs.positions) > 1:
        for order in np.flatnonzero(worst > enough):
            alone = join(candidate.points, [inputs.positions[order]])
            worst[order], more = tolerance_along_paths(candidate, alone, group, rng, kinks, enough)
            needed = max(needed, more)
    return Tolerance(float(worst.max()), needed)


def _longest_path(
    candidate: Candidate, inputs: Joined, dy: Cotangent, direction: Floats, kinks: Kinks | None
) -> tuple[Floats, float, float]:
    """The longest path on which f is defined, the error bar of the integral, and its error, which is less."""
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
        except NoPath as reason:
            why = str(reason)
            continue
        bar = sum(piece.bar for piece in pieces)
        error = abs(sum(piece.claimed - piece.change for piece in pieces))
        if not error <= bar:
            raise Disagreement(PATHS)
        return delta, bar, error
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
    and SPREAD times the noise of f.
    """
    for output, y in enumerate(candidate.outputs):
        for position, room in unseen.items():
            x = candidate.points[position]
            if not (y.size and x.size and np.isfinite(x).all() and math.isfinite(room)):
                continue
            inputs = join(candidate.points, [position])
            draw = drawn(candidate, output, rng)
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
    noise = max(_noise(path, t, rng) for t in (0.0, 1.0))
    bar = MARGIN * sum(p.bar for p in pieces) + SPREAD * noise
    most = limit * float(abs(path.delta).sum()) + bar
    if not bar < abs(claimed - change) <= most:
        return ""
    return (
        f"the gradient integrates to {claimed:.12g} along a path, and f changes by {change:.12g} on it, "
        f"± {bar:.1e}"
    )


def _noise(path: Path, t: float, rng: np.random.Generator) -> float:
    """The noise of f near a point of a path: how far its changes are from those that the gradient says.

    Over DEPTHS, from a few last places of the inputs to half of their digits: 1 - cos(x) at 1e-3 is a stair,
    whose steps are wider than the last place of x. The square of the longest is below a last place.
    """
    digits = -math.log2(unit_roundoff(path.candidate.dtype))
    here, value, (gradient, _) = path.at(t), path.value(t), path.gradients(t)
    start = join(here, path.inputs.positions)
    width = np.maximum(abs(start.vector), start.largest(abs(start.vector)) / 16)
    beside = replace(path.candidate, points=here)
    worst = 0.0
    for depth in DEPTHS:
        size = 2.0 ** -round(depth * digits) * width
        delta = exact_delta(beside, start, size * signed(rng, size.shape, 20))
        change = math.fsum(path._replace(candidate=beside, inputs=start, delta=delta).value(1.0) - value)
        worst = max(worst, abs(change - float(gradient @ delta)))
    return worst


def _breakpoints(
    kinks: Kinks | None, candidate: Candidate, inputs: Joined, delta: Floats
) -> tuple[float, ...]:
    if kinks is None:
        return ()
    moved = inputs.split(delta)
    deltas = [x if position in inputs.positions else np.zeros_like(x) for position, x in enumerate(moved)]
    return kinks.breakpoints_of(candidate.points, deltas)
