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
    rare: bool = False
    """Whether only the cases of level ci meet it, and those of level smoke do not."""


def rounds(aspect: str, *dtypes: str) -> Deviation:
    """In a 16-bit format, an operator that is made of several operations of the library.

    The contract grants float32 inside and one rounding at the end.
    """
    cause = "every operation rounds to the format, and not the last one alone"
    return Deviation("rounds-in-between", aspect, "", cause, dtypes or HALF)


RULED_OUT = Deviation(
    "nan-for-a-class-ruled-out",
    "contract:special-values",
    "softmax-ce-zero-times-infinity",
    "the loss is the sum of t log_softmax(z), and 0 times minus infinity is NaN",
)
LOG1P = Deviation(
    "log1p-of-xla",
    "value",
    "beyond what any rounding explains",
    "jax.numpy.log1p is off by up to 128 ulp of float64 between -0.4142 and -0.35 on a CPU",
    ("float64",),
    rare=True,
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
    ("jax", "sigmoid"): (
        rounds("value"),
        rounds("vjp", "float16"),
        rounds("law:reflection"),
    ),
    ("jax", "tanh"): (rounds("vjp"),),
    ("jax", "softmax"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:vjp-homogeneous", "float16"),
        rounds("law:sums-to-one", "bfloat16"),
    ),
    ("jax", "log_softmax"): (
        rounds("value"),
        rounds("vjp"),
    ),
    ("jax", "logsumexp"): (
        rounds("value"),
        rounds("vjp"),
    ),
    ("jax", "linear"): (
        rounds("value"),
        rounds("vjp", "bfloat16"),
    ),
    ("jax", "binary_cross_entropy"): (
        LOG1P,
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-reductions-agree"),
        rounds("law:vjp-additive", "bfloat16"),
    ),
    ("jax", "binary_cross_entropy_with_logits"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-reductions-agree"),
        rounds("law:composition", "bfloat16"),
        rounds("law:vjp-additive", "bfloat16"),
    ),
    ("jax", "categorical_cross_entropy"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:vjp-additive", "float16"),
    ),
    ("jax", "softmax_cross_entropy"): (
        RULED_OUT,
        rounds("value"),
        rounds("vjp"),
        rounds("law:gradient-sums-to-zero"),
        rounds("law:permutation-equivariant"),
        rounds("law:gradient-reductions-agree", "float16"),
        rounds("law:vjp-additive", "bfloat16"),
    ),
    ("jax", "softmax_cross_entropy_with_integer_labels"): (
        rounds("value"),
        rounds("vjp"),
        rounds("law:shift-invariant"),
        rounds("law:gradient-sums-to-zero"),
        rounds("law:composition"),
        rounds("law:gradient-reductions-agree", "float16"),
        rounds("law:vjp-homogeneous", "float16"),
        rounds("law:vjp-additive", "bfloat16"),
    ),
    ("jax", "mse"): (
        rounds("value"),
        rounds("vjp"),
    ),
    ("jax", "sgd_step"): (
        rounds("step"),
        rounds("vjp"),
    ),
    ("jax", "mlp"): (rounds("value"),),
    ("jax", "mlp_gradients"): (rounds("value"),),
    ("jax", "sgd_epoch"): (rounds("epoch"),),
}
"""By library and operator, at level ci and seed 0. A row that is no longer needed fails the test."""

LACKING = {("torch", "categorical_cross_entropy")}
"""What a library does not have."""


def of(library: str, op: str, dtype: str, level: str) -> tuple[Deviation, ...]:
    """The deviations of an operator in one dtype, at level smoke or ci."""
    rows = DEVIATIONS.get((library, op), ())
    return tuple(row for row in rows if dtype in row.dtypes and not (row.rare and level == "smoke"))
