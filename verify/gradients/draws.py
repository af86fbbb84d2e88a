"""What is tried of a claimed gradient: random cotangents, what vjp says to them, and how a trial may end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from verify.gradients.arrays import Array
from verify.gradients.contract import Candidate, Cotangent
from verify.gradients.directions import random_cotangent

COMPLEX_STEPS = "complex steps"
PATHS = "integrals along paths"
"""The witnesses, as reports call them."""

STRETCHES = (1.25, 1.5, 0.75, 0.875)
SPREAD = 6.0
"""Where ROUNDINGS are not enough, the difference of both is taken at points whose last bits are other ones,
along directions of other lengths, and may be SPREAD times as large as it changes there: for normally
distributed errors E[(0.8 |z| / 6)^4] = 0.13^4 * 3 = 9e-4 of right gradients are left to a closer look."""


class Undecided(Exception):
    """Directions do not tell; the message says why."""


class Disagreement(Undecided):
    """A witness disagrees by more than the roundings to be expected: a mistake, a kink, or more rounding."""

    def __init__(self, witness: str) -> None:
        super().__init__(f"the gradients disagree with {witness}")
        self.witness = witness


class Tolerance(NamedTuple):
    """Within what a witness agrees with a claim, relative to the largest gradient of its input, and how
    much of that was needed: the largest error, in tolerances."""

    value: float
    needed: float


class Draw(NamedTuple):
    """A random cotangent, and the gradients that vjp claims for it, one for every position."""

    dy: Cotangent
    claims: tuple[Array, ...]


def drawn(candidate: Candidate, output: int, rng: np.random.Generator) -> Draw:
    """A cotangent of one output alone, so that none is drowned by another."""
    dy = tuple(
        random_cotangent(rng, y) if order == output else np.zeros_like(y)
        for order, y in enumerate(candidate.outputs)
    )
    return Draw(dy, candidate.gradients(dy))
