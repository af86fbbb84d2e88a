"""Activations: elementwise functions, and the functions of a row (softmax and its relatives).

Every residual is fresh; every gradient is exact mathematics rearranged so that no digit is lost that the
format could have kept. Where a textbook form fails, the comment gives an input at which it does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.op import Array, ArgumentError, Labels, Op

# ---------------------------------------------------------------------------------------------- identity


class IdentityResiduals(NamedTuple):
    """The identity needs nothing."""


class ElementwiseGradients(NamedTuple):
    x: Array


def _identity(x: Array) -> tuple[Array, IdentityResiduals]:
    """y = x. Any shape."""
    return x.copy(), IdentityResiduals()


def _identity_backward(residuals: IdentityResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy."""
    return ElementwiseGradients(dy.copy())


# -------------------------------------------------------------------------------------------------- relu


class ReluResiduals(NamedTuple):
    x: Array


def _relu(x: Array) -> tuple[Array, ReluResiduals]:
    """y = max(x, 0). Any shape; NaN stays NaN."""
    return np.maximum(x, 0.0), ReluResiduals(x)


def _relu_backward(residuals: ReluResiduals, dy: Array) -> ElementwiseGradients:
    """dx = dy where x > 0, and 0 elsewhere: at the kink x = 0 the derivative is taken as 0."""
    return ElementwiseGradients(np.where(np.isnan(residuals.x), residuals.x, np.where(residuals.x > 0, dy, 0.0)))
