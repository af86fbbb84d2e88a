"""Where PyTorch and JAX are not what the contract says, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Deviation(NamedTuple):
    """One aspect of an operator in which a library deviates."""

    name: str
    aspect: str
    says: str
    """A part of the reason or of the diagnosis in the report."""
    cause: str


RULED_OUT = Deviation(
    "nan-for-a-class-ruled-out",
    "contract:special-values",
    "softmax-ce-zero-times-infinity",
    "the loss is the sum of t log_softmax(z), and 0 times minus infinity is NaN",
)
DEVIATIONS: Mapping[tuple[str, str], tuple[Deviation, ...]] = {
    ("torch", "binary_cross_entropy"): (
        Deviation(
            "nan-refused",
            "contract:special-values",
            "all elements of input should be between 0 and 1",
            "a NaN among the probabilities is refused",
        ),
        Deviation(
            "gradient-clamped-at-1e-12",
            "vjp",
            "beyond what any rounding explains",
            "the gradient is (p - t) / max(p (1 - p), 1e-12): too small where p is within 1e-12 of 0 or 1, "
            "and not that of the value, whose logarithms are clamped at -100",
        ),
    ),
    ("torch", "softmax_cross_entropy"): (RULED_OUT,),
    ("jax", "softmax_cross_entropy"): (RULED_OUT,),
}
"""By library and operator, in float64. A row that is no longer needed fails the test."""

LACKING = {("torch", "categorical_cross_entropy")}
"""What a library does not have."""
