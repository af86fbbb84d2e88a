"""Optimizer steps: what they are."""

from __future__ import annotations

from typing import Any


def sgd_step(param: Any, grad: Any, *, learning_rate: Any) -> Any:
    """The new parameter: param - learning_rate * grad."""
    return param - learning_rate * grad
