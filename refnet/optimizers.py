"""Optimizer steps: the new value of a parameter from its gradient. Pure: the old value stays as it was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.op import Array, Op, validate_positive


class SgdResiduals(NamedTuple):
    learning_rate: float


class SgdGradients(NamedTuple):
    param: Array
    grad: Array


def validate_learning_rate(op: str, learning_rate: object, dtype: np.dtype[np.floating]) -> float:
    """Return the learning rate as a Python float: 1e300 times a gradient of 0 would be NaN in float32."""
    remedy = "Use 0.01 to begin with; smaller when the loss grows, larger when it hardly falls."
    beyond = "Use a rate near 0.01, or parameters in float64."
    return validate_positive(op, "learning_rate", learning_rate, dtype, remedy, beyond)


def _sgd_step(param: Array, grad: Array, *, learning_rate: float) -> tuple[Array, SgdResiduals]:
    """new = param - learning_rate * grad. Any shape.

    Robbins and Monro, A Stochastic Approximation Method, Ann. Math. Statist. 22 (1951), equation 7.
    """
    rate = validate_learning_rate("sgd_step", learning_rate, param.dtype)
    return param - rate * grad, SgdResiduals(rate)


def _sgd_step_backward(residuals: SgdResiduals, dy: Array) -> SgdGradients:
    """dparam = dy, dgrad = -learning_rate * dy."""
    return SgdGradients(dy.copy(), -residuals.learning_rate * dy)


sgd_step = Op("sgd_step", "(),()->()", ("param", "grad"), _sgd_step, _sgd_step_backward)

OPS = (sgd_step,)
