"""Elements whose kinks meet, such as equal ones under a maximum: what they may claim together.

One by one, each of two equal largest elements may have any part of the gradient. Both moved at once, they
are one number, and the parts must add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from verify.gradients.arrays import Array, Floats, coarsest, evaluate, flatten, unit_roundoff, values_beside
from verify.gradients.contract import Candidate, ContractError
from verify.gradients.directions import signed
from verify.gradients.ladder import KINK, Derivative, differentiate, exponents

OUTPUTS = 8
"""Outputs that are looked at: a wrong rule for ties is wrong at all of them."""

STRETCHES = (1.0, 1.5)
"""Two ladders without a common step, as for single elements: both must say that a claim is wrong."""


def require_ties(
    candidate: Candidate, points: Sequence[Array], position: int, kinked: Array, rng: np.random.Generator
) -> None:
    """Compare the claims of elements with a common kink with the derivatives along all of them.

    `kinked` has the elements and outputs (rows of two flat indices) with a kink at the point. For a
    function that is convex or concave along a direction, as maxima and minima are, a gradient at a kink
    lies between the two one-sided derivatives along it.

    Raises:
        ContractError: it does not.
    """
    for output, elements in _meeting(kinked):
        direction = np.zeros(points[position].size)
        direction[elements] = abs(signed(rng, (len(elements),), 20))
        alone = np.zeros(sum(y.size for y in candidate.outputs))
        alone[output] = 1
        claim = candidate.gradients(candidate.cotangent(alone))[candidate.positions.index(position)].ravel()
        terms = claim[elements].astype(np.float64) * direction[elements]
        claimed = float(terms.sum())
        own = 4 * unit_roundoff(candidate.dtype) * float(abs(terms).sum())
        found = [_along(candidate, points, position, direction, output, stretch) for stretch in STRETCHES]
        if all(d.code[0] <= KINK and abs(claimed - d.value[0]) > d.error[0] + own for d in found):
            low, high = (float(found[0].value[0] + sign * found[0].error[0]) for sign in (-1, 1))
            whole = len(set(claim[elements].tolist())) == 1 and abs(claimed) > max(abs(low), abs(high))
            raise ContractError(
                f"{len(elements)} elements of {candidate.label(position)} meet at a kink, as equal ones "
                f"under a maximum do; moved together they claim a derivative of {claimed:.6g}, the "
                f"one-sided ones are {low:.6g} and {high:.6g}. (Kinks that are added up, as in a network of "
                "relus at the input 0, may claim that; Kinks(convention='any') leaves them unjudged)",
                ("every tied element gets the whole gradient",) if whole else (),
            )


def _meeting(kinked: Array) -> Iterator[tuple[int, Array]]:
    """The outputs at which kinks of several elements meet, and those elements."""
    outputs, counts = np.unique(kinked[:, 1], return_counts=True)
    for output in outputs[counts > 1][:OUTPUTS]:
        yield int(output), kinked[kinked[:, 1] == output, 0]


def _along(
    candidate: Candidate,
    points: Sequence[Array],
    position: int,
    direction: Floats,
    output: int,
    stretch: float,
) -> Derivative:
    """The derivative of one output along a direction, with the interval of its one-sided derivatives."""
    x = points[position]
    size = float(abs(x.astype(np.float64)).max()) or 1.0
    scale = 2.0 ** np.floor(np.log2(size))
    steps = stretch * 2.0 ** -exponents(np.finfo(x.dtype).nmant + 1)
    outputs = evaluate(candidate.f, points)
    centre = flatten(outputs)

    def value(step: float) -> float:
        moved = list(points)
        moved[position] = np.asarray(x + (scale * step * direction).reshape(x.shape), dtype=x.dtype)
        return float(values_beside(candidate.f, moved, centre.size)[output])

    plus, minus = (np.array([[value(sign * h)] for h in steps]) for sign in (1, -1))
    found = differentiate(steps, plus, minus, centre[[output]], coarsest([x, *outputs]))
    return Derivative(found.value / scale, found.error / scale, found.code, found.jump / scale)
