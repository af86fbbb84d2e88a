"""Known mistakes: functions that are wrong on purpose, each with the checks that must catch it.

They serve twice. A check that catches none of them checks nothing, and the tests say so; and a foreign
result that one of them reproduces has its mistake named. The sources are reports of the mistake in real
projects: `owner/repository#number` is an issue or a pull request at GitHub.
"""

from __future__ import annotations

from verify.mistakes import (
    activations,
    affine,
    attention,
    convolution,
    indexing,
    losses,
    networks,
    normalisation,
    optimizers,
    piecewise,
    pooling,
    recurrent,
    rows,
    smooth,
    training,
    weighted_losses,
)
from verify.mistakes.mistake import WITNESSES, Mistake

MISTAKES: tuple[Mistake, ...] = (
    *activations.MISTAKES,
    *piecewise.MISTAKES,
    *smooth.MISTAKES,
    *rows.MISTAKES,
    *affine.MISTAKES,
    *normalisation.MISTAKES,
    *convolution.MISTAKES,
    *pooling.MISTAKES,
    *indexing.MISTAKES,
    *attention.MISTAKES,
    *recurrent.MISTAKES,
    *losses.MISTAKES,
    *weighted_losses.MISTAKES,
    *optimizers.MISTAKES,
    *networks.MISTAKES,
    *training.MISTAKES,
)

__all__ = ["MISTAKES", "WITNESSES", "Mistake"]
