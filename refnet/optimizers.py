"""Optimizer steps: the new value of a parameter from its gradient. Pure: the old value stays as it was."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refnet.op import ArgumentError, Array, Op

__all__ = [
    "sgd_step",
]


class SgdResiduals(NamedTuple):
    learning_rate: float


class SgdGradients(NamedTuple):
    param: Array
    grad: Array


def validate_learning_rate(op: str, learning_rate: object, dtype: np.dtype[np.floating]) -> float:
    """Return the learning rate as a Python float, which takes the dtype of the array that it multiplies.

    A `np.float64` would turn a float32 parameter into float64. A rate that the dtype does not hold would
    become 0 or infinity there: 1e300 times a gradient of 0 is NaN in float32.
    """
    given = f"a {type(learning_rate).__name__}"
    if isinstance(learning_rate, int | float | np.integer | np.floating) and not isinstance(
        learning_rate, bool
    ):
        try:
            rate = float(learning_rate)
        except OverflowError:  # an int beyond float64
            rate = math.inf
        least, most = float(np.finfo(dtype).smallest_normal), float(np.finfo(dtype).max)
        if 0.0 < rate < math.inf and not least <= rate <= most:
            raise ArgumentError(
                op,
                "learning_rate",
                str(rate),
                f"a number that {dtype} holds, from {least:.2g} to {most:.2g}",
                "Use a rate near 0.01, or parameters in float64.",
            )
        if 0.0 < rate < math.inf:
            return rate
        given = str(learning_rate)
    raise ArgumentError(
        op,
        "learning_rate",
        given,
        "a positive finite number",
        "Use 0.01 to begin with; smaller when the loss grows, larger when it hardly falls.",
    )


def _sgd_step(param: Array, grad: Array, *, learning_rate: float) -> tuple[Array, SgdResiduals]:
    """new = param - learning_rate * grad. Any shape.

    Robbins and Monro, A Stochastic Approximation Method, Ann. Math. Statist. 22 (1951), equation 7.
    """
    rate = validate_learning_rate("sgd_step", learning_rate, param.dtype)
    return param - rate * grad, SgdResiduals(rate)


def _sgd_step_backward(residuals: SgdResiduals, dy: Array) -> SgdGradients:
    """dparam = dy, dgrad = -learning_rate * dy."""
    return SgdGradients(dy.copy(), -residuals.learning_rate * dy)


sgd_step = Op("sgd_step", "(...),(...)->(...)", ("param", "grad"), _sgd_step, _sgd_step_backward)

OPS = (sgd_step,)
