"""Where PyTorch and JAX are not what the contract says, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

HALF = ("float16", "bfloat16")
ALL = ("float64", "float32", *HALF)


class Deviation(NamedTuple):
    """One aspect of an operator in which a library deviates."""

    name: str
    aspect: str
    says: str
    """A part of the reason or of the diagnosis in the report."""
    cause: str
    dtypes: tuple[str, ...] = ALL


def rounds(aspect: str, *dtypes: str) -> Deviation:
    """In a 16-bit format, an operator that is made of several operations of the library.

    The contract grants float32 inside and one rounding at the end. All of these are within the bound of
    refnet's own code in an arithmetic that rounds every operation to the format.
    """
    cause = "every operation rounds to the format, and not the last one alone"
    return Deviation("rounds-in-between", aspect, "", cause, dtypes or HALF)


RULED_OUT = Deviation(
    "nan-for-a-class-ruled-out",
    "contract:special-values",
    "softmax-ce-zero-times-infinity",
    "the loss is the sum of t log_softmax(z), and 0 times minus infinity is NaN",
)
CLAMPED = (
    "the logarithms and slopes are clamped, and rounding in between hides that this is a known convention"
)
DEVIATIONS: Mapping[tuple[str, str], tuple[Deviation, ...]] = {
    ("torch", "softmax"): (rounds("value"),),
    ("torch", "log_softmax"): (rounds("value"), rounds("vjp", "float16")),
    ("torch", "logsumexp"): (
        rounds("value"),
        rounds("vjp", "float16"),
        Deviation(
            "derivative-from-a-rounded-output",
            "vjp",
            "beyond what any rounding explains",
            "the gradient is exp(x - y) dy with y rounded to 8 bits: of two entries that are both 6.5e35, "
            "each has the slope 1 for 1/2",
            ("bfloat16",),
        ),
    ),
    ("torch", "binary_cross_entropy"): (
        Deviation(
            "nan-refused",
            "contract:special-values",
            "all elements of input should be between 0 and 1",
            "a NaN among the probabilities is refused",
            ("float64", "float32"),
        ),
        rounds("value"),
        Deviation("clamped-and-rounded", "contract:special-values", "all elements of input", CLAMPED, HALF),
        Deviation("clamped-and-rounded", "vjp", "", CLAMPED, HALF),
        Deviation("nan-refused", "law:nan-propagates", "", "a NaN among the probabilities is refused", HALF),
    ),
    ("torch", "binary_cross_entropy_with_logits"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:composition"),
    ),
    ("torch", "softmax_cross_entropy"): (
        RULED_OUT,
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-sums-to-zero"),
        rounds("law:vjp-additive", "bfloat16"),
    ),
    ("torch", "softmax_cross_entropy_with_integer_labels"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-sums-to-zero"),
        rounds("law:composition"),
    ),
    ("torch", "mse"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-reductions-agree", "bfloat16"),
    ),
    ("torch", "sgd_step"): (rounds("step"),),
    ("torch", "mlp"): (rounds("value"),),
    ("torch", "mlp_gradients"): (rounds("value"),),
    ("torch", "sgd_epoch"): (rounds("epoch"),),
    ("jax", "softmax_cross_entropy"): (RULED_OUT,),
}
"""By library and operator, at level ci and seed 0. A row that is no longer needed fails the test."""

LACKING = {("torch", "categorical_cross_entropy")}
"""What a library does not have."""


def of(library: str, op: str, dtype: str) -> tuple[Deviation, ...]:
    """The deviations of an operator in one dtype."""
    return tuple(row for row in DEVIATIONS.get((library, op), ()) if dtype in row.dtypes)
