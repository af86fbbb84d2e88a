"""What several candidates are made of."""

from __future__ import annotations

from typing import Any

import ml_dtypes

Array = Any


def in_bfloat16(x: Array) -> Array:
    """Rounded to bfloat16, in the dtype of x."""
    return x.astype(ml_dtypes.bfloat16).astype(x.dtype)


def shared(dy: Array, reduction: str, examples: int) -> Array:
    """What each example has of the cotangent of a reduced loss."""
    return dy / dy.dtype.type(examples) if reduction == "mean" else dy
